/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * This host's network as the manager sees it: one uplink, measured rates, and
 * a worker that puts shaping plans up and takes them off.
 *
 * Measuring happens on the main loop (one netlink dump per tick, well below a
 * millisecond); tc runs in one worker thread, so that a slow or hung tc never
 * stops the daemon from answering libvirtd. Decides no rate.
 */
#pragma once

#include "common/config.h"
#include "common/domain.h"
#include "shaping/plan.h"
#include "traffic/uplink.h"

typedef struct Network Network;

/* Called after every sample, with g_get_monotonic_time(). */
typedef void (*NetworkTickFunc)(gint64 now_us, gpointer user_data);
/* error NULL: the plan stands (or is off); G_IO_ERROR_CANCELLED: the daemon stops. */
typedef void (*NetworkShapeDone)(const GError *error, gpointer user_data);

/*
 * Takes off what an earlier daemon left (its journal is in state_directory),
 * looks for the uplink and starts to sample. config outlives the object.
 */
Network *network_new(const Config *config, const char *state_directory, NetworkTickFunc tick,
                     gpointer user_data, GError **error);
/* Waits for the worker's present run, takes everything off, ends what is left undone. */
void network_free(Network *network);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Network, network_free)

/*
 * Looks for the uplink again, towards peer (numeric; NULL: default route).
 * False: unknown, the reason is in network_uplink_problem().
 */
bool network_find_uplink(Network *network, const char *peer);
/* NULL: none. */
const Uplink *network_uplink(const Network *network);
const char *network_uplink_problem(const Network *network);
/*
 * Grows when the uplink is found, lost or found again, and when somebody else changed what
 * stood on it: what was shaped is then off.
 */
unsigned network_changes(const Network *network);

/* Bytes/s; 0: unknown. Usable is what the configuration lets HTB hand out. */
uint64_t network_link_rate(const Network *network);
uint64_t network_usable_rate(const Network *network);

/*
 * Smoothed rates of everything on the uplink that is not migration traffic:
 * what the migrations class sent is taken off while a direction is shaped.
 * Unshaped migrations cannot be told apart and count as workload.
 */
TrafficRates network_host_rates(const Network *network);
/* The VM's own, summed over its taps; not valid when none is known. */
TrafficRates network_vm_rates(const Network *network, const DomainDescription *description);

/*
 * What the workload (not migrations) sent in the last sample in a shaped
 * direction, bytes/s. False: not shaped or not measured yet.
 */
bool network_workload_last(const Network *network, ShapingDirection direction, uint64_t *ret_rate);
bool network_migrations_last(const Network *network, ShapingDirection direction,
                             uint64_t *ret_rate);

/* Likewise of all migrations together, smoothed over seconds. */
bool network_migrations_rate(const Network *network, ShapingDirection direction,
                             uint64_t *ret_rate);

/* Bytes that crossed the uplink since any moment, migrations among them. False: not read yet. */
bool network_link_bytes(const Network *network, ShapingDirection direction, uint64_t *ret_bytes);

/*
 * Makes plan stand; what somebody else changed is given up until network_unshape(), which is
 * seen within a second. Interface, direction, VLAN and link rate are filled in
 * here. Takes plan over (g_free). done (may be NULL) runs on the main loop.
 */
void network_shape(Network *network, ShapingDirection direction, ShapingPlan *plan,
                   NetworkShapeDone done, gpointer user_data);
void network_unshape(Network *network, ShapingDirection direction, NetworkShapeDone done,
                     gpointer user_data);

/*
 * Putting the classes up failed, as a slow tc may do once, and it is time to try again:
 * a few times only, and never what was refused.
 */
bool network_shaping_is_due(const Network *network, ShapingDirection direction, gint64 now_us);

/* A change of this direction, by us, is under way. */
bool network_is_busy(const Network *network, ShapingDirection direction);
bool network_is_shaped(const Network *network, ShapingDirection direction);
/* Shaped, or nothing known says that a plan handed over now would not stand. */
bool network_can_shape(const Network *network, ShapingDirection direction);
/* Why shaping was refused or failed last; NULL: it was not. */
const char *network_shaping_problem(const Network *network, ShapingDirection direction);
/* Microseconds that the last change took in the kernel's tools; 0 none yet. */
gint64 network_last_reshape_us(const Network *network, ShapingDirection direction);
