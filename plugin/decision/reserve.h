/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How much of a link belongs to the workload and how much to migrations
 * (step 4 of the algorithm), as rates and ceilings of the classes of a
 * hierarchical token bucket. L and U: effective SLA limits, C: the link.
 *
 *   priority  workload rate / ceil           migration rate / ceil  borrows first
 *   high      L / C                          C - L / C              migration
 *   medium    demand within L..U / C         C - U / C - L *        workload
 *   low       demand, at least L / C         floor / C              workload
 *
 *   * without a declared lower limit the ceil is C: the minimum that then
 *     stands for L is guaranteed to the workload but lent while it is unused
 *
 * A deadline raises what medium and low are guaranteed as far as it needs, at
 * most to C - L; the workload's rate gives way, never below L.
 *
 * Only numbers: rendering and applying them is shaping/'s. All rates are
 * bytes/s. Arithmetic saturates; no input can break the promises below.
 */
#pragma once

#include "common/types.h"

/* 1 Mbit/s; below this a link rate is not believed, and there is nothing to divide. */
#define RESERVE_LINK_MIN 125000u
/* U when no upper limit is declared, for medium priority: half of the link. */
#define RESERVE_UPPER_DEFAULT_PERCENT 50u

/* Zero-initialise, then fill in; see reserve_input_init(). */
typedef struct {
    uint64_t link;  /* C as may be used; below RESERVE_LINK_MIN: unknown */
    uint64_t lower; /* sum of the SLA lower limits of VMs on this host; 0 none declared */
    uint64_t upper; /* likewise upper; 0 none declared */
    /*
     * What the workload wants: measured, or the held value of
     * reserve_follow_demand() once the loop runs. Not valid: everything up to
     * U (medium), or all but the floor (low), is reserved for it.
     */
    bool demand_valid;
    uint64_t demand;
    bool dirty_valid; /* largest dirty rate among the low-priority migrations */
    uint64_t dirty_rate;
    unsigned int floor_percent;            /* of C, guaranteed to low; 5 */
    unsigned int minimum_workload_percent; /* of C, is L when none is declared; 10 */
    /*
     * Where one of the migrations has a deadline: what all of them need together
     * (the sum of allocate_least()); 0: none has. More than there is: unlimited.
     */
    uint64_t deadline_rate;
    /* Migrations on this link and direction, by Priority. The highest one decides. */
    unsigned int count[3];
} ReserveInput;

/*
 * prio as tc has it: lower borrows first. The workload and migrations of each Priority have
 * one each that never changes: HTB gives a class that has packets queued a new one only
 * when its queue has run empty, which that of a TCP stream may never do.
 */
typedef struct {
    uint64_t rate;
    uint64_t ceil;
    unsigned int prio;
} ReserveClass;

/* May the guest be migrated by pre-copy with its floor? Low priority only. */
typedef enum {
    RESERVE_FLOOR_NOT_USED = 0, /* the link is not divided as for low priority */
    RESERVE_FLOOR_ENOUGH,       /* it is above the dirty rate as configured */
    RESERVE_FLOOR_RAISED,       /* it was raised above the dirty rate, from spare bandwidth */
    RESERVE_FLOOR_HYBRID,       /* it cannot be: one pass, then post-copy (or wait) */
    RESERVE_FLOOR_UNKNOWN,      /* dirty rate unknown: decide after the first pass */
} ReserveFloor;

/* Do the migrations get what their deadlines need? */
typedef enum {
    RESERVE_DEADLINE_NONE = 0, /* none has one */
    RESERVE_DEADLINE_ENOUGH,   /* without more than the priority gives */
    RESERVE_DEADLINE_RAISED,   /* the guarantee was raised to it */
    RESERVE_DEADLINE_MISSED,   /* it needs more than C - L: they are guaranteed all of that */
} ReserveDeadline;

/*
 * Promised: 0 < rate <= ceil <= C for every class, workload.rate +
 * migration.rate <= C, the leaves' rates times their counts add up to at most
 * migration.rate (for up to 64 migrations), and neither side falls below its
 * minimum: 1 % of C for the workload, floor_percent (at most half) of C for
 * migrations, also when L > C or the demand exceeds C.
 */
typedef struct {
    Priority priority; /* the one that decided */
    uint64_t lower;    /* effective L and U: give them to reserve_follow_demand() */
    uint64_t upper;
    ReserveClass workload;
    ReserveClass migration;
    ReserveClass leaf[3]; /* for each migration of that Priority */
    uint64_t unshaped[3]; /* likewise, bytes/s: its rate where no classes stand */
    ReserveFloor floor;
    ReserveDeadline deadline;
} Reservation;

/*
 * What one migration of that priority counts against another: an equal one
 * that has equally much to move gets as many times its rate.
 */
unsigned int reserve_weight(Priority priority);

const char *reserve_deadline_to_string(ReserveDeadline deadline);

/* The defaults: percentages set, everything else zero. */
ReserveInput reserve_input_init(void);

/*
 * False, and nothing written, when the link is unknown: do not shape. Without
 * any migration counted, one of low priority is assumed.
 */
bool reserve_divide(const ReserveInput *input, Reservation *ret_reservation);

/*
 * The floor of all low-priority migrations together: floor_percent of C, or
 * 1.25 times dirty_rate for each when the link less the workload's demand (at
 * least L; all of it when unknown) has that much. ret_rate gets the floor; for
 * RESERVE_FLOOR_HYBRID and _UNKNOWN it is the configured one. Unknown link:
 * RESERVE_FLOOR_NOT_USED and 0.
 */
ReserveFloor reserve_low_floor(const ReserveInput *input, uint64_t *ret_rate);

/*
 * One step of the loop that follows the workload's demand: what to hold for it
 * next. previous_held: the last answer (0 at the start). measured: bytes/s
 * that the workload sent since then; without measured_valid the previous value
 * stays. It holds a tenth more than measured; a workload that uses 95 % or
 * more of what is held wants more, and gets half as much again. Rises at once;
 * the excess falls by half in 125 ms, so within a second it is gone (to
 * 0.4 %); never below `lower`. upper 0: no upper limit here.
 */
uint64_t reserve_follow_demand(uint64_t previous_held, bool measured_valid, uint64_t measured,
                               uint64_t lower, uint64_t upper, uint64_t elapsed_ms);

/* Limits for QEMU in MiB/s, both always above 0 (0 would mean no limit). */
typedef struct {
    uint64_t max_bandwidth; /* VIR_MIGRATE_PARAM_BANDWIDTH */
    uint64_t post_copy;     /* VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY */
} ReserveQemuLimits;

/*
 * What to tell QEMU of one migration of `priority`. Pre-copy, shaped: the
 * kernel's class stands, so QEMU only needs the ceil (rounded up). Post-copy,
 * shaped: twice that, because QEMU's own throttle delays page requests.
 * Unshaped, QEMU's limit is all there is: the share of what the workload
 * leaves, rounded down but at least 1.
 */
ReserveQemuLimits reserve_qemu_limits(const Reservation *reservation, Priority priority,
                                      bool shaped);
