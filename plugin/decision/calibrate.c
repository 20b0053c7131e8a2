/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ridge regression with Huber weights, four unknowns; see calibrate.h. */
#include "decision/calibrate.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define TERMS 4
#define ITERATIONS 8
#define HUBER 0.05
/* Below it a relative error of a whole migration means nothing. */
#define MEASURED_MIN 0.05
/* What is assumed of errors before any was seen, and for how many it counts. */
#define ERROR_ASSUMED 0.3
#define ERROR_ASSUMED_WEIGHT 2.0
#define ERROR_LOW_PERCENT 10
#define ERROR_HIGH_PERCENT 90
#define ERROR_LOW_MIN (-0.9)
#define ERROR_HIGH_MAX 4.0

static const double term_low[TERMS] = { 0.25, 0.0, 0.0, 0.0 };
static const double term_high[TERMS] = { 4.0, 4.0, 4.0, 60.0 };
static const double term_none[TERMS] = { 1.0, 1.0, 0.0, 0.0 };
/*
 * How many observations, each of relative weight 1, the belief before them is
 * worth; for the overhead, which is not relative, divided by the seconds it is in,
 * squared. Ten times more or less changes the error on mvm-migrations.csv by less
 * than a tenth.
 */
static const double weight_all[TERMS] = { 0.1, 0.1, 0.1, 0.0005 };
static const double weight_pair[TERMS] = { 1.0, 1.0, 1.0, 0.005 };

static double
clamp(double value, double low, double high)
{
    if (isnan(value))
        return low;
    return value < low ? low : value > high ? high : value;
}

uint64_t
calibration_pair(const char *source, const char *destination)
{
    /* FNV-1a, 64 bit, with a byte between the names that no name has. */
    const char *names[] = { source != NULL ? source : "", destination != NULL ? destination : "" };
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    if (names[0][0] == '\0' && names[1][0] == '\0')
        return 0;
    for (unsigned int i = 0; i < 2; i++) {
        for (const char *at = names[i]; *at != '\0'; at++)
            hash = (hash ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
        hash = (hash ^ 0xff) * UINT64_C(0x100000001b3);
    }
    return hash != 0 ? hash : 1;
}

CalibrationObservation
calibration_observation(uint64_t pair, Technique technique, const Prediction *prediction,
                        double reverse_full, double measured_seconds)
{
    return (CalibrationObservation){
        .pair = pair,
        .technique = technique,
        .memory_seconds = prediction->memory_seconds,
        .further_seconds = fmax(prediction->total_seconds - prediction->memory_seconds, 0.0),
        .reverse_full = reverse_full,
        .measured_seconds = measured_seconds,
    };
}

static bool
observation_is_usable(const CalibrationObservation *observation)
{
    double predicted = observation->memory_seconds + observation->further_seconds;
    double measured = observation->measured_seconds;

    /* Comparisons with NaN are false: each is written so that this refuses. */
    if (!(observation->memory_seconds > 0.0 && observation->further_seconds >= 0.0))
        return false;
    if (!(predicted <= CALIBRATION_SECONDS_MAX && measured <= CALIBRATION_SECONDS_MAX))
        return false;
    if (!(observation->reverse_full >= 0.0 && observation->reverse_full <= 1.0))
        return false;
    if ((unsigned int)observation->technique > TECHNIQUE_HYBRID)
        return false;
    return measured >= MEASURED_MIN && measured <= predicted * CALIBRATION_RATIO_MAX &&
           predicted <= measured * CALIBRATION_RATIO_MAX;
}

static bool
is_of(const CalibrationObservation *observation, uint64_t pair, Technique technique)
{
    return observation->pair == pair && observation->technique == technique;
}

static unsigned int
table_count(const Calibration *calibration)
{
    if (calibration == NULL)
        return 0;
    return calibration->count < CALIBRATION_OBSERVATIONS ? calibration->count
                                                         : CALIBRATION_OBSERVATIONS;
}

bool
calibration_add(Calibration *calibration, const CalibrationObservation *observation)
{
    unsigned int count = table_count(calibration);
    unsigned int of_pair = 0;
    unsigned int oldest_of_pair = 0;
    unsigned int leaving;

    if (!observation_is_usable(observation))
        return false;
    for (unsigned int i = count; i > 0; i--) {
        if (is_of(&calibration->observation[i - 1], observation->pair, observation->technique)) {
            of_pair++;
            oldest_of_pair = i - 1;
        }
    }
    if (of_pair >= CALIBRATION_PAIR_OBSERVATIONS || count == CALIBRATION_OBSERVATIONS) {
        leaving = of_pair >= CALIBRATION_PAIR_OBSERVATIONS ? oldest_of_pair : 0;
        count--;
        memmove(&calibration->observation[leaving], &calibration->observation[leaving + 1],
                (count - leaving) * sizeof(calibration->observation[0]));
    }
    calibration->observation[count] = *observation;
    calibration->count = count + 1;
    return true;
}

/* ---- the fit ----------------------------------------------------------- */

static void
terms_of(const CalibrationObservation *observation, double ret_terms[TERMS])
{
    ret_terms[0] = observation->memory_seconds;
    ret_terms[1] = observation->further_seconds;
    ret_terms[2] = observation->reverse_full * observation->memory_seconds;
    ret_terms[3] = 1.0;
}

static double
sum_of(const double factors[TERMS], const double terms[TERMS])
{
    double sum = 0.0;

    for (unsigned int i = 0; i < TERMS; i++)
        sum += factors[i] * terms[i];
    return sum;
}

/* Positive definite by the ridge: elimination needs no pivots. */
static void
solve(double matrix[TERMS][TERMS], double right[TERMS])
{
    for (unsigned int i = 0; i < TERMS; i++) {
        for (unsigned int row = i + 1; row < TERMS; row++) {
            double part = matrix[row][i] / matrix[i][i];

            for (unsigned int column = i; column < TERMS; column++)
                matrix[row][column] -= part * matrix[i][column];
            right[row] -= part * right[i];
        }
    }
    for (unsigned int i = TERMS; i > 0; i--) {
        for (unsigned int column = i; column < TERMS; column++)
            right[i - 1] -= matrix[i - 1][column] * right[column];
        right[i - 1] /= matrix[i - 1][i - 1];
    }
}

typedef struct {
    const Calibration *calibration;
    bool all_techniques;
    bool all_pairs;
    uint64_t pair;
    Technique technique;
} Selection;

static bool
is_selected(const Selection *selection, const CalibrationObservation *observation)
{
    return (selection->all_techniques || observation->technique == selection->technique) &&
           (selection->all_pairs || observation->pair == selection->pair);
}

/* factors: the belief before, and after. */
static void
fit(const Selection *selection, const double weight[TERMS], double factors[TERMS])
{
    double prior[TERMS];
    unsigned int count = table_count(selection->calibration);

    memcpy(prior, factors, sizeof(prior));
    for (unsigned int iteration = 0; iteration < ITERATIONS; iteration++) {
        double matrix[TERMS][TERMS] = { 0 };
        double right[TERMS];

        for (unsigned int i = 0; i < TERMS; i++) {
            matrix[i][i] = weight[i];
            right[i] = weight[i] * prior[i];
        }
        for (unsigned int n = 0; n < count; n++) {
            const CalibrationObservation *observation = &selection->calibration->observation[n];
            double measured = observation->measured_seconds;
            double terms[TERMS];
            double error;
            double heed;

            if (!is_selected(selection, observation))
                continue;
            terms_of(observation, terms);
            error = fabs(1.0 - sum_of(factors, terms) / measured);
            heed = iteration > 0 && error > HUBER ? HUBER / error : 1.0;
            for (unsigned int i = 0; i < TERMS; i++) {
                right[i] += heed * terms[i] / measured;
                for (unsigned int j = 0; j < TERMS; j++)
                    matrix[i][j] += heed * terms[i] * terms[j] / (measured * measured);
            }
        }
        solve(matrix, right);
        for (unsigned int i = 0; i < TERMS; i++)
            factors[i] = clamp(right[i], term_low[i], term_high[i]);
    }
}

/* ---- the band ---------------------------------------------------------- */

static void
sort(double *values, unsigned int count)
{
    for (unsigned int i = 1; i < count; i++) {
        double value = values[i];
        unsigned int at = i;

        for (; at > 0 && values[at - 1] > value; at--)
            values[at] = values[at - 1];
        values[at] = value;
    }
}

/*
 * The 10th and the 90th of the pair's own errors, drawn towards what is assumed
 * while there are few: those few were fitted, so their errors flatter.
 */
static void
find_band(const Selection *selection, const double factors[TERMS],
          CalibrationCorrection *correction)
{
    double errors[CALIBRATION_PAIR_OBSERVATIONS];
    unsigned int count = 0;
    double heed;

    for (unsigned int n = 0; n < table_count(selection->calibration); n++) {
        const CalibrationObservation *observation = &selection->calibration->observation[n];
        double terms[TERMS];

        if (!is_selected(selection, observation) || count == CALIBRATION_PAIR_OBSERVATIONS)
            continue;
        terms_of(observation, terms);
        errors[count++] =
            clamp(observation->measured_seconds / fmax(sum_of(factors, terms), MEASURED_MIN) - 1.0,
                  ERROR_LOW_MIN, ERROR_HIGH_MAX);
    }
    correction->count = count;
    if (count == 0)
        return;
    sort(errors, count);
    heed = count / (count + ERROR_ASSUMED_WEIGHT);
    correction->error_low = heed * fmin(errors[(count - 1) * ERROR_LOW_PERCENT / 100], 0.0) -
                            (1.0 - heed) * ERROR_ASSUMED;
    correction->error_high =
        heed * fmax(errors[((count - 1) * ERROR_HIGH_PERCENT + 99) / 100], 0.0) +
        (1.0 - heed) * ERROR_ASSUMED;
}

#define MEMORY_OBSERVATIONS 32

uint64_t
calibration_memory(const Calibration *calibration, uint64_t resident, uint64_t limit)
{
    unsigned int count = 0;
    double own = 0.0;
    double memory;

    if (resident == 0)
        return limit;
    for (unsigned int n = table_count(calibration); n > 0 && count < MEMORY_OBSERVATIONS; n--) {
        const CalibrationObservation *observation = &calibration->observation[n - 1];

        /* Memory that is not resident, swapped out or in huge pages, says nothing of others. */
        if (observation->memory != 0 && observation->resident >= observation->memory) {
            double needs = (double)observation->resident - (double)observation->memory;

            own = count == 0 ? needs : fmin(own, needs);
            count++;
        }
    }
    memory = (double)resident - own;
    if (!(memory < (double)limit))
        return limit;
    return memory > 1.0 ? (uint64_t)memory : 1;
}

CalibrationCorrection
calibration_none(void)
{
    return (CalibrationCorrection){
        .memory = term_none[0],
        .further = term_none[1],
        .reverse_full = term_none[2],
        .overhead = term_none[3],
        .error_low = -ERROR_ASSUMED,
        .error_high = ERROR_ASSUMED,
    };
}

CalibrationCorrection
calibration_for(const Calibration *calibration, uint64_t pair, Technique technique)
{
    CalibrationCorrection correction = calibration_none();
    Selection selection = { calibration, true, true, pair, technique };
    double factors[TERMS];

    memcpy(factors, term_none, sizeof(factors));
    if (table_count(calibration) == 0)
        return correction;
    fit(&selection, weight_all, factors);
    selection.all_techniques = false;
    fit(&selection, weight_pair, factors);
    selection.all_pairs = false;
    fit(&selection, weight_pair, factors);
    correction.memory = factors[0];
    correction.further = factors[1];
    correction.reverse_full = factors[2];
    correction.overhead = factors[3];
    find_band(&selection, factors, &correction);
    return correction;
}

/* ---- using it ---------------------------------------------------------- */

Prediction
calibration_apply(const CalibrationCorrection *correction, const Prediction *prediction,
                  double reverse_full)
{
    Prediction corrected = *prediction;
    double further = fmax(prediction->total_seconds - prediction->memory_seconds, 0.0);
    double total;

    if (!(prediction->total_seconds < PREDICT_SECONDS_MAX))
        return corrected;
    total = correction->memory * prediction->memory_seconds + correction->further * further +
            correction->reverse_full * clamp(reverse_full, 0.0, 1.0) * prediction->memory_seconds +
            correction->overhead;
    corrected.total_seconds = clamp(total, 0.0, PREDICT_SECONDS_MAX);
    corrected.total_seconds_low =
        corrected.total_seconds * (1.0 + clamp(correction->error_low, ERROR_LOW_MIN, 0.0));
    corrected.total_seconds_high =
        fmin(corrected.total_seconds * (1.0 + clamp(correction->error_high, 0.0, ERROR_HIGH_MAX)),
             PREDICT_SECONDS_MAX);
    return corrected;
}

Prediction
calibration_predict(const CalibrationCorrection *correction, Technique technique, uint64_t memory,
                    const RateProfile *pre, const RateProfile *post, const DirtyCurve *curve,
                    const PredictParams *params, Prediction *ret_raw)
{
    Prediction raw = predict_migration_over(technique, memory, pre, post, curve, params);
    const RateProfile *profile = technique == TECHNIQUE_POST_COPY ? post : pre;
    Prediction corrected = raw;

    /* A longer time sees another part of the profile: three turns settle it. */
    for (unsigned int i = 0; i < 3; i++)
        corrected = calibration_apply(correction, &raw,
                                      rate_profile_reverse_full(profile, corrected.total_seconds));
    if (ret_raw != NULL)
        *ret_raw = raw;
    return corrected;
}
