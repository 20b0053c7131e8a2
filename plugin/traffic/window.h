/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From counters to smoothed rates.
 *
 * Feed it the two counters of one interface each tick; it answers with an
 * exponentially weighted average and with the last rate. It owns no clock: time is monotonic
 * microseconds given by the caller. What it never does is invent a number: until two usable samples
 * were seen, and again after the interface was missing, `valid` is false.
 */
#pragma once

#include "common/types.h"

#include <glib.h>

/*
 * Who owns the traffic, hence what the kernel's rx and tx mean to him: what a
 * host's uplink receives comes in; what a tap receives the VM has sent out.
 */
typedef enum {
    TRAFFIC_OWNER_HOST, /* in = rx, out = tx */
    TRAFFIC_OWNER_VM,   /* in = tx, out = rx */
} TrafficOwner;

enum {
    /* Samples closer together than this are ignored: a few bytes over almost
     * no time give absurd rates. */
    TRAFFIC_WINDOW_INTERVAL_MIN_US = 1000,
};

typedef struct TrafficWindow TrafficWindow;

/*
 * `time_constant_us` (> 0, else 1) is that of the average: after it, 63 % of a
 * step are visible, whatever the tick.
 */
TrafficWindow *traffic_window_new(TrafficOwner owner, gint64 time_constant_us);
void traffic_window_free(TrafficWindow *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TrafficWindow, traffic_window_free)

/*
 * One reading of the counters at `now_us`. When a counter went backwards
 * (reset, or the interface was made anew) or the clock did not advance, the
 * reading becomes the new base line and adds no sample; earlier samples stay.
 */
void traffic_window_add(TrafficWindow *self, gint64 now_us, uint64_t rx_bytes, uint64_t tx_bytes);

/*
 * The interface was not in the dump: everything is forgotten, rates are
 * invalid until two further readings. A dump that failed as a whole is not a
 * miss: then call nothing.
 */
void traffic_window_miss(TrafficWindow *self);

/* Bytes/s. Both answer valid == false together, and then with zeros. */
TrafficRates traffic_window_smoothed(const TrafficWindow *self);
TrafficRates traffic_window_last(const TrafficWindow *self);
