/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whose turn it is, and when it will be; see planner.h. */
#include "daemon/planner-private.h"

#include "decision/remaining.h"

/* Seconds; what would start later has no known start. */
#define START_EXPECTED_MAXIMUM 1e6
/*
 * One that is alone waits for gathering-time. Once there are two, others are likely: eight
 * commands typed at once came up to 270 ms after one another, in 750 ms, on two busy cores.
 * Then it is so many times as long from the last one on, and in all at most so many times.
 */
#define GATHERING_OF_GANG 2
#define GATHERING_LONGEST 5
/* An incoming migration that moves for so long shows what it takes. */
#define INCOMING_MEASURED_US (5 * G_USEC_PER_SEC)
/* Where nothing makes the next one wait, one slow start of QEMU is not to make all overlap. */
#define PREPARE_SECONDS_OVERLAPPING_MAXIMUM 3.0

/*
 * Since the pass began of which the statistics speak. A new one may have begun since they
 * were read: what was dirtied in the one before is not in them either.
 */
static double
pass_seconds(const Migration *migration, gint64 now_us)
{
    gint64 began_us =
        migration->iteration_us != 0 ? migration->iteration_us : migration->running_us;
    uint64_t iteration = migration->statistics.iteration;
    bool older = migration->statistics_us < began_us ||
                 (iteration != 0 && iteration < migration->machine.iteration);

    return (double)(now_us - began_us) / 1e6 + (older ? migration->pass_seconds : 0);
}

static bool
takes_turns(const Manager *manager, const Migration *migration)
{
    return planner_turn(manager, migration) != ALLOCATE_TURN_NONE &&
           network_can_shape(manager->network, migration_direction(migration));
}

/* turns: whether it takes turns. */
static bool
is_ending(const Manager *manager, const Migration *migration, bool turns)
{
    const JobStatistics *statistics = &migration->statistics;
    gint64 now_us = g_get_monotonic_time();
    RemainingEndingInput input = {
        .left = planner_left(migration),
        .age = (double)(now_us - migration->statistics_us) / 1e6,
        .rate = statistics->throughput,
        .dirty_rate = MAX(migration->dirty_rate, statistics->dirty_rate),
        .post_copy = migration->machine.state == MIGRATION_POST_COPY,
        .pass_seconds = pass_seconds(migration, now_us),
        .dirty = migration->dirty,
        .memory = migration->forecast.valid ? migration->forecast.memory : statistics->memory_total,
        .prepare_seconds = turns
                               ? manager->prepare_seconds
                               : MIN(manager->prepare_seconds, PREPARE_SECONDS_OVERLAPPING_MAXIMUM),
        .early_is_cheap = turns,
    };

    return migration_is_transferring(migration) && statistics->valid && statistics->active &&
           remaining_is_ending(&input);
}

static double
relief_of(const Manager *manager, const Migration *migration)
{
    TrafficRates host = network_host_rates(manager->network);
    ScheduleReliefInput input = { 0 };

    if (migration->description == NULL)
        return 0;
    input.vm = network_vm_rates(manager->network, migration->description);
    if (host.valid) {
        input.source_link = network_usable_rate(manager->network);
        input.source_free = planner_subtract(input.source_link, host.out);
    }
    if (migration->peer_known && migration->peer.host.valid) {
        input.destination_link = migration->peer.link_rate;
        input.destination_free = planner_subtract(input.destination_link, migration->peer.host.in);
    }
    return schedule_relief(&input);
}

gint64
planner_gathering_left(const Manager *manager, const Migration *migration, gint64 now_us)
{
    gint64 time_us = (gint64)manager->config->gathering_time * 1000;
    gint64 longest_us = GATHERING_LONGEST * time_us;
    gint64 newest_us = migration->created_us;
    unsigned together = 0;
    gint64 until_us;

    if (migration->machine.role != MIGRATION_ROLE_SOURCE ||
        migration->machine.state != MIGRATION_WAITING)
        return 0;
    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *other = g_ptr_array_index(manager->migrations, i);

        if (other->machine.role != MIGRATION_ROLE_SOURCE || !migration_is_active(other) ||
            ABS(other->created_us - migration->created_us) > longest_us)
            continue;
        together++;
        newest_us = MAX(newest_us, other->created_us);
    }
    until_us = newest_us + (together > 1 ? GATHERING_OF_GANG : 1) * time_us;
    until_us = MIN(until_us, migration->created_us + longest_us);
    return MAX(until_us - now_us, 0);
}

/* Hybrid is post-copy from the switch on. */
static Technique
technique_now(const Migration *migration)
{
    if (migration->machine.state == MIGRATION_POST_COPY)
        return TECHNIQUE_POST_COPY;
    return migration->has_decision ? migration->decision.technique : TECHNIQUE_PRE_COPY;
}

/*
 * Bytes/s that migrations may have on its way, workloads subtracted. What the destination has
 * free it tells when it prepares: to one that waits it is known by those that run. A direct
 * one does not say where it goes before its turn: it is taken to go where all the others
 * go. Where they go to several hosts none of these is the bottleneck of them all.
 */
static uint64_t
free_towards(const Manager *manager, const Migration *migration)
{
    TrafficRates rates = network_host_rates(manager->network);
    uint64_t available = planner_subtract(network_usable_rate(manager->network), rates.out);
    uint64_t there = UINT64_MAX;
    const Migration *one = NULL;

    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *other = g_ptr_array_index(manager->migrations, i);
        const PeerReport *peer = &other->peer;

        if (!planner_is_on_side(other, SHAPING_EGRESS) || other == migration)
            continue;
        if (planner_peers_differ(migration, other) || (one && planner_peers_differ(one, other)))
            return available;
        if (other->peer_addresses->len != 0)
            one = other;
        if (other->peer_known && peer->host.valid && peer->link_rate != 0)
            there = MIN(there, planner_subtract(peer->link_rate, peer->host.in));
    }
    return MIN(available, there);
}

static void
fill_schedule_item(const Manager *manager, const Migration *migration, ScheduleItem *item)
{
    const Uplink *uplink = network_uplink(manager->network);
    TrafficRates rates = network_host_rates(manager->network);
    const Prediction *prediction = &migration->decision.prediction[migration->decision.technique];
    gint64 now_us = g_get_monotonic_time();
    bool turns = takes_turns(manager, migration);

    *item = (ScheduleItem){
        .id = migration->ticket,
        .priority = migration->priority,
        .technique = technique_now(migration),
        .seconds = migration->has_decision ? prediction->total_seconds : 0,
        .stream_rate = planner_streams_rate(manager, migration),
        .link = uplink ? (uint32_t)uplink->ifindex : 0,
        .link_rate = network_usable_rate(manager->network),
        .available_known = rates.valid,
        .available = free_towards(manager, migration),
        .enqueued_us = migration->machine.state == MIGRATION_WAITING
                           ? migration->created_us
                           : planner_turn_came_us(migration, now_us),
        .relief = relief_of(manager, migration),
        .ending = is_ending(manager, migration, turns),
        .gathering = planner_gathering_left(manager, migration, now_us) > 0,
        .takes_turns = turns,
    };
}

uint64_t
planner_stream_reached(const Migration *migration, gint64 now_us)
{
    if (migration->priority == PRIORITY_HIGH || migration->machine.state != MIGRATION_RUNNING)
        return 0;
    if (migration->share.reason == ALLOCATE_REASON_WAITS)
        return migration->statistics.valid && migration->statistics.active
                   ? MAX(migration->statistics.throughput, 1)
                   : 0;
    return parallel_meter_unfilled(&migration->streams, now_us);
}

/*
 * What each of those that run reaches at present. Where one of them is ending those that
 * wait for their turn are about to have it: then they may reach what their streams can.
 */
static void
fill_running(const Manager *manager, const GPtrArray *active, ScheduleItem *items)
{
    bool ending = false;

    for (guint i = 0; i < active->len; i++) {
        fill_schedule_item(manager, g_ptr_array_index(active, i), &items[i]);
        ending = ending || items[i].ending;
    }
    for (guint i = 0; i < active->len; i++) {
        const Migration *migration = g_ptr_array_index(active, i);
        uint64_t reached = planner_stream_reached(migration, g_get_monotonic_time());

        if (reached != 0 && !(ending && migration->share.reason == ALLOCATE_REASON_WAITS))
            items[i].stream_rate = reached;
    }
}

static ScheduleParams
params_configured(const Manager *manager)
{
    ScheduleParams params = schedule_params_default();

    params.scheduling = manager->config->scheduling;
    params.maximum_running = manager->config->maximum_running;
    return params;
}

/* No more run than there are classes for: one without would be counted as workload. */
static void
bound_by_classes(const Manager *manager, ScheduleParams *params)
{
    unsigned incoming = planner_count(manager, SHAPING_INGRESS);
    bool classes = network_can_shape(manager->network, SHAPING_EGRESS);
    uint32_t most = incoming < SHAPING_MIGRATIONS_MAX ? SHAPING_MIGRATIONS_MAX - incoming : 1;

    if (classes && (params->maximum_running == 0 || params->maximum_running > most))
        params->maximum_running = most;
}

GPtrArray *
planner_schedule(Manager *manager)
{
    g_autofree ScheduleItem *waiting = g_new0(ScheduleItem, SCHEDULE_ITEMS_MAX);
    g_autofree ScheduleItem *running = g_new0(ScheduleItem, SCHEDULE_ITEMS_MAX);
    g_autofree ScheduleVerdict *verdicts = g_new0(ScheduleVerdict, SCHEDULE_ITEMS_MAX);
    g_autoptr(GPtrArray) held = g_ptr_array_new();
    g_autoptr(GPtrArray) active = g_ptr_array_new();
    GPtrArray *starting = g_ptr_array_new();
    ScheduleParams params = params_configured(manager);
    bool changed = false;

    bound_by_classes(manager, &params);
    for (guint i = 0; i < manager->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(manager->migrations, i);

        /* Nobody waits for a post-copy that broke, or for what does not converge. */
        if (migration->machine.role != MIGRATION_ROLE_SOURCE || migration_may_not_end(migration))
            continue;
        if (migration->machine.state == MIGRATION_WAITING && held->len < SCHEDULE_ITEMS_MAX) {
            fill_schedule_item(manager, migration, &waiting[held->len]);
            g_ptr_array_add(held, migration);
        } else if (migration->machine.state != MIGRATION_WAITING &&
                   migration_is_active(migration) && active->len < SCHEDULE_ITEMS_MAX) {
            g_ptr_array_add(active, migration);
        }
    }
    if (held->len == 0)
        return starting;
    fill_running(manager, active, running);
    if (!schedule_decide(waiting, held->len, running, active->len, &params, verdicts))
        return starting;
    for (uint32_t rank = 0; rank < held->len; rank++) {
        for (guint i = 0; i < held->len; i++) {
            Migration *migration = g_ptr_array_index(held, i);
            const char *reason = schedule_reason_to_string(verdicts[i].reason);

            if (verdicts[i].rank != rank)
                continue;
            changed = changed || g_strcmp0(migration->schedule_reason, reason) != 0;
            g_free(migration->schedule_reason);
            migration->schedule_reason = g_strdup(reason);
            if (verdicts[i].start)
                g_ptr_array_add(starting, migration);
        }
    }
    /* It is asked every second; only what is new is worth a line. */
    if (changed)
        recorder_add(manager->recorder, &(Recording){ .kind = RECORDING_SCHEDULE,
                                                      .wall_us = g_get_real_time(),
                                                      .about = "",
                                                      .schedule = {
                                                          .input = { held->len, active->len,
                                                                     waiting, running, params },
                                                          .decision = { held->len, verdicts },
                                                      } });
    return starting;
}

/* It can bring no more than the links carry. */
static uint64_t
incoming_streams_rate(const Manager *manager, const Migration *migration)
{
    uint64_t rate = planner_streams_rate(manager, migration);
    uint64_t here = network_usable_rate(manager->network);
    uint64_t there = migration->peer_known ? migration->peer.link_rate : 0;

    rate = MIN(rate, here != 0 ? here : UINT64_MAX);
    return MIN(rate, there != 0 ? there : UINT64_MAX);
}

static bool
is_incoming(const Migration *migration)
{
    return migration->machine.role == MIGRATION_ROLE_DESTINATION &&
           migration_is_active(migration) && !migration->recovery.broken &&
           migration->machine.state != MIGRATION_WAITING;
}

static bool
shows_what_it_takes(const Migration *migration, gint64 now_us)
{
    return migration_is_transferring(migration) && migration->running_us != 0 &&
           now_us - migration->running_us >= INCOMING_MEASURED_US;
}

/*
 * Bytes/s that one of those that came in seconds ago takes of what is free. libvirt has no
 * statistics of an incoming job: all of them are measured together. Without classes they
 * are counted among the workload, and what that leaves is free.
 */
static uint64_t
incoming_rate_measured(const Manager *manager, gint64 now_us)
{
    uint64_t rate = 0;
    unsigned count = 0;

    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);

        count += is_incoming(migration) && shows_what_it_takes(migration, now_us);
    }
    if (network_is_shaped(manager->network, SHAPING_INGRESS) &&
        !network_migrations_rate(manager->network, SHAPING_INGRESS, &rate))
        return UINT64_MAX;
    return rate / MAX(count, 1);
}

static void
fill_incoming(const Manager *manager, const Migration *migration, ScheduleIncoming *incoming)
{
    TrafficRates rates = network_host_rates(manager->network);

    *incoming = (ScheduleIncoming){ .source = migration->source_host };
    fill_schedule_item(manager, migration, &incoming->item);
    incoming->item.available = planner_subtract(network_usable_rate(manager->network), rates.in);
    if (migration->peer_known && migration->peer.technique_set)
        incoming->item.technique = migration->peer.technique;
    incoming->item.relief = 0;
    incoming->item.stream_rate = incoming_streams_rate(manager, migration);
    incoming->item.ending = false; /* libvirt has no statistics of an incoming job */
}

/* Asked every second and whenever anything changes; only what is new is worth a line. */
static void
record_admission(const Manager *manager, Migration *migration, const AdmitInput *input,
                 ScheduleReason reason)
{
    const char *text = schedule_reason_to_string(reason);
    Recording recording = {
        .kind = RECORDING_ADMIT,
        .wall_us = g_get_real_time(),
        .about = migration->name,
        .admit = { *input, { reason } },
    };

    if (g_strcmp0(migration->schedule_reason, text) == 0)
        return;
    g_free(migration->schedule_reason);
    migration->schedule_reason = g_strdup(text);
    recorder_add(manager->recorder, &recording);
}

Migration *
planner_admit_incoming(Manager *manager)
{
    g_autofree ScheduleIncoming *running = g_new0(ScheduleIncoming, manager->migrations->len);
    g_autofree ScheduleIncoming *ahead = g_new0(ScheduleIncoming, manager->migrations->len);
    AdmitInput input = {
        .running = running,
        .ahead = ahead,
        .params = schedule_params_default(),
    };
    Migration *first = NULL;
    gint64 now_us = g_get_monotonic_time();
    uint64_t measured = incoming_rate_measured(manager, now_us);

    input.params.scheduling = manager->config->scheduling;
    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);
        ScheduleItem *item = &running[input.running_count].item;

        if (!is_incoming(migration))
            continue;
        fill_incoming(manager, migration, &running[input.running_count++]);
        /* Its stream can carry more: that is the next one's to take. 0 would fill any link. */
        if (shows_what_it_takes(migration, now_us))
            item->stream_rate = MAX(MIN(measured, item->stream_rate), 1);
    }
    for (guint i = 0; i < manager->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(manager->migrations, i);
        ScheduleReason reason;

        if (migration->machine.role != MIGRATION_ROLE_DESTINATION ||
            migration->machine.state != MIGRATION_WAITING)
            continue;
        fill_incoming(manager, migration, &input.candidate);
        reason = schedule_admit(&input.candidate, running, input.running_count, ahead,
                                input.ahead_count, &input.params);
        record_admission(manager, migration, &input, reason);
        ahead[input.ahead_count++] = input.candidate;
        /* First come, first in among equals: the array is in that order. */
        if (schedule_reason_is_start(reason) &&
            (first == NULL || migration->priority > first->priority))
            first = migration;
    }
    return first;
}

/*
 * The time that is predicted for it, from now to its last page: what comes then, until
 * libvirt has confirmed, leaves the link free. What remains of it has zero pages,
 * further passes, and what finished migrations taught in it as everywhere else.
 */
static void
fill_predicted(const Migration *migration, gint64 now_us, uint64_t rate, RemainingInput *input)
{
    const TechniqueDecision *decision = &migration->decision;
    const Forecast *forecast = &migration->forecast;

    if (input->moves) {
        input->predicted = forecast->valid;
        input->seconds = forecast->prediction.total_seconds - forecast->correction.overhead -
                         (double)(now_us - migration->running_us) / 1e6;
        input->rate = rate;
    } else if (migration->has_decision) {
        input->predicted = true;
        input->seconds =
            decision->prediction[decision->technique].total_seconds - migration->overhead;
        input->rate =
            decision->technique == TECHNIQUE_POST_COPY ? decision->rate_post : decision->rate_pre;
    }
}

/* rate: bytes/s that one of those that run now gets of the link. */
static void
fill_plan_item(const Manager *manager, const Migration *migration, gint64 now_us, uint64_t rate,
               SchedulePlanItem *item)
{
    RemainingInput remaining = {
        .moves = migration->running_us != 0,
        .streams = planner_streams_rate(manager, migration),
        .left = migration->statistics.valid ? migration->statistics.memory_remaining : 0,
        .unscanned = migration->forecast.technique == TECHNIQUE_POST_COPY,
        .post_copy = migration->machine.state == MIGRATION_POST_COPY,
        .memory = migration->description != NULL ? migration->description->current_memory : 0,
    };
    bool again;

    *item = (SchedulePlanItem){
        .destination = SCHEDULE_NO_LINK,
        .running = migration->machine.state != MIGRATION_WAITING,
    };
    fill_schedule_item(manager, migration, &item->item);
    item->item.link = 0;
    item->item.gathering = false; /* a moment, and over by the time that anybody asks */
    fill_predicted(migration, now_us, rate, &remaining);
    item->bytes = remaining_bytes(&remaining, &again);
    item->dirty_rate = again ? migration->dirty_rate : 0;
}

void
planner_estimate_starts(Manager *manager)
{
    g_autofree SchedulePlanItem *items = g_new0(SchedulePlanItem, SCHEDULE_ITEMS_MAX);
    g_autofree SchedulePlanned *planned = g_new0(SchedulePlanned, SCHEDULE_ITEMS_MAX);
    g_autoptr(GPtrArray) planned_migrations = g_ptr_array_new();
    ScheduleParams params = params_configured(manager);
    TrafficRates rates = network_host_rates(manager->network);
    uint64_t usable = network_usable_rate(manager->network);
    SchedulePlanLink link = {
        .known = rates.valid && usable != 0,
        .rate = planner_subtract(usable, rates.out),
        .link_rate = usable,
    };
    uint64_t running = MAX(planner_count(manager, SHAPING_EGRESS), 1);
    gint64 now_us = g_get_monotonic_time();

    for (guint i = 0; i < manager->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(manager->migrations, i);

        if (migration->machine.role != MIGRATION_ROLE_SOURCE || !migration_is_active(migration) ||
            migration_may_not_end(migration) || planned_migrations->len >= SCHEDULE_ITEMS_MAX)
            continue;
        link.rate = MIN(link.rate, free_towards(manager, migration));
        g_ptr_array_add(planned_migrations, migration);
    }
    for (guint i = 0; i < planned_migrations->len; i++)
        fill_plan_item(manager, g_ptr_array_index(planned_migrations, i), now_us,
                       link.rate / running, &items[i]);
    if (!schedule_plan(items, planned_migrations->len, &link, 1, &params, planned))
        return;
    for (guint i = 0; i < planned_migrations->len; i++) {
        Migration *migration = g_ptr_array_index(planned_migrations, i);
        double turn = schedule_turn(planned[i].start, manager->prepare_seconds, &params);

        /* Years are no estimate. */
        migration->start_expected_us = planned[i].start_known && turn < START_EXPECTED_MAXIMUM
                                           ? now_us + (gint64)(turn * 1e6)
                                           : 0;
    }
}
