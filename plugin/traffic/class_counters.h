/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bytes sent by each HTB class of an interface.
 *
 * While an uplink is shaped its classes tell workload and migration traffic
 * apart, which the interface's own counters cannot. Feed the numbers to a
 * TrafficWindow each (an egress class as tx_bytes; rx_bytes 0). Class ids are
 * those of shaping/plan.h, but nothing here depends on them.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint32_t class_id; /* major << 16 | minor, as in linux/pkt_sched.h */
    uint64_t bytes;    /* sent since the class exists; with children: by all of them */
} ClassCounter;

/* A netlink socket kept open between ticks. Not for two threads at once. */
typedef struct ClassCounters ClassCounters;

/* NULL with error when there is no socket to be had. */
ClassCounters *class_counters_new(GError **error);
void class_counters_free(ClassCounters *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ClassCounters, class_counters_free)

/*
 * A new GArray of ClassCounter for the HTB classes of `ifindex` (empty when
 * there are none); untouched on failure.
 */
gboolean class_counters_read(ClassCounters *self, int ifindex, GArray **ret_classes,
                             GError **error);

/* False: no such class; unknown is not zero. */
bool class_counters_find(const GArray *classes, uint32_t class_id, uint64_t *ret_bytes);
