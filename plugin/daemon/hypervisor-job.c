/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Steering and reading a migration that runs; see hypervisor.h. */
#include "daemon/hypervisor-private.h"

#include <string.h>

/* A daemon that stops waits no longer for a libvirtd that hangs. */
#define LIFT_MAXIMUM_US (2 * G_USEC_PER_SEC)

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
    hypervisor_request_start(
        hypervisor, hypervisor_request_new(hypervisor, uuid, run_start_post_copy,
                                           hypervisor_finish_plain, G_CALLBACK(done), user_data));
}

static bool
run_set_max_speed(Request *request, virDomainPtr domain, GError **error)
{
    static const unsigned flags[] = { 0, VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY };
    unsigned long present = 0;

    if (request->numbers[0] != 0) {
        if (virDomainMigrateGetMaxSpeed(domain, &present, 0) < 0) {
            hypervisor_error_set(error, "reading the migration bandwidth limit");
            return false;
        }
        request->number = present;
        if (present != request->numbers[2] && present < HYPERVISOR_SPEED_UNLIMITED) {
            g_set_error(error, hypervisor_error_quark(), HYPERVISOR_ERROR_CHANGED,
                        "somebody else set the limit to %lu MiB/s", present);
            return false;
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(flags); i++) {
        if (request->numbers[i] != 0 &&
            virDomainMigrateSetMaxSpeed(domain, (unsigned long)request->numbers[i], flags[i]) < 0) {
            hypervisor_error_set(error, "setting the migration bandwidth limit");
            return false;
        }
        if (i == 0 && request->numbers[0] != 0)
            request->number = request->numbers[0];
    }
    return true;
}

void
hypervisor_set_max_speed(Hypervisor *hypervisor, const char *uuid, uint64_t told_mib,
                         uint64_t pre_copy_mib, uint64_t post_copy_mib, HypervisorNumberDone done,
                         gpointer user_data)
{
    Request *request = hypervisor_request_new(
        hypervisor, uuid, run_set_max_speed, hypervisor_finish_number, G_CALLBACK(done), user_data);

    request->numbers[0] = pre_copy_mib;
    request->numbers[1] = post_copy_mib;
    request->numbers[2] = told_mib;
    hypervisor_request_start(hypervisor, request);
}

bool
hypervisor_speed_is_lifted(const GError *error)
{
    /* Gone with its domain, or replaced by somebody else's: not ours any more. */
    return error == NULL || error->code == HYPERVISOR_ERROR_CHANGED ||
           error->code == VIR_ERR_NO_DOMAIN;
}

typedef struct {
    virConnectPtr connection;
    HypervisorSpeedLift *lifts;
    guint n_lifts;
} Lifting;

static void
lifting_clear(gpointer data)
{
    Lifting *lifting = data;

    virConnectClose(lifting->connection);
    g_free(lifting->lifts);
}

static void
lifting_run(gpointer data)
{
    Lifting *lifting = data;

    for (guint i = 0; i < lifting->n_lifts; i++) {
        HypervisorSpeedLift *lift = &lifting->lifts[i];
        Request request = {
            .connection = lifting->connection,
            .uuid = lift->uuid,
            .run = run_set_max_speed,
            .numbers = { lift->told_mib != 0 ? HYPERVISOR_SPEED_UNLIMITED : 0,
                         lift->post_copy ? HYPERVISOR_SPEED_UNLIMITED : 0, lift->told_mib },
        };
        g_autoptr(GError) error = NULL;

        hypervisor_request_perform(&request, &error);
        /* The limit of post-copy ends with the migration by itself. */
        lift->lifted =
            hypervisor_speed_is_lifted(error) || request.number >= HYPERVISOR_SPEED_UNLIMITED;
    }
}

void
hypervisor_lift_speeds(Hypervisor *hypervisor, HypervisorSpeedLift *lifts, guint n_lifts)
{
    Lifting *lifting;

    if (n_lifts == 0 || hypervisor->connection == NULL)
        return;
    lifting = g_atomic_rc_box_new0(Lifting);
    virConnectRef(hypervisor->connection);
    lifting->connection = hypervisor->connection;
    lifting->lifts = g_memdup2(lifts, n_lifts * sizeof(*lifts));
    lifting->n_lifts = n_lifts;
    if (hypervisor_run_bounded(lifting_run, lifting, lifting_clear, LIFT_MAXIMUM_US))
        memcpy(lifts, lifting->lifts, n_lifts * sizeof(*lifts));
    g_atomic_rc_box_release_full(lifting, lifting_clear);
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
    Request *request = hypervisor_request_new(hypervisor, uuid, run_set_max_downtime,
                                              hypervisor_finish_plain, G_CALLBACK(done), user_data);

    request->numbers[0] = milliseconds;
    hypervisor_request_start(hypervisor, request);
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
    Request *request = hypervisor_request_new(hypervisor, uuid, run_raise_max_downtime,
                                              hypervisor_finish_plain, G_CALLBACK(done), user_data);

    request->numbers[0] = milliseconds;
    request->numbers[1] = present_ms;
    hypervisor_request_start(hypervisor, request);
}

void
hypervisor_read_statistics(JobStatistics *ret_statistics, int job_type,
                           virTypedParameterPtr parameters, int n_parameters)
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
    hypervisor_read_statistics(&request->statistics, type, parameters, n_parameters);
    virTypedParamsFree(parameters, n_parameters);
    return true;
}

void
hypervisor_query_job(Hypervisor *hypervisor, const char *uuid, HypervisorJobDone done,
                     gpointer user_data)
{
    hypervisor_request_start(hypervisor, hypervisor_request_new(hypervisor, uuid, run_query_job,
                                                                hypervisor_finish_job,
                                                                G_CALLBACK(done), user_data));
}
