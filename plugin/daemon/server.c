/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The D-Bus server; see server.h. */
#include "daemon/server.h"

#include "common/ipc.h"
#include "common/log.h"
#include "daemon/calls.h"
#include "daemon/report.h"

#include <glib/gstdio.h>

/* libvirtd has 20 workers by default, and one connection each is enough. */
#define CONNECTIONS_MAXIMUM 256u
/* Who may only read must not take the places of the plugin. */
#define READERS_MAXIMUM 64u

struct Server {
    Manager *manager;
    GDBusServer *server;
    GPtrArray *peers; /* Peer */
    char *path;
};

typedef struct {
    Server *server;
    GDBusConnection *connection;
    ConvoyDaemon1 *skeleton;
    bool reader;
} Peer;

static gboolean
handle_enter_call(ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation, const char *entry,
                  GVariant *call, gpointer data)
{
    calls_enter(((Server *)data)->manager, skeleton, invocation, entry, call);
    return TRUE;
}

static gboolean
handle_wait_turn(ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation, guint64 ticket,
                 gpointer data)
{
    calls_wait_turn(((Server *)data)->manager, skeleton, invocation, ticket);
    return TRUE;
}

static gboolean
handle_leave_call(ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation, const char *entry,
                  guint64 ticket, GVariant *result, gpointer data)
{
    calls_leave(((Server *)data)->manager, skeleton, invocation, entry, ticket, result);
    return TRUE;
}

static gboolean
handle_notify_port(ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation, guint64 ticket,
                   guint port, gpointer data)
{
    calls_notify_port(((Server *)data)->manager, skeleton, invocation, ticket, port);
    return TRUE;
}

static gboolean
handle_abort_waiting(ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation, const char *uuid,
                     gpointer data)
{
    calls_abort_waiting(((Server *)data)->manager, skeleton, invocation, uuid);
    return TRUE;
}

static gboolean
handle_release_waiting(ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation, const char *uuid,
                       gpointer data)
{
    calls_release_waiting(((Server *)data)->manager, skeleton, invocation, uuid);
    return TRUE;
}

static gboolean
handle_notify_hook(ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation, const char *domain,
                   const char *operation, const char *sub_operation, const char *xml, gpointer data)
{
    calls_notify_hook(((Server *)data)->manager, skeleton, invocation, domain, operation,
                      sub_operation, xml);
    return TRUE;
}

static gboolean
handle_get_status(ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation, gpointer data)
{
    g_autofree char *status = report_status(((Server *)data)->manager);

    convoy_daemon1_complete_get_status(skeleton, invocation, status);
    return TRUE;
}

static gboolean
handle_explain(ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation, const char *domain,
               gpointer data)
{
    g_autofree char *explanation = report_explain(((Server *)data)->manager, domain);

    convoy_daemon1_complete_explain(skeleton, invocation, explanation);
    return TRUE;
}

static void
peer_free(gpointer data)
{
    Peer *peer = data;

    g_signal_handlers_disconnect_by_data(peer->connection, peer);
    g_dbus_interface_skeleton_unexport(G_DBUS_INTERFACE_SKELETON(peer->skeleton));
    g_object_unref(peer->skeleton);
    g_dbus_connection_close(peer->connection, NULL, NULL, NULL);
    g_object_unref(peer->connection);
    g_free(peer);
}

static void
on_closed(GDBusConnection *connection G_GNUC_UNUSED, gboolean vanished G_GNUC_UNUSED,
          GError *error G_GNUC_UNUSED, gpointer data)
{
    Peer *peer = data;

    g_ptr_array_remove_fast(peer->server->peers, peer);
}

static unsigned
server_readers(const Server *server)
{
    unsigned count = 0;

    for (guint i = 0; i < server->peers->len; i++)
        count += ((const Peer *)g_ptr_array_index(server->peers, i))->reader;
    return count;
}

static gboolean
on_new_connection(GDBusServer *dbus_server G_GNUC_UNUSED, GDBusConnection *connection,
                  gpointer data)
{
    Server *server = data;
    bool reader = ipc_peer_access(connection) < IPC_ACCESS_CHANGE;
    unsigned limit = reader ? READERS_MAXIMUM : CONNECTIONS_MAXIMUM;
    g_autoptr(GError) error = NULL;
    Peer *peer;

    if (server->peers->len >= CONNECTIONS_MAXIMUM || (reader && server_readers(server) >= limit)) {
        log_event(CONFIG_LOG_WARNING, "connection-refused", "limit: %u", limit);
        return FALSE;
    }
    peer = g_new0(Peer, 1);
    peer->server = server;
    peer->reader = reader;
    peer->connection = g_object_ref(connection);
    peer->skeleton = convoy_daemon1_skeleton_new();
    g_signal_connect(peer->skeleton, "handle-enter-call", G_CALLBACK(handle_enter_call), server);
    g_signal_connect(peer->skeleton, "handle-wait-turn", G_CALLBACK(handle_wait_turn), server);
    g_signal_connect(peer->skeleton, "handle-leave-call", G_CALLBACK(handle_leave_call), server);
    g_signal_connect(peer->skeleton, "handle-notify-port", G_CALLBACK(handle_notify_port), server);
    g_signal_connect(peer->skeleton, "handle-abort-waiting", G_CALLBACK(handle_abort_waiting),
                     server);
    g_signal_connect(peer->skeleton, "handle-release-waiting", G_CALLBACK(handle_release_waiting),
                     server);
    g_signal_connect(peer->skeleton, "handle-notify-hook", G_CALLBACK(handle_notify_hook), server);
    g_signal_connect(peer->skeleton, "handle-get-status", G_CALLBACK(handle_get_status), server);
    g_signal_connect(peer->skeleton, "handle-explain", G_CALLBACK(handle_explain), server);
    g_signal_connect(connection, "closed", G_CALLBACK(on_closed), peer);
    g_ptr_array_add(server->peers, peer);
    if (!ipc_export(connection, G_DBUS_INTERFACE_SKELETON(peer->skeleton), &error)) {
        log_event(CONFIG_LOG_WARNING, "export-failed", "reason: %s", error->message);
        g_ptr_array_remove_fast(server->peers, peer);
        return FALSE;
    }
    return TRUE;
}

Server *
server_new(Manager *manager, const char *socket_path, GError **error)
{
    g_autoptr(Server) server = g_new0(Server, 1);

    server->manager = manager;
    server->path = g_strdup(socket_path ? socket_path : ipc_socket_path());
    server->peers = g_ptr_array_new_with_free_func(peer_free);
    server->server = ipc_server_new(server->path, error);
    if (server->server == NULL)
        return NULL;
    g_signal_connect(server->server, "new-connection", G_CALLBACK(on_new_connection), server);
    g_dbus_server_start(server->server);
    return g_steal_pointer(&server);
}

void
server_free(Server *server)
{
    if (server == NULL)
        return;
    if (server->server != NULL) {
        g_dbus_server_stop(server->server);
        g_object_unref(server->server);
        g_unlink(server->path);
    }
    g_ptr_array_unref(server->peers);
    g_free(server->path);
    g_free(server);
}
