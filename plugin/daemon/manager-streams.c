/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a migration's connections reach, measured while it runs, and what the
 * next migration to the same host may expect of one. The rules are in
 * decision/parallel.h.
 */
#include "daemon/manager-private.h"

#include "daemon/peer-address.h"
#include "daemon/planner.h"

#include <libvirt/libvirt.h>

/* Of what was sent; by more than this a pass comes nearer to its end through zero pages. */
#define ZEROS_PERCENT 125

/* By the name in its URI: what is known before it is resolved. 0: not even that. */
static uint64_t
named_pair(const Migration *migration)
{
    g_autofree char *peer = peer_host_from_uri(migration->migrate_uri ? migration->migrate_uri
                                                                      : migration->destination_uri);

    return peer != NULL ? calibration_pair(g_get_host_name(), peer) : 0;
}

uint64_t
manager_pair(const Manager *manager, const Migration *migration)
{
    g_autofree char *peer = NULL;

    /* The address that memory goes to says which link it takes. */
    if (migration->peer_addresses->len == 0)
        return experience_pair(manager->experience, named_pair(migration));
    peer = flow_address_to_text(&g_array_index(migration->peer_addresses, FlowAddress, 0));
    return calibration_pair(g_get_host_name(), peer);
}

uint64_t
manager_stream_rate(const Manager *manager, const Migration *migration)
{
    bool known = migration->peer_addresses->len != 0 || named_pair(migration) != 0;
    uint64_t configured = manager->config->one_stream_rate;
    uint64_t measured =
        known ? experience_stream_rate(manager->experience, manager_pair(manager, migration))
              : experience_stream_rate_anywhere(manager->experience);

    if (migration->machine.role != MIGRATION_ROLE_SOURCE || measured == 0)
        return configured;
    return configured != 0 ? MIN(configured, measured) : measured;
}

static uint64_t
less(uint64_t from, uint64_t amount)
{
    return from > amount ? from - amount : 0;
}

/* Bytes/s that there is for it now, as far as this host can know; 0: unknown. */
static uint64_t
stream_room(const Manager *manager, const Migration *migration)
{
    bool shaped = network_is_shaped(manager->network, SHAPING_EGRESS);
    TrafficRates host = network_host_rates(manager->network);
    uint64_t room = network_usable_rate(manager->network);
    uint64_t workload = host.out;

    if (!network_workload_last(manager->network, SHAPING_EGRESS, &workload) && !host.valid)
        return 0;
    /* What it reaches in the holes of another one's stream is not its own rate. */
    if (migration->share.reason == ALLOCATE_REASON_WAITS)
        return 0;
    /* Without classes migrations cannot be told from the workload. */
    if (!shaped)
        workload = less(workload, migration->statistics.throughput);
    room = less(room, workload);
    for (guint i = 0; shaped && i < manager->migrations->len; i++) {
        const Migration *other = g_ptr_array_index(manager->migrations, i);

        if (other != migration && other->machine.role == MIGRATION_ROLE_SOURCE &&
            migration_is_transferring(other))
            room = less(room, other->statistics.throughput);
    }
    if (migration->peer_known && migration->peer.link_rate != 0 && migration->peer.host.valid)
        room = MIN(room, less(migration->peer.link_rate, migration->peer.host.in));
    if (manager->side[SHAPING_EGRESS].has_reservation)
        room = MIN(
            room,
            manager->side[SHAPING_EGRESS].reservation.leaf[migration_shaped_as(migration)].ceil);
    if (migration->user_bandwidth_mib != 0)
        return MIN(room, planner_bytes_of_mib(migration->user_bandwidth_mib));
    if (migration->has_limits && migration->limits.max_bandwidth != 0)
        room = MIN(room, planner_bytes_of_mib(migration->limits.max_bandwidth));
    return room;
}

/*
 * Less is left than it sends in a second. The end of a pass: then it waits for the next
 * one, for the guest to stop or for libvirt, and not for its connections.
 */
static bool
has_little_left(const Migration *migration, uint64_t room)
{
    uint64_t rate = MAX(migration->statistics.throughput, migration->streams.reached);

    return migration->last_round || migration->statistics.memory_remaining < MIN(rate, room);
}

/* Looking for what to send, rather than the connection, bounds it then. */
static bool
is_scanning_zeros(const Migration *migration)
{
    uint64_t sent = less(migration->statistics.memory_processed, migration->metered_sent);
    uint64_t done = less(migration->metered_left, migration->statistics.memory_remaining);

    return done / ZEROS_PERCENT > sent / 100;
}

void
manager_meter_streams(const Manager *manager, Migration *migration)
{
    uint64_t room;

    if (migration->machine.state != MIGRATION_RUNNING || migration->machine.post_copy_requested ||
        !migration->statistics.valid || !migration->statistics.active ||
        migration->machine.iteration == 0)
        return;
    room = stream_room(manager, migration);
    if (has_little_left(migration, room) || is_scanning_zeros(migration))
        room = 0;
    parallel_meter_add(&migration->streams, migration->statistics_us,
                       migration->statistics.memory_processed, room);
    migration->metered_sent = migration->statistics.memory_processed;
    migration->metered_left = migration->statistics.memory_remaining;
}

void
manager_lesson_streams(const Migration *migration, Lesson *lesson)
{
    lesson->named_pair = named_pair(migration);
    /* How many connections the caller chose is not known here. */
    if (migration->observed || (migration->user_flags & VIR_MIGRATE_PARALLEL))
        return;
    lesson->stream = (ParallelObservation){
        .connections = MAX(migration->parallel, 1),
        .reached = migration->streams.reached,
        .available = migration->streams.available,
    };
}

uint64_t
manager_streams_own_rate(const Lesson *lesson)
{
    ParallelExperience own = { 0 };

    parallel_learn(&own, &lesson->stream);
    return lesson->stream.connections > 1 ? own.many : own.one;
}
