/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Decisions as lines of JSON: what a decision function was given, whole, and
 * what it answered, so that `virt-convoy replay` can give it the same again.
 *
 *   {"version":1,"kind":"technique","wall_us":...,"about":"web",
 *    "input":{...},"decision":{...}}
 *
 * Writing, reading and comparing go through the same table of fields, so they
 * cannot drift apart. Numbers survive exactly: doubles with 17 digits, integers
 * above 2^63 - 1 and doubles that are not finite as strings.
 */
#pragma once

#include "decision/allocate.h"
#include "decision/converge.h"
#include "decision/parallel.h"
#include "decision/reserve.h"
#include "decision/schedule.h"
#include "decision/technique.h"

#include <gio/gio.h>

#define RECORDING_VERSION 1u
#define RECORDING_LINE_MAX (512u * 1024u) /* bytes; a longer decision is not recorded */

typedef enum {
    RECORDING_TECHNIQUE = 0,
    RECORDING_SCHEDULE,
    RECORDING_RESERVE,
    RECORDING_ALLOCATE,
    RECORDING_ADMIT,
    RECORDING_CONVERGE,
    RECORDING_PARALLEL,
} RecordingKind;

/* Of schedule_decide(). Everything is owned by the recording. */
typedef struct {
    size_t waiting_count;
    size_t running_count;
    ScheduleItem *waiting;
    ScheduleItem *running;
    ScheduleParams params;
} ScheduleInput;

typedef struct {
    size_t count; /* waiting_count of the input */
    ScheduleVerdict *verdict;
} ScheduleDecision;

/* Of reserve_divide(); reservation is zero when it was not divided. */
typedef struct {
    bool divided;
    Reservation reservation;
} ReserveDecision;

/* Of allocate_rates(); no shares when it did not divide. */
typedef struct {
    size_t count;
    AllocateItem *item;
    uint64_t available;
} AllocateInput;

typedef struct {
    size_t count; /* 0, or that of the input */
    AllocateShare *share;
} AllocateDecision;

/* Of schedule_admit(). */
typedef struct {
    ScheduleIncoming candidate;
    size_t running_count;
    size_t ahead_count;
    ScheduleIncoming *running;
    ScheduleIncoming *ahead;
    ScheduleParams params;
} AdmitInput;

typedef struct {
    ScheduleReason reason;
} AdmitDecision;

/* Of converge_step(); the state is that before it. */
typedef struct {
    ConvergeState state;
    ConvergeSample sample;
    ConvergeLimits limits;
} ConvergeInput;

/* Of parallel_connections(). */
typedef struct {
    uint32_t connections;
} ParallelDecision;

typedef struct {
    RecordingKind kind;
    gint64 wall_us;    /* when, g_get_real_time() */
    const char *about; /* the domain, the direction, or "" */
    union {
        struct {
            TechniqueInput input;
            TechniqueDecision decision;
        } technique;
        struct {
            ScheduleInput input;
            ScheduleDecision decision;
        } schedule;
        struct {
            ReserveInput input;
            ReserveDecision decision;
        } reserve;
        struct {
            AllocateInput input;
            AllocateDecision decision;
        } allocate;
        struct {
            AdmitInput input;
            AdmitDecision decision;
        } admit;
        struct {
            ConvergeInput input;
            ConvergeDecision decision;
        } converge;
        struct {
            ParallelInput input;
            ParallelDecision decision;
        } parallel;
    };
    GPtrArray *memory; /* what a read recording points to; NULL: the caller's */
} Recording;

/* One line without its end. Free with g_free. */
char *recording_to_line(const Recording *recording);

/*
 * Reads one line (length bytes, any). NULL with an error that names the field
 * ("input.dirty.count: 9 is not within 0..8") when it is not one of ours, a
 * field is missing or out of its range. Fields that are not known are passed
 * over, each with a line in notes (char *, g_free; may be NULL).
 */
Recording *recording_from_line(const char *line, gsize length, GPtrArray *notes, GError **error);
void recording_free(Recording *recording);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Recording, recording_free)

/*
 * The same input to the same function now: a recording with its answer. It
 * borrows the input: free it first.
 */
Recording *recording_decide_again(const Recording *recording);

typedef struct {
    char *field;  /* "decision.technique", ... */
    char *before; /* as text */
    char *now;
    bool counts; /* false: a number that is only predicted, within the tolerance */
} RecordingDifference;

/*
 * How two decisions of one kind differ, RecordingDifference, in the order of the
 * fields; empty: not at all. Predicted numbers (times, costs, free rates) and
 * texts made of them count when they differ by more than tolerance (a fraction;
 * texts never), everything else always. tolerance < 0: everything counts.
 */
GPtrArray *recording_compare(const Recording *before, const Recording *now, double tolerance);

/* "technique", "schedule", ... */
const char *recording_kind_to_string(RecordingKind kind);

/* One line for people: what was decided. Free with g_free. */
char *recording_describe(const Recording *recording);
