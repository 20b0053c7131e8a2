/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What libvirt reports, turned into inputs of the migrations' machines. */
#include "daemon/manager-private.h"

#include "common/log.h"
#include "daemon/gates.h"
#include "daemon/job-flags.h"

#include <string.h>

/* More says that something is wrong, not how long the next one will take. */
#define PREPARE_SECONDS_MAXIMUM 10.0
#define PREPARE_SMOOTHING 0.3

static void
domains_listed(GPtrArray *texts, const GError *error, gpointer data)
{
    Manager *manager = data;

    if (error != NULL || texts == NULL)
        return; /* it stopped again, or the connection went: an event follows */
    for (guint i = 0; i < texts->len; i++) {
        g_autoptr(GError) parse_error = NULL;

        if (!registry_put(manager->registry, g_ptr_array_index(texts, i), &parse_error))
            log_event(CONFIG_LOG_WARNING, "domain-unreadable", "reason: %s", parse_error->message);
    }
}

/* What a daemon that died left in domains that have arrived since. */
static void
domains_listed_first(GPtrArray *texts, const GError *error, gpointer data)
{
    Manager *manager = data;

    domains_listed(texts, error, data);
    if (error == NULL)
        registry_end(manager->registry);
    manager->domains_unlisted = error != NULL && hypervisor_is_connected(manager->hypervisor);
    for (guint i = 0; error == NULL && texts != NULL && i < texts->len; i++) {
        const char *xml = g_ptr_array_index(texts, i);
        g_autoptr(DomainDescription) description = NULL;

        if (strstr(xml, PEER_OFFER_NAMESPACE) != NULL)
            description = domain_description_parse(xml, -1, NULL);
        if (description != NULL && manager_find(manager, MIGRATION_ROLE_DESTINATION,
                                                description->uuid, description->name) == NULL)
            manager_remove_offer(manager, description->uuid, description->name);
    }
    if (error != NULL)
        return;
    /* Now it is known what these domains ask for. */
    manager_take_up_post_copies(manager);
}

/* What was known counts until then: the VMs' lower limits must not go for a moment. */
void
manager_list_domains(Manager *manager)
{
    manager->domains_unlisted = false;
    registry_begin(manager->registry);
    hypervisor_list_domains(manager->hypervisor, NULL, domains_listed_first, manager);
}

static void
offer_read(const char *text, const GError *error, gpointer data)
{
    g_autofree Reference *reference = data;
    Migration *migration = reference_active(reference);
    g_autoptr(GError) parse_error = NULL;

    if (migration == NULL || migration->offer_asked_us == 0)
        return; /* too late: it was decided without */
    if (error == NULL)
        migration->peer_known = peer_report_from_offer(text, -1, &migration->peer, &parse_error);
    manager_offer_answered(reference->manager, migration,
                           error         ? error->message
                           : parse_error ? parse_error->message
                                         : NULL);
}

static void
observe_flags(const Manager *manager, Migration *migration)
{
    g_autoptr(GError) error = NULL;

    if (!job_flags_read(manager->job_flags_directory, migration->name, migration->uuid,
                        &migration->user_flags, &error)) {
        migration->flags_unknown = true;
        /* Only the caller knows whether he began with post-copy: libvirt refuses otherwise. */
        migration->machine.post_copy_possible = true;
        migration_note(migration, "observed", "flags: as the caller gave them, unknown: %s",
                       error->message);
        return;
    }
    migration->flags = migration->user_flags;
    migration->machine.post_copy_possible = migration->flags & VIR_MIGRATE_POSTCOPY;
    if (!migration->machine.post_copy_possible)
        manager_exclude_post_copy(migration, "it began without post-copy");
    manager_exclude_post_copy(migration, gate_post_copy_flags(migration->flags, NULL));
    migration_note(migration, "observed",
                   "flags: as the caller gave them, 0x%" G_GINT64_MODIFIER "x", migration->flags);
}

/* A migration that nobody announced: no plugin here, or the daemon is new. */
static Migration *
manager_observe(Manager *manager, const HypervisorEvent *event)
{
    DomainDescription *known = registry_copy(manager->registry, event->uuid);
    Migration *migration;

    migration = manager_add(manager, MIGRATION_ROLE_SOURCE, event->name, event->uuid);
    migration->observed = true;
    if (known != NULL)
        manager_describe(manager, migration, known);
    else /* what it does not allow is in its metadata */
        manager_exclude_post_copy(migration, "the domain's metadata is not known");
    observe_flags(manager, migration);
    manager_settle(manager, migration, true);
    manager_measure_memory(manager, migration);
    return migration;
}

static void
migration_iterate(Manager *manager, Migration *migration, const HypervisorEvent *event)
{
    MigrationInput input = { .type = MIGRATION_INPUT_ITERATION, .iteration = event->iteration };
    gint64 now_us = g_get_monotonic_time();

    migration->job_seen = true;
    migration->pass_seconds =
        migration->iteration_us != 0 ? (double)(now_us - migration->iteration_us) / 1e6 : 0;
    if (event->iteration == 2)
        migration->first_pass_seconds = migration->pass_seconds;
    migration->iteration_us = now_us;
    migration_note(migration, "iteration", "number: %u", event->iteration);
    if (event->iteration == 1 && migration->admitted_us != 0) {
        double prepared =
            MIN((double)(now_us - migration->admitted_us) / 1e6, PREPARE_SECONDS_MAXIMUM);

        manager->prepare_seconds =
            MAX(prepared, manager->prepare_seconds +
                              PREPARE_SMOOTHING * (prepared - manager->prepare_seconds));
    }
    if (migration->offer_wanted && migration->destination_uri != NULL) {
        migration->offer_wanted = false;
        migration->offer_asked_us = now_us;
        hypervisor_read_offer(manager->hypervisor, migration->destination_uri, migration->uuid,
                              offer_read, reference_new(manager, migration));
    }
    /* A path that collapsed since the last reading is no path to switch over. */
    migration->machine.reading_due = event->iteration >= 2 && migration->uuid != NULL;
    manager_input(manager, migration, &input);
    if (migration_is_active(migration) && event->iteration >= 2)
        manager_poll(manager, migration, event->iteration);
}

/* An iteration of a domain that nobody announced. */
typedef struct {
    Manager *manager;
    char *uuid;
    char *name;
    unsigned iteration;
} Sighting;

static void
sighting_free(Sighting *sighting)
{
    g_free(sighting->uuid);
    g_free(sighting->name);
    g_free(sighting);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Sighting, sighting_free)

static void
sighting_checked(const JobStatistics *statistics, const GError *error, gpointer data)
{
    g_autoptr(Sighting) sighting = data;
    HypervisorEvent event = {
        .type = HYPERVISOR_MIGRATION_ITERATION,
        .uuid = sighting->uuid,
        .name = sighting->name,
        .iteration = sighting->iteration,
    };
    Migration *migration;

    if (error != NULL || !statistics->active || !statistics->outgoing)
        return;
    migration =
        manager_find(sighting->manager, MIGRATION_ROLE_SOURCE, sighting->uuid, sighting->name);
    if (migration == NULL &&
        manager_refusal(sighting->manager, MIGRATION_ROLE_SOURCE, event.uuid, event.name) != NULL)
        return;
    if (migration == NULL)
        migration = manager_observe(sighting->manager, &event);
    if (migration->machine.iteration < event.iteration)
        migration_iterate(sighting->manager, migration, &event);
}

/*
 * virsh save, dump and snapshots make QEMU count passes as well: where no migration
 * was announced, or it is still held, libvirt has to call it one first.
 */
static void
on_iteration(Manager *manager, const HypervisorEvent *event)
{
    Migration *migration = manager_find(manager, MIGRATION_ROLE_SOURCE, event->uuid, event->name);
    Sighting *sighting;

    if (migration != NULL && migration->machine.state != MIGRATION_WAITING) {
        migration_iterate(manager, migration, event);
        return;
    }
    sighting = g_new0(Sighting, 1);
    sighting->manager = manager;
    sighting->uuid = g_strdup(event->uuid);
    sighting->name = g_strdup(event->name);
    sighting->iteration = event->iteration;
    hypervisor_query_job(manager->hypervisor, event->uuid, sighting_checked, sighting);
}

static void
on_post_copy_entered(Manager *manager, const HypervisorEvent *event)
{
    static const MigrationInput entered = { .type = MIGRATION_INPUT_POST_COPY_ENTERED };

    for (int role = MIGRATION_ROLE_SOURCE; role <= MIGRATION_ROLE_DESTINATION; role++) {
        Migration *migration = manager_find(manager, (MigrationRole)role, event->uuid, event->name);

        if (migration == NULL)
            continue;
        manager_post_copy_goes_on(migration, "libvirt says that it moves again");
        if (migration->machine.state == MIGRATION_POST_COPY)
            continue;
        migration->post_copy_us = g_get_monotonic_time();
        migration_note(migration, "post-copy", "the VM runs at the destination");
        manager_store_post_copy(manager, migration);
        manager_input(manager, migration, &entered);
        /* Its queue is to be short from now on. */
        if (migration_is_transferring(migration))
            manager_reshape(manager, migration_direction(migration), NULL, NULL);
    }
}

/* Without the plugin nobody reports the end of Finish. */
static void
on_arrived(Manager *manager, const HypervisorEvent *event)
{
    static const MigrationInput succeeded = { .type = MIGRATION_INPUT_SUCCEEDED };
    Migration *migration =
        manager_find(manager, MIGRATION_ROLE_DESTINATION, event->uuid, event->name);

    if (migration != NULL && migration_is_transferring(migration))
        manager_input(manager, migration, &succeeded);
    else if (migration == NULL) /* announced to a daemon that died meanwhile */
        manager_remove_offer(manager, event->uuid, event->name);
}

static void
on_gone(Manager *manager, const HypervisorEvent *event)
{
    MigrationInput input = {
        .type = event->migrated ? MIGRATION_INPUT_SUCCEEDED : MIGRATION_INPUT_FAILED,
    };

    registry_remove(manager->registry, event->uuid);
    for (int role = MIGRATION_ROLE_SOURCE; role <= MIGRATION_ROLE_DESTINATION; role++) {
        Migration *migration = manager_find(manager, (MigrationRole)role, event->uuid, event->name);

        if (migration == NULL)
            continue;
        if (role == MIGRATION_ROLE_DESTINATION && migration->machine.state == MIGRATION_ADMITTED)
            continue; /* an old domain of that name was cleaned away */
        manager_input(manager, migration, &input);
    }
}

static void
on_job_completed(Manager *manager, const HypervisorEvent *event)
{
    static const MigrationInput succeeded = { .type = MIGRATION_INPUT_SUCCEEDED };
    MigrationRole role =
        event->statistics->outgoing ? MIGRATION_ROLE_SOURCE : MIGRATION_ROLE_DESTINATION;
    Migration *migration = manager_find(manager, role, event->uuid, event->name);

    for (guint i = manager->history->len; migration == NULL && i > 0; i--) {
        Migration *ended = g_ptr_array_index(manager->history, i - 1);

        if (ended->recorded || ended->machine.role != role ||
            g_strcmp0(ended->uuid, event->uuid) != 0)
            continue;
        ended->statistics = *event->statistics;
        return;
    }
    if (migration == NULL || !migration_is_transferring(migration))
        return;
    migration->statistics = *event->statistics;
    if (event->statistics->success)
        manager_input(manager, migration, &succeeded);
}

void
manager_event(const HypervisorEvent *event, gpointer data)
{
    Manager *manager = data;
    Migration *migration;

    switch (event->type) {
    case HYPERVISOR_CONNECTED:
        log_event(CONFIG_LOG_INFO, "libvirt-connected", "qemu: %u, libvirt: %u",
                  hypervisor_qemu_version(manager->hypervisor),
                  hypervisor_libvirt_version(manager->hypervisor));
        workers_forget(manager->workers);
        manager_list_domains(manager);
        break;
    case HYPERVISOR_DISCONNECTED:
        log_event(CONFIG_LOG_WARNING, "libvirt-lost", NULL);
        break;
    case HYPERVISOR_DOMAIN_STARTED:
    case HYPERVISOR_DOMAIN_CHANGED:
        hypervisor_list_domains(manager->hypervisor, event->uuid, domains_listed, manager);
        break;
    case HYPERVISOR_DOMAIN_ARRIVED:
        on_arrived(manager, event);
        break;
    case HYPERVISOR_DOMAIN_STOPPED:
        on_gone(manager, event);
        break;
    case HYPERVISOR_POST_COPY_ENTERED:
        on_post_copy_entered(manager, event);
        break;
    case HYPERVISOR_POST_COPY_FAILED:
        migration = manager_find(manager, MIGRATION_ROLE_SOURCE, event->uuid, event->name);
        if (migration != NULL)
            manager_post_copy_broke(manager, migration, "libvirt reports a failure");
        /* The source resumes it; here it only keeps nobody waiting. */
        migration = manager_find(manager, MIGRATION_ROLE_DESTINATION, event->uuid, event->name);
        if (migration != NULL)
            migration->recovery.broken = true;
        break;
    case HYPERVISOR_MIGRATION_ITERATION:
        on_iteration(manager, event);
        break;
    case HYPERVISOR_JOB_COMPLETED:
        on_job_completed(manager, event);
        break;
    }
}
