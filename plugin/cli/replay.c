/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Recorded decisions against those of today; see replay.h. */
#include "cli/replay.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "daemon/recording.h"

typedef struct {
    const char *name;
    const ReplayOptions *options;
    GString *out;
    GString *problems;
    JsonBuilder *builder; /* NULL: for people */
    unsigned line;
    unsigned decisions;
    unsigned differing;
    unsigned drifted; /* the same, but for predictions within the tolerance */
    unsigned unreadable;
} Replay;

/* Texts in a recording may come from anywhere: nothing steers the terminal. */
static void
text_append(GString *out, const char *text)
{
    for (; *text != '\0'; text = g_utf8_next_char(text)) {
        gunichar character = g_utf8_get_char(text);

        g_string_append_unichar(out, g_unichar_iscntrl(character) ? '?' : character);
    }
}

static void
problem_append(Replay *replay, const char *why)
{
    g_string_append_printf(replay->problems, "%s:%u: ", replay->name, replay->line);
    text_append(replay->problems, why);
    g_string_append_c(replay->problems, '\n');
}

static char *
time_describe(gint64 wall_us)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(wall_us / G_USEC_PER_SEC);

    return time != NULL ? g_date_time_format(time, "%Y-%m-%dT%H:%M:%SZ") : g_strdup("-");
}

static void
print_labelled(GString *out, const char *label, const char *text)
{
    g_string_append_printf(out, "  %s  ", label);
    text_append(out, text);
    g_string_append_c(out, '\n');
}

static void
difference_print(Replay *replay, const Recording *was, const Recording *now,
                 const GPtrArray *differences)
{
    g_autofree char *time = time_describe(was->wall_us);
    g_autofree char *was_text = recording_describe(was);
    g_autofree char *now_text = recording_describe(now);

    g_string_append_printf(replay->out, "line %u: %s ", replay->line,
                           recording_kind_to_string(was->kind));
    text_append(replay->out, was->about);
    g_string_append_printf(replay->out, "%s%s\n", *was->about != '\0' ? ", " : "", time);
    print_labelled(replay->out, "was", was_text);
    print_labelled(replay->out, "now", now_text);
    for (guint i = 0; i < differences->len; i++) {
        const RecordingDifference *difference = differences->pdata[i];
        g_autofree char *text = g_strdup_printf("%s -> %s", difference->before, difference->now);

        if (difference->counts)
            print_labelled(replay->out, difference->field, text);
    }
}

static void
member_add_text(JsonBuilder *builder, const char *name, const char *text)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_string_value(builder, text);
}

static void
member_add_number(JsonBuilder *builder, const char *name, unsigned number)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_int_value(builder, number);
}

static void
difference_build(Replay *replay, const Recording *was, const Recording *now,
                 const GPtrArray *differences)
{
    g_autofree char *time = time_describe(was->wall_us);
    g_autofree char *was_text = recording_describe(was);
    g_autofree char *now_text = recording_describe(now);
    JsonBuilder *builder = replay->builder;

    json_builder_begin_object(builder);
    member_add_number(builder, "line", replay->line);
    member_add_text(builder, "kind", recording_kind_to_string(was->kind));
    member_add_text(builder, "about", was->about);
    member_add_text(builder, "time", time);
    member_add_text(builder, "was", was_text);
    member_add_text(builder, "now", now_text);
    json_builder_set_member_name(builder, "differences");
    json_builder_begin_array(builder);
    for (guint i = 0; i < differences->len; i++) {
        const RecordingDifference *difference = differences->pdata[i];

        if (!difference->counts)
            continue;
        json_builder_begin_object(builder);
        member_add_text(builder, "field", difference->field);
        member_add_text(builder, "was", difference->before);
        member_add_text(builder, "now", difference->now);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    json_builder_end_object(builder);
}

static bool
any_counts(const GPtrArray *differences)
{
    for (guint i = 0; i < differences->len; i++) {
        const RecordingDifference *difference = differences->pdata[i];

        if (difference->counts)
            return true;
    }
    return false;
}

static void
replay_recording(Replay *replay, const Recording *was)
{
    g_autoptr(Recording) now = recording_decide_again(was);
    g_autoptr(GPtrArray) differences = recording_compare(was, now, replay->options->tolerance);

    replay->decisions++;
    if (any_counts(differences)) {
        replay->differing++;
        if (replay->builder != NULL)
            difference_build(replay, was, now, differences);
        else if (!replay->options->update)
            difference_print(replay, was, now, differences);
    } else if (differences->len > 0) {
        replay->drifted++;
    }
    if (replay->options->update) {
        g_autofree char *line = recording_to_line(now);

        g_string_append_printf(replay->out, "%s\n", line);
    }
}

static void
replay_line(Replay *replay, const char *line, gsize length)
{
    g_autoptr(GPtrArray) notes = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    g_autoptr(Recording) recording = recording_from_line(line, length, notes, &error);

    for (guint i = 0; i < notes->len; i++)
        problem_append(replay, notes->pdata[i]);
    if (recording != NULL) {
        replay_recording(replay, recording);
        return;
    }
    replay->unreadable++;
    problem_append(replay, error->message);
}

static void
summary_print(const Replay *replay)
{
    g_string_append_printf(replay->out, "%u decision%s: %u the same, %u differ", replay->decisions,
                           replay->decisions == 1 ? "" : "s", replay->decisions - replay->differing,
                           replay->differing);
    if (replay->drifted > 0)
        g_string_append_printf(replay->out,
                               "; predictions moved by at most %.0f %% in %u of the same",
                               replay->options->tolerance * 100.0, replay->drifted);
    if (replay->unreadable > 0)
        g_string_append_printf(replay->out, "; %u cannot be read", replay->unreadable);
    g_string_append_c(replay->out, '\n');
}

static void
summary_build(const Replay *replay)
{
    g_autoptr(JsonNode) root = NULL;
    g_autofree char *text = NULL;

    json_builder_end_array(replay->builder);
    member_add_number(replay->builder, "decisions", replay->decisions);
    member_add_number(replay->builder, "same", replay->decisions - replay->differing);
    member_add_number(replay->builder, "differ", replay->differing);
    member_add_number(replay->builder, "unreadable", replay->unreadable);
    json_builder_end_object(replay->builder);
    root = json_builder_get_root(replay->builder);
    text = json_to_string(root, TRUE);
    g_string_append_printf(replay->out, "%s\n", text);
}

ReplayResult
replay_text(const char *name, const char *text, gsize length, const ReplayOptions *options,
            GString *out, GString *problems)
{
    g_autoptr(JsonBuilder) builder = options->json && !options->update ? json_builder_new() : NULL;
    Replay replay = {
        .name = name,
        .options = options,
        .out = out,
        .problems = problems,
        .builder = builder,
    };
    const char *end = text + length;

    if (builder != NULL) {
        json_builder_begin_object(builder);
        json_builder_set_member_name(builder, "differing");
        json_builder_begin_array(builder);
    }
    while (text < end) {
        const char *stop = memchr(text, '\n', (gsize)(end - text));

        replay.line++;
        if (stop == NULL)
            stop = end;
        if (stop > text)
            replay_line(&replay, text, (gsize)(stop - text));
        text = stop + 1;
    }
    if (replay.decisions == 0 && replay.unreadable == 0) {
        problem_append(&replay, "no decision is recorded here");
        replay.unreadable++;
    }
    if (builder != NULL)
        summary_build(&replay);
    else if (!options->update)
        summary_print(&replay);
    if (replay.unreadable > 0)
        return REPLAY_UNREADABLE;
    return replay.differing > 0 ? REPLAY_DIFFERS : REPLAY_SAME;
}
