/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The round model against closed forms, and hostile numbers. */
#include "decision/predict.h"

#include <glib.h>
#include <math.h>

#define MB UINT64_C(1000000)
#define GB UINT64_C(1000000000)

static void
assert_near(double found, double expected, double relative)
{
    g_test_message("%g, expected %g", found, expected);
    g_assert_cmpfloat(fabs(found - expected), <=, fabs(expected) * relative + 1e-9);
}

static void
test_curve(void)
{
    DirtyCurve curve = { 0 };

    g_assert_cmpfloat(dirty_curve_at(&curve, 1.0), ==, 0.0);
    g_assert_true(dirty_curve_add(&curve, 2.0, 100.0));
    g_assert_true(dirty_curve_add(&curve, 12.0, 150.0));
    assert_near(dirty_curve_at(&curve, 1.0), 50.0, 1e-12);
    assert_near(dirty_curve_at(&curve, 2.0), 100.0, 1e-12);
    assert_near(dirty_curve_at(&curve, 7.0), 125.0, 1e-12);
    assert_near(dirty_curve_at(&curve, 1e12), 150.0, 1e-12);
    assert_near(dirty_curve_rate(&curve), 50.0, 1e-12);
    g_assert_cmpfloat(dirty_curve_at(&curve, -1.0), ==, 0.0);
    g_assert_cmpfloat(dirty_curve_at(&curve, (double)NAN), ==, 0.0);
    assert_near(dirty_curve_at(&curve, (double)INFINITY), 150.0, 1e-12);

    /* Refused, and nothing changes. */
    g_assert_false(dirty_curve_add(&curve, 12.0, 200.0));
    g_assert_false(dirty_curve_add(&curve, 13.0, 0.0));
    g_assert_false(dirty_curve_add(&curve, (double)NAN, 1.0));
    g_assert_false(dirty_curve_add(&curve, 13.0, (double)INFINITY));
    g_assert_cmpuint(curve.count, ==, 2);
    /* A curve never falls. */
    g_assert_true(dirty_curve_add(&curve, 20.0, 10.0));
    assert_near(dirty_curve_at(&curve, 30.0), 150.0, 1e-12);
    for (unsigned int i = 0; i < 5; i++)
        g_assert_true(dirty_curve_add(&curve, 30.0 + i, 200.0));
    g_assert_false(dirty_curve_add(&curve, 50.0, 200.0));

    /* Filled in by hand, badly. */
    curve = (DirtyCurve){ .valid = true, .count = 4000000000u };
    for (unsigned int i = 0; i < DIRTY_CURVE_POINTS; i++) {
        curve.point[i].seconds = i % 2 ? (double)NAN : 5.0 - i;
        curve.point[i].bytes = i % 3 ? (double)INFINITY : -1.0;
    }
    g_assert_true(isfinite(dirty_curve_at(&curve, 3.0)));
    g_assert_true(isfinite(dirty_curve_rate(&curve)));

    /* Points of different moments: steep between them is no rate that was ever seen. */
    curve = (DirtyCurve){ 0 };
    g_assert_true(dirty_curve_add(&curve, 4.0, 60.0));
    g_assert_true(dirty_curve_add(&curve, 10.0, 500.0));
    assert_near(dirty_curve_rate(&curve), 50.0, 1e-12);

    curve = dirty_curve_from_rate(0, 0, GB);
    g_assert_false(curve.valid);
    curve = dirty_curve_from_rate(10 * MB, 5 * GB, GB);
    assert_near(dirty_curve_at(&curve, 1e9), 1e9, 1e-12);
    assert_near(dirty_curve_rate(&curve), 1e7, 1e-12);
}

/* Constant rate D < R: V / (R - D), less the last pass that the downtime allows. */
static void
test_pre_copy_closed_form(void)
{
    PredictParams params = predict_params_default();

    params.downtime_limit_ms = 1;
    params.switchover_ms = 0;
    for (unsigned int percent = 1; percent <= 80; percent++) {
        DirtyCurve curve = dirty_curve_from_rate(MB * percent, 0, 4 * GB);
        Prediction found =
            predict_migration(TECHNIQUE_PRE_COPY, 4 * GB, 100 * MB, 0, &curve, &params);

        g_assert_true(found.converges);
        assert_near(found.total_seconds, 4000.0 / (100.0 - percent), 0.001);
        assert_near(found.bytes_moved, found.total_seconds * 100e6, 0.001);
        g_assert_cmpfloat(found.downtime_ms, <=, 1.0);
    }
}

static void
test_pre_copy_does_not_converge(void)
{
    /* Working set W, D >= R: the downtime floor is W / R. */
    DirtyCurve curve = dirty_curve_from_rate(200 * MB, 300 * MB, 2 * GB);
    Prediction found =
        predict_migration(TECHNIQUE_PRE_COPY, 2 * GB, 100 * MB, 100 * MB, &curve, NULL);

    g_assert_false(found.converges);
    assert_near(found.downtime_ms, 3050.0, 1e-6);
    /* It stops when a pass gains nothing: 2 GB, 300 MB, then 300 MB stopped. */
    assert_near(found.bytes_moved, 2.6e9, 1e-6);
    g_assert_cmpuint(found.rounds, ==, 2);

    /* The same set fits if the operator allows three seconds. */
    {
        PredictParams params = predict_params_default();

        params.downtime_limit_ms = 3000;
        found = predict_migration(TECHNIQUE_PRE_COPY, 2 * GB, 100 * MB, 0, &curve, &params);
        g_assert_true(found.converges);
    }
    /* Nothing can be dirtier than all of the memory. */
    curve = (DirtyCurve){ 0 };
    g_assert_true(dirty_curve_add(&curve, 1.0, 1e15));
    found = predict_migration(TECHNIQUE_HYBRID, 2 * GB, 100 * MB, 100 * MB, &curve, NULL);
    assert_near(found.post_copy_bytes, 2e9, 1e-9);
    /* A rate just below the link's: too many passes is never ending, too. */
    curve = dirty_curve_from_rate(98 * MB, 0, 20 * GB);
    found = predict_migration(TECHNIQUE_PRE_COPY, 20 * GB, 100 * MB, 0, &curve, NULL);
    g_assert_false(found.converges);
}

static void
test_post_copy_and_hybrid(void)
{
    DirtyCurve curve = dirty_curve_from_rate(200 * MB, 300 * MB, 2 * GB);
    Prediction post =
        predict_migration(TECHNIQUE_POST_COPY, 2 * GB, 50 * MB, 100 * MB, &curve, NULL);
    Prediction hybrid =
        predict_migration(TECHNIQUE_HYBRID, 2 * GB, 50 * MB, 100 * MB, &curve, NULL);

    g_assert_true(post.converges);
    assert_near(post.total_seconds, 20.05, 1e-6);
    assert_near(post.post_copy_bytes, 2e9, 1e-6);
    assert_near(post.downtime_ms, 50.0, 1e-6);
    g_assert_cmpuint(post.rounds, ==, 0);

    g_assert_true(hybrid.converges);
    assert_near(hybrid.total_seconds, 40.0 + 0.05 + 3.0, 1e-6);
    assert_near(hybrid.bytes_moved, 2.3e9, 1e-6);
    assert_near(hybrid.post_copy_seconds, 3.0, 1e-6);

    /* A quiet guest's hybrid ends as pre-copy does. */
    curve = dirty_curve_from_rate(MB / 10, MB, GB);
    hybrid = predict_migration(TECHNIQUE_HYBRID, GB, 100 * MB, 100 * MB, &curve, NULL);
    g_assert_cmpfloat(hybrid.post_copy_seconds, ==, 0.0);
    g_assert_cmpfloat(hybrid.downtime_ms, <=, 350.0);
}

static void
test_unknown_is_not_zero(void)
{
    DirtyCurve unknown = { 0 };
    Prediction found =
        predict_migration(TECHNIQUE_PRE_COPY, 8 * GB, 100 * MB, 100 * MB, &unknown, NULL);

    /* 2 GB in 10 s is more than 100 MB/s carries. */
    g_assert_true(found.dirty_assumed);
    g_assert_false(found.converges);
    found = predict_migration(TECHNIQUE_PRE_COPY, 8 * GB, 1000 * MB, 0, NULL, NULL);
    g_assert_true(found.dirty_assumed);
    g_assert_true(found.converges);
    g_assert_cmpfloat(found.bytes_moved, >, 8e9);
}

static void
test_hostile(void)
{
    static const uint64_t values[] = {
        0, 1, UINT64_C(1) << 32, (UINT64_C(1) << 32) + 1, UINT64_C(1) << 53, UINT64_MAX
    };
    PredictParams worst = { .downtime_limit_ms = UINT64_MAX,
                            .switchover_ms = UINT64_MAX,
                            .rounds_maximum = UINT32_MAX,
                            .unknown_working_set = (double)NAN,
                            .unknown_working_set_time = -1.0 };
    PredictParams zero = { 0 };
    const PredictParams *params[] = { NULL, &worst, &zero };

    for (unsigned int technique = 0; technique <= 3; technique++)
        for (size_t m = 0; m < G_N_ELEMENTS(values); m++)
            for (size_t a = 0; a < G_N_ELEMENTS(values); a++)
                for (size_t b = 0; b < G_N_ELEMENTS(values); b++)
                    for (size_t d = 0; d < G_N_ELEMENTS(values); d++)
                        for (size_t p = 0; p < G_N_ELEMENTS(params); p++) {
                            DirtyCurve curve = dirty_curve_from_rate(values[d], 0, values[m]);
                            Prediction found =
                                predict_migration((Technique)technique, values[m], values[a],
                                                  values[b], &curve, params[p]);

                            g_assert_true(isfinite(found.total_seconds));
                            g_assert_true(isfinite(found.downtime_ms));
                            g_assert_true(isfinite(found.bytes_moved));
                            g_assert_cmpfloat(found.total_seconds, >=, 0.0);
                            g_assert_cmpfloat(found.total_seconds, <=, PREDICT_SECONDS_MAX);
                            g_assert_cmpfloat(found.post_copy_seconds, <=, found.total_seconds);
                            if (values[a] == 0 && technique == TECHNIQUE_PRE_COPY)
                                g_assert_false(found.converges);
                        }
}

static void
test_curve_insert(void)
{
    DirtyCurve curve = { 0 };

    g_assert_true(dirty_curve_insert(&curve, 10.0, 100.0));
    g_assert_true(dirty_curve_insert(&curve, 2.0, 40.0));
    g_assert_true(dirty_curve_insert(&curve, 5.0, 60.0));
    g_assert_cmpuint(curve.count, ==, 3);
    assert_near(dirty_curve_at(&curve, 2.0), 40.0, 1e-12);
    assert_near(dirty_curve_at(&curve, 5.0), 60.0, 1e-12);
    assert_near(dirty_curve_at(&curve, 20.0), 100.0, 1e-12);
    /* The newer one is right: about the same time, below later, above earlier ones. */
    g_assert_true(dirty_curve_insert(&curve, 5.2, 30.0));
    g_assert_cmpuint(curve.count, ==, 3);
    assert_near(dirty_curve_at(&curve, 2.0), 30.0, 1e-12);
    assert_near(dirty_curve_at(&curve, 5.2), 30.0, 1e-12);
    g_assert_true(dirty_curve_insert(&curve, 1.0, 200.0));
    assert_near(dirty_curve_at(&curve, 10.0), 200.0, 1e-12);

    g_assert_false(dirty_curve_insert(&curve, 0.0, 1.0));
    g_assert_false(dirty_curve_insert(&curve, 1.0, 0.0));
    g_assert_false(dirty_curve_insert(&curve, (double)NAN, 1.0));
    g_assert_false(dirty_curve_insert(&curve, 1.0, (double)INFINITY));
    g_assert_cmpuint(curve.count, ==, 4);

    /* Never full: what says least goes, what has just come stays. */
    curve = (DirtyCurve){ 0 };
    for (unsigned int i = 0; i < 50; i++) {
        double seconds = 1.0 + (i * 17 % 50);

        g_assert_true(dirty_curve_insert(&curve, seconds, 10.0 * seconds));
        g_assert_cmpuint(curve.count, <=, DIRTY_CURVE_POINTS);
        assert_near(dirty_curve_at(&curve, seconds), 10.0 * seconds, 1e-12);
    }
    g_assert_cmpuint(curve.count, ==, DIRTY_CURVE_POINTS);
    curve.count = 4000000000u;
    g_assert_true(dirty_curve_insert(&curve, 1.0, 1.0));
    g_assert_cmpuint(curve.count, ==, 1);
}

static void
test_profile(void)
{
    RateProfile profile = { 0 };

    /* 100 MB/s for 5 s, nothing for 5 s, then 50 MB/s. */
    assert_near(rate_profile_seconds(&profile, 0.0, 1.0), PREDICT_SECONDS_MAX, 1e-12);
    g_assert_true(rate_profile_add(&profile, 5.0, 100e6, true));
    g_assert_true(rate_profile_add(&profile, 10.0, 0.0, false));
    g_assert_true(rate_profile_add(&profile, 20.0, 50e6, false));
    assert_near(rate_profile_seconds(&profile, 0.0, 500e6), 5.0, 1e-12);
    assert_near(rate_profile_seconds(&profile, 0.0, 600e6), 12.0, 1e-12);
    assert_near(rate_profile_seconds(&profile, 4.0, 150e6), 7.0, 1e-12);
    /* The last segment lasts for ever. */
    assert_near(rate_profile_seconds(&profile, 15.0, 5e9), 100.0, 1e-12);
    assert_near(rate_profile_seconds(&profile, (double)NAN, 500e6), 5.0, 1e-12);
    assert_near(rate_profile_seconds(&profile, 0.0, (double)INFINITY), PREDICT_SECONDS_MAX, 1e-12);
    g_assert_cmpfloat(rate_profile_seconds(&profile, 0.0, (double)NAN), ==, 0.0);
    assert_near(rate_profile_reverse_full(&profile, 10.0), 0.5, 1e-12);
    assert_near(rate_profile_reverse_full(&profile, 2.0), 1.0, 1e-12);
    g_assert_cmpfloat(rate_profile_reverse_full(&profile, 0.0), ==, 0.0);
    g_assert_cmpfloat(rate_profile_reverse_full(&profile, (double)NAN), ==, 0.0);

    /* Refused, and nothing changes. */
    g_assert_false(rate_profile_add(&profile, 20.0, 1.0, false));
    g_assert_false(rate_profile_add(&profile, (double)NAN, 1.0, false));
    g_assert_false(rate_profile_add(&profile, 30.0, (double)NAN, false));
    g_assert_false(rate_profile_add(&profile, 30.0, (double)INFINITY, false));
    g_assert_false(rate_profile_add(&profile, 30.0, -1.0, false));
    g_assert_cmpuint(profile.count, ==, 3);
    /* Equal neighbours are one segment, so the table does not fill with them. */
    g_assert_true(rate_profile_add(&profile, 30.0, 50e6, false));
    g_assert_cmpuint(profile.count, ==, 3);
    for (unsigned int i = 0; i < RATE_PROFILE_SEGMENTS - 3; i++)
        g_assert_true(rate_profile_add(&profile, 40.0 + i, 60e6 + i, false));
    g_assert_false(rate_profile_add(&profile, 1e6, 1.0, false));
    g_assert_cmpuint(profile.count, ==, RATE_PROFILE_SEGMENTS);
}

static void
test_over_time(void)
{
    DirtyCurve curve = dirty_curve_from_rate(10 * MB, 40 * MB, GB);
    RateProfile constant = rate_profile_constant(100e6);
    RateProfile changing = { 0 };
    Prediction plain = predict_migration(TECHNIQUE_PRE_COPY, GB, 100 * MB, 100 * MB, &curve, NULL);
    Prediction found =
        predict_migration_over(TECHNIQUE_PRE_COPY, GB, &constant, NULL, &curve, NULL);

    assert_near(found.total_seconds, plain.total_seconds, 1e-12);
    assert_near(found.memory_seconds, 10.0, 1e-12);

    /* Half the rate for 10 s costs 5 s more in the first pass. */
    g_assert_true(rate_profile_add(&changing, 10.0, 50e6, false));
    g_assert_true(rate_profile_add(&changing, 11.0, 100e6, false));
    found = predict_migration_over(TECHNIQUE_PRE_COPY, GB, &changing, NULL, &curve, NULL);
    assert_near(found.memory_seconds, 15.0, 1e-12);
    assert_near(found.total_seconds, plain.total_seconds + 5.0, 1e-12);

    /* A slow time in which nothing is gained is not the end while it gets better. */
    changing = (RateProfile){ 0 };
    g_assert_true(rate_profile_add(&changing, 300.0, 5e6, false));
    g_assert_true(rate_profile_add(&changing, 301.0, 100e6, false));
    curve = dirty_curve_from_rate(20 * MB, 200 * MB, GB);
    found = predict_migration_over(TECHNIQUE_PRE_COPY, GB, &changing, NULL, &curve, NULL);
    g_assert_true(found.converges);
    found = predict_migration(TECHNIQUE_PRE_COPY, GB, 5 * MB, 0, &curve, NULL);
    g_assert_false(found.converges);

    /* Each phase has its own. */
    found = predict_migration_over(TECHNIQUE_HYBRID, GB, &constant, &changing, &curve, NULL);
    assert_near(found.memory_seconds, 10.0, 1e-12);
    assert_near(found.post_copy_seconds, 40.0, 1e-12);
    found = predict_migration_over(TECHNIQUE_POST_COPY, GB, NULL, &constant, &curve, NULL);
    assert_near(found.memory_seconds, 10.0, 1e-12);
}

static void
test_hostile_profile(void)
{
    const double values[] = { 0.0,
                              -1.0,
                              4294967296.0,
                              1e300,
                              (double)NAN,
                              1e-300,
                              (double)INFINITY,
                              5.0,
                              (double)-INFINITY };
    DirtyCurve curve = dirty_curve_from_rate(MB, 0, GB);

    for (size_t a = 0; a < G_N_ELEMENTS(values); a++)
        for (size_t b = 0; b < G_N_ELEMENTS(values); b++)
            for (size_t c = 0; c < G_N_ELEMENTS(values); c++)
                for (unsigned int count = 0; count < 4; count++)
                    for (unsigned int technique = 0; technique <= 3; technique++) {
                        RateProfile profile = { .count = count == 3 ? UINT32_MAX : count };
                        Prediction found;

                        profile.segment[0].until = values[a];
                        profile.segment[0].rate = values[b];
                        profile.segment[1].until = values[c];
                        profile.segment[1].rate = values[a];
                        found = predict_migration_over((Technique)technique, GB, &profile, &profile,
                                                       &curve, NULL);
                        g_assert_true(isfinite(found.total_seconds));
                        g_assert_true(isfinite(found.downtime_ms));
                        g_assert_cmpfloat(found.total_seconds, >=, 0.0);
                        g_assert_cmpfloat(found.total_seconds, <=, PREDICT_SECONDS_MAX);
                        g_assert_cmpfloat(rate_profile_reverse_full(&profile, values[c]), <=, 1.0);
                    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/decision/predict/curve", test_curve);
    g_test_add_func("/decision/predict/pre-copy-closed-form", test_pre_copy_closed_form);
    g_test_add_func("/decision/predict/does-not-converge", test_pre_copy_does_not_converge);
    g_test_add_func("/decision/predict/post-copy-and-hybrid", test_post_copy_and_hybrid);
    g_test_add_func("/decision/predict/unknown-is-not-zero", test_unknown_is_not_zero);
    g_test_add_func("/decision/predict/hostile", test_hostile);
    g_test_add_func("/decision/predict/curve-insert", test_curve_insert);
    g_test_add_func("/decision/predict/profile", test_profile);
    g_test_add_func("/decision/predict/over-time", test_over_time);
    g_test_add_func("/decision/predict/hostile-profile", test_hostile_profile);
    return g_test_run();
}
