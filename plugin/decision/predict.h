/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How long would it take? The round model of live migration: a pass moves what
 * is left, and while it runs the guest dirties d(t) bytes again.
 *
 *     left = memory
 *     repeat  t = left / rate;  stop when t <= downtime allowed;  left = d(t)
 *
 * The rate may change over time (RateProfile): other migrations begin and end.
 * Pure arithmetic in doubles; every result is finite, whatever comes in. It
 * knows nothing of compression, storage or the CPU.
 */
#pragma once

#include "common/types.h"

#define DIRTY_CURVE_POINTS 8
/* The end of the scale: "for ever" is printed and stored as a finite number. */
#define PREDICT_SECONDS_MAX 1e9

/*
 * d(t): bytes of distinct pages dirtied within t seconds. Linear from (0, 0)
 * through the points, which are ordered by time; flat after the last one (the
 * writable working set). With valid == false nothing is known.
 */
typedef struct {
    bool valid;
    unsigned int count; /* points used, 1..DIRTY_CURVE_POINTS */
    struct {
        double seconds;
        double bytes;
    } point[DIRTY_CURVE_POINTS];
} DirtyCurve;

#define RATE_PROFILE_SEGMENTS 32

/*
 * What a migration may use over time, counted from its start. Each segment
 * lasts until `until` (seconds, ascending); the last one for ever, whatever it
 * says. A reverse path is full when the destination's own sending fills its
 * link: acknowledgements wait in its queue, and a stream towards it slows down
 * (by how much, only measuring tells; see calibrate.h).
 */
typedef struct {
    unsigned int count; /* segments used, 0..RATE_PROFILE_SEGMENTS; 0: no rate at all */
    struct {
        double until;
        double rate; /* bytes/s; 0 is possible */
        bool reverse_full;
    } segment[RATE_PROFILE_SEGMENTS];
} RateProfile;

/* Start from predict_params_default(). */
typedef struct {
    uint64_t downtime_limit_ms;      /* 0: the default, 300 ms, as QEMU's */
    uint64_t switchover_ms;          /* pause that every technique pays: device state; 50 ms */
    unsigned int rounds_maximum;     /* more passes than this is "does not converge"; 50 */
    double unknown_working_set;      /* fraction of memory, see dirty_curve_assumed(); 0.25 */
    double unknown_working_set_time; /* seconds in which it is dirtied; 10 */
} PredictParams;

/*
 * After the switch a guest needs some pages at once, one after the other (its
 * kernel and whatever serves requests), and each request waits behind the bulk
 * that is already on its way. Measured on libvirt 9.0 with QEMU 7.2: 80 to 110
 * requests of a whole guest, about 20 ms each at 25 MB/s; a tenth of them after
 * one pass of pre-copy.
 */
#define PREDICT_FAULTS 100
#define PREDICT_FAULT_QUEUE (512 * 1024) /* bytes before a requested page */

typedef struct {
    bool converges;           /* post-copy and hybrid always, at a rate above zero */
    bool dirty_assumed;       /* the dirty curve was unknown */
    double total_seconds;     /* until the source may be forgotten */
    double downtime_ms;       /* guest stopped */
    double stall_ms;          /* guest waiting for pages after the switch, in all */
    double post_copy_seconds; /* the guest depends on both hosts and the network */
    double post_copy_bytes;   /* fetched in that time */
    double bytes_moved;       /* over the network, all passes */
    unsigned int rounds;      /* passes of pre-copy before the guest is stopped */
    double memory_seconds;    /* of total_seconds: moving the memory once */
    /* 8 of 10 migrations are expected between them; 0 and 0: no such figure (calibrate.h). */
    double total_seconds_low;
    double total_seconds_high;
} Prediction;

PredictParams predict_params_default(void);

/*
 * A guest that writes `rate` bytes/s (> 0) of distinct pages until its working
 * set is dirty; working_set 0 means all of `memory`. rate 0 gives an invalid
 * curve: a measured 0 is how QEMU reports "could not tell".
 */
DirtyCurve dirty_curve_from_rate(uint64_t rate, uint64_t working_set, uint64_t memory);

/*
 * Appends "within `seconds`, `bytes` were dirtied"; the curve becomes valid.
 * False, and the curve as it was, when it is full, the numbers are not finite
 * and positive, or `seconds` does not come after the last point. Fewer bytes
 * than the point before count as equally many.
 */
bool dirty_curve_add(DirtyCurve *curve, double seconds, double bytes);

/*
 * Takes another such point in, wherever its time lies. The newer one is right: a
 * point at about the same time (10 %) goes, earlier ones come down to it, later
 * ones go up. In a full curve the point nearest to its neighbour makes room.
 * False, and the curve as it was, when a number is not finite and positive.
 */
bool dirty_curve_insert(DirtyCurve *curve, double seconds, double bytes);

/*
 * What is assumed of a guest that was never measured: a quarter of its memory
 * is its working set, dirtied once in 10 s. Pessimistic for an idle guest,
 * and large guests on slow links count as not converging.
 */
DirtyCurve dirty_curve_assumed(uint64_t memory, const PredictParams *params);

/* d(seconds); 0 for an invalid curve or a time that is not positive. */
double dirty_curve_at(const DirtyCurve *curve, double seconds);

/*
 * The largest d(t) / t in bytes/s; 0 if invalid. Passes shrink exactly while the rate is
 * above it: at R the pass after one of t seconds takes d(t) / R.
 */
double dirty_curve_rate(const DirtyCurve *curve);

/* One rate for all time. */
RateProfile rate_profile_constant(double rate);

/*
 * Appends a segment that lasts until `until`; equal neighbours become one.
 * False, and the profile as it was, when it is full, a number is NaN, the rate
 * negative or infinite, or `until` does not come after the last one.
 */
bool rate_profile_add(RateProfile *profile, double until, double rate, bool reverse_full);

/* Seconds that `bytes` take from `start` on; at most PREDICT_SECONDS_MAX. */
double rate_profile_seconds(const RateProfile *profile, double start, double bytes);

/* Part of [0, seconds] in which the reverse path is full, 0 to 1. */
double rate_profile_reverse_full(const RateProfile *profile, double seconds);

/*
 * Predicts one technique. memory: bytes of pages to move (not zero pages, if
 * known). rate_pre, rate_post: bytes/s for the migration in each phase; at 0
 * the prediction does not converge and takes PREDICT_SECONDS_MAX. An invalid
 * or NULL curve is replaced by dirty_curve_assumed().
 *
 * A pre-copy that does not converge is predicted up to the pass from which on
 * nothing more is gained, then as if forced: total time and downtime contain
 * moving what was left with the guest stopped. Hybrid is one pass, then
 * post-copy; if what is left fits the downtime it ends as pre-copy does.
 */
Prediction predict_migration(Technique technique, uint64_t memory, uint64_t rate_pre,
                             uint64_t rate_post, const DirtyCurve *curve,
                             const PredictParams *params);

/*
 * The same at rates that change while it runs: `pre` and `post` are what pre-copy
 * and post-copy may use. A pass that gains nothing counts as the end only where
 * the rate changes no more. NULL counts as no rate.
 */
Prediction predict_migration_over(Technique technique, uint64_t memory, const RateProfile *pre,
                                  const RateProfile *post, const DirtyCurve *curve,
                                  const PredictParams *params);
