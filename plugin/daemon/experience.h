/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What this host's finished migrations taught: the correction of predictions
 * (calibrate.h) and how fast each domain dirtied its memory when it last left.
 *
 * Lives in memory, bounded. The history file is its only store: a record has a
 * member "lesson", and a daemon that starts reads them again. That file is
 * outside input: a record that is no JSON, or whose numbers calibrate.h
 * refuses, teaches nothing.
 */
#pragma once

#include "decision/calibrate.h"

#include <glib.h>
#include <json-glib/json-glib.h>

/* Domains whose dirty curve is kept; the one that left longest ago makes room. */
#define EXPERIENCE_DOMAINS 256u

typedef struct Experience Experience;

/* One finished migration. */
typedef struct {
    CalibrationObservation observation;
    DirtyCurve dirty; /* invalid: not known */
} Lesson;

Experience *experience_new(void);
void experience_free(Experience *experience);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Experience, experience_free)

/* Reads both history files of the directory; how many records taught something. */
unsigned experience_load(Experience *experience, const char *directory);

/* One line of the history file; false when it teaches nothing. */
bool experience_read(Experience *experience, const char *line);

/* uuid may be NULL. False when the observation is refused; the dirty curve counts anyway. */
bool experience_learn(Experience *experience, const char *uuid, const Lesson *lesson);

const Calibration *experience_calibration(const Experience *experience);

/* The domain's dirty curve when it last left this host; false: never seen. */
bool experience_dirty(const Experience *experience, const char *uuid, DirtyCurve *ret_curve);

/* The lesson as the value of a member whose name was set. */
void lesson_to_json(const Lesson *lesson, JsonBuilder *builder);
