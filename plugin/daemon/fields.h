/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Plain structs as JSON objects, by one table of their fields, which writes,
 * reads and compares. No format of its own: what the tables say is in
 * recording.c.
 *
 * In JSON: an array in place or a list is an array; a name is a string; an
 * integer above 2^63 - 1, and a double that is not finite ("nan", "inf",
 * "-inf") or a bare power of ten ("1e+17"), is a string, because JSON or
 * json-glib cannot hold it as a number.
 */
#pragma once

#include <gio/gio.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    FIELD_BOOL = 0,
    FIELD_UNSIGNED, /* of size bytes: 4 or 8 */
    FIELD_SIGNED,   /* likewise */
    FIELD_DOUBLE,
    FIELD_NAME,         /* an enum of 4 bytes, from 0, written as names[] */
    FIELD_TEXT,         /* char[] in place, NUL-terminated */
    FIELD_TEXT_POINTER, /* const char *, may be NULL */
    FIELD_STRUCT,
    FIELD_STRUCT_POINTER, /* pointer to one, may be NULL */
} FieldKind;

/* How a difference between two values is to be taken. */
typedef enum {
    FIELD_EXACT = 0,
    FIELD_PREDICTED, /* a number may differ by the tolerance */
    FIELD_PROSE,     /* made from other fields, for people */
} FieldUse;

typedef struct Field Field;

/* Ends with a field whose name is NULL. */
struct Field {
    const char *name;
    FieldKind kind;
    FieldUse use;
    size_t offset;
    size_t size;  /* of one element */
    size_t count; /* 0: one value. Else an array in place of so many, or a list of at most */
    /*
     * count_size 0: all elements count. Else the number in use is in the
     * unsigned member of count_size bytes at count_offset.
     */
    size_t count_offset;
    size_t count_size;
    bool list;        /* a pointer to the elements, not an array in place */
    bool finite;      /* FIELD_DOUBLE: neither infinite nor NaN */
    bool optional;    /* may be missing when read and is zero then: for fields added later */
    uint64_t max;     /* FIELD_UNSIGNED: largest value; 0: what the size can hold */
    double low, high; /* FIELD_DOUBLE: when low < high */
    const char *const *names; /* FIELD_NAME, ended by NULL */
    const Field *fields;      /* FIELD_STRUCT and FIELD_STRUCT_POINTER */
};

#define FIELD_AT(type, member, ...)                                                                \
    .name = #member, .offset = offsetof(type, member), .size = sizeof(((type *)0)->member),        \
    __VA_ARGS__
#define FIELD_ARRAY(type, member, ...)                                                             \
    .name = #member, .offset = offsetof(type, member), .size = sizeof(((type *)0)->member[0]),     \
    .count = sizeof(((type *)0)->member) / sizeof(((type *)0)->member[0]), __VA_ARGS__
#define FIELD_LIST(type, member, maximum, ...)                                                     \
    .name = #member, .offset = offsetof(type, member), .size = sizeof(*((type *)0)->member),       \
    .count = maximum, .list = true, __VA_ARGS__
/* A pointer to one struct. */
#define FIELD_TO(type, member, ...)                                                                \
    .name = #member, .offset = offsetof(type, member), .size = sizeof(*((type *)0)->member),       \
    .kind = FIELD_STRUCT_POINTER, __VA_ARGS__
#define FIELD_COUNTED_BY(type, member)                                                             \
    .count_offset = offsetof(type, member), .count_size = sizeof(((type *)0)->member)

/* The struct at base as an object. */
JsonNode *fields_write(const Field *fields, const void *base);

/*
 * Fills the struct at base, which is zero, from node. path is the name of the
 * whole in errors and notes. What pointers point to is added to memory, which
 * frees it with g_free. False with an error that names the field; base is then
 * half filled. notes (char *, g_free) gets a line per unknown field; may be NULL.
 */
bool fields_read(const Field *fields, JsonNode *node, void *base, const char *path,
                 GPtrArray *memory, GPtrArray *notes, GError **error);

/* value_a and value_b are texts that live only during the call. */
typedef void (*FieldsDiffer)(const Field *field, const char *path, const char *value_a,
                             const char *value_b, double relative, gpointer data);

/*
 * Calls differ for each leaf that is not the same in both structs. relative is
 * |a - b| / max(|a|, |b|) of numbers, 1 of everything else.
 */
void fields_compare(const Field *fields, const void *a, const void *b, const char *path,
                    FieldsDiffer differ, gpointer data);

/*
 * The first byte of the struct (size bytes) from which on 8 or more in a row
 * belong to no field; SIZE_MAX: none. So a test sees that a table forgot one.
 */
size_t fields_gap(const Field *fields, size_t size);
