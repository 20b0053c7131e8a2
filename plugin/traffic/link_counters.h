/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Byte counters of every network interface by one rtnetlink dump.
 *
 * One request per tick answers for the uplink and all taps at once, with
 * 64-bit statistics; reading one file of sysfs per interface would cost more
 * and give numbers of different moments. This file does not know what a rate
 * is: traffic/window.h turns counters into rates.
 */
#pragma once

#include <glib.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    char name[IF_NAMESIZE];
    int ifindex;
    int master_ifindex;     /* bridge, bond or team it is a port of; 0: none */
    int lower_ifindex;      /* what a VLAN or macvlan rides on; 0: none */
    char kind[IF_NAMESIZE]; /* "bridge", "bond", "vlan", "veth", "tun", ...;
                             * empty for a physical device */
    bool up;
    bool statistics_valid; /* false: the kernel sent none, bytes mean nothing */
    uint64_t rx_bytes;
    uint64_t tx_bytes;
} LinkCounter;

/* A netlink socket kept open between ticks. Not for two threads at once. */
typedef struct LinkCounters LinkCounters;

/* NULL with error when there is no socket to be had. */
LinkCounters *link_counters_new(GError **error);
void link_counters_free(LinkCounters *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LinkCounters, link_counters_free)

/*
 * Asks the kernel once. On success *ret_links is a new GArray of LinkCounter
 * (free with g_array_unref); untouched on failure. After a failure the next
 * call opens the socket anew.
 */
gboolean link_counters_read(LinkCounters *self, GArray **ret_links, GError **error);

/* NULL: no such interface in this dump. The result belongs to the array. */
const LinkCounter *link_counters_find(const GArray *links, const char *name);
const LinkCounter *link_counters_find_index(const GArray *links, int ifindex);
