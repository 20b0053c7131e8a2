/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Life of migrations and the loop around them; see manager.h. */
#include "daemon/manager.h"

#include "common/log.h"
#include "daemon/history.h"
#include "daemon/planner.h"
#include "daemon/report.h"

#include <libvirt/virterror.h>
#include <string.h>

#define POLL_US G_USEC_PER_SEC
/* Polls without a job, one second each, before a migration counts as gone. */
#define IDLE_POLLS_MAXIMUM 4u
/* The same before libvirt's job was seen once: a first start of QEMU takes seconds. */
#define STARTING_POLLS_MAXIMUM 10u
/* Records of migrations that have not ended; more are left to libvirt alone. */
#define MIGRATIONS_MAXIMUM 256u
/* A held caller asks every second; one that does not is gone. */
#define HELD_CALLER_GONE_US (10 * G_USEC_PER_SEC)
/* libvirt's final statistics may come after the last call has returned. */
#define STATISTICS_LATE_US (2 * G_USEC_PER_SEC)
/* A connection to the destination may hang for minutes: decide without it. */
#define OFFER_MAXIMUM_US (2 * G_USEC_PER_SEC)
/* A guest writes in bursts: what was dirtied in a shorter pass is no rate. */
#define PASS_TELLING_SECONDS 0.25
/* Between the end of begin and perform the destination prepares. */
#define ADMITTED_MAXIMUM_US (120 * G_USEC_PER_SEC)

/* ---- looking up -------------------------------------------------------- */

Migration *
manager_find(const Manager *manager, MigrationRole role, const char *uuid, const char *name)
{
    for (guint i = 0; i < manager->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(manager->migrations, i);

        if (migration->machine.role != role || !migration_is_active(migration))
            continue;
        if (uuid != NULL && migration->uuid != NULL) {
            if (g_ascii_strcasecmp(migration->uuid, uuid) == 0)
                return migration;
        } else if (name != NULL && g_strcmp0(migration->name, name) == 0) {
            return migration;
        }
    }
    return NULL;
}

bool
manager_was_aborted(const Manager *manager, uint64_t ticket)
{
    for (guint i = manager->history->len; i > 0; i--) {
        const Migration *migration = g_ptr_array_index(manager->history, i - 1);

        if (migration->ticket == ticket)
            return migration->machine.outcome == MIGRATION_OUTCOME_ABORTED;
    }
    return false;
}

Migration *
manager_find_ticket(const Manager *manager, uint64_t ticket)
{
    for (guint i = 0; i < manager->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(manager->migrations, i);

        if (migration->ticket == ticket)
            return migration;
    }
    return NULL;
}

/* Callbacks of slow work name their migration by ticket: it may have ended. */
typedef struct {
    Manager *manager;
    uint64_t ticket;
    guint64 number;
} Reference;

static Reference *
reference_new(Manager *manager, const Migration *migration)
{
    Reference *reference = g_new0(Reference, 1);

    reference->manager = manager;
    reference->ticket = migration->ticket;
    return reference;
}

static Migration *
reference_active(const Reference *reference)
{
    Migration *migration = manager_find_ticket(reference->manager, reference->ticket);

    return migration != NULL && migration_is_active(migration) ? migration : NULL;
}

/* ---- facts ------------------------------------------------------------- */

void
manager_exclude_post_copy(Migration *migration, const char *reason)
{
    static const Technique excluded[] = { TECHNIQUE_POST_COPY, TECHNIQUE_HYBRID };

    if (reason == NULL)
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(excluded); i++) {
        migration->allowed &= ~(1u << excluded[i]);
        if (migration->excluded[excluded[i]] == NULL)
            migration->excluded[excluded[i]] = reason;
    }
}

void
manager_describe(Manager *manager, Migration *migration, DomainDescription *description)
{
    const DomainMetadata *metadata = &description->metadata;
    TechniqueSet configured = config_techniques(manager->config);

    g_clear_pointer(&migration->description, domain_description_free);
    migration->description = description;
    if (migration->uuid == NULL)
        migration->uuid = g_strdup(description->uuid);
    for (guint i = 0; i < description->warnings->len; i++)
        migration_note(migration, "metadata-bad", "problem: %s, used: the default",
                       (const char *)g_ptr_array_index(description->warnings, i));
    migration->priority =
        metadata->priority_set ? metadata->priority : manager->config->default_priority;
    for (int i = 0; i < TECHNIQUE_COUNT; i++) {
        if (!(configured & (1u << i)))
            migration->excluded[i] = "the configuration does not allow it";
        else if (metadata->techniques_set && !(metadata->techniques & (1u << i)))
            migration->excluded[i] = "the domain's metadata does not allow it";
        if (migration->excluded[i] != NULL)
            migration->allowed &= ~(1u << i);
    }
    if (description->post_copy_obstacle != NULL)
        /* Interned: reasons live as long as decisions quote them. */
        manager_exclude_post_copy(migration, g_intern_string(description->post_copy_obstacle));
}

const char *
manager_refusal(const Manager *manager, MigrationRole role, const char *uuid, const char *name)
{
    const Migration *migration = manager_find(manager, role, uuid, name);

    if (migration != NULL)
        return migration_keeps_place(migration, g_get_monotonic_time());
    return manager->migrations->len >= MIGRATIONS_MAXIMUM ? "too many migrations are open" : NULL;
}

Migration *
manager_add(Manager *manager, MigrationRole role, const char *name, const char *uuid)
{
    static const MigrationInput lost = { .type = MIGRATION_INPUT_LOST };
    Migration *migration = manager_find(manager, role, uuid, name);

    if (migration != NULL)
        manager_input(manager, migration, &lost);
    migration = migration_new(++manager->next_ticket, role, name, uuid, g_get_monotonic_time());
    g_ptr_array_add(manager->migrations, migration);
    return migration;
}

/* ---- deciding ---------------------------------------------------------- */

void
manager_decide(Manager *manager, Migration *migration)
{
    TechniqueInput input;

    planner_technique_input(manager, migration, &input);
    technique_decide(&input, &migration->decision);
    migration->has_decision = true;
    migration_note(migration, "decision",
                   "technique: %s, rule: %s, priority: %s, available_pre: %" G_GUINT64_FORMAT
                   " B/s, available_post: %" G_GUINT64_FORMAT " B/s, reason: %s",
                   technique_to_string(migration->decision.technique),
                   technique_rule_to_string(migration->decision.rule),
                   priority_to_string(migration->priority), migration->decision.available_pre,
                   migration->decision.available_post, migration->decision.reason);
}

static void
dirty_rate_measured(uint64_t bytes_per_second, const GError *error, gpointer data)
{
    g_autofree Reference *reference = data;
    Migration *migration = reference_active(reference);

    if (migration == NULL || error != NULL || migration->description == NULL)
        return; /* unknown stays unknown */
    migration->dirty_rate = bytes_per_second;
    migration->dirty =
        dirty_curve_from_rate(bytes_per_second, 0, migration->description->current_memory);
    migration_note(migration, "dirty-rate", "measured: %" G_GUINT64_FORMAT " B/s",
                   bytes_per_second);
    if (migration->machine.state == MIGRATION_WAITING)
        manager_decide(reference->manager, migration);
}

void
manager_measure_dirty_rate(Manager *manager, Migration *migration)
{
    if (manager->config->dirty_rate_measurement && migration->uuid != NULL)
        hypervisor_measure_dirty_rate(manager->hypervisor, migration->uuid, dirty_rate_measured,
                                      reference_new(manager, migration));
}

/* Dirtying faster than expected: post-copy while it is possible, never back. */
static void
manager_reconsider(Manager *manager, Migration *migration)
{
    Technique before = migration->decision.technique;
    MigrationInput decided = { .type = MIGRATION_INPUT_DECIDED };
    TechniqueInput input;
    TechniqueDecision decision;

    if (migration->machine.state != MIGRATION_RUNNING || !migration->machine.decided ||
        migration->machine.technique != TECHNIQUE_PRE_COPY ||
        !migration->machine.post_copy_possible || migration->machine.post_copy_requested)
        return;
    planner_technique_input(manager, migration, &input);
    technique_decide(&input, &decision);
    if (decision.technique == TECHNIQUE_PRE_COPY ||
        (decision.rule != TECHNIQUE_RULE_GATE_CONVERGENCE &&
         decision.rule != TECHNIQUE_RULE_GATE_FLOOR))
        return;
    migration->decision = decision;
    migration_note(migration, "decision-changed", "from: %s, to: hybrid, reason: %s",
                   technique_to_string(before), decision.reason);
    decided.technique = TECHNIQUE_HYBRID;
    manager_input(manager, migration, &decided);
}

/* ---- the network ------------------------------------------------------- */

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

static void
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

static void
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
    manager->side[direction].has_reservation =
        manager_reserve(manager, direction, NULL, &manager->side[direction].reservation);
    if (manager->side[direction].has_reservation)
        planner_fill_plan(manager, direction, &manager->side[direction].reservation, plan);
    network_shape(manager->network, direction, g_steal_pointer(&plan), reshape_done, reshape);
}

/* ---- actions ----------------------------------------------------------- */

static void
post_copy_started(const GError *error, gpointer data)
{
    static const MigrationInput refused = { .type = MIGRATION_INPUT_POST_COPY_REFUSED };
    g_autofree Reference *reference = data;
    Migration *migration = reference_active(reference);

    if (migration == NULL || error == NULL)
        return;
    migration_note(migration, "post-copy-refused", "reason: %s, goes on as: pre-copy",
                   error->message);
    manager_input(reference->manager, migration, &refused);
}

static void
post_copy_limited(const GError *error, gpointer data)
{
    Reference *reference = data;
    Migration *migration = reference_active(reference);

    if (migration == NULL) {
        g_free(reference);
        return;
    }
    if (error != NULL)
        migration_note(migration, "limit-failed", "reason: %s", error->message);
    hypervisor_start_post_copy(reference->manager->hypervisor, migration->uuid, post_copy_started,
                               reference);
}

/*
 * Both phases are capped: QEMU without a post-copy limit takes all there is.
 * The older entry points cannot carry that limit, so where no class bounds the
 * phase it is set just before the switch.
 */
static void
manager_start_post_copy(Manager *manager, Migration *migration)
{
    Reference *reference = reference_new(manager, migration);

    migration_note(migration, "post-copy-requested", "technique: %s, iteration: %u",
                   technique_to_string(migration->machine.technique), migration->machine.iteration);
    if (migration->has_limits && migration->user_post_copy_bandwidth_mib == 0 &&
        !network_is_shaped(manager->network, SHAPING_EGRESS))
        hypervisor_set_max_speed(manager->hypervisor, migration->uuid, 0,
                                 migration->limits.post_copy, post_copy_limited, reference);
    else
        hypervisor_start_post_copy(manager->hypervisor, migration->uuid, post_copy_started,
                                   reference);
}

static void
downtime_set(const GError *error, gpointer data)
{
    g_autofree Reference *reference = data;
    Migration *migration = reference_active(reference);

    if (migration != NULL && error != NULL)
        migration_note(migration, "downtime-limit-failed", "reason: %s", error->message);
}

static void
offer_removed(const GError *error, gpointer data)
{
    g_autofree char *name = data;

    if (error != NULL)
        log_event(CONFIG_LOG_WARNING, "offer-not-removed", "domain: %s, reason: %s", name,
                  error->message);
}

static void
migration_assign_leaf(const Manager *manager, Migration *migration)
{
    bool used[SHAPING_MIGRATIONS_MAX + 1] = { false };

    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *other = g_ptr_array_index(manager->migrations, i);

        if (migration_is_active(other))
            used[other->leaf] = true;
    }
    for (unsigned leaf = 1; leaf <= SHAPING_MIGRATIONS_MAX && migration->leaf == 0; leaf++) {
        if (!used[leaf])
            migration->leaf = leaf;
    }
}

static void
manager_remember(const Manager *manager, Migration *migration)
{
    g_autofree char *record = NULL;
    g_autoptr(GError) error = NULL;

    if (migration->recorded)
        return;
    migration->recorded = true;
    record = report_migration(migration);
    if (!history_append(manager->state_directory, record, &error))
        log_event(CONFIG_LOG_WARNING, "history-not-written", "reason: %s", error->message);
}

static void
manager_end(Manager *manager, Migration *migration)
{
    gint64 now_us = g_get_monotonic_time();
    g_autofree char *total = NULL;
    g_autofree char *predicted =
        migration->has_decision
            ? g_strdup_printf(
                  "%.2f s",
                  migration->decision.prediction[migration->decision.technique].total_seconds)
            : g_strdup("-");

    migration->ended_us = now_us;
    total = migration->running_us != 0
                ? g_strdup_printf("%.2f s", (double)(now_us - migration->running_us) / 1e6)
                : g_strdup("-");
    migration_note(migration, "ended",
                   "outcome: %s, technique: %s, total: %s, predicted: %s, iterations: %u%s%s",
                   migration_outcome_to_string(migration->machine.outcome),
                   migration_technique_text(migration), total, predicted,
                   migration->machine.iteration, migration->failure ? ", reason: " : "",
                   migration->failure ? migration->failure : "");
    if (migration->offer_added && migration->uuid != NULL &&
        migration->machine.outcome != MIGRATION_OUTCOME_FAILED)
        hypervisor_remove_offer(manager->hypervisor, migration->uuid, offer_removed,
                                g_strdup(migration->name));
    manager_answer_turn(manager, migration);
    for (guint i = 0; i < manager->migrations->len; i++) {
        if (g_ptr_array_index(manager->migrations, i) == migration) {
            g_ptr_array_add(manager->history, g_ptr_array_steal_index(manager->migrations, i));
            break;
        }
    }
    if (migration->leaf != 0)
        manager_reshape(manager, migration_direction(migration), NULL, NULL);
    /* The caller may still hold the record it asked to end: keep at least one. */
    while (manager->history->len > MAX(manager->config->history_limit, 1)) {
        manager_remember(manager, g_ptr_array_index(manager->history, 0));
        g_ptr_array_remove_index(manager->history, 0);
    }
    manager_schedule(manager);
}

static void
manager_carry_out(Manager *manager, Migration *migration, unsigned actions, NetworkShapeDone done,
                  gpointer user_data)
{
    if (actions & MIGRATION_ACTION_SHAPE) {
        migration->running_us = g_get_monotonic_time();
        migration_assign_leaf(manager, migration);
        manager_reshape(manager, migration_direction(migration), done, user_data);
    } else if (done != NULL) {
        done(NULL, user_data);
    }
    if ((actions & MIGRATION_ACTION_LIMIT) && migration->description != NULL &&
        migration->description->metadata.maximum_downtime != 0)
        hypervisor_set_max_downtime(manager->hypervisor, migration->uuid,
                                    migration->description->metadata.maximum_downtime, downtime_set,
                                    reference_new(manager, migration));
    /* Not every call could hand them over: held ones, and those without a parameter list. */
    if ((actions & MIGRATION_ACTION_LIMIT) && migration->has_limits)
        manager_tell_limits(manager, migration);
    if (actions & MIGRATION_ACTION_START_POST_COPY)
        manager_start_post_copy(manager, migration);
    if (actions & MIGRATION_ACTION_END)
        manager_end(manager, migration);
}

void
manager_input(Manager *manager, Migration *migration, const MigrationInput *input)
{
    manager_carry_out(manager, migration, migration_machine_step(&migration->machine, input), NULL,
                      NULL);
}

void
manager_transfer(Manager *manager, Migration *migration, NetworkShapeDone done, gpointer user_data)
{
    static const MigrationInput transfer = { .type = MIGRATION_INPUT_TRANSFER };

    manager_carry_out(manager, migration, migration_machine_step(&migration->machine, &transfer),
                      done, user_data);
}

/* ---- whose turn it is -------------------------------------------------- */

void
manager_answer_turn(Manager *manager G_GNUC_UNUSED, Migration *migration)
{
    const char *state = "go";
    g_autofree char *message = NULL;

    if (migration->waiting_turn == NULL || migration->machine.state == MIGRATION_WAITING)
        return;
    migration->polled_us = g_get_monotonic_time();
    if (migration->machine.outcome == MIGRATION_OUTCOME_ABORTED) {
        state = "aborted";
        message = g_strdup_printf(
            "migration of domain '%s' was aborted while it waited for its turn", migration->name);
    }
    if (migration->turn_timer != 0)
        g_source_remove(migration->turn_timer);
    migration->turn_timer = 0;
    g_dbus_method_invocation_return_value(g_steal_pointer(&migration->waiting_turn),
                                          g_variant_new("(ss)", state, message ? message : ""));
}

/* A peer-to-peer call moves memory as soon as it goes on. */
static void
turn_shaped(const GError *error G_GNUC_UNUSED, gpointer data)
{
    g_autofree Reference *reference = data;
    Migration *migration = manager_find_ticket(reference->manager, reference->ticket);

    if (migration != NULL)
        manager_answer_turn(reference->manager, migration);
}

void
manager_schedule(Manager *manager)
{
    static const MigrationInput turn = { .type = MIGRATION_INPUT_TURN };
    g_autoptr(GPtrArray) starting = planner_schedule(manager);

    for (guint i = 0; i < starting->len; i++) {
        Migration *migration = g_ptr_array_index(starting, i);

        migration_note(migration, "admitted", "waited: %.2f s, reason: %s",
                       (double)(g_get_monotonic_time() - migration->created_us) / 1e6,
                       migration->schedule_reason ? migration->schedule_reason : "-");
        manager_input(manager, migration, &turn);
        /* A call not answered yet goes on when it knows its peer. */
        if (migration->peer_to_peer && !migration->answer_pending)
            manager_transfer(manager, migration, turn_shaped, reference_new(manager, migration));
        else
            manager_answer_turn(manager, migration);
    }
}

/* ---- the loop ---------------------------------------------------------- */

static void
job_polled(const JobStatistics *statistics, const GError *error, gpointer data)
{
    static const MigrationInput lost = { .type = MIGRATION_INPUT_LOST };
    g_autofree Reference *reference = data;
    Manager *manager = reference->manager;
    Migration *migration = reference_active(reference);
    bool working = error == NULL && statistics->active;

    if (migration == NULL)
        return;
    migration->querying = false;
    /* libvirt has no statistics of an incoming job, and says so with this code. */
    if (error != NULL && migration->machine.role == MIGRATION_ROLE_DESTINATION &&
        (error->code == VIR_ERR_OPERATION_UNSUPPORTED || error->code == VIR_ERR_OPERATION_INVALID))
        working = true;
    if (!hypervisor_is_connected(manager->hypervisor))
        return; /* libvirtd restarts: wait until it can be asked */
    if (!working) {
        if (++migration->idle_polls <
            (migration->job_seen ? IDLE_POLLS_MAXIMUM : STARTING_POLLS_MAXIMUM))
            return;
        g_free(migration->failure);
        migration->failure = g_strdup(error ? error->message : "libvirt runs no job for it");
        manager_input(manager, migration, &lost);
        return;
    }
    migration->idle_polls = 0;
    migration->job_seen = true;
    if (error != NULL)
        return;
    migration->statistics = *statistics;
    if (migration->machine.iteration >= 2 && !migration->machine.post_copy_requested &&
        migration->machine.state == MIGRATION_RUNNING &&
        migration->pass_seconds >= PASS_TELLING_SECONDS && statistics->memory_remaining > 0 &&
        reference->number == migration->machine.iteration) {
        /* What is left at the start of a pass was dirtied during the one before. */
        migration->dirty = (DirtyCurve){ 0 };
        dirty_curve_add(&migration->dirty, migration->pass_seconds,
                        (double)statistics->memory_remaining);
        migration->dirty_rate =
            (uint64_t)((double)statistics->memory_remaining / migration->pass_seconds);
        manager_reconsider(manager, migration);
    }
}

/* number: the pass whose beginning is asked for; 0: just a look. */
static void
manager_poll(Manager *manager, Migration *migration, unsigned number)
{
    Reference *reference;

    if (migration->uuid == NULL || (migration->querying && number == 0))
        return;
    migration->querying = true;
    reference = reference_new(manager, migration);
    reference->number = number;
    hypervisor_query_job(manager->hypervisor, migration->uuid, job_polled, reference);
}

static void
manager_expire(Manager *manager, Migration *migration, gint64 now_us)
{
    static const MigrationInput lost = { .type = MIGRATION_INPUT_LOST };
    static const MigrationInput abort_input = { .type = MIGRATION_INPUT_ABORT };

    if (migration->machine.state == MIGRATION_WAITING && migration->waiting_turn == NULL &&
        now_us - migration->polled_us > HELD_CALLER_GONE_US) {
        migration->failure = g_strdup("the caller stopped waiting");
        manager_input(manager, migration, &abort_input);
    } else if (migration->machine.state == MIGRATION_ADMITTED &&
               /* Never held: polled_us is 0. */
               now_us - MAX(migration->created_us, migration->polled_us) > ADMITTED_MAXIMUM_US) {
        migration->failure = g_strdup("it never began to move memory");
        manager_input(manager, migration, &lost);
    }
}

static void
manager_follow_demand(Manager *manager, ShapingDirection direction, gint64 now_us)
{
    uint64_t measured = 0;
    bool valid = network_workload_last(manager->network, direction, &measured);
    const Reservation *reservation = &manager->side[direction].reservation;
    Reservation next;

    if (!manager->side[direction].has_reservation || manager->side[direction].migrations == 0)
        return;
    /* Beside low priority the workload has no upper limit: it is to notice nothing. */
    manager->side[direction].held = reserve_follow_demand(
        manager->side[direction].held, valid, measured, reservation->lower,
        reservation->priority == PRIORITY_LOW ? 0 : reservation->upper,
        (uint64_t)MAX(now_us - manager->side[direction].followed_us, 0) / 1000);
    manager->side[direction].followed_us = now_us;
    /* A slow tc is not given more work than it can do. */
    if (now_us - manager->side[direction].reshaped_us <
            (gint64)manager->config->reshape_interval * 1000 / 2 ||
        network_is_busy(manager->network, direction))
        return;
    if (manager_reserve(manager, direction, NULL, &next) &&
        planner_reservation_differs(reservation, &next, network_usable_rate(manager->network))) {
        manager->side[direction].reshaped_us = now_us;
        manager_reshape(manager, direction, NULL, NULL);
    }
}

/* The destination's word, or none: the technique of a p2p migration is final now. */
static void
manager_offer_answered(Manager *manager, Migration *migration, const char *problem)
{
    MigrationInput decided = { .type = MIGRATION_INPUT_DECIDED };

    migration->offer_asked_us = 0;
    if (problem != NULL) {
        migration_note(migration, "offer-none", "reason: %s", problem);
    } else {
        migration_note(migration, "offer",
                       "destination_in: %" G_GUINT64_FORMAT
                       " B/s, destination_out: %" G_GUINT64_FORMAT " B/s",
                       migration->peer.host.in, migration->peer.host.out);
        manager_decide(manager, migration);
    }
    decided.technique = migration->decision.technique;
    manager_input(manager, migration, &decided);
}

static void
manager_tick(gint64 now_us, gpointer data)
{
    Manager *manager = data;
    bool poll = now_us - manager->last_poll_us >= POLL_US;
    TrafficRates rates = network_host_rates(manager->network);
    g_autoptr(GArray) tickets = g_array_new(FALSE, FALSE, sizeof(uint64_t));

    manager->host_class =
        classify_traffic(&rates, network_usable_rate(manager->network), manager->host_class, NULL);
    for (int direction = 0; direction < 2; direction++)
        manager_follow_demand(manager, (ShapingDirection)direction, now_us);
    if (!poll)
        return;
    manager->last_poll_us = now_us;
    for (guint i = 0; i < manager->history->len; i++) {
        Migration *ended = g_ptr_array_index(manager->history, i);

        if (now_us - ended->ended_us > STATISTICS_LATE_US)
            manager_remember(manager, ended);
    }
    /* Tickets, not pointers: ending one migration changes the array and may free another. */
    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);

        g_array_append_val(tickets, migration->ticket);
    }
    for (guint i = 0; i < tickets->len; i++) {
        Migration *migration = manager_find_ticket(manager, g_array_index(tickets, uint64_t, i));

        if (migration == NULL)
            continue;
        if (!migration_is_transferring(migration)) {
            manager_expire(manager, migration, now_us);
            continue;
        }
        if (migration->offer_asked_us != 0 && now_us - migration->offer_asked_us > OFFER_MAXIMUM_US)
            manager_offer_answered(manager, migration, "the destination did not answer in time");
        manager_poll(manager, migration, 0);
    }
    manager_schedule(manager);
}

/* ---- events of libvirt ------------------------------------------------- */

static void
domains_listed(GPtrArray *texts, const GError *error, gpointer data)
{
    Manager *manager = data;

    if (error != NULL || texts == NULL)
        return; /* it stopped again, or the connection went: an event follows */
    for (guint i = 0; i < texts->len; i++) {
        g_autoptr(GError) parse_error = NULL;

        if (!registry_put(manager->registry, g_ptr_array_index(texts, i), &parse_error))
            log_event(CONFIG_LOG_WARNING, "domain-unreadable", "reason: %s", parse_error->message);
    }
}

/* What a daemon that died left in domains that have arrived since. */
static void
domains_listed_first(GPtrArray *texts, const GError *error, gpointer data)
{
    Manager *manager = data;

    domains_listed(texts, error, data);
    for (guint i = 0; error == NULL && texts != NULL && i < texts->len; i++) {
        const char *xml = g_ptr_array_index(texts, i);
        g_autoptr(DomainDescription) description = NULL;

        if (strstr(xml, PEER_OFFER_NAMESPACE) != NULL)
            description = domain_description_parse(xml, -1, NULL);
        if (description != NULL && manager_find(manager, MIGRATION_ROLE_DESTINATION,
                                                description->uuid, description->name) == NULL)
            hypervisor_remove_offer(manager->hypervisor, description->uuid, offer_removed,
                                    g_strdup(description->name));
    }
}

static void
offer_read(const char *text, const GError *error, gpointer data)
{
    g_autofree Reference *reference = data;
    Migration *migration = reference_active(reference);
    g_autoptr(GError) parse_error = NULL;

    if (migration == NULL || migration->offer_asked_us == 0)
        return; /* too late: it was decided without */
    if (error == NULL)
        migration->peer_known = peer_report_from_offer(text, -1, &migration->peer, &parse_error);
    manager_offer_answered(reference->manager, migration,
                           error         ? error->message
                           : parse_error ? parse_error->message
                                         : NULL);
}

/* A migration that nobody announced: no plugin here, or the daemon is new. */
static Migration *
manager_observe(Manager *manager, const HypervisorEvent *event)
{
    DomainDescription *known = registry_copy(manager->registry, event->uuid);
    MigrationInput decided = { .type = MIGRATION_INPUT_DECIDED };
    Migration *migration;

    migration = manager_add(manager, MIGRATION_ROLE_SOURCE, event->name, event->uuid);
    migration->observed = true;
    /* Only the caller knows whether he began with post-copy: libvirt refuses otherwise. */
    migration->machine.post_copy_possible = true;
    if (known != NULL)
        manager_describe(manager, migration, known);
    else
        migration->priority = manager->config->default_priority;
    migration_note(migration, "observed", "flags: as the caller gave them");
    manager_decide(manager, migration);
    decided.technique = migration->decision.technique;
    migration_machine_step(&migration->machine, &decided);
    return migration;
}

static void
migration_iterate(Manager *manager, Migration *migration, const HypervisorEvent *event)
{
    MigrationInput input = { .type = MIGRATION_INPUT_ITERATION, .iteration = event->iteration };
    gint64 now_us = g_get_monotonic_time();

    migration->job_seen = true;
    migration->pass_seconds =
        migration->iteration_us != 0 ? (double)(now_us - migration->iteration_us) / 1e6 : 0;
    migration->iteration_us = now_us;
    migration_note(migration, "iteration", "number: %u", event->iteration);
    if (migration->offer_wanted && migration->destination_uri != NULL) {
        migration->offer_wanted = false;
        migration->offer_asked_us = now_us;
        hypervisor_read_offer(manager->hypervisor, migration->destination_uri, migration->uuid,
                              offer_read, reference_new(manager, migration));
    }
    manager_input(manager, migration, &input);
    if (migration_is_active(migration) && event->iteration >= 2)
        manager_poll(manager, migration, event->iteration);
}

/* An iteration of a domain that nobody announced. */
typedef struct {
    Manager *manager;
    char *uuid;
    char *name;
    unsigned iteration;
} Sighting;

static void
sighting_free(Sighting *sighting)
{
    g_free(sighting->uuid);
    g_free(sighting->name);
    g_free(sighting);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Sighting, sighting_free)

static void
sighting_checked(const JobStatistics *statistics, const GError *error, gpointer data)
{
    g_autoptr(Sighting) sighting = data;
    HypervisorEvent event = {
        .type = HYPERVISOR_MIGRATION_ITERATION,
        .uuid = sighting->uuid,
        .name = sighting->name,
        .iteration = sighting->iteration,
    };
    Migration *migration;

    if (error != NULL || !statistics->active || !statistics->outgoing)
        return;
    migration =
        manager_find(sighting->manager, MIGRATION_ROLE_SOURCE, sighting->uuid, sighting->name);
    if (migration == NULL &&
        manager_refusal(sighting->manager, MIGRATION_ROLE_SOURCE, event.uuid, event.name) != NULL)
        return;
    if (migration == NULL)
        migration = manager_observe(sighting->manager, &event);
    if (migration->machine.iteration < event.iteration)
        migration_iterate(sighting->manager, migration, &event);
}

/*
 * virsh save, dump and snapshots make QEMU count passes as well: one that
 * nobody announced is followed only after libvirt has called it a migration.
 */
static void
on_iteration(Manager *manager, const HypervisorEvent *event)
{
    Migration *migration = manager_find(manager, MIGRATION_ROLE_SOURCE, event->uuid, event->name);
    Sighting *sighting;

    if (migration != NULL) {
        migration_iterate(manager, migration, event);
        return;
    }
    sighting = g_new0(Sighting, 1);
    sighting->manager = manager;
    sighting->uuid = g_strdup(event->uuid);
    sighting->name = g_strdup(event->name);
    sighting->iteration = event->iteration;
    hypervisor_query_job(manager->hypervisor, event->uuid, sighting_checked, sighting);
}

static void
on_post_copy_entered(Manager *manager, const HypervisorEvent *event)
{
    static const MigrationInput entered = { .type = MIGRATION_INPUT_POST_COPY_ENTERED };

    for (int role = MIGRATION_ROLE_SOURCE; role <= MIGRATION_ROLE_DESTINATION; role++) {
        Migration *migration = manager_find(manager, (MigrationRole)role, event->uuid, event->name);

        if (migration == NULL || migration->machine.state == MIGRATION_POST_COPY)
            continue;
        migration->post_copy_us = g_get_monotonic_time();
        migration_note(migration, "post-copy", "the VM runs at the destination");
        manager_input(manager, migration, &entered);
    }
}

/* Without the plugin nobody reports the end of Finish. */
static void
on_arrived(Manager *manager, const HypervisorEvent *event)
{
    static const MigrationInput succeeded = { .type = MIGRATION_INPUT_SUCCEEDED };
    Migration *migration =
        manager_find(manager, MIGRATION_ROLE_DESTINATION, event->uuid, event->name);

    if (migration != NULL && migration_is_transferring(migration))
        manager_input(manager, migration, &succeeded);
    else if (migration == NULL) /* announced to a daemon that died meanwhile */
        hypervisor_remove_offer(manager->hypervisor, event->uuid, offer_removed,
                                g_strdup(event->name));
}

static void
on_gone(Manager *manager, const HypervisorEvent *event)
{
    MigrationInput input = {
        .type = event->migrated ? MIGRATION_INPUT_SUCCEEDED : MIGRATION_INPUT_FAILED,
    };

    registry_remove(manager->registry, event->uuid);
    for (int role = MIGRATION_ROLE_SOURCE; role <= MIGRATION_ROLE_DESTINATION; role++) {
        Migration *migration = manager_find(manager, (MigrationRole)role, event->uuid, event->name);

        if (migration == NULL)
            continue;
        if (role == MIGRATION_ROLE_DESTINATION && migration->machine.state == MIGRATION_ADMITTED)
            continue; /* an old domain of that name was cleaned away */
        manager_input(manager, migration, &input);
    }
}

static void
on_job_completed(Manager *manager, const HypervisorEvent *event)
{
    static const MigrationInput succeeded = { .type = MIGRATION_INPUT_SUCCEEDED };
    MigrationRole role =
        event->statistics->outgoing ? MIGRATION_ROLE_SOURCE : MIGRATION_ROLE_DESTINATION;
    Migration *migration = manager_find(manager, role, event->uuid, event->name);

    for (guint i = manager->history->len; migration == NULL && i > 0; i--) {
        Migration *ended = g_ptr_array_index(manager->history, i - 1);

        if (ended->recorded || ended->machine.role != role ||
            g_strcmp0(ended->uuid, event->uuid) != 0)
            continue;
        ended->statistics = *event->statistics;
        return;
    }
    if (migration == NULL || !migration_is_transferring(migration))
        return;
    migration->statistics = *event->statistics;
    if (event->statistics->success)
        manager_input(manager, migration, &succeeded);
}

static void
manager_event(const HypervisorEvent *event, gpointer data)
{
    Manager *manager = data;
    Migration *migration;

    switch (event->type) {
    case HYPERVISOR_CONNECTED:
        log_event(CONFIG_LOG_INFO, "libvirt-connected", "qemu: %u, libvirt: %u",
                  hypervisor_qemu_version(manager->hypervisor),
                  hypervisor_libvirt_version(manager->hypervisor));
        registry_clear(manager->registry);
        hypervisor_list_domains(manager->hypervisor, NULL, domains_listed_first, manager);
        break;
    case HYPERVISOR_DISCONNECTED:
        log_event(CONFIG_LOG_WARNING, "libvirt-lost", NULL);
        break;
    case HYPERVISOR_DOMAIN_STARTED:
    case HYPERVISOR_DOMAIN_CHANGED:
        hypervisor_list_domains(manager->hypervisor, event->uuid, domains_listed, manager);
        break;
    case HYPERVISOR_DOMAIN_ARRIVED:
        on_arrived(manager, event);
        break;
    case HYPERVISOR_DOMAIN_STOPPED:
        on_gone(manager, event);
        break;
    case HYPERVISOR_POST_COPY_ENTERED:
        on_post_copy_entered(manager, event);
        break;
    case HYPERVISOR_POST_COPY_FAILED:
        migration = manager_find(manager, MIGRATION_ROLE_SOURCE, event->uuid, event->name);
        if (migration != NULL)
            migration_note(migration, "post-copy-failed",
                           "the VM is paused, not lost: run `virsh migrate --postcopy-resume`");
        break;
    case HYPERVISOR_MIGRATION_ITERATION:
        on_iteration(manager, event);
        break;
    case HYPERVISOR_JOB_COMPLETED:
        on_job_completed(manager, event);
        break;
    }
}

/* ---- life -------------------------------------------------------------- */

static void
migration_destroy(gpointer data)
{
    migration_free(data);
}

Manager *
manager_new(const Config *config, const char *state_directory, GError **error)
{
    g_autoptr(Manager) manager = g_new0(Manager, 1);

    manager->config = config;
    manager->state_directory = g_strdup(state_directory);
    manager->registry = registry_new();
    manager->migrations = g_ptr_array_new_with_free_func(migration_destroy);
    manager->history = g_ptr_array_new_with_free_func(migration_destroy);
    manager->network = network_new(config, state_directory, manager_tick, manager, error);
    if (manager->network == NULL)
        return NULL;
    manager->hypervisor = hypervisor_new(config->libvirt_uri, manager_event, manager);
    return g_steal_pointer(&manager);
}

void
manager_free(Manager *manager)
{
    if (manager == NULL)
        return;
    /* The network first: it waits for no libvirtd, and what it calls back needs the rest. */
    if (manager->network != NULL)
        network_free(manager->network);
    g_clear_pointer(&manager->hypervisor, hypervisor_free);
    for (guint i = 0; manager->history != NULL && i < manager->history->len; i++)
        manager_remember(manager, g_ptr_array_index(manager->history, i));
    g_clear_pointer(&manager->migrations, g_ptr_array_unref);
    g_clear_pointer(&manager->history, g_ptr_array_unref);
    g_clear_pointer(&manager->registry, registry_free);
    g_free(manager->state_directory);
    g_free(manager);
}
