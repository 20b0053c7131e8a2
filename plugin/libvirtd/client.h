/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon as libvirtd's threads see it: asked within a budget, or absent.
 *
 * One connection is kept and made anew when it is closed; after a call that
 * got no answer in time it is dropped, and the migration that met this is not
 * asked about again. Nothing here calls libvirt or holds a lock while it
 * waits. Every failure means: go on without the daemon.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* What the daemon may still cost one migration. */
typedef struct {
    gint64 left;   /* microseconds */
    bool given_up; /* a call failed: the daemon is not asked again */
} ClientBudget;

/* A full budget: $VIRT_CONVOY_TIMEOUT_MS, else call-timeout of the configuration. */
ClientBudget client_budget_new(void);

/* EnterCall. call is consumed when floating. NULL: no answer. */
GVariant *client_enter_call(ClientBudget *budget, const char *entry, GVariant *call);

typedef enum {
    CLIENT_TURN_WAITING,
    CLIENT_TURN_GO,
    CLIENT_TURN_ABORTED, /* *ret_message says why; free with g_free */
    CLIENT_TURN_FAILED,  /* no answer: go on as the user asked */
} ClientTurn;

/*
 * WaitTurn. One second is the daemon's by contract; what it takes beyond is charged to the
 * budget, and it has no more than what is left of that, or the second.
 */
ClientTurn client_wait_turn(ClientBudget *budget, uint64_t ticket, char **ret_message);

/*
 * LeaveCall, sent without waiting for the answer (which is empty) and only over
 * a connection that stands: a new daemon would not know the ticket.
 */
void client_leave_call(const ClientBudget *budget, const char *entry, uint64_t ticket,
                       GVariant *result);

/* NotifyPort, sent in the same way. */
void client_notify_port(const ClientBudget *budget, uint64_t ticket, unsigned port);

/* AbortWaiting: whether the daemon ended a held call of this domain. */
bool client_abort_waiting(const char *uuid);

/* ReleaseWaiting: whether a held call of this domain goes on now, before its turn. */
bool client_release_waiting(const char *uuid);
