/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvirt behind worker threads; see hypervisor.h.
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
#include "daemon/hypervisor.h"

#include "common/log.h"
#include "common/peer.h"

#include <libvirt/virterror.h>
#include <string.h>

#define RECONNECT_SECONDS 2
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT 3
#define DIRTY_RATE_SECONDS 1
#define DIRTY_RATE_POLL_US (100 * 1000)
#define DIRTY_RATE_POLLS 40
#define WORKERS 8
#define FOREIGN_WORKERS 4
#define RESUME_WORKERS 4
/* A libvirtd that hangs must not keep the daemon from stopping. */
#define CLOSE_MAXIMUM_US G_USEC_PER_SEC

struct Hypervisor {
    char *uri;
    HypervisorEventFunc func;
    gpointer user_data;
    GCancellable *cancellable;
    virConnectPtr connection;
    int callbacks[8];
    guint n_callbacks;
    guint reconnect_source;
    bool opening;
    bool open_failure_told;
    uint32_t qemu_version;
    uint32_t libvirt_version;
    GThreadPool *workers;         /* of GTask, whose data is a Request or an Opening */
    GThreadPool *foreign_workers; /* the same, for connections to other hosts */
    GThreadPool *resume_workers;  /* the same, for calls that last as long as a migration */
};

/* Threads inside libvirt, of any Hypervisor. */
static gint busy_threads;

static GQuark
hypervisor_error_quark(void)
{
    return g_quark_from_static_string("virt-convoy-hypervisor");
}

/* Moves libvirt's thread-local error into a GError. */
static void
hypervisor_error_set(GError **error, const char *what)
{
    const virError *last = virGetLastError();

    g_set_error(error, hypervisor_error_quark(), last ? last->code : 0, "%s: %s", what,
                last && last->message ? last->message : "unknown error");
    virResetLastError();
}

/* ---- requests ---------------------------------------------------------- */

typedef struct Request Request;
typedef bool (*RequestRun)(Request *request, virDomainPtr domain, GError **error);
typedef void (*RequestFinish)(Request *request, const GError *error);

struct Request {
    virConnectPtr connection;
    char *uuid;
    char *destination_uri;
    char *migrate_uri;
    char *own_uri; /* of a request that opens a connection of its own to this host */
    uint64_t numbers[2];
    RequestRun run;
    RequestFinish finish;
    GCallback done;
    gpointer user_data;
    /* results */
    JobStatistics statistics;
    GPtrArray *texts;
    char *text;
    uint64_t rate; /* or another single number */
};

static void
request_free(gpointer data)
{
    Request *request = data;

    if (request->connection != NULL)
        virConnectClose(request->connection);
    g_free(request->uuid);
    g_free(request->destination_uri);
    g_free(request->migrate_uri);
    g_free(request->own_uri);
    g_clear_pointer(&request->texts, g_ptr_array_unref);
    g_free(request->text);
    g_free(request);
}

static void
request_run(GTask *task, Request *request)
{
    g_autoptr(GError) error = NULL;
    virDomainPtr domain = NULL;
    bool ok = false;

    if (request->connection == NULL) {
        g_set_error_literal(&error, hypervisor_error_quark(), VIR_ERR_NO_CONNECT,
                            "not connected to libvirt");
    } else if (request->uuid != NULL &&
               (domain = virDomainLookupByUUIDString(request->connection, request->uuid)) == NULL) {
        hypervisor_error_set(&error, "domain look-up");
    } else {
        ok = request->run(request, domain, &error);
    }
    if (domain != NULL)
        virDomainFree(domain);
    if (ok)
        g_task_return_boolean(task, TRUE);
    else
        g_task_return_error(task, g_steal_pointer(&error));
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

static Request *
request_new(Hypervisor *hypervisor, const char *uuid, RequestRun run, RequestFinish finish,
            GCallback done, gpointer user_data)
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

static void
request_start_in(Hypervisor *hypervisor, GThreadPool *pool, Request *request)
{
    GTask *task = g_task_new(NULL, hypervisor->cancellable, request_ready, NULL);

    g_task_set_task_data(task, request, request_free);
    g_thread_pool_push(pool, task, NULL); /* takes task over */
}

static void
request_start(Hypervisor *hypervisor, Request *request)
{
    request_start_in(hypervisor, hypervisor->workers, request);
}

static void
finish_plain(Request *request, const GError *error)
{
    ((HypervisorDone)request->done)(error, request->user_data);
}

static void
finish_job(Request *request, const GError *error)
{
    ((HypervisorJobDone)request->done)(&request->statistics, error, request->user_data);
}

static void
finish_texts(Request *request, const GError *error)
{
    ((HypervisorTextsDone)request->done)(request->texts, error, request->user_data);
}

static void
finish_text(Request *request, const GError *error)
{
    ((HypervisorTextDone)request->done)(error ? NULL : request->text, error, request->user_data);
}

static void
finish_rate(Request *request, const GError *error)
{
    ((HypervisorRateDone)request->done)(request->rate, error, request->user_data);
}

static bool
run_start_post_copy(Request *request G_GNUC_UNUSED, virDomainPtr domain, GError **error)
{
    if (virDomainMigrateStartPostCopy(domain, 0) == 0)
        return true;
    hypervisor_error_set(error, "starting post-copy");
    return false;
}

void
hypervisor_start_post_copy(Hypervisor *hypervisor, const char *uuid, HypervisorDone done,
                           gpointer user_data)
{
    request_start(hypervisor, request_new(hypervisor, uuid, run_start_post_copy, finish_plain,
                                          G_CALLBACK(done), user_data));
}

static bool
run_set_max_speed(Request *request, virDomainPtr domain, GError **error)
{
    static const unsigned flags[] = { 0, VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY };

    for (size_t i = 0; i < G_N_ELEMENTS(flags); i++) {
        if (request->numbers[i] != 0 &&
            virDomainMigrateSetMaxSpeed(domain, (unsigned long)request->numbers[i], flags[i]) < 0) {
            hypervisor_error_set(error, "setting the migration bandwidth limit");
            return false;
        }
    }
    return true;
}

void
hypervisor_set_max_speed(Hypervisor *hypervisor, const char *uuid, uint64_t pre_copy_mib,
                         uint64_t post_copy_mib, HypervisorDone done, gpointer user_data)
{
    Request *request =
        request_new(hypervisor, uuid, run_set_max_speed, finish_plain, G_CALLBACK(done), user_data);

    request->numbers[0] = pre_copy_mib;
    request->numbers[1] = post_copy_mib;
    request_start(hypervisor, request);
}

static bool
run_set_max_downtime(Request *request, virDomainPtr domain, GError **error)
{
    if (virDomainMigrateSetMaxDowntime(domain, request->numbers[0], 0) == 0)
        return true;
    hypervisor_error_set(error, "setting the downtime limit");
    return false;
}

void
hypervisor_set_max_downtime(Hypervisor *hypervisor, const char *uuid, uint64_t milliseconds,
                            HypervisorDone done, gpointer user_data)
{
    Request *request = request_new(hypervisor, uuid, run_set_max_downtime, finish_plain,
                                   G_CALLBACK(done), user_data);

    request->numbers[0] = milliseconds;
    request_start(hypervisor, request);
}

static bool
run_raise_max_downtime(Request *request, virDomainPtr domain, GError **error)
{
    unsigned long long present = 0;

    if (request->numbers[1] != 0 && virDomainMigrateGetMaxDowntime(domain, &present, 0) == 0 &&
        present != request->numbers[1]) {
        g_set_error(error, hypervisor_error_quark(), HYPERVISOR_ERROR_CHANGED,
                    "somebody else set the downtime limit to %llu ms", present);
        return false;
    }
    virResetLastError();
    return run_set_max_downtime(request, domain, error);
}

void
hypervisor_raise_max_downtime(Hypervisor *hypervisor, const char *uuid, uint64_t present_ms,
                              uint64_t milliseconds, HypervisorDone done, gpointer user_data)
{
    Request *request = request_new(hypervisor, uuid, run_raise_max_downtime, finish_plain,
                                   G_CALLBACK(done), user_data);

    request->numbers[0] = milliseconds;
    request->numbers[1] = present_ms;
    request_start(hypervisor, request);
}

/* What the resumed call must repeat for its last phases; the rest was settled at the start. */
#define RESUME_KEEPS_FLAGS                                                                         \
    ((uint64_t)VIR_MIGRATE_LIVE | VIR_MIGRATE_PERSIST_DEST | VIR_MIGRATE_UNDEFINE_SOURCE |         \
     VIR_MIGRATE_UNSAFE | VIR_MIGRATE_TLS)

static bool
state_is(virDomainPtr domain, int wanted_state, int wanted_reason, int *ret_state)
{
    int state = -1;
    int reason = -1;
    bool known = virDomainGetState(domain, &state, &reason, 0) == 0;

    virResetLastError();
    *ret_state = known ? state : -1;
    return known && state == wanted_state && reason == wanted_reason;
}

/* The destination waits for us only after it has noticed the break too. */
static bool
destination_waits(const Request *request, GError **error)
{
    virConnectPtr connection = virConnectOpen(request->destination_uri);
    virDomainPtr domain =
        connection != NULL ? virDomainLookupByUUIDString(connection, request->text) : NULL;
    int state = -1;
    bool waits = domain != NULL &&
                 state_is(domain, VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_POSTCOPY_FAILED, &state);

    if (!waits && connection == NULL)
        hypervisor_error_set(error, "connecting to the destination");
    else if (!waits && domain == NULL)
        hypervisor_error_set(error, "the VM is not at the destination any more");
    else if (!waits)
        g_set_error_literal(error, hypervisor_error_quark(), VIR_ERR_OPERATION_INVALID,
                            "the destination has not noticed the break yet");
    if (domain != NULL)
        virDomainFree(domain);
    if (connection != NULL)
        virConnectClose(connection);
    return waits;
}

static bool
resume_call(const Request *request, virDomainPtr domain, GError **error)
{
    uint64_t flags = (request->numbers[0] & RESUME_KEEPS_FLAGS) | VIR_MIGRATE_LIVE |
                     VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_POSTCOPY_RESUME;
    virTypedParameterPtr parameters = NULL;
    int count = 0;
    int maximum = 0;
    bool ok = request->migrate_uri == NULL ||
              virTypedParamsAddString(&parameters, &count, &maximum, VIR_MIGRATE_PARAM_URI,
                                      request->migrate_uri) == 0;

    ok = ok && virDomainMigrateToURI3(domain, request->destination_uri, parameters, (unsigned)count,
                                      (unsigned)flags) == 0;
    if (!ok)
        hypervisor_error_set(error, "resuming post-copy");
    virTypedParamsFree(parameters, count);
    return ok;
}

/* A connection of its own: the call lasts as long as the migration. */
static bool
run_resume_post_copy(Request *request, virDomainPtr unused G_GNUC_UNUSED, GError **error)
{
    virConnectPtr connection = virConnectOpen(request->own_uri);
    virDomainPtr domain =
        connection != NULL ? virDomainLookupByUUIDString(connection, request->text) : NULL;
    int state = -1;
    bool ok = false;

    if (domain == NULL)
        hypervisor_error_set(error, "domain look-up");
    else if (!state_is(domain, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_POSTCOPY_FAILED, &state))
        g_set_error(error, hypervisor_error_quark(), HYPERVISOR_ERROR_GOES_ON,
                    "it is not paused by a break any more (state %d)", state);
    else
        ok = destination_waits(request, error) && resume_call(request, domain, error);
    if (domain != NULL)
        virDomainFree(domain);
    if (connection != NULL)
        virConnectClose(connection);
    return ok;
}

void
hypervisor_resume_post_copy(Hypervisor *hypervisor, const char *uuid, const char *destination_uri,
                            const char *migrate_uri, uint64_t flags, HypervisorDone done,
                            gpointer user_data)
{
    Request *request = request_new(hypervisor, NULL, run_resume_post_copy, finish_plain,
                                   G_CALLBACK(done), user_data);

    request->text = g_strdup(uuid);
    request->own_uri = g_strdup(hypervisor->uri);
    request->destination_uri = g_strdup(destination_uri);
    request->migrate_uri = g_strdup(migrate_uri);
    request->numbers[0] = flags;
    request_start_in(hypervisor, hypervisor->resume_workers, request);
}

/* Fills ret_statistics from libvirt's typed parameters; absent fields stay zero. */
static void
job_statistics_read(JobStatistics *ret_statistics, int job_type, virTypedParameterPtr parameters,
                    int n_parameters)
{
    const struct {
        const char *name;
        uint64_t *field;
    } fields[] = {
        { VIR_DOMAIN_JOB_TIME_ELAPSED, &ret_statistics->elapsed_ms },
        { VIR_DOMAIN_JOB_DOWNTIME, &ret_statistics->downtime_ms },
        { VIR_DOMAIN_JOB_MEMORY_TOTAL, &ret_statistics->memory_total },
        { VIR_DOMAIN_JOB_MEMORY_PROCESSED, &ret_statistics->memory_processed },
        { VIR_DOMAIN_JOB_MEMORY_REMAINING, &ret_statistics->memory_remaining },
        { VIR_DOMAIN_JOB_MEMORY_CONSTANT, &ret_statistics->memory_constant },
        { VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE, &ret_statistics->dirty_rate },
        { VIR_DOMAIN_JOB_MEMORY_ITERATION, &ret_statistics->iteration },
        { VIR_DOMAIN_JOB_MEMORY_BPS, &ret_statistics->throughput },
        { VIR_DOMAIN_JOB_MEMORY_POSTCOPY_REQS, &ret_statistics->post_copy_requests },
    };
    unsigned long long page_size = 0;
    unsigned long long value;
    int operation = 0;
    int success = 0;

    *ret_statistics = (JobStatistics){ .valid = true };
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        if (virTypedParamsGetULLong(parameters, n_parameters, fields[i].name, &value) == 1)
            *fields[i].field = value;
    }
    /* libvirt counts pages per second here. */
    if (virTypedParamsGetULLong(parameters, n_parameters, VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE,
                                &page_size) != 1 ||
        page_size == 0 || page_size > (1ULL << 30))
        page_size = 4096;
    if (ret_statistics->dirty_rate <= UINT64_MAX / page_size)
        ret_statistics->dirty_rate *= page_size;
    /* A count of pages as well. */
    ret_statistics->memory_constant = ret_statistics->memory_constant <= UINT64_MAX / page_size
                                          ? ret_statistics->memory_constant * page_size
                                          : 0;
    virTypedParamsGetInt(parameters, n_parameters, VIR_DOMAIN_JOB_OPERATION, &operation);
    ret_statistics->outgoing = operation == VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT;
    ret_statistics->active =
        (job_type == VIR_DOMAIN_JOB_BOUNDED || job_type == VIR_DOMAIN_JOB_UNBOUNDED) &&
        (operation == VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT ||
         operation == VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN);
    if (virTypedParamsGetBoolean(parameters, n_parameters, VIR_DOMAIN_JOB_SUCCESS, &success) == 1)
        ret_statistics->success = success != 0;
    virResetLastError();
}

static bool
run_query_job(Request *request, virDomainPtr domain, GError **error)
{
    virTypedParameterPtr parameters = NULL;
    int n_parameters = 0;
    int type = VIR_DOMAIN_JOB_NONE;

    if (virDomainGetJobStats(domain, &type, &parameters, &n_parameters, 0) < 0) {
        hypervisor_error_set(error, "reading the migration's statistics");
        /* libvirt's code for this is the one of an incoming job as well. */
        if (virDomainIsActive(domain) == 0) {
            g_clear_error(error);
            g_set_error_literal(error, hypervisor_error_quark(), VIR_ERR_NO_DOMAIN,
                                "the domain does not run here");
        }
        virResetLastError();
        return false;
    }
    job_statistics_read(&request->statistics, type, parameters, n_parameters);
    virTypedParamsFree(parameters, n_parameters);
    return true;
}

void
hypervisor_query_job(Hypervisor *hypervisor, const char *uuid, HypervisorJobDone done,
                     gpointer user_data)
{
    request_start(hypervisor, request_new(hypervisor, uuid, run_query_job, finish_job,
                                          G_CALLBACK(done), user_data));
}

static bool
run_query_memory(Request *request, virDomainPtr domain, GError **error)
{
    virDomainMemoryStatStruct statistics[VIR_DOMAIN_MEMORY_STAT_NR];
    int count = virDomainMemoryStats(domain, statistics, VIR_DOMAIN_MEMORY_STAT_NR, 0);

    if (count < 0) {
        hypervisor_error_set(error, "reading the memory statistics");
        return false;
    }
    for (int i = 0; i < count; i++) {
        if (statistics[i].tag == VIR_DOMAIN_MEMORY_STAT_RSS && statistics[i].val > 0 &&
            statistics[i].val <= UINT64_MAX / 1024) {
            request->rate = (uint64_t)statistics[i].val * 1024; /* KiB */
            return true;
        }
    }
    g_set_error_literal(error, hypervisor_error_quark(), VIR_ERR_OPERATION_INVALID,
                        "libvirt states no resident memory");
    return false;
}

void
hypervisor_query_memory(Hypervisor *hypervisor, const char *uuid, HypervisorMemoryDone done,
                        gpointer user_data)
{
    request_start(hypervisor, request_new(hypervisor, uuid, run_query_memory, finish_rate,
                                          G_CALLBACK(done), user_data));
}

static void
texts_append_xml(GPtrArray *texts, virDomainPtr domain)
{
    /* One that is merely defined has no traffic and claims no bandwidth. */
    char *xml = virDomainIsActive(domain) == 1 ? virDomainGetXMLDesc(domain, 0) : NULL;

    if (xml != NULL) {
        g_ptr_array_add(texts, g_strdup(xml));
        free(xml);
    } else {
        virResetLastError(); /* it went away since it was listed */
    }
}

static bool
run_list_domains(Request *request, virDomainPtr domain, GError **error)
{
    virDomainPtr *domains = NULL;
    int count;

    request->texts = g_ptr_array_new_with_free_func(g_free);
    if (domain != NULL) {
        texts_append_xml(request->texts, domain);
        return true;
    }
    count =
        virConnectListAllDomains(request->connection, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    if (count < 0) {
        hypervisor_error_set(error, "listing the domains");
        return false;
    }
    for (int i = 0; i < count; i++) {
        texts_append_xml(request->texts, domains[i]);
        virDomainFree(domains[i]);
    }
    free(domains);
    return true;
}

void
hypervisor_list_domains(Hypervisor *hypervisor, const char *uuid, HypervisorTextsDone done,
                        gpointer user_data)
{
    request_start(hypervisor, request_new(hypervisor, uuid, run_list_domains, finish_texts,
                                          G_CALLBACK(done), user_data));
}

static bool
run_read_offer(Request *request, virDomainPtr unused G_GNUC_UNUSED, GError **error)
{
    virConnectPtr connection = virConnectOpen(request->destination_uri);
    virDomainPtr domain = NULL;
    char *text = NULL;

    if (connection != NULL)
        domain = virDomainLookupByUUIDString(connection, request->text);
    if (domain != NULL)
        text = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, PEER_OFFER_NAMESPACE,
                                    VIR_DOMAIN_AFFECT_LIVE);
    g_clear_pointer(&request->text, g_free);
    if (text == NULL)
        hypervisor_error_set(error, "reading the destination's offer");
    else
        request->text = g_strdup(text);
    free(text);
    if (domain != NULL)
        virDomainFree(domain);
    if (connection != NULL)
        virConnectClose(connection);
    return request->text != NULL;
}

void
hypervisor_read_offer(Hypervisor *hypervisor, const char *destination_uri, const char *uuid,
                      HypervisorTextDone done, gpointer user_data)
{
    Request *request =
        request_new(hypervisor, NULL, run_read_offer, finish_text, G_CALLBACK(done), user_data);

    request->destination_uri = g_strdup(destination_uri);
    request->text = g_strdup(uuid);
    request_start_in(hypervisor, hypervisor->foreign_workers, request);
}

static bool
run_remove_offer(Request *request G_GNUC_UNUSED, virDomainPtr domain, GError **error)
{
    unsigned flags = VIR_DOMAIN_AFFECT_LIVE;
    char *text = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, PEER_OFFER_NAMESPACE,
                                      VIR_DOMAIN_AFFECT_LIVE);

    if (text != NULL && virDomainIsPersistent(domain) == 1)
        flags |= VIR_DOMAIN_AFFECT_CONFIG;
    virResetLastError();
    if (text == NULL)
        return true;
    free(text);
    if (virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, NULL, NULL, PEER_OFFER_NAMESPACE,
                             flags) == 0)
        return true;
    hypervisor_error_set(error, "removing the offer from the domain's metadata");
    return false;
}

void
hypervisor_remove_offer(Hypervisor *hypervisor, const char *uuid, HypervisorDone done,
                        gpointer user_data)
{
    request_start(hypervisor, request_new(hypervisor, uuid, run_remove_offer, finish_plain,
                                          G_CALLBACK(done), user_data));
}

static bool
run_measure_dirty_rate(Request *request, virDomainPtr domain, GError **error)
{
    if (virDomainStartDirtyRateCalc(domain, DIRTY_RATE_SECONDS,
                                    VIR_DOMAIN_DIRTYRATE_MODE_PAGE_SAMPLING) < 0) {
        hypervisor_error_set(error, "starting the dirty rate calculation");
        return false;
    }
    for (unsigned poll = 0; poll < DIRTY_RATE_POLLS; poll++) {
        virDomainPtr domains[] = { domain, NULL };
        virDomainStatsRecordPtr *records = NULL;
        int status = -1;
        long long mib = 0;

        g_usleep(DIRTY_RATE_POLL_US);
        if (virDomainListGetStats(domains, VIR_DOMAIN_STATS_DIRTYRATE, &records, 0) < 1) {
            hypervisor_error_set(error, "reading the dirty rate");
            return false;
        }
        virTypedParamsGetInt(records[0]->params, records[0]->nparams, "dirtyrate.calc_status",
                             &status);
        virTypedParamsGetLLong(records[0]->params, records[0]->nparams,
                               "dirtyrate.megabytes_per_second", &mib);
        virDomainStatsRecordListFree(records);
        if (status != VIR_DOMAIN_DIRTYRATE_MEASURED)
            continue;
        if (mib <= 0 || mib > (1LL << 30))
            break;
        request->rate = (uint64_t)mib << 20;
        return true;
    }
    g_set_error_literal(error, hypervisor_error_quark(), VIR_ERR_OPERATION_INVALID,
                        "libvirt measured no dirty rate");
    return false;
}

void
hypervisor_measure_dirty_rate(Hypervisor *hypervisor, const char *uuid, HypervisorRateDone done,
                              gpointer user_data)
{
    request_start(hypervisor, request_new(hypervisor, uuid, run_measure_dirty_rate, finish_rate,
                                          G_CALLBACK(done), user_data));
}

/* ---- events ------------------------------------------------------------ */

static void
event_emit(Hypervisor *hypervisor, virDomainPtr domain, HypervisorEvent *event)
{
    char uuid[VIR_UUID_STRING_BUFLEN];

    if (domain != NULL) {
        if (virDomainGetUUIDString(domain, uuid) < 0)
            return;
        event->uuid = uuid;
        event->name = virDomainGetName(domain);
    }
    hypervisor->func(event, hypervisor->user_data);
}

static int
on_lifecycle(virConnectPtr connection G_GNUC_UNUSED, virDomainPtr domain, int type, int detail,
             void *data)
{
    HypervisorEvent event = { 0 };

    if (type == VIR_DOMAIN_EVENT_STARTED) {
        event.type = HYPERVISOR_DOMAIN_STARTED;
    } else if (type == VIR_DOMAIN_EVENT_STOPPED) {
        event.type = HYPERVISOR_DOMAIN_STOPPED;
        event.migrated = detail == VIR_DOMAIN_EVENT_STOPPED_MIGRATED;
    } else if (type == VIR_DOMAIN_EVENT_SUSPENDED &&
               detail == VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY) {
        event.type = HYPERVISOR_POST_COPY_ENTERED;
    } else if (type == VIR_DOMAIN_EVENT_RESUMED && detail == VIR_DOMAIN_EVENT_RESUMED_POSTCOPY) {
        event.type = HYPERVISOR_POST_COPY_ENTERED;
    } else if (type == VIR_DOMAIN_EVENT_RESUMED && detail == VIR_DOMAIN_EVENT_RESUMED_MIGRATED) {
        event.type = HYPERVISOR_DOMAIN_ARRIVED;
    } else if (type == VIR_DOMAIN_EVENT_SUSPENDED &&
               detail == VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED) {
        event.type = HYPERVISOR_POST_COPY_FAILED;
    } else if (type == VIR_DOMAIN_EVENT_DEFINED) {
        event.type = HYPERVISOR_DOMAIN_CHANGED;
    } else {
        return 0;
    }
    event_emit(data, domain, &event);
    return 0;
}

static void
on_iteration(virConnectPtr connection G_GNUC_UNUSED, virDomainPtr domain, int iteration, void *data)
{
    HypervisorEvent event = {
        .type = HYPERVISOR_MIGRATION_ITERATION,
        .iteration = iteration > 0 ? (unsigned)iteration : 0,
    };

    event_emit(data, domain, &event);
}

static void
on_job_completed(virConnectPtr connection G_GNUC_UNUSED, virDomainPtr domain,
                 virTypedParameterPtr parameters, int n_parameters, void *data)
{
    JobStatistics statistics;
    HypervisorEvent event = { .type = HYPERVISOR_JOB_COMPLETED, .statistics = &statistics };

    job_statistics_read(&statistics, VIR_DOMAIN_JOB_COMPLETED, parameters, n_parameters);
    event_emit(data, domain, &event);
}

static void
on_metadata_change(virConnectPtr connection G_GNUC_UNUSED, virDomainPtr domain,
                   int type G_GNUC_UNUSED, const char *uri G_GNUC_UNUSED, void *data)
{
    HypervisorEvent event = { .type = HYPERVISOR_DOMAIN_CHANGED };

    event_emit(data, domain, &event);
}

static void
on_device_added(virConnectPtr connection G_GNUC_UNUSED, virDomainPtr domain,
                const char *alias G_GNUC_UNUSED, void *data)
{
    HypervisorEvent event = { .type = HYPERVISOR_DOMAIN_CHANGED };

    event_emit(data, domain, &event);
}

/* ---- the connection ---------------------------------------------------- */

typedef struct {
    char *uri;
    Hypervisor *hypervisor; /* only handed on to libvirt as callback data */
    virConnectPtr connection;
    int callbacks[8];
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

/* Shared by the thread that closes and the one that may wait for it. */
typedef struct {
    virConnectPtr connection;
    int callbacks[8];
    guint n_callbacks;
    GMutex lock;
    GCond changed;
    bool done;
} Closing;

static void
closing_clear(gpointer data)
{
    Closing *closing = data;

    g_mutex_clear(&closing->lock);
    g_cond_clear(&closing->changed);
}

static gpointer
closing_thread(gpointer data)
{
    Closing *closing = data;

    connection_close(closing->connection, closing->callbacks, closing->n_callbacks);
    g_mutex_lock(&closing->lock);
    closing->done = true;
    g_cond_signal(&closing->changed);
    g_mutex_unlock(&closing->lock);
    g_atomic_rc_box_release_full(closing, closing_clear);
    g_atomic_int_add(&busy_threads, -1);
    return NULL;
}

/* Asks libvirtd, so in a thread; waits for it no longer than maximum_us. */
static void
hypervisor_close(Hypervisor *hypervisor, gint64 maximum_us)
{
    gint64 deadline = g_get_monotonic_time() + maximum_us;
    Closing *closing;
    GThread *thread;

    if (hypervisor->connection == NULL)
        return;
    closing = g_atomic_rc_box_new0(Closing);
    g_mutex_init(&closing->lock);
    g_cond_init(&closing->changed);
    closing->connection = g_steal_pointer(&hypervisor->connection);
    memcpy(closing->callbacks, hypervisor->callbacks, sizeof(closing->callbacks));
    closing->n_callbacks = hypervisor->n_callbacks;
    hypervisor->n_callbacks = 0;
    g_atomic_int_inc(&busy_threads);
    thread =
        g_thread_try_new("convoy-close", closing_thread, g_atomic_rc_box_acquire(closing), NULL);
    if (thread == NULL) {
        g_atomic_int_add(&busy_threads, -1);
        g_atomic_rc_box_release(closing);
    } else {
        g_thread_unref(thread);
        g_mutex_lock(&closing->lock);
        while (maximum_us > 0 && !closing->done &&
               g_cond_wait_until(&closing->changed, &closing->lock, deadline))
            ;
        g_mutex_unlock(&closing->lock);
    }
    g_atomic_rc_box_release_full(closing, closing_clear);
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
    event_emit(hypervisor, NULL, &event);
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
    static const struct {
        int id;
        virConnectDomainEventGenericCallback callback;
    } events[] = {
        { VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle) },
        { VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, VIR_DOMAIN_EVENT_CALLBACK(on_iteration) },
        { VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, VIR_DOMAIN_EVENT_CALLBACK(on_job_completed) },
        { VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, VIR_DOMAIN_EVENT_CALLBACK(on_metadata_change) },
        { VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, VIR_DOMAIN_EVENT_CALLBACK(on_device_added) },
        { VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(on_device_added) },
    };
    GError *error = NULL;

    opening->connection = virConnectOpen(opening->uri);
    if (opening->connection == NULL) {
        hypervisor_error_set(&error, opening->uri);
        g_task_return_error(task, error);
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(events); i++) {
        int id = virConnectDomainEventRegisterAny(opening->connection, NULL, events[i].id,
                                                  events[i].callback, opening->hypervisor, NULL);
        if (id < 0) {
            hypervisor_error_set(&error, "registering for libvirt's events");
            g_task_return_error(task, error);
            return;
        }
        opening->callbacks[opening->n_callbacks++] = id;
    }
    /* Notices a hung libvirtd; the test driver has no keep-alive. */
    if (virConnectSetKeepAlive(opening->connection, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT) < 0)
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

    g_atomic_int_inc(&busy_threads);
    /* Cancelled: it was still queued when the Hypervisor was freed. */
    if (!g_task_return_error_if_cancelled(task)) {
        if (g_task_get_source_tag(task) == hypervisor_open)
            open_run(task, g_task_get_task_data(task));
        else
            request_run(task, g_task_get_task_data(task));
    }
    g_clear_object(&task);
    g_atomic_int_add(&busy_threads, -1);
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
    event_emit(hypervisor, NULL, &event);
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
    g_thread_pool_free(hypervisor->resume_workers, FALSE, FALSE);
    g_object_unref(hypervisor->cancellable);
    g_free(hypervisor->uri);
    g_free(hypervisor);
}

bool
hypervisor_threads_left(void)
{
    return g_atomic_int_get(&busy_threads) > 0;
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
