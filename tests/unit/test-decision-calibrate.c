/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is learnt, how fast, and what must not be believed. */
#include "decision/calibrate.h"

#include <glib.h>
#include <math.h>

#define MB UINT64_C(1000000)

static void
assert_between(double found, double low, double high)
{
    g_test_message("%g, expected %g to %g", found, low, high);
    g_assert_cmpfloat(found, >=, low);
    g_assert_cmpfloat(found, <=, high);
}

/* One migration of `memory` seconds that follows the law (a, b, c, o) exactly. */
static CalibrationObservation
lawful(uint64_t pair, double memory, double further, double reverse, const double law[4])
{
    return (CalibrationObservation){
        .pair = pair,
        .technique = TECHNIQUE_PRE_COPY,
        .memory_seconds = memory,
        .further_seconds = further,
        .reverse_full = reverse,
        .measured_seconds = law[0] * memory + law[1] * further + law[2] * reverse * memory + law[3],
    };
}

static void
teach(Calibration *calibration, uint64_t pair, unsigned int count, const double law[4])
{
    for (unsigned int i = 0; i < count; i++) {
        CalibrationObservation observation =
            lawful(pair, 2.0 + i * 7 % 31, 3.0 + i * 5 % 23, i % 3 == 0 ? 1.0 : 0.0, law);

        g_assert_true(calibration_add(calibration, &observation));
    }
}

static void
test_learns(void)
{
    static const double law[4] = { 1.2, 0.5, 0.3, 3.0 };
    g_autofree Calibration *calibration = g_new0(Calibration, 1);
    CalibrationCorrection correction;

    teach(calibration, 7, 60, law);
    correction = calibration_for(calibration, 7, TECHNIQUE_PRE_COPY);
    assert_between(correction.memory, 1.15, 1.25);
    assert_between(correction.further, 0.4, 0.7);
    assert_between(correction.reverse_full, 0.25, 0.35);
    assert_between(correction.overhead, 2.5, 3.5);
    g_assert_cmpuint(correction.count, ==, 60);
    assert_between(correction.error_low, -0.05, 0.0);
    assert_between(correction.error_high, 0.0, 0.05);
    /* A technique never seen gets what was learnt of others, and a wide band. */
    correction = calibration_for(calibration, 7, TECHNIQUE_POST_COPY);
    g_assert_cmpuint(correction.count, ==, 0);
    assert_between(correction.memory, 1.1, 1.3);
    assert_between(correction.error_high - correction.error_low, 0.5, 1.0);
}

static void
test_shrinks(void)
{
    static const double slow[4] = { 2.0, 1.0, 0.0, 0.0 };
    static const double plain[4] = { 1.0, 1.0, 0.0, 0.0 };
    double before = 1.0;

    /* The more is seen, the more it is believed, and never more than was seen. */
    for (unsigned int count = 1; count <= 64; count *= 2) {
        g_autofree Calibration *calibration = g_new0(Calibration, 1);
        CalibrationCorrection correction;

        for (unsigned int i = 0; i < count; i++) {
            CalibrationObservation observation = lawful(1, 20.0, 0.0, 0.0, slow);

            g_assert_true(calibration_add(calibration, &observation));
        }
        correction = calibration_for(calibration, 1, TECHNIQUE_PRE_COPY);
        assert_between(correction.memory + correction.overhead / 20.0, before, 2.0 + 1e-9);
        before = correction.memory + correction.overhead / 20.0;
        assert_between(correction.error_high - correction.error_low, 0.0, 1.0);
    }
    assert_between(before, 1.9, 2.0);

    /* A pair never seen gets what the pairs have in common, and a wide band. */
    {
        g_autofree Calibration *calibration = g_new0(Calibration, 1);
        CalibrationCorrection seen;
        CalibrationCorrection unseen;

        teach(calibration, 1, 30, slow);
        teach(calibration, 2, 30, plain);
        seen = calibration_for(calibration, 2, TECHNIQUE_PRE_COPY);
        unseen = calibration_for(calibration, 3, TECHNIQUE_PRE_COPY);
        assert_between(seen.memory, 0.95, 1.1);
        assert_between(unseen.memory, 1.0, 2.0);
        g_assert_cmpuint(unseen.count, ==, 0);
        assert_between(unseen.error_high - unseen.error_low, 0.5, 1.0);
    }
}

/* One in ten migrations met something else: an outage, a guest that was half empty. */
static void
test_robust(void)
{
    static const double law[4] = { 1.1, 1.0, 0.0, 1.0 };
    g_autofree Calibration *calibration = g_new0(Calibration, 1);
    CalibrationCorrection correction;
    Prediction prediction = { .converges = true, .memory_seconds = 20, .total_seconds = 22 };

    for (unsigned int i = 0; i < 60; i++) {
        CalibrationObservation observation = lawful(1, 10.0 + i % 20, 2.0, 0.0, law);

        if (i % 10 == 5)
            observation.measured_seconds *= i % 20 == 5 ? 8.0 : 0.125;
        g_assert_true(calibration_add(calibration, &observation));
    }
    correction = calibration_for(calibration, 1, TECHNIQUE_PRE_COPY);
    prediction = calibration_apply(&correction, &prediction, 0.0);
    assert_between(prediction.total_seconds, 24.0, 27.0); /* 25 by the law */
}

static void
test_hostile(void)
{
    const double nan = (double)NAN;
    const double infinite = (double)INFINITY;
    static const double law[4] = { 1.0, 1.0, 0.0, 0.0 };
    const CalibrationObservation good = lawful(1, 10.0, 1.0, 0.0, law);
    const struct {
        const char *what;
        double memory, further, reverse, measured;
    } bad[] = {
        { "a link of zero", PREDICT_SECONDS_MAX, 0, 0, 10 },
        { "no memory", 0, 0, 0, 10 },
        { "negative memory", -1, 0, 0, 10 },
        { "memory NaN", nan, 0, 0, 10 },
        { "memory infinite", infinite, 0, 0, 10 },
        { "further NaN", 10, nan, 0, 10 },
        { "further negative", 10, -1, 0, 10 },
        { "further infinite", 10, infinite, 0, 10 },
        { "reverse NaN", 10, 0, nan, 10 },
        { "reverse above one", 10, 0, 1.1, 10 },
        { "reverse negative", 10, 0, -0.1, 10 },
        { "measured zero", 10, 0, 0, 0 },
        { "measured negative", 10, 0, 0, -5 },
        { "measured NaN", 10, 0, 0, nan },
        { "measured infinite", 10, 0, 0, infinite },
        { "measured years", 80000, 0, 0, 1e8 },
        { "far too slow", 1, 0, 0, 21 },
        { "far too fast", 100, 0, 0, 4 },
    };
    g_autofree Calibration *calibration = g_new0(Calibration, 1);

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        CalibrationObservation observation = good;

        g_test_message("%s", bad[i].what);
        observation.memory_seconds = bad[i].memory;
        observation.further_seconds = bad[i].further;
        observation.reverse_full = bad[i].reverse;
        observation.measured_seconds = bad[i].measured;
        g_assert_false(calibration_add(calibration, &observation));
        g_assert_cmpuint(calibration->count, ==, 0);
    }
    {
        CalibrationObservation observation = good;

        observation.technique = (Technique)7;
        g_assert_false(calibration_add(calibration, &observation));
    }

    /* What is within the bounds may still lie: the factors stay bounded. */
    for (unsigned int i = 0; i < 64; i++) {
        CalibrationObservation observation = good;

        observation.memory_seconds = i % 2 ? 1e-3 : 80000;
        observation.further_seconds = i % 2 ? 1.0 : 0.0;
        observation.measured_seconds = i % 2 ? 19 : 4001;
        g_assert_true(calibration_add(calibration, &observation));
    }
    {
        CalibrationCorrection correction = calibration_for(calibration, 1, TECHNIQUE_PRE_COPY);

        assert_between(correction.memory, 0.25, 4.0);
        assert_between(correction.further, 0.0, 4.0);
        assert_between(correction.reverse_full, 0.0, 4.0);
        assert_between(correction.overhead, 0.0, 60.0);
        assert_between(correction.error_low, -0.9, 0.0);
        assert_between(correction.error_high, 0.0, 4.0);
    }
    /* A count from nowhere reads nothing beyond the table. */
    calibration->count = 4000000000u;
    assert_between(calibration_for(calibration, 1, TECHNIQUE_PRE_COPY).memory, 0.25, 4.0);
    g_assert_cmpuint(calibration_for(NULL, 1, TECHNIQUE_PRE_COPY).count, ==, 0);
}

static void
test_bounded(void)
{
    static const double first[4] = { 1.0, 1.0, 0.0, 0.0 };
    static const double later[4] = { 1.5, 1.0, 0.0, 0.0 };
    g_autofree Calibration *calibration = g_new0(Calibration, 1);

    /* 1000 observations of one pair: the last ones count, others are not pushed out. */
    teach(calibration, 2, 5, first);
    teach(calibration, 1, 900, first);
    teach(calibration, 1, 100, later);
    g_assert_cmpuint(calibration->count, ==, CALIBRATION_PAIR_OBSERVATIONS + 5);
    assert_between(calibration_for(calibration, 1, TECHNIQUE_PRE_COPY).memory, 1.45, 1.55);
    g_assert_cmpuint(calibration_for(calibration, 2, TECHNIQUE_PRE_COPY).count, ==, 5);
    /* 1000 pairs more. */
    for (uint64_t pair = 10; pair < 2010; pair++)
        teach(calibration, pair, 1, first);
    g_assert_cmpuint(calibration->count, ==, CALIBRATION_OBSERVATIONS);
    g_assert_cmpuint(calibration_for(calibration, 2, TECHNIQUE_PRE_COPY).count, ==, 0);
    g_assert_cmpuint(calibration_for(calibration, 2009, TECHNIQUE_PRE_COPY).count, ==, 1);
}

static void
test_apply(void)
{
    CalibrationCorrection correction = calibration_none();
    Prediction prediction = { .memory_seconds = 20, .total_seconds = 25, .bytes_moved = 7 };
    Prediction corrected = calibration_apply(&correction, &prediction, 0.0);
    Prediction never = { .memory_seconds = PREDICT_SECONDS_MAX,
                         .total_seconds = PREDICT_SECONDS_MAX };

    assert_between(corrected.total_seconds, 25, 25);
    assert_between(corrected.total_seconds_low, 17.4, 17.6);
    assert_between(corrected.total_seconds_high, 32.4, 32.6);
    correction = (CalibrationCorrection){ 1.1, 0.5, 0.2, 3.0, -0.1, 0.2, 9 };
    corrected = calibration_apply(&correction, &prediction, 0.5);
    assert_between(corrected.total_seconds, 29.4999, 29.5001); /* 22 + 2.5 + 2 + 3 */
    assert_between(corrected.total_seconds_low, 26.54, 26.56);
    assert_between(corrected.total_seconds_high, 35.39, 35.41);
    assert_between(corrected.bytes_moved, 7, 7);
    corrected = calibration_apply(&correction, &never, 1.0);
    assert_between(corrected.total_seconds, PREDICT_SECONDS_MAX, PREDICT_SECONDS_MAX);
    assert_between(corrected.total_seconds_high, 0, 0);
    /* A correction filled in by hand, badly. */
    correction = (CalibrationCorrection){ (double)NAN, (double)INFINITY, 0, 0, -7, (double)NAN, 1 };
    corrected = calibration_apply(&correction, &prediction, (double)NAN);
    g_assert_true(isfinite(corrected.total_seconds));
    g_assert_true(isfinite(corrected.total_seconds_low));
    g_assert_true(isfinite(corrected.total_seconds_high));
}

/* The reverse path is full for the first 10 s only: half of a migration of 20 s. */
static void
test_predict(void)
{
    CalibrationCorrection correction = { 1.0, 1.0, 1.0, 0.0, -0.1, 0.1, 9 };
    RateProfile profile = { 0 };
    DirtyCurve dirty = { 0 };
    Prediction raw;
    Prediction prediction;

    g_assert_true(dirty_curve_add(&dirty, 1000.0, 1.0));
    g_assert_true(rate_profile_add(&profile, 10.0, 100e6, true));
    g_assert_true(rate_profile_add(&profile, 11.0, 100e6, false));
    prediction = calibration_predict(&correction, TECHNIQUE_PRE_COPY, 1000 * MB, &profile, NULL,
                                     &dirty, NULL, &raw);
    assert_between(raw.total_seconds, 10.0, 10.1);
    /* x = 10 + 10 (10 / x): about 16.2 */
    assert_between(prediction.total_seconds, 15.5, 17.0);
    correction.reverse_full = 0.0;
    prediction = calibration_predict(&correction, TECHNIQUE_PRE_COPY, 1000 * MB, &profile, NULL,
                                     &dirty, NULL, NULL);
    assert_between(prediction.total_seconds, 10.0, 10.1);
    prediction = calibration_predict(&correction, TECHNIQUE_PRE_COPY, 1000 * MB, NULL, NULL, &dirty,
                                     NULL, NULL);
    assert_between(prediction.total_seconds, PREDICT_SECONDS_MAX, PREDICT_SECONDS_MAX);
}

/* QEMU's own part of what is resident is learnt, the least of them. */
static void
test_memory(void)
{
    static const double law[4] = { 1.0, 1.0, 0.0, 0.0 };
    g_autofree Calibration *calibration = g_new0(Calibration, 1);
    CalibrationObservation observation = lawful(1, 10.0, 1.0, 0.0, law);

    g_assert_cmpuint(calibration_memory(NULL, 0, 1000 * MB), ==, 1000 * MB);
    g_assert_cmpuint(calibration_memory(calibration, 300 * MB, 1000 * MB), ==, 300 * MB);
    g_assert_cmpuint(calibration_memory(calibration, 3000 * MB, 1000 * MB), ==, 1000 * MB);
    for (unsigned int i = 0; i < 40; i++) {
        observation.resident = i < 6 ? UINT64_MAX : (500 + i * 2) * MB;
        observation.memory = i % 7 == 3 ? 0 : (392 + i) * MB; /* 114 MB less, and more */
        g_assert_true(calibration_add(calibration, &observation));
    }
    g_assert_cmpuint(calibration_memory(calibration, 300 * MB, 1000 * MB), ==, 186 * MB);
    g_assert_cmpuint(calibration_memory(calibration, 50 * MB, 1000 * MB), ==, 1);
    g_assert_cmpuint(calibration_memory(calibration, UINT64_MAX, 1000 * MB), ==, 1000 * MB);
    g_assert_cmpuint(calibration_memory(calibration, 0, 0), ==, 0);
    /* What was not resident, in huge pages or swapped out, teaches nothing. */
    observation.resident = 150 * MB;
    observation.memory = 8000 * MB;
    g_assert_true(calibration_add(calibration, &observation));
    g_assert_cmpuint(calibration_memory(calibration, 300 * MB, 16000 * MB), ==, 186 * MB);
}

static void
test_pair(void)
{
    g_assert_cmpuint(calibration_pair("a", "b"), !=, calibration_pair("b", "a"));
    g_assert_cmpuint(calibration_pair("ab", ""), !=, calibration_pair("a", "b"));
    g_assert_cmpuint(calibration_pair("a", "b"), ==, calibration_pair("a", "b"));
    g_assert_cmpuint(calibration_pair(NULL, NULL), ==, 0);
    g_assert_cmpuint(calibration_pair(NULL, "b"), ==, calibration_pair("", "b"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/calibrate/learns", test_learns);
    g_test_add_func("/calibrate/shrinks", test_shrinks);
    g_test_add_func("/calibrate/robust", test_robust);
    g_test_add_func("/calibrate/hostile", test_hostile);
    g_test_add_func("/calibrate/bounded", test_bounded);
    g_test_add_func("/calibrate/apply", test_apply);
    g_test_add_func("/calibrate/predict", test_predict);
    g_test_add_func("/calibrate/memory", test_memory);
    g_test_add_func("/calibrate/pair", test_pair);
    return g_test_run();
}
