/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One line of JSON per finished migration, prediction beside outcome, in
 * DIRECTORY/history.jsonl. At HISTORY_BYTES_MAX the file becomes
 * history.jsonl.1 and a new one begins, so the two together are bounded.
 * Losing a record harms nobody: the caller only logs the error.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define HISTORY_BYTES_MAX (1024 * 1024)

#define HISTORY_FILE "history.jsonl"
/* The decisions (recorder.h) are kept and bounded in the same way. */
#define HISTORY_DECISIONS_FILE "decisions.jsonl"

/* Bytes of one line that are read; a longer one is passed over. */
#define HISTORY_LINE_MAX (256 * 1024)

typedef void (*HistoryLineFunc)(const char *line, gpointer user_data);

/*
 * Calls func with each whole line of both files, oldest first; whoever gets it
 * judges what is in it. A file that is absent, no regular file or larger than
 * twice HISTORY_BYTES_MAX has no lines. Returns how many there were.
 */
unsigned history_read(const char *directory, HistoryLineFunc func, gpointer user_data);

/* record: one JSON object without a line break. */
bool history_append(const char *directory, const char *record, GError **error);

/* The same into another file of the directory. Safe from one thread per file. */
bool history_append_line(const char *directory, const char *file, const char *line, GError **error);
