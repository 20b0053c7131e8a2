/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The fields of every decision's input and answer; see recording.h. A field
 * that a struct gets later is added to its table here, `optional` when zero
 * means what was so before; a unit test sees a struct that its table does not
 * cover.
 */
#include "daemon/recording.h"

#include <string.h>

#include "daemon/fields.h"

/* Brackets within brackets in a line of ours: 5. json-glib itself knows no limit. */
#define DEPTH_MAX 12u
/* Passes: a prediction counts them one by one. */
#define ROUNDS_MAX 10000u

/* ---- names --------------------------------------------------------------- */

static const char *const priority_names[] = { "low", "medium", "high", NULL };
static const char *const technique_names[] = { "pre-copy", "post-copy", "hybrid", NULL };
static const char *const class_names[] = {
    "unknown", "idle", "inbound", "outbound", "mixed", NULL
};
static const char *const rule_names[] = { "table", "cost",   "allowed", "convergence",
                                          "floor", "egress", NULL };
static const char *const floor_names[] = {
    "not-used", "enough", "raised", "hybrid", "unknown", NULL
};
static const char *const reason_names[] = {
    "start-high-priority",
    "start-link-free",
    "start-stream-leaves-room",
    "start-post-copy",
    "start-parallel",
    "wait-link-busy",
    "wait-contention",
    "wait-high-priority",
    "wait-turn",
    "wait-serial",
    "wait-maximum",
    "start-stand-by",
    "wait-gathering",
    NULL,
};
static const char *const scheduling_names[] = { "automatic", "serial", "parallel", NULL };
static const char *const deadline_names[] = { "none", "enough", "raised", "missed", NULL };
static const char *const kind_names[] = { "technique", "schedule", "reserve",  "allocate",
                                          "admit",     "converge", "parallel", NULL };
static const char *const turn_names[] = { "none", "takes", "first", NULL };
static const char *const share_names[] = { "weight", "dirty-rate", "deadline", "scaled",
                                           "turn",   "waits",      NULL };
static const char *const action_names[] = { "none", "raise-downtime", "start-post-copy",
                                            "wait", "last-round",     "report-stall",
                                            NULL };

/* ---- technique ----------------------------------------------------------- */

#define SECONDS_AND_BYTES .kind = FIELD_DOUBLE, .low = 0.0, .high = 1e30

static const Field rates_fields[] = {
    { FIELD_AT(TrafficRates, valid, .kind = FIELD_BOOL) },
    { FIELD_AT(TrafficRates, in, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(TrafficRates, out, .kind = FIELD_UNSIGNED) },
    { 0 },
};

/* What DirtyCurve's points are made of; their struct has no name. */
typedef struct {
    double seconds;
    double bytes;
} CurvePoint;

G_STATIC_ASSERT(sizeof(CurvePoint) == sizeof(((DirtyCurve *)0)->point[0]));

static const Field point_fields[] = {
    { FIELD_AT(CurvePoint, seconds, SECONDS_AND_BYTES) },
    { FIELD_AT(CurvePoint, bytes, SECONDS_AND_BYTES) },
    { 0 },
};

static const Field curve_fields[] = {
    { FIELD_AT(DirtyCurve, valid, .kind = FIELD_BOOL) },
    { FIELD_ARRAY(DirtyCurve, point, .kind = FIELD_STRUCT, .fields = point_fields,
                  FIELD_COUNTED_BY(DirtyCurve, count)) },
    { 0 },
};

static const Field predict_fields[] = {
    { FIELD_AT(PredictParams, downtime_limit_ms, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(PredictParams, switchover_ms, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(PredictParams, rounds_maximum, .kind = FIELD_UNSIGNED, .max = ROUNDS_MAX) },
    { FIELD_AT(PredictParams, unknown_working_set, SECONDS_AND_BYTES) },
    { FIELD_AT(PredictParams, unknown_working_set_time, SECONDS_AND_BYTES) },
    { 0 },
};

static const Field weights_fields[] = {
    { FIELD_AT(TechniqueWeights, time, .kind = FIELD_DOUBLE, .finite = true) },
    { FIELD_AT(TechniqueWeights, downtime, .kind = FIELD_DOUBLE, .finite = true) },
    { FIELD_AT(TechniqueWeights, sla, .kind = FIELD_DOUBLE, .finite = true) },
    { FIELD_AT(TechniqueWeights, risk, .kind = FIELD_DOUBLE, .finite = true) },
    { 0 },
};

static const Field correction_fields[] = {
    { FIELD_AT(CalibrationCorrection, memory, .kind = FIELD_DOUBLE, .finite = true) },
    { FIELD_AT(CalibrationCorrection, further, .kind = FIELD_DOUBLE, .finite = true) },
    { FIELD_AT(CalibrationCorrection, reverse_full, .kind = FIELD_DOUBLE, .finite = true) },
    { FIELD_AT(CalibrationCorrection, overhead, .kind = FIELD_DOUBLE, .finite = true) },
    { FIELD_AT(CalibrationCorrection, error_low, .kind = FIELD_DOUBLE, .finite = true) },
    { FIELD_AT(CalibrationCorrection, error_high, .kind = FIELD_DOUBLE, .finite = true) },
    { FIELD_AT(CalibrationCorrection, count, .kind = FIELD_UNSIGNED) },
    { 0 },
};

static const Field technique_input_fields[] = {
    { FIELD_AT(TechniqueInput, priority, .kind = FIELD_NAME, .names = priority_names) },
    { FIELD_AT(TechniqueInput, allowed, .kind = FIELD_UNSIGNED, .max = TECHNIQUE_ALLOW_ALL) },
    { FIELD_AT(TechniqueInput, has_previous, .kind = FIELD_BOOL) },
    { FIELD_AT(TechniqueInput, previous, .kind = FIELD_NAME, .names = technique_names) },
    { FIELD_ARRAY(TechniqueInput, excluded, .kind = FIELD_TEXT_POINTER) },
    { FIELD_AT(TechniqueInput, source_class, .kind = FIELD_NAME, .names = class_names) },
    { FIELD_AT(TechniqueInput, destination_class, .kind = FIELD_NAME, .names = class_names) },
    { FIELD_AT(TechniqueInput, vm_class, .kind = FIELD_NAME, .names = class_names) },
    { FIELD_AT(TechniqueInput, source, .kind = FIELD_STRUCT, .fields = rates_fields) },
    { FIELD_AT(TechniqueInput, destination, .kind = FIELD_STRUCT, .fields = rates_fields) },
    { FIELD_AT(TechniqueInput, vm, .kind = FIELD_STRUCT, .fields = rates_fields) },
    { FIELD_AT(TechniqueInput, source_link, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(TechniqueInput, destination_link, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(TechniqueInput, memory, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(TechniqueInput, dirty, .kind = FIELD_STRUCT, .fields = curve_fields) },
    { FIELD_AT(TechniqueInput, guaranteed, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(TechniqueInput, predict, .kind = FIELD_STRUCT, .fields = predict_fields) },
    { FIELD_TO(TechniqueInput, weights, .fields = weights_fields) },
    { FIELD_ARRAY(TechniqueInput, limit_pre, .kind = FIELD_UNSIGNED, .optional = true) },
    { FIELD_AT(TechniqueInput, limit_post, .kind = FIELD_UNSIGNED, .optional = true) },
    { FIELD_AT(TechniqueInput, calibrated, .kind = FIELD_BOOL, .optional = true) },
    { FIELD_AT(TechniqueInput, reverse_full, .kind = FIELD_BOOL, .optional = true) },
    { FIELD_ARRAY(TechniqueInput, correction, .kind = FIELD_STRUCT, .fields = correction_fields,
                  .optional = true) },
    { 0 },
};

#define PREDICTED(a_kind) .kind = a_kind, .use = FIELD_PREDICTED

static const Field prediction_fields[] = {
    { FIELD_AT(Prediction, converges, PREDICTED(FIELD_BOOL)) },
    { FIELD_AT(Prediction, dirty_assumed, PREDICTED(FIELD_BOOL)) },
    { FIELD_AT(Prediction, total_seconds, PREDICTED(FIELD_DOUBLE)) },
    { FIELD_AT(Prediction, memory_seconds, PREDICTED(FIELD_DOUBLE), .optional = true) },
    { FIELD_AT(Prediction, total_seconds_low, PREDICTED(FIELD_DOUBLE), .optional = true) },
    { FIELD_AT(Prediction, total_seconds_high, PREDICTED(FIELD_DOUBLE), .optional = true) },
    { FIELD_AT(Prediction, downtime_ms, PREDICTED(FIELD_DOUBLE)) },
    { FIELD_AT(Prediction, stall_ms, PREDICTED(FIELD_DOUBLE)) },
    { FIELD_AT(Prediction, post_copy_seconds, PREDICTED(FIELD_DOUBLE)) },
    { FIELD_AT(Prediction, post_copy_bytes, PREDICTED(FIELD_DOUBLE)) },
    { FIELD_AT(Prediction, bytes_moved, PREDICTED(FIELD_DOUBLE)) },
    { FIELD_AT(Prediction, rounds, PREDICTED(FIELD_UNSIGNED)) },
    { 0 },
};

static const Field technique_decision_fields[] = {
    { FIELD_AT(TechniqueDecision, technique, .kind = FIELD_NAME, .names = technique_names) },
    { FIELD_AT(TechniqueDecision, rule, .kind = FIELD_NAME, .names = rule_names) },
    { FIELD_AT(TechniqueDecision, kept, .kind = FIELD_BOOL) },
    { FIELD_AT(TechniqueDecision, source_class, .kind = FIELD_NAME, .names = class_names) },
    { FIELD_AT(TechniqueDecision, destination_class, .kind = FIELD_NAME, .names = class_names) },
    { FIELD_AT(TechniqueDecision, vm_class, .kind = FIELD_NAME, .names = class_names) },
    { FIELD_AT(TechniqueDecision, available_pre, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(TechniqueDecision, available_post, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(TechniqueDecision, available_assumed, .kind = FIELD_BOOL) },
    { FIELD_AT(TechniqueDecision, rate_pre, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(TechniqueDecision, rate_post, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(TechniqueDecision, dirty_rate, PREDICTED(FIELD_DOUBLE)) },
    { FIELD_ARRAY(TechniqueDecision, prediction, .kind = FIELD_STRUCT,
                  .fields = prediction_fields) },
    { FIELD_ARRAY(TechniqueDecision, cost, PREDICTED(FIELD_DOUBLE)) },
    { FIELD_AT(TechniqueDecision, reason, .kind = FIELD_TEXT, .use = FIELD_PROSE) },
    { 0 },
};

/* ---- schedule ------------------------------------------------------------ */

static const Field item_fields[] = {
    { FIELD_AT(ScheduleItem, id, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ScheduleItem, priority, .kind = FIELD_NAME, .names = priority_names) },
    { FIELD_AT(ScheduleItem, technique, .kind = FIELD_NAME, .names = technique_names) },
    { FIELD_AT(ScheduleItem, seconds, .kind = FIELD_DOUBLE) },
    { FIELD_AT(ScheduleItem, stream_rate, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ScheduleItem, link, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ScheduleItem, link_rate, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ScheduleItem, available_known, .kind = FIELD_BOOL) },
    { FIELD_AT(ScheduleItem, available, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ScheduleItem, enqueued_us, .kind = FIELD_SIGNED) },
    { FIELD_AT(ScheduleItem, relief, .kind = FIELD_DOUBLE) },
    { FIELD_AT(ScheduleItem, ending, .kind = FIELD_BOOL, .optional = true) },
    { FIELD_AT(ScheduleItem, gathering, .kind = FIELD_BOOL, .optional = true) },
    { FIELD_AT(ScheduleItem, takes_turns, .kind = FIELD_BOOL, .optional = true) },
    { 0 },
};

static const Field params_fields[] = {
    { FIELD_AT(ScheduleParams, maximum_running, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ScheduleParams, useful_stream, .kind = FIELD_DOUBLE) },
    { FIELD_AT(ScheduleParams, low_contention, .kind = FIELD_DOUBLE) },
    { FIELD_ARRAY(ScheduleParams, weight, .kind = FIELD_DOUBLE) },
    { FIELD_AT(ScheduleParams, scheduling, .kind = FIELD_NAME, .names = scheduling_names,
               .optional = true) },
    { 0 },
};

static const Field schedule_input_fields[] = {
    { FIELD_LIST(ScheduleInput, waiting, SCHEDULE_ITEMS_MAX, .kind = FIELD_STRUCT,
                 .fields = item_fields, FIELD_COUNTED_BY(ScheduleInput, waiting_count)) },
    { FIELD_LIST(ScheduleInput, running, SCHEDULE_ITEMS_MAX, .kind = FIELD_STRUCT,
                 .fields = item_fields, FIELD_COUNTED_BY(ScheduleInput, running_count)) },
    { FIELD_AT(ScheduleInput, params, .kind = FIELD_STRUCT, .fields = params_fields) },
    { 0 },
};

static const Field verdict_fields[] = {
    { FIELD_AT(ScheduleVerdict, start, .kind = FIELD_BOOL) },
    { FIELD_AT(ScheduleVerdict, reason, .kind = FIELD_NAME, .names = reason_names) },
    { FIELD_AT(ScheduleVerdict, rank, .kind = FIELD_UNSIGNED) },
    { 0 },
};

static const Field schedule_decision_fields[] = {
    { FIELD_LIST(ScheduleDecision, verdict, SCHEDULE_ITEMS_MAX, .kind = FIELD_STRUCT,
                 .fields = verdict_fields, FIELD_COUNTED_BY(ScheduleDecision, count)) },
    { 0 },
};

/* ---- reserve ------------------------------------------------------------- */

static const Field reserve_input_fields[] = {
    { FIELD_AT(ReserveInput, link, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ReserveInput, lower, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ReserveInput, upper, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ReserveInput, demand_valid, .kind = FIELD_BOOL) },
    { FIELD_AT(ReserveInput, demand, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ReserveInput, dirty_valid, .kind = FIELD_BOOL) },
    { FIELD_AT(ReserveInput, dirty_rate, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ReserveInput, floor_percent, .kind = FIELD_UNSIGNED, .max = 100) },
    { FIELD_AT(ReserveInput, minimum_workload_percent, .kind = FIELD_UNSIGNED, .max = 100) },
    { FIELD_ARRAY(ReserveInput, count, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ReserveInput, deadline_rate, .kind = FIELD_UNSIGNED, .optional = true) },
    { 0 },
};

static const Field class_fields[] = {
    { FIELD_AT(ReserveClass, rate, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ReserveClass, ceil, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ReserveClass, prio, .kind = FIELD_UNSIGNED) },
    { 0 },
};

static const Field reservation_fields[] = {
    { FIELD_AT(Reservation, priority, .kind = FIELD_NAME, .names = priority_names) },
    { FIELD_AT(Reservation, lower, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(Reservation, upper, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(Reservation, workload, .kind = FIELD_STRUCT, .fields = class_fields) },
    { FIELD_AT(Reservation, migration, .kind = FIELD_STRUCT, .fields = class_fields) },
    { FIELD_ARRAY(Reservation, leaf, .kind = FIELD_STRUCT, .fields = class_fields) },
    { FIELD_ARRAY(Reservation, unshaped, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(Reservation, floor, .kind = FIELD_NAME, .names = floor_names) },
    { FIELD_AT(Reservation, deadline, .kind = FIELD_NAME, .names = deadline_names,
               .optional = true) },
    { 0 },
};

static const Field reserve_decision_fields[] = {
    { FIELD_AT(ReserveDecision, divided, .kind = FIELD_BOOL) },
    { FIELD_AT(ReserveDecision, reservation, .kind = FIELD_STRUCT, .fields = reservation_fields) },
    { 0 },
};

/* ---- allocate ------------------------------------------------------------ */

static const Field allocate_item_fields[] = {
    { FIELD_AT(AllocateItem, volume, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(AllocateItem, dirty_rate, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(AllocateItem, weight, .kind = FIELD_DOUBLE) },
    { FIELD_AT(AllocateItem, deadline_set, .kind = FIELD_BOOL) },
    { FIELD_AT(AllocateItem, time_left_ms, .kind = FIELD_SIGNED) },
    { FIELD_AT(AllocateItem, turn, .kind = FIELD_NAME, .names = turn_names) },
    { FIELD_AT(AllocateItem, place, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(AllocateItem, may_fall_behind, .kind = FIELD_BOOL, .optional = true) },
    { 0 },
};

static const Field allocate_input_fields[] = {
    { FIELD_LIST(AllocateInput, item, ALLOCATE_MAX, .kind = FIELD_STRUCT,
                 .fields = allocate_item_fields, FIELD_COUNTED_BY(AllocateInput, count)) },
    { FIELD_AT(AllocateInput, available, .kind = FIELD_UNSIGNED) },
    { 0 },
};

static const Field share_fields[] = {
    { FIELD_AT(AllocateShare, rate, PREDICTED(FIELD_UNSIGNED)) },
    { FIELD_AT(AllocateShare, least, PREDICTED(FIELD_UNSIGNED)) },
    { FIELD_AT(AllocateShare, reason, .kind = FIELD_NAME, .names = share_names) },
    { 0 },
};

static const Field allocate_decision_fields[] = {
    { FIELD_LIST(AllocateDecision, share, ALLOCATE_MAX, .kind = FIELD_STRUCT,
                 .fields = share_fields, FIELD_COUNTED_BY(AllocateDecision, count)) },
    { 0 },
};

/* ---- admit --------------------------------------------------------------- */

static const Field incoming_fields[] = {
    { FIELD_AT(ScheduleIncoming, item, .kind = FIELD_STRUCT, .fields = item_fields) },
    { FIELD_AT(ScheduleIncoming, source, .kind = FIELD_UNSIGNED) },
    { 0 },
};

static const Field admit_input_fields[] = {
    { FIELD_AT(AdmitInput, candidate, .kind = FIELD_STRUCT, .fields = incoming_fields) },
    { FIELD_LIST(AdmitInput, running, SCHEDULE_ITEMS_MAX, .kind = FIELD_STRUCT,
                 .fields = incoming_fields, FIELD_COUNTED_BY(AdmitInput, running_count)) },
    { FIELD_LIST(AdmitInput, ahead, SCHEDULE_ITEMS_MAX, .kind = FIELD_STRUCT,
                 .fields = incoming_fields, FIELD_COUNTED_BY(AdmitInput, ahead_count)) },
    { FIELD_AT(AdmitInput, params, .kind = FIELD_STRUCT, .fields = params_fields) },
    { 0 },
};

static const Field admit_decision_fields[] = {
    { FIELD_AT(AdmitDecision, reason, .kind = FIELD_NAME, .names = reason_names) },
    { 0 },
};

/* ---- converge ------------------------------------------------------------ */

/* What ConvergeState's passes are made of; their struct has no name. */
typedef struct {
    int64_t begun_us;
    double bytes;
} ConvergePass;

G_STATIC_ASSERT(sizeof(ConvergePass) == sizeof(((ConvergeState *)0)->pass[0]));

static const Field pass_fields[] = {
    { FIELD_AT(ConvergePass, begun_us, .kind = FIELD_SIGNED) },
    { FIELD_AT(ConvergePass, bytes, SECONDS_AND_BYTES) },
    { 0 },
};

static const Field state_fields[] = {
    { FIELD_AT(ConvergeState, begun, .kind = FIELD_BOOL) },
    { FIELD_AT(ConvergeState, started_us, .kind = FIELD_SIGNED) },
    { FIELD_AT(ConvergeState, sampled_us, .kind = FIELD_SIGNED) },
    { FIELD_AT(ConvergeState, iteration, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ConvergeState, pass_us, .kind = FIELD_SIGNED) },
    { FIELD_AT(ConvergeState, pass_bytes, SECONDS_AND_BYTES) },
    { FIELD_AT(ConvergeState, pass_seconds, SECONDS_AND_BYTES) },
    { FIELD_ARRAY(ConvergeState, pass, .kind = FIELD_STRUCT, .fields = pass_fields,
                  FIELD_COUNTED_BY(ConvergeState, passes)) },
    { FIELD_AT(ConvergeState, best, SECONDS_AND_BYTES) },
    { FIELD_AT(ConvergeState, moved, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ConvergeState, left, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ConvergeState, moved_us, .kind = FIELD_SIGNED) },
    { FIELD_AT(ConvergeState, throughput, SECONDS_AND_BYTES) },
    { FIELD_AT(ConvergeState, throughput_now, SECONDS_AND_BYTES) },
    { FIELD_AT(ConvergeState, recent_moved, .kind = FIELD_UNSIGNED, .optional = true) },
    { FIELD_AT(ConvergeState, recent_left, .kind = FIELD_UNSIGNED, .optional = true) },
    { FIELD_AT(ConvergeState, recent_us, .kind = FIELD_SIGNED, .optional = true) },
    { FIELD_AT(ConvergeState, recent_collapsed, .kind = FIELD_BOOL, .optional = true) },
    { FIELD_AT(ConvergeState, collapsed_us, .kind = FIELD_SIGNED) },
    { FIELD_AT(ConvergeState, below_dirty_us, .kind = FIELD_SIGNED) },
    { FIELD_AT(ConvergeState, late_us, .kind = FIELD_SIGNED, .optional = true) },
    { FIELD_AT(ConvergeState, stalled_us, .kind = FIELD_SIGNED) },
    { FIELD_AT(ConvergeState, missed, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ConvergeState, downtime_ms, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ConvergeState, raised_us, .kind = FIELD_SIGNED) },
    { FIELD_AT(ConvergeState, in_last_round, .kind = FIELD_BOOL) },
    { FIELD_AT(ConvergeState, last_round_us, .kind = FIELD_SIGNED) },
    { FIELD_AT(ConvergeState, last_rounds, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ConvergeState, reported_us, .kind = FIELD_SIGNED) },
    { FIELD_AT(ConvergeState, reports, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ConvergeState, switched, .kind = FIELD_BOOL) },
    { 0 },
};

static const Field sample_fields[] = {
    { FIELD_AT(ConvergeSample, time_us, .kind = FIELD_SIGNED) },
    { FIELD_AT(ConvergeSample, iteration, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ConvergeSample, remaining, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ConvergeSample, transferred, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ConvergeSample, dirty_rate, .kind = FIELD_UNSIGNED) },
    { 0 },
};

static const Field limits_fields[] = {
    { FIELD_AT(ConvergeLimits, priority, .kind = FIELD_NAME, .names = priority_names) },
    { FIELD_AT(ConvergeLimits, memory, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ConvergeLimits, downtime_initial_ms, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ConvergeLimits, downtime_maximum_ms, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ConvergeLimits, deadline_us, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ConvergeLimits, rate_full, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ConvergeLimits, rate_given, .kind = FIELD_UNSIGNED, .optional = true) },
    { FIELD_AT(ConvergeLimits, dirty_rate, .kind = FIELD_UNSIGNED, .optional = true) },
    { FIELD_AT(ConvergeLimits, first_pass, .kind = FIELD_UNSIGNED, .optional = true) },
    { FIELD_AT(ConvergeLimits, post_copy_allowed, .kind = FIELD_BOOL) },
    { FIELD_AT(ConvergeLimits, expected_not_to_end, .kind = FIELD_BOOL) },
    { 0 },
};

static const Field converge_input_fields[] = {
    { FIELD_AT(ConvergeInput, state, .kind = FIELD_STRUCT, .fields = state_fields) },
    { FIELD_AT(ConvergeInput, sample, .kind = FIELD_STRUCT, .fields = sample_fields) },
    { FIELD_AT(ConvergeInput, limits, .kind = FIELD_STRUCT, .fields = limits_fields) },
    { 0 },
};

static const Field converge_decision_fields[] = {
    { FIELD_AT(ConvergeDecision, action, .kind = FIELD_NAME, .names = action_names) },
    { FIELD_AT(ConvergeDecision, downtime_ms, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ConvergeDecision, last_round, .kind = FIELD_BOOL) },
    { FIELD_AT(ConvergeDecision, collapsed, .kind = FIELD_BOOL) },
    { FIELD_AT(ConvergeDecision, near, .kind = FIELD_BOOL) },
    { FIELD_AT(ConvergeDecision, left, PREDICTED(FIELD_DOUBLE)) },
    { FIELD_AT(ConvergeDecision, throughput, PREDICTED(FIELD_DOUBLE)) },
    { FIELD_AT(ConvergeDecision, dirty_rate, PREDICTED(FIELD_DOUBLE)) },
    { FIELD_AT(ConvergeDecision, downtime_needed, PREDICTED(FIELD_DOUBLE)) },
    { FIELD_AT(ConvergeDecision, reason, .kind = FIELD_TEXT, .use = FIELD_PROSE) },
    { 0 },
};

/* ---- parallel ------------------------------------------------------------ */

static const Field parallel_input_fields[] = {
    { FIELD_AT(ParallelInput, technique, .kind = FIELD_NAME, .names = technique_names) },
    { FIELD_AT(ParallelInput, post_copy_flag, .kind = FIELD_BOOL) },
    { FIELD_AT(ParallelInput, tunnelled, .kind = FIELD_BOOL) },
    { FIELD_AT(ParallelInput, both_ends_agree, .kind = FIELD_BOOL) },
    { FIELD_AT(ParallelInput, source_qemu, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ParallelInput, destination_qemu, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ParallelInput, available_known, .kind = FIELD_BOOL) },
    { FIELD_AT(ParallelInput, available, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ParallelInput, one_stream_rate, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(ParallelInput, setting, .kind = FIELD_SIGNED) },
    { FIELD_AT(ParallelInput, cores, .kind = FIELD_UNSIGNED) },
    { 0 },
};

static const Field parallel_decision_fields[] = {
    { FIELD_AT(ParallelDecision, connections, .kind = FIELD_UNSIGNED) },
    { 0 },
};

/* ---- the line ------------------------------------------------------------ */

typedef struct {
    uint32_t version;
    RecordingKind kind;
    gint64 wall_us;
    const char *about;
} Head;

static const Field head_fields[] = {
    { FIELD_AT(Head, version, .kind = FIELD_UNSIGNED) },
    { FIELD_AT(Head, kind, .kind = FIELD_NAME, .names = kind_names) },
    { FIELD_AT(Head, wall_us, .kind = FIELD_SIGNED) },
    { FIELD_AT(Head, about, .kind = FIELD_TEXT_POINTER) },
    { 0 },
};

static const struct {
    const Field *input;
    const Field *decision;
    size_t input_offset;
    size_t decision_offset;
} kinds[] = {
    [RECORDING_TECHNIQUE] = { technique_input_fields, technique_decision_fields,
                              offsetof(Recording, technique.input),
                              offsetof(Recording, technique.decision) },
    [RECORDING_SCHEDULE] = { schedule_input_fields, schedule_decision_fields,
                             offsetof(Recording, schedule.input),
                             offsetof(Recording, schedule.decision) },
    [RECORDING_RESERVE] = { reserve_input_fields, reserve_decision_fields,
                            offsetof(Recording, reserve.input),
                            offsetof(Recording, reserve.decision) },
    [RECORDING_ALLOCATE] = { allocate_input_fields, allocate_decision_fields,
                             offsetof(Recording, allocate.input),
                             offsetof(Recording, allocate.decision) },
    [RECORDING_ADMIT] = { admit_input_fields, admit_decision_fields,
                          offsetof(Recording, admit.input), offsetof(Recording, admit.decision) },
    [RECORDING_CONVERGE] = { converge_input_fields, converge_decision_fields,
                             offsetof(Recording, converge.input),
                             offsetof(Recording, converge.decision) },
    [RECORDING_PARALLEL] = { parallel_input_fields, parallel_decision_fields,
                             offsetof(Recording, parallel.input),
                             offsetof(Recording, parallel.decision) },
};

const char *
recording_kind_to_string(RecordingKind kind)
{
    return (size_t)kind < G_N_ELEMENTS(kinds) ? kind_names[kind] : "unknown";
}

char *
recording_to_line(const Recording *recording)
{
    Head head = {
        .version = RECORDING_VERSION,
        .kind = recording->kind,
        .wall_us = recording->wall_us,
        .about = recording->about,
    };
    const char *base = (const char *)recording;
    g_autoptr(JsonNode) root = fields_write(head_fields, &head);
    JsonObject *object = json_node_get_object(root);

    json_object_set_member(
        object, "input",
        fields_write(kinds[recording->kind].input, base + kinds[recording->kind].input_offset));
    json_object_set_member(object, "decision",
                           fields_write(kinds[recording->kind].decision,
                                        base + kinds[recording->kind].decision_offset));
    return json_to_string(root, FALSE);
}

static bool
line_is_deep(const char *line, gsize length)
{
    unsigned depth = 0;
    bool quoted = false;

    for (gsize i = 0; i < length; i++) {
        if (line[i] == '"')
            quoted = !quoted;
        else if (quoted && line[i] == '\\')
            i++;
        else if (!quoted && (line[i] == '{' || line[i] == '[') && ++depth > DEPTH_MAX)
            return true;
        else if (!quoted && (line[i] == '}' || line[i] == ']') && depth > 0)
            depth--;
    }
    return false;
}

static JsonNode *
line_parse(const char *line, gsize length, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new_immutable();
    g_autoptr(GError) local = NULL;
    const char *why = NULL;

    if (length > RECORDING_LINE_MAX)
        why = "is longer than a decision can be";
    else if (length == 0 || line[0] != '{' || !g_utf8_validate_len(line, length, NULL))
        why = "is no JSON object";
    else if (line_is_deep(line, length))
        why = "is nested deeper than a decision can be";
    else if (!json_parser_load_from_data(parser, line, (gssize)length, &local))
        why = "is no JSON";
    else if (json_parser_get_root(parser) == NULL ||
             !JSON_NODE_HOLDS_OBJECT(json_parser_get_root(parser)))
        why = "is no JSON object";
    if (why != NULL) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "the line %s", why);
        return NULL;
    }
    return json_parser_steal_root(parser);
}

static bool
part_read(JsonObject *object, const char *name, const Field *fields, void *base,
          Recording *recording, GPtrArray *notes, GError **error)
{
    JsonNode *node = json_object_get_member(object, name);

    if (node == NULL) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "%s is missing", name);
        return false;
    }
    return fields_read(fields, node, base, name, recording->memory, notes, error);
}

Recording *
recording_from_line(const char *line, gsize length, GPtrArray *notes, GError **error)
{
    g_autoptr(Recording) recording = g_new0(Recording, 1);
    g_autoptr(JsonNode) root = line_parse(line, length, error);
    char *base = (char *)recording;
    JsonObject *object;
    Head head = { 0 };

    if (root == NULL)
        return NULL;
    object = json_node_get_object(root);
    recording->memory = g_ptr_array_new_with_free_func(g_free);
    if (!fields_read(head_fields, root, &head, "line", recording->memory, NULL, error))
        return NULL;
    if (head.version != RECORDING_VERSION) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "line.version is %" G_GUINT32_FORMAT ", only %u is understood", head.version,
                    RECORDING_VERSION);
        return NULL;
    }
    recording->kind = head.kind;
    recording->wall_us = head.wall_us;
    recording->about = head.about != NULL ? head.about : "";
    if (!part_read(object, "input", kinds[head.kind].input, base + kinds[head.kind].input_offset,
                   recording, notes, error) ||
        !part_read(object, "decision", kinds[head.kind].decision,
                   base + kinds[head.kind].decision_offset, recording, notes, error))
        return NULL;
    if (head.kind == RECORDING_SCHEDULE &&
        recording->schedule.decision.count != recording->schedule.input.waiting_count) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                            "decision.verdict has not one element for each of input.waiting");
        return NULL;
    }
    if (head.kind == RECORDING_ALLOCATE && recording->allocate.decision.count != 0 &&
        recording->allocate.decision.count != recording->allocate.input.count) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                            "decision.share has not one element for each of input.item");
        return NULL;
    }
    return g_steal_pointer(&recording);
}

void
recording_free(Recording *recording)
{
    if (recording == NULL)
        return;
    g_clear_pointer(&recording->memory, g_ptr_array_unref);
    g_free(recording);
}

/* ---- deciding again ------------------------------------------------------ */

Recording *
recording_decide_again(const Recording *recording)
{
    Recording *again = g_memdup2(recording, sizeof(*recording));
    const ScheduleInput *schedule = &recording->schedule.input;
    const AllocateInput *allocate = &recording->allocate.input;
    const AdmitInput *admit = &recording->admit.input;
    ScheduleVerdict *verdicts;
    AllocateShare *shares;
    ConvergeState state;

    again->memory = g_ptr_array_new_with_free_func(g_free);
    switch (again->kind) {
    case RECORDING_TECHNIQUE:
        technique_decide(&recording->technique.input, &again->technique.decision);
        break;
    case RECORDING_SCHEDULE:
        verdicts = g_new0(ScheduleVerdict, MAX(schedule->waiting_count, 1));
        g_ptr_array_add(again->memory, verdicts);
        schedule_decide(schedule->waiting, schedule->waiting_count, schedule->running,
                        schedule->running_count, &schedule->params, verdicts);
        again->schedule.decision = (ScheduleDecision){ schedule->waiting_count, verdicts };
        break;
    case RECORDING_RESERVE:
        memset(&again->reserve.decision, 0, sizeof(again->reserve.decision));
        again->reserve.decision.divided =
            reserve_divide(&recording->reserve.input, &again->reserve.decision.reservation);
        break;
    case RECORDING_ALLOCATE:
        shares = g_new0(AllocateShare, ALLOCATE_MAX);
        g_ptr_array_add(again->memory, shares);
        again->allocate.decision = (AllocateDecision){
            allocate_rates(allocate->item, allocate->count, allocate->available, shares)
                ? allocate->count
                : 0,
            shares,
        };
        break;
    case RECORDING_ADMIT:
        again->admit.decision.reason =
            schedule_admit(&admit->candidate, admit->running, admit->running_count, admit->ahead,
                           admit->ahead_count, &admit->params);
        break;
    case RECORDING_CONVERGE:
        state = recording->converge.input.state;
        memset(&again->converge.decision, 0, sizeof(again->converge.decision));
        converge_step(&state, &recording->converge.input.sample, &recording->converge.input.limits,
                      &again->converge.decision);
        break;
    case RECORDING_PARALLEL:
        again->parallel.decision.connections = parallel_connections(&recording->parallel.input);
        break;
    }
    return again;
}

/* ---- comparing ----------------------------------------------------------- */

typedef struct {
    GPtrArray *differences;
    double tolerance;
} Comparison;

static void
difference_free(gpointer data)
{
    RecordingDifference *difference = data;

    g_free(difference->field);
    g_free(difference->before);
    g_free(difference->now);
    g_free(difference);
}

static bool
difference_counts(const Field *field, double relative, double tolerance)
{
    if (tolerance < 0.0)
        return true;
    switch (field->use) {
    case FIELD_EXACT:
        return true;
    case FIELD_PREDICTED:
        return field->kind != FIELD_BOOL && relative > tolerance;
    case FIELD_PROSE:
        return false;
    }
    return true;
}

static void
difference_add(const Field *field, const char *path, const char *before, const char *now,
               double relative, gpointer data)
{
    const Comparison *comparison = data;
    RecordingDifference *difference = g_new0(RecordingDifference, 1);

    difference->field = g_strdup(path);
    difference->before = g_strdup(before);
    difference->now = g_strdup(now);
    difference->counts = difference_counts(field, relative, comparison->tolerance);
    g_ptr_array_add(comparison->differences, difference);
}

GPtrArray *
recording_compare(const Recording *before, const Recording *now, double tolerance)
{
    Comparison comparison = {
        .differences = g_ptr_array_new_with_free_func(difference_free),
        .tolerance = tolerance,
    };
    size_t offset = kinds[before->kind].decision_offset;

    fields_compare(kinds[before->kind].decision, (const char *)before + offset,
                   (const char *)now + offset, "decision", difference_add, &comparison);
    return comparison.differences;
}

/* ---- for people ---------------------------------------------------------- */

static char *
schedule_describe(const Recording *recording)
{
    GString *text = g_string_new(NULL);

    for (size_t i = 0; i < recording->schedule.decision.count; i++) {
        const ScheduleVerdict *verdict = &recording->schedule.decision.verdict[i];

        g_string_append_printf(text, "%s#%" G_GUINT64_FORMAT " %s (%s)", i ? "; " : "",
                               recording->schedule.input.waiting[i].id,
                               verdict->start ? "starts" : "waits",
                               schedule_reason_to_string(verdict->reason));
    }
    return g_string_free(text, FALSE);
}

static char *
reserve_describe(const ReserveDecision *decision)
{
    const Reservation *reservation = &decision->reservation;

    if (!decision->divided)
        return g_strdup("not divided: the link is unknown");
    return g_strdup_printf(
        "%s priority: workload %.2f/%.2f MB/s, migrations %.2f/%.2f MB/s",
        priority_to_string(reservation->priority), (double)reservation->workload.rate / 1e6,
        (double)reservation->workload.ceil / 1e6, (double)reservation->migration.rate / 1e6,
        (double)reservation->migration.ceil / 1e6);
}

static char *
allocate_describe(const AllocateDecision *decision)
{
    GString *text = g_string_new(decision->count == 0 ? "not divided" : NULL);

    for (size_t i = 0; i < decision->count; i++)
        g_string_append_printf(text, "%s%.2f MB/s (%s)", i ? "; " : "",
                               (double)decision->share[i].rate / 1e6,
                               allocate_reason_to_string(decision->share[i].reason));
    return g_string_free(text, FALSE);
}

char *
recording_describe(const Recording *recording)
{
    switch (recording->kind) {
    case RECORDING_TECHNIQUE:
        return g_strdup(recording->technique.decision.reason);
    case RECORDING_SCHEDULE:
        return schedule_describe(recording);
    case RECORDING_RESERVE:
        return reserve_describe(&recording->reserve.decision);
    case RECORDING_ALLOCATE:
        return allocate_describe(&recording->allocate.decision);
    case RECORDING_ADMIT:
        return g_strdup(schedule_reason_to_string(recording->admit.decision.reason));
    case RECORDING_CONVERGE:
        return g_strdup(recording->converge.decision.reason);
    case RECORDING_PARALLEL:
        return g_strdup_printf("%" G_GUINT32_FORMAT " connections",
                               recording->parallel.decision.connections);
    }
    return g_strdup("unknown");
}
