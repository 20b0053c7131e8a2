/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How well are 1000 migrations predicted that others timed? Usage:
 *
 *     prediction-mvm tests/data/mvm-migrations.csv [build/bench/prediction.json]
 *
 * The exit status is 1 when the mean absolute error is above the target. Without the
 * second file only that is looked at.
 *
 * Calls the product's own functions and nothing else: rate profile, round
 * model, calibration. Four folds of plans teach, the fifth is predicted, five
 * times over; a plan is never in both. (The other way round, one fold teaching
 * four, shows what few observations give.)
 *
 * What a prediction uses of the migration itself: its memory, its dirty curve,
 * its two hosts, when it starts. Of the links: each node's rate, the largest of
 * any migration that touches it (link_mbit_per_s is the narrower end's). Of the
 * others in the same run: which are under way when it starts and since when;
 * for those still to start, how long after its own start they were PLANNED to.
 * How long each of them lasts is predicted as if it were alone. No end of any
 * migration of the fold that is tested is read, but to judge, and to know that
 * one that has ended is no longer under way.
 *
 * What teaches: the same, and from finished runs the measured starts and ends.
 *
 * Also judged: the same without calibration, with the measured starts of the
 * others, knowing nothing of them, and mVM's own model.
 */
#include "decision/calibrate.h"

#include <glib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define MIB 1048576.0
#define BYTES_PER_MBIT 125000.0
#define NODES 16
#define ROWS_MAX 4096
#define FOLDS 5
#define COLUMNS 16
/* A node's sending fills its link from this part on. */
#define FULL_PART 0.95
/* Of the mean absolute error. */
#define TARGET 0.05

typedef struct {
    int plan, run, vm, source, destination;
    double memory_mib, hot_mib, hot_seconds, cold_mib_s;
    double link; /* bytes/s */
    double start, end, measured, planned_start, planned_end, planned_duration;
} Row;

typedef struct {
    unsigned int count;
    Row row[ROWS_MAX];
    double node_link[NODES]; /* bytes/s */
} Table;

typedef enum {
    KNOWS_PLAN,   /* of the others: planned starts */
    KNOWS_STARTS, /* measured starts */
    KNOWS_NOTHING,
    KNOWS_ALL, /* measured starts and ends: only to learn from */
} Knowledge;

typedef struct {
    double from, until;
    int source, destination;
} Flow;

/* ---- the file ---------------------------------------------------------- */

static bool
row_parse(const char *line, Row *ret_row)
{
    g_auto(GStrv) words = g_strsplit(line, ",", -1);
    double value[COLUMNS];

    if (g_strv_length(words) != COLUMNS)
        return false;
    for (unsigned int i = 0; i < COLUMNS; i++) {
        char *end = NULL;

        value[i] = g_ascii_strtod(words[i], &end);
        if (end == words[i] || !isfinite(value[i]) || value[i] < 0)
            return false;
    }
    *ret_row = (Row){
        (int)value[0], (int)value[1], (int)value[2], (int)value[3], (int)value[4],
        value[5],      value[6],      value[7],      value[8],      value[9] * BYTES_PER_MBIT,
        value[10],     value[11],     value[12],     value[13],     value[14],
        value[15]
    };
    return ret_row->source < NODES && ret_row->destination < NODES && ret_row->measured > 0 &&
           ret_row->link > 0;
}

static Table *
table_read(const char *path)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) lines = NULL;
    Table *table = g_new0(Table, 1);

    if (!g_file_get_contents(path, &text, NULL, &error)) {
        fprintf(stderr, "prediction-mvm: %s\n", error->message);
        exit(1);
    }
    lines = g_strsplit(text, "\n", -1);
    for (unsigned int i = 1; lines[0] != NULL && lines[i] != NULL; i++) {
        Row *row = &table->row[table->count];

        if (lines[i][0] == '\0')
            continue;
        if (table->count == ROWS_MAX || !row_parse(g_strchomp(lines[i]), row)) {
            fprintf(stderr, "prediction-mvm: %s:%u: no such row is expected\n", path, i + 1);
            exit(1);
        }
        table->node_link[row->source] = fmax(table->node_link[row->source], row->link);
        table->node_link[row->destination] = fmax(table->node_link[row->destination], row->link);
        table->count++;
    }
    if (table->count == 0) {
        fprintf(stderr, "prediction-mvm: %s: no rows\n", path);
        exit(1);
    }
    return table;
}

/* ---- from a row to the product's inputs -------------------------------- */

static uint64_t
row_memory(const Row *row)
{
    return (uint64_t)(row->memory_mib * MIB);
}

static DirtyCurve
row_dirty(const Row *row)
{
    DirtyCurve curve = { 0 };
    double hot = row->hot_mib * MIB;
    double cold_seconds =
        row->cold_mib_s > 0 ? fmax(row->memory_mib - row->hot_mib, 0) / row->cold_mib_s : 0;

    dirty_curve_add(&curve, row->hot_seconds, hot);
    dirty_curve_add(&curve, row->hot_seconds + cold_seconds, row->memory_mib * MIB);
    return curve;
}

static uint64_t
row_pair(const Row *row)
{
    g_autofree char *source = g_strdup_printf("node-%d", row->source);
    g_autofree char *destination = g_strdup_printf("node-%d", row->destination);

    return calibration_pair(source, destination);
}

static double
link_between(const Table *table, int source, int destination)
{
    return fmin(table->node_link[source], table->node_link[destination]);
}

static double
row_alone_seconds(const Table *table, const Calibration *calibration, const Row *row)
{
    CalibrationCorrection correction =
        calibration_for(calibration, row_pair(row), TECHNIQUE_PRE_COPY);
    RateProfile profile = rate_profile_constant(link_between(table, row->source, row->destination));
    DirtyCurve dirty = row_dirty(row);

    return calibration_predict(&correction, TECHNIQUE_PRE_COPY, row_memory(row), &profile, NULL,
                               &dirty, NULL, NULL)
        .total_seconds;
}

/* The others of the row's run, in seconds from its own start. alone: by row index. */
static unsigned int
find_flows(const Table *table, const Row *row, Knowledge knowledge, const double *alone,
           Flow *ret_flows)
{
    unsigned int count = 0;

    for (unsigned int i = 0; knowledge != KNOWS_NOTHING && i < table->count; i++) {
        const Row *other = &table->row[i];
        Flow flow = { .source = other->source, .destination = other->destination };

        if (other == row || other->plan != row->plan || other->run != row->run)
            continue;
        flow.from = other->start - row->start;
        if (knowledge == KNOWS_ALL) {
            flow.until = other->end - row->start;
        } else {
            if (flow.from <= 0 && other->end <= row->start)
                continue; /* it has ended already */
            if (flow.from > 0 && knowledge == KNOWS_PLAN)
                flow.from = fmax(other->planned_start - row->planned_start, 0);
            /* One that should have ended, and has not, ends soon. */
            flow.until = fmax(flow.from + alone[i], 1.0);
        }
        ret_flows[count++] = flow;
    }
    return count;
}

static int
compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;

    return (a > b) - (a < b);
}

/* What one link leaves to a stream of this row: all, or an equal share. */
static double
share_of_link(double link, double own, double others, unsigned int streams)
{
    return own + others <= link * 1.001 ? own : fmin(own, link / (streams + 1));
}

static void
add_segment(const Table *table, const Row *row, const Flow *flows, unsigned int count, double from,
            double until, RateProfile *profile)
{
    double own = link_between(table, row->source, row->destination);
    double out = 0, in = 0, reverse = 0;
    unsigned int streams_out = 0, streams_in = 0;

    for (unsigned int i = 0; i < count; i++) {
        double link = link_between(table, flows[i].source, flows[i].destination);

        if (flows[i].from > from || flows[i].until < until)
            continue;
        if (flows[i].source == row->source) {
            out += link;
            streams_out++;
        }
        if (flows[i].destination == row->destination) {
            in += link;
            streams_in++;
        }
        if (flows[i].source == row->destination)
            reverse += link;
    }
    rate_profile_add(profile, until,
                     fmin(share_of_link(table->node_link[row->source], own, out, streams_out),
                          share_of_link(table->node_link[row->destination], own, in, streams_in)),
                     reverse >= table->node_link[row->destination] * FULL_PART);
}

static RateProfile
row_profile(const Table *table, const Row *row, Knowledge knowledge, const double *alone)
{
    g_autofree Flow *flows = g_new0(Flow, table->count);
    unsigned int count = find_flows(table, row, knowledge, alone, flows);
    g_autofree double *times = g_new0(double, 2 * (size_t)count + 1);
    RateProfile profile = { 0 };
    unsigned int n_times = 0;
    double from = 0;

    for (unsigned int i = 0; i < count; i++) {
        times[n_times++] = flows[i].from;
        times[n_times++] = flows[i].until;
    }
    times[n_times++] = PREDICT_SECONDS_MAX;
    qsort(times, n_times, sizeof(times[0]), compare_doubles);
    for (unsigned int i = 0; i < n_times; i++) {
        if (times[i] <= from)
            continue;
        add_segment(table, row, flows, count, from, times[i], &profile);
        from = times[i];
    }
    return profile;
}

static void
learn(const Table *table, const Row *row, Calibration *calibration)
{
    RateProfile profile = row_profile(table, row, KNOWS_ALL, NULL);
    DirtyCurve dirty = row_dirty(row);
    Prediction raw =
        predict_migration_over(TECHNIQUE_PRE_COPY, row_memory(row), &profile, NULL, &dirty, NULL);
    CalibrationObservation observation =
        calibration_observation(row_pair(row), TECHNIQUE_PRE_COPY, &raw,
                                rate_profile_reverse_full(&profile, row->measured), row->measured);

    if (!calibration_add(calibration, &observation)) {
        fprintf(stderr, "prediction-mvm: plan %d, VM %d teaches nothing\n", row->plan, row->vm);
        exit(1);
    }
}

/* ---- judging ----------------------------------------------------------- */

typedef struct {
    unsigned int count;
    double sum, sum_signed;
    double error[2 * ROWS_MAX * FOLDS];
    unsigned int in_band;
} Score;

static void
score_add(Score *score, const Prediction *prediction, double measured)
{
    double error = prediction->total_seconds / measured - 1.0;

    score->sum += fabs(error);
    score->sum_signed += error;
    score->error[score->count++] = fabs(error);
    score->in_band +=
        prediction->total_seconds_low <= measured && measured <= prediction->total_seconds_high;
}

static double
score_mean(const Score *score)
{
    return score->count > 0 ? score->sum / score->count : NAN;
}

static double
score_percentile(Score *score, unsigned int percent)
{
    qsort(score->error, score->count, sizeof(double), compare_doubles);
    return score->count > 0 ? score->error[(score->count - 1) * percent / 100] : NAN;
}

typedef struct {
    Knowledge knowledge;
    bool calibrated;
    bool few; /* one fold teaches four */
} Variant;

/* by_kind: [500 Mbit/s, 1000 Mbit/s][2 GB, 3 GB]; may be NULL. */
static void
judge(const Table *table, const Variant *variant, Score *score, Score by_kind[2][2])
{
    for (int fold = 0; fold < FOLDS; fold++) {
        g_autofree Calibration *calibration = g_new0(Calibration, 1);
        g_autofree double *alone = g_new0(double, table->count);

        for (unsigned int i = 0; variant->calibrated && i < table->count; i++) {
            if ((table->row[i].plan % FOLDS == fold) == variant->few)
                learn(table, &table->row[i], calibration);
        }
        for (unsigned int i = 0; i < table->count; i++)
            alone[i] = row_alone_seconds(table, calibration, &table->row[i]);
        for (unsigned int i = 0; i < table->count; i++) {
            const Row *row = &table->row[i];
            CalibrationCorrection correction =
                calibration_for(calibration, row_pair(row), TECHNIQUE_PRE_COPY);
            RateProfile profile;
            DirtyCurve dirty = row_dirty(row);
            Prediction prediction;

            if ((row->plan % FOLDS == fold) == variant->few)
                continue;
            profile = row_profile(table, row, variant->knowledge, alone);
            prediction = calibration_predict(&correction, TECHNIQUE_PRE_COPY, row_memory(row),
                                             &profile, NULL, &dirty, NULL, NULL);
            score_add(score, &prediction, row->measured);
            if (by_kind != NULL)
                score_add(&by_kind[row->link > 500 * BYTES_PER_MBIT][row->memory_mib > 2500],
                          &prediction, row->measured);
        }
    }
}

static double
judge_mean(const Table *table, Variant variant)
{
    g_autofree Score *score = g_new0(Score, 1);

    judge(table, &variant, score, NULL);
    return score_mean(score);
}

/* What cannot be predicted: the same plan run twice, one run as forecast of the other. */
static double
repetition_error(const Table *table)
{
    double sum = 0;
    unsigned int count = 0;

    for (unsigned int i = 0; i < table->count; i++) {
        for (unsigned int j = 0; j < table->count; j++) {
            const Row *a = &table->row[i];
            const Row *b = &table->row[j];

            if (a->plan != b->plan || a->vm != b->vm || a->run == b->run)
                continue;
            sum += fabs(a->measured / b->measured - 1.0);
            count++;
        }
    }
    return count > 0 ? sum / count : NAN;
}

static double
mvm_own_error(const Table *table)
{
    double sum = 0;

    for (unsigned int i = 0; i < table->count; i++)
        sum += fabs(table->row[i].planned_duration / table->row[i].measured - 1.0);
    return sum / table->count;
}

static void
write_kinds(FILE *file, Score by_kind[2][2])
{
    static const char *const links[] = { "500", "1000" };
    static const char *const memories[] = { "2000", "3000" };

    fprintf(file, "  \"mvm_mean_absolute_error_by_kind\": {");
    for (int link = 0; link < 2; link++) {
        for (int memory = 0; memory < 2; memory++) {
            const Score *score = &by_kind[link][memory];

            fprintf(file, "%s\n    \"%s Mbit/s, %s MiB\": {\"count\": %u, \"error\": %.4f}",
                    link + memory > 0 ? "," : "", links[link], memories[memory], score->count,
                    score_mean(score));
            printf("  %4s Mbit/s, %s MiB: %.1f %% (%u)\n", links[link], memories[memory],
                   100 * score_mean(score), score->count);
        }
    }
    fprintf(file, "\n  },\n");
}

static int
write_all(const Table *table, Score *score, Score kinds[2][2], const char *path)
{
    g_autofree char *directory = g_path_get_dirname(path);
    FILE *file;

    (void)g_mkdir_with_parents(directory, 0755);
    file = fopen(path, "w");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    fprintf(file, "{\n  \"mvm_migrations\": %u,\n  \"mvm_mean_absolute_error\": %.4f,\n",
            score->count, score_mean(score));
    write_kinds(file, kinds);
    fprintf(file, "  \"mvm_median_absolute_error\": %.4f,\n", score_percentile(score, 50));
    fprintf(file, "  \"mvm_95th_absolute_error\": %.4f,\n", score_percentile(score, 95));
    fprintf(file, "  \"mvm_mean_signed_error\": %.4f,\n", score->sum_signed / score->count);
    fprintf(file, "  \"mvm_within_band\": %.4f,\n", (double)score->in_band / score->count);
    fprintf(file, "  \"mvm_error_with_measured_starts\": %.4f,\n",
            judge_mean(table, (Variant){ KNOWS_STARTS, true, false }));
    fprintf(file, "  \"mvm_error_without_schedule\": %.4f,\n",
            judge_mean(table, (Variant){ KNOWS_NOTHING, true, false }));
    fprintf(file, "  \"mvm_error_learnt_from_one_fold\": %.4f,\n",
            judge_mean(table, (Variant){ KNOWS_PLAN, true, true }));
    fprintf(file, "  \"mvm_error_without_calibration\": %.4f,\n",
            judge_mean(table, (Variant){ KNOWS_PLAN, false, false }));
    fprintf(file, "  \"mvm_error_of_its_own_model\": %.4f,\n", mvm_own_error(table));
    fprintf(file, "  \"mvm_error_of_repetition\": %.4f\n}\n", repetition_error(table));
    return fclose(file) == 0 ? 0 : 1;
}

int
main(int argc, char **argv)
{
    g_autofree Table *table = NULL;
    g_autofree Score *score = g_new0(Score, 1);
    g_autofree Score *kinds = g_new0(Score, 4);
    int status = 0;

    if (argc != 2 && argc != 3) {
        fprintf(stderr, "usage: prediction-mvm CSV [JSON]\n");
        return 2;
    }
    table = table_read(argv[1]);
    judge(table, &(Variant){ KNOWS_PLAN, true, false }, score, (Score(*)[2])kinds);
    printf("mVM's %u migrations: mean absolute error %.2f %% (target %.0f %%)\n", score->count,
           100 * score_mean(score), 100 * TARGET);
    /* Not a number is above any target. */
    if (!(score_mean(score) <= TARGET))
        status = 1;
    if (argc == 2)
        return status;
    status |= write_all(table, score, (Score(*)[2])kinds, argv[2]);
    printf("  median %.1f %%, 95th %.1f %%, within the band %.0f %%; mVM's own model %.1f %%\n",
           100 * score_percentile(score, 50), 100 * score_percentile(score, 95),
           100.0 * score->in_band / score->count, 100 * mvm_own_error(table));
    return status;
}
