/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Parallel connections (multifd) of one migration: how many, and when never.
 * Versions are major * 1000000 + minor * 1000 + micro, 0 when unknown.
 */
#pragma once

#include "common/types.h"

#define PARALLEL_ONE_STREAM_RATE 1100000000u /* bytes/s that one TCP stream of QEMU carries */
#define PARALLEL_CONNECTIONS_MAX 8u
/* Below this on either end multifd together with post-copy loses the VM or is refused. */
#define PARALLEL_POST_COPY_QEMU 10001000u

#define PARALLEL_AUTO (-1)
#define PARALLEL_NEVER 0

typedef struct {
    Technique technique;
    bool post_copy_flag;  /* VIR_MIGRATE_POSTCOPY is or may be set, whatever the technique */
    bool tunnelled;       /* libvirt refuses parallel connections then */
    bool both_ends_agree; /* the peer's virt-convoy answered, or the flag reaches it by itself */
    uint32_t source_qemu;
    uint32_t destination_qemu;
    bool available_known;
    uint64_t available;       /* bytes/s for this migration */
    uint64_t one_stream_rate; /* 0: PARALLEL_ONE_STREAM_RATE */
    int setting;              /* PARALLEL_AUTO, PARALLEL_NEVER, or a number the operator wants */
} ParallelInput;

/*
 * May this technique run with multifd between these two versions? Pre-copy:
 * yes from QEMU 4.0 on both ends. Post-copy and hybrid: only from 10.1 on both.
 * Unknown versions: no.
 */
bool technique_gate_versions(Technique technique, uint32_t source_qemu, uint32_t destination_qemu);

/*
 * Connections to ask for: 0 (do not use multifd), or 2 and more. An operator's
 * number replaces the rate rule only, never the gates.
 */
unsigned int parallel_connections(const ParallelInput *input);
