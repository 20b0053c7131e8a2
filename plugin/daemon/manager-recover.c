/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A post-copy whose network broke: the VM is paused on both hosts, half of its
 * memory on each, and nothing is lost as long as both QEMUs live.
 *
 * libvirt lets the migration be resumed only peer-to-peer or by a client; the
 * daemon does the former, also for a migration that a client drove, and tries
 * again with growing pauses. It stops when the VM goes on, whoever did it.
 *
 * Nothing is broken here by us: a path that is merely silent is told of, since
 * QEMU notices it only when TCP gives up, after a quarter of an hour.
 */
#include "daemon/manager-private.h"

#include "daemon/peer-address.h"

#define FIRST_PAUSE_US (2 * G_USEC_PER_SEC)
#define PAUSE_DOUBLINGS_MAXIMUM 7u
#define SILENT_US (10 * G_USEC_PER_SEC)

/* Where the other host's libvirt is; NULL with a reason when it cannot be told. */
static char *
recovery_uri(const Manager *manager, const Migration *migration, const char **ret_why)
{
    char *uri = NULL;

    *ret_why = NULL;
    if (!manager->config->resume_post_copy)
        *ret_why = "the configuration does not allow it";
    else if (migration->observed)
        *ret_why = "the caller's flags are not known";
    else if (migration->recovery.renamed)
        *ret_why = "the VM has another name at the destination";
    else if (migration->destination_uri != NULL)
        uri = g_strdup(migration->destination_uri);
    else
        uri = peer_uri_from_form(manager->config->destination_uri, migration->migrate_uri);
    if (uri == NULL && *ret_why == NULL)
        *ret_why = "the destination's URI is not known (destination-uri)";
    return uri;
}

/* The caller's network for migrations, but a new port: the old one may be taken. */
static char *
recovery_migrate_uri(const Migration *migration)
{
    if (migration->peer_to_peer)
        return g_strdup(migration->migrate_uri);
    return peer_uri_from_form("tcp://%s", migration->migrate_uri);
}

void
manager_post_copy_broke(Manager *manager, Migration *migration, const char *how)
{
    const char *why = NULL;
    g_autofree char *uri = NULL;

    if (migration->recovery.broken)
        return;
    uri = recovery_uri(manager, migration, &why);
    migration->recovery.broken = true;
    migration->recovery.tries = 0;
    migration->recovery.next_us = g_get_monotonic_time() + FIRST_PAUSE_US;
    if (uri != NULL)
        migration_note(migration, "post-copy-failed",
                       "%s; the VM is paused, not lost; will be resumed through: %s", how, uri);
    else
        migration_note(migration, "post-copy-failed",
                       "%s; the VM is paused, not lost; not resumed, because %s: run `virsh "
                       "migrate --postcopy --postcopy-resume`",
                       how, why);
    /* A resumed migration comes through another port. */
    migration->port_first = 0;
    migration->port_last = 0;
    manager_reshape(manager, migration_direction(migration), NULL, NULL);
}

void
manager_post_copy_goes_on(Migration *migration, const char *how)
{
    if (!migration->recovery.broken)
        return;
    migration->recovery.broken = false;
    migration->recovery.silent_told = false;
    migration->recovery.moved_us = 0;
    migration_note(migration, "post-copy-goes-on", "%s, tries: %u", how, migration->recovery.tries);
}

static void
resumed(const GError *error, gpointer data)
{
    g_autofree Reference *reference = data;
    Migration *migration = reference_active(reference);
    unsigned doublings;
    gint64 pause_us;

    if (migration == NULL)
        return;
    migration->recovery.trying = false;
    if (error == NULL || error->code == HYPERVISOR_ERROR_GOES_ON) {
        manager_post_copy_goes_on(migration, error ? error->message : "it was resumed and ended");
        return;
    }
    doublings = MIN(migration->recovery.tries, PAUSE_DOUBLINGS_MAXIMUM);
    pause_us = FIRST_PAUSE_US << (doublings - 1);
    migration->recovery.next_us = g_get_monotonic_time() + pause_us;
    /* It may have gone on and broken once more. */
    migration->recovery.broken = true;
    migration_note(migration, "resume-failed",
                   "try: %u, reason: %s, again after: %" G_GINT64_FORMAT " s",
                   migration->recovery.tries, error->message, pause_us / G_USEC_PER_SEC);
}

static void
recovery_watch_silence(Migration *migration, gint64 now_us)
{
    const JobStatistics *statistics = &migration->statistics;

    if (migration->recovery.moved_us == 0 ||
        statistics->memory_processed != migration->recovery.moved) {
        if (migration->recovery.silent_told)
            migration_note(migration, "post-copy-moves", "memory moves again");
        migration->recovery.moved = statistics->memory_processed;
        migration->recovery.moved_us = now_us;
        migration->recovery.silent_told = false;
    } else if (!migration->recovery.silent_told && statistics->memory_remaining != 0 &&
               now_us - migration->recovery.moved_us > SILENT_US) {
        migration->recovery.silent_told = true;
        migration_note(migration, "post-copy-silent",
                       "nothing moved for %d s, left: %" G_GUINT64_FORMAT
                       " B; QEMU waits until TCP gives up. If the path is back and this does not "
                       "end: `virsh domjobabort %s --postcopy` pauses the migration, and it is "
                       "resumed",
                       (int)(SILENT_US / G_USEC_PER_SEC), statistics->memory_remaining,
                       migration->name);
    }
}

void
manager_recover(Manager *manager, Migration *migration, gint64 now_us)
{
    g_autofree char *uri = NULL;
    g_autofree char *migrate_uri = NULL;
    const char *why = NULL;

    if (migration->machine.state != MIGRATION_POST_COPY ||
        migration->machine.role != MIGRATION_ROLE_SOURCE)
        return;
    if (!migration->recovery.broken) {
        recovery_watch_silence(migration, now_us);
        return;
    }
    if (migration->recovery.trying || now_us < migration->recovery.next_us)
        return;
    uri = recovery_uri(manager, migration, &why);
    if (uri == NULL)
        return;
    migrate_uri = recovery_migrate_uri(migration);
    migration->recovery.trying = true;
    migration->recovery.tries++;
    migration_note(migration, "resume", "try: %u, through: %s", migration->recovery.tries, uri);
    hypervisor_resume_post_copy(manager->hypervisor, migration->uuid, uri, migrate_uri,
                                migration->flags, resumed, reference_new(manager, migration));
}
