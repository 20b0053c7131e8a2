/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inputs for decision/ and plans for shaping/; see planner.h. */
#include "daemon/planner.h"

#include <netinet/in.h>
#include <string.h>

#define SLA_HEADROOM_PERCENT 6
/* Without a limit for it, QEMU stops the guest when this much is left to send. */
#define DOWNTIME_DEFAULT_MS 300
/*
 * Held back from a deadline: libvirt's phases after the last page, and what is left is
 * known up to a second late. A tenth of short deadlines.
 */
#define DEADLINE_RESERVE_MS 1500
/* The destination is not told what is dirtied and left: its share of a deadline is larger. */
#define DESTINATION_MARGIN_PERCENT 25
/* Seconds; what would start later has no known start. */
#define START_EXPECTED_MAXIMUM 1e6

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

/* A VM counts where it runs: that is the destination from the start of post-copy on. */
static bool
limits_count_here(const DomainDescription *description, gpointer data)
{
    const Manager *manager = data;
    const Migration *incoming =
        manager_find(manager, MIGRATION_ROLE_DESTINATION, description->uuid, NULL);
    const Migration *outgoing =
        manager_find(manager, MIGRATION_ROLE_SOURCE, description->uuid, NULL);

    return (incoming == NULL || incoming->machine.state == MIGRATION_POST_COPY) &&
           (outgoing == NULL || outgoing->machine.state != MIGRATION_POST_COPY);
}

bool
planner_time_left(const Migration *migration, gint64 now_us, int64_t *ret_ms)
{
    const DomainMetadata *metadata =
        migration->description != NULL ? &migration->description->metadata : NULL;
    int64_t downtime;
    int64_t passed = 0;

    if (metadata == NULL || metadata->deadline == 0)
        return false;
    downtime = metadata->maximum_downtime != 0
                   ? (int64_t)MIN(metadata->maximum_downtime, (uint64_t)G_MAXINT32)
                   : DOWNTIME_DEFAULT_MS;
    if (migration->machine.role == MIGRATION_ROLE_SOURCE)
        passed = (now_us - migration->created_us) / 1000;
    *ret_ms = (int64_t)MIN(metadata->deadline, (uint64_t)G_MAXINT64 / 2) - passed - downtime -
              (int64_t)MIN(metadata->deadline / 10, DEADLINE_RESERVE_MS);
    return true;
}

/*
 * What is left counts with the same headroom as an SLA: classes count headers.
 * libvirt has no statistics at the destination, so that its need is constant:
 * the whole memory within the whole time, and a margin.
 */
static AllocateItem
allocation_item(const Migration *migration, gint64 now_us)
{
    unsigned weight = reserve_weight(migration_shaped_as(migration));
    bool source = migration->machine.role == MIGRATION_ROLE_SOURCE;
    AllocateItem item = { .weight = (double)weight * weight };

    if (source && migration->statistics.valid && migration->statistics.memory_total != 0)
        item.volume = MAX(migration->statistics.memory_remaining, 1);
    else if (migration->description != NULL)
        item.volume = migration->description->current_memory;
    if (!source)
        item.volume += item.volume / 100 * DESTINATION_MARGIN_PERCENT;
    item.volume = rate_with_headroom(item.volume);
    /* Once post-copy runs nothing is sent twice. */
    if (migration->machine.state != MIGRATION_POST_COPY)
        item.dirty_rate = migration->dirty_rate;
    item.deadline_set = planner_time_left(migration, now_us, &item.time_left_ms);
    return item;
}

void
planner_allocate(const Manager *manager, ShapingDirection direction, const Reservation *reservation,
                 AllocateShare ret_shares[SHAPING_MIGRATIONS_MAX + 1])
{
    AllocateItem items[SHAPING_MIGRATIONS_MAX];
    AllocateShare shares[SHAPING_MIGRATIONS_MAX] = { { 0 } };
    unsigned leaves[SHAPING_MIGRATIONS_MAX];
    gint64 now_us = g_get_monotonic_time();
    size_t count = 0;

    G_STATIC_ASSERT((int)ALLOCATE_MAX == (int)SHAPING_MIGRATIONS_MAX);
    memset(ret_shares, 0, (SHAPING_MIGRATIONS_MAX + 1) * sizeof *ret_shares);
    for (guint i = 0; i < manager->migrations->len && count < SHAPING_MIGRATIONS_MAX; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);

        if (!is_on_side(migration, direction))
            continue;
        leaves[count] = migration->leaf;
        items[count++] = allocation_item(migration, now_us);
    }
    if (!allocate_rates(items, count, reservation->migration.rate, shares))
        return;
    for (size_t i = 0; i < count; i++)
        ret_shares[leaves[i]] = shares[i];
}

void
manager_reserve_input(Manager *manager, ShapingDirection direction, const Migration *joining,
                      ReserveInput *ret_input)
{
    ReserveInput input = reserve_input_init();
    TrafficRates rates = network_host_rates(manager->network);
    gint64 now_us = g_get_monotonic_time();
    uint64_t needed = 0;
    bool deadline = false;

    input.link = network_usable_rate(manager->network);
    input.floor_percent = manager->config->low_priority_floor_percent;
    input.minimum_workload_percent = manager->config->minimum_workload_percent;
    registry_sum_limits(manager->registry, limits_count_here, manager, &input.lower, &input.upper);
    input.lower = rate_with_headroom(input.lower);
    if (!manager->side[direction].held_valid && rates.valid) {
        manager->side[direction].held = direction == SHAPING_EGRESS ? rates.out : rates.in;
        manager->side[direction].held_valid = true;
        manager->side[direction].followed_us = now_us;
    }
    input.demand_valid = manager->side[direction].held_valid;
    input.demand = manager->side[direction].held;
    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);
        AllocateReason reason;
        AllocateItem item;
        uint64_t least;

        if (!is_on_side(migration, direction) && migration != joining)
            continue;
        item = allocation_item(migration, now_us);
        least = allocate_least(&item, &reason);
        deadline |= item.deadline_set;
        needed = needed > UINT64_MAX - least ? UINT64_MAX : needed + least;
        input.count[migration_shaped_as(migration)]++;
        if (migration_shaped_as(migration) == PRIORITY_LOW && migration->dirty_rate != 0) {
            input.dirty_valid = true;
            input.dirty_rate = MAX(input.dirty_rate, migration->dirty_rate);
        }
    }
    if (deadline)
        input.deadline_rate = MAX(needed, 1);
    *ret_input = input;
}

bool
manager_reserve(Manager *manager, ShapingDirection direction, const Migration *joining,
                Reservation *ret_reservation)
{
    ReserveInput input;

    manager_reserve_input(manager, direction, joining, &input);
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

static bool
plan_has_mac(const ShapingPlan *plan, const uint8_t mac[SHAPING_MAC_BYTES])
{
    for (unsigned i = 0; i < SHAPING_VMS_MAX; i++) {
        for (unsigned j = 0; j < plan->vm[i].mac_count; j++) {
            if (memcmp(plan->vm[i].macs[j], mac, SHAPING_MAC_BYTES) == 0)
                return true;
        }
    }
    return false;
}

/* Where a MAC occurs twice (on two bridges) the first VM found has it. */
static void
fill_macs(const ShapingPlan *plan, const DomainDescription *description, ShapingVm *vm)
{
    for (guint i = 0; i < description->interfaces->len; i++) {
        const DomainInterface *interface = g_ptr_array_index(description->interfaces, i);
        uint8_t mac[SHAPING_MAC_BYTES];

        if (vm->mac_count < SHAPING_MACS_MAX && shaping_mac_parse(interface->mac, mac) &&
            !plan_has_mac(plan, mac))
            memcpy(vm->macs[vm->mac_count++], mac, sizeof mac);
    }
}

void
planner_fill_floors(const Manager *manager, const Reservation *reservation, ShapingPlan *plan)
{
    g_autoptr(GPtrArray) descriptions = registry_list(manager->registry);

    G_STATIC_ASSERT((int)REGISTRY_CLASSES_MAX == (int)SHAPING_VMS_MAX);
    memset(plan->vm, 0, sizeof plan->vm);
    for (guint i = 0; i < descriptions->len; i++) {
        const DomainDescription *description = g_ptr_array_index(descriptions, i);
        unsigned id = registry_class(manager->registry, description->uuid);
        ShapingVm *vm = id != 0 ? &plan->vm[id - 1] : NULL;

        if (vm == NULL || !limits_count_here(description, (gpointer)manager))
            continue;
        fill_macs(plan, description, vm);
        vm->id = id;
        vm->rate = MIN(rate_with_headroom(description->metadata.sla_lower), SHAPING_RATE_MAX);
        vm->ceil = reservation->workload.ceil;
    }
    plan->vm_count = 0;
    for (unsigned i = 0; i < SHAPING_VMS_MAX; i++) {
        if (plan->vm[i].mac_count != 0)
            memmove(&plan->vm[plan->vm_count++], &plan->vm[i], sizeof plan->vm[i]);
    }
    memset(&plan->vm[plan->vm_count], 0, (SHAPING_VMS_MAX - plan->vm_count) * sizeof plan->vm[0]);
}

guint
planner_floors_stamp(const ShapingPlan *plan)
{
    g_autoptr(GBytes) bytes = g_bytes_new_static(plan->vm, sizeof plan->vm);

    return g_bytes_hash(bytes);
}

void
planner_fill_plan(const Manager *manager, ShapingDirection direction,
                  const Reservation *reservation, ShapingPlan *plan)
{
    AllocateShare shares[SHAPING_MIGRATIONS_MAX + 1];

    planner_allocate(manager, direction, reservation, shares);
    plan->workload = (ShapingClass){ reservation->workload.rate, reservation->workload.ceil,
                                     reservation->workload.prio };
    plan->migrations = (ShapingClass){ reservation->migration.rate, reservation->migration.ceil,
                                       reservation->migration.prio };
    planner_fill_floors(manager, reservation, plan);
    for (guint i = 0; i < manager->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(manager->migrations, i);
        ShapingMigration *leaf;

        if (!is_on_side(migration, direction) || plan->migration_count >= SHAPING_MIGRATIONS_MAX)
            continue;
        leaf = &plan->migration[plan->migration_count++];
        leaf->id = migration->leaf;
        migration->share = shares[migration->leaf];
        leaf->rate = migration->share.rate;
        leaf->ceil = reservation->leaf[migration_shaped_as(migration)].ceil;
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
planner_shares_differ(const Manager *manager, ShapingDirection direction,
                      const Reservation *reservation)
{
    uint64_t tolerance = network_usable_rate(manager->network) / 50;
    AllocateShare shares[SHAPING_MIGRATIONS_MAX + 1];

    planner_allocate(manager, direction, reservation, shares);
    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);
        uint64_t now = shares[migration->leaf].rate;

        if (is_on_side(migration, direction) &&
            (now > migration->share.rate + tolerance || now + tolerance < migration->share.rate))
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
    limits =
        reserve_qemu_limits(&manager->side[direction].reservation, migration_shaped_as(migration),
                            network_is_shaped(manager->network, direction));
    if (migration->user_bandwidth_mib != 0)
        limits.post_copy = MIN(limits.post_copy, migration->user_bandwidth_mib);
    *ret_limits = limits;
    return true;
}

/* Its memory will have moved by the time that another one has prepared. */
static bool
is_ending(const Manager *manager, const Migration *migration)
{
    const JobStatistics *statistics = &migration->statistics;
    bool post_copy = migration->machine.state == MIGRATION_POST_COPY;
    double age = (double)(g_get_monotonic_time() - migration->statistics_us) / 1e6;
    double left;

    if (!migration_is_transferring(migration) || !statistics->valid || !statistics->active)
        return false;
    left =
        schedule_seconds_left(statistics->memory_remaining, statistics->throughput,
                              post_copy ? 0 : MAX(migration->dirty_rate, statistics->dirty_rate));
    return left >= 0 && left < age + manager->prepare_seconds;
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
        input.source_free = subtract(input.source_link, host.out);
    }
    if (migration->peer_known && migration->peer.host.valid) {
        input.destination_link = migration->peer.link_rate;
        input.destination_free = subtract(input.destination_link, migration->peer.host.in);
    }
    return schedule_relief(&input);
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
        .relief = relief_of(manager, migration),
        .ending = is_ending(manager, migration),
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
    bool changed = false;

    params.scheduling = manager->config->scheduling;
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
                                                          .input = { held->len, running_count,
                                                                     waiting, running, params },
                                                          .decision = { held->len, verdicts },
                                                      } });
    return starting;
}

static void
fill_incoming(const Manager *manager, const Migration *migration, ScheduleIncoming *incoming)
{
    TrafficRates rates = network_host_rates(manager->network);

    *incoming = (ScheduleIncoming){ .source = migration->source_host };
    fill_schedule_item(manager, migration, &incoming->item);
    incoming->item.available = subtract(network_usable_rate(manager->network), rates.in);
    if (migration->peer_known && migration->peer.technique_set)
        incoming->item.technique = migration->peer.technique;
    incoming->item.relief = 0;
    incoming->item.ending = false; /* libvirt has no statistics of an incoming job */
}

Migration *
planner_admit_incoming(Manager *manager)
{
    g_autofree ScheduleIncoming *running = g_new0(ScheduleIncoming, manager->migrations->len);
    ScheduleParams params = schedule_params_default();
    Migration *first = NULL;
    size_t running_count = 0;

    params.scheduling = manager->config->scheduling;
    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);

        if (migration->machine.role == MIGRATION_ROLE_DESTINATION &&
            migration_is_active(migration) && migration->machine.state != MIGRATION_WAITING)
            fill_incoming(manager, migration, &running[running_count++]);
    }
    for (guint i = 0; i < manager->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(manager->migrations, i);
        ScheduleIncoming incoming;
        ScheduleReason reason;

        if (migration->machine.role != MIGRATION_ROLE_DESTINATION ||
            migration->machine.state != MIGRATION_WAITING)
            continue;
        fill_incoming(manager, migration, &incoming);
        reason = schedule_admit(&incoming, running, running_count, &params);
        g_free(migration->schedule_reason);
        migration->schedule_reason = g_strdup(schedule_reason_to_string(reason));
        /* First come, first in among equals: the array is in that order. */
        if (schedule_reason_is_start(reason) &&
            (first == NULL || migration->priority > first->priority))
            first = migration;
    }
    return first;
}

static void
fill_plan_item(const Manager *manager, const Migration *migration, SchedulePlanItem *item)
{
    *item = (SchedulePlanItem){
        .destination = SCHEDULE_NO_LINK,
        .running = migration->machine.state != MIGRATION_WAITING,
        .dirty_rate = migration->machine.state == MIGRATION_POST_COPY ? 0 : migration->dirty_rate,
    };
    fill_schedule_item(manager, migration, &item->item);
    item->item.link = 0;
    if (migration->statistics.valid && migration->statistics.memory_remaining != 0)
        item->bytes = migration->statistics.memory_remaining;
    else if (migration->description != NULL)
        item->bytes = migration->description->current_memory;
}

void
planner_estimate_starts(Manager *manager)
{
    g_autofree SchedulePlanItem *items = g_new0(SchedulePlanItem, SCHEDULE_ITEMS_MAX);
    g_autofree SchedulePlanned *planned = g_new0(SchedulePlanned, SCHEDULE_ITEMS_MAX);
    g_autoptr(GPtrArray) planned_migrations = g_ptr_array_new();
    ScheduleParams params = schedule_params_default();
    TrafficRates rates = network_host_rates(manager->network);
    uint64_t usable = network_usable_rate(manager->network);
    SchedulePlanLink link = {
        .known = rates.valid && usable != 0,
        .rate = subtract(usable, rates.out),
        .link_rate = usable,
    };
    gint64 now_us = g_get_monotonic_time();

    params.scheduling = manager->config->scheduling;
    params.maximum_running = manager->config->maximum_running;
    for (guint i = 0; i < manager->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(manager->migrations, i);

        if (migration->machine.role != MIGRATION_ROLE_SOURCE || !migration_is_active(migration) ||
            planned_migrations->len >= SCHEDULE_ITEMS_MAX)
            continue;
        fill_plan_item(manager, migration, &items[planned_migrations->len]);
        g_ptr_array_add(planned_migrations, migration);
    }
    if (!schedule_plan(items, planned_migrations->len, &link, 1, &params, planned))
        return;
    for (guint i = 0; i < planned_migrations->len; i++) {
        Migration *migration = g_ptr_array_index(planned_migrations, i);

        /* Years are no estimate. */
        migration->start_expected_us =
            planned[i].start_known && planned[i].start < START_EXPECTED_MAXIMUM
                ? now_us + (gint64)(planned[i].start * 1e6)
                : 0;
    }
}
