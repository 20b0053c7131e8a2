/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The connection to libvirt: opened, watched and closed in worker threads; see hypervisor.h.
 *
 * Who holds what: the main thread owns Hypervisor and its fields. A request
 * carries its own reference on the connection into its worker thread, so the
 * connection may be replaced meanwhile. Results travel back as GTask values.
 *
 * The threads are pools of its own, not GTask's: GDBus answers calls through
 * GTask's pool, and a libvirtd that hangs must not keep the daemon from
 * answering. A destination that hangs holds its thread for as long as it
 * likes, so it gets a pool apart.
 */
#include "daemon/hypervisor-private.h"

#include "common/log.h"

#include <string.h>

#define RECONNECT_SECONDS 2
#define WORKERS 8
#define FOREIGN_WORKERS 4
/* A gang is measured one after the other: what runs is steered meanwhile. */
#define MEASURE_WORKERS 2
#define RESUME_WORKERS 4
#define CLOSE_MAXIMUM_US G_USEC_PER_SEC

typedef struct {
    char *uri;
    Hypervisor *hypervisor; /* only handed on to libvirt as callback data */
    virConnectPtr connection;
    int callbacks[HYPERVISOR_CALLBACKS_MAX];
    guint n_callbacks;
    unsigned long qemu_version;
    unsigned long libvirt_version;
} Opening;

static void hypervisor_open(Hypervisor *hypervisor);

static gboolean
reconnect_due(gpointer data)
{
    Hypervisor *hypervisor = data;

    hypervisor->reconnect_source = 0;
    hypervisor_open(hypervisor);
    return G_SOURCE_REMOVE;
}

static void on_close(virConnectPtr connection, int reason, void *data);

static void
connection_close(virConnectPtr connection, const int *callbacks, guint n_callbacks)
{
    /* libvirt drops the reference that it took only for the same function. */
    virConnectUnregisterCloseCallback(connection, on_close);
    for (guint i = 0; i < n_callbacks; i++)
        virConnectDomainEventDeregisterAny(connection, callbacks[i]);
    virConnectClose(connection);
    virResetLastError();
}

typedef struct {
    virConnectPtr connection;
    int callbacks[HYPERVISOR_CALLBACKS_MAX];
    guint n_callbacks;
} Closing;

static void
closing_run(gpointer data)
{
    Closing *closing = data;

    connection_close(closing->connection, closing->callbacks, closing->n_callbacks);
}

/* Asks libvirtd, so in a thread; waits for it no longer than maximum_us. */
static void
hypervisor_close(Hypervisor *hypervisor, gint64 maximum_us)
{
    Closing *closing;

    if (hypervisor->connection == NULL)
        return;
    closing = g_atomic_rc_box_new0(Closing);
    closing->connection = g_steal_pointer(&hypervisor->connection);
    memcpy(closing->callbacks, hypervisor->callbacks, sizeof(closing->callbacks));
    closing->n_callbacks = hypervisor->n_callbacks;
    hypervisor->n_callbacks = 0;
    hypervisor_run_bounded(closing_run, closing, NULL, maximum_us);
    g_atomic_rc_box_release(closing);
}

static void
hypervisor_schedule_reconnect(Hypervisor *hypervisor)
{
    if (hypervisor->reconnect_source == 0)
        hypervisor->reconnect_source =
            g_timeout_add_seconds(RECONNECT_SECONDS, reconnect_due, hypervisor);
}

static gboolean
connection_lost(gpointer data)
{
    Hypervisor *hypervisor = data;
    HypervisorEvent event = { .type = HYPERVISOR_DISCONNECTED };

    hypervisor->reconnect_source = 0;
    hypervisor_close(hypervisor, 0);
    hypervisor_emit(hypervisor, NULL, &event);
    hypervisor_schedule_reconnect(hypervisor);
    return G_SOURCE_REMOVE;
}

static void
on_close(virConnectPtr connection, int reason G_GNUC_UNUSED, void *data)
{
    Hypervisor *hypervisor = data;

    /* Called from inside libvirt's event dispatch: let it return first. */
    if (hypervisor->connection == connection && hypervisor->reconnect_source == 0)
        hypervisor->reconnect_source = g_idle_add(connection_lost, hypervisor);
}

static void
opening_free(gpointer data)
{
    Opening *opening = data;

    if (opening->connection != NULL)
        connection_close(opening->connection, opening->callbacks, opening->n_callbacks);
    g_free(opening->uri);
    g_free(opening);
}

static void
open_run(GTask *task, Opening *opening)
{
    GError *error = NULL;

    opening->connection = virConnectOpen(opening->uri);
    if (opening->connection == NULL) {
        hypervisor_error_set(&error, opening->uri);
        g_task_return_error(task, error);
        return;
    }
    if (!hypervisor_register_events(opening->connection, opening->hypervisor, opening->callbacks,
                                    &opening->n_callbacks, &error)) {
        g_task_return_error(task, error);
        return;
    }
    /* Notices a hung libvirtd; the test driver has no keep-alive. */
    if (virConnectSetKeepAlive(opening->connection, HYPERVISOR_KEEPALIVE_INTERVAL_S,
                               HYPERVISOR_KEEPALIVE_COUNT) < 0)
        virResetLastError();
    if (virConnectRegisterCloseCallback(opening->connection, on_close, opening->hypervisor, NULL) <
        0)
        virResetLastError();
    if (virConnectGetVersion(opening->connection, &opening->qemu_version) < 0)
        opening->qemu_version = 0;
    if (virConnectGetLibVersion(opening->connection, &opening->libvirt_version) < 0)
        opening->libvirt_version = 0;
    virResetLastError();
    g_task_return_boolean(task, TRUE);
}

/* The pool has one function for both kinds of task: an Opening is tagged. */
static void
worker_run(gpointer data, gpointer user_data G_GNUC_UNUSED)
{
    g_autoptr(GTask) task = data;

    hypervisor_thread_begins();
    /* Cancelled: it was still queued when the Hypervisor was freed. */
    if (!g_task_return_error_if_cancelled(task)) {
        if (g_task_get_source_tag(task) == hypervisor_open)
            open_run(task, g_task_get_task_data(task));
        else
            hypervisor_request_run(task, g_task_get_task_data(task));
    }
    g_clear_object(&task);
    hypervisor_thread_ends();
}

static void
open_ready(GObject *source G_GNUC_UNUSED, GAsyncResult *result, gpointer data)
{
    GTask *task = G_TASK(result);
    Opening *opening = g_task_get_task_data(task);
    Hypervisor *hypervisor = data;
    HypervisorEvent event = { .type = HYPERVISOR_CONNECTED };
    g_autoptr(GError) error = NULL;

    if (!g_task_propagate_boolean(task, &error)) {
        if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
            return; /* hypervisor is gone */
        hypervisor->opening = false;
        if (!hypervisor->open_failure_told)
            log_event(CONFIG_LOG_WARNING, "libvirt-unreachable", "reason: %s, again every: %d s",
                      error->message, RECONNECT_SECONDS);
        hypervisor->open_failure_told = true;
        hypervisor_schedule_reconnect(hypervisor);
        return;
    }
    /* It may have gone before we held it: on_close passed over it then. */
    if (virConnectIsAlive(opening->connection) == 0) {
        hypervisor->opening = false;
        hypervisor_schedule_reconnect(hypervisor);
        return;
    }
    hypervisor->open_failure_told = false;
    hypervisor->opening = false;
    hypervisor->connection = g_steal_pointer(&opening->connection);
    memcpy(hypervisor->callbacks, opening->callbacks, sizeof(opening->callbacks));
    hypervisor->n_callbacks = opening->n_callbacks;
    hypervisor->qemu_version = (uint32_t)opening->qemu_version;
    hypervisor->libvirt_version = (uint32_t)opening->libvirt_version;
    hypervisor_emit(hypervisor, NULL, &event);
}

static void
hypervisor_open(Hypervisor *hypervisor)
{
    Opening *opening;
    GTask *task;

    if (hypervisor->opening || hypervisor->connection != NULL)
        return;
    hypervisor->opening = true;
    opening = g_new0(Opening, 1);
    opening->uri = g_strdup(hypervisor->uri);
    opening->hypervisor = hypervisor;
    task = g_task_new(NULL, hypervisor->cancellable, open_ready, hypervisor);
    g_task_set_source_tag(task, hypervisor_open);
    g_task_set_task_data(task, opening, opening_free);
    g_thread_pool_push(hypervisor->workers, task, NULL); /* takes task over */
}

Hypervisor *
hypervisor_new(const char *uri, HypervisorEventFunc func, gpointer user_data)
{
    Hypervisor *hypervisor = g_new0(Hypervisor, 1);

    hypervisor->uri = g_strdup(uri);
    hypervisor->func = func;
    hypervisor->user_data = user_data;
    hypervisor->cancellable = g_cancellable_new();
    hypervisor->workers = g_thread_pool_new(worker_run, NULL, WORKERS, FALSE, NULL);
    hypervisor->foreign_workers = g_thread_pool_new(worker_run, NULL, FOREIGN_WORKERS, FALSE, NULL);
    hypervisor->measure_workers = g_thread_pool_new(worker_run, NULL, MEASURE_WORKERS, FALSE, NULL);
    hypervisor->resume_workers = g_thread_pool_new(worker_run, NULL, RESUME_WORKERS, FALSE, NULL);
    hypervisor_open(hypervisor);
    return hypervisor;
}

void
hypervisor_free(Hypervisor *hypervisor)
{
    if (hypervisor == NULL)
        return;
    g_cancellable_cancel(hypervisor->cancellable);
    if (hypervisor->reconnect_source != 0)
        g_source_remove(hypervisor->reconnect_source);
    hypervisor_close(hypervisor, CLOSE_MAXIMUM_US);
    /* Threads that libvirt holds are left to themselves: they touch tasks only. */
    g_thread_pool_free(hypervisor->workers, FALSE, FALSE);
    g_thread_pool_free(hypervisor->foreign_workers, FALSE, FALSE);
    g_thread_pool_free(hypervisor->measure_workers, FALSE, FALSE);
    g_thread_pool_free(hypervisor->resume_workers, FALSE, FALSE);
    g_object_unref(hypervisor->cancellable);
    g_free(hypervisor->uri);
    g_free(hypervisor);
}

bool
hypervisor_is_connected(const Hypervisor *hypervisor)
{
    return hypervisor->connection != NULL;
}

uint32_t
hypervisor_qemu_version(const Hypervisor *hypervisor)
{
    return hypervisor->qemu_version;
}

uint32_t
hypervisor_libvirt_version(const Hypervisor *hypervisor)
{
    return hypervisor->libvirt_version;
}
