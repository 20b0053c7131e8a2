/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How long it takes to plan a gang: 1000 VMs of mixed size and priority that
 * leave 50 hosts for each other. Prints one JSON object; the exit status says
 * whether it was below the second that is promised.
 */
#include "decision/schedule.h"

#include <glib.h>
#include <stdlib.h>

#define VMS 1000u
#define HOSTS 50u
#define RUNS 11u
#define LIMIT_SECONDS 1.0
#define MB UINT64_C(1000000)

static SchedulePlanItem items[VMS];
static SchedulePlanLink links[2 * HOSTS]; /* outgoing, then incoming */
static SchedulePlanned planned[VMS];

static void
fill(GRand *random)
{
    for (unsigned i = 0; i < 2 * HOSTS; i++) {
        uint64_t used = (uint64_t)g_rand_int_range(random, 0, 1000) * MB;

        links[i] = (SchedulePlanLink){ true, 1250 * MB - used, 1250 * MB };
    }
    for (unsigned i = 0; i < VMS; i++) {
        unsigned source = i % HOSTS;
        unsigned away = (unsigned)g_rand_int_range(random, 1, HOSTS);
        uint64_t bytes = (uint64_t)g_rand_int_range(random, 500, 64000) * MB;

        items[i] = (SchedulePlanItem){
            .item = { .id = i,
                      .priority = (Priority)g_rand_int_range(random, 0, 3),
                      .technique = (Technique)g_rand_int_range(random, 0, 3),
                      .seconds = (double)bytes / (1250.0 * (double)MB),
                      .stream_rate = 1100 * MB,
                      .link = source,
                      .enqueued_us = i },
            .destination = HOSTS + (source + away) % HOSTS,
            .bytes = bytes,
            .dirty_rate = (uint64_t)g_rand_int_range(random, 0, 200) * MB,
        };
    }
}

static int
compare(const void *left, const void *right)
{
    const double *a = left;
    const double *b = right;

    return (*a > *b) - (*a < *b);
}

int
main(void)
{
    GRand *random = g_rand_new_with_seed(1);
    double seconds[RUNS];
    double makespan = 0;
    unsigned known = 0;

    for (unsigned run = 0; run < RUNS; run++) {
        gint64 begin_us;

        fill(random);
        begin_us = g_get_monotonic_time();
        if (!schedule_plan(items, VMS, links, 2 * HOSTS, NULL, planned))
            return EXIT_FAILURE;
        seconds[run] = (double)(g_get_monotonic_time() - begin_us) / 1e6;
    }
    for (unsigned i = 0; i < VMS; i++) {
        known += planned[i].end_known;
        makespan = MAX(makespan, planned[i].end);
    }
    qsort(seconds, RUNS, sizeof(seconds[0]), compare);
    g_rand_free(random);
    g_print("{\"vms\": %u, \"hosts\": %u, \"runs\": %u, \"seconds\": %.6f, "
            "\"seconds_worst\": %.6f, \"limit_seconds\": %.1f, \"planned\": %u, "
            "\"planned_makespan_s\": %.1f}\n",
            VMS, HOSTS, RUNS, seconds[RUNS / 2], seconds[RUNS - 1], LIMIT_SECONDS, known, makespan);
    return seconds[RUNS - 1] < LIMIT_SECONDS && known == VMS ? EXIT_SUCCESS : EXIT_FAILURE;
}
