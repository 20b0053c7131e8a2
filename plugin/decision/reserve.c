/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Division of a link between workload and migrations. It only calculates;
 * what the kernel makes of it is shaping/'s.
 */
#include "decision/reserve.h"

#include <math.h>

/* A migration's floor must exceed its dirty rate by this, or passes do not shrink. */
#define FLOOR_MARGIN_PERCENT 125
#define WORKLOAD_MIN_PERCENT 1
#define FLOOR_PERCENT_MAX 50
#define SATURATED_PERCENT 95
#define PROBE_PERCENT 150
#define HELD_MARGIN_PERCENT 110
#define HALVING_MS 125
/*
 * QEMU doles its post-copy limit out in windows of 100 ms, and requested pages
 * wait for the next window too: measured on a 200 Mbit/s link, the guest stood
 * still 11.6, 7.1 and 3.2 s at 4, 8 and 14 MiB/s, and 2.2 s when the class
 * alone bounded it. So the limit stays clear of the class, and only catches
 * what would run away if the class were taken off.
 */
#define POST_COPY_CEIL_FACTOR 2
#define MEBIBYTE (UINT64_C(1) << 20)
/* QEMU's limits are signed bytes per second. */
#define QEMU_LIMIT_MAX ((uint64_t)INT64_MAX / MEBIBYTE)

/* Who borrows first; a migration that waits for its turn comes one later. */
static const unsigned int leaf_prio[] = {
    [PRIORITY_LOW] = 6,
    [PRIORITY_MEDIUM] = 4,
    [PRIORITY_HIGH] = 0,
};
#define WORKLOAD_PRIO 2

/* Shares of one migration of each priority when several have one link. */
static const uint64_t leaf_weight[] = {
    [PRIORITY_LOW] = 1,
    [PRIORITY_MEDIUM] = 4,
    [PRIORITY_HIGH] = 16,
};

static uint64_t
minimum(uint64_t left, uint64_t right)
{
    return left < right ? left : right;
}

static uint64_t
maximum(uint64_t left, uint64_t right)
{
    return left > right ? left : right;
}

static uint64_t
clamp(uint64_t value, uint64_t low, uint64_t high)
{
    return value < low ? low : minimum(value, high);
}

/* value * percent / 100, saturating. */
static uint64_t
percent_of(uint64_t value, uint64_t percent)
{
    uint64_t whole = value / 100;
    uint64_t rest = value % 100 * percent / 100;

    if (percent != 0 && whole > UINT64_MAX / percent)
        return UINT64_MAX;
    whole *= percent;
    return whole > UINT64_MAX - rest ? UINT64_MAX : whole + rest;
}

ReserveInput
reserve_input_init(void)
{
    return (ReserveInput){ .floor_percent = 5, .minimum_workload_percent = 10 };
}

static uint64_t
configured_floor(const ReserveInput *input)
{
    unsigned int percent = input->floor_percent;

    if (percent == 0)
        percent = reserve_input_init().floor_percent;
    if (percent > FLOOR_PERCENT_MAX)
        percent = FLOOR_PERCENT_MAX;
    return percent_of(input->link, percent);
}

/* L and U such that workload minimum <= L <= U <= C - floor. */
static void
effective_limits(const ReserveInput *input, uint64_t *ret_lower, uint64_t *ret_upper)
{
    uint64_t least = percent_of(input->link, WORKLOAD_MIN_PERCENT);
    uint64_t most = input->link - configured_floor(input);
    uint64_t lower = input->lower;
    uint64_t upper = input->upper;

    if (lower == 0) {
        lower = percent_of(input->link, input->minimum_workload_percent);
        /* An upper limit alone must not be exceeded by our own minimum. */
        if (upper != 0)
            lower = minimum(lower, upper);
    }
    if (upper == 0)
        upper = percent_of(input->link, RESERVE_UPPER_DEFAULT_PERCENT);
    *ret_lower = clamp(lower, least, most);
    *ret_upper = clamp(upper, *ret_lower, most);
}

static Priority
deciding_priority(const ReserveInput *input)
{
    if (input->count[PRIORITY_HIGH] > 0)
        return PRIORITY_HIGH;
    return input->count[PRIORITY_MEDIUM] > 0 ? PRIORITY_MEDIUM : PRIORITY_LOW;
}

ReserveFloor
reserve_low_floor(const ReserveInput *input, uint64_t *ret_rate)
{
    uint64_t lower;
    uint64_t upper;
    uint64_t floor;
    uint64_t wanted;
    uint64_t needed;
    uint64_t count;

    *ret_rate = 0;
    if (input->link < RESERVE_LINK_MIN)
        return RESERVE_FLOOR_NOT_USED;
    floor = configured_floor(input);
    *ret_rate = floor;
    if (!input->dirty_valid)
        return RESERVE_FLOOR_UNKNOWN;
    /* The floor is divided among all of them, and each must exceed its rate. */
    needed = percent_of(input->dirty_rate, FLOOR_MARGIN_PERCENT);
    count = maximum(input->count[PRIORITY_LOW], 1);
    needed = needed > UINT64_MAX / count ? UINT64_MAX : needed * count;
    if (needed <= floor)
        return RESERVE_FLOOR_ENOUGH;
    /* Only bandwidth that the workload leaves may raise it. */
    effective_limits(input, &lower, &upper);
    wanted = input->demand_valid ? maximum(input->demand, lower) : input->link;
    if (wanted >= input->link || needed > input->link - wanted)
        return RESERVE_FLOOR_HYBRID;
    *ret_rate = needed;
    return RESERVE_FLOOR_RAISED;
}

/*
 * Without classes nothing lends: QEMU's limit is then what the workload leaves,
 * and for high priority all but the workload's lower limit.
 */
static uint64_t
rate_unshaped(const ReserveInput *input, const Reservation *result)
{
    uint64_t wanted = maximum(input->demand, result->lower);

    if (result->priority == PRIORITY_HIGH || !input->demand_valid || wanted >= input->link)
        return result->migration.rate;
    return maximum(result->migration.rate, input->link - wanted);
}

/* The part of `rate` that `weight` of `all` shares get, at least 1. */
static uint64_t
share_of(uint64_t rate, uint64_t weight, uint64_t all)
{
    return maximum(rate / all * weight + rate % all * weight / all, 1);
}

static void
divide_leaves(const ReserveInput *input, Reservation *result)
{
    uint64_t unshaped = rate_unshaped(input, result);
    uint64_t shares = 0;

    for (unsigned int i = PRIORITY_LOW; i <= PRIORITY_HIGH; i++)
        shares += leaf_weight[i] * input->count[i];
    for (unsigned int i = PRIORITY_LOW; i <= PRIORITY_HIGH; i++) {
        /* One that is not there yet is answered as if it came in addition. */
        uint64_t all = shares + (input->count[i] == 0 ? leaf_weight[i] : 0);

        result->unshaped[i] = share_of(unshaped, leaf_weight[i], all);
        result->leaf[i] = (ReserveClass){
            .rate = share_of(result->migration.rate, leaf_weight[i], all),
            .ceil = result->migration.ceil,
            .prio = leaf_prio[i],
        };
    }
}

unsigned int
reserve_weight(Priority priority)
{
    return (unsigned int)leaf_weight[priority];
}

const char *
reserve_deadline_to_string(ReserveDeadline deadline)
{
    switch (deadline) {
    case RESERVE_DEADLINE_NONE:
        return "none";
    case RESERVE_DEADLINE_ENOUGH:
        return "kept by the usual guarantee";
    case RESERVE_DEADLINE_RAISED:
        return "kept by a raised guarantee";
    case RESERVE_DEADLINE_MISSED:
        return "cannot be kept: all that the workload's lower limits leave";
    }
    return "unknown";
}

/* Escalates by as much as the deadline needs: up to what high priority would get. */
static void
keep_deadline(const ReserveInput *input, Reservation *result)
{
    uint64_t most = maximum(input->link - result->lower, result->migration.rate);

    if (input->deadline_rate == 0)
        return;
    result->deadline = RESERVE_DEADLINE_ENOUGH;
    if (input->deadline_rate > most)
        result->deadline = RESERVE_DEADLINE_MISSED;
    else if (input->deadline_rate > result->migration.rate)
        result->deadline = RESERVE_DEADLINE_RAISED;
    if (input->deadline_rate > result->migration.rate)
        result->migration.rate = minimum(input->deadline_rate, most);
    result->migration.ceil = maximum(result->migration.ceil, result->migration.rate);
    result->workload.rate = minimum(result->workload.rate, input->link - result->migration.rate);
}

bool
reserve_divide(const ReserveInput *input, Reservation *ret_reservation)
{
    Reservation result = { 0 };
    uint64_t link = input->link;
    uint64_t floor;

    if (link < RESERVE_LINK_MIN)
        return false;
    result.priority = deciding_priority(input);
    effective_limits(input, &result.lower, &result.upper);
    result.workload.ceil = link;
    result.workload.prio = WORKLOAD_PRIO;

    switch (result.priority) {
    case PRIORITY_HIGH:
        result.workload.rate = result.lower;
        result.migration = (ReserveClass){ .rate = link - result.lower, .ceil = link };
        break;
    case PRIORITY_MEDIUM:
        result.workload.rate =
            input->demand_valid ? clamp(input->demand, result.lower, result.upper) : result.upper;
        /* Only a promise bounds the ceil; our own minimum is a guarantee, lent when unused. */
        result.migration = (ReserveClass){
            .rate = link - result.upper,
            .ceil = input->lower != 0 ? link - result.lower : link,
        };
        break;
    case PRIORITY_LOW:
        result.floor = reserve_low_floor(input, &floor);
        result.workload.rate = link - floor;
        if (input->demand_valid)
            result.workload.rate = clamp(input->demand, result.lower, link - floor);
        result.migration = (ReserveClass){ .rate = floor, .ceil = link };
        break;
    }
    result.migration.prio = leaf_prio[result.priority];
    keep_deadline(input, &result);
    divide_leaves(input, &result);
    *ret_reservation = result;
    return true;
}

/* `value` after `elapsed_ms` of losing half in each HALVING_MS. */
static uint64_t
decayed(uint64_t value, uint64_t elapsed_ms)
{
    if (elapsed_ms == 0)
        return value;
    if (elapsed_ms >= 64 * HALVING_MS)
        return 0;
    /* A factor below 0.995: rounding cannot carry it past 64 bits. */
    return (uint64_t)((double)value * exp2(-(double)elapsed_ms / HALVING_MS));
}

uint64_t
reserve_follow_demand(uint64_t previous_held, bool measured_valid, uint64_t measured,
                      uint64_t lower, uint64_t upper, uint64_t elapsed_ms)
{
    uint64_t limit = upper == 0 ? UINT64_MAX : maximum(upper, lower);
    uint64_t target;

    if (!measured_valid)
        return clamp(previous_held, lower, limit);
    if (measured >= percent_of(previous_held, SATURATED_PERCENT))
        target = percent_of(measured, PROBE_PERCENT);
    else
        target = percent_of(measured, HELD_MARGIN_PERCENT);
    if (target < previous_held)
        target += decayed(previous_held - target, elapsed_ms);
    return clamp(target, lower, limit);
}

ReserveQemuLimits
reserve_qemu_limits(const Reservation *reservation, Priority priority, bool shaped)
{
    uint64_t alone = reservation->unshaped[priority];
    uint64_t ceil = reservation->migration.ceil;
    ReserveQemuLimits limits = { .max_bandwidth = alone / MEBIBYTE, .post_copy = alone / MEBIBYTE };

    if (shaped) {
        limits.max_bandwidth = ceil / MEBIBYTE + (ceil % MEBIBYTE != 0);
        limits.post_copy = POST_COPY_CEIL_FACTOR * limits.max_bandwidth;
    }
    limits.max_bandwidth = clamp(limits.max_bandwidth, 1, QEMU_LIMIT_MAX);
    limits.post_copy = clamp(limits.post_copy, 1, QEMU_LIMIT_MAX);
    return limits;
}
