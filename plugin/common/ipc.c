/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Both ends of the daemon's socket. GDBus does the wire format; what is added
 * is that nobody waits longer than his deadline and that each side looks at
 * who the other one is.
 */
#include "common/ipc.h"

#include <errno.h>
#include <gio/gunixsocketaddress.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define GROUPS_MAXIMUM 1024u
#define GROUP_BUFFER_SIZE 65536u
#define PROBE_TIMEOUT_MS 500u

gint64
ipc_deadline(unsigned timeout_ms)
{
    return g_get_monotonic_time() + (gint64)timeout_ms * 1000;
}

/* Microseconds left; 0 when the deadline has passed. */
static gint64
deadline_left(gint64 deadline)
{
    const gint64 left = deadline - g_get_monotonic_time();

    return left > 0 ? left : 0;
}

static bool
fail_timed_out(GError **error, const char *what)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "virt-convoyd: %s took too long", what);
    return false;
}

static bool
fail_errno(GError **error, const char *path, const char *what, int code)
{
    /* Nobody listens: the same as no socket at all. */
    const int kind =
        code == ECONNREFUSED ? (int)G_IO_ERROR_NOT_FOUND : (int)g_io_error_from_errno(code);

    g_set_error(error, G_IO_ERROR, kind, "%s: %s: %s", path, what, g_strerror(code));
    return false;
}

static bool
address_fill(const char *path, struct sockaddr_un *ret_address, GError **error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if (strlen(path) >= sizeof address.sun_path || *path != '/') {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "%s: a socket path must be absolute and shorter than %" G_GSIZE_FORMAT " bytes",
                    path, sizeof address.sun_path);
        return false;
    }
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    *ret_address = address;
    return true;
}

/*
 * Linux bounds the wait for a place in the listener's queue by the socket's
 * send timeout, so a daemon that accepts nobody costs no more than that.
 */
static int
socket_connect(const char *path, gint64 deadline, GError **error)
{
    const gint64 left = deadline_left(deadline);
    const struct timeval limit = { .tv_sec = left / G_USEC_PER_SEC,
                                   .tv_usec = left % G_USEC_PER_SEC };
    struct sockaddr_un address;
    int descriptor, problem;

    if (left == 0) {
        fail_timed_out(error, "connecting");
        return -1;
    }
    if (!address_fill(path, &address, error))
        return -1;
    problem = ipc_socket_check(path);
    if (problem == -EPERM) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    "%s: not a socket of root; treated as absent", path);
        return -1;
    }
    if (problem < 0) {
        fail_errno(error, path, "no daemon", -problem);
        return -1;
    }
    descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) {
        fail_errno(error, path, "socket", errno);
        return -1;
    }
    if (setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0 ||
        connect(descriptor, (const struct sockaddr *)&address, sizeof address) < 0) {
        const int code = errno;

        close(descriptor);
        if (code == EAGAIN || code == EWOULDBLOCK)
            fail_timed_out(error, "accepting a connection");
        else
            fail_errno(error, path, "connect", code);
        return -1;
    }
    /* The file may have been exchanged since: ask who really listens. */
    if (!ipc_listener_trusted(descriptor)) {
        close(descriptor);
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    "%s: not served by root; treated as absent", path);
        return -1;
    }
    return descriptor;
}

/* Cancels at the deadline what has no timeout of its own. */
typedef struct {
    GMutex lock;
    GCond changed;
    bool done;
    bool expired;
    gint64 deadline;
    GCancellable *cancellable;
} Watchdog;

static gpointer
watchdog_run(gpointer data)
{
    Watchdog *watchdog = data;

    g_mutex_lock(&watchdog->lock);
    while (!watchdog->done && !watchdog->expired)
        watchdog->expired =
            !g_cond_wait_until(&watchdog->changed, &watchdog->lock, watchdog->deadline);
    if (watchdog->done)
        watchdog->expired = false;
    g_mutex_unlock(&watchdog->lock);
    if (watchdog->expired)
        g_cancellable_cancel(watchdog->cancellable);
    return NULL;
}

/* GDBus's authentication can only be cancelled from another thread. */
static GDBusConnection *
stream_authenticate(GIOStream *stream, gint64 deadline, GError **error)
{
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    Watchdog watchdog = { .deadline = deadline, .cancellable = cancellable };
    GDBusConnection *connection;
    GThread *thread;

    g_mutex_init(&watchdog.lock);
    g_cond_init(&watchdog.changed);
    thread = g_thread_try_new("convoy-deadline", watchdog_run, &watchdog, error);
    if (thread == NULL) {
        g_mutex_clear(&watchdog.lock);
        g_cond_clear(&watchdog.changed);
        return NULL;
    }
    connection = g_dbus_connection_new_sync(
        stream, NULL, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL, cancellable, error);
    g_mutex_lock(&watchdog.lock);
    watchdog.done = true;
    g_cond_signal(&watchdog.changed);
    g_mutex_unlock(&watchdog.lock);
    g_thread_join(thread);
    g_mutex_clear(&watchdog.lock);
    g_cond_clear(&watchdog.changed);
    if (connection == NULL && watchdog.expired) {
        g_clear_error(error);
        fail_timed_out(error, "authentication");
    }
    return connection;
}

GDBusConnection *
ipc_connect(const char *path, gint64 deadline, GError **error)
{
    g_autoptr(GSocket) gsocket = NULL;
    g_autoptr(GSocketConnection) stream = NULL;
    GDBusConnection *connection;
    int descriptor;

    if (path == NULL)
        path = ipc_socket_path();
    descriptor = socket_connect(path, deadline, error);
    if (descriptor < 0)
        return NULL;
    gsocket = g_socket_new_from_fd(descriptor, error);
    if (gsocket == NULL) {
        close(descriptor);
        return NULL;
    }
    stream = g_socket_connection_factory_create_connection(gsocket);
    connection = stream_authenticate(G_IO_STREAM(stream), deadline, error);
    if (connection != NULL)
        g_dbus_connection_set_exit_on_close(connection, FALSE);
    return connection;
}

GVariant *
ipc_call(GDBusConnection *connection, const char *method, GVariant *parameters,
         const char *reply_type, gint64 deadline, GError **error)
{
    g_autoptr(GVariant) owned = parameters != NULL ? g_variant_ref_sink(parameters) : NULL;
    const gint64 left = deadline_left(deadline) / 1000;

    /* GDBus reads a timeout of 0 as none of the caller's business. */
    if (left == 0) {
        fail_timed_out(error, method);
        return NULL;
    }
    return g_dbus_connection_call_sync(
        connection, NULL, IPC_OBJECT_PATH, IPC_INTERFACE, method, owned,
        reply_type != NULL ? G_VARIANT_TYPE(reply_type) : NULL, G_DBUS_CALL_FLAGS_NONE,
        (int)MIN(left, G_MAXINT), NULL, error);
}

GVariant *
ipc_call_once(const char *path, const char *method, GVariant *parameters, const char *reply_type,
              gint64 deadline, GError **error)
{
    g_autoptr(GVariant) owned = parameters != NULL ? g_variant_ref_sink(parameters) : NULL;
    g_autoptr(GDBusConnection) connection = ipc_connect(path, deadline, error);

    if (connection == NULL)
        return NULL;
    /* Dropping the last reference closes the socket without waiting. */
    return ipc_call(connection, method, owned, reply_type, deadline, error);
}

/* The group's number; false when the host has no such group. */
static bool
group_find(const char *name, gid_t *ret_gid)
{
    g_autofree char *buffer = g_malloc(GROUP_BUFFER_SIZE);
    struct group entry;
    struct group *found = NULL;

    if (getgrnam_r(name, &entry, buffer, GROUP_BUFFER_SIZE, &found) != 0 || found == NULL)
        return false;
    *ret_gid = found->gr_gid;
    return true;
}

/* The kernel's answer about the process at connect time, supplementary groups too. */
static bool
peer_in_group(int descriptor, const struct ucred *peer, gid_t group)
{
    g_autofree gid_t *groups = g_new(gid_t, GROUPS_MAXIMUM);
    socklen_t size = GROUPS_MAXIMUM * (socklen_t)sizeof *groups;

    if (peer->gid == group)
        return true;
    if (getsockopt(descriptor, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
        return false;
    for (size_t i = 0; i < size / sizeof *groups; i++) {
        if (groups[i] == group)
            return true;
    }
    return false;
}

static IpcAccess
stream_access(GIOStream *stream)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    gid_t group;
    int descriptor;

    if (!G_IS_SOCKET_CONNECTION(stream))
        return IPC_ACCESS_NONE;
    descriptor = g_socket_get_fd(g_socket_connection_get_socket(G_SOCKET_CONNECTION(stream)));
    if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return IPC_ACCESS_NONE;
    if (ipc_owner_trusted(peer.uid))
        return IPC_ACCESS_CHANGE;
    if (group_find(IPC_GROUP, &group) && peer_in_group(descriptor, &peer, group))
        return IPC_ACCESS_READ;
    return IPC_ACCESS_NONE;
}

IpcAccess
ipc_peer_access(GDBusConnection *connection)
{
    return stream_access(g_dbus_connection_get_stream(connection));
}

IpcAccess
ipc_method_access(const char *method)
{
    static const char *const readers[] = { "GetStatus", "Explain", NULL };

    return g_strv_contains(readers, method) ? IPC_ACCESS_READ : IPC_ACCESS_CHANGE;
}

static gboolean
mechanism_allow(GDBusAuthObserver *observer, const char *mechanism, gpointer data)
{
    (void)observer;
    (void)data;
    return strcmp(mechanism, "EXTERNAL") == 0;
}

static gboolean
peer_authorize(GDBusAuthObserver *observer, GIOStream *stream, GCredentials *credentials,
               gpointer data)
{
    (void)observer;
    (void)credentials;
    (void)data;
    return stream_access(stream) != IPC_ACCESS_NONE;
}

/* Removes a socket that nobody serves; anything else in the way is an error. */
static bool
stale_socket_remove(const char *path, GError **error)
{
    g_autoptr(GError) ignored = NULL;
    struct stat status;
    int descriptor;

    if (lstat(path, &status) < 0)
        return errno == ENOENT || fail_errno(error, path, "stat", errno);
    if (!S_ISSOCK(status.st_mode)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS,
                    "%s: exists and is not a socket; remove it", path);
        return false;
    }
    descriptor = socket_connect(path, ipc_deadline(PROBE_TIMEOUT_MS), &ignored);
    if (descriptor >= 0)
        close(descriptor);
    if (descriptor >= 0 || g_error_matches(ignored, G_IO_ERROR, G_IO_ERROR_TIMED_OUT)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS, "%s: another virt-convoyd answers there",
                    path);
        return false;
    }
    return unlink(path) == 0 || fail_errno(error, path, "unlink", errno);
}

GDBusServer *
ipc_server_new(const char *path, GError **error)
{
    g_autoptr(GDBusAuthObserver) observer = g_dbus_auth_observer_new();
    g_autoptr(GDBusServer) server = NULL;
    g_autofree char *folder = NULL;
    g_autofree char *escaped = NULL;
    g_autofree char *address = NULL;
    g_autofree char *guid = g_dbus_generate_guid();
    struct sockaddr_un checked;
    mode_t mask;
    gid_t group;

    if (path == NULL)
        path = ipc_socket_path();
    if (!address_fill(path, &checked, error))
        return NULL;
    folder = g_path_get_dirname(path);
    if (g_mkdir_with_parents(folder, 0755) < 0) {
        fail_errno(error, folder, "mkdir", errno);
        return NULL;
    }
    if (!stale_socket_remove(path, error))
        return NULL;
    g_signal_connect(observer, "allow-mechanism", G_CALLBACK(mechanism_allow), NULL);
    g_signal_connect(observer, "authorize-authenticated-peer", G_CALLBACK(peer_authorize), NULL);
    escaped = g_dbus_address_escape_value(path);
    address = g_strconcat("unix:path=", escaped, NULL);
    /* Nobody else may connect before the socket has its group and mode. */
    mask = umask(0177);
    server = g_dbus_server_new_sync(address, G_DBUS_SERVER_FLAGS_NONE, guid, observer, NULL, error);
    umask(mask);
    if (server == NULL)
        return NULL;
    if (group_find(IPC_GROUP, &group) && geteuid() == 0 && chown(path, (uid_t)-1, group) < 0) {
        fail_errno(error, path, "chown", errno);
        return NULL;
    }
    if (chmod(path, 0660) < 0) {
        fail_errno(error, path, "chmod", errno);
        return NULL;
    }
    return g_steal_pointer(&server);
}

static gboolean
method_authorize(GDBusInterfaceSkeleton *skeleton, GDBusMethodInvocation *invocation, gpointer data)
{
    GDBusConnection *connection = g_dbus_method_invocation_get_connection(invocation);
    const char *method = g_dbus_method_invocation_get_method_name(invocation);

    (void)skeleton;
    (void)data;
    if (ipc_peer_access(connection) >= ipc_method_access(method))
        return TRUE;
    g_dbus_method_invocation_return_error(invocation, G_DBUS_ERROR, G_DBUS_ERROR_ACCESS_DENIED,
                                          "%s: only root may call this", method);
    return FALSE;
}

static void
connection_closed(GDBusConnection *connection, gboolean vanished, GError *error, gpointer data)
{
    GDBusInterfaceSkeleton *skeleton = data;

    (void)vanished;
    (void)error;
    if (g_dbus_interface_skeleton_has_connection(skeleton, connection))
        g_dbus_interface_skeleton_unexport_from_connection(skeleton, connection);
}

bool
ipc_export(GDBusConnection *connection, GDBusInterfaceSkeleton *skeleton, GError **error)
{
    /* One skeleton serves every connection: it gets one handler. */
    if (g_signal_handler_find(skeleton, G_SIGNAL_MATCH_FUNC, 0, 0, NULL, (gpointer)method_authorize,
                              NULL) == 0)
        g_signal_connect(skeleton, "g-authorize-method", G_CALLBACK(method_authorize), NULL);
    if (!g_dbus_interface_skeleton_export(skeleton, connection, IPC_OBJECT_PATH, error))
        return false;
    g_signal_connect_object(connection, "closed", G_CALLBACK(connection_closed), skeleton,
                            (GConnectFlags)0);
    return true;
}

uint64_t
ipc_lookup_number(GVariant *dictionary, const char *key)
{
    g_autoptr(GVariant) value = g_variant_lookup_value(dictionary, key, NULL);
    gint64 number = -1;

    if (value == NULL)
        return 0;
    if (g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64))
        return g_variant_get_uint64(value);
    if (g_variant_is_of_type(value, G_VARIANT_TYPE_UINT32))
        return g_variant_get_uint32(value);
    if (g_variant_is_of_type(value, G_VARIANT_TYPE_INT64))
        number = g_variant_get_int64(value);
    else if (g_variant_is_of_type(value, G_VARIANT_TYPE_INT32))
        number = g_variant_get_int32(value);
    return number > 0 ? (uint64_t)number : 0;
}
