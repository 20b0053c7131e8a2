/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lessons survive a restart through the history file; bad records teach nothing. */
#include "daemon/experience.h"

#include "daemon/history.h"

#include <glib/gstdio.h>
#include <string.h>

#define UUID "0B1C2D3E-0000-4000-8000-00000000000A"

static Lesson
lesson_new(uint64_t pair, double measured)
{
    Lesson lesson = {
        .observation = { .pair = pair,
                         .technique = TECHNIQUE_PRE_COPY,
                         .memory_seconds = 10.0,
                         .further_seconds = 2.0,
                         .measured_seconds = measured,
                         .resident = UINT64_C(500000000),
                         .memory = UINT64_C(400000000) },
        .stream = { .connections = 1, .reached = 6000000, .available = 25000000 },
        .named_pair = 0x77,
    };

    g_assert_true(dirty_curve_add(&lesson.dirty, 2.0, 1e6));
    g_assert_true(dirty_curve_add(&lesson.dirty, 12.0, 3e6));
    return lesson;
}

static char *
record_new(const Lesson *lesson)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();
    g_autoptr(JsonGenerator) generator = json_generator_new();
    JsonNode *root;
    char *text;

    json_builder_begin_object(builder);
    json_builder_set_member_name(builder, "uuid");
    json_builder_add_string_value(builder, UUID);
    json_builder_set_member_name(builder, "lesson");
    lesson_to_json(lesson, builder);
    json_builder_end_object(builder);
    root = json_builder_get_root(builder);
    json_generator_set_root(generator, root);
    text = json_generator_to_data(generator, NULL);
    json_node_unref(root);
    return text;
}

static void
test_survives_restart(void)
{
    g_autofree char *directory = g_dir_make_tmp("convoy-experience-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(directory, "history.jsonl", NULL);
    g_autoptr(Experience) experience = experience_new();
    const Calibration *calibration = experience_calibration(experience);
    Lesson lesson = lesson_new(UINT64_C(0xfedcba9876543210), 15.0);
    g_autofree char *record = record_new(&lesson);
    Lesson given_up = { .dirty = lesson.dirty };
    const Lesson *known;

    g_assert_cmpuint(experience_load(experience, directory), ==, 0);
    g_assert_true(history_append(directory, HISTORY_FILE, record, NULL));
    g_assert_true(
        history_append(directory, HISTORY_FILE, "{\"domain\":\"of an older version\"}", NULL));
    g_assert_true(history_append(directory, HISTORY_FILE, record, NULL));
    g_assert_cmpuint(experience_load(experience, directory), ==, 2);
    g_assert_cmpuint(calibration->count, ==, 2);
    g_assert_cmpint(
        memcmp(&calibration->observation[1], &lesson.observation, sizeof(CalibrationObservation)),
        ==, 0);
    known = experience_domain(experience, "0b1c2d3e-0000-4000-8000-00000000000a");
    g_assert_nonnull(known);
    g_assert_cmpuint(known->dirty.count, ==, 2);
    g_assert_cmpfloat(known->dirty.point[1].bytes, ==, 3e6);
    g_assert_cmpuint(experience_pair(experience, 0x77), ==, UINT64_C(0xfedcba9876543210));
    g_assert_cmpuint(experience_stream_rate(experience, UINT64_C(0xfedcba9876543210)), ==, 6000000);
    g_assert_null(experience_domain(experience, "another"));
    /* One that was given up teaches how its guest dirties; how much moves stays known. */
    given_up.dirty.count = 1;
    experience_learn(experience, UUID, &given_up);
    known = experience_domain(experience, UUID);
    g_assert_cmpuint(known->dirty.count, ==, 1);
    g_assert_cmpuint(known->observation.memory, ==, lesson.observation.memory);
    g_assert_cmpuint(known->observation.resident, ==, lesson.observation.resident);
    g_assert_null(experience_domain(experience, NULL));
    g_unlink(path);
    g_rmdir(directory);
}

static void
test_hostile(void)
{
#define GOOD                                                                                       \
    "\"pair\":\"1f\",\"technique\":\"pre-copy\",\"memory_seconds\":10,\"further_seconds\":1,"      \
    "\"reverse_full\":0"
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"lesson\":7}",
        "{\"lesson\":[]}",
        "{\"lesson\":{}}",
        "{\"lesson\":{" GOOD "}}",
        "{\"lesson\":{" GOOD ",\"measured_seconds\":\"11\"}}",
        "{\"lesson\":{" GOOD ",\"measured_seconds\":null}}",
        "{\"lesson\":{" GOOD ",\"measured_seconds\":0}}",
        "{\"lesson\":{" GOOD ",\"measured_seconds\":-11}}",
        "{\"lesson\":{" GOOD ",\"measured_seconds\":1e308}}",
        "{\"lesson\":{" GOOD ",\"measured_seconds\":4294967296}}",
        "{\"lesson\":{" GOOD ",\"measured_seconds\":11,\"pair\":\"xyz\"}}",
        "{\"lesson\":{" GOOD ",\"measured_seconds\":11,\"pair\":7}}",
        "{\"lesson\":{" GOOD ",\"measured_seconds\":11,\"technique\":\"magic\"}}",
        "{\"lesson\":{" GOOD ",\"measured_seconds\":11,\"reverse_full\":2}}",
    };
    static const char *const good[] = {
        "{\"lesson\":{" GOOD ",\"measured_seconds\":11}}",
        "{\"uuid\":7,\"lesson\":{" GOOD ",\"measured_seconds\":11,\"dirty\":7}}",
        "{\"uuid\":\"u\",\"lesson\":{" GOOD ",\"measured_seconds\":11,\"resident\":-1,"
        "\"memory\":1e300,\"dirty\":[[],[1],[1,2,3],[\"a\",1],[-1,1],[2,0],null,[3,1e300]]}}",
        "{\"uuid\":\"u\",\"lesson\":{" GOOD ",\"measured_seconds\":11,"
        "\"dirty\":[[1,1],[2,1],[3,1],[4,1],[5,1],[6,1],[7,1],[8,1],[9,1],[10,1]]}}",
        "{\"lesson\":{" GOOD ",\"measured_seconds\":11,\"stream\":{\"connections\":1,"
        "\"reached\":6e6,\"available\":25e6},\"named_pair\":\"2a\"}}",
        /* And none of these takes anything of it back. */
        "{\"lesson\":{" GOOD ",\"measured_seconds\":11,\"stream\":7}}",
        "{\"lesson\":{" GOOD ",\"measured_seconds\":11,\"stream\":{}}}",
        "{\"lesson\":{" GOOD ",\"measured_seconds\":11,\"stream\":{\"connections\":-1,"
        "\"reached\":1,\"available\":25e6}}}",
        "{\"lesson\":{" GOOD ",\"measured_seconds\":11,\"stream\":{\"connections\":1e300,"
        "\"reached\":1,\"available\":25e6}}}",
        "{\"lesson\":{" GOOD ",\"measured_seconds\":11,\"stream\":{\"connections\":1,"
        "\"reached\":1e300,\"available\":25e6},\"named_pair\":\"xyz\"}}",
        "{\"lesson\":{" GOOD ",\"measured_seconds\":11,\"stream\":{\"connections\":1,"
        "\"reached\":-1,\"available\":null}}}",
    };
#undef GOOD
    g_autoptr(Experience) experience = experience_new();

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("%s", bad[i]);
        g_assert_false(experience_read(experience, bad[i]));
        g_assert_cmpuint(experience_calibration(experience)->count, ==, 0);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_test_message("%s", good[i]);
        g_assert_true(experience_read(experience, good[i]));
        g_assert_cmpuint(experience_calibration(experience)->count, ==, i + 1);
    }
    g_assert_cmpuint(experience_stream_rate(experience, 0x1f), ==, 6000000);
    g_assert_cmpuint(experience_pair(experience, 0x2a), ==, 0x1f);
    g_assert_cmpuint(experience_calibration(experience)->observation[2].resident, ==, 0);
    g_assert_cmpuint(experience_calibration(experience)->observation[2].memory, ==, 0);
}

/* Was 400 MB when 500 MB were resident. */
static void
test_memory(void)
{
    static const struct {
        const char *uuid;
        uint64_t resident, limit, expected;
    } rows[] = {
        { "known", 500, 1000, 400 }, { "known", 450, 1000, 400 }, { "known", 530, 1000, 430 },
        { "known", 300, 1000, 300 }, { "known", 500, 350, 350 },  { "known", 0, 1000, 1000 },
        { "other", 500, 1000, 400 }, { "other", 50, 1000, 0 },    { "other", 0, 1000, 1000 },
        { NULL, 250, 1000, 150 },
    };
    g_autoptr(Experience) experience = experience_new();
    Lesson lesson = lesson_new(1, 15.0);

    g_assert_true(experience_learn(experience, "known", &lesson));
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        g_assert_cmpuint(experience_memory(experience, rows[i].uuid, rows[i].resident * 1000000,
                                           rows[i].limit * 1000000) /
                             1000000,
                         ==, rows[i].expected);
    g_assert_cmpuint(experience_memory(experience, "known", UINT64_MAX, 7), ==, 7);
    /* Without a measured time nothing is learnt but the guest. */
    lesson.observation.measured_seconds = 0;
    lesson.observation.memory = 1;
    g_assert_false(experience_learn(experience, "known", &lesson));
    g_assert_cmpuint(experience_domain(experience, "KNOWN")->observation.memory, ==, 1);
}

static void
test_bounded(void)
{
    g_autoptr(Experience) experience = experience_new();
    Lesson lesson = lesson_new(1, 15.0);

    for (unsigned i = 0; i < 3 * EXPERIENCE_DOMAINS; i++) {
        g_autofree char *uuid = g_strdup_printf("domain-%u", i);

        g_assert_true(experience_learn(experience, uuid, &lesson));
        /* One that leaves again and again stays. */
        g_assert_true(experience_learn(experience, "first", &lesson));
    }
    g_assert_null(experience_domain(experience, "domain-0"));
    g_assert_nonnull(experience_domain(experience, "domain-767"));
    g_assert_nonnull(experience_domain(experience, "first"));
    g_assert_cmpuint(experience_calibration(experience)->count, <=, CALIBRATION_OBSERVATIONS);
    experience_free(NULL);
}

/* Where the destination is not known yet, one that a stream fills decides. */
static void
test_streams(void)
{
    g_autoptr(Experience) experience = experience_new();
    Lesson lesson = lesson_new(1, 15.0);

    g_assert_cmpuint(experience_stream_rate_anywhere(experience), ==, 0);
    g_assert_cmpuint(experience_stream_rate(experience, 1), ==, 0);
    g_assert_cmpuint(experience_pair(experience, 5), ==, 5);
    experience_learn(experience, NULL, &lesson);
    lesson.observation.pair = 2;
    lesson.named_pair = 0;
    lesson.stream.reached = 9000000;
    experience_learn(experience, NULL, &lesson);
    g_assert_cmpuint(experience_stream_rate(experience, 1), ==, 6000000);
    g_assert_cmpuint(experience_stream_rate(experience, 2), ==, 9000000);
    g_assert_cmpuint(experience_stream_rate_anywhere(experience), ==, 9000000);
    g_assert_cmpuint(experience_pair(experience, 0x77), ==, 1);
    lesson.observation.pair = 3;
    lesson.stream.reached = 24000000;
    lesson.named_pair = 0x77; /* the name leads elsewhere now */
    experience_learn(experience, NULL, &lesson);
    g_assert_cmpuint(experience_pair(experience, 0x77), ==, 3);
    g_assert_cmpuint(experience_stream_rate_anywhere(experience), ==, 0);
    lesson.observation.pair = 1;
    lesson.named_pair = 0;
    experience_learn(experience, NULL, &lesson); /* it fills, and did not once */
    g_assert_cmpuint(experience_stream_rate(experience, 1), ==, 0);
    g_assert_cmpuint(experience_stream_rate(experience, 2), ==, 9000000);
    g_assert_cmpuint(experience_pair(experience, 0x77), ==, 3);
    /* Without a measured rate only the name is learnt. */
    lesson.observation.pair = 4;
    lesson.stream = (ParallelObservation){ 0 };
    lesson.named_pair = 0x77;
    experience_learn(experience, NULL, &lesson);
    g_assert_cmpuint(experience_pair(experience, 0x77), ==, 4);
    g_assert_cmpuint(experience_stream_rate(experience, 4), ==, 0);
    for (uint64_t pair = 100; pair < 100 + 2 * EXPERIENCE_PAIRS; pair++) {
        lesson = lesson_new(pair, 15.0);
        experience_learn(experience, NULL, &lesson);
    }
    g_assert_cmpuint(experience_stream_rate(experience, 2), ==, 0);
    g_assert_cmpuint(experience_stream_rate(experience, 100 + EXPERIENCE_PAIRS), ==, 6000000);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/experience/survives-restart", test_survives_restart);
    g_test_add_func("/experience/hostile", test_hostile);
    g_test_add_func("/experience/memory", test_memory);
    g_test_add_func("/experience/bounded", test_bounded);
    g_test_add_func("/experience/streams", test_streams);
    return g_test_run();
}
