/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* JSON to text. Knows units by the names of keys; decides nothing. */
#include "cli/render.h"

#include <string.h>

#include "cli/answer.h"
#include "common/units.h"

/* "unknown" for what is not stated: it is not zero. */
static char *
member_rate(JsonObject *object, const char *name)
{
    double number;

    if (object == NULL || !answer_number(object, name, &number))
        return g_strdup("unknown");
    return units_describe_rate(answer_clamp(number));
}

static char *
number_describe(const char *name, double number)
{
    if (g_str_has_suffix(name, "_mib_s"))
        return g_strdup_printf("%.0f MiB/s", number);
    if (g_str_has_suffix(name, "_ms"))
        return g_strdup_printf("%.0f ms", number);
    if (g_str_has_suffix(name, "_us"))
        return g_strdup_printf("%.3f ms", number / 1000);
    if (g_str_has_suffix(name, "_s"))
        return g_strdup_printf("%.1f s", number);
    if (g_str_has_suffix(name, "_rate") || g_str_has_suffix(name, "_ceil") ||
        g_str_has_prefix(name, "available_"))
        return units_describe_rate(answer_clamp(number));
    if (g_str_has_prefix(name, "memory_"))
        return units_describe_size(answer_clamp(number));
    if (number > -1e15 && number < 1e15 && number == (double)(gint64)number)
        return g_strdup_printf("%" G_GINT64_FORMAT, (gint64)number);
    return g_strdup_printf("%.3g", number);
}

static void
append_numbers(GString *out, JsonObject *numbers)
{
    g_autoptr(GList) names = numbers != NULL ? json_object_get_members(numbers) : NULL;

    for (GList *item = names; item != NULL; item = item->next) {
        const char *name = item->data;
        g_autofree char *shown = g_strdelimit(g_strndup(name, 40), "_\n\r\t\x1b", ' ');
        g_autofree char *value = NULL;
        double number;

        if (!answer_number(numbers, name, &number))
            continue;
        value = number_describe(name, number);
        if (g_str_has_suffix(name, "_s"))
            shown[strlen(shown) - 2] = '\0';
        g_string_append_printf(out, "    %-26s %s\n", shown, value);
    }
}

/* label and text on a line of their own, when there is a text. */
static void
append_line(GString *out, const char *label, JsonObject *object, const char *name)
{
    g_autofree char *text = answer_text(object, name);

    if (text != NULL && *text != '\0')
        g_string_append_printf(out, "  %-10s %s\n", label, text);
}

static void
append_migration(GString *out, JsonObject *migration)
{
    g_autofree char *domain = answer_text(migration, "domain");
    g_autofree char *role = answer_text(migration, "role");
    g_autofree char *state = answer_text(migration, "state");
    g_autofree char *outcome = answer_text(migration, "outcome");
    double starts_in;

    g_string_append_printf(out, "%s: %s, %s", domain != NULL ? domain : "?",
                           role != NULL ? role : "?", state != NULL ? state : "?");
    if (outcome != NULL && *outcome != '\0')
        g_string_append_printf(out, ", %s", outcome);
    g_string_append_c(out, '\n');
    append_line(out, "priority", migration, "priority");
    append_line(out, "technique", migration, "technique");
    append_line(out, "rule", migration, "rule");
    append_line(out, "because", migration, "reason");
    append_line(out, "turn", migration, "turn");
    if (answer_number(migration, "starts_in_s", &starts_in))
        g_string_append_printf(out, "  %-10s in about %.0f s\n", "starts", starts_in);
    append_line(out, "share", migration, "share");
    append_line(out, "deadline", migration, "deadline");
    append_line(out, "failure", migration, "failure");
    append_line(out, "started", migration, "started");
    append_line(out, "ended", migration, "ended");
}

static void
append_log(GString *out, JsonArray *log)
{
    if (answer_length(log) > 0)
        g_string_append(out, "  what happened:\n");
    for (unsigned i = 0; i < answer_length(log); i++) {
        JsonObject *entry = answer_element(log, i);
        g_autofree char *when = entry != NULL ? answer_text(entry, "time") : NULL;
        g_autofree char *event = entry != NULL ? answer_text(entry, "event") : NULL;
        g_autofree char *text = entry != NULL ? answer_text(entry, "text") : NULL;

        g_string_append_printf(out, "    %s  %s%s%s\n", when != NULL ? when : "",
                               event != NULL ? event : "", text != NULL ? ": " : "",
                               text != NULL ? text : "");
    }
}

char *
render_explanation(const char *json, GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    JsonObject *root = NULL;
    g_autoptr(JsonParser) parser = answer_read(json, &root, error);
    JsonArray *migrations;

    if (parser == NULL)
        return NULL;
    migrations = answer_array(root, "migrations");
    for (unsigned i = 0; i < answer_length(migrations); i++) {
        JsonObject *migration = answer_element(migrations, i);
        JsonObject *numbers;

        if (migration == NULL)
            continue;
        if (out->len > 0)
            g_string_append_c(out, '\n');
        append_migration(out, migration);
        numbers = answer_object(migration, "numbers");
        if (numbers != NULL && json_object_get_size(numbers) > 0)
            g_string_append(out, "  numbers:\n");
        append_numbers(out, numbers);
        append_log(out, answer_array(migration, "log"));
    }
    if (out->len == 0)
        g_string_append(out, "No migration is remembered.\n");
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static void
append_classes(GString *out, JsonObject *uplink, const char *direction)
{
    JsonObject *side = answer_object(uplink, direction);
    JsonObject *classes = side != NULL ? answer_object(side, "classes") : NULL;
    g_autofree char *workload = member_rate(classes, "workload_rate");
    g_autofree char *workload_ceil = member_rate(classes, "workload_ceil");
    g_autofree char *migration = member_rate(classes, "migration_rate");
    g_autofree char *migration_ceil = member_rate(classes, "migration_ceil");

    if (classes != NULL && json_object_has_member(side, "shaped") &&
        json_object_get_boolean_member_with_default(side, "shaped", FALSE))
        g_string_append_printf(out, "  %s: workload %s (up to %s), migrations %s (up to %s)\n",
                               direction, workload, workload_ceil, migration, migration_ceil);
    if (side != NULL)
        append_line(out, direction, side, "problem");
}

static void
append_uplink(GString *out, JsonObject *uplink)
{
    g_autofree char *name = answer_text(uplink, "name");
    g_autofree char *link = member_rate(uplink, "link_rate");
    g_autofree char *in = member_rate(uplink, "in");
    g_autofree char *outgoing = member_rate(uplink, "out");
    g_autofree char *class = answer_text(uplink, "class");
    g_autofree char *reason = answer_text(uplink, "reason");
    const gboolean shaped = json_object_get_boolean_member_with_default(uplink, "shaped", FALSE);

    g_string_append_printf(out, "uplink %s: %s, in %s, out %s, %s, %s\n", name != NULL ? name : "?",
                           link, in, outgoing, class != NULL ? class : "unknown",
                           shaped ? "shaped" : "not shaped");
    if (reason != NULL && *reason != '\0')
        g_string_append_printf(out, "  %s\n", reason);
    append_classes(out, uplink, "egress");
    append_classes(out, uplink, "ingress");
}

static void
append_domain(GString *out, JsonObject *domain)
{
    g_autofree char *name = answer_text(domain, "name");
    g_autofree char *priority = answer_text(domain, "priority");
    JsonObject *traffic = answer_object(domain, "traffic");
    g_autofree char *in = member_rate(traffic, "in");
    g_autofree char *outgoing = member_rate(traffic, "out");
    double lower = 0;
    double upper = 0;

    g_string_append_printf(out, "domain %s: priority %s, in %s, out %s", name != NULL ? name : "?",
                           priority != NULL ? priority : "?", in, outgoing);
    if (answer_number(domain, "sla_lower", &lower) && lower > 0) {
        g_autofree char *text = units_describe_rate(answer_clamp(lower));
        g_string_append_printf(out, ", at least %s", text);
    }
    if (answer_number(domain, "sla_upper", &upper) && upper > 0) {
        g_autofree char *text = units_describe_rate(answer_clamp(upper));
        g_string_append_printf(out, ", at most %s", text);
    }
    g_string_append_c(out, '\n');
}

static void
append_each(GString *out, JsonArray *array, void (*append)(GString *, JsonObject *))
{
    for (unsigned i = 0; i < answer_length(array); i++) {
        JsonObject *object = answer_element(array, i);

        if (object != NULL)
            append(out, object);
    }
}

char *
render_status(const char *json, GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    JsonObject *root = NULL;
    g_autoptr(JsonParser) parser = answer_read(json, &root, error);
    g_autofree char *version = NULL;
    g_autofree char *problem = NULL;

    if (parser == NULL)
        return NULL;
    version = answer_text(root, "version");
    problem = answer_text(root, "uplink_problem");
    g_string_append_printf(
        out, "virt-convoyd %s%s\n", version != NULL ? version : "?",
        json_object_get_boolean_member_with_default(root, "libvirt_connected", TRUE)
            ? ""
            : ", not connected to libvirt");
    if (problem != NULL)
        g_string_append_printf(out, "uplink: %s\n", problem);
    append_each(out, answer_array(root, "uplinks"), append_uplink);
    append_each(out, answer_array(root, "domains"), append_domain);
    g_string_append_printf(out, "%u migrations, %u waiting\n",
                           answer_length(answer_array(root, "migrations")),
                           answer_length(answer_array(root, "waiting")));
    append_each(out, answer_array(root, "migrations"), append_migration);
    return g_string_free(g_steal_pointer(&out), FALSE);
}
