/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Never multifd together with post-copy below QEMU 10.1; else by rate. */
#include "decision/parallel.h"

#include <glib.h>

static void
test_versions(void)
{
    static const struct {
        uint32_t source, destination;
        bool pre_copy, with_post_copy;
    } rows[] = {
        { 0, 0, false, false },
        { 10001000, 0, false, false },
        { 0, 10001000, false, false },
        { 3001000, 7002000, false, false },
        { 7002000, 7002000, true, false },
        { 8002000, 10000005, true, false },
        { 10000999, 10001000, true, false },
        { 10001000, 10000999, true, false },
        { 10001000, 10001000, true, true },
        { 11000000, 10001001, true, true },
        { UINT32_MAX, UINT32_MAX, true, true },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        uint32_t s = rows[i].source;
        uint32_t d = rows[i].destination;

        g_test_message("%u and %u", s, d);
        g_assert_cmpint(technique_gate_versions(TECHNIQUE_PRE_COPY, s, d), ==, rows[i].pre_copy);
        g_assert_cmpint(technique_gate_versions(TECHNIQUE_POST_COPY, s, d), ==,
                        rows[i].with_post_copy);
        g_assert_cmpint(technique_gate_versions(TECHNIQUE_HYBRID, s, d), ==,
                        rows[i].with_post_copy);
    }
    g_assert_false(technique_gate_versions((Technique)9, 11000000, 11000000));
}

static ParallelInput
fast_input(void)
{
    return (ParallelInput){
        .technique = TECHNIQUE_PRE_COPY,
        .both_ends_agree = true,
        .source_qemu = 8002000,
        .destination_qemu = 8002000,
        .available_known = true,
        .available = UINT64_C(3000000000),
        .setting = PARALLEL_AUTO,
    };
}

static void
test_count(void)
{
    ParallelInput input = fast_input();

    g_assert_cmpuint(parallel_connections(&input), ==, 3);
    input.available = PARALLEL_ONE_STREAM_RATE;
    g_assert_cmpuint(parallel_connections(&input), ==, 0);
    input.available++;
    g_assert_cmpuint(parallel_connections(&input), ==, 2);
    input.available = UINT64_C(1) << 32;
    g_assert_cmpuint(parallel_connections(&input), ==, 4);
    input.available = UINT64_MAX;
    g_assert_cmpuint(parallel_connections(&input), ==, PARALLEL_CONNECTIONS_MAX);
    input.one_stream_rate = 1;
    g_assert_cmpuint(parallel_connections(&input), ==, PARALLEL_CONNECTIONS_MAX);
    input.one_stream_rate = UINT64_MAX;
    g_assert_cmpuint(parallel_connections(&input), ==, 0);
    input = fast_input();
    input.available_known = false;
    g_assert_cmpuint(parallel_connections(&input), ==, 0);
}

static void
test_gates(void)
{
    static const int settings[] = { PARALLEL_AUTO, 4, INT32_MAX };

    for (size_t i = 0; i < G_N_ELEMENTS(settings); i++) {
        ParallelInput input = fast_input();

        input.setting = settings[i];
        g_assert_cmpuint(parallel_connections(&input), >=, 2);
        g_assert_cmpuint(parallel_connections(&input), <=, PARALLEL_CONNECTIONS_MAX);
        input.technique = TECHNIQUE_HYBRID;
        g_assert_cmpuint(parallel_connections(&input), ==, 0);
        input.technique = TECHNIQUE_PRE_COPY;
        input.post_copy_flag = true;
        g_assert_cmpuint(parallel_connections(&input), ==, 0);
        input.source_qemu = input.destination_qemu = 10001000;
        g_assert_cmpuint(parallel_connections(&input), >=, 2);
        input.tunnelled = true;
        g_assert_cmpuint(parallel_connections(&input), ==, 0);
        input.tunnelled = false;
        input.both_ends_agree = false;
        g_assert_cmpuint(parallel_connections(&input), ==, 0);
    }
    {
        ParallelInput input = fast_input();

        input.setting = PARALLEL_NEVER;
        g_assert_cmpuint(parallel_connections(&input), ==, 0);
        input.setting = 1;
        g_assert_cmpuint(parallel_connections(&input), ==, 0);
    }
}

/* Slow streams need more connections than there are cores; fast ones a core each. */
static void
test_cores(void)
{
    static const struct {
        uint64_t available, stream;
        unsigned cores, expected;
    } rows[] = {
        { UINT64_C(3000000000), 0, 0, 3 },
        { UINT64_C(3000000000), 0, 2, 2 },
        { UINT64_C(3000000000), 0, 1, 0 },
        { UINT64_C(3000000000), 0, UINT32_MAX, 3 },
        { 25000000, 6000000, 2, 5 },
        { 25000000, 6000000, 1, 5 },
        { 25000000, 1, 1, PARALLEL_CONNECTIONS_MAX },
        { UINT64_MAX, UINT64_MAX - 1, 1, 0 },
        { UINT64_MAX, UINT64_MAX - 1, 2, 2 },
        { UINT64_MAX, 1, UINT32_MAX, PARALLEL_CONNECTIONS_MAX },
        { 0, 6000000, 2, 0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        ParallelInput input = fast_input();

        input.available = rows[i].available;
        input.one_stream_rate = rows[i].stream;
        input.cores = rows[i].cores;
        g_test_message("row %zu", i);
        g_assert_cmpuint(parallel_connections(&input), ==, rows[i].expected);
    }
}

typedef struct {
    int64_t seconds;
    uint64_t bytes, room;
} Reading;

#define M UINT64_C(1000000)

static void
test_meter(void)
{
    static const struct {
        const char *what;
        Reading readings[8]; /* ends with 0, 0, 0 after the first */
        uint64_t reached, available;
    } rows[] = {
        { "nothing", { { 0, 0, 0 } }, 0, 0 },
        { "one reading", { { 5, 100 * M, 25 * M } }, 0, 0 },
        { "too short", { { 5, 0, 25 * M }, { 6, 6 * M, 25 * M } }, 0, 0 },
        { "two seconds",
          { { 5, 0, 25 * M }, { 6, 6 * M, 25 * M }, { 7, 12 * M, 25 * M } },
          6 * M,
          25 * M },
        { "least room",
          { { 5, 0, 25 * M }, { 6, 6 * M, 10 * M }, { 7, 12 * M, 25 * M } },
          6 * M,
          10 * M },
        { "best window",
          { { 5, 0, 25 * M }, { 7, 2 * M, 25 * M }, { 9, 22 * M, 20 * M }, { 11, 23 * M, 9 * M } },
          10 * M,
          20 * M },
        { "room unknown", { { 5, 0, 25 * M }, { 6, 6 * M, 0 }, { 7, 12 * M, 25 * M } }, 0, 0 },
        { "counter restarts",
          { { 5, 90 * M, 25 * M }, { 7, 0, 25 * M }, { 9, 4 * M, 25 * M } },
          2 * M,
          25 * M },
        { "clock goes back",
          { { 5, 0, 25 * M }, { 3, 90 * M, 25 * M }, { 5, 94 * M, 25 * M } },
          2 * M,
          25 * M },
        { "a gap",
          { { 5, 0, 25 * M }, { 60, 900 * M, 25 * M }, { 62, 902 * M, 25 * M } },
          1 * M,
          25 * M },
        { "2^32",
          { { 5, 0, UINT64_MAX }, { 7, UINT64_C(1) << 33, UINT64_MAX } },
          UINT64_C(1) << 32,
          UINT64_MAX },
        { "all there is", { { 5, 0, UINT64_MAX }, { 7, UINT64_MAX, UINT64_MAX } }, 0, 0 },
        { "nothing moves", { { 5, 7, 25 * M }, { 7, 7, 25 * M } }, 0, 0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        ParallelMeter meter = { 0 };

        for (size_t j = 0; j < G_N_ELEMENTS(rows[i].readings); j++) {
            const Reading *reading = &rows[i].readings[j];

            if (j == 0 || reading->seconds != 0)
                parallel_meter_add(&meter, reading->seconds * 1000000, reading->bytes,
                                   reading->room);
        }
        g_test_message("%s", rows[i].what);
        g_assert_cmpuint(meter.reached, ==, rows[i].reached);
        g_assert_cmpuint(meter.available, ==, rows[i].available);
    }
}

/* Of the latest window alone, while it is fresh. */
static void
test_unfilled(void)
{
    static const struct {
        const char *what;
        Reading readings[4];
        int64_t now;
        uint64_t rate;
    } rows[] = {
        { "no window", { { 5, 0, 25 * M }, { 6, 10 * M, 25 * M } }, 6, 0 },
        { "fills", { { 5, 0, 25 * M }, { 7, 40 * M, 25 * M } }, 7, 0 },
        { "does not", { { 5, 0, 25 * M }, { 7, 20 * M, 25 * M } }, 7, 10 * M },
        { "nothing moves", { { 5, 7, 25 * M }, { 7, 7, 25 * M } }, 8, 1 },
        { "room unknown", { { 5, 0, 0 }, { 7, 20 * M, 0 } }, 7, 0 },
        { "did not, but does",
          { { 5, 0, 25 * M }, { 7, 20 * M, 25 * M }, { 9, 70 * M, 25 * M } },
          9,
          0 },
        { "did, but does not",
          { { 5, 0, 25 * M }, { 7, 50 * M, 25 * M }, { 9, 60 * M, 25 * M } },
          10,
          5 * M },
        { "just fresh", { { 5, 0, 25 * M }, { 7, 20 * M, 25 * M } }, 11, 10 * M },
        { "old", { { 5, 0, 25 * M }, { 7, 20 * M, 25 * M } }, 12, 0 },
        { "the clock went back", { { 5, 0, 25 * M }, { 7, 20 * M, 25 * M } }, 6, 0 },
        { "2^64", { { 5, 0, UINT64_MAX }, { 7, UINT64_MAX, UINT64_MAX } }, 7, 0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        ParallelMeter meter = { 0 };

        for (size_t j = 0; j < G_N_ELEMENTS(rows[i].readings); j++) {
            const Reading *reading = &rows[i].readings[j];

            if (reading->seconds != 0)
                parallel_meter_add(&meter, reading->seconds * 1000000, reading->bytes,
                                   reading->room);
        }
        g_test_message("%s", rows[i].what);
        g_assert_cmpuint(parallel_meter_unfilled(&meter, rows[i].now * 1000000), ==, rows[i].rate);
    }
}

static void
test_learn(void)
{
    static const struct {
        const char *what;
        ParallelObservation seen[4];
        uint64_t rate;
    } rows[] = {
        { "nothing", { { 0 } }, 0 },
        { "one fills", { { 1, 24 * M, 25 * M } }, 0 },
        { "just fills", { { 1, 75, 100 } }, 0 },
        { "just not", { { 1, 74, 100 } }, 74 },
        { "one cannot", { { 1, 6 * M, 25 * M } }, 6 * M },
        { "0 is one", { { 0, 6 * M, 25 * M } }, 6 * M },
        { "room unknown", { { 1, 6 * M, 0 } }, 0 },
        { "not measured", { { 1, 0, 25 * M } }, 0 },
        { "more than there was", { { 1, 30 * M, 25 * M } }, 0 },
        { "a small class says nothing", { { 1, 6 * M, 25 * M }, { 1, 1 * M, 1 * M } }, 6 * M },
        { "newer is right", { { 1, 6 * M, 25 * M }, { 1, 3 * M, 25 * M } }, 3 * M },
        { "disproved", { { 1, 6 * M, 25 * M }, { 1, 20 * M, 25 * M } }, 0 },
        { "the same, measured twice", { { 1, 6 * M, 25 * M }, { 1, 7 * M, 8 * M } }, 6 * M },
        { "several fill", { { 1, 6 * M, 25 * M }, { 4, 24 * M, 25 * M } }, 6 * M },
        { "several help", { { 1, 6 * M, 25 * M }, { 4, 12 * M, 25 * M } }, 6 * M },
        { "several do not help", { { 1, 6 * M, 25 * M }, { 4, 7 * M, 25 * M } }, 0 },
        { "then they do",
          { { 1, 6 * M, 25 * M }, { 4, 7 * M, 25 * M }, { 1, 2 * M, 25 * M } },
          2 * M },
        { "then they fill",
          { { 1, 6 * M, 25 * M }, { 4, 7 * M, 25 * M }, { 4, 24 * M, 25 * M } },
          6 * M },
        { "several alone", { { 4, 7 * M, 25 * M } }, 0 },
        { "2^32", { { 1, UINT64_C(1) << 32, UINT64_C(1) << 33 } }, UINT64_C(1) << 32 },
        { "no limit", { { 1, UINT64_MAX, UINT64_MAX } }, 0 },
        { "far below", { { 1, 1, UINT64_MAX } }, 1 },
        { "overflow", { { 1, UINT64_MAX / 2, UINT64_MAX }, { 2, UINT64_MAX / 2, UINT64_MAX } }, 0 },
        { "hostile count", { { UINT32_MAX, 1, UINT64_MAX } }, 0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        ParallelExperience experience = { 0 };

        for (size_t j = 0; j < G_N_ELEMENTS(rows[i].seen); j++)
            parallel_learn(&experience, &rows[i].seen[j]);
        g_test_message("%s", rows[i].what);
        g_assert_cmpuint(parallel_stream_rate(&experience), ==, rows[i].rate);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/decision/parallel/versions", test_versions);
    g_test_add_func("/decision/parallel/count", test_count);
    g_test_add_func("/decision/parallel/gates", test_gates);
    g_test_add_func("/decision/parallel/cores", test_cores);
    g_test_add_func("/decision/parallel/meter", test_meter);
    g_test_add_func("/decision/parallel/unfilled", test_unfilled);
    g_test_add_func("/decision/parallel/learn", test_learn);
    return g_test_run();
}
