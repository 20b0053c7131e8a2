/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* JSON to text. Knows units by the names of keys; decides nothing. */
#include "cli/render.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "common/units.h"

#define TEXT_MAXIMUM 2000u /* characters shown of one value */

/* A string member without control characters; NULL when there is none. */
static char *
member_text(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);
    g_autoptr(GString) out = NULL;
    const char *text;

    if (node == NULL || !JSON_NODE_HOLDS_VALUE(node) ||
        json_node_get_value_type(node) != G_TYPE_STRING)
        return NULL;
    text = json_node_get_string(node);
    if (!g_utf8_validate(text, -1, NULL))
        return NULL;
    out = g_string_new(NULL);
    for (unsigned i = 0; *text != '\0' && i < TEXT_MAXIMUM; text = g_utf8_next_char(text), i++) {
        const gunichar character = g_utf8_get_char(text);

        g_string_append_unichar(out, g_unichar_iscntrl(character) ? '?' : character);
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static JsonArray *
member_array(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    return node != NULL && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
}

static JsonObject *
member_object(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    return node != NULL && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

static JsonObject *
element_object(JsonArray *array, unsigned index)
{
    JsonNode *node = json_array_get_element(array, index);

    return JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

static unsigned
array_length(JsonArray *array)
{
    return array != NULL ? json_array_get_length(array) : 0;
}

static bool
member_number(JsonObject *object, const char *name, double *ret_number)
{
    JsonNode *node = json_object_get_member(object, name);

    if (node == NULL || !JSON_NODE_HOLDS_VALUE(node) ||
        (json_node_get_value_type(node) != G_TYPE_INT64 &&
         json_node_get_value_type(node) != G_TYPE_DOUBLE))
        return false;
    *ret_number = json_node_get_double(node);
    return true;
}

static uint64_t
number_clamp(double number)
{
    return number >= 1.8e19 ? UINT64_MAX : number > 0 ? (uint64_t)number : 0;
}

/* "unknown" for what is not stated: it is not zero. */
static char *
member_rate(JsonObject *object, const char *name)
{
    double number;

    if (object == NULL || !member_number(object, name, &number))
        return g_strdup("unknown");
    return units_describe_rate(number_clamp(number));
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
        return units_describe_rate(number_clamp(number));
    if (g_str_has_prefix(name, "memory_"))
        return units_describe_size(number_clamp(number));
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

        if (!member_number(numbers, name, &number))
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
    g_autofree char *text = member_text(object, name);

    if (text != NULL && *text != '\0')
        g_string_append_printf(out, "  %-10s %s\n", label, text);
}

static void
append_migration(GString *out, JsonObject *migration)
{
    g_autofree char *domain = member_text(migration, "domain");
    g_autofree char *role = member_text(migration, "role");
    g_autofree char *state = member_text(migration, "state");
    g_autofree char *outcome = member_text(migration, "outcome");
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
    if (member_number(migration, "starts_in_s", &starts_in))
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
    if (array_length(log) > 0)
        g_string_append(out, "  what happened:\n");
    for (unsigned i = 0; i < array_length(log); i++) {
        JsonObject *entry = element_object(log, i);
        g_autofree char *when = entry != NULL ? member_text(entry, "time") : NULL;
        g_autofree char *event = entry != NULL ? member_text(entry, "event") : NULL;
        g_autofree char *text = entry != NULL ? member_text(entry, "text") : NULL;

        g_string_append_printf(out, "    %s  %s%s%s\n", when != NULL ? when : "",
                               event != NULL ? event : "", text != NULL ? ": " : "",
                               text != NULL ? text : "");
    }
}

static JsonParser *
json_read(const char *json, JsonObject **ret_root, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonNode *root;

    if (!json_parser_load_from_data(parser, json, -1, error))
        return NULL;
    root = json_parser_get_root(parser);
    if (root == NULL || !JSON_NODE_HOLDS_OBJECT(root)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "the daemon's answer is not a JSON object");
        return NULL;
    }
    *ret_root = json_node_get_object(root);
    return g_steal_pointer(&parser);
}

char *
render_explanation(const char *json, GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    JsonObject *root = NULL;
    g_autoptr(JsonParser) parser = json_read(json, &root, error);
    JsonArray *migrations;

    if (parser == NULL)
        return NULL;
    migrations = member_array(root, "migrations");
    for (unsigned i = 0; i < array_length(migrations); i++) {
        JsonObject *migration = element_object(migrations, i);
        JsonObject *numbers;

        if (migration == NULL)
            continue;
        if (out->len > 0)
            g_string_append_c(out, '\n');
        append_migration(out, migration);
        numbers = member_object(migration, "numbers");
        if (numbers != NULL && json_object_get_size(numbers) > 0)
            g_string_append(out, "  numbers:\n");
        append_numbers(out, numbers);
        append_log(out, member_array(migration, "log"));
    }
    if (out->len == 0)
        g_string_append(out, "No migration is remembered.\n");
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static void
append_classes(GString *out, JsonObject *uplink, const char *direction)
{
    JsonObject *side = member_object(uplink, direction);
    JsonObject *classes = side != NULL ? member_object(side, "classes") : NULL;
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
    g_autofree char *name = member_text(uplink, "name");
    g_autofree char *link = member_rate(uplink, "link_rate");
    g_autofree char *in = member_rate(uplink, "in");
    g_autofree char *outgoing = member_rate(uplink, "out");
    g_autofree char *class = member_text(uplink, "class");
    g_autofree char *reason = member_text(uplink, "reason");
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
    g_autofree char *name = member_text(domain, "name");
    g_autofree char *priority = member_text(domain, "priority");
    JsonObject *traffic = member_object(domain, "traffic");
    g_autofree char *in = member_rate(traffic, "in");
    g_autofree char *outgoing = member_rate(traffic, "out");
    double lower = 0;
    double upper = 0;

    g_string_append_printf(out, "domain %s: priority %s, in %s, out %s", name != NULL ? name : "?",
                           priority != NULL ? priority : "?", in, outgoing);
    if (member_number(domain, "sla_lower", &lower) && lower > 0) {
        g_autofree char *text = units_describe_rate(number_clamp(lower));
        g_string_append_printf(out, ", at least %s", text);
    }
    if (member_number(domain, "sla_upper", &upper) && upper > 0) {
        g_autofree char *text = units_describe_rate(number_clamp(upper));
        g_string_append_printf(out, ", at most %s", text);
    }
    g_string_append_c(out, '\n');
}

static void
append_each(GString *out, JsonArray *array, void (*append)(GString *, JsonObject *))
{
    for (unsigned i = 0; i < array_length(array); i++) {
        JsonObject *object = element_object(array, i);

        if (object != NULL)
            append(out, object);
    }
}

char *
render_status(const char *json, GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    JsonObject *root = NULL;
    g_autoptr(JsonParser) parser = json_read(json, &root, error);
    g_autofree char *version = NULL;
    g_autofree char *problem = NULL;

    if (parser == NULL)
        return NULL;
    version = member_text(root, "version");
    problem = member_text(root, "uplink_problem");
    g_string_append_printf(
        out, "virt-convoyd %s%s\n", version != NULL ? version : "?",
        json_object_get_boolean_member_with_default(root, "libvirt_connected", TRUE)
            ? ""
            : ", not connected to libvirt");
    if (problem != NULL)
        g_string_append_printf(out, "uplink: %s\n", problem);
    append_each(out, member_array(root, "uplinks"), append_uplink);
    append_each(out, member_array(root, "domains"), append_domain);
    g_string_append_printf(out, "%u migrations, %u waiting\n",
                           array_length(member_array(root, "migrations")),
                           array_length(member_array(root, "waiting")));
    append_each(out, member_array(root, "migrations"), append_migration);
    return g_string_free(g_steal_pointer(&out), FALSE);
}
