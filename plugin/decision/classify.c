/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Classes of traffic from smoothed rates. Each threshold is compared in one
 * function named after its question; it does not smooth, that is traffic/'s.
 */
#include "decision/classify.h"

#include <math.h>
#include <stddef.h>

ClassifyParams
classify_params_default(void)
{
    return (ClassifyParams){
        .idle_percent = 5.0,
        .idle_rate = 125000,
        .dominance = 2.0,
        .dominance_kept = 1.5,
        .hysteresis_percent = 20.0,
    };
}

static ClassifyParams
params_or_default(const ClassifyParams *params)
{
    ClassifyParams result = classify_params_default();

    if (params == NULL)
        return result;
    if (params->idle_percent >= 0.0 && params->idle_percent < 100.0)
        result.idle_percent = params->idle_percent;
    result.idle_rate = params->idle_rate;
    if (params->dominance >= 1.0 && isfinite(params->dominance))
        result.dominance = params->dominance;
    if (params->dominance_kept >= 1.0 && isfinite(params->dominance_kept))
        result.dominance_kept = params->dominance_kept;
    if (result.dominance_kept > result.dominance)
        result.dominance_kept = result.dominance;
    if (params->hysteresis_percent >= 0.0 && params->hysteresis_percent < 100.0)
        result.hysteresis_percent = params->hysteresis_percent;
    return result;
}

static bool
traffic_is_idle(const TrafficRates *rates, uint64_t link_rate, TrafficClass previous,
                const ClassifyParams *params)
{
    /* The link is full duplex: its directions do not add up. */
    double busier = (double)(rates->in > rates->out ? rates->in : rates->out);
    double threshold = (double)link_rate * params->idle_percent / 100.0;

    if (threshold < (double)params->idle_rate)
        threshold = (double)params->idle_rate;
    if (previous == TRAFFIC_CLASS_IDLE)
        threshold *= 1.0 + params->hysteresis_percent / 100.0;
    else if (previous != TRAFFIC_CLASS_UNKNOWN)
        threshold *= 1.0 - params->hysteresis_percent / 100.0;
    return busier < threshold || busier <= 0.0;
}

static bool
direction_dominates(uint64_t rate, uint64_t other, bool did_before, const ClassifyParams *params)
{
    double ratio = did_before ? params->dominance_kept : params->dominance;

    return rate > other && (double)rate >= (double)other * ratio;
}

TrafficClass
classify_traffic(const TrafficRates *rates, uint64_t link_rate, TrafficClass previous,
                 const ClassifyParams *params)
{
    ClassifyParams used = params_or_default(params);

    if (!rates->valid)
        return TRAFFIC_CLASS_UNKNOWN;
    if (traffic_is_idle(rates, link_rate, previous, &used))
        return TRAFFIC_CLASS_IDLE;
    if (direction_dominates(rates->in, rates->out, previous == TRAFFIC_CLASS_INBOUND, &used))
        return TRAFFIC_CLASS_INBOUND;
    if (direction_dominates(rates->out, rates->in, previous == TRAFFIC_CLASS_OUTBOUND, &used))
        return TRAFFIC_CLASS_OUTBOUND;
    return TRAFFIC_CLASS_MIXED;
}

const char *
traffic_class_to_string(TrafficClass traffic_class)
{
    switch (traffic_class) {
    case TRAFFIC_CLASS_UNKNOWN:
        return "unknown";
    case TRAFFIC_CLASS_IDLE:
        return "idle";
    case TRAFFIC_CLASS_INBOUND:
        return "inbound";
    case TRAFFIC_CLASS_OUTBOUND:
        return "outbound";
    case TRAFFIC_CLASS_MIXED:
        return "mixed";
    }
    return "unknown";
}
