/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the hypervisor*.c files share; nobody else includes this. */
#pragma once

#include "daemon/hypervisor.h"

#include <libvirt/virterror.h>

#define HYPERVISOR_CALLBACKS_MAX 8

struct Hypervisor {
    char *uri;
    HypervisorEventFunc func;
    gpointer user_data;
    GCancellable *cancellable;
    virConnectPtr connection;
    int callbacks[HYPERVISOR_CALLBACKS_MAX];
    guint n_callbacks;
    guint reconnect_source;
    bool opening;
    bool open_failure_told;
    uint32_t qemu_version;
    uint32_t libvirt_version;
    GThreadPool *workers;         /* of GTask, whose data is a Request or an Opening */
    GThreadPool *foreign_workers; /* the same, for connections to other hosts */
    GThreadPool *measure_workers; /* the same, for calls that wait for a measurement */
    GThreadPool *resume_workers;  /* the same, for calls that last as long as a migration */
};

/* A connection that is silent for interval times count is closed. */
#define HYPERVISOR_KEEPALIVE_INTERVAL_S 5
#define HYPERVISOR_KEEPALIVE_COUNT 3

/*
 * Another host's libvirt, for one question: a path that goes silent ends it with an error
 * instead of never. NULL: libvirt's last error says why. virConnectClose().
 */
virConnectPtr hypervisor_open_destination(const char *uri);

/* Codes are virErrorNumber, or one of hypervisor.h's below 0. */
GQuark hypervisor_error_quark(void);
/* Moves libvirt's thread-local error into a GError. what: what was tried, for people. */
void hypervisor_error_set(GError **error, const char *what);

/* ---- threads (hypervisor-bounded.c) ------------------------------------ */

/* Around what is inside libvirt, for hypervisor_threads_left(). */
void hypervisor_thread_begins(void);
void hypervisor_thread_ends(void);

/*
 * Runs run(data) in a thread of its own, and waits for it no longer than maximum_us. data
 * is a g_atomic_rc_box, of which the thread has a reference, given back with clear (NULL:
 * nothing). False: it has not ended, and data is not to be read.
 */
bool hypervisor_run_bounded(void (*run)(gpointer data), gpointer data, GDestroyNotify clear,
                            gint64 maximum_us);

/* ---- requests (hypervisor-request.c) ----------------------------------- */

typedef struct Request Request;
/* In a worker thread. domain is NULL when the request has no UUID. False sets error. */
typedef bool (*RequestRun)(Request *request, virDomainPtr domain, GError **error);
/* On the main context: calls done with the results; error is NULL when run succeeded. */
typedef void (*RequestFinish)(Request *request, const GError *error);

struct Request {
    virConnectPtr connection;
    char *uuid;
    char *destination_uri;
    char *migrate_uri;
    char *destination_name;
    char *own_uri; /* of a request that opens a connection of its own to this host */
    uint64_t numbers[3];
    RequestRun run;
    RequestFinish finish;
    GCallback done;
    gpointer user_data;
    /* results */
    JobStatistics statistics;
    GPtrArray *texts;
    char *text;
    uint64_t number;
};

/* Owned by the caller until it is started; uuid may be NULL. done's type is finish's. */
Request *hypervisor_request_new(Hypervisor *hypervisor, const char *uuid, RequestRun run,
                                RequestFinish finish, GCallback done, gpointer user_data);
/* Take request over. */
void hypervisor_request_start(Hypervisor *hypervisor, Request *request);
void hypervisor_request_start_in(Hypervisor *hypervisor, GThreadPool *pool, Request *request);
/* Runs it in the present thread: looks the domain up, if there is a UUID. False sets error. */
bool hypervisor_request_perform(Request *request, GError **error);
/* The same; task carries it, and gets what became of it. */
void hypervisor_request_run(GTask *task, Request *request);

/* For a HypervisorDone, JobDone, TextsDone, TextDone and RateDone. */
void hypervisor_finish_plain(Request *request, const GError *error);
void hypervisor_finish_job(Request *request, const GError *error);
void hypervisor_finish_texts(Request *request, const GError *error);
void hypervisor_finish_text(Request *request, const GError *error);
void hypervisor_finish_number(Request *request, const GError *error);

/* ---- events (hypervisor-events.c) -------------------------------------- */

/* domain NULL: an event of the connection. Fills event's uuid and name from it. */
void hypervisor_emit(Hypervisor *hypervisor, virDomainPtr domain, HypervisorEvent *event);
/*
 * In a worker thread. hypervisor is only handed on to libvirt as callback data. False
 * with error when one is refused: those before it are in callbacks all the same.
 */
bool hypervisor_register_events(virConnectPtr connection, Hypervisor *hypervisor,
                                int callbacks[HYPERVISOR_CALLBACKS_MAX], guint *n_callbacks,
                                GError **error);

/* Fills ret_statistics from libvirt's typed parameters; absent fields stay zero. */
void hypervisor_read_statistics(JobStatistics *ret_statistics, int job_type,
                                virTypedParameterPtr parameters, int n_parameters);
