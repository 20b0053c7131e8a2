/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Structs by tables of their fields; see fields.h. */
#include "daemon/fields.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define GAP_BYTES 8u
/* A double as text, exact. */
#define DOUBLE_TEXT G_ASCII_DTOSTR_BUF_SIZE

/* ---- values in memory ---------------------------------------------------- */

static uint64_t
unsigned_load(const void *at, size_t size)
{
    uint64_t wide;
    uint32_t narrow;

    if (size == sizeof(wide)) {
        memcpy(&wide, at, sizeof(wide));
        return wide;
    }
    g_assert(size == sizeof(narrow));
    memcpy(&narrow, at, sizeof(narrow));
    return narrow;
}

static void
unsigned_store(void *at, size_t size, uint64_t value)
{
    uint32_t narrow = (uint32_t)value;

    if (size == sizeof(value))
        memcpy(at, &value, sizeof(value));
    else
        memcpy(at, &narrow, sizeof(narrow));
}

static gint64
signed_load(const void *at, size_t size)
{
    uint64_t value = unsigned_load(at, size);

    return size == sizeof(gint32) ? (gint32)value : (gint64)value;
}

/* False: it is too large for so many bytes. */
static bool
signed_store(void *at, size_t size, gint64 value)
{
    if (size == sizeof(gint32) && (gint32)value != value)
        return false;
    unsigned_store(at, size, (uint64_t)value);
    return true;
}

static double
double_load(const void *at)
{
    double value;

    memcpy(&value, at, sizeof(value));
    return value;
}

static size_t
names_count(const Field *field)
{
    size_t count = 0;

    while (field->names[count] != NULL)
        count++;
    return count;
}

static const char *
double_to_text(double value, char *buffer)
{
    if (isnan(value))
        return "nan";
    if (isinf(value))
        return value < 0.0 ? "-inf" : "inf";
    return g_ascii_dtostr(buffer, DOUBLE_TEXT, value);
}

/* Elements of an array or list in use, never more than there is room for. */
static size_t
elements_used(const Field *field, const void *base)
{
    if (field->count == 0)
        return 1;
    if (field->count_size == 0)
        return field->count;
    return (size_t)MIN(unsigned_load((const char *)base + field->count_offset, field->count_size),
                       field->count);
}

static const char *
elements_begin(const Field *field, const void *base)
{
    const char *at = (const char *)base + field->offset;
    const char *pointed;

    if (!field->list)
        return at;
    memcpy(&pointed, at, sizeof(pointed));
    return pointed;
}

/* ---- writing ------------------------------------------------------------- */

static JsonNode *
text_write(const char *text, gssize length)
{
    g_autofree char *valid = g_utf8_make_valid(text, length);

    return json_node_init_string(json_node_alloc(), valid);
}

static JsonNode *
unsigned_write(uint64_t value)
{
    g_autofree char *text = NULL;

    if (value <= INT64_MAX)
        return json_node_init_int(json_node_alloc(), (gint64)value);
    text = g_strdup_printf("%" PRIu64, value);
    return json_node_init_string(json_node_alloc(), text);
}

/* json-glib 1.6 writes 1e+17 as "1e+17.0", which it cannot read itself: a string then. */
static JsonNode *
double_write(double value)
{
    char buffer[DOUBLE_TEXT];
    const char *text = double_to_text(value, buffer);

    if (!isfinite(value) || (strchr(text, 'e') != NULL && strchr(text, '.') == NULL))
        return json_node_init_string(json_node_alloc(), text);
    return json_node_init_double(json_node_alloc(), value);
}

static JsonNode *
element_write(const Field *field, const char *at)
{
    uint64_t number;
    const char *pointed;
    bool truth;

    switch (field->kind) {
    case FIELD_BOOL:
        memcpy(&truth, at, sizeof(truth));
        return json_node_init_boolean(json_node_alloc(), truth);
    case FIELD_UNSIGNED:
        return unsigned_write(unsigned_load(at, field->size));
    case FIELD_SIGNED:
        return json_node_init_int(json_node_alloc(), signed_load(at, field->size));
    case FIELD_DOUBLE:
        return double_write(double_load(at));
    case FIELD_NAME:
        number = unsigned_load(at, field->size);
        return number < names_count(field)
                   ? json_node_init_string(json_node_alloc(), field->names[number])
                   : unsigned_write(number);
    case FIELD_TEXT:
        return text_write(at, (gssize)strnlen(at, field->size));
    case FIELD_TEXT_POINTER:
        memcpy(&pointed, at, sizeof(pointed));
        return pointed != NULL ? text_write(pointed, -1) : json_node_init_null(json_node_alloc());
    case FIELD_STRUCT:
        return fields_write(field->fields, at);
    case FIELD_STRUCT_POINTER:
        memcpy(&pointed, at, sizeof(pointed));
        return pointed != NULL ? fields_write(field->fields, pointed)
                               : json_node_init_null(json_node_alloc());
    }
    g_assert_not_reached();
}

JsonNode *
fields_write(const Field *fields, const void *base)
{
    JsonObject *object = json_object_new();
    JsonNode *node = json_node_alloc();

    for (const Field *field = fields; field->name != NULL; field++) {
        const char *at = elements_begin(field, base);
        JsonArray *array;

        if (field->count == 0) {
            json_object_set_member(object, field->name, element_write(field, at));
            continue;
        }
        array = json_array_new();
        for (size_t i = 0; i < elements_used(field, base); i++)
            json_array_add_element(array, element_write(field, at + i * field->size));
        json_object_set_array_member(object, field->name, array);
    }
    json_node_init_object(node, object);
    json_object_unref(object);
    return node;
}

/* ---- reading ------------------------------------------------------------- */

typedef struct {
    const char *path; /* of the value that is read */
    GPtrArray *memory;
    GPtrArray *notes;
    GError **error;
} Reading;

static bool G_GNUC_PRINTF(2, 3) reading_fail(const Reading *reading, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list arguments;

    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    g_set_error(reading->error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "%s %s", reading->path, text);
    return false;
}

static bool
node_is(JsonNode *node, GType type)
{
    return JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == type;
}

static bool
node_is_number(JsonNode *node)
{
    return node_is(node, G_TYPE_DOUBLE) || node_is(node, G_TYPE_INT64);
}

static bool
unsigned_read(const Reading *reading, const Field *field, JsonNode *node, uint64_t *ret_value)
{
    uint64_t limit = field->size == sizeof(uint64_t) ? UINT64_MAX : UINT32_MAX;
    uint64_t max = field->max != 0 ? field->max : limit;
    guint64 value;

    if (node_is(node, G_TYPE_INT64) && json_node_get_int(node) >= 0)
        value = (uint64_t)json_node_get_int(node);
    else if (!node_is(node, G_TYPE_STRING) ||
             !g_ascii_string_to_unsigned(json_node_get_string(node), 10, 0, UINT64_MAX, &value,
                                         NULL))
        return reading_fail(reading, "is not a whole number of 0 or more");
    if (value > max)
        return reading_fail(reading, "is %" G_GUINT64_FORMAT ", not within 0..%" PRIu64, value,
                            max);
    *ret_value = value;
    return true;
}

static bool
double_read(const Reading *reading, const Field *field, JsonNode *node, double *ret_value)
{
    char buffer[DOUBLE_TEXT];
    const char *text = node_is(node, G_TYPE_STRING) ? json_node_get_string(node) : NULL;
    char *end = NULL;
    double value = 0.0;

    if (node_is_number(node))
        value = json_node_get_double(node);
    else if (text != NULL && *text != '\0' && !g_ascii_isspace(*text))
        value = g_ascii_strtod(text, &end); /* "nan" and "inf" too */
    if (text != NULL ? end == NULL || *end != '\0' : !node_is_number(node))
        return reading_fail(reading, "is not a number");
    if (field->finite && !isfinite(value))
        return reading_fail(reading, "is not finite");
    if (field->low < field->high && !(value >= field->low && value <= field->high))
        return reading_fail(reading, "is %s, not within %g..%g", double_to_text(value, buffer),
                            field->low, field->high);
    *ret_value = value;
    return true;
}

static bool
name_read(const Reading *reading, const Field *field, JsonNode *node, uint32_t *ret_value)
{
    const char *text = node_is(node, G_TYPE_STRING) ? json_node_get_string(node) : NULL;

    for (uint32_t i = 0; text != NULL && field->names[i] != NULL; i++) {
        if (strcmp(text, field->names[i]) == 0) {
            *ret_value = i;
            return true;
        }
    }
    return reading_fail(reading, "is none of the names that are known");
}

static bool
text_read(const Reading *reading, const Field *field, JsonNode *node, char *at)
{
    const char *text = node_is(node, G_TYPE_STRING) ? json_node_get_string(node) : NULL;

    if (text == NULL)
        return reading_fail(reading, "is not a text");
    if (field->kind == FIELD_TEXT_POINTER) {
        char *copy = g_strdup(text);

        g_ptr_array_add(reading->memory, copy);
        memcpy(at, &copy, sizeof(copy));
        return true;
    }
    if (strlen(text) >= field->size)
        return reading_fail(reading, "is longer than %zu bytes", field->size - 1);
    g_strlcpy(at, text, field->size);
    return true;
}

static bool
element_read(const Reading *reading, const Field *field, JsonNode *node, char *at)
{
    uint64_t number = 0;
    double value = 0.0;
    uint32_t name = 0;
    bool truth;
    bool pointer = field->kind == FIELD_TEXT_POINTER || field->kind == FIELD_STRUCT_POINTER;

    if (pointer && JSON_NODE_HOLDS_NULL(node))
        return true;
    switch (field->kind) {
    case FIELD_BOOL:
        if (!node_is(node, G_TYPE_BOOLEAN))
            return reading_fail(reading, "is neither true nor false");
        truth = json_node_get_boolean(node);
        memcpy(at, &truth, sizeof(truth));
        return true;
    case FIELD_UNSIGNED:
        if (!unsigned_read(reading, field, node, &number))
            return false;
        unsigned_store(at, field->size, number);
        return true;
    case FIELD_SIGNED:
        if (!node_is(node, G_TYPE_INT64) || !signed_store(at, field->size, json_node_get_int(node)))
            return reading_fail(reading, "is not a whole number that fits");
        return true;
    case FIELD_DOUBLE:
        if (!double_read(reading, field, node, &value))
            return false;
        memcpy(at, &value, sizeof(value));
        return true;
    case FIELD_NAME:
        if (!name_read(reading, field, node, &name))
            return false;
        memcpy(at, &name, sizeof(name));
        return true;
    case FIELD_TEXT:
    case FIELD_TEXT_POINTER:
        return text_read(reading, field, node, at);
    case FIELD_STRUCT:
        return fields_read(field->fields, node, at, reading->path, reading->memory, reading->notes,
                           reading->error);
    case FIELD_STRUCT_POINTER: {
        char *copy = g_malloc0(field->size);

        g_ptr_array_add(reading->memory, copy);
        memcpy(at, &copy, sizeof(copy));
        return fields_read(field->fields, node, copy, reading->path, reading->memory,
                           reading->notes, reading->error);
    }
    }
    g_assert_not_reached();
}

static bool
array_read(const Reading *reading, const Field *field, JsonNode *node, char *base)
{
    JsonArray *array = JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
    char *at = base + field->offset;
    guint length;

    if (array == NULL)
        return reading_fail(reading, "is not an array");
    length = json_array_get_length(array);
    if (length > field->count || (field->count_size == 0 && length != field->count))
        return reading_fail(reading, "has %u elements, not %s%zu", length,
                            field->count_size != 0 ? "at most " : "", field->count);
    if (field->list) {
        char *elements = g_malloc0_n(MAX(length, 1), field->size);

        g_ptr_array_add(reading->memory, elements);
        memcpy(at, &elements, sizeof(elements));
        at = elements;
    }
    if (field->count_size != 0)
        unsigned_store(base + field->count_offset, field->count_size, length);
    for (guint i = 0; i < length; i++) {
        g_autofree char *path = g_strdup_printf("%s[%u]", reading->path, i);
        Reading element = *reading;

        element.path = path;
        if (!element_read(&element, field, json_array_get_element(array, i), at + i * field->size))
            return false;
    }
    return true;
}

static bool
field_is_known(const Field *fields, const char *name)
{
    for (const Field *field = fields; field->name != NULL; field++) {
        if (strcmp(field->name, name) == 0)
            return true;
    }
    return false;
}

static void
unknown_note(const Field *fields, JsonObject *object, const char *path, GPtrArray *notes)
{
    JsonObjectIter iterator;
    const char *name;

    json_object_iter_init_ordered(&iterator, object);
    while (json_object_iter_next_ordered(&iterator, &name, NULL)) {
        if (!field_is_known(fields, name))
            g_ptr_array_add(notes,
                            g_strdup_printf("%s.%.64s is not known: passed over", path, name));
    }
}

bool
fields_read(const Field *fields, JsonNode *node, void *base, const char *path, GPtrArray *memory,
            GPtrArray *notes, GError **error)
{
    Reading reading = { .path = path, .memory = memory, .notes = notes, .error = error };
    JsonObject *object;

    if (!JSON_NODE_HOLDS_OBJECT(node))
        return reading_fail(&reading, "is not an object");
    object = json_node_get_object(node);
    for (const Field *field = fields; field->name != NULL; field++) {
        g_autofree char *own = g_strdup_printf("%s.%s", path, field->name);
        JsonNode *member = json_object_get_member(object, field->name);
        bool good;

        reading.path = own;
        if (member == NULL && field->optional)
            continue;
        if (member == NULL)
            return reading_fail(&reading, "is missing");
        good = field->count != 0
                   ? array_read(&reading, field, member, base)
                   : element_read(&reading, field, member, (char *)base + field->offset);
        if (!good)
            return false;
    }
    if (notes != NULL)
        unknown_note(fields, object, path, notes);
    return true;
}

/* ---- comparing ----------------------------------------------------------- */

typedef struct {
    FieldsDiffer differ;
    gpointer data;
} Comparing;

static double
relative_difference(double a, double b)
{
    double larger = fmax(fabs(a), fabs(b));

    if (!isfinite(a) || !isfinite(b) || !(larger > 0.0))
        return 1.0;
    return fabs(a - b) / larger;
}

static char *
node_to_text(const Field *field, const char *at)
{
    g_autoptr(JsonNode) node = element_write(field, at);

    return json_to_string(node, FALSE);
}

/* Leaves are the same when they are written the same; that covers NaN, too. */
static void
leaf_compare(const Comparing *comparing, const Field *field, const char *a, const char *b,
             const char *path)
{
    g_autofree char *text_a = node_to_text(field, a);
    g_autofree char *text_b = node_to_text(field, b);
    double relative = 1.0;

    if (strcmp(text_a, text_b) == 0)
        return;
    if (field->kind == FIELD_DOUBLE)
        relative = relative_difference(double_load(a), double_load(b));
    if (field->kind == FIELD_UNSIGNED)
        relative = relative_difference((double)unsigned_load(a, field->size),
                                       (double)unsigned_load(b, field->size));
    comparing->differ(field, path, text_a, text_b, relative, comparing->data);
}

static void
length_compare(const Comparing *comparing, const Field *field, const void *a, const void *b,
               const char *path)
{
    size_t length_a = elements_used(field, a);
    size_t length_b = elements_used(field, b);
    g_autofree char *text_a = g_strdup_printf("%zu elements", length_a);
    g_autofree char *text_b = g_strdup_printf("%zu elements", length_b);

    if (length_a != length_b)
        comparing->differ(field, path, text_a, text_b, 1.0, comparing->data);
}

void
fields_compare(const Field *fields, const void *a, const void *b, const char *path,
               FieldsDiffer differ, gpointer data)
{
    Comparing comparing = { .differ = differ, .data = data };

    for (const Field *field = fields; field->name != NULL; field++) {
        g_autofree char *own = g_strdup_printf("%s.%s", path, field->name);
        const char *at_a = elements_begin(field, a);
        const char *at_b = elements_begin(field, b);
        size_t count = MIN(elements_used(field, a), elements_used(field, b));

        length_compare(&comparing, field, a, b, own);
        for (size_t i = 0; i < count; i++) {
            g_autofree char *element =
                field->count != 0 ? g_strdup_printf("%s[%zu]", own, i) : g_strdup(own);

            if (field->kind == FIELD_STRUCT)
                fields_compare(field->fields, at_a + i * field->size, at_b + i * field->size,
                               element, differ, data);
            else
                leaf_compare(&comparing, field, at_a + i * field->size, at_b + i * field->size,
                             element);
        }
    }
}

/* ---- completeness -------------------------------------------------------- */

size_t
fields_gap(const Field *fields, size_t size)
{
    g_autofree bool *covered = g_new0(bool, size);
    size_t run = 0;

    for (const Field *field = fields; field->name != NULL; field++) {
        size_t length = field->list                           ? sizeof(void *)
                        : field->kind == FIELD_TEXT_POINTER   ? sizeof(char *)
                        : field->kind == FIELD_STRUCT_POINTER ? sizeof(void *)
                                                              : field->size;

        length *= field->count != 0 && !field->list ? field->count : 1;
        for (size_t i = 0; i < length && field->offset + i < size; i++)
            covered[field->offset + i] = true;
        for (size_t i = 0; i < field->count_size; i++)
            covered[field->count_offset + i] = true;
    }
    for (size_t i = 0; i < size; i++) {
        run = covered[i] ? 0 : run + 1;
        if (run == GAP_BYTES)
            return i + 1 - GAP_BYTES;
    }
    return SIZE_MAX;
}
