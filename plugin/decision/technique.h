/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pre-copy, post-copy or hybrid? (step 2 of the algorithm)
 *
 * The table of the traffic-aware migration algorithm decides where source,
 * destination and VM all have a clear direction:
 *
 *     source  destination  VM inbound                       VM outbound
 *     in      in           hybrid                           post-copy
 *     out     out          post-copy                        post-copy
 *     in      out          post-copy                        post-copy
 *     out     in           low: pre-copy                    post-copy
 *                          medium, high: hybrid
 *
 * The table names low and high only; medium goes with high: both queues of
 * that cell are contended, so passes repeated until they fit would hurt the
 * workload for an unknown time, while hybrid moves at most one pass and a
 * working set. A destination that is unknown is no obstacle where the row
 * answers the same for both directions (VM outbound).
 *
 * Everything else (idle, mixed, unknown) goes by cost over the predictions.
 * Four gates stand above both:
 *   allowed      only techniques in `allowed` are chosen; none left: pre-copy,
 *                which is what libvirt does on its own
 *   convergence  pre-copy that would never end is not chosen while another
 *                technique is allowed
 *   floor        low priority: a guest that dirties faster than its guaranteed
 *                rate, while less than twice its dirty rate is free, goes hybrid
 *   egress       high priority and the source's egress is saturated: no pre-copy
 *
 * The daemon decides again when the destination has answered and while passes
 * are counted. So that a flickering rate does not flip the choice each time,
 * the caller says what was chosen before (`previous`; nothing is kept here):
 *   cost         another technique must be cheaper by TECHNIQUE_MARGIN_PERCENT
 *   gates        as they are while pre-copy is the choice: they protect the
 *                guest. To go back to pre-copy it must pass them by the margin:
 *                with that much less bandwidth, or that much more dirtied
 *   allowed      exempt: what is not allowed any more is left at once
 *   table        exempt: its classes have a hysteresis of their own (classify.h)
 */
#pragma once

#include "common/types.h"
#include "decision/calibrate.h"
#include "decision/classify.h"
#include "decision/predict.h"

#define TECHNIQUE_REASON_SIZE 640
#define TECHNIQUE_COUNT 3
/* A choice is left only for one that costs this much less; see `previous`. */
#define TECHNIQUE_MARGIN_PERCENT 10

/* What a unit of each costs; see technique_cost() in the .c for the units. */
typedef struct {
    double time;     /* total time, in multiples of the shortest of the three */
    double downtime; /* in multiples of the downtime limit */
    double sla;      /* bytes taken from the workload, in multiples of memory */
    double risk;     /* post-copy: 0.25 for having it, plus fetched bytes / memory */
} TechniqueWeights;

typedef struct {
    Priority priority;
    TechniqueSet allowed;
    bool has_previous;  /* this migration was decided before ... */
    Technique previous; /* ... and this was chosen */
    /* Why one is not allowed, indexed by Technique; NULL or static text; only quoted. */
    const char *excluded[TECHNIQUE_COUNT];

    /* Class of each, kept by the caller with classify_traffic(). */
    TrafficClass source_class;
    TrafficClass destination_class;
    TrafficClass vm_class;

    /*
     * Measured now, smoothed. Source and destination: the whole uplink without
     * this VM and without migration traffic. Not valid: half of the link is
     * assumed busy in each direction, for the VM a tenth.
     */
    TrafficRates source;
    TrafficRates destination;
    TrafficRates vm;
    uint64_t source_link;      /* bytes/s that may be used; 0 unknown */
    uint64_t destination_link; /* likewise; 0: decide from the source alone */

    uint64_t memory;     /* bytes to move */
    DirtyCurve dirty;    /* invalid when unknown */
    uint64_t guaranteed; /* bytes/s reserved for this migration (reserve.h); 0 none */
    PredictParams predict;
    const TechniqueWeights *weights; /* NULL: technique_weights_default(priority) */

    /*
     * What the caller's limit and its connections let through, bytes/s, 0: no
     * bound. Of passes of pre-copy by the technique that makes them (one that can
     * be parallel has more), and of post-copy.
     */
    uint64_t limit_pre[TECHNIQUE_COUNT];
    uint64_t limit_post;

    /* What finished migrations taught of this pair of hosts; else times stay as predicted. */
    bool calibrated;
    bool reverse_full; /* the destination's own sending fills its link (RateProfile) */
    CalibrationCorrection correction[TECHNIQUE_COUNT];
} TechniqueInput;

typedef enum {
    TECHNIQUE_RULE_TABLE = 0,
    TECHNIQUE_RULE_COST,
    TECHNIQUE_RULE_GATE_ALLOWED,
    TECHNIQUE_RULE_GATE_CONVERGENCE,
    TECHNIQUE_RULE_GATE_FLOOR,
    TECHNIQUE_RULE_GATE_EGRESS,
} TechniqueRule;

typedef struct {
    Technique technique;
    TechniqueRule rule;
    bool kept;                 /* the previous choice, though another one is a little cheaper */
    TrafficClass source_class; /* as they came in */
    TrafficClass destination_class;
    TrafficClass vm_class;
    /*
     * Free for the migration, bytes/s; 0 is possible and means none.
     *   available_pre  = min(C_s - O_s - o, C_d - I_d)
     *   available_post = min(C_s - O_s, C_d - I_d - i)
     */
    uint64_t available_pre;
    uint64_t available_post;
    bool available_assumed; /* some rate or all links were unknown */
    /* What predictions used, up to the limits: the above, but never below what is guaranteed. */
    uint64_t rate_pre;
    uint64_t rate_post;
    double dirty_rate;                      /* bytes/s, assumed if so predicted */
    Prediction prediction[TECHNIQUE_COUNT]; /* indexed by Technique */
    double cost[TECHNIQUE_COUNT];           /* likewise, also of those not allowed */
    char reason[TECHNIQUE_REASON_SIZE];     /* one line for people, with numbers */
} TechniqueDecision;

/* low: 1 1 2 3 (patient, avoids risk); medium: 2 1 1 1; high: 4 .5 .25 .5. */
TechniqueWeights technique_weights_default(Priority priority);

/*
 * The table alone. False when the classes name no cell of it. An unknown
 * destination names a cell only where both directions agree.
 */
bool technique_from_table(TrafficClass source, TrafficClass destination, TrafficClass vm,
                          Priority priority, Technique *ret_technique);

/* Decides. Always gives an answer; the same input always gives the same one. */
void technique_decide(const TechniqueInput *input, TechniqueDecision *ret_decision);

/* "table", "cost", "allowed", "convergence", "floor", "egress". */
const char *technique_rule_to_string(TechniqueRule rule);
