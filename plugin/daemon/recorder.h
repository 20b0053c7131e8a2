/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes decisions down as they are made, in DIRECTORY/decisions.jsonl, which
 * is bounded and rotated as the history is. Nothing here can delay or fail a
 * migration: a thread of its own does the writing, and what cannot be written,
 * or comes faster than the disk takes it, is lost. The first loss in a row is
 * logged.
 */
#pragma once

#include "daemon/recording.h"

#define RECORDER_PENDING_MAX 64u /* lines that wait for the disk */

typedef struct Recorder Recorder;

Recorder *recorder_new(const char *directory);
/* Waits for what is not written yet. NULL is fine. */
void recorder_free(Recorder *recorder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Recorder, recorder_free)

/* Main loop only; nothing of the recording is kept. NULL recorder: does nothing. */
void recorder_add(Recorder *recorder, const Recording *recording);
