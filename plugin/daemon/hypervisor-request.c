/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One request to libvirt, in a worker thread and back; see hypervisor-private.h. */
#include "daemon/hypervisor-private.h"

GQuark
hypervisor_error_quark(void)
{
    return g_quark_from_static_string("virt-convoy-hypervisor");
}

void
hypervisor_error_set(GError **error, const char *what)
{
    const virError *last = virGetLastError();

    g_set_error(error, hypervisor_error_quark(), last ? last->code : 0, "%s: %s", what,
                last && last->message ? last->message : "unknown error");
    virResetLastError();
}

virConnectPtr
hypervisor_open_destination(const char *uri)
{
    virConnectPtr connection = virConnectOpen(uri);

    if (connection != NULL && virConnectSetKeepAlive(connection, HYPERVISOR_KEEPALIVE_INTERVAL_S,
                                                     HYPERVISOR_KEEPALIVE_COUNT) < 0)
        virResetLastError();
    return connection;
}

static void
request_free(gpointer data)
{
    Request *request = data;

    if (request->connection != NULL)
        virConnectClose(request->connection);
    g_free(request->uuid);
    g_free(request->destination_uri);
    g_free(request->migrate_uri);
    g_free(request->destination_name);
    g_free(request->own_uri);
    g_clear_pointer(&request->texts, g_ptr_array_unref);
    g_free(request->text);
    g_free(request);
}

bool
hypervisor_request_perform(Request *request, GError **error)
{
    virDomainPtr domain = NULL;
    bool ok;

    if (request->connection == NULL) {
        g_set_error_literal(error, hypervisor_error_quark(), VIR_ERR_NO_CONNECT,
                            "not connected to libvirt");
        return false;
    }
    if (request->uuid != NULL) {
        domain = virDomainLookupByUUIDString(request->connection, request->uuid);
        if (domain == NULL) {
            hypervisor_error_set(error, "domain look-up");
            return false;
        }
    }
    ok = request->run(request, domain, error);
    if (domain != NULL)
        virDomainFree(domain);
    return ok;
}

void
hypervisor_request_run(GTask *task, Request *request)
{
    GError *error = NULL;

    if (hypervisor_request_perform(request, &error))
        g_task_return_boolean(task, TRUE);
    else
        g_task_return_error(task, error); /* takes error over */
}

static void
request_ready(GObject *source G_GNUC_UNUSED, GAsyncResult *result, gpointer data G_GNUC_UNUSED)
{
    GTask *task = G_TASK(result);
    Request *request = g_task_get_task_data(task);
    g_autoptr(GError) error = NULL;

    if (!g_task_propagate_boolean(task, &error) &&
        g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        return;
    if (request->finish != NULL && request->done != NULL)
        request->finish(request, error);
}

Request *
hypervisor_request_new(Hypervisor *hypervisor, const char *uuid, RequestRun run,
                       RequestFinish finish, GCallback done, gpointer user_data)
{
    Request *request = g_new0(Request, 1);

    if (hypervisor->connection != NULL) {
        virConnectRef(hypervisor->connection);
        request->connection = hypervisor->connection;
    }
    request->uuid = g_strdup(uuid);
    request->run = run;
    request->finish = finish;
    request->done = done;
    request->user_data = user_data;
    return request;
}

void
hypervisor_request_start_in(Hypervisor *hypervisor, GThreadPool *pool, Request *request)
{
    GTask *task = g_task_new(NULL, hypervisor->cancellable, request_ready, NULL);

    g_task_set_task_data(task, request, request_free);
    g_thread_pool_push(pool, task, NULL); /* takes task over */
}

void
hypervisor_request_start(Hypervisor *hypervisor, Request *request)
{
    hypervisor_request_start_in(hypervisor, hypervisor->workers, request);
}

void
hypervisor_finish_plain(Request *request, const GError *error)
{
    ((HypervisorDone)request->done)(error, request->user_data);
}

void
hypervisor_finish_job(Request *request, const GError *error)
{
    ((HypervisorJobDone)request->done)(&request->statistics, error, request->user_data);
}

void
hypervisor_finish_texts(Request *request, const GError *error)
{
    ((HypervisorTextsDone)request->done)(request->texts, error, request->user_data);
}

void
hypervisor_finish_text(Request *request, const GError *error)
{
    ((HypervisorTextDone)request->done)(error ? NULL : request->text, error, request->user_data);
}

void
hypervisor_finish_number(Request *request, const GError *error)
{
    ((HypervisorNumberDone)request->done)(request->number, error, request->user_data);
}
