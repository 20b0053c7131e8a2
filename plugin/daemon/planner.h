/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Between the manager's records and the pure decision library: fills the input
 * structs from what is known and turns answers into plans. No side effects
 * beyond the arguments; the rules themselves are in decision/.
 */
#pragma once

#include "daemon/manager.h"

/*
 * Microseconds for which others, typed together with it, may still come; 0: it does not
 * wait for them. Longer once one has come. now_us: monotonic. See ScheduleItem.gathering.
 */
gint64 planner_gathering_left(const Manager *manager, const Migration *migration, gint64 now_us);

/* MiB, as libvirt's limits are, to bytes; at most what fits. */
uint64_t planner_bytes_of_mib(uint64_t mib);

/*
 * A RegistryCounts; data is the Manager. A VM counts where it runs: that is the
 * destination from the start of post-copy on.
 */
bool planner_limits_count_here(const DomainDescription *description, gconstpointer data);

/*
 * How the destination divides what comes in, beside those that leave here now: by the
 * same rule, with the link, limits and traffic that the peer told. False: it told too little.
 */
bool planner_reserve_there(const Manager *manager, const Migration *migration,
                           Reservation *ret_reservation);

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

/*
 * What each migration of that direction gets of the migrations class. ret_shares
 * is by leaf number, zeroed where there is none. record: it is put into a plan.
 */
void planner_allocate(const Manager *manager, ShapingDirection direction,
                      const Reservation *reservation, bool record,
                      AllocateShare ret_shares[SHAPING_MIGRATIONS_MAX + 1]);

/*
 * Milliseconds in which its memory must have moved: until its deadline, less the downtime
 * to come and libvirt's last phases. False: it has none.
 */
bool planner_time_left(const Migration *migration, gint64 now_us, int64_t *ret_ms);

/*
 * The classes of single VMs: those of this host with a lower limit and a MAC,
 * ordered by id, as many as there is room for; the rest stay in the common class.
 * Fills plan->vm with zeroed rests, so that two plans' arrays can be compared.
 */
void planner_fill_floors(const Manager *manager, const Reservation *reservation, ShapingPlan *plan);

/* A number that changes whenever one of them does. */
guint planner_floors_stamp(const ShapingPlan *plan);

/* Would a new plan differ enough (2 % of the link) to be worth a tc run? */
bool planner_reservation_differs(const Reservation *a, const Reservation *b, uint64_t link);

/* Likewise for a single migration's share of it, against the plan that stands. */
bool planner_shares_differ(const Manager *manager, ShapingDirection direction,
                           const Reservation *reservation);

/*
 * What QEMU should be limited to now; the caller's own limits are respected:
 * an open post-copy limit never exceeds a given pre-copy limit.
 */
bool planner_qemu_limits(const Manager *manager, const Migration *migration,
                         ReserveQemuLimits *ret_limits);

/*
 * Estimates when each waiting migration will start (start_expected_us), by what
 * is known of those before it.
 */
void planner_estimate_starts(Manager *manager);

/* The incoming migration to let in next; NULL: those that wait go on waiting. Not owned. */
Migration *planner_admit_incoming(Manager *manager);

/* It has connections beside those of its port: to libvirtd, or to where disks are copied. */
bool planner_has_other_ports(const Migration *migration);

/* The waiting migrations that may go now, first first. Not owned. */
GPtrArray *planner_schedule(Manager *manager);
