/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the manager*.c files share; nobody else includes this. */
#pragma once

#include "daemon/manager.h"

/* Callbacks of slow work name their migration by ticket: it may have ended. */
typedef struct {
    Manager *manager;
    uint64_t ticket;
    guint64 number;
} Reference;

/* Free with g_free. */
Reference *reference_new(Manager *manager, const Migration *migration);
/* NULL when it has ended. */
Migration *reference_active(const Reference *reference);

/* Chooses the technique anew, and writes down what was known and what came of it. */
TechniqueDecision manager_decide_recorded(Manager *manager, Migration *migration);

/* The dirty curve was measured anew: does the predictor still expect an end? */
void manager_reconsider(Manager *manager, Migration *migration);

/*
 * After each reading of a source's job: while it is pre-copy, asks decision/converge.h whether it
 * ends, and does what that says.
 */
void manager_converge(Manager *manager, Migration *migration);
/* The job was read since a pass ended, or could not be: hybrid may switch. */
void manager_pass_was_read(Manager *manager, Migration *migration);

/* It goes on, whoever did it; nothing when it was not broken. */
void manager_post_copy_goes_on(Migration *migration, const char *how);
/* For a daemon that starts again; until manager_forget_post_copy(). Sources only. */
void manager_store_post_copy(const Manager *manager, Migration *migration);
void manager_forget_post_copy(const Manager *manager, Migration *migration);
/* Goes on with what an earlier daemon left in post-copy; after each connecting to libvirt. */
void manager_take_up_post_copies(Manager *manager);
/* Called every second for each source in post-copy: tries to resume a broken one. */
void manager_recover(Manager *manager, Migration *migration, gint64 now_us);

/* Hands migration->limits to its QEMU, except what the caller limited. Sources only. */
void manager_tell_limits(Manager *manager, Migration *migration);

/* Takes back what libvirt would keep for the domain's next migration; nothing is fine. */
void manager_lift_speed(Manager *manager, const char *uuid);
/* Likewise of those whose migration nobody follows, such as an earlier daemon's, if it has ended.
 */
void manager_lift_speeds(Manager *manager);
/*
 * Before the daemon stops: all of them, also of migrations that go on. Nobody would raise
 * those again, and one that crawled at its share of a moment ago might never end.
 */
void manager_lift_all_speeds(Manager *manager);

/* Writes into the logs of direction's migrations what becomes of their deadlines. */
void manager_tell_deadlines(Manager *manager, ShapingDirection direction,
                            const Reservation *reservation);

/* Learns from its end, then writes the history record; once. */
void manager_remember(Manager *manager, Migration *migration);

/* An ended migration that went as it was predicted to go teaches the next prediction. */
void manager_learn(Manager *manager, Migration *migration);

/* After each reading of a source's job: how much its connections move, and what there was for it.
 */
void manager_meter_streams(const Manager *manager, Migration *migration);
/* What they reached at best, into the lesson. */
void manager_lesson_streams(const Migration *migration, Lesson *lesson);
/* Bytes/s that the lesson's connections together could not exceed; 0: they filled what there was.
 */
uint64_t manager_streams_own_rate(const Lesson *lesson);

/* Takes our element out of the domain's metadata, in the background; absent is fine. */
void manager_remove_offer(Manager *manager, const char *uuid, const char *name);

/*
 * One step of what is held for the workload, by reserve_follow_demand(): measured, bytes/s,
 * where valid, in elapsed_ms. The direction has a reservation.
 */
void manager_hold_demand(Manager *manager, ShapingDirection direction, bool valid,
                         uint64_t measured, uint64_t elapsed_ms);

/*
 * Where no classes count the workload and lend what it leaves, QEMU's limits follow it all
 * the same, some seconds later. To be called at each tick.
 */
void manager_follow_unshaped(Manager *manager, gint64 now_us);

/* NetworkTickFunc; data is the Manager. */
void manager_tick(gint64 now_us, gpointer data);

/* number: the pass whose beginning is asked for; 0: just a look. */
void manager_poll(Manager *manager, Migration *migration, unsigned number);

/* The destination's word, or why there is none: a p2p technique is final now. */
void manager_offer_answered(Manager *manager, Migration *migration, const char *problem);

/* Asks for all that run here; what libvirt cannot tell now is asked for again. */
void manager_list_domains(Manager *manager);

/* HypervisorEventFunc; data is the Manager. */
void manager_event(const HypervisorEvent *event, gpointer data);
