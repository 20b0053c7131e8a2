/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A call of libvirt's has returned: what that says of the migration; see calls.h. */
#include "daemon/calls-private.h"

#include "common/log.h"
#include "daemon/gates.h"
#include "daemon/peer-address.h"

#define MESSAGE_MAXIMUM 1024u

static void
leave_source(Manager *manager, Migration *migration, const char *entry, bool success)
{
    MigrationInput input = { .type = MIGRATION_INPUT_FAILED };

    if (migration->recovery.broken)
        return; /* the caller's phases say nothing any more: libvirt's events do */
    if (g_str_equal(entry, "begin") && migration_is_transferring(migration))
        return; /* a second call's, which waited for the first one's job in vain */
    if (success && (g_str_equal(entry, "begin") ||
                    (g_str_equal(entry, "perform") && !migration->peer_to_peer)))
        return; /* the next phase follows */
    if (success)
        input.type = MIGRATION_INPUT_SUCCEEDED;
    /* libvirt keeps such a VM on both hosts; what became of it is seen by polling. */
    if (!success && migration->machine.state == MIGRATION_POST_COPY)
        manager_post_copy_broke(manager, migration, migration->failure);
    else
        manager_input(manager, migration, &input);
}

static void
leave_destination(Manager *manager, Migration *migration, const char *entry, bool success,
                  GVariant *result)
{
    MigrationInput input = { .type = MIGRATION_INPUT_FAILED };
    const char *uri = NULL;

    if (success && g_str_has_prefix(entry, "prepare")) {
        g_variant_lookup(result, "uri-out", "&s", &uri);
        migration->job_seen = true; /* the incoming QEMU runs */
        if (!gate_copies_disks(migration->flags))
            peer_port_from_uri(uri, &migration->port_first, &migration->port_last);
        /* Until now its filter took the packets of all incoming migrations. */
        if (migration->port_first != 0 && migration->leaf != 0)
            manager_reshape(manager, migration_direction(migration), NULL, NULL);
        return;
    }
    if (success)
        input.type = MIGRATION_INPUT_SUCCEEDED;
    manager_input(manager, migration, &input);
}

static bool
entry_fits(const Migration *migration, const char *entry)
{
    static const char *const source[] = { "begin", "perform", "confirm", NULL };
    static const char *const destination[] = { "prepare", "prepare-tunnel", "finish", NULL };

    return g_strv_contains(migration->machine.role == MIGRATION_ROLE_SOURCE ? source : destination,
                           entry);
}

void
calls_leave(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
            const char *entry, uint64_t ticket, GVariant *result)
{
    Migration *migration = manager_find_ticket(manager, ticket);
    gboolean success = FALSE;
    gboolean retried = FALSE;
    const char *message = NULL;

    convoy_daemon1_complete_leave_call(skeleton, invocation);
    if (migration == NULL || !migration_is_active(migration))
        return;
    if (!entry_fits(migration, entry)) {
        log_event(CONFIG_LOG_WARNING, "call-unusable", "domain: %s, role: %s, left: %.32s",
                  migration->name, migration_role_to_string(migration->machine.role), entry);
        return;
    }
    g_variant_lookup(result, "success", "b", &success);
    g_variant_lookup(result, "retried", "b", &retried);
    g_variant_lookup(result, "error-message", "&s", &message);
    if (retried) {
        migration->flags = migration->user_flags;
        migration->parallel = 0;
        manager_exclude_post_copy(migration, "libvirt refused what was added");
        migration->machine.post_copy_possible = migration->post_copy_by_user;
        migration_note(migration, "retried", "entry: %s, used: the caller's own flags", entry);
    }
    if (!success) {
        g_autofree char *cut = g_strndup(message ? message : "failed", MESSAGE_MAXIMUM);
        /* Cut inside a character it could not be told over D-Bus any more. */
        g_autofree char *text = g_utf8_make_valid(cut, -1);

        g_free(migration->failure);
        migration->failure = g_strdup_printf("%s: %s", entry, text);
    }
    if (migration->machine.role == MIGRATION_ROLE_SOURCE)
        leave_source(manager, migration, entry, success);
    else
        leave_destination(manager, migration, entry, success, result);
}
