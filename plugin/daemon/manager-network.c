/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The network follows what transfers: classes, QEMU's own limits, deadlines; see manager.h. */
#include "daemon/manager-private.h"

#include "common/log.h"
#include "daemon/planner.h"

#include <libvirt/virterror.h>

typedef struct {
    Manager *manager;
    ShapingDirection direction;
    NetworkShapeDone done;
    gpointer user_data;
} Reshape;

/* A request about the speed that libvirt keeps for a domain, also beyond its migration. */
typedef struct {
    Manager *manager;
    uint64_t ticket;
    char *uuid;
    uint64_t mib;  /* told; 0: it is about taking back */
    uint64_t kept; /* what was told before; 0: nothing */
} SpeedRequest;

static SpeedRequest *
speed_request_new(Manager *manager, uint64_t ticket, const char *uuid, uint64_t mib, uint64_t kept)
{
    SpeedRequest *request = g_new0(SpeedRequest, 1);

    *request = (SpeedRequest){ manager, ticket, g_strdup(uuid), mib, kept };
    return request;
}

static void
speed_request_free(SpeedRequest *request)
{
    g_free(request->uuid);
    g_free(request);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SpeedRequest, speed_request_free)

static void
speed_lifted(uint64_t present G_GNUC_UNUSED, const GError *error, gpointer data)
{
    g_autoptr(SpeedRequest) request = data;
    Manager *manager = request->manager;
    bool gone = hypervisor_speed_is_lifted(error);

    if (gone)
        speeds_forget(manager->speeds, request->uuid);
    else if (!manager->lift_failure_told) /* it is tried again and again */
        log_event(CONFIG_LOG_WARNING, "limit-not-lifted", "domain: %s, reason: %s", request->uuid,
                  error->message);
    manager->lift_failure_told = !gone;
}

void
manager_lift_speed(Manager *manager, const char *uuid)
{
    uint64_t told = speeds_told(manager->speeds, uuid);

    if (told != 0)
        hypervisor_set_max_speed(manager->hypervisor, uuid, told, HYPERVISOR_SPEED_UNLIMITED, 0,
                                 speed_lifted, speed_request_new(manager, 0, uuid, 0, 0));
}

static void
speed_job_read(const JobStatistics *statistics, const GError *error, gpointer data)
{
    g_autoptr(SpeedRequest) request = data;

    /* One that still runs is asked about again. */
    if (error != NULL || !statistics->active)
        manager_lift_speed(request->manager, request->uuid);
}

void
manager_lift_speeds(Manager *manager)
{
    g_auto(GStrv) uuids = speeds_list(manager->speeds);

    if (!hypervisor_is_connected(manager->hypervisor))
        return;
    for (char **uuid = uuids; *uuid != NULL; uuid++) {
        if (manager_find(manager, MIGRATION_ROLE_SOURCE, *uuid, NULL) == NULL)
            hypervisor_query_job(manager->hypervisor, *uuid, speed_job_read,
                                 speed_request_new(manager, 0, *uuid, 0, 0));
    }
}

static void
limits_set(uint64_t present, const GError *error, gpointer data)
{
    g_autoptr(SpeedRequest) request = data;
    Manager *manager = request->manager;
    Migration *migration = manager_find_ticket(manager, request->ticket);
    bool chosen = error != NULL && error->code == HYPERVISOR_ERROR_CHANGED;

    if (chosen || present >= HYPERVISOR_SPEED_UNLIMITED)
        speeds_forget(manager->speeds, request->uuid);
    else if (error != NULL && present != 0) /* what was to stand does not: the one before it does */
        speeds_tell(manager->speeds, request->uuid, present);
    else if (error != NULL && request->mib != 0 && request->kept != 0)
        speeds_tell(manager->speeds, request->uuid, request->kept);
    else if (error != NULL && request->mib != 0)
        speeds_forget(manager->speeds, request->uuid);
    if (migration == NULL || !migration_is_active(migration)) {
        /* It stands only now, whatever was taken back meanwhile. */
        if (error == NULL && request->mib != 0)
            speeds_tell(manager->speeds, request->uuid, request->mib);
        manager_lift_speed(manager, request->uuid);
        return;
    }
    if (chosen) {
        migration->user_bandwidth_mib = MAX(present, 1);
        migration_note(migration, "limit-kept", "reason: %s", error->message);
    } else if (error != NULL) {
        migration_note(migration, "limit-failed", "reason: %s", error->message);
    }
    migration->limits_failed = error != NULL && !chosen;
    migration->telling_limits = false;
    if (migration->limits_changed)
        manager_tell_limits(manager, migration);
}

/* MiB/s of a source's migration, each 0 where none of ours stands. */
typedef struct {
    uint64_t told;     /* last for pre-copy, here or by the answer to its call */
    uint64_t pre_copy; /* to be told */
    uint64_t post_copy;
} SpeedLimits;

static SpeedLimits
speed_limits(const Manager *manager, const Migration *migration)
{
    uint64_t kept = speeds_told(manager->speeds, migration->uuid);
    SpeedLimits limits = { .told = kept != 0 ? kept : migration->speed_by_call };

    if (migration->user_bandwidth_mib == 0)
        limits.pre_copy = migration->limits.max_bandwidth;
    if (migration->machine.post_copy_possible && migration->user_post_copy_bandwidth_mib == 0)
        limits.post_copy = migration->limits.post_copy;
    return limits;
}

void
manager_tell_limits(Manager *manager, Migration *migration)
{
    uint64_t kept = speeds_told(manager->speeds, migration->uuid);
    SpeedLimits limits = speed_limits(manager, migration);

    migration->limits_changed = migration->telling_limits;
    if (migration->telling_limits || (limits.pre_copy == 0 && limits.post_copy == 0))
        return;
    migration->telling_limits = true;
    if (limits.pre_copy != 0)
        speeds_tell(manager->speeds, migration->uuid, limits.pre_copy);
    hypervisor_set_max_speed(
        manager->hypervisor, migration->uuid, limits.told, limits.pre_copy, limits.post_copy,
        limits_set,
        speed_request_new(manager, migration->ticket, migration->uuid, limits.pre_copy, kept));
}

static HypervisorSpeedLift *
lift_of(GArray *lifts, const char *uuid)
{
    HypervisorSpeedLift new = { 0 };

    for (guint i = 0; i < lifts->len; i++) {
        if (g_str_equal(g_array_index(lifts, HypervisorSpeedLift, i).uuid, uuid))
            return &g_array_index(lifts, HypervisorSpeedLift, i);
    }
    g_strlcpy(new.uuid, uuid, sizeof(new.uuid));
    g_array_append_val(lifts, new);
    return &g_array_index(lifts, HypervisorSpeedLift, lifts->len - 1);
}

void
manager_lift_all_speeds(Manager *manager)
{
    g_autoptr(GArray) lifts = g_array_new(FALSE, TRUE, sizeof(HypervisorSpeedLift));
    g_auto(GStrv) uuids = speeds_list(manager->speeds);
    HypervisorSpeedLift *all;

    for (char **uuid = uuids; *uuid != NULL; uuid++)
        lift_of(lifts, *uuid)->told_mib = speeds_told(manager->speeds, *uuid);
    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);
        SpeedLimits limits = speed_limits(manager, migration);
        HypervisorSpeedLift *lift;

        if (!migration_is_transferring(migration) || !migration->has_limits ||
            migration->machine.role != MIGRATION_ROLE_SOURCE || migration->uuid == NULL)
            continue;
        lift = lift_of(lifts, migration->uuid);
        lift->told_mib = limits.pre_copy != 0 ? limits.told : 0;
        lift->post_copy = limits.post_copy != 0;
    }
    if (lifts->len == 0)
        return;
    all = &g_array_index(lifts, HypervisorSpeedLift, 0);
    hypervisor_lift_speeds(manager->hypervisor, all, lifts->len);
    for (guint i = 0; i < lifts->len; i++) {
        const HypervisorSpeedLift *lift = &all[i];
        const Migration *migration = manager_find(manager, MIGRATION_ROLE_SOURCE, lift->uuid, NULL);

        /* What libvirt is being told this very moment may stand only afterwards. */
        if (lift->lifted && (migration == NULL || !migration->telling_limits))
            speeds_forget(manager->speeds, lift->uuid);
        else if (lift->told_mib != 0)
            log_event(CONFIG_LOG_WARNING, "limit-not-lifted",
                      "domain: %s, MiB/s: %" G_GUINT64_FORMAT
                      ", lifted by: the next daemon, or virsh migrate-setspeed",
                      lift->uuid, lift->told_mib);
    }
}

/* QEMU's own limits follow: they are all there is where tc is refused. */
static void
manager_follow_limits(Manager *manager, Migration *migration, bool told_by_call)
{
    ReserveQemuLimits limits;

    if (!planner_qemu_limits(manager, migration, &limits))
        return;
    if (migration->has_limits && !migration->limits_failed &&
        limits.max_bandwidth == migration->limits.max_bandwidth &&
        limits.post_copy == migration->limits.post_copy)
        return;
    migration->limits = limits;
    migration->has_limits = true;
    if (!told_by_call && migration->machine.role == MIGRATION_ROLE_SOURCE)
        manager_tell_limits(manager, migration);
}

/* Once for each reason, and once when classes hold it after all. */
static void
manager_tell_shaping(Manager *manager, Migration *migration, const GError *error)
{
    if (error != NULL ? g_strcmp0(migration->unshaped, error->message) == 0
                      : migration->unshaped == NULL ||
                            !network_is_shaped(manager->network, migration_direction(migration)))
        return;
    if (error != NULL)
        migration_note(migration, "unshaped", "reason: %s, instead: %s", error->message,
                       migration->machine.role == MIGRATION_ROLE_SOURCE ? "QEMU's own limits"
                                                                        : "nothing at this end");
    else
        migration_note(migration, "shaped", "its classes stand now");
    g_free(migration->unshaped);
    migration->unshaped = error != NULL ? g_strdup(error->message) : NULL;
}

static void
reshape_done(const GError *error, gpointer data)
{
    g_autofree Reshape *reshape = data;
    Manager *manager = reshape->manager;
    bool stopping = g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED);

    for (guint i = 0; !stopping && i < manager->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(manager->migrations, i);

        if (!migration_is_transferring(migration) ||
            migration_direction(migration) != reshape->direction)
            continue;
        manager_tell_shaping(manager, migration, error);
        /* A call that waits for us hands the limits over itself. */
        manager_follow_limits(manager, migration, migration->machine.iteration == 0);
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
    planner_allocate(manager, direction, reservation, false, shares);
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
    if (!manager->side[direction].held_valid && recording.reserve.input.demand_valid) {
        manager->side[direction].held = recording.reserve.input.demand;
        manager->side[direction].held_valid = true;
        manager->side[direction].followed_us = g_get_monotonic_time();
    }
    decision->divided = reserve_divide(&recording.reserve.input, &decision->reservation);
    manager->side[direction].has_reservation = decision->divided;
    manager->side[direction].reservation = decision->reservation;
    if (decision->divided != had ||
        (had && planner_reservation_differs(&before, &decision->reservation, 0)))
        recorder_add(manager->recorder, &recording);
}

void
manager_hold_demand(Manager *manager, ShapingDirection direction, bool valid, uint64_t measured,
                    uint64_t elapsed_ms)
{
    const Reservation *reservation = &manager->side[direction].reservation;

    /* Beside low priority the workload has no upper limit: it is to notice nothing. */
    manager->side[direction].held = reserve_follow_demand(
        manager->side[direction].held, valid, measured, reservation->lower,
        reservation->priority == PRIORITY_LOW ? 0 : reservation->upper, elapsed_ms);
}

/* What the source's migrations have moved, all of it, and who they are; 0: not all are read yet. */
static uint64_t
moved_by_all(const Manager *manager, uint64_t *ret_who)
{
    uint64_t moved = 0;

    *ret_who = 0;
    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);

        if (migration->machine.role != MIGRATION_ROLE_SOURCE ||
            !migration_is_transferring(migration))
            continue;
        if (!migration->statistics.valid || !migration->statistics.active)
            return 0;
        moved += migration->statistics.memory_processed;
        *ret_who = *ret_who * 31 + migration->ticket;
    }
    return moved;
}

void
manager_follow_unshaped(Manager *manager, gint64 now_us)
{
    const ShapingDirection direction = SHAPING_EGRESS;
    uint64_t carried;
    uint64_t measured;
    uint64_t who;
    uint64_t moved = moved_by_all(manager, &who);
    Reservation next;

    if (moved == 0 || network_is_shaped(manager->network, direction) ||
        !manager->side[direction].has_reservation ||
        !network_link_bytes(manager->network, direction, &carried)) {
        manager->side[direction].meter = (WorkloadMeter){ 0 };
        return;
    }
    if (!workload_meter_add(&manager->side[direction].meter, now_us, carried, moved, who,
                            &measured))
        return;
    manager_hold_demand(manager, direction, true, measured, WORKLOAD_METER_WINDOW_US / 1000);
    manager->side[direction].held_valid = true;
    if (!manager_reserve(manager, direction, NULL, &next) ||
        !planner_reservation_differs(&manager->side[direction].reservation, &next,
                                     network_usable_rate(manager->network)))
        return;
    manager_divide(manager, direction);
    for (guint i = 0; i < manager->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(manager->migrations, i);

        if (migration->machine.role == MIGRATION_ROLE_SOURCE &&
            migration_is_transferring(migration))
            manager_follow_limits(manager, migration, false);
    }
    workload_meter_changed(&manager->side[direction].meter, now_us);
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
    if (!manager->side[direction].has_reservation) {
        /* A link that nothing is known of, or too slow to be divided. */
        network_unshape(manager->network, direction, reshape_done, reshape);
        return;
    }
    planner_fill_plan(manager, direction, &manager->side[direction].reservation, plan);
    manager_tell_deadlines(manager, direction, &manager->side[direction].reservation);
    manager->side[direction].floors = planner_floors_stamp(plan);
    network_shape(manager->network, direction, g_steal_pointer(&plan), reshape_done, reshape);
}
