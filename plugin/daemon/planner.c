/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a decision about one migration is made from, and its rate to come; see planner.h. */
#include "daemon/planner-private.h"

#include <string.h>

/* A destination that sends at this part of its link delays what comes in. */
#define REVERSE_FULL_PERCENT 95

uint64_t
planner_bytes_of_mib(uint64_t mib)
{
    return MIN(mib, UINT64_MAX >> 20) << 20;
}

uint64_t
planner_subtract(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static TrafficRates
rates_without(TrafficRates all, TrafficRates part)
{
    if (all.valid && part.valid) {
        all.in = planner_subtract(all.in, part.in);
        all.out = planner_subtract(all.out, part.out);
    }
    return all;
}

bool
planner_is_on_side(const Migration *migration, ShapingDirection direction)
{
    return migration_is_transferring(migration) && migration_direction(migration) == direction &&
           migration->leaf != 0;
}

unsigned
planner_count(const Manager *manager, ShapingDirection direction)
{
    unsigned count = 0;

    for (guint i = 0; i < manager->migrations->len; i++) {
        if (planner_is_on_side(g_ptr_array_index(manager->migrations, i), direction))
            count++;
    }
    return count;
}

/* Zero pages hardly cost anything; what was never touched is not resident. */
static uint64_t
planner_memory(const Manager *manager, const Migration *migration)
{
    uint64_t limit = migration->description->current_memory;

    /* Huge pages are among the obstacles, and are not counted as resident. */
    if (migration->description->post_copy_obstacle != NULL)
        return limit;
    return experience_memory(manager->experience, migration->uuid, migration->resident, limit);
}

static bool
reverse_is_full(const Migration *migration)
{
    uint64_t link = migration->peer.link_rate;

    return migration->peer_known && migration->peer.host.valid && link != 0 &&
           migration->peer.host.out >= link / 100 * REVERSE_FULL_PERCENT;
}

uint64_t
planner_streams_rate(const Manager *manager, const Migration *migration)
{
    uint64_t count = MAX(MAX(migration->parallel, migration->parallel_proposed), 1);
    uint64_t stream = manager_stream_rate(manager, migration);

    return stream > UINT64_MAX / count ? UINT64_MAX : stream * count;
}

static uint64_t
stricter(uint64_t limit, uint64_t other)
{
    return limit == 0 || (other != 0 && other < limit) ? other : limit;
}

/* What planner_rate_profile() bounds a migration by, for each technique that it may get. */
static void
fill_limits(const Manager *manager, const Migration *migration, TechniqueInput *input)
{
    uint64_t stream = manager_stream_rate(manager, migration);
    uint64_t pre = planner_bytes_of_mib(migration->user_bandwidth_mib);
    uint64_t post = planner_bytes_of_mib(migration->user_post_copy_bandwidth_mib);
    uint64_t streams = planner_streams_rate(manager, migration);

    /* Nothing is agreed on yet: pre-copy gets as many as it needs. */
    if (!migration->parallel_settled && manager->config->parallel_connections != PARALLEL_NEVER &&
        !migration->tunnelled)
        streams = 0;
    input->limit_pre[TECHNIQUE_PRE_COPY] = stricter(pre, streams);
    input->limit_pre[TECHNIQUE_HYBRID] = stricter(pre, stream);
    input->limit_post = stricter(post, stream);
}

/*
 * Learnt of whole migrations: of one whose first pass is over only what moving
 * memory costs is left to correct.
 */
static void
fill_corrections(const Manager *manager, const Migration *migration, TechniqueInput *input)
{
    const Calibration *calibration = experience_calibration(manager->experience);
    uint64_t pair = manager_pair(manager, migration);

    if (calibration->count == 0)
        return;
    input->calibrated = true;
    input->reverse_full = reverse_is_full(migration);
    for (unsigned i = 0; i < TECHNIQUE_COUNT; i++) {
        input->correction[i] = calibration_for(calibration, pair, (Technique)i);
        if (migration->machine.iteration >= 2)
            input->correction[i].overhead = 0;
    }
}

/* Bytes/s that the classes of both ends guarantee it beside those that leave now; 0 unknown. */
static uint64_t
guaranteed_rate(const Manager *manager, const Migration *migration)
{
    Reservation here;
    Reservation there;

    if (!manager_reserve(manager, SHAPING_EGRESS, migration, &here))
        return 0;
    if (!planner_reserve_there(manager, migration, &there))
        return here.leaf[migration->priority].rate;
    return MIN(here.leaf[migration->priority].rate, there.leaf[migration->priority].rate);
}

void
planner_technique_input(const Manager *manager, Migration *migration, TechniqueInput *ret_input)
{
    TechniqueInput *input = ret_input;

    memset(input, 0, sizeof(*input));
    input->predict = predict_params_default();
    input->priority = migration->priority;
    input->allowed = migration->allowed;
    input->has_previous = migration->has_decision;
    input->previous = migration->decision.technique;
    memcpy(input->excluded, migration->excluded, sizeof(input->excluded));
    if (migration->description != NULL) {
        input->vm = network_vm_rates(manager->network, migration->description);
        input->memory = planner_memory(manager, migration);
    }
    input->predict.downtime_limit_ms = manager_maximum_downtime(manager, migration);
    if (migration->statistics.valid && migration->statistics.memory_total != 0)
        input->memory = migration->machine.iteration >= 2
                            ? migration->statistics.memory_remaining
                            : MIN(input->memory ? input->memory : UINT64_MAX,
                                  migration->statistics.memory_total);
    input->source = rates_without(network_host_rates(manager->network), input->vm);
    input->source_link = network_usable_rate(manager->network);
    /* Without classes its own traffic is among the host's. */
    if (migration->statistics.valid && !network_is_shaped(manager->network, SHAPING_EGRESS))
        input->source.out = planner_subtract(input->source.out, migration->statistics.throughput);
    if (migration->peer_known) {
        input->destination = migration->peer.host;
        input->destination_link = migration->peer.link_rate;
    }
    migration->source_class =
        classify_traffic(&input->source, input->source_link, migration->source_class, NULL);
    migration->vm_class =
        classify_traffic(&input->vm, input->source_link, migration->vm_class, NULL);
    migration->peer_class =
        classify_traffic(&input->destination, input->destination_link, migration->peer_class, NULL);
    input->source_class = migration->source_class;
    input->vm_class = migration->vm_class;
    input->destination_class = migration->peer_class;
    input->dirty = migration->dirty;
    input->guaranteed = guaranteed_rate(manager, migration);
    fill_limits(manager, migration, input);
    fill_corrections(manager, migration, input);
}

/* Another migration that leaves now. */
typedef struct {
    double end;  /* seconds until it is expected to end */
    bool before; /* it has the bandwidth of both until then: see AllocateTurn */
    bool after;
} Other;

static int
compare_ends(gconstpointer left, gconstpointer right)
{
    double a = ((const Other *)left)->end;
    double b = ((const Other *)right)->end;

    return (a > b) - (a < b);
}

/* Seconds until it is expected to end, beside as many as now; PREDICT_SECONDS_MAX: unknown. */
static double
expected_end(const Manager *manager, const Migration *migration, const AllocateItem *item,
             gint64 now_us)
{
    const TechniqueDecision *decision = &migration->decision;
    const Forecast *forecast = &migration->forecast;
    double rate = (double)MAX(decision->available_pre, decision->rate_pre);

    /* From its last page on the link is free, though its call has not returned. */
    if (forecast->valid)
        return forecast->prediction.total_seconds - forecast->correction.overhead -
               (double)(now_us - migration->running_us) / 1e6;
    /* Typed together: the other's forecast is yet to come. */
    if (!migration->has_decision || rate <= 0)
        return PREDICT_SECONDS_MAX;
    return MIN((double)item->volume * MAX(planner_count(manager, SHAPING_EGRESS), 1) / rate,
               PREDICT_SECONDS_MAX);
}

/* The other migrations that leave now, by when they end. */
static GArray *
others_of(const Manager *manager, const Migration *migration, gint64 now_us)
{
    AllocateItem item = planner_allocation_item(manager, migration, now_us);
    GArray *others = g_array_new(FALSE, FALSE, sizeof(Other));

    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *each = g_ptr_array_index(manager->migrations, i);
        AllocateItem other_item;
        Other other;

        if (each == migration || !planner_is_on_side(each, SHAPING_EGRESS))
            continue;
        other_item = planner_allocation_item(manager, each, now_us);
        other.before = allocate_waits_for(&item, &other_item);
        other.after = allocate_waits_for(&other_item, &item);
        /* One that is late ends soon. */
        other.end = MAX(expected_end(manager, each, &other_item, now_us), 1.0);
        g_array_append_val(others, other);
    }
    g_array_sort(others, compare_ends);
    return others;
}

/*
 * What it has while those from `first` on are there, where even shares are `share`. What
 * waits for its turn hands its share over, but for a little.
 */
static double
rate_held(const GArray *others, guint first, double share)
{
    double held = share;

    for (guint i = first; i < others->len; i++) {
        const Other *other = &g_array_index(others, Other, i);

        if (other->before)
            return allocate_kept(share);
        if (other->after)
            held += share - allocate_kept(share);
    }
    return held;
}

RateProfile
planner_rate_profile(const Manager *manager, const Migration *migration, bool post_copy)
{
    const TechniqueDecision *decision = &migration->decision;
    g_autoptr(GArray) others = others_of(manager, migration, g_get_monotonic_time());
    double free_rate = (double)(post_copy ? decision->available_post : decision->available_pre);
    double guaranteed = (double)(post_copy ? decision->rate_post : decision->rate_pre);
    uint64_t user =
        post_copy ? migration->user_post_copy_bandwidth_mib : migration->user_bandwidth_mib;
    /* Post-copy has one connection. */
    uint64_t streams = post_copy ? manager_stream_rate(manager, migration)
                                 : planner_streams_rate(manager, migration);
    bool full = reverse_is_full(migration);
    RateProfile profile = { 0 };

    for (guint i = 0; i <= others->len; i++) {
        double beside = others->len - i;
        double rate = rate_held(others, i, MAX(free_rate, guaranteed) / (1.0 + beside));

        /* Its guarantee was divided among those that are there now. */
        if (free_rate < guaranteed)
            rate = MIN(rate_held(others, i, guaranteed * (1.0 + others->len) / (1.0 + beside)),
                       (double)network_usable_rate(manager->network));
        if (user != 0)
            rate = MIN(rate, (double)user * 1048576.0);
        if (streams != 0)
            rate = MIN(rate, (double)streams);
        rate_profile_add(
            &profile, i < others->len ? g_array_index(others, Other, i).end : PREDICT_SECONDS_MAX,
            rate, full);
    }
    return profile;
}
