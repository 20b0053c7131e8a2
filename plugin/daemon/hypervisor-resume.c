/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Resuming a post-copy that broke; see hypervisor.h. */
#include "daemon/hypervisor-private.h"

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
    virConnectPtr connection = hypervisor_open_destination(request->destination_uri);
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
        g_set_error_literal(error, hypervisor_error_quark(), HYPERVISOR_ERROR_NOT_NOTICED,
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

    ok = ok && (request->destination_name == NULL ||
                virTypedParamsAddString(&parameters, &count, &maximum, VIR_MIGRATE_PARAM_DEST_NAME,
                                        request->destination_name) == 0);
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
                            const char *migrate_uri, const char *destination_name, uint64_t flags,
                            HypervisorDone done, gpointer user_data)
{
    Request *request = hypervisor_request_new(hypervisor, NULL, run_resume_post_copy,
                                              hypervisor_finish_plain, G_CALLBACK(done), user_data);

    request->text = g_strdup(uuid);
    request->own_uri = g_strdup(hypervisor->uri);
    request->destination_uri = g_strdup(destination_uri);
    request->migrate_uri = g_strdup(migrate_uri);
    request->destination_name = g_strdup(destination_name);
    request->numbers[0] = flags;
    hypervisor_request_start_in(hypervisor, hypervisor->resume_workers, request);
}

static bool
run_query_post_copy(Request *request, virDomainPtr domain, GError **error)
{
    int state = -1;
    int reason = -1;

    if (virDomainGetState(domain, &state, &reason, 0) != 0) {
        hypervisor_error_set(error, "reading the state");
        return false;
    }
    request->number = HYPERVISOR_NO_POST_COPY;
    if (state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_POSTCOPY_FAILED)
        request->number = HYPERVISOR_POST_COPY_BROKEN;
    else if (state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_POSTCOPY)
        request->number = HYPERVISOR_POST_COPY_MOVES;
    return true;
}

static void
finish_post_copy(Request *request, const GError *error)
{
    HypervisorPostCopyDone done = (HypervisorPostCopyDone)request->done;

    done((HypervisorPostCopy)request->number, error, request->user_data);
}

void
hypervisor_query_post_copy(Hypervisor *hypervisor, const char *uuid, HypervisorPostCopyDone done,
                           gpointer user_data)
{
    hypervisor_request_start(hypervisor,
                             hypervisor_request_new(hypervisor, uuid, run_query_post_copy,
                                                    finish_post_copy, G_CALLBACK(done), user_data));
}
