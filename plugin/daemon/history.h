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

/* record: one JSON object without a line break. */
bool history_append(const char *directory, const char *record, GError **error);
