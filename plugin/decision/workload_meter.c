/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A difference of counters over a quiet window; see workload_meter.h. */
#include "decision/workload_meter.h"

static void
begin(WorkloadMeter *meter, int64_t now_us, uint64_t link_bytes, uint64_t migration_bytes,
      uint64_t who)
{
    meter->begun = true;
    meter->begun_us = now_us;
    meter->link_bytes = link_bytes;
    meter->migration_bytes = migration_bytes;
    meter->who = who;
}

bool
workload_meter_add(WorkloadMeter *meter, int64_t now_us, uint64_t link_bytes,
                   uint64_t migration_bytes, uint64_t who, uint64_t *ret_rate)
{
    uint64_t carried;
    uint64_t migrated;
    double seconds;

    if (meter->changed_us != 0 && now_us >= meter->changed_us &&
        now_us - meter->changed_us < WORKLOAD_METER_SETTLE_US) {
        meter->begun = false;
        return false;
    }
    if (!meter->begun || meter->who != who || now_us < meter->begun_us ||
        link_bytes < meter->link_bytes || migration_bytes < meter->migration_bytes) {
        begin(meter, now_us, link_bytes, migration_bytes, who);
        return false;
    }
    if (now_us - meter->begun_us < WORKLOAD_METER_WINDOW_US)
        return false;
    carried = link_bytes - meter->link_bytes;
    migrated = migration_bytes - meter->migration_bytes;
    seconds = (double)(now_us - meter->begun_us) / 1e6;
    *ret_rate = carried > migrated ? (uint64_t)((double)(carried - migrated) / seconds) : 0;
    begin(meter, now_us, link_bytes, migration_bytes, who);
    return true;
}

void
workload_meter_changed(WorkloadMeter *meter, int64_t now_us)
{
    meter->begun = false;
    meter->changed_us = now_us;
}
