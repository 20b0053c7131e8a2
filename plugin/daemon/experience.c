/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lessons to and from the history file; see experience.h. */
#include "daemon/experience.h"

#include "daemon/history.h"

#include <math.h>
#include <string.h>

/* libvirt's own limit of parallel connections. */
#define STREAM_CONNECTIONS_MAX 255.0

typedef struct {
    uint64_t pair;
    uint64_t named_pair;
    ParallelExperience streams;
} Pair;

struct Experience {
    Calibration calibration;
    GHashTable *domains; /* uuid, in lower case: Lesson */
    GQueue order;        /* its keys, oldest first; owned by the table */
    GArray *pairs;       /* Pair, the one that was learnt from last at the end */
};

Experience *
experience_new(void)
{
    Experience *experience = g_new0(Experience, 1);

    experience->domains = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_queue_init(&experience->order);
    experience->pairs = g_array_new(FALSE, FALSE, sizeof(Pair));
    return experience;
}

void
experience_free(Experience *experience)
{
    if (experience == NULL)
        return;
    g_queue_clear(&experience->order);
    g_hash_table_unref(experience->domains);
    g_array_unref(experience->pairs);
    g_free(experience);
}

static void
remember_domain(Experience *experience, const char *uuid, const Lesson *lesson)
{
    g_autofree char *key = g_ascii_strdown(uuid, -1);
    Lesson kept = *lesson;
    gpointer known = NULL;
    gpointer before = NULL;
    char *oldest;

    if (g_hash_table_lookup_extended(experience->domains, key, &known, &before)) {
        /* One that was given up does not tell how much memory moves. */
        if (kept.observation.memory == 0) {
            kept.observation.memory = ((const Lesson *)before)->observation.memory;
            kept.observation.resident = ((const Lesson *)before)->observation.resident;
        }
        g_queue_remove(&experience->order, known);
        g_hash_table_remove(experience->domains, key);
    } else if (g_hash_table_size(experience->domains) >= EXPERIENCE_DOMAINS) {
        oldest = g_queue_pop_head(&experience->order);
        g_hash_table_remove(experience->domains, oldest);
    }
    g_queue_push_tail(&experience->order, key);
    g_hash_table_insert(experience->domains, g_steal_pointer(&key), g_memdup2(&kept, sizeof(kept)));
}

static const Pair *
find_pair(const Experience *experience, uint64_t pair)
{
    for (guint i = experience->pairs->len; i > 0; i--) {
        const Pair *known = &g_array_index(experience->pairs, Pair, i - 1);

        if (known->pair == pair)
            return known;
    }
    return NULL;
}

static void
remember_pair(Experience *experience, const Lesson *lesson)
{
    const Pair *known = find_pair(experience, lesson->observation.pair);
    Pair pair = known != NULL ? *known : (Pair){ .pair = lesson->observation.pair };

    if (known != NULL)
        g_array_remove_index(experience->pairs,
                             (guint)(known - (const Pair *)(void *)experience->pairs->data));
    else if (experience->pairs->len >= EXPERIENCE_PAIRS)
        g_array_remove_index(experience->pairs, 0);
    for (guint i = 0; lesson->named_pair != 0 && i < experience->pairs->len; i++) {
        /* The name leads here now. */
        if (g_array_index(experience->pairs, Pair, i).named_pair == lesson->named_pair)
            g_array_index(experience->pairs, Pair, i).named_pair = 0;
    }
    if (lesson->named_pair != 0)
        pair.named_pair = lesson->named_pair;
    parallel_learn(&pair.streams, &lesson->stream);
    g_array_append_val(experience->pairs, pair);
}

uint64_t
experience_pair(const Experience *experience, uint64_t named_pair)
{
    for (guint i = experience->pairs->len; i > 0; i--) {
        const Pair *known = &g_array_index(experience->pairs, Pair, i - 1);

        if (known->named_pair == named_pair)
            return known->pair;
    }
    return named_pair;
}

uint64_t
experience_stream_rate(const Experience *experience, uint64_t pair)
{
    const Pair *known = find_pair(experience, pair);

    return known != NULL ? parallel_stream_rate(&known->streams) : 0;
}

uint64_t
experience_stream_rate_anywhere(const Experience *experience)
{
    uint64_t highest = 0;

    for (guint i = 0; i < experience->pairs->len; i++) {
        uint64_t rate = parallel_stream_rate(&g_array_index(experience->pairs, Pair, i).streams);

        if (rate == 0)
            return 0;
        highest = MAX(highest, rate);
    }
    return highest;
}

bool
experience_learn(Experience *experience, const char *uuid, const Lesson *lesson)
{
    if (uuid != NULL && *uuid != '\0' && (lesson->dirty.valid || lesson->observation.memory != 0))
        remember_domain(experience, uuid, lesson);
    if (lesson->stream.reached != 0 || lesson->named_pair != 0)
        remember_pair(experience, lesson);
    return calibration_add(&experience->calibration, &lesson->observation);
}

const Calibration *
experience_calibration(const Experience *experience)
{
    return &experience->calibration;
}

const Lesson *
experience_domain(const Experience *experience, const char *uuid)
{
    g_autofree char *key = uuid != NULL ? g_ascii_strdown(uuid, -1) : NULL;

    return key != NULL ? g_hash_table_lookup(experience->domains, key) : NULL;
}

uint64_t
experience_memory(const Experience *experience, const char *uuid, uint64_t resident, uint64_t limit)
{
    const Lesson *lesson = experience_domain(experience, uuid);
    uint64_t memory = lesson != NULL ? lesson->observation.memory : 0;
    uint64_t before = lesson != NULL ? lesson->observation.resident : 0;

    if (memory == 0 || before == 0 || resident == 0)
        return calibration_memory(&experience->calibration, resident, limit);
    if (resident > before)
        memory = memory > UINT64_MAX - (resident - before) ? limit : memory + (resident - before);
    /* One that was started anew since has less. */
    return MIN(MIN(memory, resident), limit);
}

/* ---- the record -------------------------------------------------------- */

static void
add_double(JsonBuilder *builder, const char *name, double value)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_double_value(builder, isfinite(value) ? value : 0.0);
}

static void
add_hexadecimal(JsonBuilder *builder, const char *name, uint64_t value)
{
    g_autofree char *text = g_strdup_printf("%016" G_GINT64_MODIFIER "x", value);

    json_builder_set_member_name(builder, name);
    json_builder_add_string_value(builder, text);
}

static void
stream_to_json(const Lesson *lesson, JsonBuilder *builder)
{
    json_builder_set_member_name(builder, "stream");
    json_builder_begin_object(builder);
    add_double(builder, "connections", lesson->stream.connections);
    add_double(builder, "reached", (double)lesson->stream.reached);
    add_double(builder, "available", (double)lesson->stream.available);
    json_builder_end_object(builder);
}

void
lesson_to_json(const Lesson *lesson, JsonBuilder *builder)
{
    const CalibrationObservation *observation = &lesson->observation;

    json_builder_begin_object(builder);
    add_hexadecimal(builder, "pair", observation->pair);
    if (lesson->named_pair != 0)
        add_hexadecimal(builder, "named_pair", lesson->named_pair);
    json_builder_set_member_name(builder, "technique");
    json_builder_add_string_value(builder, technique_to_string(observation->technique));
    add_double(builder, "memory_seconds", observation->memory_seconds);
    add_double(builder, "further_seconds", observation->further_seconds);
    add_double(builder, "reverse_full", observation->reverse_full);
    add_double(builder, "measured_seconds", observation->measured_seconds);
    add_double(builder, "resident", (double)observation->resident);
    add_double(builder, "memory", (double)observation->memory);
    json_builder_set_member_name(builder, "dirty");
    json_builder_begin_array(builder);
    for (unsigned i = 0; lesson->dirty.valid && i < lesson->dirty.count; i++) {
        json_builder_begin_array(builder);
        json_builder_add_double_value(builder, lesson->dirty.point[i].seconds);
        json_builder_add_double_value(builder, lesson->dirty.point[i].bytes);
        json_builder_end_array(builder);
    }
    json_builder_end_array(builder);
    if (lesson->stream.reached != 0)
        stream_to_json(lesson, builder);
    json_builder_end_object(builder);
}

/* NaN, which every check refuses, for what is absent or no number. */
static double
node_number(JsonNode *node)
{
    if (node == NULL || !JSON_NODE_HOLDS_VALUE(node) ||
        (json_node_get_value_type(node) != G_TYPE_INT64 &&
         json_node_get_value_type(node) != G_TYPE_DOUBLE))
        return (double)NAN;
    return json_node_get_double(node);
}

static double
member_number(JsonObject *object, const char *name)
{
    return node_number(json_object_get_member(object, name));
}

static const char *
member_text(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    if (node == NULL || !JSON_NODE_HOLDS_VALUE(node) ||
        json_node_get_value_type(node) != G_TYPE_STRING)
        return NULL;
    return json_node_get_string(node);
}

static uint64_t
member_bytes(JsonObject *object, const char *name)
{
    double value = member_number(object, name);

    return value > 0.0 && value < 0x1p62 ? (uint64_t)value : 0;
}

static void
dirty_read(JsonObject *object, DirtyCurve *ret_curve)
{
    JsonNode *node = json_object_get_member(object, "dirty");
    JsonArray *points = node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
    guint length = points != NULL ? json_array_get_length(points) : 0;

    for (guint i = 0; i < length && i < DIRTY_CURVE_POINTS; i++) {
        JsonNode *item = json_array_get_element(points, i);
        JsonArray *point = JSON_NODE_HOLDS_ARRAY(item) ? json_node_get_array(item) : NULL;

        if (point != NULL && json_array_get_length(point) == 2)
            dirty_curve_add(ret_curve, node_number(json_array_get_element(point, 0)),
                            node_number(json_array_get_element(point, 1)));
    }
}

/* What cannot be a measurement is left out: it teaches nothing. */
static void
stream_read(JsonObject *object, Lesson *lesson)
{
    JsonNode *node = json_object_get_member(object, "stream");
    JsonObject *stream =
        node != NULL && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
    double connections = stream != NULL ? member_number(stream, "connections") : 0.0;

    if (stream == NULL || !(connections >= 0.0 && connections <= STREAM_CONNECTIONS_MAX))
        return;
    lesson->stream = (ParallelObservation){
        .connections = (unsigned int)connections,
        .reached = member_bytes(stream, "reached"),
        .available = member_bytes(stream, "available"),
    };
}

static bool
lesson_read(JsonObject *object, Lesson *ret_lesson)
{
    const char *pair = member_text(object, "pair");
    const char *named_pair = member_text(object, "named_pair");
    const char *technique = member_text(object, "technique");
    CalibrationObservation *observation = &ret_lesson->observation;

    *ret_lesson = (Lesson){ 0 };
    if (pair == NULL || technique == NULL ||
        !g_ascii_string_to_unsigned(pair, 16, 0, G_MAXUINT64, &observation->pair, NULL) ||
        !technique_from_string(technique, &observation->technique))
        return false;
    if (named_pair != NULL)
        g_ascii_string_to_unsigned(named_pair, 16, 0, G_MAXUINT64, &ret_lesson->named_pair, NULL);
    observation->memory_seconds = member_number(object, "memory_seconds");
    observation->further_seconds = member_number(object, "further_seconds");
    observation->reverse_full = member_number(object, "reverse_full");
    observation->measured_seconds = member_number(object, "measured_seconds");
    observation->resident = member_bytes(object, "resident");
    observation->memory = member_bytes(object, "memory");
    dirty_read(object, &ret_lesson->dirty);
    stream_read(object, ret_lesson);
    return true;
}

bool
experience_read(Experience *experience, const char *line)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonNode *root;
    JsonNode *node;
    Lesson lesson;

    if (!json_parser_load_from_data(parser, line, -1, NULL))
        return false;
    root = json_parser_get_root(parser);
    if (root == NULL || !JSON_NODE_HOLDS_OBJECT(root))
        return false;
    node = json_object_get_member(json_node_get_object(root), "lesson");
    if (node == NULL || !JSON_NODE_HOLDS_OBJECT(node) ||
        !lesson_read(json_node_get_object(node), &lesson))
        return false;
    return experience_learn(experience, member_text(json_node_get_object(root), "uuid"), &lesson);
}

typedef struct {
    Experience *experience;
    unsigned taught;
} Loading;

static void
loading_line(const char *line, gpointer data)
{
    Loading *loading = data;

    if (experience_read(loading->experience, line))
        loading->taught++;
}

unsigned
experience_load(Experience *experience, const char *directory)
{
    Loading loading = { .experience = experience };

    history_read(directory, loading_line, &loading);
    return loading.taught;
}
