/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Record of one migration; see migration.h. */
#include "daemon/migration.h"

#include "common/log.h"

/* A held caller asks again within a second. */
#define CALLER_SILENT_US (3 * G_USEC_PER_SEC)

static void
log_entry_free(gpointer data)
{
    MigrationLogEntry *entry = data;

    g_free(entry->event);
    g_free(entry->text);
    g_free(entry);
}

Migration *
migration_new(uint64_t ticket, MigrationRole role, const char *name, const char *uuid,
              gint64 now_us)
{
    Migration *migration = g_new0(Migration, 1);

    migration->ticket = ticket;
    migration_machine_init(&migration->machine, role);
    migration->name = g_strdup(name);
    migration->uuid = g_strdup(uuid);
    migration->priority = PRIORITY_MEDIUM;
    migration->allowed = TECHNIQUE_ALLOW_ALL;
    migration->created_us = now_us;
    migration->created_wall_us = g_get_real_time();
    migration->peer_addresses = g_array_new(FALSE, TRUE, sizeof(FlowAddress));
    migration->log = g_ptr_array_new_with_free_func(log_entry_free);
    return migration;
}

void
migration_free(Migration *migration)
{
    if (migration == NULL)
        return;
    if (migration->turn_timer != 0)
        g_source_remove(migration->turn_timer);
    if (migration->waiting_turn != NULL)
        g_dbus_method_invocation_return_error_literal(migration->waiting_turn, G_IO_ERROR,
                                                      G_IO_ERROR_CLOSED, "the daemon stops");
    g_clear_pointer(&migration->description, domain_description_free);
    g_free(migration->name);
    g_free(migration->uuid);
    g_free(migration->destination_uri);
    g_free(migration->migrate_uri);
    g_free(migration->recovery.destination_name);
    g_free(migration->schedule_reason);
    g_free(migration->unshaped);
    g_free(migration->failure);
    g_array_unref(migration->peer_addresses);
    g_ptr_array_unref(migration->log);
    g_free(migration);
}

void
migration_note(Migration *migration, const char *event, const char *format, ...)
{
    MigrationLogEntry *entry = g_new0(MigrationLogEntry, 1);
    va_list arguments;

    va_start(arguments, format);
    entry->text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    entry->event = g_strdup(event);
    entry->wall_us = g_get_real_time();
    log_event(CONFIG_LOG_INFO, event, "domain: %s, role: %s, %s", migration->name,
              migration_role_to_string(migration->machine.role), entry->text);
    if (migration->log->len >= MIGRATION_LOG_MAXIMUM)
        g_ptr_array_remove_index(migration->log, 0);
    g_ptr_array_add(migration->log, entry);
}

const char *
migration_keeps_place(const Migration *migration, gint64 now_us)
{
    /* Between Begin and Perform as well, while libvirt is seen to have a job for it. */
    if (migration->job_seen &&
        (migration_is_transferring(migration) ||
         (migration->machine.state == MIGRATION_ADMITTED && migration->idle_polls == 0)))
        return "it migrates already";
    if (migration->machine.state == MIGRATION_WAITING &&
        (migration->waiting_turn != NULL || now_us - migration->polled_us < CALLER_SILENT_US))
        return "another call for it waits already";
    return NULL;
}

const char *
migration_technique_text(const Migration *migration)
{
    if (migration->machine.role == MIGRATION_ROLE_DESTINATION)
        return migration->post_copy_us != 0 ? "post-copy" : "pre-copy";
    /* The caller may have switched himself. */
    if (migration->post_copy_us != 0 && migration->machine.technique == TECHNIQUE_PRE_COPY)
        return technique_to_string(migration->machine.iteration > 2 ? TECHNIQUE_HYBRID
                                                                    : TECHNIQUE_POST_COPY);
    if (migration->machine.decided)
        return technique_to_string(migration->machine.technique);
    return migration->has_decision ? technique_to_string(migration->decision.technique) : "-";
}
