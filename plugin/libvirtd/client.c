/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls to virt-convoyd from libvirtd's threads; see client.h.
 */
#include "libvirtd/client.h"

#include <gio/gio.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "common/config.h"
#include "common/ipc.h"

#define TIMEOUT_MINIMUM 10u /* ms */
#define TIMEOUT_MAXIMUM 60000u
#define WAIT_TURN_ANSWER_TIME G_USEC_PER_SEC /* the daemon may take it by contract */
#define WAIT_TURN_PACE 100000                /* microseconds between two, at least */

static pthread_mutex_t connection_lock = PTHREAD_MUTEX_INITIALIZER;
static GDBusConnection *kept_connection;
static pid_t connection_owner;

static unsigned timeout_ms;

static void
read_timeout(void)
{
    const char *text = g_getenv("VIRT_CONVOY_TIMEOUT_MS");
    g_autoptr(Config) config = NULL;
    guint64 number;

    if (text == NULL ||
        !g_ascii_string_to_unsigned(text, 10, TIMEOUT_MINIMUM, TIMEOUT_MAXIMUM, &number, NULL)) {
        config = config_load(NULL, NULL);
        number = CLAMP(config->call_timeout, TIMEOUT_MINIMUM, TIMEOUT_MAXIMUM);
    }
    timeout_ms = (unsigned)number;
}

static unsigned
call_timeout(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, read_timeout);
    return timeout_ms;
}

ClientBudget
client_budget_new(void)
{
    return (ClientBudget){ .left = (gint64)call_timeout() * 1000 };
}

/* The kept connection if it stands; else NULL. The caller owns a reference. */
static GDBusConnection *
standing_connection(void)
{
    GDBusConnection *connection = NULL, *closed = NULL;

    pthread_mutex_lock(&connection_lock);
    if (connection_owner != getpid()) {
        /* A forked child: the worker thread is not here, leave all alone. */
        kept_connection = NULL;
        connection_owner = getpid();
    }
    if (kept_connection != NULL && g_dbus_connection_is_closed(kept_connection))
        closed = g_steal_pointer(&kept_connection);
    if (kept_connection != NULL)
        connection = g_object_ref(kept_connection);
    pthread_mutex_unlock(&connection_lock);
    g_clear_object(&closed);
    return connection;
}

static GDBusConnection *
get_connection(gint64 deadline)
{
    GDBusConnection *connection = standing_connection();
    GDBusConnection *superfluous = NULL;

    if (connection != NULL)
        return connection;
    connection = ipc_connect(NULL, deadline, NULL);
    if (connection == NULL)
        return NULL;
    pthread_mutex_lock(&connection_lock);
    if (kept_connection == NULL)
        kept_connection = g_object_ref(connection);
    else
        superfluous = g_steal_pointer(&connection);
    if (superfluous != NULL)
        connection = g_object_ref(kept_connection);
    pthread_mutex_unlock(&connection_lock);
    g_clear_object(&superfluous); /* closes it */
    return connection;
}

/* Others may be using it: forget it; it closes when they are done. */
static void
forget_connection(GDBusConnection *connection)
{
    GDBusConnection *forgotten = NULL;

    pthread_mutex_lock(&connection_lock);
    if (kept_connection == connection)
        forgotten = g_steal_pointer(&kept_connection);
    pthread_mutex_unlock(&connection_lock);
    g_clear_object(&forgotten);
}

/* The daemon is not to act on a call that nobody waits for any more. */
static GVariant *
with_deadline(GVariant *call, gint64 deadline)
{
    GVariantDict fields;

    g_variant_dict_init(&fields, call);
    g_variant_dict_insert(&fields, "deadline", "x", deadline);
    return g_variant_dict_end(&fields);
}

/* One call with a deadline; a kept connection that has just broken is replaced. */
static GVariant *
call_daemon(const char *method, GVariant *parameters, const char *reply_type, gint64 deadline)
{
    g_autoptr(GVariant) arguments = g_variant_ref_sink(parameters);
    GVariant *reply = NULL;
    bool broken = true;

    for (unsigned attempt = 0; attempt < 2 && reply == NULL && broken; attempt++) {
        g_autoptr(GDBusConnection) connection = get_connection(deadline);

        if (connection == NULL)
            return NULL;
        reply = ipc_call(connection, method, arguments, reply_type, deadline, NULL);
        broken = g_dbus_connection_is_closed(connection);
        if (reply == NULL)
            forget_connection(connection);
    }
    return reply;
}

GVariant *
client_enter_call(ClientBudget *budget, const char *entry, GVariant *call)
{
    g_autoptr(GVariant) fields = g_variant_ref_sink(call);
    gint64 start = g_get_monotonic_time();
    gint64 deadline = start + MAX(budget->left, 0);
    g_autoptr(GVariant) arguments =
        g_variant_ref_sink(g_variant_new("(s@a{sv})", entry, with_deadline(fields, deadline)));
    g_autoptr(GVariant) reply = NULL;
    GVariant *answer = NULL;

    if (budget->given_up || budget->left <= 0)
        return NULL;
    reply = call_daemon("EnterCall", arguments, "(a{sv})", deadline);
    budget->left -= g_get_monotonic_time() - start;
    if (reply == NULL) {
        budget->given_up = true;
        return NULL;
    }
    g_variant_get(reply, "(@a{sv})", &answer);
    return answer;
}

ClientTurn
client_wait_turn(ClientBudget *budget, uint64_t ticket, char **ret_message)
{
    gint64 start = g_get_monotonic_time(), spent;
    g_autoptr(GVariant) reply = NULL;
    const char *state, *message;

    if (budget->given_up)
        return CLIENT_TURN_FAILED;
    reply = call_daemon("WaitTurn", g_variant_new("(t)", (guint64)ticket), "(ss)",
                        start + MAX(budget->left, WAIT_TURN_ANSWER_TIME));
    spent = g_get_monotonic_time() - start;
    budget->left -= MAX(spent - WAIT_TURN_ANSWER_TIME, 0);
    if (reply == NULL) {
        budget->given_up = true;
        return CLIENT_TURN_FAILED;
    }
    g_variant_get(reply, "(&s&s)", &state, &message);
    if (strcmp(state, "go") == 0)
        return CLIENT_TURN_GO;
    if (strcmp(state, "aborted") == 0) {
        *ret_message = g_strndup(message, 512);
        return CLIENT_TURN_ABORTED;
    }
    if (strcmp(state, "waiting") != 0)
        return CLIENT_TURN_FAILED;
    /* A daemon that answers at once must not make us spin. */
    if (spent < WAIT_TURN_PACE)
        g_usleep((gulong)(WAIT_TURN_PACE - spent));
    return CLIENT_TURN_WAITING;
}

static void
send_about(const ClientBudget *budget, uint64_t ticket, const char *method, GVariant *parameters)
{
    g_autoptr(GVariant) arguments = g_variant_ref_sink(parameters);
    g_autoptr(GDBusConnection) connection = NULL;
    g_autoptr(GDBusMessage) message = NULL;

    if (ticket == 0 || budget->given_up)
        return;
    connection = standing_connection();
    if (connection == NULL)
        return;
    message = g_dbus_message_new_method_call(NULL, IPC_OBJECT_PATH, IPC_INTERFACE, method);
    g_dbus_message_set_flags(message, G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED);
    g_dbus_message_set_body(message, arguments);
    g_dbus_connection_send_message(connection, message, G_DBUS_SEND_MESSAGE_FLAGS_NONE, NULL, NULL);
}

void
client_leave_call(const ClientBudget *budget, const char *entry, uint64_t ticket, GVariant *result)
{
    send_about(budget, ticket, "LeaveCall",
               g_variant_new("(st@a{sv})", entry, (guint64)ticket, result));
}

void
client_notify_port(const ClientBudget *budget, uint64_t ticket, unsigned port)
{
    send_about(budget, ticket, "NotifyPort", g_variant_new("(tu)", (guint64)ticket, port));
}

/* Methods that take a held call's UUID and say whether there was one. */
static bool
call_about_waiting(const char *method, const char *uuid)
{
    gint64 deadline = g_get_monotonic_time() + (gint64)call_timeout() * 500;
    g_autoptr(GVariant) reply = call_daemon(method, g_variant_new("(s)", uuid), "(b)", deadline);
    gboolean was_waiting = FALSE;

    if (reply != NULL)
        g_variant_get(reply, "(b)", &was_waiting);
    return was_waiting != FALSE;
}

bool
client_abort_waiting(const char *uuid)
{
    return call_about_waiting("AbortWaiting", uuid);
}

bool
client_release_waiting(const char *uuid)
{
    return call_about_waiting("ReleaseWaiting", uuid);
}
