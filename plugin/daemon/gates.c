/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Gates over migration flags; see gates.h. */
#include "daemon/gates.h"

#include "decision/parallel.h"

#include <errno.h>
#include <glib.h>
#include <libvirt/libvirt.h>
#include <stddef.h>
#include <string.h>

#define SWITCHOVER_LIBVIRT 11001000u
#define SWITCHOVER_QEMU 8002000u
#define COPIED_DISKS (VIR_MIGRATE_NON_SHARED_DISK | VIR_MIGRATE_NON_SHARED_INC)

typedef struct {
    uint64_t flag;
    const char *reason;
} FlagReason;

static const char *
first_reason(uint64_t flags, const FlagReason *reasons, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (flags & reasons[i].flag)
            return reasons[i].reason;
    }
    return NULL;
}

/* All that apply, "a; b"; NULL: none. Interned: the tables bound how many there can be. */
static const char *
all_reasons(const char *first, const char *second, uint64_t flags, const FlagReason *reasons,
            size_t count)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new();
    g_autofree char *text = NULL;

    if (first != NULL)
        g_ptr_array_add(found, (gpointer)first);
    if (second != NULL)
        g_ptr_array_add(found, (gpointer)second);
    for (size_t i = 0; i < count; i++) {
        if (flags & reasons[i].flag)
            g_ptr_array_add(found, (gpointer)reasons[i].reason);
    }
    if (found->len == 0)
        return NULL;
    g_ptr_array_add(found, NULL);
    text = g_strjoinv("; ", (char **)found->pdata);
    return g_intern_string(text);
}

static bool
uri_is_plain_tcp(const char *migrate_uri)
{
    return migrate_uri == NULL || strncmp(migrate_uri, "tcp:", 4) == 0;
}

const char *
gate_post_copy_flags(uint64_t flags, const char *migrate_uri)
{
    static const FlagReason reasons[] = {
        { VIR_MIGRATE_OFFLINE, "the migration is offline" },
        { VIR_MIGRATE_TUNNELLED, "the migration is tunnelled" },
        { VIR_MIGRATE_PAUSED, "the VM stays paused at the destination" },
        { VIR_MIGRATE_PARALLEL, "parallel connections were asked for" },
        { VIR_MIGRATE_ZEROCOPY, "zero-copy was asked for" },
        { VIR_MIGRATE_COMPRESSED, "compression was asked for" },
        { VIR_MIGRATE_RDMA_PIN_ALL, "the migration uses RDMA" },
        { COPIED_DISKS, "storage is copied too: a failure in post-copy could cost the disks" },
    };

    /* Whoever asks for both is told by gate_start_post_copy() whether they go together. */
    if (flags & VIR_MIGRATE_POSTCOPY)
        flags &= ~(uint64_t)VIR_MIGRATE_PARALLEL;
    return all_reasons(flags & VIR_MIGRATE_LIVE ? NULL : "the migration is not live",
                       uri_is_plain_tcp(migrate_uri) ? NULL : "the migration does not use TCP",
                       flags, reasons, G_N_ELEMENTS(reasons));
}

const char *
gate_start_post_copy(const uint64_t *flags, uint32_t source_qemu, uint32_t destination_qemu)
{
    const uint64_t both = VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_PARALLEL;

    if (technique_gate_versions(TECHNIQUE_POST_COPY, source_qemu, destination_qemu))
        return NULL;
    if (flags == NULL)
        return "the caller's flags are not known: its connections may be parallel";
    return (*flags & both) == both
               ? "with parallel connections it needs QEMU 10.1 or newer at both ends"
               : NULL;
}

const char *
gate_post_copy_userfaultfd(int error_number)
{
    return error_number == ENOSYS ? "the destination's kernel has no userfaultfd" : NULL;
}

const char *
gate_parallel_flags(uint64_t flags, const char *migrate_uri, bool post_copy)
{
    static const FlagReason reasons[] = {
        { VIR_MIGRATE_OFFLINE, "the migration is offline" },
        { VIR_MIGRATE_TUNNELLED, "the migration is tunnelled" },
        { VIR_MIGRATE_PARALLEL, "the caller chose parallel connections" },
        { VIR_MIGRATE_COMPRESSED, "compression was asked for" },
        { VIR_MIGRATE_RDMA_PIN_ALL, "the migration uses RDMA" },
    };

    if (!uri_is_plain_tcp(migrate_uri))
        return "the migration does not use TCP";
    if (post_copy || (flags & VIR_MIGRATE_POSTCOPY))
        return "post-copy may be used";
    return first_reason(flags, reasons, sizeof(reasons) / sizeof(reasons[0]));
}

const char *
gate_auto_converge_flags(uint64_t flags)
{
    static const FlagReason reasons[] = {
        { VIR_MIGRATE_AUTO_CONVERGE, "the caller asked for it" },
        { VIR_MIGRATE_OFFLINE, "the migration is offline" },
        { VIR_MIGRATE_TUNNELLED, "the migration is tunnelled" },
        { VIR_MIGRATE_COMPRESSED, "compression was asked for" },
    };

    if (!(flags & VIR_MIGRATE_LIVE))
        return "the migration is not live";
    return first_reason(flags, reasons, sizeof(reasons) / sizeof(reasons[0]));
}

uint64_t
gate_switchover_mib(uint64_t flags, uint64_t user_bandwidth_mib, uint64_t guaranteed_mib,
                    uint32_t libvirt, uint32_t qemu)
{
    if (!(flags & VIR_MIGRATE_PEER2PEER) || user_bandwidth_mib == 0 ||
        libvirt < SWITCHOVER_LIBVIRT || qemu < SWITCHOVER_QEMU)
        return 0;
    return guaranteed_mib > user_bandwidth_mib ? guaranteed_mib : 0;
}

bool
gate_copies_disks(uint64_t flags)
{
    return flags & COPIED_DISKS;
}

bool
gate_is_steerable(uint64_t flags)
{
    return !(flags & (VIR_MIGRATE_OFFLINE | VIR_MIGRATE_POSTCOPY_RESUME));
}
