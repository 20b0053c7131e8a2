/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The network follows what transfers: classes, QEMU's own limits, deadlines; see manager.h. */
#include "daemon/manager-private.h"

#include "daemon/planner.h"

typedef struct {
    Manager *manager;
    ShapingDirection direction;
    NetworkShapeDone done;
    gpointer user_data;
} Reshape;

static void
limits_set(const GError *error, gpointer data)
{
    g_autofree Reference *reference = data;
    Migration *migration = reference_active(reference);

    if (migration != NULL && error != NULL)
        migration_note(migration, "limit-failed", "reason: %s", error->message);
}

void
manager_tell_limits(Manager *manager, Migration *migration)
{
    uint64_t pre_copy = migration->user_bandwidth_mib == 0 ? migration->limits.max_bandwidth : 0;
    uint64_t post_copy =
        migration->machine.post_copy_possible && migration->user_post_copy_bandwidth_mib == 0
            ? migration->limits.post_copy
            : 0;

    if (pre_copy != 0 || post_copy != 0)
        hypervisor_set_max_speed(manager->hypervisor, migration->uuid, pre_copy, post_copy,
                                 limits_set, reference_new(manager, migration));
}

/* QEMU's own limits follow: they are all there is where tc is refused. */
static void
manager_follow_limits(Manager *manager, Migration *migration, bool told_by_call)
{
    ReserveQemuLimits limits;

    if (!planner_qemu_limits(manager, migration, &limits))
        return;
    if (migration->has_limits && limits.max_bandwidth == migration->limits.max_bandwidth &&
        limits.post_copy == migration->limits.post_copy)
        return;
    migration->limits = limits;
    migration->has_limits = true;
    if (!told_by_call && migration->machine.role == MIGRATION_ROLE_SOURCE)
        manager_tell_limits(manager, migration);
}

static void
reshape_done(const GError *error, gpointer data)
{
    g_autofree Reshape *reshape = data;
    Manager *manager = reshape->manager;
    bool stopping = g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED);

    for (guint i = 0; !stopping && i < manager->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(manager->migrations, i);

        /* A call that waits for us hands the limits over itself. */
        if (migration_is_transferring(migration) &&
            migration_direction(migration) == reshape->direction)
            manager_follow_limits(manager, migration,
                                  reshape->done != NULL || migration->machine.iteration == 0);
    }
    if (reshape->done != NULL)
        reshape->done(error, reshape->user_data);
}

/*
 * Once for each change of the answer; a little below the need (2 %) still counts
 * as kept, for a guarantee follows the need in steps.
 */
void
manager_tell_deadlines(Manager *manager, ShapingDirection direction, const Reservation *reservation)
{
    AllocateShare shares[SHAPING_MIGRATIONS_MAX + 1];

    if (reservation->deadline == RESERVE_DEADLINE_NONE)
        return;
    planner_allocate(manager, direction, reservation, shares);
    for (guint i = 0; i < manager->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(manager->migrations, i);
        const AllocateShare *share = &shares[migration->leaf];
        ReserveDeadline answer = reservation->deadline;
        g_autofree char *needs = NULL;
        int64_t left_ms;

        if (!migration_is_transferring(migration) || share->rate == 0 ||
            migration_direction(migration) != direction ||
            !planner_time_left(migration, g_get_monotonic_time(), &left_ms))
            continue;
        if (share->least - share->least / 50 > share->rate)
            answer = RESERVE_DEADLINE_MISSED;
        else if (answer == RESERVE_DEADLINE_MISSED)
            answer = RESERVE_DEADLINE_RAISED; /* another one's is not kept */
        if (answer == migration->deadline)
            continue;
        migration->deadline = answer;
        needs = share->least == UINT64_MAX
                    ? g_strdup("more than any link has")
                    : g_strdup_printf("%" G_GUINT64_FORMAT " B/s", share->least);
        migration_note(migration, "deadline",
                       "%s, deadline: %.1f s, left: %.1f s, needs: %s, guaranteed: "
                       "%" G_GUINT64_FORMAT " B/s",
                       reserve_deadline_to_string(answer),
                       (double)migration->description->metadata.deadline / 1e3,
                       (double)left_ms / 1e3, needs, share->rate);
    }
}

/* Divides the link for what transfers now; written down when that changes anything. */
static void
manager_divide(Manager *manager, ShapingDirection direction)
{
    bool had = manager->side[direction].has_reservation;
    Reservation before = manager->side[direction].reservation;
    Recording recording = {
        .kind = RECORDING_RESERVE,
        .wall_us = g_get_real_time(),
        .about = direction == SHAPING_EGRESS ? "egress" : "ingress",
    };
    ReserveDecision *decision = &recording.reserve.decision;

    manager_reserve_input(manager, direction, NULL, &recording.reserve.input);
    decision->divided = reserve_divide(&recording.reserve.input, &decision->reservation);
    manager->side[direction].has_reservation = decision->divided;
    manager->side[direction].reservation = decision->reservation;
    if (decision->divided != had ||
        (had && planner_reservation_differs(&before, &decision->reservation, 0)))
        recorder_add(manager->recorder, &recording);
}

void
manager_reshape(Manager *manager, ShapingDirection direction, NetworkShapeDone done,
                gpointer user_data)
{
    Reshape *reshape = g_new0(Reshape, 1);
    g_autofree ShapingPlan *plan = g_new0(ShapingPlan, 1);
    unsigned count = planner_count(manager, direction);

    reshape->manager = manager;
    reshape->direction = direction;
    reshape->done = done;
    reshape->user_data = user_data;
    manager->side[direction].migrations = count;
    if (count == 0) {
        manager->side[direction].held_valid = false;
        manager->side[direction].has_reservation = false;
        network_unshape(manager->network, direction, reshape_done, reshape);
        return;
    }
    manager_divide(manager, direction);
    if (manager->side[direction].has_reservation)
        planner_fill_plan(manager, direction, &manager->side[direction].reservation, plan);
    if (manager->side[direction].has_reservation)
        manager_tell_deadlines(manager, direction, &manager->side[direction].reservation);
    manager->side[direction].floors = planner_floors_stamp(plan);
    network_shape(manager->network, direction, g_steal_pointer(&plan), reshape_done, reshape);
}
