/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a migration has still to move, as those see it that wait for its link. There
 * are two sources, and neither is right alone: the prediction knows zero pages and
 * further passes, but not how this one goes; QEMU knows what is left of this pass.
 */
#pragma once

#include "decision/predict.h"

#include <stdbool.h>
#include <stdint.h>

/* Zero-initialise, then fill in. */
typedef struct {
    bool moves; /* its memory moves already */
    bool predicted;
    double seconds;   /* from now to the last page; not above 0 where it moves: that is over */
    uint64_t rate;    /* bytes/s that these seconds count with */
    uint64_t streams; /* bytes/s that its connections can carry; 0: no bound is known */
    uint64_t left;    /* bytes, QEMU's word; 0: none */
    bool unscanned;   /* zero pages are still among them: post-copy without a pass before */
    bool post_copy;   /* nothing moves twice any more */
    uint64_t memory;  /* bytes, all of it; 0 unknown */
} RemainingInput;

/*
 * Bytes; 0 unknown. ret_again: they are of this pass, and what is dirtied meanwhile
 * comes on top; otherwise further passes are among them, or there are none. One that
 * is later than predicted has as much as QEMU says, at least 1 byte: it is not at its
 * beginning.
 */
uint64_t remaining_bytes(const RemainingInput *input, bool *ret_again);

/* Zero-initialise, then fill in. */
typedef struct {
    uint64_t left;       /* bytes of a pass, QEMU's word */
    double age;          /* seconds since it said so */
    uint64_t rate;       /* bytes/s that it moves with */
    uint64_t dirty_rate; /* bytes/s from now on; 0 unknown or none */
    bool post_copy;
    double pass_seconds; /* since that pass began: what was dirtied since is not in `left` */
    DirtyCurve dirty;    /* invalid: assumed, of so much memory */
    uint64_t memory;
    double prepare_seconds; /* that another one takes from its turn to its first byte */
    /* Classes make the other one wait where it comes too early: that costs little. */
    bool early_is_cheap;
} RemainingEndingInput;

/*
 * Will it have moved its memory by the time that another one has prepared? Where it was
 * never measured, and `early_is_cheap`, its pass counts as its last, but for what
 * `dirty_rate` says: too late leaves the link idle.
 */
bool remaining_is_ending(const RemainingEndingInput *input);
