/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The socket: deadlines hold against a daemon that hangs at any step, and a
 * socket of somebody else is treated as absent.
 */
#include "common/ipc.h"

#include <dirent.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon-interface.h"

#define LIMIT_MS 200u
#define SLACK_MS 2000 /* for a loaded machine; a hang would be endless */

typedef struct {
    char *folder;
    char *path;
    GMainContext *context;
    GMainLoop *loop;
    GThread *thread;
    GDBusServer *server;
    ConvoyDaemon1 *skeleton;
    GMutex lock;
    GCond changed;
    bool ready;
} Fixture;

static gboolean
on_get_status(ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation, gpointer data)
{
    (void)data;
    convoy_daemon1_complete_get_status(skeleton, invocation, "{}");
    return TRUE;
}

/* Never answered: what a hung daemon looks like after authentication. */
static gboolean
on_explain(ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation, const char *domain,
           gpointer data)
{
    (void)skeleton;
    (void)invocation;
    (void)domain;
    (void)data;
    return TRUE;
}

static gboolean
on_new_connection(GDBusServer *server, GDBusConnection *connection, gpointer data)
{
    Fixture *fixture = data;

    (void)server;
    g_assert_cmpint(ipc_peer_access(connection), ==, IPC_ACCESS_CHANGE);
    return ipc_export(connection, G_DBUS_INTERFACE_SKELETON(fixture->skeleton), NULL);
}

static gpointer
server_run(gpointer data)
{
    Fixture *fixture = data;
    g_autoptr(GError) error = NULL;

    g_main_context_push_thread_default(fixture->context);
    fixture->server = ipc_server_new(fixture->path, &error);
    g_assert_no_error(error);
    g_signal_connect(fixture->server, "new-connection", G_CALLBACK(on_new_connection), fixture);
    g_dbus_server_start(fixture->server);
    g_mutex_lock(&fixture->lock);
    fixture->ready = true;
    g_cond_signal(&fixture->changed);
    g_mutex_unlock(&fixture->lock);
    g_main_loop_run(fixture->loop);
    g_dbus_server_stop(fixture->server);
    g_clear_object(&fixture->server);
    g_main_context_pop_thread_default(fixture->context);
    return NULL;
}

static void
folder_make(Fixture *fixture)
{
    fixture->folder = g_dir_make_tmp("convoy-ipc-XXXXXX", NULL);
    fixture->path = g_build_filename(fixture->folder, "run", "socket", NULL);
}

static void
folder_remove(Fixture *fixture)
{
    g_autofree char *run = g_path_get_dirname(fixture->path);

    g_unlink(fixture->path);
    g_rmdir(run);
    g_rmdir(fixture->folder);
    g_free(fixture->path);
    g_free(fixture->folder);
}

static void
server_up(Fixture *fixture, gconstpointer data)
{
    (void)data;
    folder_make(fixture);
    g_mutex_init(&fixture->lock);
    g_cond_init(&fixture->changed);
    /* As in the daemon: GDBusServer's connections say "closed" there only. */
    fixture->context = g_main_context_ref(g_main_context_default());
    fixture->loop = g_main_loop_new(fixture->context, FALSE);
    fixture->skeleton = convoy_daemon1_skeleton_new();
    g_signal_connect(fixture->skeleton, "handle-get-status", G_CALLBACK(on_get_status), NULL);
    g_signal_connect(fixture->skeleton, "handle-explain", G_CALLBACK(on_explain), NULL);
    fixture->thread = g_thread_new("server", server_run, fixture);
    g_mutex_lock(&fixture->lock);
    while (!fixture->ready)
        g_cond_wait(&fixture->changed, &fixture->lock);
    g_mutex_unlock(&fixture->lock);
}

static void
server_down(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_main_loop_quit(fixture->loop);
    g_thread_join(fixture->thread);
    g_clear_object(&fixture->skeleton);
    g_main_loop_unref(fixture->loop);
    g_main_context_unref(fixture->context);
    g_cond_clear(&fixture->changed);
    g_mutex_clear(&fixture->lock);
    folder_remove(fixture);
}

static unsigned
descriptors_open(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    g_assert_nonnull(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static void
call_status(const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) reply =
        ipc_call_once(path, "GetStatus", NULL, "(s)", ipc_deadline(5000), &error);
    const char *text;

    g_assert_no_error(error);
    g_variant_get(reply, "(&s)", &text);
    g_assert_cmpstr(text, ==, "{}");
}

static void
test_call(Fixture *fixture, gconstpointer data)
{
    struct stat status;
    unsigned before;
    gint64 start;

    (void)data;
    g_assert_cmpint(stat(fixture->path, &status), ==, 0);
    g_assert_cmpuint(status.st_mode & 0777, ==, 0660);
    call_status(fixture->path);
    before = descriptors_open();
    start = g_get_monotonic_time();
    for (unsigned i = 0; i < 200; i++)
        call_status(fixture->path);
    g_test_message("connect, call, close: %.3f ms",
                   (double)(g_get_monotonic_time() - start) / 200 / 1000);
    /* The server closes its ends a moment later; a leak would stay. */
    for (unsigned i = 0; i < 500 && descriptors_open() > before + 10; i++)
        g_usleep(10000);
    g_assert_cmpuint(descriptors_open(), <=, before + 10);
}

static gpointer
thread_calls(gpointer data)
{
    for (unsigned i = 0; i < 20; i++)
        call_status(data);
    return NULL;
}

static void
test_threads(Fixture *fixture, gconstpointer data)
{
    GThread *threads[8];

    (void)data;
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("caller", thread_calls, fixture->path);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
}

static void
assert_bounded(gint64 start)
{
    const gint64 elapsed = (g_get_monotonic_time() - start) / 1000;

    g_assert_cmpint(elapsed, >=, LIMIT_MS - 10);
    g_assert_cmpint(elapsed, <, LIMIT_MS + SLACK_MS);
}

static void
test_hung_call(Fixture *fixture, gconstpointer data)
{
    const gint64 start = g_get_monotonic_time();
    g_autoptr(GError) error = NULL;

    (void)data;
    g_assert_null(ipc_call_once(fixture->path, "Explain", g_variant_new("(s)", ""), "(s)",
                                ipc_deadline(LIMIT_MS), &error));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    assert_bounded(start);
}

static void
test_second_server(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    (void)data;
    g_assert_null(ipc_server_new(fixture->path, &error));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS);
    call_status(fixture->path);
}

/* A listener that never accepts: its queue takes the first connections only. */
static int
listener_open(const char *path, int backlog)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    g_autofree char *folder = g_path_get_dirname(path);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    g_assert_cmpint(bind(descriptor, (struct sockaddr *)&address, sizeof address), ==, 0);
    g_assert_cmpint(listen(descriptor, backlog), ==, 0);
    return descriptor;
}

static void
test_hung_listener(void)
{
    Fixture fixture = { 0 };
    int listener;

    folder_make(&fixture);
    listener = listener_open(fixture.path, 0);
    /* The first hangs in authentication, the next in connect. */
    for (unsigned i = 0; i < 3; i++) {
        const gint64 start = g_get_monotonic_time();
        g_autoptr(GError) error = NULL;

        g_assert_null(ipc_connect(fixture.path, ipc_deadline(LIMIT_MS), &error));
        g_assert_error(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
        assert_bounded(start);
    }
    close(listener);
    folder_remove(&fixture);
}

static void
assert_absent(const char *path)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(ipc_connect(path, ipc_deadline(LIMIT_MS), &error));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
}

static void
test_absent(void)
{
    Fixture fixture = { 0 };
    g_autoptr(GError) error = NULL;
    int listener;

    folder_make(&fixture);
    assert_absent(fixture.path);
    listener = listener_open(fixture.path, 1);
    close(listener);
    assert_absent(fixture.path); /* nobody listens on what is left */
    if (geteuid() == 0) {
        g_unlink(fixture.path);
        listener = listener_open(fixture.path, 1);
        g_assert_cmpint(chown(fixture.path, 1, (gid_t)-1), ==, 0);
        assert_absent(fixture.path); /* somebody else's */
        close(listener);
    }
    g_unlink(fixture.path);
    g_assert_true(g_file_set_contents(fixture.path, "", 0, NULL));
    assert_absent(fixture.path); /* no socket */
    g_assert_null(ipc_server_new(fixture.path, &error));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS);
    g_assert_null(ipc_connect("relative", ipc_deadline(LIMIT_MS), NULL));
    g_assert_null(ipc_connect(fixture.path, 0, NULL));
    folder_remove(&fixture);
}

static void
test_stale_socket(void)
{
    Fixture fixture = { 0 };
    g_autoptr(GDBusServer) server = NULL;
    g_autoptr(GError) error = NULL;

    folder_make(&fixture);
    close(listener_open(fixture.path, 1));
    server = ipc_server_new(fixture.path, &error);
    g_assert_no_error(error);
    g_assert_nonnull(server);
    g_dbus_server_stop(server);
    folder_remove(&fixture);
}

static void
test_access(void)
{
    g_assert_cmpint(ipc_method_access("GetStatus"), ==, IPC_ACCESS_READ);
    g_assert_cmpint(ipc_method_access("Explain"), ==, IPC_ACCESS_READ);
    g_assert_cmpint(ipc_method_access("EnterCall"), ==, IPC_ACCESS_CHANGE);
    g_assert_cmpint(ipc_method_access("AbortWaiting"), ==, IPC_ACCESS_CHANGE);
    g_assert_cmpint(ipc_method_access("ReleaseWaiting"), ==, IPC_ACCESS_CHANGE);
    g_assert_cmpint(ipc_method_access(""), ==, IPC_ACCESS_CHANGE);
    g_setenv("VIRT_CONVOY_SOCKET", "/tmp/other", TRUE);
    g_assert_cmpstr(ipc_socket_path(), ==, "/tmp/other");
    g_unsetenv("VIRT_CONVOY_SOCKET");
    g_assert_cmpstr(ipc_socket_path(), ==, IPC_SOCKET_DEFAULT);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/ipc/call", Fixture, NULL, server_up, test_call, server_down);
    g_test_add("/ipc/threads", Fixture, NULL, server_up, test_threads, server_down);
    g_test_add("/ipc/hung-call", Fixture, NULL, server_up, test_hung_call, server_down);
    g_test_add("/ipc/second-server", Fixture, NULL, server_up, test_second_server, server_down);
    g_test_add_func("/ipc/hung-listener", test_hung_listener);
    g_test_add_func("/ipc/absent", test_absent);
    g_test_add_func("/ipc/stale-socket", test_stale_socket);
    g_test_add_func("/ipc/access", test_access);
    return g_test_run();
}
