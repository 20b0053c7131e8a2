/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The division of a link: the table's rows, and its promises for any input. */
#include "decision/reserve.h"

#include <glib.h>

#define MB UINT64_C(1000000)

static ReserveInput
input_for(Priority priority)
{
    ReserveInput input = reserve_input_init();

    input.link = 100 * MB;
    input.lower = 20 * MB;
    input.upper = 60 * MB;
    input.count[priority] = 1;
    return input;
}

static void
test_high(void)
{
    ReserveInput input = input_for(PRIORITY_HIGH);
    Reservation found;

    g_assert_true(reserve_divide(&input, &found));
    g_assert_cmpuint(found.workload.rate, ==, 20 * MB);
    g_assert_cmpuint(found.workload.ceil, ==, 100 * MB);
    g_assert_cmpuint(found.migration.rate, ==, 80 * MB);
    g_assert_cmpuint(found.migration.ceil, ==, 100 * MB);
    g_assert_cmpuint(found.migration.prio, <, found.workload.prio);
    g_assert_cmpuint(found.leaf[PRIORITY_HIGH].rate, ==, 80 * MB);
    g_assert_cmpint(found.floor, ==, RESERVE_FLOOR_NOT_USED);

    input.lower = input.upper = 0; /* no SLA: a tenth stays the workload's */
    g_assert_true(reserve_divide(&input, &found));
    g_assert_cmpuint(found.workload.rate, ==, 10 * MB);
    g_assert_cmpuint(found.migration.rate, ==, 90 * MB);
}

static void
test_medium(void)
{
    static const struct {
        bool valid;
        uint64_t demand, held;
    } rows[] = {
        { false, 0, 60 * MB },      { true, 0, 20 * MB },       { true, 19 * MB, 20 * MB },
        { true, 40 * MB, 40 * MB }, { true, 61 * MB, 60 * MB }, { true, UINT64_MAX, 60 * MB },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        ReserveInput input = input_for(PRIORITY_MEDIUM);
        Reservation found;

        input.demand_valid = rows[i].valid;
        input.demand = rows[i].demand;
        g_assert_true(reserve_divide(&input, &found));
        g_assert_cmpuint(found.workload.rate, ==, rows[i].held);
        g_assert_cmpuint(found.workload.ceil, ==, 100 * MB);
        g_assert_cmpuint(found.migration.rate, ==, 40 * MB);
        g_assert_cmpuint(found.migration.ceil, ==, 80 * MB);
        g_assert_cmpuint(found.workload.prio, <, found.migration.prio);
    }
}

static void
test_low(void)
{
    static const struct {
        const char *name;
        bool demand_valid, dirty_valid;
        uint64_t demand, dirty;
        unsigned int count;
        uint64_t workload, migration;
        ReserveFloor floor;
    } rows[] = {
        { "quiet guest", true, true, 30 * MB, MB, 1, 30 * MB, 5 * MB, RESERVE_FLOOR_ENOUGH },
        { "unknown dirty rate", true, false, 30 * MB, 0, 1, 30 * MB, 5 * MB,
          RESERVE_FLOOR_UNKNOWN },
        { "raised from spare", true, true, 30 * MB, 20 * MB, 1, 30 * MB, 25 * MB,
          RESERVE_FLOOR_RAISED },
        { "raised up to the lower limit only", true, true, 0, 64 * MB, 1, 20 * MB, 80 * MB,
          RESERVE_FLOOR_RAISED },
        { "not into the lower limit", true, true, 0, 65 * MB, 1, 20 * MB, 5 * MB,
          RESERVE_FLOOR_HYBRID },
        { "busy link", true, true, 90 * MB, 20 * MB, 1, 90 * MB, 5 * MB, RESERVE_FLOOR_HYBRID },
        { "demand above link", true, true, UINT64_MAX, 20 * MB, 1, 95 * MB, 5 * MB,
          RESERVE_FLOOR_HYBRID },
        { "demand unknown", false, true, 0, 20 * MB, 1, 95 * MB, 5 * MB, RESERVE_FLOOR_HYBRID },
        { "four of them", true, true, 30 * MB, 4 * MB, 4, 30 * MB, 20 * MB, RESERVE_FLOOR_RAISED },
        { "dirty rate overflows", true, true, 30 * MB, UINT64_MAX, 4, 30 * MB, 5 * MB,
          RESERVE_FLOOR_HYBRID },
        { "1.25 times it is 2^62, four of them wrap", true, true, 30 * MB,
          UINT64_C(3689348814741910324), 4, 30 * MB, 5 * MB, RESERVE_FLOOR_HYBRID },
        { "workload below its limit", true, true, 1, MB, 1, 20 * MB, 5 * MB, RESERVE_FLOOR_ENOUGH },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        ReserveInput input = input_for(PRIORITY_LOW);
        Reservation found;

        g_test_message("%s", rows[i].name);
        input.demand_valid = rows[i].demand_valid;
        input.demand = rows[i].demand;
        input.dirty_valid = rows[i].dirty_valid;
        input.dirty_rate = rows[i].dirty;
        input.count[PRIORITY_LOW] = rows[i].count;
        g_assert_true(reserve_divide(&input, &found));
        g_assert_cmpint(found.floor, ==, rows[i].floor);
        g_assert_cmpuint(found.workload.rate, ==, rows[i].workload);
        g_assert_cmpuint(found.migration.rate, ==, rows[i].migration);
        g_assert_cmpuint(found.migration.ceil, ==, 100 * MB);
        g_assert_cmpuint(found.workload.prio, <, found.migration.prio);
    }
}

static void
test_mixed_priorities(void)
{
    ReserveInput input = input_for(PRIORITY_HIGH);
    Reservation found;

    input.count[PRIORITY_LOW] = 1;
    input.count[PRIORITY_MEDIUM] = 1;
    g_assert_true(reserve_divide(&input, &found));
    g_assert_cmpint(found.priority, ==, PRIORITY_HIGH);
    g_assert_cmpuint(found.leaf[PRIORITY_HIGH].rate, ==, 80 * MB * 16 / 21);
    g_assert_cmpuint(found.leaf[PRIORITY_LOW].rate, ==, 80 * MB / 21);
    g_assert_cmpuint(found.leaf[PRIORITY_HIGH].prio, <, found.leaf[PRIORITY_MEDIUM].prio);
    g_assert_cmpuint(found.leaf[PRIORITY_MEDIUM].prio, <, found.leaf[PRIORITY_LOW].prio);
    /* The workload lends to high before it borrows itself; the others come after it. */
    g_assert_cmpuint(found.leaf[PRIORITY_HIGH].prio + 1, <, found.workload.prio);
    g_assert_cmpuint(found.workload.prio, <, found.leaf[PRIORITY_MEDIUM].prio);
    /* Who waits for its turn is one later, and still before the next priority. */
    g_assert_cmpuint(found.leaf[PRIORITY_MEDIUM].prio + 1, <, found.leaf[PRIORITY_LOW].prio);
    g_assert_cmpuint(found.leaf[PRIORITY_LOW].prio + 1, <=, 7);
}

static void
test_unknown_link(void)
{
    Reservation found = { .lower = 42 };
    ReserveInput input = input_for(PRIORITY_HIGH);
    uint64_t floor;

    input.link = 0;
    g_assert_false(reserve_divide(&input, &found));
    g_assert_cmpuint(found.lower, ==, 42);
    g_assert_cmpint(reserve_low_floor(&input, &floor), ==, RESERVE_FLOOR_NOT_USED);
    input.link = RESERVE_LINK_MIN - 1;
    g_assert_false(reserve_divide(&input, &found));
    input.link = RESERVE_LINK_MIN;
    g_assert_true(reserve_divide(&input, &found));
}

static void
assert_class(const ReserveClass *found, uint64_t link)
{
    g_assert_cmpuint(found->rate, >, 0);
    g_assert_cmpuint(found->rate, <=, found->ceil);
    g_assert_cmpuint(found->ceil, <=, link);
    g_assert_cmpuint(found->prio, <=, 7);
}

/* Only as far as the deadline needs, and never below the workload's lower limits. */
static void
test_deadline(void)
{
    static const struct {
        Priority priority;
        uint64_t needed;
        uint64_t workload, migration, ceil;
        ReserveDeadline deadline;
    } rows[] = {
        { PRIORITY_MEDIUM, 0, 60 * MB, 40 * MB, 80 * MB, RESERVE_DEADLINE_NONE },
        { PRIORITY_MEDIUM, 1, 60 * MB, 40 * MB, 80 * MB, RESERVE_DEADLINE_ENOUGH },
        { PRIORITY_MEDIUM, 40 * MB, 60 * MB, 40 * MB, 80 * MB, RESERVE_DEADLINE_ENOUGH },
        { PRIORITY_MEDIUM, 55 * MB, 45 * MB, 55 * MB, 80 * MB, RESERVE_DEADLINE_RAISED },
        { PRIORITY_MEDIUM, 80 * MB, 20 * MB, 80 * MB, 80 * MB, RESERVE_DEADLINE_RAISED },
        { PRIORITY_MEDIUM, 80 * MB + 1, 20 * MB, 80 * MB, 80 * MB, RESERVE_DEADLINE_MISSED },
        { PRIORITY_MEDIUM, UINT64_MAX, 20 * MB, 80 * MB, 80 * MB, RESERVE_DEADLINE_MISSED },
        { PRIORITY_LOW, 5 * MB, 90 * MB, 5 * MB, 100 * MB, RESERVE_DEADLINE_ENOUGH },
        { PRIORITY_LOW, 30 * MB, 70 * MB, 30 * MB, 100 * MB, RESERVE_DEADLINE_RAISED },
        { PRIORITY_LOW, UINT64_MAX, 20 * MB, 80 * MB, 100 * MB, RESERVE_DEADLINE_MISSED },
        { PRIORITY_HIGH, 80 * MB, 20 * MB, 80 * MB, 100 * MB, RESERVE_DEADLINE_ENOUGH },
        { PRIORITY_HIGH, 81 * MB, 20 * MB, 80 * MB, 100 * MB, RESERVE_DEADLINE_MISSED },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        ReserveInput input = input_for(rows[i].priority);
        Reservation found;

        input.demand_valid = true;
        input.demand = 90 * MB;
        input.deadline_rate = rows[i].needed;
        g_test_message("row %" G_GSIZE_FORMAT, i);
        g_assert_true(reserve_divide(&input, &found));
        g_assert_cmpuint(found.workload.rate, ==, rows[i].workload);
        g_assert_cmpuint(found.migration.rate, ==, rows[i].migration);
        g_assert_cmpuint(found.migration.ceil, ==, rows[i].ceil);
        g_assert_cmpuint(found.leaf[rows[i].priority].rate, ==, rows[i].migration);
        g_assert_cmpint(found.deadline, ==, rows[i].deadline);
        g_assert_nonnull(reserve_deadline_to_string(found.deadline));
    }
}

static void
assert_promises(const ReserveInput *input)
{
    Reservation found;
    uint64_t leaves = 0;

    g_assert_true(reserve_divide(input, &found));
    assert_class(&found.workload, input->link);
    assert_class(&found.migration, input->link);
    g_assert_cmpuint(found.workload.rate, <=, input->link - found.migration.rate);
    g_assert_cmpuint(found.workload.rate, >=, input->link / 100);
    g_assert_cmpuint(found.migration.rate, >=,
                     input->link / 100 * CLAMP(input->floor_percent, 1, 50));
    g_assert_cmpuint(found.lower, <=, found.upper);
    for (unsigned int i = 0; i < 3; i++) {
        assert_class(&found.leaf[i], input->link);
        leaves += found.leaf[i].rate * input->count[i];
        for (unsigned int shaped = 0; shaped < 2; shaped++) {
            ReserveQemuLimits limits = reserve_qemu_limits(&found, (Priority)i, shaped);

            g_assert_cmpuint(limits.max_bandwidth, >, 0);
            g_assert_cmpuint(limits.post_copy, >, 0);
            g_assert_cmpuint(limits.max_bandwidth, <=, (uint64_t)INT64_MAX >> 20);
        }
    }
    g_assert_cmpuint(leaves, <=, found.migration.rate);
}

static void
test_promises(void)
{
    static const uint64_t links[] = { RESERVE_LINK_MIN,  RESERVE_LINK_MIN + 1,
                                      50 * MB,           (UINT64_C(1) << 32) - 1,
                                      UINT64_C(1) << 32, UINT64_C(1) << 63,
                                      UINT64_MAX };
    static const uint64_t rates[] = {
        0, 1, 30 * MB, UINT64_C(1) << 32, UINT64_MAX - 1, UINT64_MAX
    };
    static const unsigned int percents[] = { 0, 1, 5, 50, 100, UINT32_MAX };
    static const unsigned int counts[][3] = { { 0, 0, 0 },    { 1, 0, 0 }, { 0, 1, 0 },
                                              { 0, 0, 1 },    { 2, 3, 4 }, { 64, 0, 0 },
                                              { 20, 22, 22 }, { 1, 0, 63 } };

    for (size_t c = 0; c < G_N_ELEMENTS(links); c++)
        for (size_t l = 0; l < G_N_ELEMENTS(rates); l++)
            for (size_t u = 0; u < G_N_ELEMENTS(rates); u++)
                for (size_t d = 0; d < G_N_ELEMENTS(rates); d++)
                    for (size_t r = 0; r < G_N_ELEMENTS(rates); r++)
                        for (size_t p = 0; p < G_N_ELEMENTS(percents); p++)
                            for (size_t n = 0; n < G_N_ELEMENTS(counts); n++) {
                                ReserveInput input = { .link = links[c],
                                                       .lower = rates[l],
                                                       .upper = rates[u],
                                                       .demand_valid = (d + r) % 3 != 0,
                                                       .demand = rates[d],
                                                       .dirty_valid = (d + l) % 3 != 0,
                                                       .dirty_rate = rates[r],
                                                       .floor_percent = percents[p],
                                                       .minimum_workload_percent =
                                                           percents[(p + l) % 6],
                                                       .deadline_rate = rates[(d + u + r) % 6] };

                                for (unsigned int i = 0; i < 3; i++)
                                    input.count[i] = counts[n][i];
                                assert_promises(&input);
                            }
}

static void
test_follow(void)
{
    uint64_t held = reserve_follow_demand(0, true, 40 * MB, 20 * MB, 60 * MB, 500);

    g_assert_cmpuint(held, ==, 60 * MB); /* rises at once */
    held = reserve_follow_demand(held, true, 40 * MB, 20 * MB, 60 * MB, 500);
    g_assert_cmpuint(held, >=, 44 * MB); /* falls towards a tenth more */
    g_assert_cmpuint(held, <=, 46 * MB);
    g_assert_cmpuint(reserve_follow_demand(held, false, 0, 20 * MB, 60 * MB, 500), ==, held);

    /* Unknown demand at the start holds the lower limit. */
    g_assert_cmpuint(reserve_follow_demand(0, false, 0, 20 * MB, 60 * MB, 500), ==, 20 * MB);

    /* A steady workload is held steady. */
    for (unsigned int i = 0; i < 20; i++)
        held = reserve_follow_demand(held, true, 40 * MB, 20 * MB, 60 * MB, 500);
    g_assert_cmpuint(held, >=, 44 * MB);
    g_assert_cmpuint(held, <, 44 * MB + 10);

    /* One that uses all it can get is given more until the upper limit. */
    held = 25 * MB;
    held = reserve_follow_demand(held, true, held / 100 * 96, 20 * MB, 60 * MB, 500);
    g_assert_cmpuint(held, ==, 36 * MB);
    held = reserve_follow_demand(held, true, held, 20 * MB, 60 * MB, 500);
    held = reserve_follow_demand(held, true, held, 20 * MB, 60 * MB, 500);
    g_assert_cmpuint(held, ==, 60 * MB);

    /* It stops: within a second nothing but the lower limit is held. */
    held = reserve_follow_demand(60 * MB, true, 0, MB, 60 * MB, 500);
    held = reserve_follow_demand(held, true, 0, MB, 60 * MB, 500);
    g_assert_cmpuint(held, ==, MB);
    /* Steps of another length do not change the speed. */
    held = 64 * MB;
    for (unsigned int i = 0; i < 20; i++)
        held = reserve_follow_demand(held, true, 0, MB, 64 * MB, 25);
    g_assert_cmpuint(held, >, 4 * MB - 100);
    g_assert_cmpuint(held, <=, 4 * MB);
    g_assert_cmpuint(reserve_follow_demand(60 * MB, true, 0, MB, 60 * MB, 0), ==, 60 * MB);

    /* Hostile. */
    g_assert_cmpuint(reserve_follow_demand(UINT64_MAX, true, UINT64_MAX, 0, 0, UINT64_MAX), ==,
                     UINT64_MAX);
    g_assert_cmpuint(reserve_follow_demand(UINT64_MAX, true, 0, 5, 0, UINT64_MAX), ==, 5);
    g_assert_cmpuint(reserve_follow_demand(0, true, UINT64_MAX, 80, 70, 1), ==, 80);
    g_assert_cmpuint(reserve_follow_demand(0, true, 0, 0, 0, 0), ==, 0);
}

static void
test_qemu_limits(void)
{
    ReserveInput input = input_for(PRIORITY_MEDIUM);
    ReserveQemuLimits limits;
    Reservation found;

    input.count[PRIORITY_MEDIUM] = 2;
    g_assert_true(reserve_divide(&input, &found));
    limits = reserve_qemu_limits(&found, PRIORITY_MEDIUM, true);
    g_assert_cmpuint(limits.max_bandwidth, ==, 77); /* 80 MB/s is 76.3 MiB/s */
    g_assert_cmpuint(limits.post_copy, ==, 154);
    limits = reserve_qemu_limits(&found, PRIORITY_MEDIUM, false);
    g_assert_cmpuint(limits.max_bandwidth, ==, 19); /* 20 MB/s each */
    g_assert_cmpuint(limits.post_copy, ==, 19);
    /* Nothing lends without classes: QEMU gets what a known demand leaves. */
    input.demand_valid = true;
    input.demand = 30 * MB;
    g_assert_true(reserve_divide(&input, &found));
    g_assert_cmpuint(reserve_qemu_limits(&found, PRIORITY_MEDIUM, false).max_bandwidth, ==, 33);
    /* The lower limit, 20 MB/s, is kept from an idle workload too. */
    input.demand = 0;
    g_assert_true(reserve_divide(&input, &found));
    g_assert_cmpuint(reserve_qemu_limits(&found, PRIORITY_MEDIUM, false).max_bandwidth, ==, 38);
    input.demand = UINT64_MAX;
    g_assert_true(reserve_divide(&input, &found));
    g_assert_cmpuint(reserve_qemu_limits(&found, PRIORITY_MEDIUM, false).max_bandwidth, ==, 19);
}

/* A minimum that nobody declared is guaranteed, but lent while it is unused. */
static void
test_medium_without_sla(void)
{
    ReserveInput input = input_for(PRIORITY_MEDIUM);
    Reservation found;

    input.lower = 0;
    input.upper = 0;
    g_assert_true(reserve_divide(&input, &found));
    g_assert_cmpuint(found.lower, ==, 10 * MB);
    g_assert_cmpuint(found.migration.ceil, ==, 100 * MB);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/decision/reserve/high", test_high);
    g_test_add_func("/decision/reserve/medium", test_medium);
    g_test_add_func("/decision/reserve/medium-without-sla", test_medium_without_sla);
    g_test_add_func("/decision/reserve/low", test_low);
    g_test_add_func("/decision/reserve/deadline", test_deadline);
    g_test_add_func("/decision/reserve/mixed-priorities", test_mixed_priorities);
    g_test_add_func("/decision/reserve/unknown-link", test_unknown_link);
    g_test_add_func("/decision/reserve/promises", test_promises);
    g_test_add_func("/decision/reserve/follow", test_follow);
    g_test_add_func("/decision/reserve/qemu-limits", test_qemu_limits);
    return g_test_run();
}
