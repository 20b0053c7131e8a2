/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What finished migrations teach about the next one.
 *
 * The round model knows rates that were configured or measured on a link, and
 * a dirty curve that was sampled. Neither is what a migration gets: headers
 * take their part, a dirty rate is overstated where pages are written again
 * and again, the set-up takes time, and a destination that sends at full rate
 * delays the acknowledgements. So the time is corrected, linearly:
 *
 *     seconds = a m + b p + c s m + o
 *
 *     m  seconds to move the memory once          (Prediction.memory_seconds)
 *     p  what the model adds: further passes      (total_seconds - m)
 *     s  part of the time with the reverse path full, 0 to 1
 *
 * The four factors are learnt by least squares on the relative error, residuals
 * above 5 % weighing less (Huber), for each pair of hosts and technique. Few
 * observations move them little: a pair's are drawn towards those of all pairs,
 * these towards those of all techniques, these towards 1, 1, 0, 0 (ridge). Each is bounded.
 *
 * Pure: a table of fixed size, no allocation; what was observed comes in, what
 * is to be believed goes out. Hostile numbers are refused on the way in.
 */
#pragma once

#include "common/types.h"
#include "decision/predict.h"

#define CALIBRATION_OBSERVATIONS 1024
/* One pair's share of the table, so that a busy pair does not push others out. */
#define CALIBRATION_PAIR_OBSERVATIONS 64
/* A migration longer than a day says nothing about a link. */
#define CALIBRATION_SECONDS_MAX 86400.0
/* A time so many times off was ruled by something else than the link. */
#define CALIBRATION_RATIO_MAX 20.0

typedef struct {
    uint64_t pair; /* calibration_pair() */
    Technique technique;
    double memory_seconds;
    double further_seconds;
    double reverse_full;     /* 0 to 1, of the measured time */
    double measured_seconds; /* whole migration */
    uint64_t resident;       /* bytes of the QEMU process at its start; 0 unknown */
    uint64_t memory;         /* bytes that were not zero pages; 0 unknown */
} CalibrationObservation;

/* Zero-initialise. */
typedef struct {
    unsigned int count;
    CalibrationObservation observation[CALIBRATION_OBSERVATIONS]; /* oldest first */
} Calibration;

/* What is believed of a pair of hosts; calibration_none() when nothing is. */
typedef struct {
    double memory;       /* a, 0.25 to 4 */
    double further;      /* b, 0 to 4 */
    double reverse_full; /* c, 0 to 4 */
    double overhead;     /* o, 0 to 60 seconds */
    /* 8 of 10 errors are expected between them, relative to what is predicted. */
    double error_low;   /* -0.9 to 0 */
    double error_high;  /* 0 to 4 */
    unsigned int count; /* observations of this very pair and technique */
} CalibrationCorrection;

/* Names both hosts; NULL counts as "". Never 0 but for two unknown names. */
uint64_t calibration_pair(const char *source, const char *destination);

/*
 * An observation from the prediction made for the rates there were (not
 * corrected, see calibration_apply()) and the time it took.
 */
CalibrationObservation calibration_observation(uint64_t pair, Technique technique,
                                               const Prediction *prediction, double reverse_full,
                                               double measured_seconds);

/*
 * Learns. False, and nothing changes, when a number is not finite, negative,
 * zero where it must not be, too large, or the measured time is more than
 * CALIBRATION_RATIO_MAX times off. The oldest of the pair makes room, then the
 * oldest of all.
 */
bool calibration_add(Calibration *calibration, const CalibrationObservation *observation);

/*
 * Bytes to move of a guest whose QEMU process has `resident` bytes and which may
 * use `limit`: zero pages cost next to nothing, and those never touched are not
 * resident. What QEMU itself needs is learnt: the least resident - memory of the
 * last 32 observations that know both (it depends on what the process did before,
 * and too much memory is the safer mistake), none: 0. resident 0: unknown,
 * `limit` is answered. Not for huge pages, which are not counted as resident.
 */
uint64_t calibration_memory(const Calibration *calibration, uint64_t resident, uint64_t limit);

CalibrationCorrection calibration_none(void);

/* The correction for a pair; NULL or an empty table gives calibration_none(). */
CalibrationCorrection calibration_for(const Calibration *calibration, uint64_t pair,
                                      Technique technique);

/*
 * The prediction with its total corrected and its band set. Downtime, bytes and
 * rounds stay. One of PREDICT_SECONDS_MAX stays as it is: it has no band.
 */
Prediction calibration_apply(const CalibrationCorrection *correction, const Prediction *prediction,
                             double reverse_full);

/*
 * Predicts at rates over time and corrects: the part of the time with a full
 * reverse path is looked up for the time predicted, until both agree.
 * ret_raw: the prediction before, for calibration_observation(); may be NULL.
 */
Prediction calibration_predict(const CalibrationCorrection *correction, Technique technique,
                               uint64_t memory, const RateProfile *pre, const RateProfile *post,
                               const DirtyCurve *curve, const PredictParams *params,
                               Prediction *ret_raw);
