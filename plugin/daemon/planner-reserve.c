/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a direction is divided, and a single migration's share and deadline; see planner.h. */
#include "daemon/planner-private.h"

#include <string.h>

/*
 * Ethernet, IP and TCP headers take 5 % of what is sent, and a limit is to hold in each
 * half second, also of connections that lose packets on a host without a free processor:
 * with 8 % the worst second of 10000 was a thousandth below it.
 */
#define SLA_HEADROOM_PERCENT 10
/*
 * What has no class of its own lives beside the VMs' lower limits: the host itself, storage,
 * libvirt's own connections, which give up after half a minute without a word.
 */
#define REST_PERCENT 1
/* Without a limit for it, QEMU stops the guest when this much is left to send. */
#define DOWNTIME_DEFAULT_MS 300
/*
 * Held back from a deadline: libvirt's phases after the last page, and what is left is
 * known up to a second late. A tenth of short deadlines.
 */
#define DEADLINE_RESERVE_MS 1500
/*
 * In its first pass a migration may have less than it dirties for so long, beside those that
 * come first; who always has others before it is to get nearer its end. (A destination is not
 * told of passes: there it is the time alone.)
 */
#define FALL_BEHIND_US (60 * G_USEC_PER_SEC)
/* The destination is not told what is dirtied and left: its share of a deadline is larger. */
#define DESTINATION_MARGIN_PERCENT 25

uint64_t
planner_add_headroom(uint64_t rate)
{
    uint64_t headroom = rate / 100 * SLA_HEADROOM_PERCENT;

    return rate > UINT64_MAX - headroom ? UINT64_MAX : rate + headroom;
}

/* What lower limits that add up to lower take of a link, as the classes have it. */
static uint64_t
lower_limits_with_rest(uint64_t lower, uint64_t link)
{
    if (lower == 0)
        return 0;
    return MIN(planner_add_headroom(lower), UINT64_MAX - link) + link / 100 * REST_PERCENT;
}

bool
planner_limits_count_here(const DomainDescription *description, gconstpointer data)
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
    int64_t passed;

    if (metadata == NULL || metadata->deadline == 0)
        return false;
    downtime = metadata->maximum_downtime != 0
                   ? (int64_t)MIN(metadata->maximum_downtime, (uint64_t)G_MAXINT32)
                   : DOWNTIME_DEFAULT_MS;
    /* Nobody tells the destination what is left: it counts from when memory may move. */
    if (migration->machine.role == MIGRATION_ROLE_DESTINATION && migration->running_us != 0)
        now_us = migration->running_us;
    passed = (now_us - migration->created_us) / 1000 + (int64_t)migration->held_at_source_ms;
    *ret_ms = (int64_t)MIN(metadata->deadline, (uint64_t)G_MAXINT64 / 2) - passed - downtime -
              (int64_t)MIN(metadata->deadline / 10, DEADLINE_RESERVE_MS);
    return true;
}

uint64_t
planner_left(const Migration *migration)
{
    const JobStatistics *statistics = &migration->statistics;

    if (!migration->forecast.valid || migration->machine.iteration >= 2)
        return statistics->memory_remaining;
    return converge_left_of_first_pass(statistics->memory_remaining, statistics->memory_processed,
                                       migration->forecast.memory);
}

gint64
planner_waited_us(const Migration *migration, gint64 now_us)
{
    gint64 since_us = migration->share_us != 0 ? now_us - migration->share_us : 0;

    if (migration->share.reason == ALLOCATE_REASON_WAITS)
        return migration->waited_us + since_us;
    return MAX(migration->waited_us - since_us, 0);
}

AllocateItem
planner_allocation_item(const Manager *manager, const Migration *migration, gint64 now_us)
{
    unsigned weight = reserve_weight(migration->priority);
    bool source = migration->machine.role == MIGRATION_ROLE_SOURCE;
    AllocateItem item = { .weight = (double)weight * weight };

    if (source && migration->statistics.valid && migration->statistics.memory_total != 0)
        item.volume = MAX(planner_left(migration), 1);
    else if (migration->description != NULL)
        item.volume = migration->description->current_memory;
    if (!source)
        item.volume += item.volume / 100 * DESTINATION_MARGIN_PERCENT;
    item.volume = planner_add_headroom(item.volume);
    /* Once post-copy runs nothing is sent twice. */
    if (migration->machine.state != MIGRATION_POST_COPY)
        item.dirty_rate = migration->dirty_rate;
    item.turn = planner_turn(manager, migration);
    /* High priority never waits: one that is short overtakes there, as in schedule.h. */
    if (migration->priority != PRIORITY_HIGH)
        item.place = (uint64_t)planner_turn_came_us(migration, now_us);
    item.may_fall_behind =
        migration->machine.iteration <= 1 && planner_waited_us(migration, now_us) < FALL_BEHIND_US;
    item.deadline_set = planner_time_left(migration, now_us, &item.time_left_ms);
    return item;
}

static void
record_allocation(const Manager *manager, ShapingDirection direction, AllocateItem *items,
                  size_t count, uint64_t available, AllocateShare *shares, bool divided)
{
    Recording recording = {
        .kind = RECORDING_ALLOCATE,
        .wall_us = g_get_real_time(),
        .about = direction == SHAPING_EGRESS ? "egress" : "ingress",
        .allocate = { { count, items, available }, { divided ? count : 0, shares } },
    };

    recorder_add(manager->recorder, &recording);
}

void
planner_allocate(const Manager *manager, ShapingDirection direction, const Reservation *reservation,
                 bool record, AllocateShare ret_shares[SHAPING_MIGRATIONS_MAX + 1])
{
    AllocateItem items[SHAPING_MIGRATIONS_MAX];
    AllocateShare shares[SHAPING_MIGRATIONS_MAX] = { { 0 } };
    unsigned leaves[SHAPING_MIGRATIONS_MAX];
    bool divided;
    gint64 now_us = g_get_monotonic_time();
    size_t count = 0;

    G_STATIC_ASSERT((int)ALLOCATE_MAX == (int)SHAPING_MIGRATIONS_MAX);
    memset(ret_shares, 0, (SHAPING_MIGRATIONS_MAX + 1) * sizeof *ret_shares);
    for (guint i = 0; i < manager->migrations->len && count < SHAPING_MIGRATIONS_MAX; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);

        if (!planner_is_on_side(migration, direction))
            continue;
        leaves[count] = migration->leaf;
        items[count++] = planner_allocation_item(manager, migration, now_us);
    }
    divided = allocate_rates(items, count, reservation->migration.rate, shares);
    if (record && count > 1)
        record_allocation(manager, direction, items, count, reservation->migration.rate, shares,
                          divided);
    for (size_t i = 0; divided && i < count; i++)
        ret_shares[leaves[i]] = shares[i];
}

/* The division's input with the configuration's part and the migrations': no link yet. */
static ReserveInput
input_of_migrations(const Manager *manager, ShapingDirection direction, const Migration *joining)
{
    ReserveInput input = reserve_input_init();
    gint64 now_us = g_get_monotonic_time();
    uint64_t needed = 0;
    bool deadline = false;

    input.floor_percent = manager->config->low_priority_floor_percent;
    input.minimum_workload_percent = manager->config->minimum_workload_percent;
    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);
        AllocateReason reason;
        AllocateItem item;
        uint64_t least;

        if (!planner_is_on_side(migration, direction) && migration != joining)
            continue;
        item = planner_allocation_item(manager, migration, now_us);
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
    return input;
}

void
manager_reserve_input(const Manager *manager, ShapingDirection direction, const Migration *joining,
                      ReserveInput *ret_input)
{
    ReserveInput input = input_of_migrations(manager, direction, joining);
    TrafficRates rates = network_host_rates(manager->network);

    input.link = network_usable_rate(manager->network);
    registry_sum_limits(manager->registry, planner_limits_count_here, manager, &input.lower,
                        &input.upper);
    input.lower = lower_limits_with_rest(input.lower, input.link);
    input.demand_valid = manager->side[direction].held_valid || rates.valid;
    if (manager->side[direction].held_valid)
        input.demand = manager->side[direction].held;
    else if (rates.valid)
        input.demand = direction == SHAPING_EGRESS ? rates.out : rates.in;
    *ret_input = input;
}

bool
manager_reserve(const Manager *manager, ShapingDirection direction, const Migration *joining,
                Reservation *ret_reservation)
{
    ReserveInput input;

    manager_reserve_input(manager, direction, joining, &input);
    return reserve_divide(&input, ret_reservation);
}

bool
planner_reserve_there(const Manager *manager, const Migration *migration,
                      Reservation *ret_reservation)
{
    const PeerReport *peer = &migration->peer;
    ReserveInput input;

    if (!migration->peer_known || !peer->sla_lower.valid)
        return false;
    input = input_of_migrations(manager, SHAPING_EGRESS, migration);
    input.link = peer->link_rate;
    input.lower = lower_limits_with_rest(peer->sla_lower.value, input.link);
    input.upper = peer->sla_upper.valid ? peer->sla_upper.value : 0;
    input.demand_valid = peer->host.valid;
    input.demand = peer->host.in;
    return reserve_divide(&input, ret_reservation);
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

    planner_allocate(manager, direction, reservation, false, shares);
    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);
        const AllocateShare *share = &shares[migration->leaf];
        uint64_t now = share->rate;

        if (!planner_is_on_side(migration, direction))
            continue;
        /* Whose turn it is says what is borrowed, too. */
        if (now > migration->share.rate + tolerance || now + tolerance < migration->share.rate ||
            (share->reason == ALLOCATE_REASON_TURN) !=
                (migration->share.reason == ALLOCATE_REASON_TURN))
            return true;
    }
    return false;
}

bool
planner_qemu_limits(const Manager *manager, const Migration *migration,
                    ReserveQemuLimits *ret_limits)
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
