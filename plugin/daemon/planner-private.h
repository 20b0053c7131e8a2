/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the planner*.c files share; nobody else includes this. */
#pragma once

#include "daemon/planner.h"

/* a - b, not below 0. */
uint64_t planner_subtract(uint64_t a, uint64_t b);

/*
 * Bytes of this pass that are still to be sent, by QEMU's word, and in the first pass without
 * the zero pages that were foreseen. Where its statistics are valid.
 */
uint64_t planner_left(const Migration *migration);

/* It transfers now in that direction and has a place in the plan. */
bool planner_is_on_side(const Migration *migration, ShapingDirection direction);

/*
 * An SLA limit is what an application may count on in every second. A class
 * counts Ethernet, IP and TCP headers too (66 of 1514 bytes), and holds its rate
 * on average only: a class of exactly the limit gives a little less.
 */
uint64_t planner_add_headroom(uint64_t rate);

/* Bytes/s that all its connections can carry together in pre-copy; 0: no bound is known. */
uint64_t planner_streams_rate(const Manager *manager, const Migration *migration);

/*
 * Bytes/s that a running one reaches now, where that is known to leave room; 0: it is not.
 * One that waits for its turn has what others leave: it is not what keeps the next one
 * from starting. High priority leaves nothing: what it may reach again is its own.
 */
uint64_t planner_stream_reached(const Migration *migration, gint64 now_us);

/*
 * What it counts where a direction is divided. What is left counts with the same
 * headroom as an SLA: classes count headers. libvirt has no statistics at the
 * destination, so that its need is constant: the whole memory within the whole time,
 * and a margin.
 */
AllocateItem planner_allocation_item(const Manager *manager, const Migration *migration,
                                     gint64 now_us);

/* For how long it has waited for its turn; time in its turn counts against it. */
gint64 planner_waited_us(const Migration *migration, gint64 now_us);

/* Do they go to different hosts? Not where either is unknown. */
bool planner_peers_differ(const Migration *migration, const Migration *other);

/*
 * How it gets along with the others, see allocate.h: it takes turns where
 * its flows can be told apart from theirs. QEMU throttles a guest with auto-converge
 * for what comes slowly: that one keeps its share.
 */
AllocateTurn planner_turn(const Manager *manager, const Migration *migration);

/* Monotonic: when it could go on; now for one that waits. The order of turns. */
gint64 planner_turn_came_us(const Migration *migration, gint64 now_us);
