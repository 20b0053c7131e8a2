/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What this host's finished migrations taught: the correction of predictions
 * (calibrate.h), what one stream reaches on the way to each host (parallel.h),
 * and for each domain how much memory it had and how fast it dirtied it when it
 * last left.
 *
 * Lives in memory, bounded. The history file is its only store: a record has a
 * member "lesson", and a daemon that starts reads them again. That file is
 * outside input: a record that is no JSON, or whose numbers calibrate.h
 * refuses, teaches nothing.
 */
#pragma once

#include "decision/calibrate.h"
#include "decision/parallel.h"

#include <glib.h>
#include <json-glib/json-glib.h>

/* Domains that are remembered; the one that left longest ago makes room. */
#define EXPERIENCE_DOMAINS 256u
/* Pairs of hosts whose streams are remembered; the one learnt from longest ago makes room. */
#define EXPERIENCE_PAIRS 256u

typedef struct Experience Experience;

/* One finished migration. */
typedef struct {
    CalibrationObservation observation;
    DirtyCurve dirty; /* invalid: not known */
    ParallelObservation stream;
    /*
     * The pair by the name that its URI has for the destination; 0: none. Before
     * the name is resolved nothing else is known (see observation.pair).
     */
    uint64_t named_pair;
} Lesson;

Experience *experience_new(void);
void experience_free(Experience *experience);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Experience, experience_free)

/* Reads both history files of the directory ("": none); how many records taught something. */
unsigned experience_load(Experience *experience, const char *directory);

/* One line of the history file; false when it teaches nothing. */
bool experience_read(Experience *experience, const char *line);

/*
 * uuid may be NULL. False when the observation is refused, as is one without a
 * measured time; what is known of the domain counts anyway.
 */
bool experience_learn(Experience *experience, const char *uuid, const Lesson *lesson);

/* The pair that was last learnt of under such a name; named_pair itself if none was. */
uint64_t experience_pair(const Experience *experience, uint64_t named_pair);

/*
 * Bytes/s that one stream reaches between that pair, parallel_stream_rate(); 0:
 * as much as it gets, as far as is known.
 */
uint64_t experience_stream_rate(const Experience *experience, uint64_t pair);

/*
 * The same while the destination is not known: the highest of all pairs, and 0
 * when one of them fills what it gets.
 */
uint64_t experience_stream_rate_anywhere(const Experience *experience);

/* The correction of predictions so far; lives, and learns, as long as experience does. */
const Calibration *experience_calibration(const Experience *experience);

/* How the domain was when it last left this host; NULL: never seen. Valid until the next is learnt.
 */
const Lesson *experience_domain(const Experience *experience, const char *uuid);

/*
 * Bytes to move of a domain whose QEMU process has `resident` bytes now (0:
 * unknown) and which may use `limit`: what it was when it last left, and what
 * the process has grown by since; one never seen: calibration_memory().
 */
uint64_t experience_memory(const Experience *experience, const char *uuid, uint64_t resident,
                           uint64_t limit);

/* The lesson as the value of a member whose name was set. */
void lesson_to_json(const Lesson *lesson, JsonBuilder *builder);
