/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finds libvirt's functions; see real.h.
 *
 * The plugin is not linked with libvirt: in a program that has none, nothing
 * of this is ever called.
 */
#include "libvirtd/real.h"

#include <dlfcn.h>
#include <pthread.h>

static Real real;

static const struct {
    const char *symbol;
    size_t offset;
} symbols[] = {
    { "virDomainMigrateBegin3", offsetof(Real, begin) },
    { "virDomainMigrateBegin3Params", offsetof(Real, begin_params) },
    { "virDomainMigratePrepare3", offsetof(Real, prepare) },
    { "virDomainMigratePrepare3Params", offsetof(Real, prepare_params) },
    { "virDomainMigratePrepareTunnel3", offsetof(Real, prepare_tunnel) },
    { "virDomainMigratePrepareTunnel3Params", offsetof(Real, prepare_tunnel_params) },
    { "virDomainMigratePerform3", offsetof(Real, perform) },
    { "virDomainMigratePerform3Params", offsetof(Real, perform_params) },
    { "virDomainMigrateFinish3", offsetof(Real, finish) },
    { "virDomainMigrateFinish3Params", offsetof(Real, finish_params) },
    { "virDomainMigrateConfirm3", offsetof(Real, confirm) },
    { "virDomainMigrateConfirm3Params", offsetof(Real, confirm_params) },
    { "virDomainAbortJob", offsetof(Real, abort_job) },
    { "virDomainAbortJobFlags", offsetof(Real, abort_job_flags) },
    { "virDomainGetJobInfo", offsetof(Real, get_job_info) },
    { "virDomainSuspend", offsetof(Real, suspend) },
    { "virDomainMigrateStartPostCopy", offsetof(Real, start_post_copy) },
    { "virDomainGetUUIDString", offsetof(Real, get_uuid_string) },
    { "virDomainGetName", offsetof(Real, get_name) },
    { "virDomainGetConnect", offsetof(Real, get_connect) },
    { "virDomainGetXMLDesc", offsetof(Real, get_xml) },
    { "virDomainGetState", offsetof(Real, get_state) },
    { "virDomainMigrateGetMaxSpeed", offsetof(Real, get_max_speed) },
    { "virDomainFree", offsetof(Real, free_domain) },
    { "virGetLastError", offsetof(Real, get_last_error) },
    { "virSaveLastError", offsetof(Real, save_last_error) },
    { "virFreeError", offsetof(Real, free_error) },
    { "virResetLastError", offsetof(Real, reset_last_error) },
    { "virSetError", offsetof(Real, set_error) },
    { "virGetDomain", offsetof(Real, get_domain) },
    { "virRaiseErrorFull", offsetof(Real, raise_error) },
};

static void
resolve(void)
{
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++)
        *(void **)((char *)&real + symbols[i].offset) = dlsym(RTLD_NEXT, symbols[i].symbol);
}

const Real *
real_functions(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, resolve);
    return &real;
}

bool
real_domain_uuid(virDomainPtr domain, char *ret_uuid)
{
    const Real *functions = real_functions();

    return domain != NULL && functions->get_uuid_string != NULL &&
           functions->get_uuid_string(domain, ret_uuid) == 0;
}

int
real_last_error_code(void)
{
    const Real *functions = real_functions();
    virErrorPtr error = functions->get_last_error != NULL ? functions->get_last_error() : NULL;

    return error != NULL ? error->code : VIR_ERR_OK;
}
