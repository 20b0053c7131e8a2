/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The round model, at rates that are known over time. Where those come from,
 * and what measurement corrects of the answer (calibrate.h), is not known here.
 */
#include "decision/predict.h"

#include <math.h>
#include <stddef.h>

/* A pass that leaves more than this part of what the pass before left gains nothing. */
#define STALLED_FRACTION 0.99

#define DOWNTIME_LIMIT_DEFAULT_MS 300
#define DOWNTIME_LIMIT_MAX_MS 3600000.0
#define ROUNDS_DEFAULT 50
#define ROUNDS_MAX 1000

PredictParams
predict_params_default(void)
{
    return (PredictParams){
        .downtime_limit_ms = DOWNTIME_LIMIT_DEFAULT_MS,
        .switchover_ms = 50,
        .rounds_maximum = ROUNDS_DEFAULT,
        .unknown_working_set = 0.25,
        .unknown_working_set_time = 10.0,
    };
}

static double
seconds_bounded(double seconds)
{
    return seconds < PREDICT_SECONDS_MAX ? seconds : PREDICT_SECONDS_MAX;
}

bool
dirty_curve_add(DirtyCurve *curve, double seconds, double bytes)
{
    unsigned int count = curve->valid ? curve->count : 0;
    double last_seconds = 0.0;
    double last_bytes = 0.0;

    if (count >= DIRTY_CURVE_POINTS || !isfinite(seconds) || !isfinite(bytes) || bytes <= 0.0)
        return false;
    if (count > 0) {
        last_seconds = curve->point[count - 1].seconds;
        last_bytes = curve->point[count - 1].bytes;
    }
    if (seconds <= last_seconds)
        return false;

    curve->point[count].seconds = seconds;
    curve->point[count].bytes = bytes > last_bytes ? bytes : last_bytes;
    curve->count = count + 1;
    curve->valid = true;
    return true;
}

/* Points whose times differ by less are one. */
#define SAME_TIME 1.1

bool
dirty_curve_insert(DirtyCurve *curve, double seconds, double bytes)
{
    unsigned int old = curve->valid && curve->count <= DIRTY_CURVE_POINTS ? curve->count : 0;
    struct {
        double seconds;
        double bytes;
    } all[DIRTY_CURVE_POINTS + 1];
    unsigned int count = 0;
    bool placed = false;

    if (!isfinite(seconds) || !isfinite(bytes) || seconds <= 0.0 || bytes <= 0.0)
        return false;
    for (unsigned int i = 0; i <= old; i++) {
        bool last = i == old;
        double at = last ? 0.0 : curve->point[i].seconds;

        if (!placed && (last || at > seconds)) {
            all[count].seconds = seconds;
            all[count++].bytes = bytes;
            placed = true;
        }
        if (last || (at < seconds * SAME_TIME && at * SAME_TIME > seconds))
            continue;
        all[count].seconds = at;
        all[count++].bytes =
            placed ? fmax(curve->point[i].bytes, bytes) : fmin(curve->point[i].bytes, bytes);
    }
    if (count > DIRTY_CURVE_POINTS) {
        unsigned int leaving = 1;

        for (unsigned int i = 2; i < count; i++) {
            if (all[i].seconds / all[i - 1].seconds <
                all[leaving].seconds / all[leaving - 1].seconds)
                leaving = i;
        }
        /* Not the one that has just come. */
        if (all[leaving].seconds >= seconds && all[leaving].seconds <= seconds)
            leaving--;
        for (unsigned int i = leaving; i + 1 < count; i++)
            all[i] = all[i + 1];
        count--;
    }
    *curve = (DirtyCurve){ 0 };
    for (unsigned int i = 0; i < count; i++)
        dirty_curve_add(curve, all[i].seconds, all[i].bytes);
    return true;
}

DirtyCurve
dirty_curve_from_rate(uint64_t rate, uint64_t working_set, uint64_t memory)
{
    DirtyCurve curve = { 0 };
    uint64_t bytes = working_set;

    if (bytes == 0 || (memory != 0 && bytes > memory))
        bytes = memory;
    if (rate > 0 && bytes > 0)
        dirty_curve_add(&curve, (double)bytes / (double)rate, (double)bytes);
    return curve;
}

DirtyCurve
dirty_curve_assumed(uint64_t memory, const PredictParams *params)
{
    PredictParams defaults = predict_params_default();
    DirtyCurve curve = { 0 };
    double fraction = params != NULL ? params->unknown_working_set : 0.0;
    double seconds = params != NULL ? params->unknown_working_set_time : 0.0;

    if (!(fraction > 0.0 && fraction <= 1.0))
        fraction = defaults.unknown_working_set;
    if (!(seconds > 0.0 && seconds < PREDICT_SECONDS_MAX))
        seconds = defaults.unknown_working_set_time;
    dirty_curve_add(&curve, seconds, (double)memory * fraction);
    return curve;
}

static unsigned int
curve_count(const DirtyCurve *curve)
{
    if (curve == NULL || !curve->valid)
        return 0;
    return curve->count < DIRTY_CURVE_POINTS ? curve->count : DIRTY_CURVE_POINTS;
}

double
dirty_curve_at(const DirtyCurve *curve, double seconds)
{
    unsigned int count = curve_count(curve);
    double from_seconds = 0.0;
    double from_bytes = 0.0;

    if (!(seconds > 0.0))
        return 0.0;
    for (unsigned int i = 0; i < count; i++) {
        double to_seconds = curve->point[i].seconds;
        double to_bytes = curve->point[i].bytes;

        /* A curve filled in by hand may be out of order or not finite. */
        if (!(to_seconds > from_seconds) || !isfinite(to_seconds) || !(to_bytes >= from_bytes) ||
            !isfinite(to_bytes))
            continue;
        if (seconds < to_seconds)
            return from_bytes + (to_bytes - from_bytes) *
                                    ((seconds - from_seconds) / (to_seconds - from_seconds));
        from_seconds = to_seconds;
        from_bytes = to_bytes;
    }
    return from_bytes;
}

double
dirty_curve_rate(const DirtyCurve *curve)
{
    unsigned int count = curve_count(curve);
    double largest = 0.0;

    /* From one point to the next it is a line, so the largest is at a point. */
    for (unsigned int i = 0; i < count; i++) {
        double seconds = curve->point[i].seconds;
        double rate = dirty_curve_at(curve, seconds) / seconds;

        if (seconds > 0.0 && rate > largest && isfinite(rate))
            largest = rate;
    }
    return largest;
}

/* ---- rates over time --------------------------------------------------- */

RateProfile
rate_profile_constant(double rate)
{
    RateProfile profile = { 0 };

    rate_profile_add(&profile, PREDICT_SECONDS_MAX, rate, false);
    return profile;
}

bool
rate_profile_add(RateProfile *profile, double until, double rate, bool reverse_full)
{
    unsigned int count = profile->count;

    if (isnan(until) || !isfinite(rate) || rate < 0.0)
        return false;
    if (count > RATE_PROFILE_SEGMENTS)
        return false;
    if (count > 0 ? !(until > profile->segment[count - 1].until) : !(until > 0.0))
        return false;
    if (count > 0 && profile->segment[count - 1].rate <= rate &&
        profile->segment[count - 1].rate >= rate &&
        profile->segment[count - 1].reverse_full == reverse_full) {
        profile->segment[count - 1].until = until;
        return true;
    }
    if (count == RATE_PROFILE_SEGMENTS)
        return false;
    profile->segment[count].until = until;
    profile->segment[count].rate = rate;
    profile->segment[count].reverse_full = reverse_full;
    profile->count = count + 1;
    return true;
}

static unsigned int
profile_count(const RateProfile *profile)
{
    if (profile == NULL)
        return 0;
    return profile->count < RATE_PROFILE_SEGMENTS ? profile->count : RATE_PROFILE_SEGMENTS;
}

/* A profile filled in by hand may hold anything. */
static double
segment_rate(const RateProfile *profile, unsigned int index)
{
    double rate = profile->segment[index].rate;

    return isfinite(rate) && rate > 0.0 ? rate : 0.0;
}

static unsigned int
segment_at(const RateProfile *profile, double seconds)
{
    unsigned int index = 0;

    while (index + 1 < profile_count(profile) && !(profile->segment[index].until > seconds))
        index++;
    return index;
}

double
rate_profile_seconds(const RateProfile *profile, double start, double bytes)
{
    unsigned int count = profile_count(profile);
    double at = start > 0.0 ? seconds_bounded(start) : 0.0;
    double taken = 0.0;

    if (!(bytes > 0.0))
        return 0.0;
    if (count == 0 || !isfinite(bytes))
        return PREDICT_SECONDS_MAX;
    for (unsigned int i = segment_at(profile, at); i < count; i++) {
        double rate = segment_rate(profile, i);
        double lasts = profile->segment[i].until - at;

        if (i + 1 == count)
            return rate > 0.0 ? seconds_bounded(taken + bytes / rate) : PREDICT_SECONDS_MAX;
        if (!(lasts > 0.0))
            continue;
        if (bytes <= rate * lasts)
            return seconds_bounded(taken + bytes / rate);
        bytes -= rate * lasts;
        taken += lasts;
        at += lasts;
    }
    return seconds_bounded(taken);
}

double
rate_profile_reverse_full(const RateProfile *profile, double seconds)
{
    unsigned int count = profile_count(profile);
    double from = 0.0;
    double full = 0.0;

    if (!(seconds > 0.0))
        return 0.0;
    seconds = seconds_bounded(seconds);
    for (unsigned int i = 0; i < count && from < seconds; i++) {
        double until = i + 1 == count ? seconds : fmin(profile->segment[i].until, seconds);

        if (!(until > from))
            continue;
        if (profile->segment[i].reverse_full)
            full += until - from;
        from = until;
    }
    return fmin(full / seconds, 1.0);
}

/* ---- the round model --------------------------------------------------- */

/* What one prediction works with, in seconds, bytes and bytes/s, all checked. */
typedef struct {
    double memory;
    const RateProfile *pre;
    const RateProfile *post;
    double downtime_allowed;
    double switchover;
    unsigned int rounds_maximum;
    const DirtyCurve *curve;
} PredictTask;

static double
dirtied_within(const PredictTask *task, double seconds)
{
    double bytes = dirty_curve_at(task->curve, seconds);

    return bytes < task->memory ? bytes : task->memory;
}

/* Seconds that `left` takes from where the prediction stands. */
static double
pass_seconds(const RateProfile *profile, const Prediction *prediction, double left)
{
    return rate_profile_seconds(profile, prediction->total_seconds, left);
}

static void
predict_advance(Prediction *prediction, double seconds)
{
    prediction->total_seconds = seconds_bounded(prediction->total_seconds + seconds);
}

/* The guest is stopped and `left` moves: the end of a pre-copy. */
static void
predict_stop_and_copy(const PredictTask *task, double left, Prediction *prediction)
{
    double stopped = seconds_bounded(pass_seconds(task->pre, prediction, left) + task->switchover);

    prediction->downtime_ms = stopped * 1000.0;
    predict_advance(prediction, stopped);
    prediction->bytes_moved += left;
}

static bool
rate_is_final(const RateProfile *profile, double seconds)
{
    return segment_at(profile, seconds) + 1 >= profile_count(profile);
}

static void
predict_pre_copy(const PredictTask *task, Prediction *prediction)
{
    double left = task->memory;
    double pass = pass_seconds(task->pre, prediction, left);

    prediction->memory_seconds = pass;
    while (pass > task->downtime_allowed) {
        double next = dirtied_within(task, pass);
        double next_pass;
        bool stalled;

        prediction->rounds++;
        predict_advance(prediction, pass);
        prediction->bytes_moved += left;
        next_pass = pass_seconds(task->pre, prediction, next);
        /* The same bytes at a better rate are a gain; so is a rate still to come. */
        stalled = next >= left * STALLED_FRACTION && next_pass >= pass * STALLED_FRACTION &&
                  rate_is_final(task->pre, prediction->total_seconds);
        if (next_pass > task->downtime_allowed &&
            (stalled || prediction->rounds >= task->rounds_maximum)) {
            predict_stop_and_copy(task, next, prediction);
            return;
        }
        left = next;
        pass = next_pass;
    }
    prediction->converges = true;
    predict_stop_and_copy(task, left, prediction);
}

static void
predict_fetch(const PredictTask *task, double left, Prediction *prediction)
{
    double at = prediction->total_seconds;
    double queue = PREDICT_FAULTS * fmin(left / fmax(task->memory, 1.0), 1.0) * PREDICT_FAULT_QUEUE;

    prediction->converges = true;
    prediction->downtime_ms = task->switchover * 1000.0;
    prediction->post_copy_bytes = left;
    prediction->stall_ms = 1000.0 * rate_profile_seconds(task->post, at, queue);
    prediction->post_copy_seconds = rate_profile_seconds(task->post, at, left);
    prediction->bytes_moved += left;
    predict_advance(prediction, task->switchover + prediction->post_copy_seconds);
}

static void
predict_hybrid(const PredictTask *task, Prediction *prediction)
{
    double pass = pass_seconds(task->pre, prediction, task->memory);
    double left = dirtied_within(task, pass);

    prediction->rounds = 1;
    prediction->memory_seconds = pass;
    prediction->total_seconds = pass;
    prediction->bytes_moved = task->memory;
    if (pass_seconds(task->pre, prediction, left) <= task->downtime_allowed) {
        prediction->converges = true;
        predict_stop_and_copy(task, left, prediction);
    } else {
        predict_fetch(task, left, prediction);
    }
}

static void
predict_never(Prediction *prediction)
{
    prediction->total_seconds = PREDICT_SECONDS_MAX;
    prediction->memory_seconds = PREDICT_SECONDS_MAX;
    prediction->downtime_ms = PREDICT_SECONDS_MAX * 1000.0;
}

/* A rate of 0 at the end may never move the rest: that is no prediction. */
static bool
profile_never_ends(const RateProfile *profile)
{
    unsigned int count = profile_count(profile);

    return count == 0 || segment_rate(profile, count - 1) <= 0.0;
}

Prediction
predict_migration_over(Technique technique, uint64_t memory, const RateProfile *pre,
                       const RateProfile *post, const DirtyCurve *curve,
                       const PredictParams *params)
{
    PredictParams used = params != NULL ? *params : predict_params_default();
    Prediction prediction = { 0 };
    DirtyCurve assumed;
    PredictTask task;

    if (curve_count(curve) == 0) {
        assumed = dirty_curve_assumed(memory, &used);
        curve = &assumed;
        prediction.dirty_assumed = true;
    }
    if (used.downtime_limit_ms == 0)
        used.downtime_limit_ms = DOWNTIME_LIMIT_DEFAULT_MS;
    if (used.rounds_maximum == 0)
        used.rounds_maximum = ROUNDS_DEFAULT;
    task = (PredictTask){
        .memory = (double)memory,
        .pre = pre,
        .post = post,
        .downtime_allowed = fmin((double)used.downtime_limit_ms, DOWNTIME_LIMIT_MAX_MS) / 1000.0,
        .switchover = fmin((double)used.switchover_ms, DOWNTIME_LIMIT_MAX_MS) / 1000.0,
        .rounds_maximum = used.rounds_maximum < ROUNDS_MAX ? used.rounds_maximum : ROUNDS_MAX,
        .curve = curve,
    };

    if ((technique != TECHNIQUE_POST_COPY && profile_never_ends(pre)) ||
        (technique != TECHNIQUE_PRE_COPY && profile_never_ends(post))) {
        predict_never(&prediction);
        return prediction;
    }
    switch (technique) {
    case TECHNIQUE_PRE_COPY:
        predict_pre_copy(&task, &prediction);
        break;
    case TECHNIQUE_POST_COPY:
        predict_fetch(&task, task.memory, &prediction);
        prediction.memory_seconds = prediction.post_copy_seconds;
        break;
    case TECHNIQUE_HYBRID:
        predict_hybrid(&task, &prediction);
        break;
    }
    return prediction;
}

Prediction
predict_migration(Technique technique, uint64_t memory, uint64_t rate_pre, uint64_t rate_post,
                  const DirtyCurve *curve, const PredictParams *params)
{
    RateProfile pre = rate_profile_constant((double)rate_pre);
    RateProfile post = rate_profile_constant((double)rate_post);

    return predict_migration_over(technique, memory, &pre, &post, curve, params);
}
