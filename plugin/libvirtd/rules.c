/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The fence around the daemon's answers; see rules.h.
 */
#include "libvirtd/rules.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>

#define CONNECTIONS_MAXIMUM 255u

uint64_t
rules_addable_flags(const Asked *asked)
{
    uint64_t flags = 0;

    if (asked->flags & (VIR_MIGRATE_OFFLINE | VIR_MIGRATE_POSTCOPY_RESUME | VIR_MIGRATE_TUNNELLED |
                        VIR_MIGRATE_COMPRESSED))
        return 0;
    if ((asked->flags & VIR_MIGRATE_LIVE) && !(asked->flags & VIR_MIGRATE_PAUSED) &&
        !(asked->flags & (VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_PARALLEL)))
        flags |= VIR_MIGRATE_POSTCOPY;
    /* Without a list the number of connections could not be made to match. */
    if (asked->typed_parameters && !asked->rdma &&
        !(asked->flags & (VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_PARALLEL)))
        flags |= VIR_MIGRATE_PARALLEL;
    /* The source's own business: the other end need not agree. */
    if (asked->flags & VIR_MIGRATE_LIVE)
        flags |= VIR_MIGRATE_AUTO_CONVERGE;
    return flags;
}

Additions
rules_reduce(const Asked *asked, uint64_t permitted_flags, const Additions *wanted)
{
    Additions reduced = { 0 };
    uint64_t all;

    if (asked->flags & (VIR_MIGRATE_OFFLINE | VIR_MIGRATE_POSTCOPY_RESUME))
        return reduced;
    reduced.flags = wanted->flags & permitted_flags & rules_addable_flags(asked) & ~asked->flags;
    if ((reduced.flags & VIR_MIGRATE_POSTCOPY) && (reduced.flags & VIR_MIGRATE_PARALLEL))
        reduced.flags &= ~(uint64_t)VIR_MIGRATE_PARALLEL;
    all = asked->flags | reduced.flags;
    /* A guest that can be switched need not be throttled. */
    if (all & VIR_MIGRATE_POSTCOPY) {
        reduced.flags &= ~(uint64_t)VIR_MIGRATE_AUTO_CONVERGE;
        all = asked->flags | reduced.flags;
    }

    if (!asked->bandwidth && wanted->bandwidth <= RULES_BANDWIDTH_MAXIMUM)
        reduced.bandwidth = wanted->bandwidth;
    if (!asked->typed_parameters)
        return reduced;
    if (!asked->bandwidth_post_copy && (all & VIR_MIGRATE_POSTCOPY) &&
        wanted->bandwidth_post_copy <= RULES_BANDWIDTH_MAXIMUM)
        reduced.bandwidth_post_copy = wanted->bandwidth_post_copy;
    /* Only such a call is repeated without it when libvirt or QEMU does not know it after all. */
    if (!asked->bandwidth_switchover && (asked->flags & VIR_MIGRATE_PEER2PEER) &&
        wanted->bandwidth_switchover <= RULES_BANDWIDTH_MAXIMUM)
        reduced.bandwidth_switchover = wanted->bandwidth_switchover;
    /* With the user's own --parallel the other end has the user's number. */
    if (!asked->connections && (reduced.flags & VIR_MIGRATE_PARALLEL) &&
        wanted->connections <= CONNECTIONS_MAXIMUM)
        reduced.connections = wanted->connections;
    return reduced;
}

bool
rules_adds_anything(const Additions *additions)
{
    return additions->flags != 0 || additions->bandwidth != 0 ||
           additions->bandwidth_post_copy != 0 || additions->bandwidth_switchover != 0 ||
           additions->connections != 0;
}

bool
rules_setup_error_is_repeatable(int error_code)
{
    switch (error_code) {
    case VIR_ERR_OPERATION_ABORTED: /* somebody wants it to end */
    case VIR_ERR_OPERATION_TIMEOUT: /* has waited long enough already */
    case VIR_ERR_OPERATION_DENIED:  /* these three: the answer stays the same */
    case VIR_ERR_ACCESS_DENIED:
    case VIR_ERR_NO_DOMAIN:
        return false;
    default:
        return true;
    }
}

bool
rules_perform_error_is_repeatable(int error_code, const char *message)
{
    switch (error_code) {
    case VIR_ERR_CONFIG_UNSUPPORTED:
    case VIR_ERR_ARGUMENT_UNSUPPORTED:
    case VIR_ERR_OPERATION_UNSUPPORTED:
    case VIR_ERR_INVALID_ARG:
    case VIR_ERR_NO_SUPPORT:
        return true;
    case VIR_ERR_INTERNAL_ERROR: /* QEMU refused a capability or a limit, or it crashed */
    case VIR_ERR_OPERATION_FAILED:
        return message != NULL && strstr(message, "migrate-set-") != NULL;
    default:
        return false;
    }
}
