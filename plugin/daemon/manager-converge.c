/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A running pre-copy's readings into decision/converge.h, and its orders into
 * libvirt and the classes. Nothing here ends a migration.
 */
#include "daemon/manager-private.h"

#include "daemon/planner.h"

#include <libvirt/libvirt.h>

void
manager_reconsider(Manager *manager, Migration *migration)
{
    TechniqueDecision decision = manager_decide_recorded(manager, migration);

    migration->expected_not_to_end = decision.technique != TECHNIQUE_PRE_COPY &&
                                     (decision.rule == TECHNIQUE_RULE_GATE_CONVERGENCE ||
                                      decision.rule == TECHNIQUE_RULE_GATE_FLOOR);
}

/* All of both links but what is promised to their workloads; 0 unknown. */
static uint64_t
rate_full(Manager *manager, const Migration *migration)
{
    uint64_t link = network_usable_rate(manager->network);
    Reservation there = { 0 };
    uint64_t rate = 0;

    if (manager->side[SHAPING_EGRESS].has_reservation &&
        link > manager->side[SHAPING_EGRESS].reservation.lower)
        rate = link - manager->side[SHAPING_EGRESS].reservation.lower;
    planner_reserve_there(manager, migration, &there);
    if (migration->peer_known && migration->peer.link_rate != 0)
        rate = MIN(rate, migration->peer.link_rate - there.lower);
    if (migration->user_bandwidth_mib != 0 && migration->user_bandwidth_mib < (rate >> 20))
        rate = migration->user_bandwidth_mib << 20;
    return rate;
}

/* Bounds that cannot all be kept leave nothing to be added. */
static uint64_t
rate_given(const Manager *manager, const Migration *migration)
{
    const AllocateShare *share = &migration->share;

    return network_is_shaped(manager->network, SHAPING_EGRESS) && share->least <= share->rate
               ? share->rate
               : 0;
}

/* What the time that it was held leaves of it; 0: none. */
static uint64_t
deadline_since_running(const Migration *migration)
{
    uint64_t deadline =
        migration->description != NULL
            ? MIN(migration->description->metadata.deadline, G_MAXINT64 / 1000) * 1000
            : 0;
    uint64_t held = (uint64_t)MAX(migration->running_us - migration->created_us, 0);

    return deadline == 0 ? 0 : deadline > held ? deadline - held : 1;
}

/* Within the first pass nothing but post-copy is left. */
static Technique
technique_of_switch(const Migration *migration)
{
    unsigned iteration = MAX(migration->machine.iteration,
                             (unsigned)MIN(migration->statistics.iteration, G_MAXUINT));

    return iteration >= 2 ? TECHNIQUE_HYBRID : TECHNIQUE_POST_COPY;
}

static ConvergeLimits
limits_now(Manager *manager, const Migration *migration)
{
    const MigrationMachine *machine = &migration->machine;

    return (ConvergeLimits){
        .priority = migration->priority,
        .memory = migration->statistics.memory_total,
        .downtime_initial_ms = migration->downtime_limit_ms,
        .downtime_maximum_ms =
            migration->downtime_limit_by_user ? 0 : manager_maximum_downtime(manager, migration),
        .deadline_us = deadline_since_running(migration),
        .rate_full = rate_full(manager, migration),
        .rate_given = rate_given(manager, migration),
        .dirty_rate = migration->dirty_rate,
        .first_pass = migration->forecast.valid ? migration->forecast.memory : 0,
        .post_copy_allowed = machine->decided && machine->post_copy_possible &&
                             !machine->post_copy_requested &&
                             (migration->allowed & (1u << technique_of_switch(migration))),
        .expected_not_to_end =
            migration->expected_not_to_end || machine->technique != TECHNIQUE_PRE_COPY,
    };
}

static void raise_downtime(Manager *manager, Migration *migration, uint64_t downtime_ms);

static void
downtime_raised(const GError *error, gpointer data)
{
    g_autofree Reference *reference = data;
    Migration *migration = reference_active(reference);

    if (migration == NULL)
        return;
    migration->raising_downtime = false;
    if (error == NULL) {
        migration->downtime_limit_ms = reference->number;
        if (migration->converge.downtime_ms > reference->number)
            raise_downtime(reference->manager, migration, migration->converge.downtime_ms);
        return;
    }
    migration->downtime_limit_by_user = error->code == HYPERVISOR_ERROR_CHANGED;
    migration_note(migration, "downtime-limit-failed", "reason: %s%s", error->message,
                   migration->downtime_limit_by_user ? ", it stays as it is" : "");
}

/* One after the other: each tells libvirt what it expects to find there. */
static void
raise_downtime(Manager *manager, Migration *migration, uint64_t downtime_ms)
{
    Reference *reference;

    if (migration->raising_downtime)
        return;
    migration->raising_downtime = true;
    reference = reference_new(manager, migration);
    reference->number = downtime_ms;
    hypervisor_raise_max_downtime(manager->hypervisor, migration->uuid,
                                  migration->downtime_limit_ms, downtime_ms, downtime_raised,
                                  reference);
}

static void
switch_to_post_copy(Manager *manager, Migration *migration, const ConvergeDecision *decision)
{
    /* Statistics may speak of a pass before its event comes. */
    MigrationInput pass = {
        .type = MIGRATION_INPUT_ITERATION,
        .iteration = (unsigned)MIN(migration->statistics.iteration, G_MAXUINT),
    };
    MigrationInput decided = { .type = MIGRATION_INPUT_DECIDED };

    manager_input(manager, migration, &pass);
    decided.technique = technique_of_switch(migration);
    if (decided.technique != migration->machine.technique)
        migration_note(migration, "decision-changed", "from: %s, to: %s, reason: %s",
                       technique_to_string(migration->machine.technique),
                       technique_to_string(decided.technique), decision->reason);
    manager_input(manager, migration, &decided);
}

static void
report_stall(Migration *migration, const ConvergeDecision *decision)
{
    static const char *advice[] = {
        "`virsh domjobabort` ends the migration; otherwise less load in the guest, a greater "
        "downtime (virsh migrate-setmaxdowntime, or its metadata)",
        "`virsh domjobabort` ends the migration; otherwise a greater downtime (virsh "
        "migrate-setmaxdowntime, or its metadata); auto-converge throttles the guest already",
    };
    const char *excluded = migration->excluded[TECHNIQUE_HYBRID];

    if (excluded == NULL)
        excluded = migration->machine.post_copy_possible ? "the migration did not allow it"
                                                         : "it began without post-copy";
    migration_note(migration, "does-not-converge",
                   "%s; post-copy excluded: %s; what can be done: %s", decision->reason, excluded,
                   advice[(migration->flags & VIR_MIGRATE_AUTO_CONVERGE) != 0]);
}

/* What kept the machine's own switch back is gone. */
static void
decide_again(Manager *manager, Migration *migration)
{
    MigrationInput again = { .type = MIGRATION_INPUT_DECIDED,
                             .technique = migration->machine.technique };

    if (migration->machine.decided)
        manager_input(manager, migration, &again);
}

/* The switch that the machine would make by itself waits as well. */
static void
hold_post_copy(Manager *manager, Migration *migration, const ConvergeDecision *decision)
{
    bool was_held = migration->machine.post_copy_held;

    migration->machine.post_copy_held = decision->collapsed;
    if (decision->action == CONVERGE_WAIT && !was_held)
        migration_note(migration, "post-copy-waits", "%s", decision->reason);
    else if (decision->collapsed && !was_held && migration->machine.decided &&
             migration->machine.technique != TECHNIQUE_PRE_COPY &&
             migration->machine.post_copy_possible)
        migration_note(migration, "post-copy-waits", "the throughput has collapsed");
    if (was_held && !decision->collapsed)
        decide_again(manager, migration);
}

void
manager_pass_was_read(Manager *manager, Migration *migration)
{
    if (!migration->machine.reading_due)
        return;
    migration->machine.reading_due = false;
    decide_again(manager, migration);
}

static void
follow_last_round(Manager *manager, Migration *migration, const ConvergeDecision *decision)
{
    if (migration->last_round == decision->last_round)
        return;
    migration->last_round = decision->last_round;
    migration_note(migration, decision->last_round ? "last-round" : "last-round-over", "%s",
                   decision->last_round ? decision->reason : "back to the share of its priority");
    manager_reshape(manager, migration_direction(migration), NULL, NULL);
}

void
manager_converge(Manager *manager, Migration *migration)
{
    const JobStatistics *statistics = &migration->statistics;
    ConvergeLimits limits = limits_now(manager, migration);
    ConvergeSample sample = {
        .time_us = g_get_monotonic_time(),
        .iteration = (unsigned)MIN(statistics->iteration, G_MAXUINT),
        .remaining = statistics->memory_remaining,
        .transferred = statistics->memory_processed,
        .dirty_rate = statistics->dirty_rate,
    };
    ConvergeDecision decision = { 0 };
    Recording recording = {
        .kind = RECORDING_CONVERGE,
        .wall_us = g_get_real_time(),
        .about = migration->name,
    };
    /* Its class makes it slow because others come first: nothing is to be judged by that. */
    bool waits = migration->share.reason == ALLOCATE_REASON_WAITS && limits.deadline_us == 0 &&
                 network_is_shaped(manager->network, SHAPING_EGRESS);

    if (migration->machine.state != MIGRATION_RUNNING || waits) {
        if (waits)
            converge_pause(&migration->converge);
        migration->polled_often = false;
        follow_last_round(manager, migration, &decision);
        hold_post_copy(manager, migration, &decision);
        return;
    }
    recording.converge.input = (ConvergeInput){ migration->converge, sample, limits };
    converge_step(&migration->converge, &sample, &limits, &decision);
    recording.converge.decision = decision;
    /* It is asked every second; what it orders is worth a line. */
    if (decision.action != CONVERGE_NONE || decision.last_round != migration->last_round)
        recorder_add(manager->recorder, &recording);
    migration->polled_often = decision.near;
    follow_last_round(manager, migration, &decision);
    hold_post_copy(manager, migration, &decision);
    switch (decision.action) {
    case CONVERGE_NONE:
    case CONVERGE_WAIT:
    case CONVERGE_LAST_ROUND:
        break;
    case CONVERGE_RAISE_DOWNTIME:
        migration_note(migration, "downtime-raised", "%s", decision.reason);
        raise_downtime(manager, migration, decision.downtime_ms);
        break;
    case CONVERGE_START_POST_COPY:
        switch_to_post_copy(manager, migration, &decision);
        break;
    case CONVERGE_REPORT_STALL:
        report_stall(migration, &decision);
        break;
    }
}
