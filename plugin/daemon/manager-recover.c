/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A post-copy whose network broke: the VM is paused on both hosts, half of its
 * memory on each, and nothing is lost as long as both QEMUs live.
 *
 * libvirt lets the migration be resumed only peer-to-peer or by a client; the
 * daemon does the former, also for a migration that a client drove, and tries
 * again with growing pauses. It stops when the VM goes on, whoever did it.
 *
 * What that needs outlives the daemon (unfinished.h): one that starts again asks
 * libvirt about each, and goes on with those that are still in post-copy.
 *
 * Nothing is broken here by us: a path that is merely silent is told of, since
 * QEMU notices it only when TCP gives up, after a quarter of an hour.
 */
#include "daemon/manager-private.h"

#include "common/log.h"
#include "daemon/peer-address.h"
#include "daemon/unfinished.h"

#include <libvirt/virterror.h>

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
        *ret_why = "the caller's parameters are not known";
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
    migration->recovery.unnoticed = false;
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
    if (error->code == HYPERVISOR_ERROR_NOT_NOTICED) {
        /* It will in seconds, and asking costs nothing: the VM stands still meanwhile. */
        migration->recovery.next_us = g_get_monotonic_time() + FIRST_PAUSE_US;
        if (migration->recovery.tries > 0)
            migration->recovery.tries--;
        migration->recovery.broken = true;
        if (!migration->recovery.unnoticed)
            migration_note(migration, "resume-waits", "%s", error->message);
        migration->recovery.unnoticed = true;
        return;
    }
    migration->recovery.unnoticed = false;
    /* Tries begin anew when it breaks once more while one is under way. */
    doublings = CLAMP(migration->recovery.tries, 1, PAUSE_DOUBLINGS_MAXIMUM);
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
    if (!migration->recovery.unnoticed)
        migration_note(migration, "resume", "try: %u, through: %s", migration->recovery.tries, uri);
    hypervisor_resume_post_copy(manager->hypervisor, migration->uuid, uri, migrate_uri,
                                migration->recovery.destination_name, migration->flags, resumed,
                                reference_new(manager, migration));
}

/* ---- after a restart --------------------------------------------------- */

void
manager_store_post_copy(const Manager *manager, Migration *migration)
{
    Unfinished unfinished = {
        .uuid = migration->uuid,
        .name = migration->name,
        .destination_uri = migration->destination_uri,
        .migrate_uri = migration->migrate_uri,
        .destination_name = migration->recovery.destination_name,
        .flags = migration->flags,
        .peer_to_peer = migration->peer_to_peer,
    };
    g_autoptr(GError) error = NULL;

    /* One that is only seen from events could not be resumed: its parameters are not known. */
    if (migration->machine.role != MIGRATION_ROLE_SOURCE || migration->observed ||
        migration->uuid == NULL || migration->recovery.stored)
        return;
    migration->recovery.stored = unfinished_write(manager->state_directory, &unfinished, &error);
    if (error != NULL)
        migration_note(migration, "not-stored",
                       "reason: %s, so that a daemon that is started again cannot resume it",
                       error->message);
}

void
manager_forget_post_copy(const Manager *manager, Migration *migration)
{
    if (migration->recovery.stored)
        unfinished_remove(manager->state_directory, migration->uuid);
    migration->recovery.stored = false;
}

typedef struct {
    Manager *manager;
    Unfinished *unfinished;
} Found;

static void
found_free(Found *found)
{
    unfinished_free(found->unfinished);
    g_free(found);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Found, found_free)

static void
found_go_on(Manager *manager, const Unfinished *unfinished, bool broken)
{
    static const MigrationInput entered = { .type = MIGRATION_INPUT_POST_COPY_ENTERED };
    DomainDescription *known = registry_copy(manager->registry, unfinished->uuid);
    Migration *migration =
        manager_add(manager, MIGRATION_ROLE_SOURCE, unfinished->name, unfinished->uuid);

    migration->destination_uri = g_strdup(unfinished->destination_uri);
    migration->migrate_uri = g_strdup(unfinished->migrate_uri);
    peer_port_from_uri(migration->migrate_uri, &migration->port_first, &migration->port_last);
    migration->recovery.destination_name = g_strdup(unfinished->destination_name);
    migration->recovery.stored = true;
    migration->user_flags = unfinished->flags;
    migration->flags = unfinished->flags;
    migration->peer_to_peer = unfinished->peer_to_peer;
    migration->machine.post_copy_possible = true;
    migration->machine.post_copy_requested = true;
    migration->job_seen = true;
    migration->priority = manager->config->default_priority;
    if (known != NULL)
        manager_describe(manager, migration, known);
    migration->post_copy_us = g_get_monotonic_time();
    migration_note(migration, "taken-up", "an earlier daemon left it in post-copy");
    manager_input(manager, migration, &entered);
    if (broken)
        manager_post_copy_broke(manager, migration, "it was broken when this daemon started");
}

static void
found_asked(HypervisorPostCopy state, const GError *error, gpointer data)
{
    g_autoptr(Found) found = data;
    const Unfinished *unfinished = found->unfinished;

    if (error != NULL && error->code != VIR_ERR_NO_DOMAIN)
        return; /* asked again with the next connection */
    if (error != NULL || state == HYPERVISOR_NO_POST_COPY)
        unfinished_remove(found->manager->state_directory, unfinished->uuid);
    else if (manager_refusal(found->manager, MIGRATION_ROLE_SOURCE, unfinished->uuid,
                             unfinished->name) == NULL)
        found_go_on(found->manager, unfinished, state == HYPERVISOR_POST_COPY_BROKEN);
}

void
manager_take_up_post_copies(Manager *manager)
{
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) list = unfinished_list(manager->state_directory, problems);

    for (guint i = 0; i < problems->len; i++)
        log_event(CONFIG_LOG_WARNING, "post-copy-unreadable", "problem: %s",
                  (const char *)g_ptr_array_index(problems, i));
    g_ptr_array_set_free_func(list, NULL);
    for (guint i = 0; i < list->len; i++) {
        Found *found = g_new0(Found, 1);

        found->manager = manager;
        found->unfinished = g_ptr_array_index(list, i);
        if (manager_find(manager, MIGRATION_ROLE_SOURCE, found->unfinished->uuid, NULL) != NULL)
            found_free(found);
        else
            hypervisor_query_post_copy(manager->hypervisor, found->unfinished->uuid, found_asked,
                                       found);
    }
}
