/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The entry points of libvirt.so that this object stands in front of.
 *
 * libvirtd reaches them through the dynamic linker; loaded before libvirt.so,
 * these are called instead. Signatures: src/libvirt_internal.h of libvirt,
 * unchanged since 1.1.0. In a program that is not libvirtd or virtqemud they
 * pass through. No policy here, only the mapping to a Call and back.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "libvirtd/call.h"
#include "libvirtd/environment.h"
#include "libvirtd/held.h"
#include "libvirtd/real.h"

#define EXPORTED __attribute__((visibility("default")))

/* libvirt_internal.h is not installed. */
char *virDomainMigrateBegin3(virDomainPtr domain, const char *xmlin, char **cookieout,
                             int *cookieoutlen, unsigned long flags, const char *dname,
                             unsigned long bandwidth);
char *virDomainMigrateBegin3Params(virDomainPtr domain, virTypedParameterPtr params, int nparams,
                                   char **cookieout, int *cookieoutlen, unsigned int flags);
int virDomainMigratePrepare3(virConnectPtr dconn, const char *cookiein, int cookieinlen,
                             char **cookieout, int *cookieoutlen, const char *uri_in,
                             char **uri_out, unsigned long flags, const char *dname,
                             unsigned long bandwidth, const char *dom_xml);
int virDomainMigratePrepare3Params(virConnectPtr dconn, virTypedParameterPtr params, int nparams,
                                   const char *cookiein, int cookieinlen, char **cookieout,
                                   int *cookieoutlen, char **uri_out, unsigned int flags);
int virDomainMigratePrepareTunnel3(virConnectPtr dconn, virStreamPtr st, const char *cookiein,
                                   int cookieinlen, char **cookieout, int *cookieoutlen,
                                   unsigned long flags, const char *dname, unsigned long bandwidth,
                                   const char *dom_xml);
int virDomainMigratePrepareTunnel3Params(virConnectPtr dconn, virStreamPtr st,
                                         virTypedParameterPtr params, int nparams,
                                         const char *cookiein, int cookieinlen, char **cookieout,
                                         int *cookieoutlen, unsigned int flags);
int virDomainMigratePerform3(virDomainPtr domain, const char *xmlin, const char *cookiein,
                             int cookieinlen, char **cookieout, int *cookieoutlen,
                             const char *dconnuri, const char *uri, unsigned long flags,
                             const char *dname, unsigned long bandwidth);
int virDomainMigratePerform3Params(virDomainPtr domain, const char *dconnuri,
                                   virTypedParameterPtr params, int nparams, const char *cookiein,
                                   int cookieinlen, char **cookieout, int *cookieoutlen,
                                   unsigned int flags);
virDomainPtr virDomainMigrateFinish3(virConnectPtr dconn, const char *dname, const char *cookiein,
                                     int cookieinlen, char **cookieout, int *cookieoutlen,
                                     const char *dconnuri, const char *uri, unsigned long flags,
                                     int cancelled);
virDomainPtr virDomainMigrateFinish3Params(virConnectPtr dconn, virTypedParameterPtr params,
                                           int nparams, const char *cookiein, int cookieinlen,
                                           char **cookieout, int *cookieoutlen, unsigned int flags,
                                           int cancelled);
int virDomainMigrateConfirm3(virDomainPtr domain, const char *cookiein, int cookieinlen,
                             unsigned long flags, int cancelled);
int virDomainMigrateConfirm3Params(virDomainPtr domain, virTypedParameterPtr params, int nparams,
                                   const char *cookiein, int cookieinlen, unsigned int flags,
                                   int cancelled);

/* An address inside this object, for dladdr. */
static const char object_marker;

/* Only cleans LD_PRELOAD, so that QEMU and other children do not inherit us. */
__attribute__((constructor)) static void
remove_from_environment(void)
{
    const char *list = getenv("LD_PRELOAD");
    Dl_info info;
    char *kept;

    if (list == NULL || dladdr(&object_marker, &info) == 0 || info.dli_fname == NULL)
        return;
    kept = environment_without_object(list, info.dli_fname);
    if (kept == NULL)
        return;
    if (kept[0] == '\0')
        unsetenv("LD_PRELOAD");
    else
        setenv("LD_PRELOAD", kept, 1);
    free(kept);
}

static pid_t driver_process;

static void
note_process(void)
{
    driver_process = getpid();
}

/*
 * Whether this is the process of libvirtd or virtqemud that made the first call. A
 * child that it forks has one thread only: nobody would answer there, and a lock of
 * ours may be held by a thread that is not there. What becomes a daemon by a fork
 * does so before its first call.
 */
static bool
in_driver_daemon(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    if (!environment_is_driver_daemon(program_invocation_short_name))
        return false;
    pthread_once(&once, note_process);
    return getpid() == driver_process;
}

/* The phase of a call; in any other program just the real function. */
static void
dispatch(Call *call, void (*phase)(Call *))
{
    if (in_driver_daemon())
        phase(call);
    else
        call->run(call, &call->asked);
}

static void
prepare_plain(Call *call)
{
    call_prepare(call, false);
}

static void
prepare_tunnel(Call *call)
{
    call_prepare(call, true);
}

static void
run_begin(Call *call, const CallArguments *arguments)
{
    if (real_functions()->begin != NULL)
        call->xml_result = real_functions()->begin(
            call->domain, arguments->xml, call->cookie_out, call->cookie_out_length,
            (unsigned long)arguments->flags, call->name, arguments->bandwidth);
}

EXPORTED char *
virDomainMigrateBegin3(virDomainPtr domain, const char *xmlin, char **cookieout, int *cookieoutlen,
                       unsigned long flags, const char *dname, unsigned long bandwidth)
{
    Call call = {
        .asked = { .flags = flags, .bandwidth = bandwidth, .xml = xmlin },
        .domain = domain,
        .name = dname,
        .cookie_out = cookieout,
        .cookie_out_length = cookieoutlen,
        .run = run_begin,
    };

    dispatch(&call, call_begin);
    return call.xml_result;
}

static void
run_begin_params(Call *call, const CallArguments *arguments)
{
    if (real_functions()->begin_params != NULL)
        call->xml_result = real_functions()->begin_params(
            call->domain, arguments->parameters, arguments->n_parameters, call->cookie_out,
            call->cookie_out_length, (unsigned)arguments->flags);
}

EXPORTED char *
virDomainMigrateBegin3Params(virDomainPtr domain, virTypedParameterPtr params, int nparams,
                             char **cookieout, int *cookieoutlen, unsigned int flags)
{
    Call call = {
        .asked = { .flags = flags, .parameters = params, .n_parameters = nparams },
        .typed_parameters = true,
        .domain = domain,
        .cookie_out = cookieout,
        .cookie_out_length = cookieoutlen,
        .run = run_begin_params,
    };

    dispatch(&call, call_begin);
    return call.xml_result;
}

static void
run_prepare(Call *call, const CallArguments *arguments)
{
    if (real_functions()->prepare != NULL)
        call->status = real_functions()->prepare(
            call->connection, call->cookie_in, call->cookie_in_length, call->cookie_out,
            call->cookie_out_length, call->uri, call->uri_out, (unsigned long)arguments->flags,
            call->name, arguments->bandwidth, arguments->xml);
}

EXPORTED int
virDomainMigratePrepare3(virConnectPtr dconn, const char *cookiein, int cookieinlen,
                         char **cookieout, int *cookieoutlen, const char *uri_in, char **uri_out,
                         unsigned long flags, const char *dname, unsigned long bandwidth,
                         const char *dom_xml)
{
    Call call = {
        .asked = { .flags = flags, .bandwidth = bandwidth, .xml = dom_xml },
        .connection = dconn,
        .uri = uri_in,
        .name = dname,
        .cookie_in = cookiein,
        .cookie_in_length = cookieinlen,
        .cookie_out = cookieout,
        .cookie_out_length = cookieoutlen,
        .uri_out = uri_out,
        .run = run_prepare,
        .status = -1,
    };

    dispatch(&call, prepare_plain);
    return call.status;
}

static void
run_prepare_params(Call *call, const CallArguments *arguments)
{
    if (real_functions()->prepare_params != NULL)
        call->status = real_functions()->prepare_params(
            call->connection, arguments->parameters, arguments->n_parameters, call->cookie_in,
            call->cookie_in_length, call->cookie_out, call->cookie_out_length, call->uri_out,
            (unsigned)arguments->flags);
}

EXPORTED int
virDomainMigratePrepare3Params(virConnectPtr dconn, virTypedParameterPtr params, int nparams,
                               const char *cookiein, int cookieinlen, char **cookieout,
                               int *cookieoutlen, char **uri_out, unsigned int flags)
{
    Call call = {
        .asked = { .flags = flags, .parameters = params, .n_parameters = nparams },
        .typed_parameters = true,
        .connection = dconn,
        .cookie_in = cookiein,
        .cookie_in_length = cookieinlen,
        .cookie_out = cookieout,
        .cookie_out_length = cookieoutlen,
        .uri_out = uri_out,
        .run = run_prepare_params,
        .status = -1,
    };

    dispatch(&call, prepare_plain);
    return call.status;
}

static void
run_prepare_tunnel(Call *call, const CallArguments *arguments)
{
    if (real_functions()->prepare_tunnel != NULL)
        call->status = real_functions()->prepare_tunnel(
            call->connection, call->stream, call->cookie_in, call->cookie_in_length,
            call->cookie_out, call->cookie_out_length, (unsigned long)arguments->flags, call->name,
            arguments->bandwidth, arguments->xml);
}

EXPORTED int
virDomainMigratePrepareTunnel3(virConnectPtr dconn, virStreamPtr st, const char *cookiein,
                               int cookieinlen, char **cookieout, int *cookieoutlen,
                               unsigned long flags, const char *dname, unsigned long bandwidth,
                               const char *dom_xml)
{
    Call call = {
        .asked = { .flags = flags, .bandwidth = bandwidth, .xml = dom_xml },
        .connection = dconn,
        .stream = st,
        .name = dname,
        .cookie_in = cookiein,
        .cookie_in_length = cookieinlen,
        .cookie_out = cookieout,
        .cookie_out_length = cookieoutlen,
        .run = run_prepare_tunnel,
        .status = -1,
    };

    dispatch(&call, prepare_tunnel);
    return call.status;
}

static void
run_prepare_tunnel_params(Call *call, const CallArguments *arguments)
{
    if (real_functions()->prepare_tunnel_params != NULL)
        call->status = real_functions()->prepare_tunnel_params(
            call->connection, call->stream, arguments->parameters, arguments->n_parameters,
            call->cookie_in, call->cookie_in_length, call->cookie_out, call->cookie_out_length,
            (unsigned)arguments->flags);
}

EXPORTED int
virDomainMigratePrepareTunnel3Params(virConnectPtr dconn, virStreamPtr st,
                                     virTypedParameterPtr params, int nparams, const char *cookiein,
                                     int cookieinlen, char **cookieout, int *cookieoutlen,
                                     unsigned int flags)
{
    Call call = {
        .asked = { .flags = flags, .parameters = params, .n_parameters = nparams },
        .typed_parameters = true,
        .connection = dconn,
        .stream = st,
        .cookie_in = cookiein,
        .cookie_in_length = cookieinlen,
        .cookie_out = cookieout,
        .cookie_out_length = cookieoutlen,
        .run = run_prepare_tunnel_params,
        .status = -1,
    };

    dispatch(&call, prepare_tunnel);
    return call.status;
}

static void
run_perform(Call *call, const CallArguments *arguments)
{
    if (real_functions()->perform != NULL)
        call->status = real_functions()->perform(
            call->domain, arguments->xml, call->cookie_in, call->cookie_in_length, call->cookie_out,
            call->cookie_out_length, call->destination_uri, call->uri,
            (unsigned long)arguments->flags, call->name, arguments->bandwidth);
}

EXPORTED int
virDomainMigratePerform3(virDomainPtr domain, const char *xmlin, const char *cookiein,
                         int cookieinlen, char **cookieout, int *cookieoutlen, const char *dconnuri,
                         const char *uri, unsigned long flags, const char *dname,
                         unsigned long bandwidth)
{
    Call call = {
        .asked = { .flags = flags, .bandwidth = bandwidth, .xml = xmlin },
        .domain = domain,
        .destination_uri = dconnuri,
        .uri = uri,
        .name = dname,
        .cookie_in = cookiein,
        .cookie_in_length = cookieinlen,
        .cookie_out = cookieout,
        .cookie_out_length = cookieoutlen,
        .run = run_perform,
        .status = -1,
    };

    dispatch(&call, call_perform);
    return call.status;
}

static void
run_perform_params(Call *call, const CallArguments *arguments)
{
    if (real_functions()->perform_params != NULL)
        call->status = real_functions()->perform_params(
            call->domain, call->destination_uri, arguments->parameters, arguments->n_parameters,
            call->cookie_in, call->cookie_in_length, call->cookie_out, call->cookie_out_length,
            (unsigned)arguments->flags);
}

EXPORTED int
virDomainMigratePerform3Params(virDomainPtr domain, const char *dconnuri,
                               virTypedParameterPtr params, int nparams, const char *cookiein,
                               int cookieinlen, char **cookieout, int *cookieoutlen,
                               unsigned int flags)
{
    Call call = {
        .asked = { .flags = flags, .parameters = params, .n_parameters = nparams },
        .typed_parameters = true,
        .domain = domain,
        .destination_uri = dconnuri,
        .cookie_in = cookiein,
        .cookie_in_length = cookieinlen,
        .cookie_out = cookieout,
        .cookie_out_length = cookieoutlen,
        .run = run_perform_params,
        .status = -1,
    };

    dispatch(&call, call_perform);
    return call.status;
}

static void
run_finish(Call *call, const CallArguments *arguments)
{
    if (real_functions()->finish != NULL)
        call->domain_result = real_functions()->finish(
            call->connection, call->name, call->cookie_in, call->cookie_in_length, call->cookie_out,
            call->cookie_out_length, call->destination_uri, call->uri,
            (unsigned long)arguments->flags, call->cancelled);
}

EXPORTED virDomainPtr
virDomainMigrateFinish3(virConnectPtr dconn, const char *dname, const char *cookiein,
                        int cookieinlen, char **cookieout, int *cookieoutlen, const char *dconnuri,
                        const char *uri, unsigned long flags, int cancelled)
{
    Call call = {
        .asked = { .flags = flags },
        .connection = dconn,
        .destination_uri = dconnuri,
        .uri = uri,
        .name = dname,
        .cookie_in = cookiein,
        .cookie_in_length = cookieinlen,
        .cookie_out = cookieout,
        .cookie_out_length = cookieoutlen,
        .cancelled = cancelled,
        .run = run_finish,
    };

    dispatch(&call, call_finish);
    return call.domain_result;
}

static void
run_finish_params(Call *call, const CallArguments *arguments)
{
    if (real_functions()->finish_params != NULL)
        call->domain_result = real_functions()->finish_params(
            call->connection, arguments->parameters, arguments->n_parameters, call->cookie_in,
            call->cookie_in_length, call->cookie_out, call->cookie_out_length,
            (unsigned)arguments->flags, call->cancelled);
}

EXPORTED virDomainPtr
virDomainMigrateFinish3Params(virConnectPtr dconn, virTypedParameterPtr params, int nparams,
                              const char *cookiein, int cookieinlen, char **cookieout,
                              int *cookieoutlen, unsigned int flags, int cancelled)
{
    Call call = {
        .asked = { .flags = flags, .parameters = params, .n_parameters = nparams },
        .typed_parameters = true,
        .connection = dconn,
        .cookie_in = cookiein,
        .cookie_in_length = cookieinlen,
        .cookie_out = cookieout,
        .cookie_out_length = cookieoutlen,
        .cancelled = cancelled,
        .run = run_finish_params,
    };

    dispatch(&call, call_finish);
    return call.domain_result;
}

static void
run_confirm(Call *call, const CallArguments *arguments)
{
    if (real_functions()->confirm != NULL)
        call->status =
            real_functions()->confirm(call->domain, call->cookie_in, call->cookie_in_length,
                                      (unsigned long)arguments->flags, call->cancelled);
}

EXPORTED int
virDomainMigrateConfirm3(virDomainPtr domain, const char *cookiein, int cookieinlen,
                         unsigned long flags, int cancelled)
{
    Call call = {
        .asked = { .flags = flags },
        .domain = domain,
        .cookie_in = cookiein,
        .cookie_in_length = cookieinlen,
        .cancelled = cancelled,
        .run = run_confirm,
        .status = -1,
    };

    dispatch(&call, call_confirm);
    return call.status;
}

static void
run_confirm_params(Call *call, const CallArguments *arguments)
{
    if (real_functions()->confirm_params != NULL)
        call->status = real_functions()->confirm_params(
            call->domain, arguments->parameters, arguments->n_parameters, call->cookie_in,
            call->cookie_in_length, (unsigned)arguments->flags, call->cancelled);
}

EXPORTED int
virDomainMigrateConfirm3Params(virDomainPtr domain, virTypedParameterPtr params, int nparams,
                               const char *cookiein, int cookieinlen, unsigned int flags,
                               int cancelled)
{
    Call call = {
        .asked = { .flags = flags, .parameters = params, .n_parameters = nparams },
        .typed_parameters = true,
        .domain = domain,
        .cookie_in = cookiein,
        .cookie_in_length = cookieinlen,
        .cancelled = cancelled,
        .run = run_confirm_params,
        .status = -1,
    };

    dispatch(&call, call_confirm);
    return call.status;
}

static int
run_abort(virDomainPtr domain, unsigned int flags)
{
    (void)flags;
    return real_functions()->abort_job != NULL ? real_functions()->abort_job(domain) : -1;
}

static int
run_abort_flags(virDomainPtr domain, unsigned int flags)
{
    return real_functions()->abort_job_flags != NULL
               ? real_functions()->abort_job_flags(domain, flags)
               : -1;
}

EXPORTED int
virDomainAbortJob(virDomainPtr domain)
{
    if (!in_driver_daemon())
        return run_abort(domain, 0);
    return held_abort(domain, run_abort, 0);
}

EXPORTED int
virDomainAbortJobFlags(virDomainPtr domain, unsigned int flags)
{
    if (!in_driver_daemon())
        return run_abort_flags(domain, flags);
    return held_abort(domain, run_abort_flags, flags);
}

EXPORTED int
virDomainGetJobInfo(virDomainPtr domain, virDomainJobInfoPtr info)
{
    const Real *real = real_functions();
    int status = real->get_job_info != NULL ? real->get_job_info(domain, info) : -1;

    if (status == 0 && in_driver_daemon())
        held_show_job(domain, info);
    return status;
}

static int
run_suspend(virDomainPtr domain, unsigned int flags)
{
    (void)flags;
    return real_functions()->suspend != NULL ? real_functions()->suspend(domain) : -1;
}

EXPORTED int
virDomainSuspend(virDomainPtr domain)
{
    return in_driver_daemon() ? held_hurry(domain, run_suspend, 0) : run_suspend(domain, 0);
}

static int
run_start_post_copy(virDomainPtr domain, unsigned int flags)
{
    return real_functions()->start_post_copy != NULL
               ? real_functions()->start_post_copy(domain, flags)
               : -1;
}

EXPORTED int
virDomainMigrateStartPostCopy(virDomainPtr domain, unsigned int flags)
{
    return in_driver_daemon() ? held_hurry(domain, run_start_post_copy, flags)
                              : run_start_post_copy(domain, flags);
}
