/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Parallel connections (multifd) of one migration: how many, and when never.
 * Versions are major * 1000000 + minor * 1000 + micro, 0 when unknown.
 */
#pragma once

#include "common/types.h"

#define PARALLEL_ONE_STREAM_RATE 1100000000u /* bytes/s that one TCP stream of QEMU carries */
#define PARALLEL_CONNECTIONS_MAX 8u
/* A stream that leaves a quarter of what there was for it cannot fill it. */
#define PARALLEL_FILLS_PERCENT 75
/* Rates that differ by less are the same one, measured twice. */
#define PARALLEL_GAIN_PERCENT 25
#define PARALLEL_WINDOW_US 2000000 /* a rate is what was kept up for so long */
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
    unsigned int cores;       /* of this host; 0 unknown: no bound */
} ParallelInput;

/*
 * May this technique run with multifd between these two versions? Pre-copy:
 * yes from QEMU 4.0 on both ends. Post-copy and hybrid: only from 10.1 on both.
 * Unknown versions: no.
 */
bool technique_gate_versions(Technique technique, uint32_t source_qemu, uint32_t destination_qemu);

/*
 * Connections to ask for: 0 (do not use multifd), or 2 and more. As many as
 * fill what is available, but no more than this host's cores can drive, at
 * PARALLEL_ONE_STREAM_RATE a core: slow streams need more connections than cores.
 * An operator's number replaces the rate rule only, never the gates.
 */
unsigned int parallel_connections(const ParallelInput *input);

/* ---- what streams really reach ------------------------------------------ */

/* Of one migration while it runs: its best window. Zero-initialise. */
typedef struct {
    bool open;
    int64_t since_us; /* start of the window under way, ... */
    uint64_t since_bytes;
    uint64_t room;      /* ... and the least there was for it since, bytes/s */
    uint64_t reached;   /* bytes/s in the best window; 0: none yet */
    uint64_t available; /* room of that window */
    int64_t latest_us;  /* end of the latest window, ... */
    uint64_t latest;    /* ... bytes/s in it ... */
    uint64_t latest_room;
} ParallelMeter;

/*
 * A reading: bytes sent so far, and what there is for this migration now, bytes/s:
 * the least of what the links have free, its class and QEMU's limit; 0: unknown,
 * so that the window under way tells nothing. Windows last PARALLEL_WINDOW_US or
 * little longer; zero pages and pauses are why the best one counts.
 */
void parallel_meter_add(ParallelMeter *meter, int64_t now_us, uint64_t bytes, uint64_t room);

/*
 * Bytes/s in the latest window, at least 1, if they were clearly less than there was for
 * the migration; 0: it filled that, or there is no window from this moment.
 */
uint64_t parallel_meter_unfilled(const ParallelMeter *meter, int64_t now_us);

/* What a finished migration's connections reached together. */
typedef struct {
    unsigned int connections; /* 0 counts as one */
    uint64_t reached;         /* bytes/s; 0: not measured */
    uint64_t available;
} ParallelObservation;

/* Believed of one pair of hosts. Zero-initialise: nothing is. */
typedef struct {
    uint64_t one;  /* bytes/s that one stream reaches; 0: it fills what it gets */
    uint64_t many; /* likewise of several together; 0: they fill what they get */
} ParallelExperience;

/*
 * A rate that is clearly below what was available is the streams' own. One that
 * is not only says that they reach at least that: it disproves a lower belief.
 */
void parallel_learn(ParallelExperience *experience, const ParallelObservation *observation);

/*
 * Bytes/s that one stream reaches, if it is known not to fill what is available
 * and several are not known to reach no more than it does; else 0.
 */
uint64_t parallel_stream_rate(const ParallelExperience *experience);
