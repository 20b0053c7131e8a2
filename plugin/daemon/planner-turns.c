/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whom a class can make wait for its turn, and when it comes; see planner.h. */
#include "daemon/gates.h"
#include "daemon/planner-private.h"

#include <libvirt/libvirt.h>
#include <netinet/in.h>
#include <string.h>

bool
planner_has_other_ports(const Migration *migration)
{
    return migration->tunnelled || gate_copies_disks(migration->user_flags);
}

/* Its connections go to a port that no other migration uses. */
static bool
has_own_port(const Migration *migration)
{
    bool source = migration->machine.role == MIGRATION_ROLE_SOURCE;

    if (planner_has_other_ports(migration))
        return false;
    /* It will be named when memory is about to move; parallel connections are made unseen. */
    if (migration->port_first == 0)
        return migration->peer_to_peer
                   ? migration->tells_port && !(migration->flags & VIR_MIGRATE_PARALLEL) &&
                         migration->machine.iteration == 0
                   : !migration_is_transferring(migration);
    /* Another destination may use the same one. */
    return !source || migration->peer_addresses->len != 0 || !migration_is_transferring(migration);
}

static bool
addresses_equal(const FlowAddress *a, const FlowAddress *b)
{
    size_t length = a->family == AF_INET ? 4 : sizeof a->bytes;

    return a->family == b->family && memcmp(a->bytes, b->bytes, length) == 0;
}

bool
planner_peers_differ(const Migration *migration, const Migration *other)
{
    for (guint i = 0; i < migration->peer_addresses->len; i++) {
        const FlowAddress *address = &g_array_index(migration->peer_addresses, FlowAddress, i);

        for (guint j = 0; j < other->peer_addresses->len; j++) {
            if (addresses_equal(address, &g_array_index(other->peer_addresses, FlowAddress, j)))
                return false;
        }
    }
    return migration->peer_addresses->len != 0 && other->peer_addresses->len != 0;
}

/*
 * Each that runs beside it has a filter of its own, so that a class can slow one of them.
 * Filters of one port come before those of ranges (shaping/plan.h): it is enough that either
 * has its own. What waits concerns those alone that wait as well: they may be let in together.
 */
static bool
is_told_apart(const Manager *manager, const Migration *migration)
{
    bool waits = migration->machine.state == MIGRATION_WAITING;

    if (has_own_port(migration))
        return true;
    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *other = g_ptr_array_index(manager->migrations, i);

        if (other != migration && migration_is_active(other) &&
            (waits || other->machine.state != MIGRATION_WAITING) &&
            other->machine.role == migration->machine.role && !has_own_port(other) &&
            !planner_peers_differ(migration, other))
            return false;
    }
    return true;
}

AllocateTurn
planner_turn(const Manager *manager, const Migration *migration)
{
    /* Who asks for parallel wants all of them to move on. What is broken moves nothing. */
    if (manager->config->scheduling != SCHEDULING_AUTOMATIC || migration->recovery.broken ||
        planner_has_other_ports(migration) || !is_told_apart(manager, migration))
        return ALLOCATE_TURN_NONE;
    if (migration->machine.state == MIGRATION_POST_COPY || migration->last_round)
        return ALLOCATE_TURN_FIRST;
    /* It would have its turn for ever. */
    if (migration_may_not_end(migration))
        return ALLOCATE_TURN_NONE;
    /* QEMU would throttle the guest for what we made slow. */
    return migration->flags & VIR_MIGRATE_AUTO_CONVERGE ? ALLOCATE_TURN_NONE : ALLOCATE_TURN_TAKES;
}

gint64
planner_turn_came_us(const Migration *migration, gint64 now_us)
{
    if (migration->machine.state == MIGRATION_WAITING)
        return now_us;
    return migration->admitted_us != 0 ? migration->admitted_us : migration->created_us;
}
