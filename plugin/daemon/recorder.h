/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes decisions down as they are made, and finished migrations into the
 * history (history.h, which bounds both files). Nothing here can delay or fail a
 * migration: a thread of its own does the writing, and what cannot be written,
 * or comes faster than the disk takes it, is lost. The first loss in a row is
 * logged.
 */
#pragma once

#include "daemon/recording.h"

/* Lines that wait for the disk: what comes when there are more is lost. */
#define RECORDER_PENDING_MAX 64u           /* a decision */
#define RECORDER_HISTORY_PENDING_MAX 1024u /* a finished migration: few, and worth more */

typedef struct Recorder Recorder;

/* directory: absolute; NULL is returned for "", and nothing is recorded then. */
Recorder *recorder_new(const char *directory);
/* Waits for what is not written yet. NULL is fine. */
void recorder_free(Recorder *recorder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Recorder, recorder_free)

/* Main loop only; nothing of the recording is kept. NULL recorder: does nothing. */
void recorder_add(Recorder *recorder, const Recording *recording);

/* Likewise; record: one JSON object without a line break, taken over. */
void recorder_add_history(Recorder *recorder, char *record);
