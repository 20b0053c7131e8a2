/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests about a domain whose migration is held; see held.h. A held call is in
 * wait_for_turn() of call.c, in another thread.
 */
#include "libvirtd/held.h"

#include <glib.h>

#include "libvirtd/client.h"
#include "libvirtd/real.h"
#include "libvirtd/records.h"

/* The other end may have to start a QEMU first, and to let it in. */
#define MOVES_MAXIMUM (30 * G_USEC_PER_SEC)
#define MOVES_PACE (50 * 1000)

void
held_show_job(virDomainPtr domain, virDomainJobInfoPtr info)
{
    char uuid[VIR_UUID_STRING_BUFLEN];

    if (info->type == VIR_DOMAIN_JOB_NONE && real_domain_uuid(domain, uuid) &&
        running_calls_any(uuid, true))
        info->type = VIR_DOMAIN_JOB_UNBOUNDED;
}

int
held_abort(virDomainPtr domain, int (*run_real)(virDomainPtr, unsigned int), unsigned int flags)
{
    const Real *real = real_functions();
    char uuid[VIR_UUID_STRING_BUFLEN];
    bool was_held = false;
    int status;

    if (!real_domain_uuid(domain, uuid) || !running_calls_any(uuid, false))
        return run_real(domain, flags);
    /*
     * The real function first: it knows whether this client may abort. A held
     * call has no job yet, so then it says "no job is active".
     */
    status = run_real(domain, flags);
    if (status == 0)
        running_calls_abort(uuid, false);
    else if (real_last_error_code() != VIR_ERR_OPERATION_INVALID)
        return status;
    if (!running_calls_any(uuid, true))
        return status;
    /* The daemon is told first, so that the held call learns it at once. */
    was_held = client_abort_waiting(uuid);
    was_held = running_calls_abort(uuid, true) || was_held;
    if (status != 0 && was_held) {
        if (real->reset_last_error != NULL)
            real->reset_last_error();
        return 0;
    }
    return status;
}

/* libvirt has a job from Begin on, but figures of memory only from QEMU. */
static bool
memory_moves(virDomainPtr domain)
{
    const Real *real = real_functions();
    virDomainJobInfo info;

    return real->get_job_info != NULL && real->get_job_info(domain, &info) == 0 &&
           info.type != VIR_DOMAIN_JOB_NONE && info.memTotal > 0;
}

/* Has a call of it under way, or is between two of them. */
static bool
migration_goes_on(const char *uuid)
{
    Record record;

    return running_calls_any(uuid, false) || records_get(RECORD_SOURCE, uuid, &record);
}

int
held_hurry(virDomainPtr domain, int (*run_real)(virDomainPtr, unsigned int), unsigned int flags)
{
    const Real *real = real_functions();
    char uuid[VIR_UUID_STRING_BUFLEN];
    gint64 until;

    if (real->get_connect == NULL || !real_domain_uuid(domain, uuid) ||
        !running_calls_held_by(uuid, real->get_connect(domain)))
        return run_real(domain, flags);
    client_release_waiting(uuid);
    until = g_get_monotonic_time() + MOVES_MAXIMUM;
    while (migration_goes_on(uuid) && !memory_moves(domain) && g_get_monotonic_time() < until)
        g_usleep(MOVES_PACE);
    return run_real(domain, flags);
}
