/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the workload sends where no class counts it: what the link carried less what the
 * migrations did. Both counters are read at different moments, and a change of ours shows in
 * one of them first; a limit that followed such a difference would chase itself. So
 * it is taken over windows in which nothing of ours changes, and not at once after a change.
 *
 *   change   settles   window   answer, change   settles ...
 *     |---- 1.5 s ----|-- 2 s --|---- 1.5 s ----|
 *
 * Packets' headers are the link's alone: they count as workload, some 5 % of what the
 * migrations move.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define WORKLOAD_METER_SETTLE_US 1500000
#define WORKLOAD_METER_WINDOW_US 2000000

/* Zero-initialise. */
typedef struct {
    bool begun;
    int64_t begun_us;
    int64_t changed_us; /* when something of ours was changed last; 0: never */
    uint64_t link_bytes;
    uint64_t migration_bytes;
    uint64_t who;
} WorkloadMeter;

/*
 * A reading, some four in a second: bytes since any moment, time monotonic. who: a number
 * for the migrations that are counted; with other ones, with counters that
 * fall and a clock that goes back it begins anew. True: a window has ended, *ret_rate is
 * what the workload sent in it, bytes/s, and the next one has begun.
 */
bool workload_meter_add(WorkloadMeter *meter, int64_t now_us, uint64_t link_bytes,
                        uint64_t migration_bytes, uint64_t who, uint64_t *ret_rate);

/* A limit of ours changes at this moment. */
void workload_meter_changed(WorkloadMeter *meter, int64_t now_us);
