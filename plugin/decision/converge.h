/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A running pre-copy: does it end by itself, and if not, what ends it?
 *
 * What counts is what is left at the beginning of each pass: within a pass the
 * number falls to nothing, however fast the guest dirties. At any other time
 * the pages dirtied since the pass began are still unknown to QEMU, so what
 * would really have to move is estimated as left + dirty rate * time in the
 * pass, at most what a whole pass dirtied before.
 *
 * Rules, with times that follow the size of the migration. One window is the
 * time that all memory takes at the measured throughput, 2 to 40 s:
 *
 *   stalled        this pass began with at least 0.96 of the least of all
 *                  passes that began more than a window ago (KubeVirt VEP 248:
 *                  40 s), or the throughput stayed below the dirty rate for a
 *                  window (half of one for low priority)
 *   downtime       raised in 7 equal steps up to the maximum, after pass 3, with
 *                  at least one pass between two steps, 1 to 10 s (KubeVirt VEP
 *                  291: 150 to 1050 ms, 10 s apart); the step that would have let
 *                  the best pass end is taken directly, if there is one
 *   post-copy      stalled, and the ramp cannot end it: at a local minimum, when
 *                  what is left is at most 1.04 of the best pass; patience for
 *                  that is a window and halves with each further pass, and is
 *                  never longer than the deadline leaves (VEP 248)
 *   collapse       throughput below a quarter of its average (EWMA, 0.4 as in VEP
 *                  248), in the last second or the last reading that is 0.4 s
 *                  or more after the one before: no switch now. A lower level
 *                  that lasts for 10 s is the new average; nothing moving at all
 *                  never is
 *   deadline       pre-copy would be late with all that its class may be given (or with what
 *                  it reaches, where that is clearly less than it has), by what is left and
 *                  the dirty rate, and post-copy needs a tenth less: then it is started, in
 *                  the first pass too, once that has lasted 3 s or an eighth of the time left
 *   last round     what is left would fit the downtime limit, had the migration
 *                  all of the link but the floors: it gets that for 2 s, and the
 *                  pauses between such rounds double
 *
 * Without post-copy and with the limit at its maximum it can only be reported.
 * Nothing here ever ends a migration.
 *
 * Pure; the caller owns the state and says what time it is. A clock that steps
 * is taken for a pause of the observer.
 */
#pragma once

#include "common/types.h"

#define CONVERGE_REASON_SIZE 320
#define CONVERGE_PASSES 16
#define CONVERGE_RAMP_STEPS 7
/* QEMU's and libvirt's own downtime limit. */
#define CONVERGE_DOWNTIME_DEFAULT_MS 300u

typedef enum {
    CONVERGE_NONE = 0,
    CONVERGE_RAISE_DOWNTIME, /* to downtime_ms */
    CONVERGE_START_POST_COPY,
    CONVERGE_WAIT,       /* post-copy is due, but the throughput has collapsed */
    CONVERGE_LAST_ROUND, /* begins; `last_round` stays true while it lasts */
    CONVERGE_REPORT_STALL,
} ConvergeAction;

/* One reading of QEMU's statistics. */
typedef struct {
    int64_t time_us; /* monotonic */
    unsigned int iteration;
    uint64_t remaining;   /* bytes */
    uint64_t transferred; /* bytes since the start */
    uint64_t dirty_rate;  /* bytes/s; 0 unknown */
} ConvergeSample;

typedef struct {
    Priority priority;
    uint64_t memory;              /* bytes; 0 unknown */
    uint64_t downtime_initial_ms; /* what QEMU has now; 0: the default */
    uint64_t downtime_maximum_ms; /* at or below the initial one: no ramp */
    uint64_t deadline_us;         /* of the whole migration since its start; 0 none */
    uint64_t rate_full;           /* bytes/s with all of the link but the floors; 0 unknown */
    uint64_t rate_given;          /* bytes/s of its class; 0 unknown, or it may not be given more */
    uint64_t dirty_rate;          /* bytes/s, where the sample knows none; 0 unknown */
    uint64_t first_pass; /* bytes that it is expected to send, without zero pages; 0 unknown */
    bool post_copy_allowed;
    /* The predictor says that passes of this guest do not shrink. */
    bool expected_not_to_end;
} ConvergeLimits;

/* Zero-initialise at the start of a migration. */
typedef struct {
    bool begun;
    int64_t started_us;
    int64_t sampled_us;
    unsigned int iteration;
    int64_t pass_us;     /* when the present pass was first seen */
    double pass_bytes;   /* left at its beginning */
    double pass_seconds; /* how long the one before took; 0 unknown */
    unsigned int passes; /* in `pass`, of iterations from 2 on */
    struct {
        int64_t begun_us;
        double bytes;
    } pass[CONVERGE_PASSES];
    double best;    /* least of all passes from 2 on; 0 none yet */
    uint64_t moved; /* `transferred` when the throughput was last measured */
    uint64_t left;  /* likewise `remaining` */
    int64_t moved_us;
    double throughput;     /* EWMA, bytes/s; 0 unknown */
    double throughput_now; /* of the last interval */
    uint64_t recent_moved; /* as `moved`, `left` and `moved_us`, of a shorter interval */
    uint64_t recent_left;
    int64_t recent_us;
    bool recent_collapsed;  /* the last of these */
    int64_t collapsed_us;   /* since when; 0 it is not */
    int64_t below_dirty_us; /* since when slower than the guest dirties; 0 it is not */
    int64_t late_us;        /* since when the deadline is in danger; 0 it is not */
    int64_t stalled_us;     /* since when; 0 it is not */
    unsigned int missed;    /* passes since then that were no better */
    uint64_t downtime_ms;   /* as last ordered; 0 nothing yet */
    int64_t raised_us;
    bool in_last_round;
    int64_t last_round_us; /* when it began, or ended */
    unsigned int last_rounds;
    int64_t reported_us; /* 0: not yet */
    unsigned int reports;
    bool switched;
} ConvergeState;

typedef struct {
    ConvergeAction action;
    uint64_t downtime_ms;   /* of RAISE_DOWNTIME */
    bool last_round;        /* the migration should have all but the floors now */
    bool collapsed;         /* do not start post-copy now, whoever wants it */
    bool near;              /* look again soon: a decision may be due within the second */
    double left;            /* bytes that would have to move now, estimated */
    double throughput;      /* bytes/s, smoothed; 0 unknown */
    double dirty_rate;      /* bytes/s; 0 unknown */
    double downtime_needed; /* ms for the best pass at this throughput; 0 unknown */
    char reason[CONVERGE_REASON_SIZE]; /* of every action but NONE */
} ConvergeDecision;

/*
 * Bytes: what QEMU says is left of a first pass, or less where so much was expected to be
 * sent in all. A pass that has sent more than that is believed to QEMU's word.
 */
uint64_t converge_left_of_first_pass(uint64_t remaining, uint64_t transferred, uint64_t expected);

/*
 * One look. Call it for each reading, also of the beginning of each pass. The
 * same state, sample and limits always give the same answer. After
 * START_POST_COPY nothing more is ordered unless converge_refused() is called.
 */
void converge_step(ConvergeState *state, const ConvergeSample *sample, const ConvergeLimits *limits,
                   ConvergeDecision *ret_decision);

/*
 * It moves slowly because others come first: call it instead of converge_step() for as
 * long as that lasts. What was measured until then says nothing of what follows.
 */
void converge_pause(ConvergeState *state);

/* libvirt did not start post-copy: go on with what else is allowed. */
void converge_refused(ConvergeState *state);

/*
 * Where the ramp begins: its first step, but at least 50 ms, which a switchover
 * takes anyway. High priority begins at the maximum: its time counts. 0 for 0.
 */
uint64_t converge_first_downtime(uint64_t maximum_ms, Priority priority);

/* The step of the ramp at or above `needed_ms` and above `present_ms`; at most maximum_ms. */
uint64_t converge_next_downtime(uint64_t present_ms, uint64_t needed_ms, uint64_t maximum_ms);
