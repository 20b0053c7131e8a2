/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Recorded decisions, made again: what would this program decide today? It
 * needs neither a daemon nor libvirt.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define REPLAY_TOLERANCE_DEFAULT 0.1
#define REPLAY_FILE_MAX (64u * 1024u * 1024u) /* bytes */

typedef struct {
    double tolerance; /* of predicted numbers, a fraction; < 0: everything counts */
    bool json;
    bool update; /* instead: the lines themselves, with what would be decided now */
} ReplayOptions;

/* In the order of weight: a file may be all three. */
typedef enum {
    REPLAY_SAME = 0,
    REPLAY_DIFFERS = 1,
    REPLAY_UNREADABLE = 2, /* a line of it, or there is none */
} ReplayResult;

/*
 * Replays the lines of text (length bytes, any). What is found is appended to
 * out for people, or as one JSON object; what cannot be read, and notes, to
 * problems as "name:line: why". No control characters in either but line ends.
 */
ReplayResult replay_text(const char *name, const char *text, gsize length,
                         const ReplayOptions *options, GString *out, GString *problems);
