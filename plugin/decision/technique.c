/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Chooses the technique: gates, then the table, then the least cost. It never
 * turns the answer into flags and keeps nothing between calls.
 */
#include "decision/technique.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Of the link, assumed in use where nothing was measured. */
#define ASSUMED_HOST_LOAD 2 /* one half */
#define ASSUMED_VM_LOAD 10  /* one tenth */
/* When neither link is known: 1 Gbit/s, the slowest link one meets in a host. */
#define ASSUMED_LINK 125000000u
/* Egress above this part of the link is saturated. */
#define SATURATED_PERCENT 80
/* Free bandwidth of this many dirty rates makes the guaranteed floor irrelevant. */
#define FLOOR_HEADROOM 2.0
/* Terms of the cost are bounded so that one of them cannot hide the others. */
#define COST_TIME_MAX 100.0
#define COST_DOWNTIME_MAX 50.0
#define COST_SLA_MAX 10.0
#define COST_RISK_FIXED 0.25
#define COST_NEVER_CONVERGES 1000.0
/* What is left of a cost or a rate that is lower by the margin. */
#define MARGIN_LEFT ((100.0 - TECHNIQUE_MARGIN_PERCENT) / 100.0)

TechniqueWeights
technique_weights_default(Priority priority)
{
    switch (priority) {
    case PRIORITY_LOW:
        return (TechniqueWeights){ .time = 1.0, .downtime = 1.0, .sla = 2.0, .risk = 3.0 };
    case PRIORITY_HIGH:
        return (TechniqueWeights){ .time = 4.0, .downtime = 0.5, .sla = 0.25, .risk = 0.5 };
    case PRIORITY_MEDIUM:
        break;
    }
    return (TechniqueWeights){ .time = 2.0, .downtime = 1.0, .sla = 1.0, .risk = 1.0 };
}

static bool
class_has_direction(TrafficClass traffic_class)
{
    return traffic_class == TRAFFIC_CLASS_INBOUND || traffic_class == TRAFFIC_CLASS_OUTBOUND;
}

bool
technique_from_table(TrafficClass source, TrafficClass destination, TrafficClass vm,
                     Priority priority, Technique *ret_technique)
{
    if (!class_has_direction(source) || !class_has_direction(vm))
        return false;
    if (destination == TRAFFIC_CLASS_UNKNOWN) {
        Technique inbound;
        Technique outbound;

        if (!technique_from_table(source, TRAFFIC_CLASS_INBOUND, vm, priority, &inbound) ||
            !technique_from_table(source, TRAFFIC_CLASS_OUTBOUND, vm, priority, &outbound) ||
            inbound != outbound)
            return false;
        *ret_technique = inbound;
        return true;
    }
    if (!class_has_direction(destination))
        return false;

    if (vm == TRAFFIC_CLASS_OUTBOUND || destination == TRAFFIC_CLASS_OUTBOUND)
        *ret_technique = TECHNIQUE_POST_COPY;
    else if (source == TRAFFIC_CLASS_INBOUND)
        *ret_technique = TECHNIQUE_HYBRID;
    else
        *ret_technique = priority == PRIORITY_LOW ? TECHNIQUE_PRE_COPY : TECHNIQUE_HYBRID;
    return true;
}

static uint64_t
subtract(uint64_t from, uint64_t amount)
{
    return from > amount ? from - amount : 0;
}

static uint64_t
add(uint64_t left, uint64_t right)
{
    return left > UINT64_MAX - right ? UINT64_MAX : left + right;
}

static uint64_t
minimum(uint64_t left, uint64_t right)
{
    return left < right ? left : right;
}

static uint64_t
maximum(uint64_t left, uint64_t right)
{
    return left > right ? left : right;
}

static TrafficRates
rates_or_assumed(const TrafficRates *rates, uint64_t link, unsigned int divisor, bool *assumed)
{
    if (rates->valid)
        return *rates;
    *assumed = true;
    return (TrafficRates){ .valid = true, .in = link / divisor, .out = link / divisor };
}

static void
find_available(const TechniqueInput *input, TechniqueDecision *decision)
{
    uint64_t pre = UINT64_MAX;
    uint64_t post = UINT64_MAX;
    bool assumed = false;
    uint64_t scale = input->source_link != 0 ? input->source_link : input->destination_link;
    uint64_t guaranteed;
    TrafficRates vm;

    if (scale == 0) {
        assumed = true;
        pre = post = ASSUMED_LINK;
    }
    vm = rates_or_assumed(&input->vm, scale, ASSUMED_VM_LOAD, &assumed);
    if (input->source_link != 0) {
        TrafficRates source =
            rates_or_assumed(&input->source, input->source_link, ASSUMED_HOST_LOAD, &assumed);

        pre = subtract(input->source_link, add(source.out, vm.out));
        post = subtract(input->source_link, source.out);
    }
    if (input->destination_link != 0) {
        TrafficRates destination = rates_or_assumed(&input->destination, input->destination_link,
                                                    ASSUMED_HOST_LOAD, &assumed);

        pre = minimum(pre, subtract(input->destination_link, destination.in));
        post = minimum(post, subtract(input->destination_link, add(destination.in, vm.in)));
    }
    decision->available_pre = pre;
    decision->available_post = post;
    decision->available_assumed = assumed;
    guaranteed = input->guaranteed;
    if (input->source_link != 0)
        guaranteed = minimum(guaranteed, input->source_link);
    if (input->destination_link != 0)
        guaranteed = minimum(guaranteed, input->destination_link);
    decision->rate_pre = maximum(pre, guaranteed);
    decision->rate_post = maximum(post, guaranteed);
}

static double
bounded(double value, double limit)
{
    return value < limit ? value : limit; /* NaN gives the limit */
}

static uint64_t
limited(uint64_t rate, uint64_t limit)
{
    return limit != 0 ? minimum(rate, limit) : rate;
}

static uint64_t
rate_pre(const TechniqueInput *input, const TechniqueDecision *decision, Technique technique)
{
    return limited(decision->rate_pre, input->limit_pre[technique]);
}

static uint64_t
rate_post(const TechniqueInput *input, const TechniqueDecision *decision)
{
    return limited(decision->rate_post, input->limit_post);
}

/* Bytes that a prediction takes from the workload, because it is guaranteed
 * more than is free, as a multiple of memory. */
static double
sla_deficit(const TechniqueInput *input, const TechniqueDecision *decision, Technique technique)
{
    const Prediction *prediction = &decision->prediction[technique];
    double pre_seconds = fmax(prediction->total_seconds - prediction->post_copy_seconds, 0.0);
    double displaced =
        (double)subtract(rate_pre(input, decision, technique), decision->available_pre) *
            pre_seconds +
        (double)subtract(rate_post(input, decision), decision->available_post) *
            prediction->post_copy_seconds;

    return bounded(displaced / fmax((double)input->memory, 1.0), COST_SLA_MAX);
}

static double
technique_cost(const TechniqueInput *input, const TechniqueDecision *decision,
               const TechniqueWeights *weights, double shortest, Technique technique)
{
    const Prediction *prediction = &decision->prediction[technique];
    double limit = (double)input->predict.downtime_limit_ms;
    double time = bounded(prediction->total_seconds / fmax(shortest, 0.001), COST_TIME_MAX);
    /* To whoever uses the guest a stall is downtime too. */
    double downtime =
        bounded((prediction->downtime_ms + prediction->stall_ms) / limit, COST_DOWNTIME_MAX);
    double risk = 0.0;
    double cost;

    if (technique == TECHNIQUE_POST_COPY || prediction->post_copy_bytes > 0.0)
        risk = COST_RISK_FIXED +
               bounded(prediction->post_copy_bytes / fmax((double)input->memory, 1.0), 1.0);
    cost = weights->time * time + weights->downtime * downtime +
           weights->sla * sla_deficit(input, decision, technique) + weights->risk * risk;
    if (!prediction->converges)
        cost += COST_NEVER_CONVERGES;
    return isfinite(cost) ? cost : 2.0 * COST_NEVER_CONVERGES;
}

static void
find_costs(const TechniqueInput *input, TechniqueDecision *decision)
{
    TechniqueWeights weights =
        input->weights != NULL ? *input->weights : technique_weights_default(input->priority);
    double shortest = PREDICT_SECONDS_MAX;

    for (unsigned int i = 0; i < TECHNIQUE_COUNT; i++) {
        decision->prediction[i] =
            predict_migration((Technique)i, input->memory, rate_pre(input, decision, (Technique)i),
                              rate_post(input, decision), &input->dirty, &input->predict);
        if (input->calibrated)
            decision->prediction[i] = calibration_apply(
                &input->correction[i], &decision->prediction[i], input->reverse_full ? 1.0 : 0.0);
        shortest = fmin(shortest, decision->prediction[i].total_seconds);
    }
    for (unsigned int i = 0; i < TECHNIQUE_COUNT; i++)
        decision->cost[i] = technique_cost(input, decision, &weights, shortest, (Technique)i);
}

static bool
set_has(unsigned int set, Technique technique)
{
    return (set & (1u << technique)) != 0;
}

/* Ties go to pre-copy, then hybrid: the guest stays on one host longest. */
static Technique
cheapest(const TechniqueDecision *decision, unsigned int set)
{
    static const Technique order[] = { TECHNIQUE_PRE_COPY, TECHNIQUE_HYBRID, TECHNIQUE_POST_COPY };
    Technique best = TECHNIQUE_PRE_COPY;
    bool found = false;

    for (unsigned int i = 0; i < TECHNIQUE_COUNT; i++) {
        if (set_has(set, order[i]) && (!found || decision->cost[order[i]] < decision->cost[best])) {
            best = order[i];
            found = true;
        }
    }
    return best;
}

/* The cheapest, unless the previous choice is in the set and hardly dearer. */
static Technique
cheapest_or_kept(const TechniqueInput *input, TechniqueDecision *decision, unsigned int set)
{
    Technique best = cheapest(decision, set);

    decision->kept = input->has_previous && input->previous != best &&
                     (unsigned int)input->previous < TECHNIQUE_COUNT &&
                     set_has(set, input->previous) &&
                     decision->cost[best] >= MARGIN_LEFT * decision->cost[input->previous];
    return decision->kept ? input->previous : best;
}

/* Pre-copy would be a way back: it must pass the gates by the margin. */
static bool
returns_to_pre_copy(const TechniqueInput *input)
{
    return input->has_previous && input->previous != TECHNIQUE_PRE_COPY;
}

static bool
egress_is_saturated(const TechniqueInput *input)
{
    double limit = (double)input->source_link * SATURATED_PERCENT / 100.0;

    if (input->source_link == 0 || !input->source.valid)
        return false;
    return (double)input->source.out >= (returns_to_pre_copy(input) ? MARGIN_LEFT * limit : limit);
}

static bool
pre_copy_converges(const TechniqueInput *input, const TechniqueDecision *decision)
{
    if (!decision->prediction[TECHNIQUE_PRE_COPY].converges || !returns_to_pre_copy(input))
        return decision->prediction[TECHNIQUE_PRE_COPY].converges;
    return predict_migration(
               TECHNIQUE_PRE_COPY, input->memory,
               (uint64_t)(MARGIN_LEFT * (double)rate_pre(input, decision, TECHNIQUE_PRE_COPY)),
               rate_post(input, decision), &input->dirty, &input->predict)
        .converges;
}

static bool
dirties_above_floor(const TechniqueInput *input, const TechniqueDecision *decision)
{
    double dirty =
        returns_to_pre_copy(input) ? decision->dirty_rate / MARGIN_LEFT : decision->dirty_rate;

    return input->priority == PRIORITY_LOW && input->dirty.valid && input->guaranteed > 0 &&
           dirty > (double)input->guaranteed &&
           (decision->available_assumed ||
            (double)decision->available_pre < FLOOR_HEADROOM * dirty);
}

/* Is there a gate that forbids pre-copy? Only asked while something else is allowed. */
static bool
pre_copy_is_gated(const TechniqueInput *input, const TechniqueDecision *decision,
                  TechniqueRule *ret_rule)
{
    if (dirties_above_floor(input, decision)) {
        *ret_rule = TECHNIQUE_RULE_GATE_FLOOR;
        return true;
    }
    if (!pre_copy_converges(input, decision)) {
        *ret_rule = TECHNIQUE_RULE_GATE_CONVERGENCE;
        return true;
    }
    if (input->priority == PRIORITY_HIGH && egress_is_saturated(input)) {
        *ret_rule = TECHNIQUE_RULE_GATE_EGRESS;
        return true;
    }
    return false;
}

static void
choose(const TechniqueInput *input, TechniqueDecision *decision)
{
    unsigned int allowed = (unsigned int)input->allowed & TECHNIQUE_ALLOW_ALL;
    unsigned int others = allowed & ~(unsigned int)TECHNIQUE_ALLOW_PRE_COPY;
    TechniqueRule gate = TECHNIQUE_RULE_COST;
    bool gated;
    Technique wanted;

    if ((allowed & (allowed - 1)) == 0) { /* one, or none at all */
        decision->rule = TECHNIQUE_RULE_GATE_ALLOWED;
        decision->technique = cheapest(decision, allowed);
        return;
    }
    gated = pre_copy_is_gated(input, decision, &gate) && others != 0 && others != allowed;

    decision->rule = TECHNIQUE_RULE_TABLE;
    if (!technique_from_table(input->source_class, input->destination_class, input->vm_class,
                              input->priority, &wanted) ||
        !set_has(allowed, wanted)) {
        decision->rule = TECHNIQUE_RULE_COST;
        wanted = cheapest(decision, allowed);
        /* Pre-copy behind a gate is no choice to keep another one against. */
        if (!gated || wanted != TECHNIQUE_PRE_COPY)
            wanted = cheapest_or_kept(input, decision, allowed);
        /* A low-priority guest above its floor goes hybrid whatever is cheapest. */
        if (gated && gate == TECHNIQUE_RULE_GATE_FLOOR)
            wanted = TECHNIQUE_PRE_COPY;
        /* The cost of never ending already rules pre-copy out: name the gate. */
        if (gated && gate == TECHNIQUE_RULE_GATE_CONVERGENCE && wanted != TECHNIQUE_PRE_COPY)
            decision->rule = gate;
    }
    if (wanted == TECHNIQUE_PRE_COPY && gated) {
        decision->rule = gate;
        decision->kept = false;
        wanted = gate == TECHNIQUE_RULE_GATE_FLOOR && set_has(others, TECHNIQUE_HYBRID)
                     ? TECHNIQUE_HYBRID
                     : cheapest_or_kept(input, decision, others);
    }
    decision->technique = wanted;
}

static double
megabytes(uint64_t bytes)
{
    return (double)bytes / 1e6;
}

/*
 * Appends why techniques are excluded, each text once: "; excluded: post-copy,
 * hybrid (memory uses huge pages)". Cut, not overrun, when outside texts are long.
 */
static void
append_excluded(const TechniqueInput *input, char *reason, size_t size)
{
    unsigned int open = ~(unsigned int)input->allowed & TECHNIQUE_ALLOW_ALL;
    const char *before = "; excluded: ";

    for (unsigned int i = 0; i < TECHNIQUE_COUNT; i++) {
        const char *why = input->excluded[i];
        size_t length = strnlen(reason, size - 1);

        if (!set_has(open, (Technique)i) || why == NULL)
            continue;
        (void)snprintf(reason + length, size - length, "%s%s", before,
                       technique_to_string((Technique)i));
        for (unsigned int j = i + 1; j < TECHNIQUE_COUNT; j++) {
            if (!set_has(open, (Technique)j) || input->excluded[j] == NULL ||
                strcmp(input->excluded[j], why) != 0)
                continue;
            open &= ~(1u << j);
            length = strnlen(reason, size - 1);
            (void)snprintf(reason + length, size - length, ", %s",
                           technique_to_string((Technique)j));
        }
        length = strnlen(reason, size - 1);
        (void)snprintf(reason + length, size - length, " (%.280s)", why);
        before = ", ";
    }
}

static void
write_reason(const TechniqueInput *input, TechniqueDecision *decision)
{
    const Prediction *chosen = &decision->prediction[decision->technique];

    (void)snprintf(
        decision->reason, sizeof(decision->reason),
        "%s by %s: source %s, destination %s, VM %s, priority %s; "
        "free %.1f/%.1f MB/s before/after the switch%s, dirty rate %.1f MB/s%s; "
        "predicted %.1f s, downtime %.0f ms, stall %.0f ms%s%s",
        technique_to_string(decision->technique), technique_rule_to_string(decision->rule),
        traffic_class_to_string(decision->source_class),
        traffic_class_to_string(decision->destination_class),
        traffic_class_to_string(decision->vm_class), priority_to_string(input->priority),
        megabytes(decision->available_pre), megabytes(decision->available_post),
        decision->available_assumed ? " (assumed)" : "", decision->dirty_rate / 1e6,
        chosen->dirty_assumed ? " (assumed)" : "", chosen->total_seconds, chosen->downtime_ms,
        chosen->stall_ms, chosen->converges ? "" : ", does not converge",
        decision->kept ? "; kept: another one costs hardly less" : "");
    append_excluded(input, decision->reason, sizeof(decision->reason));
}

void
technique_decide(const TechniqueInput *input, TechniqueDecision *ret_decision)
{
    TechniqueInput checked = *input;
    TechniqueDecision decision = {
        .source_class = input->source_class,
        .destination_class = input->destination_class,
        .vm_class = input->vm_class,
    };
    DirtyCurve assumed;

    if (checked.predict.downtime_limit_ms == 0)
        checked.predict.downtime_limit_ms = predict_params_default().downtime_limit_ms;
    find_available(&checked, &decision);
    assumed = dirty_curve_assumed(checked.memory, &checked.predict);
    decision.dirty_rate = dirty_curve_rate(checked.dirty.valid ? &checked.dirty : &assumed);
    find_costs(&checked, &decision);
    choose(&checked, &decision);
    write_reason(&checked, &decision);
    *ret_decision = decision;
}

const char *
technique_rule_to_string(TechniqueRule rule)
{
    switch (rule) {
    case TECHNIQUE_RULE_TABLE:
        return "table";
    case TECHNIQUE_RULE_COST:
        return "cost";
    case TECHNIQUE_RULE_GATE_ALLOWED:
        return "allowed";
    case TECHNIQUE_RULE_GATE_CONVERGENCE:
        return "convergence";
    case TECHNIQUE_RULE_GATE_FLOOR:
        return "floor";
    case TECHNIQUE_RULE_GATE_EGRESS:
        return "egress";
    }
    return "unknown";
}
