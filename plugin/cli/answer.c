/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* JSON that is not trusted; see answer.h. */
#include "cli/answer.h"

#include <gio/gio.h>

#define TEXT_MAXIMUM 2000u /* characters shown of one value */

JsonParser *
answer_read(const char *json, JsonObject **ret_root, GError **error)
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
answer_text(JsonObject *object, const char *name)
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

bool
answer_number(JsonObject *object, const char *name, double *ret_number)
{
    JsonNode *node = json_object_get_member(object, name);

    if (node == NULL || !JSON_NODE_HOLDS_VALUE(node) ||
        (json_node_get_value_type(node) != G_TYPE_INT64 &&
         json_node_get_value_type(node) != G_TYPE_DOUBLE))
        return false;
    *ret_number = json_node_get_double(node);
    return true;
}

JsonArray *
answer_array(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    return node != NULL && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
}

JsonObject *
answer_object(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    return node != NULL && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

unsigned
answer_length(JsonArray *array)
{
    return array != NULL ? json_array_get_length(array) : 0;
}

JsonObject *
answer_element(JsonArray *array, unsigned index)
{
    JsonNode *node = json_array_get_element(array, index);

    return JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

uint64_t
answer_clamp(double number)
{
    return number >= 1.8e19 ? UINT64_MAX : number > 0 ? (uint64_t)number : 0;
}
