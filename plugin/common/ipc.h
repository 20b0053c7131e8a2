/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The private unix socket between virt-convoyd and its clients.
 *
 * Peer-to-peer D-Bus, no bus. The client side runs inside libvirtd: every step
 * (connect, authentication, call) ends at the caller's deadline, nothing here
 * iterates the process's main context, touches signals or keeps state, and any
 * thread may call. A socket that does not belong to root (or to the calling user) is
 * treated as absent. A failure is an ordinary answer: the caller goes on
 * without the daemon.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/ipc_socket.h"

#define IPC_GROUP "libvirt" /* may read GetStatus and Explain */

/* Monotonic microseconds, timeout_ms from now; for the deadline arguments. */
gint64 ipc_deadline(unsigned timeout_ms);

/*
 * Connects and authenticates before deadline (g_get_monotonic_time). path NULL:
 * ipc_socket_path. Errors: G_IO_ERROR_NOT_FOUND (no socket, wrong owner: no
 * daemon here), G_IO_ERROR_TIMED_OUT, or what the connection says. The daemon
 * may not call back on it; exit-on-close is off. Cost: about 1 ms.
 */
GDBusConnection *ipc_connect(const char *path, gint64 deadline, GError **error);

/*
 * Calls a method of IPC_INTERFACE and waits for the reply until deadline.
 * parameters is consumed when floating. A deadline that has passed fails with
 * G_IO_ERROR_TIMED_OUT without sending anything.
 */
GVariant *ipc_call(GDBusConnection *connection, const char *method, GVariant *parameters,
                   const char *reply_type, gint64 deadline, GError **error);

/* connect, call, close. */
GVariant *ipc_call_once(const char *path, const char *method, GVariant *parameters,
                        const char *reply_type, gint64 deadline, GError **error);

typedef enum {
    IPC_ACCESS_NONE = 0,
    IPC_ACCESS_READ,   /* members of the group libvirt */
    IPC_ACCESS_CHANGE, /* root, or the user that runs the daemon */
} IpcAccess;

/* What the peer at the other end of a server-side connection may do. */
IpcAccess ipc_peer_access(GDBusConnection *connection);

/* What a method needs; an unknown method needs IPC_ACCESS_CHANGE. */
IpcAccess ipc_method_access(const char *method);

/*
 * A server on path (NULL: ipc_socket_path), not yet started; only peers with
 * at least IPC_ACCESS_READ get through authentication. Makes the folder (0755)
 * when missing and replaces a stale socket; fails with G_IO_ERROR_EXISTS when
 * another daemon answers there. The socket has mode 0660 and the group libvirt
 * where that group exists. Connect "new-connection" before starting it, and run
 * the default main context: GDBus reports closed connections there only. Changes
 * the umask for a moment: call it before there are threads that make files.
 */
GDBusServer *ipc_server_new(const char *path, GError **error);

/*
 * Exports skeleton so that callers without the access are refused. Keeps the
 * connection alive until the peer closes it; the caller needs no reference.
 */
bool ipc_export(GDBusConnection *connection, GDBusInterfaceSkeleton *skeleton, GError **error);

/*
 * The number under key of an a{sv}, in any of the types that libvirt's typed
 * parameters have (t, u, x, i). 0: absent, of another type, or not positive.
 */
uint64_t ipc_lookup_number(GVariant *dictionary, const char *key);
