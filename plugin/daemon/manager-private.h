/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What manager.c, manager-loop.c and manager-events.c share; nobody else
 * includes this.
 */
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

/* Dirtying faster than expected: post-copy while it is possible, never back. */
void manager_reconsider(Manager *manager, Migration *migration);

/* Makes direction's classes fit what transfers now. done may be NULL. */
void manager_reshape(Manager *manager, ShapingDirection direction, NetworkShapeDone done,
                     gpointer user_data);

/* Learns from its end, then writes the history record; once. */
void manager_remember(Manager *manager, Migration *migration);

/* An ended migration that went as it was predicted to go teaches the next prediction. */
void manager_learn(Manager *manager, Migration *migration);

/* Takes our element out of the domain's metadata, in the background; absent is fine. */
void manager_remove_offer(Manager *manager, const char *uuid, const char *name);

/* NetworkTickFunc; data is the Manager. */
void manager_tick(gint64 now_us, gpointer data);

/* number: the pass whose beginning is asked for; 0: just a look. */
void manager_poll(Manager *manager, Migration *migration, unsigned number);

/* The destination's word, or why there is none: a p2p technique is final now. */
void manager_offer_answered(Manager *manager, Migration *migration, const char *problem);

/* HypervisorEventFunc; data is the Manager. */
void manager_event(const HypervisorEvent *event, gpointer data);
