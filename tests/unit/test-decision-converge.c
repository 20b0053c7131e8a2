/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Convergence of a running pre-copy: conversations, hostile readings, simulated guests. */
#include "decision/converge.h"

#include <glib.h>
#include <math.h>

static const char *
action_name(ConvergeAction action)
{
    switch (action) {
    case CONVERGE_NONE:
        return "none";
    case CONVERGE_RAISE_DOWNTIME:
        return "raise-downtime";
    case CONVERGE_START_POST_COPY:
        return "start-post-copy";
    case CONVERGE_WAIT:
        return "wait";
    case CONVERGE_LAST_ROUND:
        return "last-round";
    case CONVERGE_REPORT_STALL:
        return "report-stall";
    }
    return "unknown";
}

#define MB UINT64_C(1000000)
#define S INT64_C(1000000)
#define START (1000 * S)
#define READINGS_MAX 16

typedef struct {
    double seconds;
    unsigned iteration;
    double left_mb;
    double moved_mb;
    double dirty_mb; /* per second; 0 unknown */
    ConvergeAction action;
    uint64_t downtime_ms;
} Reading;

typedef struct {
    const char *name;
    ConvergeLimits limits;
    Reading readings[READINGS_MAX];
} Conversation;

#define ALLOWED                                                                                    \
    {                                                                                              \
        .priority = PRIORITY_MEDIUM, .memory = 200 * MB, .post_copy_allowed = true                 \
    }
#define LOW_ALLOWED                                                                                \
    {                                                                                              \
        .priority = PRIORITY_LOW, .memory = 200 * MB, .post_copy_allowed = true                    \
    }
#define EXCLUDED                                                                                   \
    {                                                                                              \
        .priority = PRIORITY_MEDIUM, .memory = 200 * MB                                            \
    }

/* 20 MB/s throughout unless moved_mb says otherwise; a window is 10 s. */
static const Conversation conversations[] = {
    { "passes that shrink are left alone",
      ALLOWED,
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 5, 1, 100, 100, 0, CONVERGE_NONE, 0 },
        { 10, 2, 100, 200, 10, CONVERGE_NONE, 0 },
        { 15, 3, 50, 300, 10, CONVERGE_NONE, 0 },
        { 17.5, 4, 25, 350, 10, CONVERGE_NONE, 0 } } },
    { "a stall goes to post-copy at once when this pass is the best",
      ALLOWED,
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 10, 2, 180, 200, 18, CONVERGE_NONE, 0 },
        { 19, 3, 175, 380, 18, CONVERGE_NONE, 0 },
        { 28, 4, 180, 560, 18, CONVERGE_START_POST_COPY, 0 },
        { 29, 4, 160, 580, 18, CONVERGE_NONE, 0 } } },
    { "no minimum: the patience of a window, then all the same",
      ALLOWED,
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 10, 2, 100, 200, 10, CONVERGE_NONE, 0 },
        { 15, 3, 96, 300, 19, CONVERGE_NONE, 0 },
        { 20, 4, 150, 396, 19, CONVERGE_NONE, 0 },
        { 27, 5, 150, 536, 19, CONVERGE_NONE, 0 },
        { 34, 6, 150, 676, 19, CONVERGE_START_POST_COPY, 0 } } },
    { "the first pass is never cut short",
      LOW_ALLOWED,
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 20, 1, 180, 20, 50, CONVERGE_NONE, 0 },
        { 45, 1, 160, 40, 50, CONVERGE_NONE, 0 },
        { 70, 1, 140, 60, 50, CONVERGE_NONE, 0 } } },
    { "low priority does not stay below its dirty rate",
      LOW_ALLOWED,
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 10, 2, 150, 200, 25, CONVERGE_NONE, 0 },
        { 13, 2, 90, 260, 25, CONVERGE_NONE, 0 },
        { 16, 2, 30, 320, 25, CONVERGE_START_POST_COPY, 0 } } },
    { "the predictor's word is enough after one pass",
      { .memory = 200 * MB, .post_copy_allowed = true, .expected_not_to_end = true },
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 9, 1, 20, 180, 0, CONVERGE_NONE, 0 },
        { 10, 2, 190, 200, 0, CONVERGE_START_POST_COPY, 0 } } },
    { "no switch while the throughput has collapsed; a lasting level is accepted",
      { .memory = 200 * MB, .post_copy_allowed = true, .expected_not_to_end = true },
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 5, 1, 100, 100, 0, CONVERGE_NONE, 0 },
        { 9, 1, 99, 101, 0, CONVERGE_NONE, 0 },
        { 10, 2, 190, 102, 0, CONVERGE_WAIT, 0 },
        { 15, 2, 188, 104, 0, CONVERGE_WAIT, 0 },
        { 20, 2, 186, 106, 0, CONVERGE_START_POST_COPY, 0 } } },
    { "a collapse of the last half second is seen at the end of the pass",
      { .memory = 200 * MB, .post_copy_allowed = true, .expected_not_to_end = true },
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 9, 1, 20, 180, 0, CONVERGE_NONE, 0 },
        { 9.5, 1, 18, 182, 0, CONVERGE_NONE, 0 },
        { 9.75, 2, 190, 183, 0, CONVERGE_WAIT, 0 },
        { 10.25, 2, 188, 185, 0, CONVERGE_WAIT, 0 },
        { 11.25, 2, 170, 207, 0, CONVERGE_START_POST_COPY, 0 } } },
    { "never while nothing moves at all",
      { .memory = 200 * MB, .post_copy_allowed = true, .expected_not_to_end = true },
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 10, 1, 10, 190, 0, CONVERGE_NONE, 0 },
        { 11, 2, 190, 190, 0, CONVERGE_WAIT, 0 },
        { 40, 2, 190, 190, 0, CONVERGE_WAIT, 0 },
        { 69, 2, 190, 190, 0, CONVERGE_WAIT, 0 },
        { 70, 2, 170, 210, 0, CONVERGE_START_POST_COPY, 0 } } },
    { "a danger for the deadline switches within the first pass",
      { .memory = 200 * MB,
        .post_copy_allowed = true,
        .deadline_us = 12 * (uint64_t)S,
        .dirty_rate = 5 * MB },
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 2, 1, 160, 40, 0, CONVERGE_NONE, 0 },
        { 2.5, 1, 150, 50, 0, CONVERGE_NONE, 0 },
        { 3.5, 1, 130, 70, 0, CONVERGE_START_POST_COPY, 0 } } },
    { "but not where post-copy would hardly be earlier",
      { .memory = 200 * MB,
        .post_copy_allowed = true,
        .deadline_us = 10 * (uint64_t)S,
        .dirty_rate = 1 * MB },
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 2, 1, 160, 40, 0, CONVERGE_NONE, 0 },
        { 4, 1, 120, 80, 0, CONVERGE_NONE, 0 },
        { 9, 1, 60, 140, 0, CONVERGE_NONE, 0 } } },
    { "nor while its class has what it needs and could have more",
      { .memory = 200 * MB,
        .post_copy_allowed = true,
        .deadline_us = 12 * (uint64_t)S,
        .rate_full = 40 * MB,
        .rate_given = 22 * MB,
        .dirty_rate = 5 * MB },
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 2, 1, 160, 40, 0, CONVERGE_NONE, 0 },
        { 4, 1, 120, 80, 0, CONVERGE_NONE, 0 },
        { 9, 1, 20, 180, 0, CONVERGE_NONE, 0 } } },
    { "something else than its class makes it slow",
      { .memory = 200 * MB,
        .post_copy_allowed = true,
        .deadline_us = 12 * (uint64_t)S,
        .rate_full = 40 * MB,
        .rate_given = 30 * MB,
        .dirty_rate = 5 * MB },
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 2, 1, 160, 40, 0, CONVERGE_NONE, 0 },
        { 4, 1, 120, 80, 0, CONVERGE_START_POST_COPY, 0 } } },
    { "not all that its class may have would do",
      { .memory = 200 * MB,
        .post_copy_allowed = true,
        .deadline_us = 6 * (uint64_t)S,
        .rate_full = 30 * MB,
        .rate_given = 22 * MB,
        .dirty_rate = 5 * MB },
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 1, 1, 180, 20, 0, CONVERGE_NONE, 0 },
        { 2, 1, 160, 40, 0, CONVERGE_START_POST_COPY, 0 } } },
    { "a moment of it is nothing, and what the sample says of the dirty rate comes first",
      { .memory = 200 * MB,
        .post_copy_allowed = true,
        .deadline_us = 12 * (uint64_t)S,
        .dirty_rate = 100 * MB },
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 9, 1, 20, 180, 0, CONVERGE_NONE, 0 },
        { 9.5, 2, 20, 190, 1, CONVERGE_NONE, 0 },
        { 10, 2, 10, 200, 1, CONVERGE_NONE, 0 } } },
    { "but not for zero pages that are still to come; a pass that has sent more is believed",
      { .memory = 200 * MB,
        .post_copy_allowed = true,
        .deadline_us = 12 * (uint64_t)S,
        .dirty_rate = 6 * MB,
        .first_pass = 60 * MB },
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 2, 1, 160, 40, 0, CONVERGE_NONE, 0 },
        { 2.5, 1, 150, 50, 0, CONVERGE_NONE, 0 },
        { 3.5, 1, 130, 70, 0, CONVERGE_NONE, 0 },
        { 4.5, 1, 110, 90, 0, CONVERGE_START_POST_COPY, 0 } } },
    { "the ramp after pass 3, a step at a time",
      { .memory = 200 * MB, .downtime_initial_ms = 150, .downtime_maximum_ms = 1050 },
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 10, 2, 4, 200, 0, CONVERGE_NONE, 0 },
        { 10.2, 3, 4, 204, 0, CONVERGE_NONE, 0 },
        { 10.4, 4, 4, 208, 0, CONVERGE_RAISE_DOWNTIME, 300 },
        { 10.6, 5, 4, 212, 0, CONVERGE_NONE, 0 },
        { 11.4, 6, 4, 228, 0, CONVERGE_RAISE_DOWNTIME, 450 },
        { 12.4, 7, 4, 248, 0, CONVERGE_RAISE_DOWNTIME, 600 },
        { 13.4, 8, 4, 268, 0, CONVERGE_RAISE_DOWNTIME, 750 },
        { 14.4, 9, 4, 288, 0, CONVERGE_RAISE_DOWNTIME, 900 },
        { 15.4, 10, 4, 308, 0, CONVERGE_RAISE_DOWNTIME, 1050 },
        { 16.4, 11, 4, 328, 0, CONVERGE_NONE, 0 } } },
    { "steps that could not help are skipped",
      { .memory = 200 * MB, .downtime_initial_ms = 150, .downtime_maximum_ms = 1050 },
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 10, 2, 13, 200, 0, CONVERGE_NONE, 0 },
        { 11, 3, 13, 220, 0, CONVERGE_NONE, 0 },
        { 12, 4, 13, 240, 0, CONVERGE_RAISE_DOWNTIME, 750 } } },
    { "without any way it is reported, and not at every reading",
      EXCLUDED,
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 10, 2, 200, 200, 25, CONVERGE_NONE, 0 },
        { 20, 3, 200, 400, 25, CONVERGE_REPORT_STALL, 0 },
        { 30, 4, 200, 600, 25, CONVERGE_NONE, 0 },
        { 45, 5, 200, 900, 25, CONVERGE_NONE, 0 },
        { 60, 6, 200, 1200, 25, CONVERGE_NONE, 0 },
        { 81, 7, 200, 1620, 25, CONVERGE_REPORT_STALL, 0 } } },
    { "the last round when what is left fits at the full rate",
      { .memory = 200 * MB, .rate_full = 100 * MB },
      { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 },
        { 10, 2, 40, 200, 4, CONVERGE_NONE, 0 },
        { 12, 3, 25, 240, 4, CONVERGE_LAST_ROUND, 0 },
        { 13, 3, 10, 255, 4, CONVERGE_NONE, 0 },
        { 15, 3, 10, 290, 4, CONVERGE_NONE, 0 } } },
};

static ConvergeSample
sample_of(const Reading *reading)
{
    return (ConvergeSample){
        .time_us = START + (gint64)(reading->seconds * 1e6),
        .iteration = reading->iteration,
        .remaining = (uint64_t)(reading->left_mb * 1e6),
        .transferred = (uint64_t)(reading->moved_mb * 1e6),
        .dirty_rate = (uint64_t)(reading->dirty_mb * 1e6),
    };
}

static void
test_conversations(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(conversations); i++) {
        const Conversation *row = &conversations[i];
        ConvergeState state = { 0 };

        for (size_t j = 0; j < READINGS_MAX && row->readings[j].iteration != 0; j++) {
            ConvergeSample sample = sample_of(&row->readings[j]);
            ConvergeDecision decision;

            converge_step(&state, &sample, &row->limits, &decision);
            g_test_message("%s, at %.1f s: %s: %s", row->name, row->readings[j].seconds,
                           action_name(decision.action), decision.reason);
            g_assert_cmpstr(action_name(decision.action), ==, action_name(row->readings[j].action));
            g_assert_cmpuint(decision.downtime_ms, ==, row->readings[j].downtime_ms);
            g_assert_true((decision.action == CONVERGE_NONE) == (decision.reason[0] == '\0'));
        }
    }
}

/* The end of a first pass that a switch may follow, and a collapse, are looked at more often. */
static void
test_near(void)
{
    static const struct {
        Reading reading;
        bool near;
    } rows[] = {
        { { 0, 1, 200, 0, 0, CONVERGE_NONE, 0 }, false },
        { { 5, 1, 100, 100, 0, CONVERGE_NONE, 0 }, false },
        { { 8, 1, 41, 159, 0, CONVERGE_NONE, 0 }, false },
        { { 8.5, 1, 30, 169, 0, CONVERGE_NONE, 0 }, true },
        { { 9.5, 1, 29, 170, 0, CONVERGE_NONE, 0 }, true },
    };
    ConvergeLimits limits = { .memory = 200 * MB, .post_copy_allowed = true };

    for (int expected = 0; expected < 2; expected++) {
        ConvergeState state = { 0 };

        limits.expected_not_to_end = expected != 0;
        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
            ConvergeSample sample = sample_of(&rows[i].reading);
            ConvergeDecision decision;

            converge_step(&state, &sample, &limits, &decision);
            /* Collapsed in the last row, whatever is expected. */
            g_assert_true(decision.collapsed == (i == G_N_ELEMENTS(rows) - 1));
            g_assert_true(decision.near == (rows[i].near && (expected || decision.collapsed)));
        }
    }
}

/* Whatever is read: finite numbers, no order above what is allowed, one switch. */
static void
test_hostile(void)
{
    static const uint64_t numbers[] = {
        0, 1, 4096, 200 * MB, UINT64_C(1) << 32, UINT64_C(1) << 63, UINT64_MAX
    };
    static const gint64 times[] = { 0,     1,     S,     -S,         3600 * S,       G_MININT64,
                                    5 * S, 6 * S, 7 * S, G_MAXINT64, G_MAXINT64 - 1, START };
    static const unsigned iterations[] = { 0, 1, 2, 3, 4, 5, 4, 1, G_MAXUINT, 7 };
    g_autoptr(GRand) random = g_rand_new_with_seed(7);

#define ANY(list) list[g_rand_int_range(random, 0, G_N_ELEMENTS(list))]
    for (unsigned run = 0; run < 4000; run++) {
        ConvergeState state = { 0 };
        ConvergeLimits limits = {
            .priority = (Priority)g_rand_int_range(random, 0, 3),
            .memory = ANY(numbers),
            .downtime_initial_ms = ANY(numbers),
            .downtime_maximum_ms = ANY(numbers),
            .deadline_us = ANY(numbers),
            .rate_full = ANY(numbers),
            .rate_given = ANY(numbers),
            .dirty_rate = ANY(numbers),
            .first_pass = ANY(numbers),
            .post_copy_allowed = run & 1,
            .expected_not_to_end = run & 2,
        };
        unsigned switches = 0;
        uint64_t present =
            limits.downtime_initial_ms ? limits.downtime_initial_ms : CONVERGE_DOWNTIME_DEFAULT_MS;

        for (unsigned step = 0; step < 20; step++) {
            ConvergeSample sample = {
                .time_us = ANY(times),
                .iteration = ANY(iterations),
                .remaining = ANY(numbers),
                .transferred = ANY(numbers),
                .dirty_rate = ANY(numbers),
            };
            ConvergeDecision decision;

            converge_step(&state, &sample, &limits, &decision);
            g_assert_true(isfinite(decision.left) && isfinite(decision.throughput) &&
                          isfinite(decision.dirty_rate) && isfinite(decision.downtime_needed));
            if (decision.action == CONVERGE_RAISE_DOWNTIME) {
                g_assert_cmpuint(decision.downtime_ms, <=, limits.downtime_maximum_ms);
                g_assert_cmpuint(decision.downtime_ms, >, present);
                present = decision.downtime_ms;
            }
            g_assert_false(decision.action == CONVERGE_START_POST_COPY && decision.collapsed);
            switches += decision.action == CONVERGE_START_POST_COPY;
        }
        g_assert_cmpuint(switches, <=, limits.post_copy_allowed ? 1 : 0);
    }
#undef ANY
}

/* A step of the clock is taken for a pause: nothing becomes due by it. */
static void
test_clock_steps(void)
{
    static const gint64 steps[] = { -3600 * S, 3600 * S, -2 * S };
    ConvergeLimits limits = EXCLUDED;

    for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
        ConvergeState state = { 0 };
        ConvergeDecision decision;
        unsigned reports = 0;

        for (int second = 0; second < 40; second++) {
            ConvergeSample sample = {
                .time_us = START + second * S + (second >= 22 ? steps[i] : 0),
                .iteration = (unsigned)second / 10 + 1,
                .remaining = 200 * MB - (uint64_t)(second % 10) * 20 * MB,
                .transferred = (uint64_t)second * 20 * MB,
                .dirty_rate = 20 * MB,
            };

            converge_step(&state, &sample, &limits, &decision);
            reports += decision.action == CONVERGE_REPORT_STALL;
        }
        g_assert_cmpuint(reports, ==, 1);
    }
}

/* Others came first for a while: what moved meanwhile, and how slowly, says nothing. */
static void
test_pause(void)
{
    static const int pauses[] = { 2, 20, 60 };
    ConvergeLimits limits = ALLOWED;

    for (size_t i = 0; i < G_N_ELEMENTS(pauses); i++) {
        ConvergeState state = { 0 };
        ConvergeDecision decision;
        uint64_t moved = 0;

        g_test_message("%d s", pauses[i]);
        for (int second = 0; second < pauses[i] + 30; second++) {
            bool waits = second >= 15 && second < 15 + pauses[i];
            ConvergeSample sample = {
                .time_us = START + second * S,
                .iteration = second < 10               ? 1
                             : second < 15 + pauses[i] ? 2
                                                       : 3,
                .remaining = 150 * MB - (uint64_t)(second % 10) * 10 * MB,
                .transferred = moved,
                .dirty_rate = 8 * MB,
            };

            if (waits) {
                moved += 5 * MB;
                converge_pause(&state);
                continue;
            }
            moved += 20 * MB;
            converge_step(&state, &sample, &limits, &decision);
            g_assert_false(decision.collapsed);
            g_assert_cmpint(decision.action, ==, CONVERGE_NONE);
        }
        g_assert_cmpfloat_with_epsilon(decision.throughput, 20e6, 1e6);
    }
}

/* The share is lent for 2 s, and for a window and more after that not again. */
static void
test_last_round_is_lent(void)
{
    static const struct {
        double seconds;
        bool lent;
    } looks[] = { { 0, true }, { 1.5, true }, { 2.5, false }, { 20, false }, { 23, true } };
    ConvergeLimits limits = { .memory = 200 * MB, .rate_full = 100 * MB };
    ConvergeState state = { 0 };
    ConvergeDecision decision;
    uint64_t moved = 0;

    for (int second = 0; second < 11; second++, moved += 20 * MB)
        converge_step(&state,
                      &(ConvergeSample){ START + second * S, second < 10 ? 1 : 2,
                                         200 * MB - (uint64_t)second * 16 * MB, moved, MB / 10 },
                      &limits, &decision);
    for (size_t i = 0; i < G_N_ELEMENTS(looks); i++) {
        gint64 at_us = START + 11 * S + (gint64)(looks[i].seconds * 1e6);

        converge_step(&state,
                      &(ConvergeSample){ at_us, 2, 20 * MB,
                                         moved + (uint64_t)(looks[i].seconds * 20e6), MB / 10 },
                      &limits, &decision);
        g_test_message("at %.1f s", looks[i].seconds);
        g_assert_cmpint(decision.last_round, ==, looks[i].lent);
        g_assert_cmpint(decision.action == CONVERGE_LAST_ROUND, ==, i == 0 || i == 4);
    }
}

static void
test_next_downtime(void)
{
    static const struct {
        uint64_t present, needed, maximum, expected;
    } rows[] = {
        { 150, 0, 1050, 300 },
        { 150, 700, 1050, 750 },
        { 900, 0, 1050, 1050 },
        { 0, 0, 300, 42 },
        { 42, 0, 300, 85 },
        { 150, 99999, 1050, 1050 },
        { 0, 0, 1, 1 },
        { 0, 0, UINT64_MAX, UINT64_MAX / 7 },
        { 0, UINT64_MAX, 300, 300 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        g_assert_cmpuint(converge_next_downtime(rows[i].present, rows[i].needed, rows[i].maximum),
                         ==, rows[i].expected);
}

/* ---- simulated guests -------------------------------------------------- */

/* QEMU: a pass ends when what is left fits; it ends for good when it still fits then. */
typedef struct {
    double memory, rate, set; /* bytes, bytes/s, writable set */
    double left, dirtied, moved, pass_seconds, dirty_rate;
    unsigned pass;
    bool done;
} Guest;

static void
guest_run(Guest *guest, double seconds, double dirty_rate, double rate, uint64_t downtime_ms)
{
    double fits = rate * (double)downtime_ms / 1e3;

    guest->left = fmax(guest->left - rate * seconds, 0);
    guest->moved += rate * seconds;
    guest->dirtied = fmin(guest->dirtied + dirty_rate * seconds, guest->set);
    guest->pass_seconds += seconds;
    if (guest->left > fits)
        return;
    guest->left += guest->dirtied;
    guest->dirty_rate = guest->dirtied / guest->pass_seconds;
    guest->dirtied = 0;
    guest->pass_seconds = 0;
    guest->pass++;
    guest->done = guest->left <= fits;
}

typedef struct {
    double seconds; /* until it ended or switched */
    bool ended;
    bool switched;
    unsigned switched_in_pass;
    double left_at_switch; /* with what QEMU does not know yet */
    uint64_t downtime_ms;
    unsigned reports;
    unsigned raises;
} Result;

typedef double (*RateAt)(double seconds, double base);

static double
steady(double seconds G_GNUC_UNUSED, double base)
{
    return base;
}

/* Twice as much for 6 s, nothing for 2 s. */
static double
bursts(double seconds, double base)
{
    return fmod(seconds, 8) < 6 ? 2 * base : 0;
}

/* The link carries nothing between 15 and 25 s, a tenth until 30 s. */
static double
broken_for_a_while(double seconds, double base)
{
    if (seconds < 15 || seconds >= 30)
        return base;
    return seconds < 25 ? 0 : base / 10;
}

static Result
simulate(const ConvergeLimits *limits, double rate, double dirty_rate, double set, RateAt dirty_at,
         RateAt rate_at, double seconds_maximum)
{
    const double tick = 0.05;
    Guest guest = {
        .memory = (double)limits->memory, .left = (double)limits->memory, .set = set, .pass = 1
    };
    Result result = { .downtime_ms = limits->downtime_initial_ms };
    ConvergeState state = { 0 };
    double next_look = 0;
    unsigned seen = 0;
    bool last_round = false;

    for (double now = 0; now < seconds_maximum; now += tick) {
        double carried =
            rate_at(now, last_round && limits->rate_full ? (double)limits->rate_full : rate);
        ConvergeDecision decision;

        guest_run(&guest, tick, dirty_at(now, dirty_rate), carried, result.downtime_ms);
        result.seconds = now;
        result.ended = guest.done;
        if (guest.done)
            break;
        if (now < next_look && seen == guest.pass)
            continue;
        converge_step(&state,
                      &(ConvergeSample){ START + (gint64)(now * 1e6), guest.pass,
                                         (uint64_t)guest.left, (uint64_t)guest.moved,
                                         (uint64_t)guest.dirty_rate },
                      limits, &decision);
        if (now >= next_look)
            next_look = now + (decision.near ? 0.25 : 1);
        seen = guest.pass;
        last_round = decision.last_round;
        if (decision.action != CONVERGE_NONE && decision.action != CONVERGE_WAIT)
            g_test_message("%6.2f s %s: %s", now, action_name(decision.action), decision.reason);
        result.reports += decision.action == CONVERGE_REPORT_STALL;
        if (decision.action == CONVERGE_RAISE_DOWNTIME) {
            result.raises++;
            g_assert_cmpuint(decision.downtime_ms, >, result.downtime_ms);
            g_assert_cmpuint(decision.downtime_ms, <=, limits->downtime_maximum_ms);
            result.downtime_ms = decision.downtime_ms;
        }
        if (decision.action == CONVERGE_START_POST_COPY) {
            g_assert_true(limits->post_copy_allowed);
            g_assert_cmpfloat(carried, >, 0);
            result.switched = true;
            result.switched_in_pass = guest.pass;
            result.left_at_switch = guest.left + guest.dirtied;
            break;
        }
    }
    return result;
}

static const double ratios[] = { 0.5, 0.9, 1.0, 1.1, 2.0 };

/* With post-copy every guest ends, and none is cut within the first pass. */
static void
test_simulated_post_copy(void)
{
    for (int priority = PRIORITY_LOW; priority <= PRIORITY_HIGH; priority++) {
        for (size_t i = 0; i < G_N_ELEMENTS(ratios); i++) {
            for (int shape = 0; shape < 2; shape++) {
                double rate = 25e6;
                double memory = 500e6;
                double set = shape ? memory / 4 : memory;
                ConvergeLimits limits = { .priority = (Priority)priority,
                                          .memory = (uint64_t)memory,
                                          .downtime_initial_ms = 300,
                                          .downtime_maximum_ms = 300,
                                          .post_copy_allowed = true };
                Result result = simulate(&limits, rate, ratios[i] * rate, set,
                                         shape ? bursts : steady, steady, 600);

                g_test_message("priority %d, %.1f of the rate, %s: %.1f s, %s in pass %u, left "
                               "%.0f MB",
                               priority, ratios[i], shape ? "bursts" : "steady", result.seconds,
                               result.switched ? "post-copy" : "ended", result.switched_in_pass,
                               result.left_at_switch / 1e6);
                g_assert_true(result.ended || result.switched);
                g_assert_false(result.switched && result.switched_in_pass < 2);
                /* At most four times one pass over memory. */
                g_assert_cmpfloat(result.seconds, <, ratios[i] < 1 ? 250 : 4 * memory / rate);
                g_assert_cmpuint(result.raises + result.reports, ==, 0);
                if (ratios[i] == 0.5 && !shape)
                    g_assert_true(result.ended);
            }
        }
    }
}

/* Pre-copy only: the ramp ends what it can, the rest is reported now and then. */
static void
test_simulated_pre_copy(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(ratios); i++) {
        double rate = 25e6;
        ConvergeLimits limits = { .priority = PRIORITY_MEDIUM,
                                  .memory = 500 * MB,
                                  .downtime_initial_ms = 300,
                                  .downtime_maximum_ms = 2000 };
        /* A writable set of 1.5 s of the link: the last steps allow it. */
        Result small = simulate(&limits, rate, ratios[i] * rate, 1.5 * rate, steady, steady, 600);
        Result whole = simulate(&limits, rate, ratios[i] * rate, 500e6, steady, steady, 600);

        g_assert_true(small.ended);
        g_assert_cmpuint(small.downtime_ms, <=, 2000);
        if (ratios[i] >= 1) {
            g_assert_false(whole.ended);
            g_assert_cmpuint(whole.downtime_ms, ==, 2000);
            g_assert_cmpuint(whole.reports, >=, 1);
            g_assert_cmpuint(whole.reports, <=, 6);
        }
    }
}

/* Nothing is started into a broken path; when it carries again the migration ends. */
static void
test_simulated_collapse(void)
{
    ConvergeLimits limits = { .priority = PRIORITY_MEDIUM,
                              .memory = 500 * MB,
                              .downtime_initial_ms = 300,
                              .post_copy_allowed = true,
                              .expected_not_to_end = true };
    Result result = simulate(&limits, 25e6, 50e6, 500e6, steady, broken_for_a_while, 600);

    g_assert_true(result.switched);
    g_assert_cmpfloat(result.seconds, >, 30);
    g_assert_cmpfloat(result.seconds, <, 60);
}

/* Beside a workload a low priority crawls; a last round at the full rate ends it. */
static void
test_simulated_last_round(void)
{
    ConvergeLimits limits = { .priority = PRIORITY_LOW,
                              .memory = 100 * MB,
                              .downtime_initial_ms = 300,
                              .rate_full = 22 * MB };
    Result with = simulate(&limits, 2e6, 0.5e6, 4e6, steady, steady, 600);
    Result without;

    limits.rate_full = 0;
    without = simulate(&limits, 2e6, 0.5e6, 4e6, steady, steady, 600);
    g_test_message("with %.1f s, without %.1f s", with.seconds, without.seconds);
    g_assert_true(with.ended);
    g_assert_true(!without.ended || with.seconds < without.seconds);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/converge/conversations", test_conversations);
    g_test_add_func("/converge/near", test_near);
    g_test_add_func("/converge/hostile", test_hostile);
    g_test_add_func("/converge/clock-steps", test_clock_steps);
    g_test_add_func("/decision/converge/pause", test_pause);
    g_test_add_func("/converge/last-round-is-lent", test_last_round_is_lent);
    g_test_add_func("/converge/next-downtime", test_next_downtime);
    g_test_add_func("/converge/simulated/post-copy", test_simulated_post_copy);
    g_test_add_func("/converge/simulated/pre-copy", test_simulated_pre_copy);
    g_test_add_func("/converge/simulated/collapse", test_simulated_collapse);
    g_test_add_func("/converge/simulated/last-round", test_simulated_last_round);
    return g_test_run();
}
