/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Serial or parallel? Which waiting migrations may start now, next to those
 * that run (step 3 of the algorithm).
 *
 *   high priority           parallel, always
 *   nothing on its link     start
 *   one stream cannot fill  parallel while there is room for a useful part of
 *   what is available       one more stream
 *   post-copy, little       parallel: it moves memory once, so sharing costs no
 *   workload on the link    total time; not beside a high-priority migration
 *   otherwise               serial: with pre-copy on one bottleneck that one
 *                           stream fills, serial always has the shorter total
 *
 * On a link where one waits, those after it in the order wait too, so a stream
 * of small ones cannot starve a large one. High priority is never behind.
 */
#pragma once

#include "common/types.h"

#include <stddef.h>

#define SCHEDULE_ITEMS_MAX 1024

typedef struct {
    uint64_t id; /* the caller's; only breaks ties */
    Priority priority;
    Technique technique;
    double seconds;       /* predicted total time; <= 0 or not finite: unknown */
    uint64_t stream_rate; /* bytes/s one stream can reach; 0 unknown: fills any link */
    /*
     * The shared bottleneck (the uplink's ifindex, say). Equal means that the
     * link is shared. 0 is a link as any other.
     */
    uint32_t link;
    uint64_t link_rate; /* bytes/s of that link; 0 unknown */
    /* bytes/s on it for all migrations together, workload subtracted. */
    bool available_known;
    uint64_t available;
    int64_t enqueued_us; /* monotonic; ignored for running ones */
    double relief;       /* load its leaving takes off the bottleneck for those that
                            still wait, as a fraction of the link; 0 if unknown */
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
    double low_contention;    /* workload below this fraction of the link is little; 0.5 */
    double weight[3];         /* w of the order index by Priority; 1, 2, 4 */
} ScheduleParams;

ScheduleParams schedule_params_default(void);

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

/* One line for people: "one stream fills the link", ... */
const char *schedule_reason_to_string(ScheduleReason reason);
