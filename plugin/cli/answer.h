/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon's JSON, read without trust: it may be of another version, and what is
 * shown of it must not steer a terminal. Members that are missing or of another
 * type count as absent.
 */
#pragma once

#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

/* ret_root belongs to the parser; an error when json is no JSON object. g_object_unref. */
JsonParser *answer_read(const char *json, JsonObject **ret_root, GError **error);

/* A string without control characters, of limited length; NULL when there is none. g_free. */
char *answer_text(JsonObject *object, const char *name);
bool answer_number(JsonObject *object, const char *name, double *ret_number);
/* Belong to object; NULL when there is none. */
JsonArray *answer_array(JsonObject *object, const char *name);
JsonObject *answer_object(JsonObject *object, const char *name);

/* array may be NULL: it has no elements. */
unsigned answer_length(JsonArray *array);
/* NULL when that element is no object. */
JsonObject *answer_element(JsonArray *array, unsigned index);

/* For a size or a rate: never negative, never above what uint64_t holds. */
uint64_t answer_clamp(double number);
