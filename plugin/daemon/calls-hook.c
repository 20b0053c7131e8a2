/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the qemu hook says; see calls.h. */
#include "daemon/calls-private.h"

#include "common/log.h"

#include <string.h>

#define HOOK_FOLLOWS_PLUGIN_US (60 * G_USEC_PER_SEC)

static char *
hook_incoming(Manager *manager, const char *domain, const char *xml)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDescription) parsed = domain_description_parse(xml, -1, &error);
    DomainDescription *description = parsed;
    Migration *migration;

    if (description == NULL) {
        log_event(CONFIG_LOG_WARNING, "hook-xml-unreadable", "domain: %s, reason: %s", domain,
                  error->message);
        return NULL;
    }
    migration = manager_find(manager, MIGRATION_ROLE_DESTINATION, description->uuid, domain);
    if (migration != NULL && !migration->from_hook &&
        g_get_monotonic_time() - MAX(migration->created_us, migration->polled_us) <
            HOOK_FOLLOWS_PLUGIN_US)
        return NULL; /* the plugin announced it and carries the offer */
    if (!calls_may_follow(manager, MIGRATION_ROLE_DESTINATION, description->uuid, domain))
        return NULL;
    migration = calls_destination_new(manager, domain, g_steal_pointer(&parsed));
    migration->from_hook = true;
    migration_note(migration, "incoming", "announced by: the hook");
    manager_transfer(manager, migration, NULL, NULL);
    /* Printing XML taints the domain: only for VMs that virt-convoy was set up for. */
    if (!description->has_metadata)
        return NULL;
    return calls_offer_xml(manager, migration, xml);
}

void
calls_notify_hook(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
                  const char *domain, const char *operation, const char *sub_operation,
                  const char *xml)
{
    static const MigrationInput lost = { .type = MIGRATION_INPUT_LOST };
    g_autofree char *xml_out = NULL;
    Migration *migration;

    if (domain[0] == '\0' || strnlen(domain, NAME_MAXIMUM + 1) > NAME_MAXIMUM) {
        log_event(CONFIG_LOG_WARNING, "hook-unusable", "domain: %.64s", domain);
    } else if (g_str_equal(operation, "migrate") && g_str_equal(sub_operation, "begin")) {
        xml_out = hook_incoming(manager, domain, xml);
    } else if (g_str_equal(operation, "release") && !hypervisor_is_connected(manager->hypervisor)) {
        /* Without libvirt's events this is the only word of the end. */
        for (int role = MIGRATION_ROLE_SOURCE; role <= MIGRATION_ROLE_DESTINATION; role++) {
            migration = manager_find(manager, (MigrationRole)role, NULL, domain);
            if (migration != NULL && migration_is_transferring(migration))
                manager_input(manager, migration, &lost);
        }
    }
    convoy_daemon1_complete_notify_hook(skeleton, invocation, 0, FALSE, xml_out ? xml_out : "");
}
