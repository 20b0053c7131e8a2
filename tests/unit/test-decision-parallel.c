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

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/decision/parallel/versions", test_versions);
    g_test_add_func("/decision/parallel/count", test_count);
    g_test_add_func("/decision/parallel/gates", test_gates);
    return g_test_run();
}
