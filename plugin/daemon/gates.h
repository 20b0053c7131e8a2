/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the caller's flags and the two hypervisors leave open for us to add.
 *
 * Rules 2, 3 and 5 of the design in one place: the user's explicit choice is
 * never weakened, multifd and post-copy are never put together below QEMU 10.1, nor
 * is what the user put together switched, post-copy needs a live, direct data path.
 * Pure: flags are VIR_MIGRATE_*.
 */
#pragma once

#include "common/types.h"

/* The same for VIR_MIGRATE_AUTO_CONVERGE. */
const char *gate_auto_converge_flags(uint64_t flags);

/*
 * Why VIR_MIGRATE_POSTCOPY must not be added to a call with these flags, or, where
 * they have it, post-copy not be started by us; all reasons, interned; NULL when it
 * may be. migrate_uri may be NULL.
 */
const char *gate_post_copy_flags(uint64_t flags, const char *migrate_uri);

/*
 * Why a migration that began with these flags must not be switched to post-copy,
 * static; NULL when it may be. flags NULL: unknown. Versions as in
 * decision/parallel.h: too old an end loses the VM if its memory moves by parallel
 * connections, and libvirt does not refuse that.
 */
const char *gate_start_post_copy(const uint64_t *flags, uint32_t source_qemu,
                                 uint32_t destination_qemu);

/*
 * Why this host cannot receive by post-copy: QEMU takes the pages in through
 * userfaultfd(2). error_number: errno of an attempt to make one, 0 when that
 * went well. Only a kernel without the call is sure to refuse QEMU as well: what
 * a confined daemon may not do, QEMU may.
 */
const char *gate_post_copy_userfaultfd(int error_number);

/* The same for VIR_MIGRATE_PARALLEL. post_copy: it is, or may be, on as well. */
const char *gate_parallel_flags(uint64_t flags, const char *migrate_uri, bool post_copy);

/*
 * MiB/s to be told as bandwidth.avail.switchover; 0: nothing. QEMU ends pre-copy when what
 * is left fits the downtime at the rate it measures: under the caller's own limit that is
 * less than its class gives (guaranteed, MiB/s) to the switchover. QEMU knows it since 8.2,
 * libvirt since 11.1, and only a peer-to-peer call carries parameters to where it counts.
 * Versions as in decision/parallel.h.
 */
uint64_t gate_switchover_mib(uint64_t flags, uint64_t user_bandwidth_mib, uint64_t guaranteed_mib,
                             uint32_t libvirt, uint32_t qemu);

/* Disks are copied as well, through a port of their own that the memory's does not tell. */
bool gate_copies_disks(uint64_t flags);

/* The migration carries guest memory in a way that this program steers at all. */
bool gate_is_steerable(uint64_t flags);
