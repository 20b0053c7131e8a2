/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Recorded decisions: every field of every struct goes out and comes back as
 * it was, what is not ours is refused with its name, and a decision that is
 * made differently now is seen.
 */
#include "daemon/recording.c"

#include <float.h>
#include <math.h>

#define MB UINT64_C(1000000)
#define LINK (125 * MB)

static Recording
technique_recording(void)
{
    Recording recording = {
        .kind = RECORDING_TECHNIQUE,
        .wall_us = G_GINT64_CONSTANT(1790000000123456),
        .about = "web \"1\"\n\u00e4",
    };

    recording.technique.input = (TechniqueInput){
        .priority = PRIORITY_HIGH,
        .allowed = TECHNIQUE_ALLOW_ALL,
        .has_previous = true,
        .previous = TECHNIQUE_HYBRID,
        .excluded = { NULL, "huge pages", NULL },
        .source_class = TRAFFIC_CLASS_MIXED,
        .source = { .valid = true, .in = 60 * MB, .out = 61 * MB },
        .vm = { .valid = false, .in = UINT64_MAX, .out = (UINT64_C(1) << 53) + 1 },
        .source_link = LINK,
        .destination_link = (uint64_t)INT64_MAX + 1,
        .memory = UINT64_C(512) << 20,
        .dirty = dirty_curve_from_rate(MB, 20 * MB, UINT64_C(512) << 20),
        .guaranteed = UINT64_C(1) << 32,
        .predict = predict_params_default(),
    };
    recording.technique.input.predict.unknown_working_set = 0.1 + 0.2;
    technique_decide(&recording.technique.input, &recording.technique.decision);
    return recording;
}

static const ScheduleItem waiting_items[] = {
    { .id = UINT64_MAX,
      .seconds = 1.0 / 3.0,
      .stream_rate = 100 * MB,
      .link = UINT32_MAX,
      .link_rate = LINK,
      .available_known = true,
      .available = LINK,
      .enqueued_us = -5 },
    { .id = 2,
      .priority = PRIORITY_HIGH,
      .technique = TECHNIQUE_POST_COPY,
      .seconds = (double)INFINITY,
      .relief = (double)NAN },
};
static const ScheduleItem running_items[] = { { .id = 3, .seconds = DBL_MIN } };

static Recording
schedule_recording(ScheduleVerdict *verdicts)
{
    Recording recording = { .kind = RECORDING_SCHEDULE, .about = "" };

    recording.schedule.input = (ScheduleInput){
        .waiting_count = G_N_ELEMENTS(waiting_items),
        .running_count = G_N_ELEMENTS(running_items),
        .waiting = (ScheduleItem *)waiting_items,
        .running = (ScheduleItem *)running_items,
        .params = schedule_params_default(),
    };
    g_assert_true(schedule_decide(waiting_items, G_N_ELEMENTS(waiting_items), running_items,
                                  G_N_ELEMENTS(running_items), &recording.schedule.input.params,
                                  verdicts));
    recording.schedule.decision = (ScheduleDecision){ G_N_ELEMENTS(waiting_items), verdicts };
    return recording;
}

static Recording
reserve_recording(void)
{
    Recording recording = { .kind = RECORDING_RESERVE, .about = "egress" };

    recording.reserve.input = reserve_input_init();
    recording.reserve.input.link = LINK;
    recording.reserve.input.lower = 10 * MB;
    recording.reserve.input.count[PRIORITY_MEDIUM] = 2;
    recording.reserve.decision.divided =
        reserve_divide(&recording.reserve.input, &recording.reserve.decision.reservation);
    return recording;
}

static const AllocateItem shared_items[] = {
    { .volume = 100 * MB, .weight = 16, .turn = ALLOCATE_TURN_TAKES, .place = UINT64_MAX },
    { .dirty_rate = MB, .weight = -1, .deadline_set = true, .time_left_ms = INT64_MIN },
};

static Recording
allocate_recording(AllocateShare *shares)
{
    return (Recording){
        .kind = RECORDING_ALLOCATE,
        .about = "ingress",
        .allocate = { { G_N_ELEMENTS(shared_items), (AllocateItem *)shared_items, 30 * MB },
                      { allocate_rates(shared_items, G_N_ELEMENTS(shared_items), 30 * MB, shares)
                            ? G_N_ELEMENTS(shared_items)
                            : 0,
                        shares } },
    };
}

static Recording
admit_recording(ScheduleIncoming *running, ScheduleIncoming *ahead)
{
    Recording recording = { .kind = RECORDING_ADMIT, .about = "web" };
    AdmitInput *input = &recording.admit.input;

    *running = (ScheduleIncoming){ .item = running_items[0], .source = 7 };
    *ahead = (ScheduleIncoming){ .item = waiting_items[1], .source = 8 };
    *input = (AdmitInput){ .candidate = { .item = waiting_items[0], .source = 7 },
                           .running = running,
                           .running_count = 1,
                           .ahead = ahead,
                           .ahead_count = 1,
                           .params = schedule_params_default() };
    recording.admit.decision.reason =
        schedule_admit(&input->candidate, running, 1, ahead, 1, &input->params);
    g_assert_cmpint(recording.admit.decision.reason, ==, SCHEDULE_WAIT_TURN);
    return recording;
}

/* The state is that before the step: it must survive with all that it remembers. */
static Recording
converge_recording(void)
{
    Recording recording = { .kind = RECORDING_CONVERGE, .about = "web" };
    ConvergeInput *input = &recording.converge.input;
    ConvergeState state = { 0 };

    input->limits = (ConvergeLimits){ .memory = 200 * MB, .post_copy_allowed = true };
    for (unsigned second = 0; second < 60; second++) {
        input->state = state;
        input->sample = (ConvergeSample){
            .time_us = G_GINT64_CONSTANT(1000000000) + second * G_GINT64_CONSTANT(1000000),
            .iteration = second / 5 + 1,
            .remaining = 200 * MB - second % 5 * 20 * MB,
            .transferred = second * 20 * MB,
            .dirty_rate = 30 * MB,
        };
        converge_step(&state, &input->sample, &input->limits, &recording.converge.decision);
        if (recording.converge.decision.action == CONVERGE_START_POST_COPY)
            return recording;
    }
    g_assert_not_reached();
}

static Recording
parallel_recording(void)
{
    Recording recording = { .kind = RECORDING_PARALLEL, .about = "web" };

    recording.parallel.input = (ParallelInput){ .both_ends_agree = true,
                                                .source_qemu = 8002000,
                                                .destination_qemu = 8002000,
                                                .available_known = true,
                                                .available = 3000 * MB,
                                                .one_stream_rate = 1000 * MB,
                                                .setting = PARALLEL_AUTO,
                                                .cores = 8 };
    recording.parallel.decision.connections = parallel_connections(&recording.parallel.input);
    g_assert_cmpuint(recording.parallel.decision.connections, >, 1);
    return recording;
}

static Recording *
read_line(const char *line)
{
    g_autoptr(GPtrArray) notes = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    Recording *recording = recording_from_line(line, strlen(line), notes, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(notes->len, ==, 0);
    return recording;
}

/* Out, in, and out again as it was; the same decision, to the last bit. */
static void
check_round_trip(const Recording *recording)
{
    g_autofree char *line = recording_to_line(recording);
    g_autoptr(Recording) back = read_line(line);
    g_autofree char *again = recording_to_line(back);
    g_autoptr(Recording) now = recording_decide_again(back);
    g_autoptr(GPtrArray) differences = recording_compare(recording, now, -1.0);

    g_test_message("%s", line);
    g_assert_cmpstr(line, ==, again);
    g_assert_null(strchr(line, '\n'));
    g_assert_cmpint(back->wall_us, ==, recording->wall_us);
    g_assert_cmpstr(back->about, ==, recording->about);
    g_assert_cmpuint(differences->len, ==, 0);
}

static void
test_round_trip(void)
{
    ScheduleVerdict verdicts[G_N_ELEMENTS(waiting_items)];
    Recording technique = technique_recording();
    Recording schedule = schedule_recording(verdicts);
    Recording reserve = reserve_recording();
    AllocateShare shares[G_N_ELEMENTS(shared_items)];
    Recording allocate = allocate_recording(shares);
    ScheduleIncoming running;
    ScheduleIncoming ahead;
    Recording admit = admit_recording(&running, &ahead);
    Recording converge = converge_recording();
    Recording parallel = parallel_recording();
    TechniqueWeights weights = { 1e-300, 0.1, -0.0, 1e300 };
    g_autofree char *line = recording_to_line(&technique);
    g_autoptr(Recording) back = read_line(line);

    check_round_trip(&technique);
    check_round_trip(&schedule);
    check_round_trip(&reserve);
    check_round_trip(&allocate);
    check_round_trip(&admit);
    check_round_trip(&converge);
    check_round_trip(&parallel);
    g_assert_cmpuint(back->technique.input.vm.in, ==, UINT64_MAX);
    g_assert_cmpuint(back->technique.input.vm.out, ==, (UINT64_C(1) << 53) + 1);
    g_assert_cmpuint(back->technique.input.destination_link, ==, UINT64_C(1) << 63);
    g_assert_true(back->technique.input.predict.unknown_working_set == 0.1 + 0.2);
    g_assert_cmpstr(back->technique.input.excluded[1], ==, "huge pages");
    g_assert_null(back->technique.input.weights);
    technique.technique.input.weights = &weights;
    technique_decide(&technique.technique.input, &technique.technique.decision);
    check_round_trip(&technique);
}

/* Doubles of any bits and integers of any size. */
static void
test_numbers_survive(void)
{
    ScheduleItem item = { 0 };
    ScheduleVerdict verdict = { 0 };

    g_random_set_seed(1);
    for (unsigned i = 0; i < 5000; i++) {
        Recording recording = { .kind = RECORDING_SCHEDULE, .about = "" };
        double power = pow(10.0, (double)i - 320.0);
        uint64_t bits = (uint64_t)g_random_int() << 32 | g_random_int();
        g_autofree char *line = NULL;
        g_autoptr(Recording) back = NULL;

        /* The powers of ten first: they have a notation of their own. */
        if (i < 640)
            memcpy(&bits, &power, sizeof(bits));
        item.id = bits;
        memcpy(&item.seconds, &bits, sizeof(bits));
        recording.schedule.input = (ScheduleInput){ .waiting_count = 1, .waiting = &item };
        recording.schedule.decision = (ScheduleDecision){ 1, &verdict };
        line = recording_to_line(&recording);
        back = read_line(line);
        g_assert_cmpuint(back->schedule.input.waiting[0].id, ==, bits);
        if (isnan(item.seconds))
            g_assert_true(isnan(back->schedule.input.waiting[0].seconds));
        else
            g_assert_true(memcmp(&back->schedule.input.waiting[0].seconds, &bits, 8) == 0);
    }
}

/* A struct that grew: its new field must be in the table. */
static void
test_tables_cover(void)
{
    static const struct {
        const char *name;
        const Field *fields;
        size_t size;
    } rows[] = {
#define ROW(table, type) { #type, table, sizeof(type) }
        ROW(rates_fields, TrafficRates),
        ROW(curve_fields, DirtyCurve),
        ROW(predict_fields, PredictParams),
        ROW(weights_fields, TechniqueWeights),
        ROW(correction_fields, CalibrationCorrection),
        ROW(technique_input_fields, TechniqueInput),
        ROW(prediction_fields, Prediction),
        ROW(technique_decision_fields, TechniqueDecision),
        ROW(item_fields, ScheduleItem),
        ROW(params_fields, ScheduleParams),
        ROW(schedule_input_fields, ScheduleInput),
        ROW(verdict_fields, ScheduleVerdict),
        ROW(schedule_decision_fields, ScheduleDecision),
        ROW(reserve_input_fields, ReserveInput),
        ROW(class_fields, ReserveClass),
        ROW(reservation_fields, Reservation),
        ROW(reserve_decision_fields, ReserveDecision),
        ROW(allocate_item_fields, AllocateItem),
        ROW(allocate_input_fields, AllocateInput),
        ROW(share_fields, AllocateShare),
        ROW(allocate_decision_fields, AllocateDecision),
        ROW(incoming_fields, ScheduleIncoming),
        ROW(admit_input_fields, AdmitInput),
        ROW(admit_decision_fields, AdmitDecision),
        ROW(state_fields, ConvergeState),
        ROW(sample_fields, ConvergeSample),
        ROW(limits_fields, ConvergeLimits),
        ROW(converge_input_fields, ConvergeInput),
        ROW(converge_decision_fields, ConvergeDecision),
        ROW(parallel_input_fields, ParallelInput),
        ROW(parallel_decision_fields, ParallelDecision),
#undef ROW
    };
    const Field without_last[] = {
        { FIELD_AT(TrafficRates, valid, .kind = FIELD_BOOL) },
        { FIELD_AT(TrafficRates, in, .kind = FIELD_UNSIGNED) },
        { 0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_test_message("%s", rows[i].name);
        g_assert_cmpuint(fields_gap(rows[i].fields, rows[i].size), ==, SIZE_MAX);
    }
    g_assert_cmpuint(fields_gap(without_last, sizeof(TrafficRates)), ==,
                     offsetof(TrafficRates, out));
}

static void
check_names(const char *const *names, const char *(*to_string)(unsigned), bool equal)
{
    unsigned i = 0;

    for (; names[i] != NULL; i++) {
        if (equal)
            g_assert_cmpstr(names[i], ==, to_string(i));
    }
    /* And no value more: it would be written, but not read. */
    g_assert_cmpstr(to_string(i), ==, "unknown");
}

static const char *
priority_name(unsigned value)
{
    return priority_to_string((Priority)value);
}

static const char *
technique_name(unsigned value)
{
    return technique_to_string((Technique)value);
}

static const char *
class_name(unsigned value)
{
    return traffic_class_to_string((TrafficClass)value);
}

static const char *
rule_name(unsigned value)
{
    return technique_rule_to_string((TechniqueRule)value);
}

static const char *
reason_name(unsigned value)
{
    return schedule_reason_to_string((ScheduleReason)value);
}

static const char *
share_name(unsigned value)
{
    return allocate_reason_to_string((AllocateReason)value);
}

static void
test_names(void)
{
    check_names(priority_names, priority_name, true);
    check_names(technique_names, technique_name, true);
    check_names(class_names, class_name, true);
    check_names(rule_names, rule_name, true);
    check_names(reason_names, reason_name, false);
    check_names(share_names, share_name, false);
}

static void
check_refused(const char *line, const char *needle)
{
    g_autoptr(GError) error = NULL;

    g_test_message("%.100s -> %s", line, needle);
    g_assert_null(recording_from_line(line, strlen(line), NULL, &error));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA);
    g_test_message("%s", error->message);
    g_assert_nonnull(strstr(error->message, needle));
}

/* One good line with one text replaced. */
static void
check_changed(const char *line, const char *from, const char *to, const char *needle)
{
    GString *changed = g_string_new(line);
    g_autofree char *text = NULL;

    g_assert_cmpuint(g_string_replace(changed, from, to, 1), ==, 1);
    text = g_string_free(changed, FALSE);
    check_refused(text, needle);
}

static void
test_refused(void)
{
    Recording technique = technique_recording();
    Recording reserve = reserve_recording();
    g_autofree char *line = recording_to_line(&technique);
    g_autofree char *reserve_line = recording_to_line(&reserve);
    g_autofree char *deep = g_strnfill(200000, '[');
    g_autofree char *deep_line = g_strconcat("{\"input\":", deep, NULL);
    g_autofree char *long_line = g_strnfill(RECORDING_LINE_MAX + 1, ' ');

    check_refused("", "no JSON object");
    check_refused("rubbish", "no JSON object");
    check_refused("{", "no JSON");
    check_refused("{\"a\":\"\xff\"}", "no JSON object");
    check_refused(deep_line, "nested deeper");
    check_refused(long_line, "longer");
    check_refused("{}", "line.version is missing");
    check_changed(line, "\"version\":1", "\"version\":2", "line.version is 2");
    check_changed(line, "\"kind\":\"technique\"", "\"kind\":\"schedule\"",
                  "input.waiting is missing");
    check_changed(line, "\"kind\":\"technique\"", "\"kind\":\"x\"", "line.kind is none");
    check_changed(line, "\"input\"", "\"inputs\"", "input is missing");
    check_changed(line, "\"memory\":", "\"memories\":", "input.memory is missing");
    check_changed(line, "\"memory\":536870912", "\"memory\":-1", "input.memory is not a whole");
    check_changed(line, "\"memory\":536870912", "\"memory\":1.5", "input.memory is not a whole");
    check_changed(line, "\"memory\":536870912", "\"memory\":\"18446744073709551616\"",
                  "input.memory is not a whole");
    check_changed(line, "\"memory\":536870912", "\"memory\":null", "input.memory is not a whole");
    check_changed(line, "\"allowed\":7", "\"allowed\":8", "input.allowed is 8, not within 0..7");
    check_changed(line, "\"priority\":\"high\"", "\"priority\":\"highest\"", "input.priority");
    check_changed(line, "\"priority\":\"high\"", "\"priority\":2", "input.priority");
    check_changed(line, "\"valid\":true", "\"valid\":1", "input.source.valid");
    check_changed(line, "\"rounds_maximum\":50", "\"rounds_maximum\":10001",
                  "input.predict.rounds_maximum");
    check_changed(line, "\"seconds\":", "\"seconds\":-", "input.dirty.point[0].seconds");
    check_changed(line, "\"excluded\":[", "\"excluded\":[null,", "input.excluded has 4 elements");
    check_changed(line, "\"excluded\":[null,\"huge pages\",null]", "\"excluded\":3",
                  "input.excluded is not an array");
    check_changed(line, "\"point\":[", "\"point\":[{},", "input.dirty.point[0].seconds is missing");
    check_changed(line, "\"weights\":null", "\"weights\":{\"time\":\"inf\"}",
                  "input.weights.time is not finite");
    check_changed(line, "\"technique\":\"", "\"technique\":\"x", "decision.technique");
    check_changed(reserve_line, "\"floor_percent\":5", "\"floor_percent\":101",
                  "input.floor_percent is 101");
}

static void
test_unknown_field(void)
{
    Recording reserve = reserve_recording();
    g_autofree char *line = recording_to_line(&reserve);
    g_autoptr(GPtrArray) notes = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    g_autoptr(Recording) back = NULL;
    GString *changed = g_string_new(line);
    g_autofree char *text = NULL;

    g_string_replace(changed, "\"lower\":", "\"later\":[{}],\"lower\":", 1);
    text = g_string_free(changed, FALSE);
    back = recording_from_line(text, strlen(text), notes, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(notes->len, ==, 1);
    g_assert_cmpstr(notes->pdata[0], ==, "input.later is not known: passed over");
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
test_tolerance(void)
{
    Recording before = technique_recording();
    Recording now = before;

    now.technique.decision.prediction[0].total_seconds *= 1.09;
    now.technique.decision.prediction[0].converges ^= true;
    now.technique.decision.reason[0] = '?';
    for (unsigned i = 0; i < 3; i++) {
        static const double tolerances[] = { 0.10, 0.05, -1.0 };
        g_autoptr(GPtrArray) differences = recording_compare(&before, &now, tolerances[i]);

        g_assert_cmpuint(differences->len, ==, 3);
        g_assert_cmpint(any_counts(differences), ==, i > 0);
    }
    /* What is applied counts to the byte. */
    now = before;
    now.technique.decision.rate_pre++;
    {
        g_autoptr(GPtrArray) differences = recording_compare(&before, &now, 0.5);
        const RecordingDifference *difference = differences->pdata[0];

        g_assert_cmpuint(differences->len, ==, 1);
        g_assert_true(difference->counts);
        g_assert_cmpstr(difference->field, ==, "decision.rate_pre");
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/recording/round-trip", test_round_trip);
    g_test_add_func("/recording/numbers-survive", test_numbers_survive);
    g_test_add_func("/recording/tables-cover", test_tables_cover);
    g_test_add_func("/recording/names", test_names);
    g_test_add_func("/recording/refused", test_refused);
    g_test_add_func("/recording/unknown-field", test_unknown_field);
    g_test_add_func("/recording/tolerance", test_tolerance);
    return g_test_run();
}
