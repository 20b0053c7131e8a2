/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How several migrations share what an uplink has for them, and what a
 * deadline needs. Pre-copy of a volume V that is dirtied at D moves V in its
 * first round, V D/R in the second, and so on, so that at the rate R it takes
 * the sum over i of V D^i / R^(i+1). The rates are those for which the weighted
 * sum of these times is least, with one multiplier found by bisection:
 *
 *   minimise    sum over j of w_j * sum over i < ROUNDS of V_j D_j^i / R_j^(i+1)
 *   subject to  sum of R_j <= A,
 *               R_j >= max(rho D_j, D_j + V_j / time left of j)
 *
 * Where not all of these bounds can be kept, the lightest give theirs up first, then those
 * of the heaviest that wait for their turn; the others are scaled alike, each of the
 * heaviest with at least ALLOCATE_KEPT_RATE. Where a guest waits for pages
 * (ALLOCATE_TURN_FIRST) its bound is its part by the square roots of the weights.
 *
 * After Cerroni and Esposito, who show that a few rounds suffice. With one
 * volume for all and nothing dirtied, the rates are as the square roots of the
 * weights. All rates are bytes/s; arithmetic saturates.
 *
 * That is the least sum for rates that stay. Where they may change whenever one
 * ends, k equal ones that share evenly all end at k T, and one after the other,
 * the shortest first, after (k + 1) / 2 T on average (Smith's rule). So items that
 * take turns hand what they have over to one of their weight, see AllocateTurn. By
 * volume, one that is short overtakes a long one that runs; with places it does not.
 * A lighter one hands over to a heavier one, too. Those that wait keep a little
 * (allocate_kept()), or their bound where that is more.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    ALLOCATE_MAX = 64,
    ALLOCATE_ROUNDS = 5,
    ALLOCATE_RHO_PERCENT = 125, /* a rate must exceed the dirty rate by this, or passes do not
                                 * shrink */
    ALLOCATE_KEPT = 16,         /* who waits for its turn keeps this part of its share */
    /*
     * But so many bytes/s of it, where it has them. TCP hands a class two segments of 64 KiB:
     * here they take 0.3 s. At a tenth of that the timeout for what is lost grew to 7 s, for
     * which a migration whose turn had come sent nothing.
     */
    ALLOCATE_KEPT_RATE = 450000,
};

/* How one gets along with others of its weight and with heavier ones. */
typedef enum {
    ALLOCATE_TURN_NONE = 0, /* keeps its share */
    ALLOCATE_TURN_TAKES,    /* by place, then the least volume first, then in the array's order */
    ALLOCATE_TURN_FIRST,    /* before those: post-copy, its guest waits for pages */
} AllocateTurn;

/* Zero-initialise, then fill in. */
typedef struct {
    uint64_t volume;     /* bytes still to move; 0 unknown: the mean of those that are known */
    uint64_t dirty_rate; /* 0 unknown or none */
    double weight;       /* above 0; anything else counts as 1 */
    bool deadline_set;
    int64_t time_left_ms; /* until the deadline, less the downtime to come; below 1: it is over */
    AllocateTurn turn;
    uint64_t place; /* among those that take turns, the lowest first; 0 for all: by volume */
    /*
     * While it waits for its turn it needs no more than others that wait, whatever it
     * dirties. In its first pass it loses hardly more than what it sends meanwhile, and
     * that would cost the first one as much. Not for ever, so it is for the caller to say;
     * behind one in post-copy, which ends, it is always so.
     */
    bool may_fall_behind;
} AllocateItem;

/* Why a rate is what it is. */
typedef enum {
    ALLOCATE_REASON_WEIGHT,     /* its part of the least sum of times */
    ALLOCATE_REASON_DIRTY_RATE, /* at its bound: less, and its passes would not shrink */
    ALLOCATE_REASON_DEADLINE,   /* at its bound: less, and it would be late */
    ALLOCATE_REASON_SCALED,     /* not all bounds can be kept: less than its own, or scaled */
    ALLOCATE_REASON_TURN,       /* others wait for it: it also has what they do not use yet */
    ALLOCATE_REASON_WAITS,      /* another one comes first, whatever its bound */
} AllocateReason;

typedef struct {
    uint64_t rate;  /* above 0 */
    uint64_t least; /* its bound; above `rate`: not kept */
    AllocateReason reason;
} AllocateShare;

/* What one that waits for its turn keeps of its share, bytes/s, where no bound is above. */
double allocate_kept(double share);

/* The bound of one: what it must have at least; 0 none, UINT64_MAX no rate would do. */
uint64_t allocate_least(const AllocateItem *item, AllocateReason *ret_reason);

/*
 * Does `other` come first, being of its weight or heavier? Not where both are equal:
 * then the array's order decides. Unknown volumes come last.
 */
bool allocate_waits_for(const AllocateItem *item, const AllocateItem *other);

/*
 * Divides `available` among `count` items. False, and nothing written: no item
 * or more than ALLOCATE_MAX, or less than one byte/s for each. The rates never
 * add up to more than `available`.
 */
bool allocate_rates(const AllocateItem *items, size_t count, uint64_t available,
                    AllocateShare *ret_shares);

const char *allocate_reason_to_string(AllocateReason reason);
