/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How long it will take, said when memory begins to move, and what the end
 * teaches. The arithmetic is in decision/predict.h and calibrate.h.
 */
#include "daemon/manager-private.h"

#include "daemon/planner.h"

/* A word that comes later than this after the start is no prediction any more. */
#define FORECAST_LATE_US (3 * G_USEC_PER_SEC)
/* No guest dirties less than nothing, and 0 would mean unknown. */
#define PAGE_BYTES 4096.0

static void
memory_measured(uint64_t resident, const GError *error, gpointer data)
{
    g_autofree Reference *reference = data;
    Migration *migration = reference_active(reference);

    if (migration == NULL || error != NULL)
        return; /* unknown stays unknown */
    migration->resident = resident;
    /* While it waits there is time to decide with what is known now. */
    if (migration->machine.state == MIGRATION_WAITING)
        manager_decide(reference->manager, migration);
    manager_forecast(reference->manager, migration);
}

void
manager_measure_memory(Manager *manager, Migration *migration)
{
    if (migration->uuid != NULL && migration->machine.role == MIGRATION_ROLE_SOURCE)
        hypervisor_query_memory(manager->hypervisor, migration->uuid, memory_measured,
                                reference_new(manager, migration));
}

void
manager_forecast(Manager *manager, Migration *migration)
{
    Forecast *forecast = &migration->forecast;
    TechniqueInput input;

    if (migration->machine.role != MIGRATION_ROLE_SOURCE ||
        migration->machine.state != MIGRATION_RUNNING || !migration->has_decision ||
        migration->machine.iteration > 1 ||
        g_get_monotonic_time() - migration->running_us > FORECAST_LATE_US)
        return;
    planner_technique_input(manager, migration, &input);
    *forecast = (Forecast){
        .valid = true,
        .technique = migration->decision.technique,
        .pair = manager_pair(manager, migration),
        .memory = input.memory,
        .pre = planner_rate_profile(manager, migration, false),
        .post = planner_rate_profile(manager, migration, true),
    };
    forecast->correction = calibration_for(experience_calibration(manager->experience),
                                           forecast->pair, forecast->technique);
    forecast->prediction =
        calibration_predict(&forecast->correction, forecast->technique, input.memory,
                            &forecast->pre, &forecast->post, &input.dirty, &input.predict, NULL);
    migration_note(migration, "forecast",
                   "total: %.1f s, from: %.1f s, to: %.1f s, memory: %" G_GUINT64_FORMAT
                   " B, dirty: %s, learnt_from: %u",
                   forecast->prediction.total_seconds, forecast->prediction.total_seconds_low,
                   forecast->prediction.total_seconds_high, forecast->memory,
                   forecast->prediction.dirty_assumed ? "assumed" : "known",
                   forecast->correction.count);
}

/*
 * A guest that dirties little is gone before its second pass can be looked at:
 * then what was sent beyond its memory was dirtied during the first.
 */
static void
learn_dirty(Migration *migration, uint64_t memory)
{
    const JobStatistics *statistics = &migration->statistics;
    double further = (double)statistics->memory_processed - (double)memory;

    if (migration->dirty_by_passes || memory == 0 || migration->machine.iteration > 3 ||
        migration->first_pass_seconds <= 0 || migration->forecast.technique != TECHNIQUE_PRE_COPY)
        return;
    migration->dirty = (DirtyCurve){ 0 };
    dirty_curve_add(&migration->dirty, migration->first_pass_seconds, MAX(further, PAGE_BYTES));
}

/* limit: bytes/s; 0: none. */
static RateProfile
rate_profile_limited(const RateProfile *profile, uint64_t limit)
{
    RateProfile limited = { 0 };

    if (limit == 0)
        return *profile;
    for (unsigned i = 0; i < profile->count; i++)
        rate_profile_add(&limited, profile->segment[i].until,
                         MIN(profile->segment[i].rate, (double)limit),
                         profile->segment[i].reverse_full);
    return limited;
}

/*
 * The prediction is made again with what is known now of the guest, and with
 * the rates that were expected: what remains is the link's and the model's.
 */
static bool
lesson_of(const Manager *manager, Migration *migration, Lesson *ret_lesson)
{
    const Forecast *forecast = &migration->forecast;
    const JobStatistics *statistics = &migration->statistics;
    PredictParams params = predict_params_default();
    const RateProfile *profile;
    RateProfile pre;
    Prediction raw;
    double seconds = (double)(migration->ended_us - migration->running_us) / 1e6;
    uint64_t memory = 0;

    if (!forecast->valid || migration->running_us == 0)
        return false;
    /* One that was given up teaches how its guest dirties, if that was seen: it will be back. */
    if (migration->machine.outcome != MIGRATION_OUTCOME_SUCCEEDED) {
        *ret_lesson = (Lesson){ .dirty = migration->dirty };
        ret_lesson->observation.pair = forecast->pair;
        ret_lesson->observation.technique = forecast->technique;
        manager_lesson_streams(migration, ret_lesson);
        return migration->dirty_by_passes;
    }
    /* The technique changed meanwhile: the time teaches nothing, but the guest does. */
    if (g_strcmp0(migration_technique_text(migration), technique_to_string(forecast->technique)))
        seconds = 0;
    if (statistics->valid && statistics->memory_total > statistics->memory_constant &&
        statistics->memory_constant != 0)
        memory = statistics->memory_total - statistics->memory_constant;
    learn_dirty(migration, memory);
    params.downtime_limit_ms = manager_maximum_downtime(manager, migration);
    manager_lesson_streams(migration, ret_lesson);
    pre = rate_profile_limited(&forecast->pre, manager_streams_own_rate(ret_lesson));
    profile = forecast->technique == TECHNIQUE_POST_COPY ? &forecast->post : &pre;
    raw = predict_migration_over(forecast->technique, memory != 0 ? memory : forecast->memory, &pre,
                                 &forecast->post, &migration->dirty, &params);
    ret_lesson->observation =
        calibration_observation(forecast->pair, forecast->technique, &raw,
                                rate_profile_reverse_full(profile, seconds), seconds);
    ret_lesson->observation.memory = memory;
    /* Huge pages are among the obstacles, and are not counted as resident. */
    if (migration->description == NULL || migration->description->post_copy_obstacle == NULL)
        ret_lesson->observation.resident = migration->resident;
    /* What was only assumed must not come back as known. */
    ret_lesson->dirty = migration->dirty;
    return true;
}

void
manager_learn(Manager *manager, Migration *migration)
{
    if (!lesson_of(manager, migration, &migration->lesson))
        return;
    migration->has_lesson = true;
    experience_learn(manager->experience, migration->uuid, &migration->lesson);
    if (manager_streams_own_rate(&migration->lesson) != 0)
        migration_note(
            migration, "streams",
            "connections: %u, reached: %" G_GUINT64_FORMAT " B/s, available: %" G_GUINT64_FORMAT
            " B/s, known of one: %" G_GUINT64_FORMAT " B/s",
            migration->lesson.stream.connections, migration->lesson.stream.reached,
            migration->lesson.stream.available,
            experience_stream_rate(manager->experience, migration->lesson.observation.pair));
}
