/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Records to JSON; see report.h. */
#include "daemon/report.h"

#include "common/version.h"

#include <json-glib/json-glib.h>

static void
add_text(JsonBuilder *builder, const char *name, const char *text)
{
    json_builder_set_member_name(builder, name);
    if (text != NULL)
        json_builder_add_string_value(builder, text);
    else
        json_builder_add_null_value(builder);
}

static void
add_number(JsonBuilder *builder, const char *name, uint64_t number)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_int_value(builder, (gint64)MIN(number, (uint64_t)G_MAXINT64));
}

static void
add_seconds(JsonBuilder *builder, const char *name, double seconds)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_double_value(builder, seconds);
}

static void
add_boolean(JsonBuilder *builder, const char *name, bool value)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_boolean_value(builder, value);
}

/* Unknown is null, never zero. */
static void
add_rates(JsonBuilder *builder, const char *name, TrafficRates rates)
{
    json_builder_set_member_name(builder, name);
    if (!rates.valid) {
        json_builder_add_null_value(builder);
        return;
    }
    json_builder_begin_object(builder);
    add_number(builder, "in", rates.in);
    add_number(builder, "out", rates.out);
    json_builder_end_object(builder);
}

static void
add_time(JsonBuilder *builder, const char *name, gint64 wall_us)
{
    g_autoptr(GDateTime) seconds = g_date_time_new_from_unix_local(wall_us / G_USEC_PER_SEC);
    g_autoptr(GDateTime) time = seconds ? g_date_time_add(seconds, wall_us % G_USEC_PER_SEC) : NULL;
    g_autofree char *text = time ? g_date_time_format(time, "%Y-%m-%dT%H:%M:%S.%f%:z") : NULL;

    add_text(builder, name, text);
}

static void
add_numbers(JsonBuilder *builder, const Migration *migration)
{
    const TechniqueDecision *decision = &migration->decision;
    const JobStatistics *statistics = &migration->statistics;

    json_builder_set_member_name(builder, "numbers");
    json_builder_begin_object(builder);
    if (migration->has_decision) {
        add_number(builder, "available_pre", decision->available_pre);
        add_number(builder, "available_post", decision->available_post);
        for (int i = 0; i < TECHNIQUE_COUNT; i++) {
            g_autofree char *predicted =
                g_strdup_printf("predicted_%s_s", technique_to_string((Technique)i));
            g_autofree char *cost = g_strdup_printf("cost_%s", technique_to_string((Technique)i));

            add_seconds(builder, predicted, decision->prediction[i].total_seconds);
            add_seconds(builder, cost, decision->cost[i]);
        }
    }
    if (migration->forecast.valid) {
        const Prediction *prediction = &migration->forecast.prediction;

        add_seconds(builder, "predicted_total_s", prediction->total_seconds);
        if (prediction->total_seconds_high > 0) {
            add_seconds(builder, "predicted_total_low_s", prediction->total_seconds_low);
            add_seconds(builder, "predicted_total_high_s", prediction->total_seconds_high);
        }
        add_boolean(builder, "predicted_dirty_assumed", prediction->dirty_assumed);
        add_number(builder, "memory_predicted", migration->forecast.memory);
        add_number(builder, "learnt_from", migration->forecast.correction.count);
    }
    if (migration->resident != 0)
        add_number(builder, "memory_resident", migration->resident);
    if (migration->dirty_rate != 0)
        add_number(builder, "dirty_rate", migration->dirty_rate);
    if (migration->has_limits && migration->machine.role == MIGRATION_ROLE_SOURCE) {
        add_number(builder, "limit_pre_copy_mib_s", migration->limits.max_bandwidth);
        add_number(builder, "limit_post_copy_mib_s", migration->limits.post_copy);
    }
    if (migration->share.rate != 0)
        add_number(builder, "guaranteed_rate", migration->share.rate);
    if (migration->downtime_limit_ms != 0)
        add_number(builder, "downtime_limit_ms", migration->downtime_limit_ms);
    if (migration->recovery.tries != 0)
        add_number(builder, "resume_tries", migration->recovery.tries);
    add_number(builder, "iteration", migration->machine.iteration);
    add_number(builder, "parallel_connections", migration->parallel);
    if (statistics->valid) {
        add_number(builder, "memory_total", statistics->memory_total);
        add_number(builder, "memory_processed", statistics->memory_processed);
        add_number(builder, "memory_remaining", statistics->memory_remaining);
        add_number(builder, "memory_constant", statistics->memory_constant);
        add_number(builder, "downtime_ms", statistics->downtime_ms);
        add_number(builder, "post_copy_requests", statistics->post_copy_requests);
    }
    if (migration->ended_us != 0 && migration->running_us != 0)
        add_seconds(builder, "total_s",
                    (double)(migration->ended_us - migration->running_us) / 1e6);
    json_builder_end_object(builder);
}

static void
add_migration(JsonBuilder *builder, const Migration *migration, bool with_log)
{
    json_builder_begin_object(builder);
    add_text(builder, "domain", migration->name);
    add_text(builder, "uuid", migration->uuid);
    add_text(builder, "role", migration_role_to_string(migration->machine.role));
    add_text(builder, "state", migration_state_to_string(migration->machine.state));
    add_text(builder, "outcome", migration_outcome_to_string(migration->machine.outcome));
    add_text(builder, "priority", priority_to_string(migration->priority));
    add_text(builder, "technique", migration_technique_text(migration));
    if (migration->machine.role == MIGRATION_ROLE_SOURCE) {
        add_text(builder, "rule",
                 migration->has_decision ? technique_rule_to_string(migration->decision.rule)
                                         : NULL);
        add_text(builder, "reason", migration->has_decision ? migration->decision.reason : NULL);
    } else {
        add_text(builder, "reason", "the source decides");
    }
    if (migration->schedule_reason != NULL)
        add_text(builder, "turn", migration->schedule_reason);
    if (migration->machine.state == MIGRATION_WAITING && migration->start_expected_us != 0)
        add_seconds(builder, "starts_in_s",
                    (double)MAX(migration->start_expected_us - g_get_monotonic_time(), 0) / 1e6);
    if (migration->share.rate != 0)
        add_text(builder, "share", allocate_reason_to_string(migration->share.reason));
    if (migration->deadline != RESERVE_DEADLINE_NONE)
        add_text(builder, "deadline", reserve_deadline_to_string(migration->deadline));
    if (migration->failure != NULL)
        add_text(builder, "failure", migration->failure);
    add_time(builder, "started", migration->created_wall_us);
    if (migration->ended_us != 0)
        add_time(builder, "ended",
                 migration->created_wall_us + (migration->ended_us - migration->created_us));
    else
        add_text(builder, "ended", NULL);
    add_numbers(builder, migration);
    if (migration->has_lesson) {
        json_builder_set_member_name(builder, "lesson");
        lesson_to_json(&migration->lesson, builder);
    }
    if (with_log) {
        json_builder_set_member_name(builder, "log");
        json_builder_begin_array(builder);
        for (guint i = 0; i < migration->log->len; i++) {
            const MigrationLogEntry *entry = g_ptr_array_index(migration->log, i);

            json_builder_begin_object(builder);
            add_time(builder, "time", entry->wall_us);
            add_text(builder, "event", entry->event);
            add_text(builder, "text", entry->text);
            json_builder_end_object(builder);
        }
        json_builder_end_array(builder);
    }
    json_builder_end_object(builder);
}

static char *
builder_to_text(JsonBuilder *builder)
{
    g_autoptr(JsonGenerator) generator = json_generator_new();
    JsonNode *root = json_builder_get_root(builder);
    char *text;

    json_generator_set_root(generator, root);
    text = json_generator_to_data(generator, NULL);
    json_node_unref(root);
    return text;
}

static void
add_reservation(JsonBuilder *builder, const Reservation *reservation)
{
    json_builder_set_member_name(builder, "classes");
    json_builder_begin_object(builder);
    add_text(builder, "priority", priority_to_string(reservation->priority));
    add_number(builder, "workload_rate", reservation->workload.rate);
    add_number(builder, "workload_ceil", reservation->workload.ceil);
    add_number(builder, "migration_rate", reservation->migration.rate);
    add_number(builder, "migration_ceil", reservation->migration.ceil);
    json_builder_end_object(builder);
}

static void
add_direction(JsonBuilder *builder, const Manager *manager, ShapingDirection direction)
{
    uint64_t rate;

    json_builder_set_member_name(builder, direction == SHAPING_EGRESS ? "egress" : "ingress");
    json_builder_begin_object(builder);
    add_boolean(builder, "shaped", network_is_shaped(manager->network, direction));
    add_text(builder, "problem", network_shaping_problem(manager->network, direction));
    add_number(builder, "last_reshape_us",
               (uint64_t)network_last_reshape_us(manager->network, direction));
    if (network_workload_last(manager->network, direction, &rate))
        add_number(builder, "workload", rate);
    if (network_migrations_last(manager->network, direction, &rate))
        add_number(builder, "migrations", rate);
    if (manager->side[direction].has_reservation)
        add_reservation(builder, &manager->side[direction].reservation);
    json_builder_end_object(builder);
}

static void
add_uplinks(JsonBuilder *builder, const Manager *manager)
{
    const Uplink *uplink = network_uplink(manager->network);

    json_builder_set_member_name(builder, "uplinks");
    json_builder_begin_array(builder);
    if (uplink != NULL) {
        TrafficRates rates = network_host_rates(manager->network);

        json_builder_begin_object(builder);
        add_text(builder, "name", uplink->name);
        add_text(builder, "path", uplink->path);
        add_number(builder, "link_rate", network_link_rate(manager->network));
        if (rates.valid) {
            add_number(builder, "in", rates.in);
            add_number(builder, "out", rates.out);
        }
        add_text(builder, "class", traffic_class_to_string(manager->host_class));
        add_boolean(builder, "shaped",
                    network_is_shaped(manager->network, SHAPING_EGRESS) ||
                        network_is_shaped(manager->network, SHAPING_INGRESS));
        add_text(builder, "reason", network_shaping_problem(manager->network, SHAPING_EGRESS));
        add_direction(builder, manager, SHAPING_EGRESS);
        add_direction(builder, manager, SHAPING_INGRESS);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    if (uplink == NULL)
        add_text(builder, "uplink_problem", network_uplink_problem(manager->network));
}

static void
add_domains(JsonBuilder *builder, const Manager *manager)
{
    g_autoptr(GPtrArray) descriptions = registry_list(manager->registry);

    json_builder_set_member_name(builder, "domains");
    json_builder_begin_array(builder);
    for (guint i = 0; i < descriptions->len; i++) {
        const DomainDescription *description = g_ptr_array_index(descriptions, i);
        TrafficRates rates = network_vm_rates(manager->network, description);

        json_builder_begin_object(builder);
        add_text(builder, "name", description->name);
        add_text(builder, "uuid", description->uuid);
        add_text(builder, "priority",
                 priority_to_string(description->metadata.priority_set
                                        ? description->metadata.priority
                                        : manager->config->default_priority));
        add_number(builder, "sla_lower", description->metadata.sla_lower);
        add_number(builder, "sla_upper", description->metadata.sla_upper);
        add_rates(builder, "traffic", rates);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

char *
report_status(const Manager *manager)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();
    unsigned workers_now;
    unsigned workers_before;

    json_builder_begin_object(builder);
    add_text(builder, "version", CONVOY_VERSION);
    add_boolean(builder, "libvirt_connected", hypervisor_is_connected(manager->hypervisor));
    add_number(builder, "qemu_version", hypervisor_qemu_version(manager->hypervisor));
    if (workers_maximum(manager->workers, &workers_now, &workers_before)) {
        add_number(builder, "workers_maximum", workers_now);
        add_number(builder, "workers_configured", workers_before);
    }
    add_uplinks(builder, manager);
    add_domains(builder, manager);
    json_builder_set_member_name(builder, "migrations");
    json_builder_begin_array(builder);
    for (guint i = 0; i < manager->migrations->len; i++)
        add_migration(builder, g_ptr_array_index(manager->migrations, i), false);
    json_builder_end_array(builder);
    json_builder_set_member_name(builder, "waiting");
    json_builder_begin_array(builder);
    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);

        if (migration->machine.state == MIGRATION_WAITING)
            add_migration(builder, migration, false);
    }
    json_builder_end_array(builder);
    json_builder_end_object(builder);
    return builder_to_text(builder);
}

char *
report_migration(const Migration *migration)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();

    add_migration(builder, migration, true);
    return builder_to_text(builder);
}

static void
add_matching(JsonBuilder *builder, const GPtrArray *migrations, const char *domain)
{
    for (guint i = 0; i < migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(migrations, i);

        if (domain[0] == '\0' || g_strcmp0(migration->name, domain) == 0 ||
            g_strcmp0(migration->uuid, domain) == 0)
            add_migration(builder, migration, true);
    }
}

char *
report_explain(const Manager *manager, const char *domain)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();

    json_builder_begin_object(builder);
    json_builder_set_member_name(builder, "migrations");
    json_builder_begin_array(builder);
    add_matching(builder, manager->history, domain);
    add_matching(builder, manager->migrations, domain);
    json_builder_end_array(builder);
    json_builder_end_object(builder);
    return builder_to_text(builder);
}
