/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Serial or parallel, the order, and the bounds. */
#include "decision/schedule.h"

#include <glib.h>
#include <math.h>

#define MB UINT64_C(1000000)

/* A 100 MB/s link, idle, and a stream that fills it; classes make it wait for its turn. */
static ScheduleItem
item_new(uint64_t id, Priority priority, Technique technique)
{
    return (ScheduleItem){
        .id = id,
        .priority = priority,
        .technique = technique,
        .seconds = 10.0,
        .stream_rate = 1100 * MB,
        .link = 2,
        .link_rate = 100 * MB,
        .available_known = true,
        .available = 95 * MB,
        .enqueued_us = (int64_t)id,
        .takes_turns = true,
    };
}

static ScheduleReason
judge_by(const ScheduleItem *waiting, const ScheduleItem *running, size_t count,
         const ScheduleParams *params)
{
    ScheduleVerdict verdict;

    g_assert_true(schedule_decide(waiting, 1, running, count, params, &verdict));
    g_assert_cmpint(verdict.start, ==, schedule_reason_is_start(verdict.reason));
    return verdict.reason;
}

static ScheduleReason
judge_one(const ScheduleItem *waiting, const ScheduleItem *running, size_t count)
{
    return judge_by(waiting, running, count, NULL);
}

static void
test_rules(void)
{
    ScheduleItem running = item_new(1, PRIORITY_LOW, TECHNIQUE_PRE_COPY);

    for (unsigned int p = PRIORITY_LOW; p <= PRIORITY_HIGH; p++) {
        ScheduleItem item = item_new(2, (Priority)p, TECHNIQUE_PRE_COPY);
        bool high = p == PRIORITY_HIGH;

        g_assert_cmpint(judge_one(&item, NULL, 0), ==,
                        high ? SCHEDULE_START_HIGH_PRIORITY : SCHEDULE_START_LINK_FREE);
        g_assert_cmpint(judge_one(&item, &running, 1), ==,
                        high ? SCHEDULE_START_HIGH_PRIORITY : SCHEDULE_START_STAND_BY);
        item.link = 3;
        g_assert_cmpint(judge_one(&item, &running, 1), ==,
                        high ? SCHEDULE_START_HIGH_PRIORITY : SCHEDULE_START_LINK_FREE);
    }
}

static void
test_low_contention(void)
{
    ScheduleItem running = item_new(1, PRIORITY_LOW, TECHNIQUE_POST_COPY);
    ScheduleItem item = item_new(2, PRIORITY_LOW, TECHNIQUE_POST_COPY);
    ScheduleParams params = schedule_params_default();

    g_assert_cmpint(judge_one(&item, &running, 1), ==, SCHEDULE_WAIT_LINK_BUSY);
    params.low_contention = NAN;
    g_assert_cmpint(judge_by(&item, &running, 1, &params), ==, SCHEDULE_WAIT_LINK_BUSY);
    params.low_contention = 0.5;
    g_assert_cmpint(judge_by(&item, &running, 1, &params), ==, SCHEDULE_START_POST_COPY);
    item.available = 40 * MB; /* the workload has the better half */
    g_assert_cmpint(judge_by(&item, &running, 1, &params), ==, SCHEDULE_WAIT_CONTENTION);
    item.available_known = false;
    g_assert_cmpint(judge_by(&item, &running, 1, &params), ==, SCHEDULE_WAIT_CONTENTION);
    item = item_new(2, PRIORITY_LOW, TECHNIQUE_POST_COPY);
    item.link_rate = 0;
    g_assert_cmpint(judge_by(&item, &running, 1, &params), ==, SCHEDULE_WAIT_CONTENTION);
    item.link_rate = 100 * MB;
    running.priority = PRIORITY_HIGH;
    g_assert_cmpint(judge_by(&item, &running, 1, &params), ==, SCHEDULE_WAIT_HIGH_PRIORITY);
}

/* What eight on one link cost by the rules, in completion times; one takes a second. */
static double
planned_sum(Technique technique, unsigned int high, bool turns, const ScheduleParams *params)
{
    static const SchedulePlanLink link = { true, 100 * MB, 100 * MB };
    SchedulePlanItem items[8];
    SchedulePlanned planned[8];
    double sum = 0;

    for (unsigned int i = 0; i < 8; i++) {
        items[i] = (SchedulePlanItem){
            .item = item_new(i, i < high ? PRIORITY_HIGH : PRIORITY_LOW, technique),
            .destination = SCHEDULE_NO_LINK,
            .bytes = 100 * MB,
        };
        items[i].item.link = 0;
        items[i].item.available = 100 * MB;
        items[i].item.takes_turns = turns;
    }
    g_assert_true(schedule_plan(items, 8, &link, 1, params, planned));
    for (unsigned int i = 0; i < 8; i++)
        sum += planned[i].end;
    return sum;
}

/* One after the other 36, all side by side 64; what waits for its turn takes a little. */
static void
test_plan_sums(void)
{
    ScheduleParams params = schedule_params_default();

    g_assert_cmpfloat(fabs(planned_sum(TECHNIQUE_POST_COPY, 0, true, &params) - 36), <, 1e-6);
    g_assert_cmpfloat(fabs(planned_sum(TECHNIQUE_PRE_COPY, 0, true, &params) - 36.25), <, 0.25);
    g_assert_cmpfloat(fabs(planned_sum(TECHNIQUE_PRE_COPY, 3, true, &params) - 36.25), <, 0.25);
    g_assert_cmpfloat(fabs(planned_sum(TECHNIQUE_PRE_COPY, 0, false, &params) - 36), <, 1e-6);
    params.low_contention = 0.5;
    g_assert_cmpfloat(fabs(planned_sum(TECHNIQUE_POST_COPY, 0, true, &params) - 64), <, 1e-6);
    params.scheduling = SCHEDULING_PARALLEL; /* no turns: even shares */
    g_assert_cmpfloat(fabs(planned_sum(TECHNIQUE_PRE_COPY, 0, true, &params) - 64), <, 1e-6);
}

/* A 10 GB/s link carries several streams of 1.1 GB/s, but not any number. */
static void
test_streams_leave_room(void)
{
    ScheduleItem waiting[20];
    ScheduleVerdict verdicts[20];
    unsigned int started = 0;

    for (unsigned int i = 0; i < G_N_ELEMENTS(waiting); i++) {
        waiting[i] = item_new(i, PRIORITY_LOW, TECHNIQUE_PRE_COPY);
        waiting[i].link_rate = waiting[i].available = 10000 * MB;
    }
    g_assert_true(schedule_decide(waiting, 20, NULL, 0, NULL, verdicts));
    for (unsigned int i = 0; i < G_N_ELEMENTS(waiting); i++) {
        started += verdicts[i].start;
        g_assert_cmpuint(verdicts[i].rank, ==, i);
    }
    g_assert_cmpuint(started, ==, 9);
    g_assert_cmpint(verdicts[8].reason, ==, SCHEDULE_START_STREAM_LEAVES_ROOM);
    g_assert_cmpint(verdicts[9].reason, ==, SCHEDULE_WAIT_LINK_BUSY);
    g_assert_cmpint(verdicts[10].reason, ==, SCHEDULE_WAIT_TURN);

    /* One whose stream is unknown fills the link. */
    waiting[0].stream_rate = 0;
    g_assert_true(schedule_decide(waiting, 20, NULL, 0, NULL, verdicts));
    g_assert_cmpint(verdicts[0].reason, ==, SCHEDULE_START_LINK_FREE);
    g_assert_cmpint(verdicts[1].reason, ==, SCHEDULE_START_STAND_BY);
    g_assert_cmpint(verdicts[2].reason, ==, SCHEDULE_WAIT_LINK_BUSY);
}

/* What those that run reach now leaves room: one more, whatever it will reach. */
static void
test_streams_measured(void)
{
    static const struct {
        uint64_t available;
        uint64_t running[3];
        unsigned int count;
        ScheduleReason reason;
    } rows[] = {
        { 100, { 60 }, 1, SCHEDULE_START_STREAM_LEAVES_ROOM },
        { 100, { 67 }, 1, SCHEDULE_START_STAND_BY },
        { 100, { 60, 10 }, 2, SCHEDULE_START_STREAM_LEAVES_ROOM },
        { 100, { 70, 15 }, 2, SCHEDULE_WAIT_LINK_BUSY },
        { 100, { 60, 0 }, 2, SCHEDULE_WAIT_LINK_BUSY }, /* not measured yet */
        { 100, { 30, 20, 20 }, 3, SCHEDULE_START_STREAM_LEAVES_ROOM },
        { 10, { 60, 10 }, 2, SCHEDULE_WAIT_LINK_BUSY }, /* there is less by now */
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        ScheduleItem waiting[2];
        ScheduleItem running[3];
        ScheduleVerdict verdicts[2];

        for (unsigned int j = 0; j < 2; j++) {
            waiting[j] = item_new(8 + j, PRIORITY_LOW, TECHNIQUE_PRE_COPY);
            waiting[j].stream_rate = 0;
            waiting[j].available = rows[i].available * MB;
        }
        for (unsigned int j = 0; j < rows[i].count; j++) {
            running[j] = item_new(j, PRIORITY_LOW, TECHNIQUE_PRE_COPY);
            running[j].stream_rate = rows[i].running[j] * MB;
        }
        g_test_message("row %" G_GSIZE_FORMAT, i);
        g_assert_true(schedule_decide(waiting, 2, running, rows[i].count, NULL, verdicts));
        g_assert_cmpint(verdicts[0].reason, ==, rows[i].reason);
        /* Of what that one reaches nothing is known yet. */
        g_assert_false(verdicts[1].start);
    }
}

/* One, beside none of high priority, and nobody waits for pages. */
static void
test_stand_by(void)
{
    static const struct {
        Priority running, waiting;
        Technique running_technique, waiting_technique;
        unsigned int count;
        bool running_shares, waiting_shares; /* no class makes it wait */
        ScheduleReason reason;
    } rows[] = {
        { .waiting = PRIORITY_LOW, .count = 1, .reason = SCHEDULE_START_STAND_BY },
        { PRIORITY_MEDIUM, PRIORITY_MEDIUM, TECHNIQUE_HYBRID, TECHNIQUE_HYBRID, 1, false, false,
          SCHEDULE_START_STAND_BY },
        { PRIORITY_MEDIUM, PRIORITY_LOW, .count = 1, .reason = SCHEDULE_START_STAND_BY },
        { PRIORITY_LOW, PRIORITY_MEDIUM, .count = 1, .reason = SCHEDULE_START_STAND_BY },
        { PRIORITY_HIGH, PRIORITY_LOW, .count = 1, .reason = SCHEDULE_WAIT_HIGH_PRIORITY },
        { .count = 2, .reason = SCHEDULE_WAIT_LINK_BUSY },
        { PRIORITY_LOW, PRIORITY_MEDIUM, .count = 2, .reason = SCHEDULE_START_STAND_BY },
        { PRIORITY_MEDIUM, PRIORITY_LOW, .count = 2, .reason = SCHEDULE_WAIT_LINK_BUSY },
        { PRIORITY_LOW, PRIORITY_MEDIUM, .count = 2, .running_shares = true,
          .reason = SCHEDULE_WAIT_LINK_BUSY },
        { .running_technique = TECHNIQUE_POST_COPY, .count = 1, .reason = SCHEDULE_WAIT_LINK_BUSY },
        { .waiting_technique = TECHNIQUE_POST_COPY, .count = 1, .reason = SCHEDULE_WAIT_LINK_BUSY },
        { .count = 1, .running_shares = true, .reason = SCHEDULE_WAIT_LINK_BUSY },
        { .count = 1, .waiting_shares = true, .reason = SCHEDULE_WAIT_LINK_BUSY },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        ScheduleItem waiting = item_new(9, rows[i].waiting, rows[i].waiting_technique);
        ScheduleItem running[2] = { item_new(1, rows[i].running, rows[i].running_technique),
                                    item_new(2, rows[i].running, rows[i].running_technique) };

        g_test_message("row %" G_GSIZE_FORMAT, i);
        waiting.takes_turns = !rows[i].waiting_shares;
        running[0].takes_turns = !rows[i].running_shares;
        g_assert_cmpint(judge_one(&waiting, running, rows[i].count), ==, rows[i].reason);
    }
}

/* While all are new only high priority starts; from when one is not, all do in their order. */
static void
test_gathering(void)
{
    ScheduleItem waiting[2] = { item_new(1, PRIORITY_LOW, TECHNIQUE_PRE_COPY),
                                item_new(2, PRIORITY_MEDIUM, TECHNIQUE_PRE_COPY) };
    ScheduleVerdict verdicts[2];

    waiting[0].gathering = waiting[1].gathering = true;
    g_assert_true(schedule_decide(waiting, 2, NULL, 0, NULL, verdicts));
    g_assert_cmpint(verdicts[0].reason, ==, SCHEDULE_WAIT_TURN);
    g_assert_cmpint(verdicts[1].reason, ==, SCHEDULE_WAIT_GATHERING);
    waiting[0].gathering = false;
    g_assert_true(schedule_decide(waiting, 2, NULL, 0, NULL, verdicts));
    g_assert_cmpint(verdicts[0].reason, ==, SCHEDULE_START_STAND_BY);
    g_assert_cmpint(verdicts[1].reason, ==, SCHEDULE_START_LINK_FREE);
    /* Each link for itself. */
    waiting[0].link++;
    g_assert_true(schedule_decide(waiting, 2, NULL, 0, NULL, verdicts));
    g_assert_cmpint(verdicts[0].reason, ==, SCHEDULE_START_LINK_FREE);
    g_assert_cmpint(verdicts[1].reason, ==, SCHEDULE_WAIT_GATHERING);
    waiting[1].priority = PRIORITY_HIGH;
    g_assert_true(schedule_decide(waiting, 2, NULL, 0, NULL, verdicts));
    g_assert_cmpint(verdicts[1].reason, ==, SCHEDULE_START_HIGH_PRIORITY);
}

static void
test_order(void)
{
    ScheduleItem waiting[7];
    ScheduleVerdict verdicts[7];
    static const size_t expected[7] = { 4, 2, 1, 3, 0, 6, 5 };

    for (unsigned int i = 0; i < 7; i++)
        waiting[i] = item_new(i, PRIORITY_LOW, TECHNIQUE_PRE_COPY);
    waiting[0].seconds = 30.0;
    waiting[1].seconds = 10.0; /* shorter first */
    waiting[2].priority = PRIORITY_MEDIUM;
    waiting[2].seconds = 1000.0; /* priority beats time */
    waiting[4].seconds = 30.0;
    waiting[4].priority = PRIORITY_HIGH;
    waiting[3].seconds = 20.0;
    waiting[3].relief = 0.9;          /* 1.9 / 20 is less than 1 / 10, more than 1 / 30 */
    waiting[5].seconds = (double)NAN; /* unknown: last of its priority */
    waiting[6].seconds = 30.0;        /* as 0, but later */
    waiting[6].enqueued_us = 100;
    g_assert_true(schedule_decide(waiting, 7, NULL, 0, NULL, verdicts));
    for (uint32_t rank = 0; rank < 7; rank++)
        g_assert_cmpuint(verdicts[expected[rank]].rank, ==, rank);
    g_assert_true(verdicts[4].start);
    g_assert_false(verdicts[2].start);
}

static void
test_maximum(void)
{
    ScheduleParams params = schedule_params_default();
    ScheduleItem waiting[4];
    ScheduleItem running = item_new(9, PRIORITY_LOW, TECHNIQUE_PRE_COPY);
    ScheduleVerdict verdicts[4];
    unsigned int started = 0;

    params.maximum_running = 3;
    for (unsigned int i = 0; i < 4; i++)
        waiting[i] = item_new(i, PRIORITY_HIGH, TECHNIQUE_POST_COPY);
    g_assert_true(schedule_decide(waiting, 4, &running, 1, &params, verdicts));
    for (unsigned int i = 0; i < 4; i++)
        started += verdicts[i].start;
    g_assert_cmpuint(started, ==, 2);
    g_assert_cmpint(verdicts[3].reason, ==, SCHEDULE_WAIT_MAXIMUM);
}

/* Every rank once, sorted, and somebody starts on each link: whatever comes in. */
static void
test_bounds_and_random(void)
{
    static ScheduleItem waiting[SCHEDULE_ITEMS_MAX + 1];
    static ScheduleItem running[SCHEDULE_ITEMS_MAX];
    static ScheduleVerdict verdicts[SCHEDULE_ITEMS_MAX];
    static const double seconds[] = { 0.0, -1.0, 1e-300, 1.0, 1e300 };

    g_assert_false(schedule_decide(waiting, SCHEDULE_ITEMS_MAX + 1, NULL, 0, NULL, verdicts));
    g_assert_true(schedule_decide(NULL, 0, NULL, 0, NULL, NULL));
    for (unsigned int round = 0; round < 50; round++) {
        static bool seen[SCHEDULE_ITEMS_MAX];
        bool started = false;

        for (unsigned int i = 0; i < SCHEDULE_ITEMS_MAX; i++) {
            ScheduleItem item =
                item_new((uint64_t)g_test_rand_int(), (Priority)g_test_rand_int_range(0, 3),
                         (Technique)g_test_rand_int_range(0, 3));

            item.link = round % 2 ? (uint32_t)g_test_rand_int() : i % 7 * 4096;
            item.seconds = seconds[i % 5];
            item.relief = i % 11 ? (double)i : (double)NAN;
            item.stream_rate = i % 3 ? UINT64_MAX : i;
            item.available = i % 2 ? UINT64_MAX : 0;
            waiting[i] = item;
            item.link = round % 2 ? (uint32_t)g_test_rand_int() : i * 4096;
            running[i] = item;
            seen[i] = false;
        }
        g_assert_true(schedule_decide(waiting, SCHEDULE_ITEMS_MAX, running,
                                      round % 3 ? SCHEDULE_ITEMS_MAX : 0, NULL, verdicts));
        for (unsigned int i = 0; i < SCHEDULE_ITEMS_MAX; i++) {
            g_assert_cmpuint(verdicts[i].rank, <, SCHEDULE_ITEMS_MAX);
            g_assert_false(seen[verdicts[i].rank]);
            seen[verdicts[i].rank] = true;
            started |= verdicts[i].start;
            if (waiting[i].priority == PRIORITY_HIGH)
                g_assert_true(verdicts[i].start);
            if (i > 0 && waiting[i].priority > waiting[i - 1].priority)
                g_assert_cmpuint(verdicts[i].rank, <, verdicts[i - 1].rank);
        }
        g_assert_true(started);
    }
}

static void
test_configured(void)
{
    ScheduleParams params = schedule_params_default();
    ScheduleItem waiting[3];
    ScheduleVerdict verdicts[3];

    for (unsigned int i = 0; i < 3; i++)
        waiting[i] = item_new(i, i == 2 ? PRIORITY_HIGH : PRIORITY_LOW, TECHNIQUE_PRE_COPY);
    params.scheduling = SCHEDULING_SERIAL;
    g_assert_true(schedule_decide(waiting, 3, NULL, 0, &params, verdicts));
    g_assert_true(verdicts[2].start);
    g_assert_cmpint(verdicts[0].reason, ==, SCHEDULE_WAIT_SERIAL);
    g_assert_cmpint(verdicts[1].reason, ==, SCHEDULE_WAIT_SERIAL);
    params.scheduling = SCHEDULING_PARALLEL;
    g_assert_true(schedule_decide(waiting, 3, NULL, 0, &params, verdicts));
    for (unsigned int i = 0; i < 3; i++)
        g_assert_cmpint(verdicts[i].reason, ==, SCHEDULE_START_PARALLEL);
}

/* The next one prepares while the last one ends, not one behind it. */
static void
test_ending(void)
{
    ScheduleItem running = item_new(9, PRIORITY_HIGH, TECHNIQUE_PRE_COPY);
    ScheduleItem waiting[2] = { item_new(1, PRIORITY_MEDIUM, TECHNIQUE_PRE_COPY),
                                item_new(2, PRIORITY_LOW, TECHNIQUE_PRE_COPY) };
    ScheduleVerdict verdicts[2];

    g_assert_true(schedule_decide(waiting, 2, &running, 1, NULL, verdicts));
    g_assert_cmpint(verdicts[0].reason, ==, SCHEDULE_WAIT_HIGH_PRIORITY);
    running.ending = true;
    g_assert_true(schedule_decide(waiting, 2, &running, 1, NULL, verdicts));
    g_assert_cmpint(verdicts[0].reason, ==, SCHEDULE_START_LINK_FREE);
    g_assert_cmpint(verdicts[1].reason, ==, SCHEDULE_START_STAND_BY);
}

static void
test_relief(void)
{
    static const struct {
        ScheduleReliefInput input;
        double relief;
    } rows[] = {
        { { 0 }, 0.0 },
        /* The VM's own traffic leaves the source. */
        { { 100, 50, 0, 0, { true, 0, 30 } }, 0.3 },
        { { 100, 50, 100, 90, { true, 0, 30 } }, 0.3 },
        /* The destination is the bottleneck: what the VM receives comes there. */
        { { 100, 90, 100, 50, { true, 30, 0 } }, -0.3 },
        { { 0, 0, 100, 50, { true, 30, 0 } }, -0.3 },
        /* Relief at the source only as far as the destination has room. */
        { { 100, 50, 100, 60, { true, 0, 30 } }, 0.1 },
        { { 100, 50, 100, 60, { false, 0, 30 } }, 0.0 },
        { { 1, UINT64_MAX, 0, 0, { true, UINT64_MAX, UINT64_MAX } }, 0.0 },
        { { 1, 0, 0, 0, { true, 0, UINT64_MAX } }, 1.0 },
        { { 0, 0, 1, UINT64_MAX, { true, UINT64_MAX, 0 } }, -1.0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        g_assert_cmpfloat_with_epsilon(schedule_relief(&rows[i].input), rows[i].relief, 1e-9);
}

static void
test_seconds_left(void)
{
    g_assert_cmpfloat_with_epsilon(schedule_seconds_left(100 * MB, 20 * MB, 0), 5.0, 1e-9);
    g_assert_cmpfloat_with_epsilon(schedule_seconds_left(100 * MB, 20 * MB, 10 * MB), 10.0, 1e-9);
    g_assert_cmpfloat_with_epsilon(schedule_seconds_left(0, 1, 0), 0.0, 1e-9);
    g_assert_cmpfloat(schedule_seconds_left(1, 0, 0), <, 0.0);
    g_assert_cmpfloat(schedule_seconds_left(1, 5, 5), <, 0.0);
    g_assert_cmpfloat(schedule_seconds_left(1, 5, UINT64_MAX), <, 0.0);
    g_assert_cmpfloat(schedule_seconds_left(UINT64_MAX, 1, 0), >, 1e19);
}

/* Several sources, one destination. */
static void
test_admit(void)
{
    ScheduleIncoming candidate = { item_new(2, PRIORITY_LOW, TECHNIQUE_PRE_COPY), .source = 7 };
    ScheduleIncoming running = { item_new(1, PRIORITY_LOW, TECHNIQUE_PRE_COPY), .source = 8 };
    ScheduleParams params = schedule_params_default();

    g_assert_cmpint(schedule_admit(&candidate, NULL, 0, NULL, 0, NULL), ==,
                    SCHEDULE_START_LINK_FREE);
    g_assert_cmpint(schedule_admit(&candidate, &running, 1, NULL, 0, NULL), ==,
                    SCHEDULE_WAIT_LINK_BUSY);
    params.scheduling = SCHEDULING_PARALLEL;
    g_assert_cmpint(schedule_admit(&candidate, &running, 1, NULL, 0, &params), ==,
                    SCHEDULE_START_PARALLEL);
    /* A stream that leaves room, and one whose room the workload has. */
    running.item.stream_rate = candidate.item.stream_rate = 40 * MB;
    g_assert_cmpint(schedule_admit(&candidate, &running, 1, NULL, 0, NULL), ==,
                    SCHEDULE_START_STREAM_LEAVES_ROOM);
    candidate.item.available = 50 * MB;
    g_assert_cmpint(schedule_admit(&candidate, &running, 1, NULL, 0, NULL), ==,
                    SCHEDULE_WAIT_LINK_BUSY);
    /* The same source has decided already; an unknown one may be the same. */
    running.source = 7;
    g_assert_cmpint(schedule_admit(&candidate, &running, 1, NULL, 0, NULL), ==,
                    SCHEDULE_START_LINK_FREE);
    running.source = 0;
    g_assert_cmpint(schedule_admit(&candidate, &running, 1, NULL, 0, NULL), ==,
                    SCHEDULE_START_LINK_FREE);
    running.source = 8;
    candidate.item.priority = PRIORITY_HIGH;
    g_assert_cmpint(schedule_admit(&candidate, &running, 1, NULL, 0, NULL), ==,
                    SCHEDULE_START_HIGH_PRIORITY);
}

/* A source that always has a next one does not keep another one out. */
static void
test_admit_in_turn(void)
{
    static const struct {
        uint64_t ahead_source;
        Priority ahead_priority, priority;
        size_t running_count;
        ScheduleReason reason;
    } rows[] = {
        { 8, PRIORITY_LOW, PRIORITY_LOW, 1, SCHEDULE_WAIT_TURN },
        { 8, PRIORITY_MEDIUM, PRIORITY_LOW, 1, SCHEDULE_WAIT_TURN },
        { 8, PRIORITY_LOW, PRIORITY_MEDIUM, 1, SCHEDULE_START_LINK_FREE },
        { 8, PRIORITY_HIGH, PRIORITY_HIGH, 1, SCHEDULE_START_HIGH_PRIORITY },
        { 7, PRIORITY_HIGH, PRIORITY_LOW, 1, SCHEDULE_START_LINK_FREE },
        { 0, PRIORITY_HIGH, PRIORITY_LOW, 1, SCHEDULE_START_LINK_FREE },
        { 8, PRIORITY_LOW, PRIORITY_LOW, 0, SCHEDULE_START_LINK_FREE },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        ScheduleIncoming running = { item_new(1, PRIORITY_LOW, TECHNIQUE_PRE_COPY), .source = 7 };
        ScheduleIncoming ahead = { item_new(2, rows[i].ahead_priority, TECHNIQUE_PRE_COPY),
                                   .source = rows[i].ahead_source };
        ScheduleIncoming candidate = { item_new(3, rows[i].priority, TECHNIQUE_PRE_COPY),
                                       .source = 7 };

        g_test_message("row %" G_GSIZE_FORMAT, i);
        g_assert_cmpint(
            schedule_admit(&candidate, &running, rows[i].running_count, &ahead, 1, NULL), ==,
            rows[i].reason);
    }
}

static SchedulePlanItem
plan_item(uint64_t id, Priority priority, uint64_t bytes, uint32_t source, uint32_t destination)
{
    SchedulePlanItem item = { .item = item_new(id, priority, TECHNIQUE_PRE_COPY),
                              .destination = destination,
                              .bytes = bytes };

    item.item.link = source;
    item.item.seconds = (double)bytes / (100.0 * (double)MB);
    return item;
}

/* 100 MB/s links: 0 and 1 leave the sources, 2 and 3 enter the destinations. */
static const SchedulePlanLink plan_links[] = {
    { true, 100 * MB, 100 * MB },
    { true, 100 * MB, 100 * MB },
    { true, 100 * MB, 100 * MB },
    { true, 50 * MB, 100 * MB },
};

static void
test_plan(void)
{
    SchedulePlanItem items[5] = {
        plan_item(0, PRIORITY_LOW, 500 * MB, 0, 2),  /* after 1 and 2 */
        plan_item(1, PRIORITY_HIGH, 100 * MB, 0, 2), /* at once */
        plan_item(2, PRIORITY_LOW, 100 * MB, 0, 2),  /* shorter than 0 */
        plan_item(3, PRIORITY_LOW, 100 * MB, 1, 3),  /* another path: at once, at 50 MB/s */
        plan_item(4, PRIORITY_LOW, 100 * MB, 1, SCHEDULE_NO_LINK),
    };
    static const double start[5] = { 2, 0, 1, 0, 2 };
    static const double end[5] = { 7, 1, 2, 2, 3 };
    ScheduleParams params = schedule_params_default();
    SchedulePlanned planned[5];

    for (size_t i = 0; i < 5; i++)
        items[i].item.takes_turns = false;
    g_assert_true(schedule_plan(items, 5, plan_links, 4, NULL, planned));
    for (size_t i = 0; i < 5; i++) {
        g_assert_true(planned[i].start_known && planned[i].end_known);
        g_assert_cmpfloat_with_epsilon(planned[i].start, start[i], 1e-6);
        g_assert_cmpfloat_with_epsilon(planned[i].end, end[i], 1e-6);
    }
    /* Who stands by has a thirty-second of the link, and then what is left to do. */
    for (size_t i = 0; i < 5; i++)
        items[i].item.takes_turns = true;
    g_assert_true(schedule_plan(items, 5, plan_links, 4, NULL, planned));
    g_assert_cmpfloat_with_epsilon(planned[2].start, 1.0, 1e-6);
    g_assert_cmpfloat_with_epsilon(planned[2].end, 1 + 32 / 31.0, 1e-6);
    g_assert_cmpfloat_with_epsilon(planned[0].start, 1.0, 1e-6);
    g_assert_cmpfloat_with_epsilon(planned[0].end, 7.0, 1e-6);
    /* Two of high priority take turns on the link; dirtying slows pre-copy down. */
    items[2].item.priority = PRIORITY_HIGH;
    items[0].dirty_rate = 50 * MB;
    g_assert_true(schedule_plan(items, 3, plan_links, 4, NULL, planned));
    g_assert_cmpfloat_with_epsilon(planned[1].end, 32 / 31.0, 1e-6);
    g_assert_cmpfloat_with_epsilon(planned[2].end, 2.0, 1e-6);
    g_assert_cmpfloat_with_epsilon(planned[0].start, 2.0, 1e-6);
    g_assert_cmpfloat_with_epsilon(planned[0].end, 12.0, 1e-6);
    /* One that runs already counts with what is left of it. */
    items[1].running = true;
    items[1].bytes = 10 * MB;
    items[2].item.priority = PRIORITY_LOW;
    g_assert_true(schedule_plan(items, 3, plan_links, 4, &params, planned));
    g_assert_cmpfloat_with_epsilon(planned[2].start, 0.1, 1e-6);
}

/* A short one that comes later overtakes where it is more urgent, or both are of high priority. */
static void
test_plan_places(void)
{
    static const struct {
        Priority running, later;
        double long_end, short_end;
    } rows[] = {
        { PRIORITY_LOW, PRIORITY_LOW, 32 / 31.0 * 10, 11 },
        { PRIORITY_MEDIUM, PRIORITY_MEDIUM, 32 / 31.0 * 10, 11 },
        { PRIORITY_MEDIUM, PRIORITY_LOW, 32 / 31.0 * 10, 11 },
        { PRIORITY_LOW, PRIORITY_MEDIUM, 11, 32 / 31.0 },
        { PRIORITY_HIGH, PRIORITY_HIGH, 11, 32 / 31.0 },
        { PRIORITY_LOW, PRIORITY_HIGH, 11, 32 / 31.0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        SchedulePlanItem items[2] = { plan_item(1, rows[i].running, 1000 * MB, 0, 2),
                                      plan_item(2, rows[i].later, 100 * MB, 0, 2) };
        SchedulePlanned planned[2];

        g_test_message("row %" G_GSIZE_FORMAT, i);
        items[0].running = true;
        g_assert_true(schedule_plan(items, 2, plan_links, 4, NULL, planned));
        g_assert_cmpfloat_with_epsilon(planned[0].end, rows[i].long_end, 1e-6);
        g_assert_cmpfloat_with_epsilon(planned[1].end, rows[i].short_end, 1e-6);
    }
}

/* What stands by keeps more than a sixteenth of its share where that is little. */
static void
test_plan_slow_link(void)
{
    static const SchedulePlanLink slow = { true, 2 * MB, 2 * MB };
    SchedulePlanItem items[2] = {
        plan_item(1, PRIORITY_LOW, 31 * MB / 10, 0, SCHEDULE_NO_LINK),
        plan_item(2, PRIORITY_LOW, 31 * MB / 10, 0, SCHEDULE_NO_LINK),
    };
    SchedulePlanned planned[2];

    g_assert_true(schedule_plan(items, 2, &slow, 1, NULL, planned));
    /* 1.55 MB/s beside 0.45, then what is left of the second at 2 MB/s. */
    g_assert_cmpfloat_with_epsilon(planned[0].end, 2.0, 1e-6);
    g_assert_cmpfloat_with_epsilon(planned[1].end, 3.1, 1e-6);
}

static void
test_turn(void)
{
    static const struct {
        Scheduling scheduling;
        uint32_t maximum_running;
        double start;
        double prepare_seconds;
        double turn;
    } rows[] = {
        { SCHEDULING_AUTOMATIC, 0, 10.0, 0.7, 9.3 },
        { SCHEDULING_AUTOMATIC, 0, 0.5, 0.7, 0.0 },
        { SCHEDULING_AUTOMATIC, 0, 0.0, 0.7, 0.0 },
        { SCHEDULING_AUTOMATIC, 0, 10.0, -1.0, 10.0 },
        { SCHEDULING_AUTOMATIC, 0, 10.0, NAN, 10.0 },
        /* Who ends has his place until the end. */
        { SCHEDULING_AUTOMATIC, 2, 10.0, 0.7, 10.0 },
        { SCHEDULING_SERIAL, 0, 10.0, 0.7, 10.0 },
        { SCHEDULING_PARALLEL, 0, 10.0, 0.7, 10.0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        ScheduleParams params = schedule_params_default();

        g_test_message("row %" G_GSIZE_FORMAT, i);
        params.scheduling = rows[i].scheduling;
        params.maximum_running = rows[i].maximum_running;
        g_assert_cmpfloat_with_epsilon(
            schedule_turn(rows[i].start, rows[i].prepare_seconds, &params), rows[i].turn, 1e-9);
    }
}

static void
test_plan_unknown(void)
{
    SchedulePlanLink links[] = { { true, 0, 100 * MB }, { false, 0, 0 } };
    SchedulePlanItem items[3] = {
        plan_item(0, PRIORITY_MEDIUM, 100 * MB, 0, SCHEDULE_NO_LINK),
        plan_item(1, PRIORITY_LOW, 200 * MB, 0, SCHEDULE_NO_LINK),
        plan_item(2, PRIORITY_HIGH, 100 * MB, 1, SCHEDULE_NO_LINK),
    };
    SchedulePlanned planned[3];

    g_assert_true(schedule_plan(NULL, 0, NULL, 0, NULL, NULL));
    g_assert_false(schedule_plan(items, SCHEDULE_ITEMS_MAX + 1, links, 2, NULL, planned));
    g_assert_false(schedule_plan(items, 3, links, SCHEDULE_PLAN_LINKS_MAX + 1, NULL, planned));
    /* Nothing moves over a link of rate 0, and nobody knows when it would. */
    items[1].item.takes_turns = false;
    g_assert_true(schedule_plan(items, 3, links, 2, NULL, planned));
    g_assert_true(planned[0].start_known && !planned[0].end_known);
    g_assert_false(planned[1].start_known);
    /* An unknown rate: the prediction counts. */
    g_assert_true(planned[2].end_known);
    g_assert_cmpfloat_with_epsilon(planned[2].end, 1.0, 1e-6);
    /* Neither bytes nor a prediction. */
    items[0] = plan_item(0, PRIORITY_LOW, 0, 1, 7);
    items[0].item.seconds = (double)NAN;
    items[1] = plan_item(1, PRIORITY_LOW, 100 * MB, 1, 7);
    items[1].item.priority = PRIORITY_LOW;
    g_assert_true(schedule_plan(items, 2, links, 2, NULL, planned));
    g_assert_cmpuint(planned[1].rank, ==, 0);
    g_assert_true(planned[1].end_known && planned[0].start_known && !planned[0].end_known);
}

/* 1000 VMs from 50 hosts to 50: everybody ends, nobody before he starts. */
static void
test_plan_many(void)
{
    static SchedulePlanItem items[SCHEDULE_ITEMS_MAX];
    static SchedulePlanLink links[100];
    static SchedulePlanned planned[SCHEDULE_ITEMS_MAX];
    static bool seen[1000];

    for (unsigned int i = 0; i < 100; i++)
        links[i] = (SchedulePlanLink){ true, (50 + i) * MB, 150 * MB };
    for (unsigned int i = 0; i < 1000; i++)
        items[i] = plan_item(i, (Priority)g_test_rand_int_range(0, 3),
                             (uint64_t)g_test_rand_int_range(1, 4000) * MB, i % 50,
                             50 + (uint32_t)g_test_rand_int_range(0, 50));
    g_assert_true(schedule_plan(items, 1000, links, 100, NULL, planned));
    for (unsigned int i = 0; i < 1000; i++) {
        g_assert_true(planned[i].start_known && planned[i].end_known);
        g_assert_cmpfloat(planned[i].end, >, planned[i].start);
        g_assert_cmpuint(planned[i].rank, <, 1000);
        g_assert_false(seen[planned[i].rank]);
        seen[planned[i].rank] = true;
        if (items[i].item.priority == PRIORITY_HIGH)
            g_assert_cmpfloat(planned[i].start, ==, 0.0);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/decision/schedule/rules", test_rules);
    g_test_add_func("/decision/schedule/low-contention", test_low_contention);
    g_test_add_func("/decision/schedule/streams-leave-room", test_streams_leave_room);
    g_test_add_func("/decision/schedule/stand-by", test_stand_by);
    g_test_add_func("/decision/schedule/streams-measured", test_streams_measured);
    g_test_add_func("/decision/schedule/plan-places", test_plan_places);
    g_test_add_func("/decision/schedule/gathering", test_gathering);
    g_test_add_func("/decision/schedule/order", test_order);
    g_test_add_func("/decision/schedule/maximum", test_maximum);
    g_test_add_func("/decision/schedule/configured", test_configured);
    g_test_add_func("/decision/schedule/ending", test_ending);
    g_test_add_func("/decision/schedule/relief", test_relief);
    g_test_add_func("/decision/schedule/seconds-left", test_seconds_left);
    g_test_add_func("/decision/schedule/admit", test_admit);
    g_test_add_func("/decision/schedule/admit-in-turn", test_admit_in_turn);
    g_test_add_func("/decision/schedule/plan", test_plan);
    g_test_add_func("/decision/schedule/plan-slow-link", test_plan_slow_link);
    g_test_add_func("/decision/schedule/turn", test_turn);
    g_test_add_func("/decision/schedule/plan-sums", test_plan_sums);
    g_test_add_func("/decision/schedule/plan-unknown", test_plan_unknown);
    g_test_add_func("/decision/schedule/plan-many", test_plan_many);
    g_test_add_func("/decision/schedule/bounds-and-random", test_bounds_and_random);
    return g_test_run();
}
