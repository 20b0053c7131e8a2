/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Between the manager's records and the pure decision library: fills the input
 * structs from what is known and turns answers into plans. No side effects
 * beyond the arguments; the rules themselves are in decision/.
 */
#pragma once

#include "daemon/manager.h"

/* Everything technique_decide() wants to know of this migration now. */
void planner_technique_input(const Manager *manager, Migration *migration,
                             TechniqueInput *ret_input);

/*
 * What the migration may use from now on, bytes/s, in pre-copy or post-copy: its
 * share beside the others that leave this host, until each is expected to end.
 */
RateProfile planner_rate_profile(const Manager *manager, const Migration *migration,
                                 bool post_copy);

/* Migrations that transfer now in that direction and have a place in the plan. */
unsigned planner_count(const Manager *manager, ShapingDirection direction);

/* Classes, leaves and filters; interface and link rate are network.h's. */
void planner_fill_plan(const Manager *manager, ShapingDirection direction,
                       const Reservation *reservation, ShapingPlan *plan);

/* Would a new plan differ enough (2 % of the link) to be worth a tc run? */
bool planner_reservation_differs(const Reservation *a, const Reservation *b, uint64_t link);

/*
 * What QEMU should be limited to now; the caller's own limits are respected:
 * an open post-copy limit never exceeds a given pre-copy limit.
 */
bool planner_qemu_limits(Manager *manager, const Migration *migration,
                         ReserveQemuLimits *ret_limits);

/* The waiting migrations that may go now, first first. Not owned. */
GPtrArray *planner_schedule(Manager *manager);
