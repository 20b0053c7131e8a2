/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rates from counters. Pure arithmetic on what it is given.
 */
#include "traffic/window.h"

#include <math.h>

typedef struct {
    double in;
    double out;
} Sample;

struct TrafficWindow {
    TrafficOwner owner;
    gint64 time_constant_us;

    gboolean has_base; /* base_* hold the last reading */
    gint64 base_us;
    uint64_t base_rx;
    uint64_t base_tx;

    gboolean valid; /* there is a last sample, and smoothed follows them */
    Sample last;
    Sample smoothed;
};

TrafficWindow *
traffic_window_new(TrafficOwner owner, gint64 time_constant_us)
{
    TrafficWindow *self = g_new0(TrafficWindow, 1);

    self->owner = owner;
    self->time_constant_us = MAX(time_constant_us, 1);
    return self;
}

void
traffic_window_free(TrafficWindow *self)
{
    g_free(self);
}

static void
base_set(TrafficWindow *self, gint64 now_us, uint64_t rx_bytes, uint64_t tx_bytes)
{
    self->has_base = TRUE;
    self->base_us = now_us;
    self->base_rx = rx_bytes;
    self->base_tx = tx_bytes;
}

void
traffic_window_add(TrafficWindow *self, gint64 now_us, uint64_t rx_bytes, uint64_t tx_bytes)
{
    gint64 elapsed_us;
    double seconds, weight, rx_rate, tx_rate;
    Sample sample;

    if (!self->has_base || now_us <= self->base_us || rx_bytes < self->base_rx ||
        tx_bytes < self->base_tx) {
        base_set(self, now_us, rx_bytes, tx_bytes);
        return;
    }
    elapsed_us = now_us - self->base_us;
    if (elapsed_us < TRAFFIC_WINDOW_INTERVAL_MIN_US)
        return;

    seconds = (double)elapsed_us / G_USEC_PER_SEC;
    rx_rate = (double)(rx_bytes - self->base_rx) / seconds;
    tx_rate = (double)(tx_bytes - self->base_tx) / seconds;
    sample = self->owner == TRAFFIC_OWNER_VM ? (Sample){ .in = tx_rate, .out = rx_rate }
                                             : (Sample){ .in = rx_rate, .out = tx_rate };
    base_set(self, now_us, rx_bytes, tx_bytes);

    /* By elapsed time, so that a late tick weighs as much as it lasted. */
    weight = !self->valid ? 1.0 : -expm1(-(double)elapsed_us / (double)self->time_constant_us);
    self->smoothed.in += weight * (sample.in - self->smoothed.in);
    self->smoothed.out += weight * (sample.out - self->smoothed.out);
    self->last = sample;
    self->valid = TRUE;
}

void
traffic_window_miss(TrafficWindow *self)
{
    self->has_base = FALSE;
    self->base_us = 0;
    self->valid = FALSE;
    self->smoothed = (Sample){ 0 };
}

static uint64_t
rate_round(double rate)
{
    /* 2^63: a counter that jumped, not a rate; keep the cast defined. */
    return rate >= 9.2e18 ? UINT64_C(1) << 63 : (uint64_t)(rate + 0.5);
}

static TrafficRates
rates_from(const TrafficWindow *self, Sample sample)
{
    if (!self->valid)
        return (TrafficRates){ .valid = false };
    return (TrafficRates){
        .valid = true,
        .in = rate_round(sample.in),
        .out = rate_round(sample.out),
    };
}

TrafficRates
traffic_window_smoothed(const TrafficWindow *self)
{
    return rates_from(self, self->smoothed);
}

TrafficRates
traffic_window_last(const TrafficWindow *self)
{
    return rates_from(self, self->last);
}
