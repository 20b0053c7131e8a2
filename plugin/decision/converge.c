/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a running pre-copy needs to end; see converge.h for the rules. It
 * orders, and keeps its own account; it knows nothing of libvirt or classes.
 */
#include "decision/converge.h"

#include <math.h>
#include <stdio.h>

#define SECOND_US INT64_C(1000000)
/* A shorter interval says little of a throughput: a pass may just be beginning. */
#define MEASURE_MIN_S 0.9
/* A collapse is looked for in less: QEMU sends in bursts of 0.1 s, a few must be in it. */
#define RECENT_MIN_S 0.4
/* No reading for so long is a gap of the observer, not a stall of the migration. */
#define GAP_MAX_S 30.0
#define EWMA_WEIGHT 0.4

#define WINDOW_MIN_S 2.0
#define WINDOW_MAX_S 40.0
#define STALLED_RATIO 0.96
#define SWITCH_RATIO 1.04
#define STALLED_PASS_FIRST 3u
#define RAMP_PASS_FIRST 4u /* after pass 3 */
#define DOWNTIME_FIRST_MIN_MS 50u
#define RAMP_PAUSE_MIN_S 1.0
#define RAMP_PAUSE_MAX_S 10.0
#define COLLAPSED_RATIO 0.25
#define COLLAPSED_MAX_S 10.0
/* The end of a first pass that is nearer than this is watched for it. */
#define FIRST_PASS_NEAR_S 2.0
/* What follows the last page, and what a reading may be wrong by. */
#define DEADLINE_MARGIN_S 1.0
#define DEADLINE_GAIN 1.1       /* less than that is won by post-copy: nothing is */
#define DEADLINE_PATIENCE_S 3.0 /* and at most this part of the time that is left: */
#define DEADLINE_PATIENCE_PART 8.0
/* Slower than this part of its class: something else bounds it. */
#define FILLS_CLASS_RATIO 0.75
#define LAST_ROUND_S 2.0
#define LAST_ROUND_GAIN 1.25
#define LAST_ROUND_DOUBLINGS_MAX 6u
#define REPORT_PAUSE_S 30.0
#define REPORT_DOUBLINGS_MAX 5u

static double
seconds_between(int64_t from_us, int64_t to_us)
{
    /* In doubles: times that are far apart must not overflow. */
    return to_us > from_us ? ((double)to_us - (double)from_us) / 1e6 : 0.0;
}

static double
clamp(double value, double low, double high)
{
    if (!(value > low))
        return low;
    return value < high ? value : high;
}

/* The time that all memory takes. */
static double
window_seconds(const ConvergeState *state, const ConvergeLimits *limits)
{
    if (state->throughput <= 0.0 || limits->memory == 0)
        return WINDOW_MAX_S;
    return clamp((double)limits->memory / state->throughput, WINDOW_MIN_S, WINDOW_MAX_S);
}

/* ---- the account ------------------------------------------------------- */

static void
shift_time(int64_t *time_us, int64_t by_us)
{
    int64_t moved;

    if (*time_us != 0 && !__builtin_add_overflow(*time_us, by_us, &moved))
        *time_us = moved;
}

/* As if the clock had gone on by a second only, whatever it did. */
static void
state_bridge_gap(ConvergeState *state, int64_t now_us)
{
    int64_t by_us;

    if (__builtin_sub_overflow(now_us, state->sampled_us, &by_us) ||
        __builtin_sub_overflow(by_us, SECOND_US, &by_us)) {
        *state = (ConvergeState){ .begun = true,
                                  .started_us = now_us,
                                  .downtime_ms = state->downtime_ms,
                                  .switched = state->switched };
        return;
    }
    shift_time(&state->started_us, by_us);
    shift_time(&state->pass_us, by_us);
    shift_time(&state->moved_us, by_us);
    shift_time(&state->recent_us, by_us);
    shift_time(&state->collapsed_us, by_us);
    shift_time(&state->below_dirty_us, by_us);
    shift_time(&state->late_us, by_us);
    shift_time(&state->stalled_us, by_us);
    shift_time(&state->raised_us, by_us);
    shift_time(&state->last_round_us, by_us);
    shift_time(&state->reported_us, by_us);
    for (unsigned int i = 0; i < state->passes; i++)
        shift_time(&state->pass[i].begun_us, by_us);
}

/* The oldest two become one when there is no room: the lesser number, the older time. */
static void
pass_append(ConvergeState *state, int64_t now_us, double bytes)
{
    if (state->passes == CONVERGE_PASSES) {
        if (state->pass[1].bytes > state->pass[0].bytes)
            state->pass[1].bytes = state->pass[0].bytes;
        state->pass[1].begun_us = state->pass[0].begun_us;
        for (unsigned int i = 1; i < CONVERGE_PASSES; i++)
            state->pass[i - 1] = state->pass[i];
        state->passes--;
    }
    state->pass[state->passes].begun_us = now_us;
    state->pass[state->passes].bytes = bytes;
    state->passes++;
}

static void
account_pass(ConvergeState *state, const ConvergeSample *sample)
{
    double left = (double)sample->remaining;

    if (sample->iteration > state->iteration) {
        if (state->iteration != 0 && sample->iteration == state->iteration + 1)
            state->pass_seconds = seconds_between(state->pass_us, sample->time_us);
        if (state->stalled_us != 0 && state->iteration >= 2)
            state->missed++;
        state->iteration = sample->iteration;
        state->pass_us = sample->time_us;
        state->pass_bytes = left;
        if (state->iteration >= 2)
            pass_append(state, sample->time_us, left);
    } else if (sample->iteration == state->iteration && left > state->pass_bytes) {
        /* The first reading was of the moment just before QEMU counted anew. */
        state->pass_bytes = left;
        if (state->passes > 0)
            state->pass[state->passes - 1].bytes = left;
    }
    state->best = 0.0;
    for (unsigned int i = 0; i < state->passes; i++) {
        if (state->best == 0.0 || state->pass[i].bytes < state->best)
            state->best = fmax(state->pass[i].bytes, 1.0);
    }
}

/* Zero pages are progress too, though hardly anything is sent for them. */
static double
progress_since(uint64_t moved, uint64_t left, const ConvergeSample *sample, double seconds)
{
    double progress = (double)(sample->transferred - moved) / seconds;

    return sample->remaining < left ? fmax(progress, (double)(left - sample->remaining) / seconds)
                                    : progress;
}

static bool
is_collapsed(const ConvergeState *state, double progress)
{
    return progress <= 0.0 ||
           (state->throughput > 0.0 && progress < COLLAPSED_RATIO * state->throughput);
}

/* Post-copy may be due before the next whole second, which is half a good one. */
static void
account_recent(ConvergeState *state, const ConvergeSample *sample)
{
    double seconds = seconds_between(state->recent_us, sample->time_us);

    if (state->recent_us != 0 && sample->transferred >= state->recent_moved) {
        if (seconds < RECENT_MIN_S)
            return;
        state->recent_collapsed = is_collapsed(
            state, progress_since(state->recent_moved, state->recent_left, sample, seconds));
        if (state->recent_collapsed && state->collapsed_us == 0)
            state->collapsed_us = sample->time_us;
    }
    state->recent_us = sample->time_us;
    state->recent_moved = sample->transferred;
    state->recent_left = sample->remaining;
}

static void
account_throughput(ConvergeState *state, const ConvergeSample *sample)
{
    int64_t now_us = sample->time_us;
    double seconds = seconds_between(state->moved_us, now_us);
    double progress;

    if (state->moved_us == 0 || sample->transferred < state->moved) {
        state->moved_us = now_us;
        state->moved = sample->transferred;
        state->left = sample->remaining;
        return;
    }
    if (seconds < MEASURE_MIN_S)
        return;
    state->throughput_now = (double)(sample->transferred - state->moved) / seconds;
    progress = progress_since(state->moved, state->left, sample, seconds);
    state->moved_us = now_us;
    state->moved = sample->transferred;
    state->left = sample->remaining;
    if (state->recent_collapsed || is_collapsed(state, progress)) {
        if (state->collapsed_us == 0)
            state->collapsed_us = now_us;
        if (progress <= 0.0 || seconds_between(state->collapsed_us, now_us) < COLLAPSED_MAX_S)
            return;
        state->throughput = state->throughput_now;
    }
    state->collapsed_us = 0;
    state->throughput = state->throughput > 0.0 ? EWMA_WEIGHT * state->throughput_now +
                                                      (1.0 - EWMA_WEIGHT) * state->throughput
                                                : state->throughput_now;
}

/* QEMU's count, else what the last whole pass left behind. */
static double
dirty_rate_of(const ConvergeState *state, const ConvergeSample *sample)
{
    if (sample->dirty_rate != 0)
        return (double)sample->dirty_rate;
    if (state->iteration >= 2 && state->pass_seconds >= 0.25)
        return state->pass_bytes / state->pass_seconds;
    return 0.0;
}

/* What would have to move now, with what was dirtied since the pass began. */
static double
left_really(const ConvergeState *state, const ConvergeSample *sample, double dirty_rate)
{
    double known = (double)sample->remaining;
    double left = known + dirty_rate * seconds_between(state->pass_us, sample->time_us);

    return clamp(left, known, fmax(known, state->pass_bytes));
}

/* ---- questions --------------------------------------------------------- */

static bool
passes_do_not_shrink(const ConvergeState *state, double window, int64_t now_us)
{
    double least = 0.0;

    if (state->iteration < STALLED_PASS_FIRST || state->passes < 2)
        return false;
    for (unsigned int i = 0; i + 1 < state->passes; i++) {
        if (seconds_between(state->pass[i].begun_us, now_us) < window)
            break;
        if (least == 0.0 || state->pass[i].bytes < least)
            least = state->pass[i].bytes;
    }
    return least > 0.0 && state->pass[state->passes - 1].bytes >= STALLED_RATIO * least;
}

static bool
is_slower_than_dirtied(ConvergeState *state, const ConvergeLimits *limits, double dirty_rate,
                       double window, int64_t now_us)
{
    if (state->iteration < 2 || dirty_rate <= 0.0 || state->throughput <= 0.0 ||
        state->throughput > dirty_rate) {
        state->below_dirty_us = 0;
        return false;
    }
    if (state->below_dirty_us == 0)
        state->below_dirty_us = now_us;
    if (limits->priority == PRIORITY_LOW)
        window /= 2.0;
    return seconds_between(state->below_dirty_us, now_us) >= window;
}

uint64_t
converge_left_of_first_pass(uint64_t remaining, uint64_t transferred, uint64_t expected)
{
    if (expected <= transferred || expected - transferred > remaining)
        return remaining;
    return expected - transferred;
}

/*
 * Its class has the least rate that keeps the deadline, and more once that is not enough:
 * so what is measured says only whether it uses what it has.
 */
static double
attainable_rate(const ConvergeState *state, const ConvergeLimits *limits)
{
    if (limits->rate_given == 0 ||
        state->throughput < FILLS_CLASS_RATIO * (double)limits->rate_given)
        return state->throughput;
    return fmax(state->throughput, (double)limits->rate_full);
}

/* Pre-copy would be late, and post-copy, which sends nothing twice, clearly earlier. */
static bool
pre_copy_is_late(const ConvergeState *state, const ConvergeSample *sample,
                 const ConvergeLimits *limits, const ConvergeDecision *decision,
                 double seconds_to_deadline)
{
    double dirty_rate =
        decision->dirty_rate > 0.0 ? decision->dirty_rate : (double)limits->dirty_rate;
    double rate = attainable_rate(state, limits);
    double left = decision->left;

    if (rate <= 0.0 || rate < DEADLINE_GAIN * (rate - dirty_rate))
        return false;
    /* QEMU counts zero pages among what is left of a first pass. */
    if (state->iteration < 2)
        left = fmin(left, (double)converge_left_of_first_pass(
                              sample->remaining, sample->transferred, limits->first_pass));
    return rate <= dirty_rate || left / (rate - dirty_rate) >= seconds_to_deadline;
}

/* Only post-copy can keep it, and that does not pass by itself. */
static bool
deadline_is_in_danger(ConvergeState *state, const ConvergeSample *sample,
                      const ConvergeLimits *limits, const ConvergeDecision *decision)
{
    double seconds = (double)limits->deadline_us / 1e6 - DEADLINE_MARGIN_S -
                     seconds_between(state->started_us, sample->time_us);

    if (limits->deadline_us == 0 ||
        !pre_copy_is_late(state, sample, limits, decision, fmax(seconds, 0.0))) {
        state->late_us = 0;
        return false;
    }
    if (state->late_us == 0)
        state->late_us = sample->time_us;
    return seconds_between(state->late_us, sample->time_us) >=
           clamp(seconds / DEADLINE_PATIENCE_PART, 0.0, DEADLINE_PATIENCE_S);
}

/* How long a local minimum is waited for. */
static double
patience_seconds(const ConvergeState *state, const ConvergeLimits *limits, double window,
                 double left, int64_t now_us)
{
    double patience = window / (double)(1u << (state->missed < 20 ? state->missed : 20));

    if (limits->priority == PRIORITY_HIGH)
        patience /= 2.0;
    if (limits->deadline_us != 0 && state->throughput > 0.0)
        patience = fmin(patience, fmax((double)limits->deadline_us / 1e6 -
                                           seconds_between(state->started_us, now_us) -
                                           left / state->throughput,
                                       0.0));
    return patience;
}

static bool
is_local_minimum(const ConvergeState *state, double left)
{
    return state->best > 0.0 && left <= SWITCH_RATIO * state->best;
}

uint64_t
converge_next_downtime(uint64_t present_ms, uint64_t needed_ms, uint64_t maximum_ms)
{
    for (unsigned int i = 1; i < CONVERGE_RAMP_STEPS; i++) {
        uint64_t step = maximum_ms / CONVERGE_RAMP_STEPS * i +
                        maximum_ms % CONVERGE_RAMP_STEPS * i / CONVERGE_RAMP_STEPS;

        if (step > present_ms && step >= needed_ms)
            return step;
    }
    return maximum_ms;
}

uint64_t
converge_first_downtime(uint64_t maximum_ms, Priority priority)
{
    uint64_t first = maximum_ms / CONVERGE_RAMP_STEPS;

    if (first < DOWNTIME_FIRST_MIN_MS)
        first = DOWNTIME_FIRST_MIN_MS;
    return priority == PRIORITY_HIGH || first > maximum_ms ? maximum_ms : first;
}

static uint64_t
downtime_now(const ConvergeState *state, const ConvergeLimits *limits)
{
    if (state->downtime_ms != 0)
        return state->downtime_ms;
    return limits->downtime_initial_ms != 0 ? limits->downtime_initial_ms
                                            : CONVERGE_DOWNTIME_DEFAULT_MS;
}

/* ---- actions ----------------------------------------------------------- */

static double
megabytes(double bytes)
{
    return bytes / 1e6;
}

static void
order(ConvergeDecision *decision, ConvergeAction action, const ConvergeState *state,
      const char *what)
{
    decision->action = action;
    (void)snprintf(decision->reason, sizeof(decision->reason),
                   "%.160s; pass %u, left %.1f MB, best pass %.1f MB, throughput %.1f MB/s, "
                   "dirty rate %.1f MB/s%s, downtime needed %.0f ms",
                   what, state->iteration, megabytes(decision->left), megabytes(state->best),
                   megabytes(decision->throughput), megabytes(decision->dirty_rate),
                   decision->dirty_rate > 0.0 ? "" : " (unknown)", decision->downtime_needed);
}

static bool
try_last_round(ConvergeState *state, const ConvergeSample *sample, const ConvergeLimits *limits,
               ConvergeDecision *decision)
{
    double window = window_seconds(state, limits);
    double pause = state->last_rounds == 0
                       ? 0.0
                       : window * (double)(1u << (state->last_rounds < LAST_ROUND_DOUBLINGS_MAX
                                                      ? state->last_rounds
                                                      : LAST_ROUND_DOUBLINGS_MAX));
    double fits = (double)limits->rate_full * (double)downtime_now(state, limits) / 1e3;

    if (state->in_last_round) {
        if (seconds_between(state->last_round_us, sample->time_us) < LAST_ROUND_S) {
            decision->last_round = true;
            decision->near = true;
            return false;
        }
        state->in_last_round = false;
        state->last_round_us = sample->time_us;
    }
    if (state->iteration < 2 || limits->rate_full == 0 || state->throughput <= 0.0 ||
        (double)limits->rate_full < LAST_ROUND_GAIN * state->throughput || decision->left > fits ||
        (state->last_rounds > 0 && seconds_between(state->last_round_us, sample->time_us) < pause))
        return false;
    state->in_last_round = true;
    state->last_round_us = sample->time_us;
    state->last_rounds++;
    decision->last_round = true;
    decision->near = true;
    order(decision, CONVERGE_LAST_ROUND, state,
          "what is left fits the downtime limit at the full rate");
    return true;
}

static bool
try_ramp(ConvergeState *state, const ConvergeSample *sample, const ConvergeLimits *limits,
         ConvergeDecision *decision)
{
    uint64_t present = downtime_now(state, limits);
    double pause = clamp(state->pass_seconds, RAMP_PAUSE_MIN_S, RAMP_PAUSE_MAX_S);
    /* When not even the maximum would do, single steps: the guest may calm down. */
    double needed = decision->downtime_needed <= (double)limits->downtime_maximum_ms
                        ? decision->downtime_needed
                        : 0.0;
    char text[96];

    if (limits->downtime_maximum_ms <= present || state->iteration < RAMP_PASS_FIRST ||
        (state->raised_us != 0 && seconds_between(state->raised_us, sample->time_us) < pause))
        return false;
    state->raised_us = sample->time_us;
    state->downtime_ms =
        converge_next_downtime(present, (uint64_t)needed, limits->downtime_maximum_ms);
    decision->downtime_ms = state->downtime_ms;
    (void)snprintf(text, sizeof(text), "downtime limit from %llu to %llu of at most %llu ms",
                   (unsigned long long)present, (unsigned long long)state->downtime_ms,
                   (unsigned long long)limits->downtime_maximum_ms);
    order(decision, CONVERGE_RAISE_DOWNTIME, state, text);
    return true;
}

/* True while the ramp may still do it without post-copy. */
static bool
ramp_may_end_it(const ConvergeState *state, const ConvergeSample *sample,
                const ConvergeLimits *limits, const ConvergeDecision *decision)
{
    double pause = 2.0 * clamp(state->pass_seconds, RAMP_PAUSE_MIN_S, RAMP_PAUSE_MAX_S);

    if (limits->downtime_maximum_ms <= downtime_now(state, limits))
        return state->raised_us != 0 &&
               decision->downtime_needed <= (double)limits->downtime_maximum_ms &&
               seconds_between(state->raised_us, sample->time_us) < pause;
    return decision->downtime_needed > 0.0 &&
           decision->downtime_needed <= (double)limits->downtime_maximum_ms;
}

static bool
try_post_copy(ConvergeState *state, const ConvergeSample *sample, const ConvergeLimits *limits,
              ConvergeDecision *decision, bool in_danger)
{
    double window = window_seconds(state, limits);
    const char *why = "stalled, at a local minimum";

    if (in_danger)
        why = "the deadline could not be kept otherwise";
    else if (!is_local_minimum(state, decision->left)) {
        decision->near = true;
        if (seconds_between(state->stalled_us, sample->time_us) <
            patience_seconds(state, limits, window, decision->left, sample->time_us))
            return false;
        why = "stalled, and nothing better came";
    }
    decision->near = true;
    if (decision->collapsed) {
        order(decision, CONVERGE_WAIT, state, "post-copy is due, but the throughput has collapsed");
        return true;
    }
    state->switched = true;
    order(decision, CONVERGE_START_POST_COPY, state, why);
    return true;
}

static void
report_stall(ConvergeState *state, const ConvergeSample *sample, const ConvergeLimits *limits,
             ConvergeDecision *decision)
{
    double pause = REPORT_PAUSE_S *
                   (double)(1u << (state->reports < REPORT_DOUBLINGS_MAX ? state->reports
                                                                         : REPORT_DOUBLINGS_MAX));

    if (state->reports > 0 && seconds_between(state->reported_us, sample->time_us) < pause)
        return;
    state->reports++;
    state->reported_us = sample->time_us;
    order(decision, CONVERGE_REPORT_STALL, state,
          limits->downtime_maximum_ms > CONVERGE_DOWNTIME_DEFAULT_MS
              ? "will not end by itself: post-copy is not allowed, the downtime limit is at its "
                "maximum"
              : "will not end by itself: post-copy is not allowed, no greater downtime is allowed");
}

/* A switch may come with its end, and what was measured a second ago tells nothing then. */
static bool
first_pass_ends(const ConvergeState *state, const ConvergeSample *sample,
                const ConvergeLimits *limits)
{
    return state->iteration == 1 && limits->expected_not_to_end &&
           (double)sample->remaining < FIRST_PASS_NEAR_S * state->throughput;
}

void
converge_step(ConvergeState *state, const ConvergeSample *sample, const ConvergeLimits *limits,
              ConvergeDecision *ret_decision)
{
    ConvergeDecision decision = { 0 };
    int64_t now_us = sample->time_us;
    double window;
    bool in_danger;
    bool measured;
    bool stalled;

    if (!state->begun)
        *state = (ConvergeState){ .begun = true, .started_us = now_us };
    else if (now_us < state->sampled_us || seconds_between(state->sampled_us, now_us) > GAP_MAX_S)
        state_bridge_gap(state, now_us);
    state->sampled_us = now_us;
    account_pass(state, sample);
    account_recent(state, sample);
    account_throughput(state, sample);
    window = window_seconds(state, limits);
    decision.throughput = state->throughput;
    decision.dirty_rate = dirty_rate_of(state, sample);
    decision.collapsed = state->collapsed_us != 0;
    decision.near = decision.collapsed || first_pass_ends(state, sample, limits);
    decision.left = left_really(state, sample, decision.dirty_rate);
    if (state->throughput > 0.0)
        decision.downtime_needed = state->best / state->throughput * 1e3;

    in_danger = deadline_is_in_danger(state, sample, limits, &decision);
    measured = is_slower_than_dirtied(state, limits, decision.dirty_rate, window, now_us);
    measured = passes_do_not_shrink(state, window, now_us) || measured;
    stalled = measured || (limits->expected_not_to_end && state->iteration >= 2) || in_danger;
    if (!stalled) {
        state->stalled_us = 0;
        state->missed = 0;
    } else if (state->stalled_us == 0) {
        state->stalled_us = now_us;
    }

    if (state->switched || state->iteration == 0 || sample->remaining == 0) {
        *ret_decision = decision;
        return;
    }
    if (limits->post_copy_allowed && in_danger) {
        /* Also within the first pass: all that was copied till then is kept. */
        try_post_copy(state, sample, limits, &decision, true);
    } else if (!try_last_round(state, sample, limits, &decision) && !decision.last_round &&
               !try_ramp(state, sample, limits, &decision) && stalled && state->iteration >= 2 &&
               !(state->iteration >= RAMP_PASS_FIRST &&
                 ramp_may_end_it(state, sample, limits, &decision))) {
        if (limits->post_copy_allowed)
            try_post_copy(state, sample, limits, &decision, false);
        else if (measured && limits->downtime_maximum_ms <= downtime_now(state, limits))
            report_stall(state, sample, limits, &decision);
    }
    *ret_decision = decision;
}

void
converge_pause(ConvergeState *state)
{
    state->moved_us = 0;
    state->recent_us = 0;
    state->recent_collapsed = false;
    state->collapsed_us = 0;
    state->below_dirty_us = 0;
    state->late_us = 0;
    state->stalled_us = 0;
    state->missed = 0;
    state->passes = 0;
    state->in_last_round = false;
}

void
converge_refused(ConvergeState *state)
{
    state->switched = false;
}
