/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What this kernel can shape with, found by trying on a throw-away device.
 *
 * Kernels differ and modules load on demand, so configuration files prove
 * nothing. Probe at start; it takes some 30 ms. What is there is not probed again.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct ShapingJournal ShapingJournal; /* journal.h needs this header */

typedef struct {
    bool htb;      /* without it nothing is shaped */
    bool u32;      /* likewise */
    bool fq_codel; /* else leaves use bfifo */
    bool ifb;      /* these three: else no ingress shaping */
    bool ingress;
    bool mirred;
    bool assumed;     /* no device could be made to try on: all but fq_codel are
                       * assumed and an apply tells */
    gint64 probed_us; /* monotonic time */
} ShapingFeatures;

/* What a probe found missing may have failed for a passing reason (no memory, a
 * module not yet there): how long that answer is kept. */
#define SHAPING_FEATURES_KEPT_SECONDS 60

/*
 * Never fails: what cannot be tried is false. The device is called
 * "convoyprobe" and is gone afterwards; one left behind is removed first, one
 * that cannot be removed stays in the journal. A journal that cannot be written
 * means that nothing is tried: `assumed`.
 */
void shaping_features_probe(ShapingJournal *journal, ShapingFeatures *ret_features);

/* NULL when possible, else a static text: "the kernel has no htb qdisc". */
const char *shaping_features_missing(const ShapingFeatures *features, bool ingress);

/* Probes again when that is missing and the last probe is SHAPING_FEATURES_KEPT_SECONDS old. */
void shaping_features_renew(ShapingJournal *journal, bool ingress, ShapingFeatures *features);
