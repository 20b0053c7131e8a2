/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls at the host that the migration comes to: prepare; see calls-private.h. */
#include "daemon/calls-private.h"

#include "common/domain_offer.h"
#include "daemon/gates.h"
#include "daemon/peer-address.h"
#include "decision/parallel.h"

#include <errno.h>
#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <sys/syscall.h>
#include <unistd.h>

/* errno of making one, 0: it went well. */
static int
userfaultfd_try(void)
{
    long descriptor = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    if (descriptor < 0)
        return errno;
    close((int)descriptor);
    return 0;
}

static void
prepare_agree(Manager *manager, Migration *migration, const Call *call)
{
    g_autoptr(GError) error = NULL;
    uint32_t qemu = hypervisor_qemu_version(manager->hypervisor);

    migration->machine.post_copy_possible = migration->flags & VIR_MIGRATE_POSTCOPY;
    if (migration->peer_to_peer || call->cookie == NULL ||
        !peer_report_from_cookie(call->cookie, -1, &migration->peer, &error) ||
        migration->peer.role != PEER_ROLE_SOURCE)
        return;
    migration->peer_known = true;
    if (migration->peer.priority_set &&
        !(migration->description && migration->description->metadata.priority_set))
        migration->priority = migration->peer.priority;
    if (migration->peer.parallel_connections > 1) {
        if (gate_parallel_flags(migration->user_flags, call->migrate_uri, false) == NULL &&
            technique_gate_versions(TECHNIQUE_PRE_COPY, migration->peer.qemu_version, qemu)) {
            migration->parallel =
                MIN(migration->peer.parallel_connections, PARALLEL_CONNECTIONS_MAX);
            migration->flags |= VIR_MIGRATE_PARALLEL;
        }
    } else if (migration->peer.post_copy_possible) {
        manager_exclude_post_copy(migration, gate_post_copy_userfaultfd(userfaultfd_try()));
        calls_ask_for_post_copy(migration);
    }
}

char *
calls_offer_xml(Manager *manager, Migration *migration, const char *domain_xml)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *element = NULL;
    PeerReport report;
    char *xml;

    calls_fill_report(manager, migration, &report);
    element = peer_report_to_offer(&report);
    xml = domain_offer_insert(domain_xml, element, &error);
    if (xml == NULL)
        migration_note(migration, "offer-not-added", "reason: %s", error->message);
    migration->offer_added = xml != NULL;
    return xml;
}

Migration *
calls_destination_new(Manager *manager, const char *name, DomainDescription *description)
{
    Migration *migration =
        manager_add(manager, MIGRATION_ROLE_DESTINATION, name ? name : description->name,
                    description ? description->uuid : NULL);

    if (description != NULL)
        manager_describe(manager, migration, description);
    return migration;
}

GVariant *
calls_prepare(Manager *manager, const Call *call, GError **error)
{
    g_autoptr(DomainDescription) description =
        call->domain_xml ? domain_description_parse(call->domain_xml, -1, error) : NULL;
    g_autofree char *element = NULL;
    g_autofree char *xml = NULL;
    Migration *migration;
    PeerReport report;
    Call without_xml = *call;

    if (description == NULL)
        return NULL;
    without_xml.domain_xml = NULL;
    if (!calls_may_follow(manager, MIGRATION_ROLE_DESTINATION, description->uuid, call->name))
        return calls_answer_new(NULL, false, NULL, NULL);
    migration = calls_destination_new(manager, call->name, g_steal_pointer(&description));
    if (!calls_apply(manager, migration, &without_xml, error))
        return NULL;
    migration->held_at_source_ms = call->held_ms;
    prepare_agree(manager, migration, call);
    calls_fill_report(manager, migration, &report);
    report.parallel_connections = migration->parallel;
    element = peer_report_to_cookie_element(&report);
    if (migration->peer_to_peer && !migration->tunnelled &&
        (migration->flags & VIR_MIGRATE_POSTCOPY))
        xml = calls_offer_xml(manager, migration, call->domain_xml);
    migration_note(migration, "prepare",
                   "flags_given: 0x%" G_GINT64_MODIFIER "x, flags_used: 0x%" G_GINT64_MODIFIER
                   "x, source_known: %s, held_there: %.1f s",
                   migration->user_flags, migration->flags, migration->peer_known ? "yes" : "no",
                   (double)migration->held_at_source_ms / 1e3);
    /* Where the caller names the port libvirt does not tell it once more. */
    if (!gate_copies_disks(migration->flags))
        peer_port_from_uri(call->migrate_uri, &migration->port_first, &migration->port_last);
    migration->source_host = call->cookie != NULL ? peer_cookie_host(call->cookie, -1) : 0;
    /* Several hosts may push here, and none of them knows of the others. */
    calls_hold(manager, migration);
    if (migration->machine.state != MIGRATION_WAITING)
        manager_transfer(manager, migration, NULL, NULL);
    return calls_answer_new(migration, false, element, xml);
}
