/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From a reservation to the plan of classes, leaves and filters; see planner.h. */
#include "daemon/planner-private.h"

#include <netinet/in.h>
#include <string.h>

static void
fill_matches(const Manager *manager, const Migration *migration, ShapingMigration *leaf)
{
    static const uint16_t tunnel_ports[] = { 16509, 16514, 22 };
    bool outgoing = migration->machine.role == MIGRATION_ROLE_SOURCE;
    guint addresses = MAX(migration->peer_addresses->len, 1);

    for (guint i = 0; i < addresses; i++) {
        FlowAddress any = { .family = AF_UNSPEC };
        FlowAddress peer = migration->peer_addresses->len != 0
                               ? g_array_index(migration->peer_addresses, FlowAddress, i)
                               : any;
        FlowMatch match = outgoing ? flow_match_default(any, peer) : flow_match_default(peer, any);

        match.port_low = (uint16_t)(migration->port_first ? migration->port_first
                                                          : manager->config->migration_port_first);
        match.port_high = (uint16_t)(migration->port_last ? migration->port_last
                                                          : manager->config->migration_port_last);
        if (leaf->match_count < SHAPING_MATCHES_MAX)
            leaf->matches[leaf->match_count++] = match;
        for (size_t j = 0; migration->tunnelled && j < G_N_ELEMENTS(tunnel_ports); j++) {
            match.port_low = match.port_high = tunnel_ports[j];
            if (leaf->match_count < SHAPING_MATCHES_MAX)
                leaf->matches[leaf->match_count++] = match;
        }
    }
}

static bool
plan_has_mac(const ShapingPlan *plan, const uint8_t mac[SHAPING_MAC_BYTES])
{
    for (unsigned i = 0; i < SHAPING_VMS_MAX; i++) {
        for (unsigned j = 0; j < plan->vm[i].mac_count; j++) {
            if (memcmp(plan->vm[i].macs[j], mac, SHAPING_MAC_BYTES) == 0)
                return true;
        }
    }
    return false;
}

/* Where a MAC occurs twice (on two bridges) the first VM found has it. */
static void
fill_macs(const ShapingPlan *plan, const DomainDescription *description, ShapingVm *vm)
{
    for (guint i = 0; i < description->interfaces->len; i++) {
        const DomainInterface *interface = g_ptr_array_index(description->interfaces, i);
        uint8_t mac[SHAPING_MAC_BYTES];

        if (vm->mac_count < SHAPING_MACS_MAX && shaping_mac_parse(interface->mac, mac) &&
            !plan_has_mac(plan, mac))
            memcpy(vm->macs[vm->mac_count++], mac, sizeof mac);
    }
}

void
planner_fill_floors(const Manager *manager, const Reservation *reservation, ShapingPlan *plan)
{
    g_autoptr(GPtrArray) descriptions = registry_list(manager->registry);

    G_STATIC_ASSERT((int)REGISTRY_CLASSES_MAX == (int)SHAPING_VMS_MAX);
    memset(plan->vm, 0, sizeof plan->vm);
    for (guint i = 0; i < descriptions->len; i++) {
        const DomainDescription *description = g_ptr_array_index(descriptions, i);
        unsigned id = registry_class(manager->registry, description->uuid);
        ShapingVm *vm = id != 0 ? &plan->vm[id - 1] : NULL;

        if (vm == NULL || !planner_limits_count_here(description, manager))
            continue;
        fill_macs(plan, description, vm);
        vm->id = id;
        vm->rate = MIN(planner_add_headroom(description->metadata.sla_lower), SHAPING_RATE_MAX);
        vm->ceil = reservation->workload.ceil;
    }
    plan->vm_count = 0;
    for (unsigned i = 0; i < SHAPING_VMS_MAX; i++) {
        if (plan->vm[i].mac_count != 0)
            memmove(&plan->vm[plan->vm_count++], &plan->vm[i], sizeof plan->vm[i]);
    }
    memset(&plan->vm[plan->vm_count], 0, (SHAPING_VMS_MAX - plan->vm_count) * sizeof plan->vm[0]);
}

guint
planner_floors_stamp(const ShapingPlan *plan)
{
    g_autoptr(GBytes) bytes = g_bytes_new_static(plan->vm, sizeof plan->vm);

    return g_bytes_hash(bytes);
}

/* Does it take turns, and have others to wait for it? */
static bool
takes_part(AllocateReason reason)
{
    return reason == ALLOCATE_REASON_TURN || reason == ALLOCATE_REASON_WAITS;
}

/* It would take from those of its prio that share evenly as well: beside one of them nobody. */
static bool
goes_first(const Manager *manager, const Migration *migration, ShapingDirection direction,
           const AllocateShare *shares)
{
    if (shares[migration->leaf].reason != ALLOCATE_REASON_TURN)
        return false;
    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *other = g_ptr_array_index(manager->migrations, i);

        if (other != migration && planner_is_on_side(other, direction) &&
            migration_shaped_as(other) == migration_shaped_as(migration) &&
            !takes_part(shares[other->leaf].reason))
            return false;
    }
    return true;
}

void
planner_fill_plan(const Manager *manager, ShapingDirection direction,
                  const Reservation *reservation, ShapingPlan *plan)
{
    AllocateShare shares[SHAPING_MIGRATIONS_MAX + 1];
    gint64 now_us = g_get_monotonic_time();

    planner_allocate(manager, direction, reservation, true, shares);
    plan->workload = (ShapingClass){ reservation->workload.rate, reservation->workload.ceil,
                                     reservation->workload.prio };
    plan->migrations = (ShapingClass){ reservation->migration.rate, reservation->migration.ceil,
                                       reservation->migration.prio };
    planner_fill_floors(manager, reservation, plan);
    for (guint i = 0; i < manager->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(manager->migrations, i);
        ShapingMigration *leaf;

        if (!planner_is_on_side(migration, direction) ||
            plan->migration_count >= SHAPING_MIGRATIONS_MAX)
            continue;
        leaf = &plan->migration[plan->migration_count++];
        leaf->id = migration->leaf;
        migration->waited_us = planner_waited_us(migration, now_us);
        migration->share_us = now_us;
        migration->share = shares[migration->leaf];
        leaf->rate = migration->share.rate;
        leaf->ceil = reservation->leaf[migration_shaped_as(migration)].ceil;
        leaf->prio = reservation->leaf[migration_shaped_as(migration)].prio +
                     (migration->share.reason == ALLOCATE_REASON_WAITS);
        leaf->goes_first = goes_first(manager, migration, direction, shares);
        leaf->post_copy =
            (migration->machine.post_copy_requested && migration->machine.post_copy_possible) ||
            migration->machine.state == MIGRATION_POST_COPY;
        fill_matches(manager, migration, leaf);
    }
}
