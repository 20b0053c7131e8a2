/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inputs for decision/ and plans for shaping/; see planner.h. */
#include "daemon/planner.h"

#include <netinet/in.h>
#include <string.h>

#define SLA_HEADROOM_PERCENT 6

static uint64_t
subtract(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/*
 * An SLA limit is what an application may count on in every second. A class
 * counts Ethernet, IP and TCP headers too (66 of 1514 bytes), and holds its rate
 * on average only: a class of exactly the limit gives a little less.
 */
static uint64_t
rate_with_headroom(uint64_t rate)
{
    uint64_t headroom = rate / 100 * SLA_HEADROOM_PERCENT;

    return rate > UINT64_MAX - headroom ? UINT64_MAX : rate + headroom;
}

static TrafficRates
rates_without(TrafficRates all, TrafficRates part)
{
    if (all.valid && part.valid) {
        all.in = subtract(all.in, part.in);
        all.out = subtract(all.out, part.out);
    }
    return all;
}

static bool
is_on_side(const Migration *migration, ShapingDirection direction)
{
    return migration_is_transferring(migration) && migration_direction(migration) == direction &&
           migration->leaf != 0;
}

unsigned
planner_count(const Manager *manager, ShapingDirection direction)
{
    unsigned count = 0;

    for (guint i = 0; i < manager->migrations->len; i++) {
        if (is_on_side(g_ptr_array_index(manager->migrations, i), direction))
            count++;
    }
    return count;
}

/* A VM on its way in counts where it still runs; in post-copy it runs here. */
static bool
limits_count_here(const DomainDescription *description, gpointer data)
{
    const Manager *manager = data;
    const Migration *incoming =
        manager_find(manager, MIGRATION_ROLE_DESTINATION, description->uuid, NULL);

    return incoming == NULL || incoming->machine.state == MIGRATION_POST_COPY;
}

bool
manager_reserve(Manager *manager, ShapingDirection direction, const Migration *joining,
                Reservation *ret_reservation)
{
    ReserveInput input = reserve_input_init();
    TrafficRates rates = network_host_rates(manager->network);

    input.link = network_usable_rate(manager->network);
    input.floor_percent = manager->config->low_priority_floor_percent;
    input.minimum_workload_percent = manager->config->minimum_workload_percent;
    registry_sum_limits(manager->registry, limits_count_here, manager, &input.lower, &input.upper);
    input.lower = rate_with_headroom(input.lower);
    if (!manager->side[direction].held_valid && rates.valid) {
        manager->side[direction].held = direction == SHAPING_EGRESS ? rates.out : rates.in;
        manager->side[direction].held_valid = true;
        manager->side[direction].followed_us = g_get_monotonic_time();
    }
    input.demand_valid = manager->side[direction].held_valid;
    input.demand = manager->side[direction].held;
    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);

        if (!is_on_side(migration, direction) && migration != joining)
            continue;
        input.count[migration->priority]++;
        if (migration->priority == PRIORITY_LOW && migration->dirty_rate != 0) {
            input.dirty_valid = true;
            input.dirty_rate = MAX(input.dirty_rate, migration->dirty_rate);
        }
    }
    return reserve_divide(&input, ret_reservation);
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

void
planner_technique_input(const Manager *manager, Migration *migration, TechniqueInput *ret_input)
{
    TechniqueInput *input = ret_input;
    Reservation reservation;

    memset(input, 0, sizeof(*input));
    input->predict = predict_params_default();
    input->priority = migration->priority;
    input->allowed = migration->allowed;
    memcpy(input->excluded, migration->excluded, sizeof(input->excluded));
    if (migration->description != NULL) {
        input->vm = network_vm_rates(manager->network, migration->description);
        input->memory = planner_memory(manager, migration);
        input->predict.downtime_limit_ms = migration->description->metadata.maximum_downtime;
    }
    if (migration->statistics.valid && migration->statistics.memory_total != 0)
        input->memory = migration->machine.iteration >= 2
                            ? migration->statistics.memory_remaining
                            : MIN(input->memory ? input->memory : UINT64_MAX,
                                  migration->statistics.memory_total);
    input->source = rates_without(network_host_rates(manager->network), input->vm);
    input->source_link = network_usable_rate(manager->network);
    if (migration->peer_known) {
        input->destination = migration->peer.host;
        input->destination_link = migration->peer.link_rate;
    }
    input->source_class =
        classify_traffic(&input->source, input->source_link, manager->host_class, NULL);
    migration->vm_class =
        classify_traffic(&input->vm, input->source_link, migration->vm_class, NULL);
    migration->peer_class =
        classify_traffic(&input->destination, input->destination_link, migration->peer_class, NULL);
    input->vm_class = migration->vm_class;
    input->destination_class = migration->peer_class;
    input->dirty = migration->dirty;
    if (manager_reserve((Manager *)manager, SHAPING_EGRESS, migration, &reservation))
        input->guaranteed = reservation.leaf[migration->priority].rate;
}

/* A destination that sends at this part of its link delays what comes in. */
#define REVERSE_FULL_PERCENT 95

static bool
reverse_is_full(const Migration *migration)
{
    uint64_t link = migration->peer.link_rate;

    return migration->peer_known && migration->peer.host.valid && link != 0 &&
           migration->peer.host.out >= link / 100 * REVERSE_FULL_PERCENT;
}

static int
compare_seconds(gconstpointer left, gconstpointer right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;

    return (a > b) - (a < b);
}

/* Seconds until each of the other migrations that leave now is expected to end, ascending. */
static GArray *
others_end(const Manager *manager, const Migration *migration, gint64 now_us)
{
    GArray *ends = g_array_new(FALSE, FALSE, sizeof(double));

    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *other = g_ptr_array_index(manager->migrations, i);
        double left;

        if (other == migration || !is_on_side(other, SHAPING_EGRESS))
            continue;
        left =
            other->forecast.prediction.total_seconds - (double)(now_us - other->running_us) / 1e6;
        /* One without a forecast stays; one that is late ends soon. */
        if (!other->forecast.valid)
            left = PREDICT_SECONDS_MAX;
        left = MAX(left, 1.0);
        g_array_append_val(ends, left);
    }
    g_array_sort(ends, compare_seconds);
    return ends;
}

RateProfile
planner_rate_profile(const Manager *manager, const Migration *migration, bool post_copy)
{
    const TechniqueDecision *decision = &migration->decision;
    g_autoptr(GArray) ends = others_end(manager, migration, g_get_monotonic_time());
    double free_rate = (double)(post_copy ? decision->available_post : decision->available_pre);
    double guaranteed = (double)(post_copy ? decision->rate_post : decision->rate_pre);
    uint64_t user =
        post_copy ? migration->user_post_copy_bandwidth_mib : migration->user_bandwidth_mib;
    bool full = reverse_is_full(migration);
    RateProfile profile = { 0 };

    for (guint i = 0; i <= ends->len; i++) {
        double beside = ends->len - i;
        /* Its guarantee was divided among those that are there now. */
        double rate = MAX(free_rate, guaranteed) / (1.0 + beside);

        if (free_rate < guaranteed)
            rate = MIN(guaranteed * (1.0 + ends->len) / (1.0 + beside),
                       (double)network_usable_rate(manager->network));
        if (user != 0)
            rate = MIN(rate, (double)user * 1048576.0);
        rate_profile_add(&profile,
                         i < ends->len ? g_array_index(ends, double, i) : PREDICT_SECONDS_MAX, rate,
                         full);
    }
    return profile;
}

static void
fill_matches(const Manager *manager, const Migration *migration, ShapingMigration *leaf)
{
    static const uint16_t tunnel_ports[] = { 16509, 16514, 22 };
    bool outgoing = migration->machine.role == MIGRATION_ROLE_SOURCE;
    guint addresses = MAX(migration->peer_addresses->len, 1);

    for (guint i = 0; i < addresses; i++) {
        FlowAddress any = { .family = AF_UNSPEC };
        FlowAddress peer = migration->peer_addresses->len != 0
                               ? g_array_index(migration->peer_addresses, FlowAddress, i)
                               : any;
        FlowMatch match = outgoing ? flow_match_default(any, peer) : flow_match_default(peer, any);

        match.port_low = (uint16_t)(migration->port_first ? migration->port_first
                                                          : manager->config->migration_port_first);
        match.port_high = (uint16_t)(migration->port_last ? migration->port_last
                                                          : manager->config->migration_port_last);
        if (leaf->match_count < SHAPING_MATCHES_MAX)
            leaf->matches[leaf->match_count++] = match;
        for (size_t j = 0; migration->tunnelled && j < G_N_ELEMENTS(tunnel_ports); j++) {
            match.port_low = match.port_high = tunnel_ports[j];
            if (leaf->match_count < SHAPING_MATCHES_MAX)
                leaf->matches[leaf->match_count++] = match;
        }
    }
}

void
planner_fill_plan(const Manager *manager, ShapingDirection direction,
                  const Reservation *reservation, ShapingPlan *plan)
{
    plan->workload = (ShapingClass){ reservation->workload.rate, reservation->workload.ceil,
                                     reservation->workload.prio };
    plan->migrations = (ShapingClass){ reservation->migration.rate, reservation->migration.ceil,
                                       reservation->migration.prio };
    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);
        ShapingMigration *leaf;

        if (!is_on_side(migration, direction) || plan->migration_count >= SHAPING_MIGRATIONS_MAX)
            continue;
        leaf = &plan->migration[plan->migration_count++];
        leaf->id = migration->leaf;
        leaf->rate = reservation->leaf[migration->priority].rate;
        leaf->ceil = reservation->leaf[migration->priority].ceil;
        fill_matches(manager, migration, leaf);
    }
}

static bool
class_differs(const ReserveClass *a, const ReserveClass *b, uint64_t tolerance)
{
    uint64_t rate = a->rate > b->rate ? a->rate - b->rate : b->rate - a->rate;
    uint64_t ceil = a->ceil > b->ceil ? a->ceil - b->ceil : b->ceil - a->ceil;

    return rate > tolerance || ceil > tolerance || a->prio != b->prio;
}

bool
planner_reservation_differs(const Reservation *a, const Reservation *b, uint64_t link)
{
    uint64_t tolerance = link / 50;

    if (class_differs(&a->workload, &b->workload, tolerance) ||
        class_differs(&a->migration, &b->migration, tolerance))
        return true;
    for (size_t i = 0; i < G_N_ELEMENTS(a->leaf); i++) {
        if (class_differs(&a->leaf[i], &b->leaf[i], tolerance))
            return true;
    }
    return false;
}

bool
planner_qemu_limits(Manager *manager, const Migration *migration, ReserveQemuLimits *ret_limits)
{
    ShapingDirection direction = migration_direction(migration);
    ReserveQemuLimits limits;

    if (!manager->side[direction].has_reservation)
        return false;
    limits = reserve_qemu_limits(&manager->side[direction].reservation, migration->priority,
                                 network_is_shaped(manager->network, direction));
    if (migration->user_bandwidth_mib != 0)
        limits.post_copy = MIN(limits.post_copy, migration->user_bandwidth_mib);
    *ret_limits = limits;
    return true;
}

static void
fill_schedule_item(const Manager *manager, const Migration *migration, ScheduleItem *item)
{
    const Uplink *uplink = network_uplink(manager->network);
    TrafficRates rates = network_host_rates(manager->network);
    const Prediction *prediction = &migration->decision.prediction[migration->decision.technique];

    *item = (ScheduleItem){
        .id = migration->ticket,
        .priority = migration->priority,
        .technique = migration->has_decision ? migration->decision.technique : TECHNIQUE_PRE_COPY,
        .seconds = migration->has_decision ? prediction->total_seconds : 0,
        .stream_rate = manager->config->one_stream_rate,
        .link = uplink ? (uint32_t)uplink->ifindex : 0,
        .link_rate = network_usable_rate(manager->network),
        .available_known = rates.valid,
        .available = subtract(network_usable_rate(manager->network), rates.out),
        .enqueued_us = migration->created_us,
    };
}

GPtrArray *
planner_schedule(Manager *manager)
{
    g_autofree ScheduleItem *waiting = g_new0(ScheduleItem, SCHEDULE_ITEMS_MAX);
    g_autofree ScheduleItem *running = g_new0(ScheduleItem, SCHEDULE_ITEMS_MAX);
    g_autofree ScheduleVerdict *verdicts = g_new0(ScheduleVerdict, SCHEDULE_ITEMS_MAX);
    g_autoptr(GPtrArray) held = g_ptr_array_new();
    GPtrArray *starting = g_ptr_array_new();
    ScheduleParams params = schedule_params_default();
    size_t running_count = 0;

    params.maximum_running = manager->config->maximum_running;
    for (guint i = 0; i < manager->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(manager->migrations, i);

        if (migration->machine.role != MIGRATION_ROLE_SOURCE)
            continue;
        if (migration->machine.state == MIGRATION_WAITING && held->len < SCHEDULE_ITEMS_MAX) {
            fill_schedule_item(manager, migration, &waiting[held->len]);
            g_ptr_array_add(held, migration);
        } else if (migration_is_active(migration) && running_count < SCHEDULE_ITEMS_MAX) {
            fill_schedule_item(manager, migration, &running[running_count++]);
        }
    }
    if (held->len == 0 ||
        !schedule_decide(waiting, held->len, running, running_count, &params, verdicts))
        return starting;
    for (uint32_t rank = 0; rank < held->len; rank++) {
        for (guint i = 0; i < held->len; i++) {
            Migration *migration = g_ptr_array_index(held, i);

            if (verdicts[i].rank != rank)
                continue;
            g_free(migration->schedule_reason);
            migration->schedule_reason = g_strdup(schedule_reason_to_string(verdicts[i].reason));
            if (verdicts[i].start)
                g_ptr_array_add(starting, migration);
        }
    }
    return starting;
}
