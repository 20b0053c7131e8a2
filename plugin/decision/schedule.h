/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Serial or parallel? Which waiting migrations may start now, next to those
 * that run (step 3 of the algorithm).
 *
 *   high priority           parallel, always
 *   nothing on its link     start, but give those that are typed together a moment
 *   one stream cannot fill  parallel while there is room for a useful part of
 *   what is available       one more stream
 *   post-copy, little       parallel where low_contention says so, not beside a
 *   workload on the link    high-priority migration
 *   one, or all less urgent stand by: it takes what the others leave, or they do, see below
 *   otherwise               serial: on one bottleneck that one stream fills, serial
 *                           never has the longer total, and k equal ones end after
 *                           (k + 1) / 2 T on average instead of k T
 *
 * Between the last page of one and the first of the next nothing moves, and beside
 * other traffic one stream leaves holes all the time. So the next one in the order
 * runs already, but by turns (allocate.h): the sum is that of serial, the total that
 * of parallel; one that is more urgent than those that run goes first. Not in
 * post-copy, where a guest would wait for its pages meanwhile, and not where nothing
 * makes one of them wait: two that share evenly both end at 2 T.
 *
 * Post-copy moves memory once, so side by side its total is the same. But all of them
 * end late, and all guests wait for pages all that time: low_contention is 0 unless
 * asked for. High-priority ones share the link by turns (allocate.h), nearly as good
 * as serial.
 *
 * On a link where one waits, those after it in the order wait too: what would fit beside
 * does not pass it. High priority is never behind.
 */
#pragma once

#include "common/types.h"

#include <stddef.h>

#define SCHEDULE_ITEMS_MAX 1024

typedef struct {
    uint64_t id; /* the caller's; only breaks ties */
    Priority priority;
    Technique technique;
    double seconds; /* predicted total time; <= 0 or not finite: unknown */
    /*
     * bytes/s one stream can reach; 0 unknown: fills any link. Of a running one it may be
     * what it reaches at present, where that is known to leave room.
     */
    uint64_t stream_rate;
    /*
     * The shared bottleneck (the uplink's ifindex, say). Equal means that the
     * link is shared. 0 is a link as any other.
     */
    uint32_t link;
    uint64_t link_rate; /* bytes/s of that link; 0 unknown */
    /*
     * bytes/s for all migrations together, workload subtracted: on it, or at their common
     * destination where that is less.
     */
    bool available_known;
    uint64_t available;
    int64_t enqueued_us; /* monotonic; of running ones when their turn came, for the plan alone */
    double relief;       /* see schedule_relief(); 0 if unknown */
    /*
     * Running ones only: its memory will have moved by the time that the next one
     * has prepared, or nothing of it moves. Its link counts as free, so that no link
     * idles in between.
     */
    bool ending;
    /*
     * Its class makes it wait for its turn while others move: by priority, then those of
     * high priority by what is left, others in the order in which they began.
     */
    bool takes_turns;
    /*
     * Waiting ones only: it came so shortly ago that others, typed together with it,
     * may still come. None but high priority starts while all on a link are so new.
     */
    bool gathering;
} ScheduleItem;

typedef enum {
    SCHEDULE_START_HIGH_PRIORITY = 0,
    SCHEDULE_START_LINK_FREE,
    SCHEDULE_START_STREAM_LEAVES_ROOM,
    SCHEDULE_START_POST_COPY,
    SCHEDULE_START_PARALLEL,     /* so configured */
    SCHEDULE_WAIT_LINK_BUSY,     /* one stream fills the link: serial */
    SCHEDULE_WAIT_CONTENTION,    /* post-copy, but the workload needs the link */
    SCHEDULE_WAIT_HIGH_PRIORITY, /* a high-priority migration has the link */
    SCHEDULE_WAIT_TURN,          /* another one comes before it on this link */
    SCHEDULE_WAIT_SERIAL,        /* so configured */
    SCHEDULE_WAIT_MAXIMUM,       /* as many run as the operator allows */
    SCHEDULE_START_STAND_BY,     /* takes what the one before it leaves */
    SCHEDULE_WAIT_GATHERING,     /* others may come in this moment */
} ScheduleReason;

typedef struct {
    bool start;
    ScheduleReason reason;
    uint32_t rank; /* place in the order, 0 first; start them in this order */
} ScheduleVerdict;

/* Start from schedule_params_default(). */
typedef struct {
    Scheduling scheduling;    /* serial and parallel leave the table above aside */
    uint32_t maximum_running; /* all links together; 0: no limit but the rules */
    double useful_stream;     /* fraction of a stream that must have room; 0.5 */
    double low_contention;    /* workload below this fraction of the link is little; 0: never */
    double weight[3];         /* w of the order index by Priority; 1, 2, 4 */
} ScheduleParams;

ScheduleParams schedule_params_default(void);

/*
 * The load that a VM's leaving takes off the bottleneck for those that still
 * wait, as a fraction of the link, -1 to 1: its own traffic leaves the source's
 * outgoing direction (source_free is what is free there) and comes to the
 * destination's incoming one. Negative when the destination is the bottleneck.
 * A side that is not known (0 link) is left out; 0 when nothing is known.
 */
typedef struct {
    uint64_t source_link; /* bytes/s; 0 unknown */
    uint64_t source_free;
    uint64_t destination_link;
    uint64_t destination_free;
    TrafficRates vm;
} ScheduleReliefInput;

double schedule_relief(const ScheduleReliefInput *input);

/*
 * Seconds until a running migration has moved its memory: remaining bytes at
 * `rate`, against what is dirtied meanwhile (0 in post-copy). Negative: unknown,
 * also when it is dirtied faster than it moves.
 */
double schedule_seconds_left(uint64_t remaining, uint64_t rate, uint64_t dirty_rate);

/*
 * Judges all `waiting` at once; those that start count as running for the ones
 * after them. ret_verdicts has waiting_count places, in the order of `waiting`.
 * Order: priority, then (weight + relief) / seconds descending (unknown time
 * last), then enqueued_us, then id. False, and nothing written, when either
 * count exceeds SCHEDULE_ITEMS_MAX. O(n log n), no allocation, about 140 KiB
 * of stack. params NULL: defaults.
 */
bool schedule_decide(const ScheduleItem *waiting, size_t waiting_count, const ScheduleItem *running,
                     size_t running_count, const ScheduleParams *params,
                     ScheduleVerdict *ret_verdicts);

/* ---- at the destination -------------------------------------------------- */

/* One incoming migration; item.available is what the incoming direction has free. */
typedef struct {
    ScheduleItem item;
    uint64_t source; /* the host it comes from; 0 unknown */
} ScheduleIncoming;

/*
 * May the destination let `candidate` in beside those that it has let in? By
 * the rules above, but one source's own migrations do not hold each other up
 * here: that source has already decided to run them side by side. But it lets none
 * of them in before one of another source that is among `ahead`, those that wait for
 * longer, and is as urgent: a source that always has a next one would keep it out
 * for ever. Where either source is unknown nobody waits, since they may be the same.
 * Maximum_running and standing by are the source's affair, too.
 */
ScheduleReason schedule_admit(const ScheduleIncoming *candidate, const ScheduleIncoming *running,
                              size_t running_count, const ScheduleIncoming *ahead,
                              size_t ahead_count, const ScheduleParams *params);

/* Does it say that the migration may start? */
bool schedule_reason_is_start(ScheduleReason reason);

/* ---- a whole gang, over many hosts -------------------------------------- */

#define SCHEDULE_PLAN_LINKS_MAX 1024
/* A link that nobody knows: neither its rate nor who else uses it. */
#define SCHEDULE_NO_LINK UINT32_MAX

/*
 * One direction of one host's uplink: the outgoing one of a source and the
 * incoming one of a destination are two entries of the table.
 */
typedef struct {
    bool known;
    uint64_t rate;      /* bytes/s for all migrations together; 0: nothing can move */
    uint64_t link_rate; /* bytes/s of the link itself; 0 unknown */
} SchedulePlanLink;

typedef struct {
    ScheduleItem item;    /* link: index of the source's; its rates are the table's */
    uint32_t destination; /* index of the destination's, or SCHEDULE_NO_LINK */
    uint64_t bytes;       /* left to move; 0 unknown: item.seconds counts */
    uint64_t dirty_rate;  /* bytes/s, slows pre-copy down; 0 unknown or none */
    bool running;
} SchedulePlanItem;

typedef struct {
    uint32_t rank; /* place in the order of those that wait; 0 for running ones */
    bool start_known;
    double start; /* seconds from now */
    bool end_known;
    double end;
} SchedulePlanned;

/*
 * When will each start and end, if all stays as it is? Plays the rules above
 * forward, on both links of each migration; streams share a link evenly, but those of
 * one priority by turns. One whose duration cannot be known (no bytes and no seconds, a
 * link of rate 0) does not end here, and what waits for it has no known start.
 * ret_planned has item_count places. False, and nothing written, when a count
 * exceeds its maximum. No allocation, about 200 KiB of stack; O(n^2) at worst,
 * milliseconds for 1000.
 */
bool schedule_plan(const SchedulePlanItem *items, size_t item_count, const SchedulePlanLink *links,
                   size_t link_count, const ScheduleParams *params, SchedulePlanned *ret_planned);

/*
 * When the turn of one comes that schedule_plan() starts at `start`: its predecessor
 * counts as ending (see ScheduleItem) as much before as the next one takes to prepare.
 * Not where the places are counted, since who ends has his until the end.
 */
double schedule_turn(double start, double prepare_seconds, const ScheduleParams *params);

/* One line for people: "one stream fills the link", ... */
const char *schedule_reason_to_string(ScheduleReason reason);
