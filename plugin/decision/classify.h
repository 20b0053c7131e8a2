/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which way does traffic go? Turns the smoothed rates of a host or of a VM
 * into one of five classes (step 1 of the algorithm). Pure: the previous class
 * is an argument, which is all the memory that the hysteresis needs.
 */
#pragma once

#include "common/types.h"

typedef enum {
    TRAFFIC_CLASS_UNKNOWN = 0, /* not measured; never the same as idle */
    TRAFFIC_CLASS_IDLE,        /* too little to matter for a migration */
    TRAFFIC_CLASS_INBOUND,     /* receives much more than it sends */
    TRAFFIC_CLASS_OUTBOUND,    /* sends much more than it receives */
    TRAFFIC_CLASS_MIXED,       /* busy, neither direction dominates */
} TrafficClass;

/* Thresholds; start from classify_params_default(). */
typedef struct {
    double idle_percent;       /* of the link: idle while the busier direction is below */
    uint64_t idle_rate;        /* bytes/s: idle below this too, and alone if no link is known */
    double dominance;          /* one direction dominates at this multiple of the other */
    double dominance_kept;     /* a class once dominant stays so down to this multiple */
    double hysteresis_percent; /* idle is entered this much below, left this much above */
} ClassifyParams;

/* 5 % of the link, 125 kB/s (1 Mbit/s), 2.0, 1.5, 20 %. */
ClassifyParams classify_params_default(void);

/*
 * The class of `rates`. link_rate: bytes/s of the uplink (of the host for a
 * VM, so that VM and host are judged on one scale), 0 when unknown. previous:
 * what this function said last time for the same object, or
 * TRAFFIC_CLASS_UNKNOWN for the first time (then no hysteresis applies).
 * Rates that are not valid give TRAFFIC_CLASS_UNKNOWN. params: NULL means the
 * defaults; senseless values in it are replaced by the defaults.
 */
TrafficClass classify_traffic(const TrafficRates *rates, uint64_t link_rate, TrafficClass previous,
                              const ClassifyParams *params);

/* "unknown", "idle", "inbound", "outbound" or "mixed". */
const char *traffic_class_to_string(TrafficClass traffic_class);
