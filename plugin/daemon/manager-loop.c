/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the manager does at every tick: polls, expiry, demand, turns. */
#include "daemon/manager-private.h"

#include "common/log.h"
#include "daemon/planner.h"

#include <libvirt/virterror.h>

#define POLL_US G_USEC_PER_SEC
/* Polls without a job, one second each, before a migration counts as gone. */
#define IDLE_POLLS_MAXIMUM 4u
/* The same before libvirt's job was seen once: a first start of QEMU takes seconds. */
#define STARTING_POLLS_MAXIMUM 10u
/* A held caller asks every second; one that does not is gone. */
#define HELD_CALLER_GONE_US (10 * G_USEC_PER_SEC)
/* libvirt's final statistics may come after the last call has returned. */
#define STATISTICS_LATE_US (2 * G_USEC_PER_SEC)
/* A connection to the destination may hang for minutes: decide without it. */
#define OFFER_MAXIMUM_US (2 * G_USEC_PER_SEC)
/* A guest writes in bursts: what was dirtied in a shorter pass is no rate. */
#define PASS_TELLING_SECONDS 0.25
/*
 * libvirt already has a job on a domain whose Prepare is held: its owner cannot
 * abort it, and its host keeps a place for it. So this wait is short.
 */
#define INCOMING_MAXIMUM_US (30 * G_USEC_PER_SEC)
/* Between the end of begin and perform the destination prepares. */
#define ADMITTED_MAXIMUM_US (120 * G_USEC_PER_SEC)

/* While somebody waits, or a decision is near, the next second is too late. */
static void
manager_poll_often(Manager *manager)
{
    bool awaited = manager_count_held(manager) != 0;

    for (guint i = 0; i < manager->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(manager->migrations, i);

        if (migration_is_transferring(migration) &&
            (migration->polled_often ||
             (awaited && migration->machine.role == MIGRATION_ROLE_SOURCE)))
            manager_poll(manager, migration, 0);
    }
}

static void
take_reading(const Reference *reference, Migration *migration, const JobStatistics *statistics,
             const GError *error)
{
    static const MigrationInput lost = { .type = MIGRATION_INPUT_LOST };
    Manager *manager = reference->manager;
    bool working = error == NULL && statistics->active;

    /* libvirt has no statistics of an incoming job, and says so with this code. */
    if (error != NULL && migration->machine.role == MIGRATION_ROLE_DESTINATION &&
        (error->code == VIR_ERR_OPERATION_UNSUPPORTED || error->code == VIR_ERR_OPERATION_INVALID))
        working = true;
    if (!hypervisor_is_connected(manager->hypervisor))
        return; /* libvirtd restarts: wait until it can be asked */
    if (!working) {
        gint64 now_us = g_get_monotonic_time();

        /* Polls may come faster; what is counted here stands for a second. */
        if (now_us - migration->idle_us < POLL_US * 9 / 10)
            return;
        migration->idle_us = now_us;
        if (++migration->idle_polls <
            (migration->job_seen ? IDLE_POLLS_MAXIMUM : STARTING_POLLS_MAXIMUM))
            return;
        g_free(migration->failure);
        migration->failure = g_strdup(error ? error->message : "libvirt runs no job for it");
        manager_input(manager, migration, &lost);
        return;
    }
    migration->idle_polls = 0;
    migration->job_seen = true;
    if (error != NULL)
        return;
    migration->statistics = *statistics;
    migration->statistics_us = g_get_monotonic_time();
    if (migration->machine.iteration >= 2 && !migration->machine.post_copy_requested &&
        migration->machine.state == MIGRATION_RUNNING &&
        migration->pass_seconds >= PASS_TELLING_SECONDS && statistics->memory_remaining > 0 &&
        reference->number == migration->machine.iteration) {
        /* What is left at the start of a pass was dirtied during the one before. */
        if (!migration->dirty_by_passes)
            migration->dirty = (DirtyCurve){ 0 };
        migration->dirty_by_passes = true;
        dirty_curve_insert(&migration->dirty, migration->pass_seconds,
                           (double)statistics->memory_remaining);
        migration->dirty_rate =
            (uint64_t)((double)statistics->memory_remaining / migration->pass_seconds);
        manager_reconsider(manager, migration);
    }
    if (migration->machine.role == MIGRATION_ROLE_SOURCE) {
        manager_meter_streams(manager, migration);
        manager_converge(manager, migration);
    }
    /* The next one prepares while this one ends. */
    if (manager_count_held(manager) != 0)
        manager_schedule(manager);
}

static void
job_polled(const JobStatistics *statistics, const GError *error, gpointer data)
{
    g_autofree Reference *reference = data;
    Migration *migration = reference_active(reference);

    if (migration == NULL)
        return;
    migration->querying = false;
    take_reading(reference, migration, statistics, error);
    /* Without an answer nothing speaks against the switch, but without libvirtd none is made. */
    if ((error == NULL || reference->number != 0) &&
        hypervisor_is_connected(reference->manager->hypervisor) &&
        (migration = reference_active(reference)) != NULL)
        manager_pass_was_read(reference->manager, migration);
}

/* number: the pass whose beginning is asked for; 0: just a look. */
void
manager_poll(Manager *manager, Migration *migration, unsigned number)
{
    Reference *reference;

    if (migration->uuid == NULL || (migration->querying && number == 0))
        return;
    migration->querying = true;
    reference = reference_new(manager, migration);
    reference->number = number;
    hypervisor_query_job(manager->hypervisor, migration->uuid, job_polled, reference);
}

static void
manager_expire(Manager *manager, Migration *migration, gint64 now_us)
{
    static const MigrationInput lost = { .type = MIGRATION_INPUT_LOST };

    if (migration->machine.state == MIGRATION_WAITING && migration->waiting_turn == NULL &&
        now_us - migration->polled_us > HELD_CALLER_GONE_US) {
        /* Not aborted: nobody asked for that, and a caller that was only slow must go on. */
        migration->failure = g_strdup("the caller stopped waiting");
        manager_input(manager, migration, &lost);
    } else if (migration->machine.state == MIGRATION_WAITING &&
               migration->machine.role == MIGRATION_ROLE_DESTINATION &&
               now_us - migration->created_us > INCOMING_MAXIMUM_US) {
        manager_let_in(manager, migration, "it has waited long enough");
    } else if (migration->machine.state == MIGRATION_ADMITTED &&
               /* Never held: polled_us is 0. */
               now_us - MAX(migration->created_us, migration->polled_us) > ADMITTED_MAXIMUM_US) {
        migration->failure = g_strdup("it never began to move memory");
        manager_input(manager, migration, &lost);
    }
}

/* A VM with a floor came or went, or its limit or a NIC of it changed. */
static bool
manager_floors_differ(const Manager *manager, ShapingDirection direction,
                      const Reservation *reservation)
{
    g_autofree ShapingPlan *plan = g_new0(ShapingPlan, 1);

    planner_fill_floors(manager, reservation, plan);
    return planner_floors_stamp(plan) != manager->side[direction].floors;
}

static void
manager_follow_demand(Manager *manager, ShapingDirection direction, gint64 now_us)
{
    uint64_t measured = 0;
    bool valid = network_workload_last(manager->network, direction, &measured);
    const Reservation *reservation = &manager->side[direction].reservation;
    Reservation next;

    if (!manager->side[direction].has_reservation || manager->side[direction].migrations == 0)
        return;
    manager_hold_demand(manager, direction, valid, measured,
                        (uint64_t)MAX(now_us - manager->side[direction].followed_us, 0) / 1000);
    manager->side[direction].followed_us = now_us;
    /* A slow tc is not given more work than it can do. */
    if (now_us - manager->side[direction].reshaped_us <
            (gint64)manager->config->reshape_interval * 1000 / 2 ||
        network_is_busy(manager->network, direction))
        return;
    if (!manager_reserve(manager, direction, NULL, &next))
        return;
    manager_tell_deadlines(manager, direction, &next);
    if (network_shaping_is_due(manager->network, direction, now_us) ||
        planner_reservation_differs(reservation, &next, network_usable_rate(manager->network)) ||
        planner_shares_differ(manager, direction, &next) ||
        manager_floors_differ(manager, direction, &next)) {
        manager->side[direction].reshaped_us = now_us;
        manager_reshape(manager, direction, NULL, NULL);
    }
}

/*
 * A device that came back is bare, and those that migrate are to be told of one that went,
 * or that somebody else took our classes off.
 */
static void
manager_follow_network(Manager *manager)
{
    unsigned changes = network_changes(manager->network);

    if (changes == manager->network_changes)
        return;
    manager->network_changes = changes;
    for (int direction = 0; direction < 2; direction++) {
        if (manager->side[direction].migrations != 0)
            manager_reshape(manager, (ShapingDirection)direction, NULL, NULL);
    }
}

/* The destination's word, or none: the technique of a p2p migration is final now. */
void
manager_offer_answered(Manager *manager, Migration *migration, const char *problem)
{
    migration->offer_asked_us = 0;
    if (problem != NULL)
        migration_note(migration, "offer-none", "reason: %s", problem);
    else
        migration_note(migration, "offer",
                       "destination_in: %" G_GUINT64_FORMAT
                       " B/s, destination_out: %" G_GUINT64_FORMAT " B/s",
                       migration->peer.host.in, migration->peer.host.out);
    manager_settle(manager, migration, problem == NULL);
}

void
manager_tick(gint64 now_us, gpointer data)
{
    Manager *manager = data;
    bool poll = now_us - manager->last_poll_us >= POLL_US;
    TrafficRates rates = network_host_rates(manager->network);
    g_autoptr(GArray) tickets = g_array_new(FALSE, FALSE, sizeof(uint64_t));

    manager->host_class =
        classify_traffic(&rates, network_usable_rate(manager->network), manager->host_class, NULL);
    manager_follow_network(manager);
    for (int direction = 0; direction < 2; direction++)
        manager_follow_demand(manager, (ShapingDirection)direction, now_us);
    manager_follow_unshaped(manager, now_us);
    workers_follow(manager->workers, manager_count_busy(manager));
    if (!poll) {
        manager_poll_often(manager);
        return;
    }
    manager->last_poll_us = now_us;
    manager_lift_speeds(manager);
    if (manager->domains_unlisted)
        manager_list_domains(manager);
    for (guint i = 0; i < manager->history->len; i++) {
        Migration *ended = g_ptr_array_index(manager->history, i);

        if (now_us - ended->ended_us > STATISTICS_LATE_US)
            manager_remember(manager, ended);
    }
    /* Tickets, not pointers: ending one migration changes the array and may free another. */
    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);

        g_array_append_val(tickets, migration->ticket);
    }
    for (guint i = 0; i < tickets->len; i++) {
        Migration *migration = manager_find_ticket(manager, g_array_index(tickets, uint64_t, i));

        if (migration == NULL)
            continue;
        if (!migration_is_transferring(migration)) {
            /*
             * From begin on libvirt has a job on it. A client that was killed takes the job
             * with it, and a call that gave us up may have ended long ago.
             */
            if (migration->machine.role == MIGRATION_ROLE_SOURCE &&
                migration->machine.state == MIGRATION_ADMITTED)
                manager_poll(manager, migration, 0);
            manager_expire(manager, migration, now_us);
            continue;
        }
        if (migration->offer_asked_us != 0 && now_us - migration->offer_asked_us > OFFER_MAXIMUM_US)
            manager_offer_answered(manager, migration, "the destination did not answer in time");
        manager_poll(manager, migration, 0);
        manager_recover(manager, migration, now_us);
    }
    manager_schedule(manager);
    if (manager_count_held(manager) != 0)
        planner_estimate_starts(manager);
}
