/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Records of migrations, decisions, and what must be done about them; see
 * manager.h. The network's part is in manager-network.c, whose turn it is in
 * manager-turns.c, the periodic work in manager-loop.c, what libvirt reports
 * in manager-events.c.
 */
#include "daemon/manager-private.h"

#include "common/log.h"
#include "daemon/gates.h"
#include "daemon/job-flags.h"
#include "daemon/planner.h"
#include "daemon/report.h"

#include <string.h>

/* From a turn to the first byte, before it was measured here. */
#define PREPARE_SECONDS 0.7

/* Records of migrations that have not ended; more are left to libvirt alone. */
#define MIGRATIONS_MAXIMUM 256u

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

Reference *
reference_new(Manager *manager, const Migration *migration)
{
    Reference *reference = g_new0(Reference, 1);

    reference->manager = manager;
    reference->ticket = migration->ticket;
    return reference;
}

Migration *
reference_active(const Reference *reference)
{
    Migration *migration = manager_find_ticket(reference->manager, reference->ticket);

    return migration != NULL && migration_is_active(migration) ? migration : NULL;
}

/* ---- facts ------------------------------------------------------------- */

/* Interned, because decisions quote reasons: the texts are few, and so are their pairs. */
static void
exclusion_add(const char **excluded, const char *reason)
{
    g_autofree char *both = NULL;

    if (*excluded == NULL) {
        *excluded = g_intern_string(reason);
    } else if (strstr(*excluded, reason) == NULL) {
        both = g_strconcat(*excluded, "; ", reason, NULL);
        *excluded = g_intern_string(both);
    }
}

static void
exclude(Migration *migration, Technique technique, const char *reason)
{
    migration->allowed &= ~(1u << technique);
    exclusion_add(&migration->excluded[technique], reason);
}

void
manager_exclude_post_copy(Migration *migration, const char *reason)
{
    if (reason == NULL)
        return;
    exclude(migration, TECHNIQUE_POST_COPY, reason);
    exclude(migration, TECHNIQUE_HYBRID, reason);
}

void
manager_describe(Manager *manager, Migration *migration, DomainDescription *description)
{
    const DomainMetadata *metadata = &description->metadata;
    const Lesson *lesson;

    g_clear_pointer(&migration->description, domain_description_free);
    migration->description = description;
    if (migration->uuid == NULL)
        migration->uuid = g_strdup(description->uuid);
    /* What it did when it last left is the best guess until something is measured. */
    lesson = experience_domain(manager->experience, migration->uuid);
    if (!migration->dirty.valid && lesson != NULL && lesson->dirty.valid) {
        migration->dirty = lesson->dirty;
        migration->dirty_rate = (uint64_t)dirty_curve_rate(&migration->dirty);
    }
    for (guint i = 0; i < description->warnings->len; i++)
        migration_note(migration, "metadata-bad", "problem: %s, used: the default",
                       (const char *)g_ptr_array_index(description->warnings, i));
    migration->priority =
        metadata->priority_set ? metadata->priority : manager->config->default_priority;
    for (int i = 0; i < TECHNIQUE_COUNT; i++) {
        if (metadata->techniques_set && !(metadata->techniques & (1u << i)))
            exclude(migration, (Technique)i, "the domain's metadata does not allow it");
    }
    manager_exclude_post_copy(migration, description->post_copy_obstacle);
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
    migration = migration_new(manager->next_ticket++, role, name, uuid, g_get_monotonic_time());
    g_ptr_array_add(manager->migrations, migration);
    /* What holds whatever the domain says, and where its description cannot be had. */
    migration->priority = manager->config->default_priority;
    for (int i = 0; i < TECHNIQUE_COUNT; i++) {
        if (!(config_techniques(manager->config) & (1u << i)))
            exclude(migration, (Technique)i, "the configuration does not allow it");
    }
    return migration;
}

/* ---- deciding ---------------------------------------------------------- */

TechniqueDecision
manager_decide_recorded(Manager *manager, Migration *migration)
{
    Recording recording = {
        .kind = RECORDING_TECHNIQUE,
        .wall_us = g_get_real_time(),
        .about = migration->name,
    };

    planner_technique_input(manager, migration, &recording.technique.input);
    technique_decide(&recording.technique.input, &recording.technique.decision);
    migration->overhead =
        recording.technique.input.correction[recording.technique.decision.technique].overhead;
    recorder_add(manager->recorder, &recording);
    return recording.technique.decision;
}

void
manager_decide(Manager *manager, Migration *migration)
{
    migration->decision = manager_decide_recorded(manager, migration);
    migration->has_decision = true;
    migration_note(migration, "decision",
                   "technique: %s, rule: %s, priority: %s, available_pre: %" G_GUINT64_FORMAT
                   " B/s, available_post: %" G_GUINT64_FORMAT " B/s, reason: %s",
                   technique_to_string(migration->decision.technique),
                   technique_rule_to_string(migration->decision.rule),
                   priority_to_string(migration->priority), migration->decision.available_pre,
                   migration->decision.available_post, migration->decision.reason);
}

void
manager_settle(Manager *manager, Migration *migration, bool anew)
{
    MigrationInput decided = { .type = MIGRATION_INPUT_DECIDED };
    const char *reason =
        gate_start_post_copy(migration->flags_unknown ? NULL : &migration->flags,
                             hypervisor_qemu_version(manager->hypervisor),
                             migration->peer_known ? migration->peer.qemu_version : 0);

    manager_exclude_post_copy(migration, reason);
    if (anew || reason != NULL) {
        manager_decide(manager, migration);
        manager_forecast(manager, migration);
    }
    decided.technique = migration->decision.technique;
    manager_input(manager, migration, &decided);
}

/*
 * A second alone says nothing of when its working set is dirty: that is taken for all of its
 * memory, unless an earlier migration has shown it. More in a second than that set is another.
 */
void
manager_take_dirty_rate(Migration *migration, uint64_t bytes_per_second)
{
    const DirtyCurve *shown = &migration->dirty;
    double bytes = (double)bytes_per_second * HYPERVISOR_DIRTY_RATE_SECONDS;

    if (shown->valid && bytes <= shown->point[shown->count - 1].bytes)
        dirty_curve_insert(&migration->dirty, HYPERVISOR_DIRTY_RATE_SECONDS, bytes);
    else
        migration->dirty =
            dirty_curve_from_rate(bytes_per_second, 0, migration->description->current_memory);
    migration->dirty_rate = bytes_per_second;
}

static void
dirty_rate_measured(uint64_t bytes_per_second, const GError *error, gpointer data)
{
    g_autofree Reference *reference = data;
    Migration *migration = reference_active(reference);

    if (migration == NULL || error != NULL || migration->description == NULL)
        return; /* unknown stays unknown */
    if (migration->dirty_by_passes)
        return; /* known better meanwhile */
    manager_take_dirty_rate(migration, bytes_per_second);
    migration_note(migration, "dirty-rate", "measured: %" G_GUINT64_FORMAT " B/s",
                   bytes_per_second);
    if (migration->machine.state == MIGRATION_WAITING)
        manager_decide(reference->manager, migration);
}

void
manager_measure_dirty_rate(Manager *manager, Migration *migration)
{
    migration->dirty_measured = true;
    if (manager->config->dirty_rate_measurement && migration->uuid != NULL)
        hypervisor_measure_dirty_rate(manager->hypervisor, migration->uuid, dirty_rate_measured,
                                      reference_new(manager, migration));
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
    converge_refused(&migration->converge);
    manager_input(reference->manager, migration, &refused);
}

static void
post_copy_limited(uint64_t present G_GNUC_UNUSED, const GError *error, gpointer data)
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
 * The record may be of an earlier migration of the domain, which ended and began again
 * unseen: the flags that libvirt keeps of the job that runs now have the last word. NULL:
 * nothing speaks against the switch.
 */
static const char *
post_copy_obstacle(const Manager *manager, const Migration *migration)
{
    uint64_t flags;
    const char *reason;

    if (!job_flags_read(manager->job_flags_directory, migration->name, migration->uuid, &flags,
                        NULL))
        return NULL;
    reason = gate_start_post_copy(&flags, hypervisor_qemu_version(manager->hypervisor),
                                  migration->peer_known ? migration->peer.qemu_version : 0);
    return reason != NULL ? reason : gate_post_copy_flags(flags, NULL);
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
    const char *obstacle = post_copy_obstacle(manager, migration);

    if (obstacle != NULL) {
        g_autoptr(GError) error =
            g_error_new(G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, "not requested: %s", obstacle);

        manager_exclude_post_copy(migration, obstacle);
        post_copy_started(error, reference);
        return;
    }
    migration_note(migration, "post-copy-requested", "technique: %s, iteration: %u",
                   technique_to_string(migration->machine.technique), migration->machine.iteration);
    manager_store_post_copy(manager, migration);
    if (migration->has_limits && migration->user_post_copy_bandwidth_mib == 0 &&
        !network_is_shaped(manager->network, SHAPING_EGRESS))
        hypervisor_set_max_speed(manager->hypervisor, migration->uuid, 0, 0,
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

    if (migration == NULL || error == NULL)
        return;
    migration->downtime_limit_ms = 0; /* what stands is libvirt's own */
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

void
manager_remove_offer(Manager *manager, const char *uuid, const char *name)
{
    hypervisor_remove_offer(manager->hypervisor, uuid, offer_removed, g_strdup(name));
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

void
manager_remember(Manager *manager, Migration *migration)
{
    if (migration->recorded)
        return;
    migration->recorded = true;
    manager_learn(manager, migration);
    recorder_add_history(manager->recorder, report_migration(migration));
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
    manager_forget_post_copy(manager, migration);
    if (migration->forecast.valid) {
        g_free(predicted);
        predicted = g_strdup_printf("%.2f s", migration->forecast.prediction.total_seconds);
    }
    /* A call that failed while its post-copy was broken is made up for. */
    if (migration->machine.outcome == MIGRATION_OUTCOME_SUCCEEDED)
        g_clear_pointer(&migration->failure, g_free);
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
        manager_remove_offer(manager, migration->uuid, migration->name);
    manager_answer_turn(manager, migration);
    /* Else what is under way would stay. */
    if (migration->machine.role == MIGRATION_ROLE_SOURCE && !migration->telling_limits)
        manager_lift_speed(manager, migration->uuid);
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

uint64_t
manager_maximum_downtime(const Manager *manager, const Migration *migration)
{
    if (migration->description != NULL && migration->description->metadata.maximum_downtime != 0)
        return migration->description->metadata.maximum_downtime;
    return manager->config->maximum_downtime;
}

/* Without a maximum libvirt's own limit stays as it is. */
static void
manager_begin_downtime(Manager *manager, Migration *migration)
{
    uint64_t first =
        converge_first_downtime(manager_maximum_downtime(manager, migration), migration->priority);

    if (first == 0 || migration->machine.role != MIGRATION_ROLE_SOURCE)
        return;
    migration->downtime_limit_ms = first;
    hypervisor_set_max_downtime(manager->hypervisor, migration->uuid, first, downtime_set,
                                reference_new(manager, migration));
}

static void
manager_carry_out(Manager *manager, Migration *migration, unsigned actions, NetworkShapeDone done,
                  gpointer user_data)
{
    if (actions & MIGRATION_ACTION_SHAPE) {
        migration->running_us = g_get_monotonic_time();
        migration_assign_leaf(manager, migration);
        manager_reshape(manager, migration_direction(migration), done, user_data);
        /* Its own first: those that have just begun share the link with it for as long. */
        manager_forecast(manager, migration);
        for (guint i = 0;
             migration->machine.role == MIGRATION_ROLE_SOURCE && i < manager->migrations->len;
             i++) {
            if (g_ptr_array_index(manager->migrations, i) != migration)
                manager_forecast(manager, g_ptr_array_index(manager->migrations, i));
        }
        manager_measure_memory(manager, migration);
    } else if (done != NULL) {
        done(NULL, user_data);
    }
    if (actions & MIGRATION_ACTION_LIMIT)
        manager_begin_downtime(manager, migration);
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
    manager->prepare_seconds = PREPARE_SECONDS;
    manager->job_flags_directory = JOB_FLAGS_DIRECTORY;
    /* A plugin still knows tickets of the daemon before this one: no number comes twice. */
    manager->next_ticket = (uint64_t)g_get_monotonic_time();
    manager->state_directory = g_strdup(state_directory);
    manager->registry = registry_new();
    manager->speeds = speeds_new(state_directory);
    manager->recorder = recorder_new(config->data_directory);
    manager->migrations = g_ptr_array_new_with_free_func(migration_destroy);
    manager->history = g_ptr_array_new_with_free_func(migration_destroy);
    manager->experience = experience_new();
    manager->network = network_new(config, state_directory, manager_tick, manager, error);
    if (manager->network == NULL)
        return NULL;
    manager->hypervisor = hypervisor_new(config->libvirt_uri, manager_event, manager);
    manager->workers = workers_new(config->libvirt_uri, state_directory);
    /* Last: a disk that hangs must not keep an earlier daemon's shaping on. */
    log_event(CONFIG_LOG_INFO, "experience", "migrations: %u",
              experience_load(manager->experience, config->data_directory));
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
    if (manager->hypervisor != NULL)
        manager_lift_all_speeds(manager);
    g_clear_pointer(&manager->hypervisor, hypervisor_free);
    g_clear_pointer(&manager->workers, workers_free);
    if (manager->gathering_timer != 0)
        g_source_remove(manager->gathering_timer);
    for (guint i = 0; manager->history != NULL && i < manager->history->len; i++)
        manager_remember(manager, g_ptr_array_index(manager->history, i));
    g_clear_pointer(&manager->migrations, g_ptr_array_unref);
    g_clear_pointer(&manager->history, g_ptr_array_unref);
    g_clear_pointer(&manager->registry, registry_free);
    g_clear_pointer(&manager->speeds, speeds_free);
    g_clear_pointer(&manager->experience, experience_free);
    g_clear_pointer(&manager->recorder, recorder_free);
    g_free(manager->state_directory);
    g_free(manager);
}
