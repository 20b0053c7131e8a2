/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files of one line of JSON per record. DIRECTORY/history.jsonl has one for each
 * finished migration, prediction beside outcome. At HISTORY_BYTES_MAX a file
 * becomes FILE.1 and a new one begins, so the two together are bounded. Losing a
 * record harms nobody: the caller only logs the error.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define HISTORY_BYTES_MAX (1024 * 1024)

#define HISTORY_FILE "history.jsonl"
/* The decisions (recorder.h). */
#define HISTORY_DECISIONS_FILE "decisions.jsonl"

/* Bytes of one line that are read; a longer one is passed over. */
#define HISTORY_LINE_MAX (256 * 1024)

typedef void (*HistoryLineFunc)(const char *line, gpointer user_data);

/*
 * Calls func with each whole line of both files, oldest first; whoever gets it
 * judges what is in it. A file that is absent, no regular file or larger than
 * twice HISTORY_BYTES_MAX has no lines; directory "" has none. Returns how many there were.
 */
unsigned history_read(const char *directory, HistoryLineFunc func, gpointer user_data);

/*
 * record: one JSON object without a line break. Makes the directory, not those above
 * it. Safe from one thread per file. False with a G_IO_ERROR that names the path.
 */
bool history_append(const char *directory, const char *file, const char *record, GError **error);
