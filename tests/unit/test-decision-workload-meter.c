/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Windows over two counters: when one ends, what is in it, and what begins it anew. */
#include "decision/workload_meter.h"

#include <glib.h>

#define MB UINT64_C(1000000)
#define START (INT64_C(1) << 40)
#define NONE UINT64_MAX /* no window has ended */

typedef struct {
    double seconds;
    uint64_t link;
    uint64_t migrations;
    uint64_t who;
    uint64_t rate; /* expected */
    bool changed;  /* after it a limit of ours changes */
} Reading;

static const struct {
    const char *name;
    Reading readings[6];
} rows[] = {
    { "a window, and the next one",
      { { 0, 100 * MB, 0, 1, NONE, false },
        { 1, 150 * MB, 20 * MB, 1, NONE, false },
        { 2, 200 * MB, 40 * MB, 1, 30 * MB, false },
        { 3, 220 * MB, 60 * MB, 1, NONE, false },
        { 4.5, 250 * MB, 90 * MB, 1, 0, false } } },
    { "what the migrations' own counter has before the link's is no workload",
      { { 0, 0, 0, 1, NONE, false }, { 2, 10 * MB, 11 * MB, 1, 0, false } } },
    { "nothing is measured while a change of ours settles",
      { { 0, 0, 0, 1, NONE, true },
        { 1.4, 140 * MB, 0, 1, NONE, false },
        { 1.6, 160 * MB, 0, 1, NONE, false },
        { 3.5, 200 * MB, 0, 1, NONE, false },
        { 3.6, 200 * MB, 0, 1, 20 * MB, true },
        { 6, 300 * MB, 0, 1, NONE, false } } },
    { "other migrations",
      { { 0, 0, 0, 1, NONE, false },
        { 2, 40 * MB, 0, 3, NONE, false },
        { 4, 80 * MB, 0, 3, 20 * MB, false } } },
    { "a counter that falls: the device is a new one, or a migration began again",
      { { 0, 500 * MB, 50 * MB, 1, NONE, false },
        { 2, 40 * MB, 60 * MB, 1, NONE, false },
        { 4, 80 * MB, 10 * MB, 1, NONE, false },
        { 6, 120 * MB, 10 * MB, 1, 20 * MB, false } } },
    { "a clock that goes back",
      { { 0, 0, 0, 1, NONE, false },
        { -3600, 40 * MB, 0, 1, NONE, true },
        { -7200, 40 * MB, 0, 1, NONE, false },
        { -7198, 80 * MB, 0, 1, 20 * MB, false } } },
    { "as much as there is",
      { { 0, 0, 0, 1, NONE, false },
        { 2, UINT64_MAX, 0, 1, UINT64_C(1) << 63, false },
        { 4, UINT64_MAX, UINT64_MAX, 1, 0, false } } },
};

static void
test_rows(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        WorkloadMeter meter = { 0 };

        for (size_t j = 0; j < G_N_ELEMENTS(rows[i].readings) && rows[i].readings[j].who != 0;
             j++) {
            const Reading *reading = &rows[i].readings[j];
            int64_t now_us = START + (int64_t)(reading->seconds * 1e6);
            uint64_t rate = NONE;
            bool ended = workload_meter_add(&meter, now_us, reading->link, reading->migrations,
                                            reading->who, &rate);

            g_test_message("%s, at %.1f s", rows[i].name, reading->seconds);
            g_assert_cmpint(ended, ==, reading->rate != NONE);
            g_assert_cmpuint(rate, ==, reading->rate);
            if (reading->changed)
                workload_meter_changed(&meter, now_us);
        }
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/decision/workload-meter/rows", test_rows);
    return g_test_run();
}
