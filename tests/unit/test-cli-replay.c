/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Replay: the same is the same, a decision that was made differently is shown,
 * a line that cannot be read is named, and the exit status says which.
 */
#include "cli/replay.c"

#define MB UINT64_C(1000000)
#define LINK (125 * MB)

static char *
technique_line(Technique claimed, double seconds_factor)
{
    Recording recording = { .kind = RECORDING_TECHNIQUE, .about = "web\xc2\x9b[2J" };

    recording.technique.input = (TechniqueInput){
        .priority = PRIORITY_MEDIUM,
        .allowed = TECHNIQUE_ALLOW_ALL,
        .source_class = TRAFFIC_CLASS_INBOUND,
        .destination_class = TRAFFIC_CLASS_OUTBOUND,
        .vm_class = TRAFFIC_CLASS_INBOUND,
        .source = { .valid = true, .in = 60 * MB },
        .destination = { .valid = true, .out = 60 * MB },
        .vm = { .valid = true, .in = 10 * MB },
        .source_link = LINK,
        .destination_link = LINK,
        .memory = UINT64_C(512) << 20,
        .predict = predict_params_default(),
    };
    technique_decide(&recording.technique.input, &recording.technique.decision);
    recording.technique.decision.technique = claimed;
    recording.technique.decision.prediction[0].total_seconds *= seconds_factor;
    return recording_to_line(&recording);
}

typedef struct {
    GString *out;
    GString *problems;
    ReplayResult result;
} Outcome;

static Outcome
replay(const char *text, double tolerance, bool json, bool update)
{
    ReplayOptions options = { .tolerance = tolerance, .json = json, .update = update };
    Outcome outcome = { g_string_new(NULL), g_string_new(NULL), REPLAY_SAME };

    outcome.result =
        replay_text("file", text, strlen(text), &options, outcome.out, outcome.problems);
    g_test_message("%s", outcome.out->str);
    g_test_message("%s", outcome.problems->str);
    return outcome;
}

static void
outcome_clear(Outcome *outcome)
{
    g_string_free(outcome->out, TRUE);
    g_string_free(outcome->problems, TRUE);
}

static void
test_same(void)
{
    g_autofree char *line = technique_line(TECHNIQUE_POST_COPY, 1.0);
    g_autofree char *two = g_strconcat(line, "\n\n", line, NULL);
    Outcome outcome = replay(two, 0.1, false, false);

    g_assert_cmpint(outcome.result, ==, REPLAY_SAME);
    g_assert_cmpstr(outcome.out->str, ==, "2 decisions: 2 the same, 0 differ\n");
    g_assert_cmpuint(outcome.problems->len, ==, 0);
    outcome_clear(&outcome);
}

static void
test_differs(void)
{
    g_autofree char *same = technique_line(TECHNIQUE_POST_COPY, 1.0);
    g_autofree char *other = technique_line(TECHNIQUE_HYBRID, 1.0);
    g_autofree char *text = g_strconcat(same, "\n", other, "\n", NULL);
    g_autofree char *updated = NULL;
    Outcome outcome = replay(text, 0.1, false, false);

    g_assert_cmpint(outcome.result, ==, REPLAY_DIFFERS);
    g_assert_true(g_str_has_prefix(
        outcome.out->str, "line 2: technique web?[2J, 1970-01-01T00:00:00Z\n  was  post-copy"));
    g_assert_nonnull(
        strstr(outcome.out->str, "\n  decision.technique  \"hybrid\" -> \"post-copy\"\n"));
    g_assert_true(g_str_has_suffix(outcome.out->str, "\n2 decisions: 1 the same, 1 differ\n"));
    outcome_clear(&outcome);

    outcome = replay(text, 0.1, true, false);
    g_assert_cmpint(outcome.result, ==, REPLAY_DIFFERS);
    g_assert_nonnull(strstr(outcome.out->str, "\"field\" : \"decision.technique\""));
    g_assert_nonnull(strstr(outcome.out->str, "\"differ\" : 1"));
    outcome_clear(&outcome);

    /* What update prints is the same from then on. */
    outcome = replay(text, 0.1, false, true);
    g_assert_cmpint(outcome.result, ==, REPLAY_DIFFERS);
    updated = g_strdup(outcome.out->str);
    outcome_clear(&outcome);
    outcome = replay(updated, -1.0, false, false);
    g_assert_cmpint(outcome.result, ==, REPLAY_SAME);
    outcome_clear(&outcome);
}

static void
test_tolerance(void)
{
    g_autofree char *text = technique_line(TECHNIQUE_POST_COPY, 1.05);
    static const struct {
        double tolerance;
        ReplayResult result;
    } rows[] = { { 0.1, REPLAY_SAME }, { 0.01, REPLAY_DIFFERS }, { -1.0, REPLAY_DIFFERS } };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Outcome outcome = replay(text, rows[i].tolerance, false, false);

        g_assert_cmpint(outcome.result, ==, rows[i].result);
        g_assert_cmpint(strstr(outcome.out->str, "predictions moved") != NULL, ==, i == 0);
        outcome_clear(&outcome);
    }
}

static void
test_unreadable(void)
{
    g_autofree char *good = technique_line(TECHNIQUE_HYBRID, 1.0);
    g_autofree char *text = g_strconcat(good, "\nrub\x1b[2Jbish\n{}\n", good, "\n", NULL);
    Outcome outcome = replay(text, 0.1, false, false);

    /* The rest is replayed all the same. */
    g_assert_cmpint(outcome.result, ==, REPLAY_UNREADABLE);
    g_assert_true(g_str_has_suffix(outcome.out->str,
                                   "2 decisions: 0 the same, 2 differ; 2 cannot be read\n"));
    g_assert_cmpstr(outcome.problems->str, ==,
                    "file:2: the line is no JSON object\nfile:3: line.version is missing\n");
    outcome_clear(&outcome);
    outcome = replay("\n\n", 0.1, false, false);
    g_assert_cmpint(outcome.result, ==, REPLAY_UNREADABLE);
    g_assert_nonnull(strstr(outcome.problems->str, "no decision is recorded here"));
    outcome_clear(&outcome);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/replay/same", test_same);
    g_test_add_func("/replay/differs", test_differs);
    g_test_add_func("/replay/tolerance", test_tolerance);
    g_test_add_func("/replay/unreadable", test_unreadable);
    return g_test_run();
}
