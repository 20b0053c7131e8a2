/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a daemon that starts again must know of post-copies that were under way:
 * without it nobody could resume one whose path broke (manager-recover.c).
 *
 * One small file for each in DIRECTORY/post-copy, named by UUID, written
 * atomically when post-copy begins and removed at the migration's end. What is
 * read is checked as if a stranger had written it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Bytes of each text. */
#define UNFINISHED_TEXT_MAX 4096u
/* Files that are read; a host does not have that many migrations at once. */
#define UNFINISHED_MAX 1024u

typedef struct {
    char *uuid;
    char *name;
    char *destination_uri;  /* of the other libvirtd; NULL: by the configuration */
    char *migrate_uri;      /* NULL: libvirt chooses */
    char *destination_name; /* NULL: the same */
    uint64_t flags;         /* of the call that began it */
    bool peer_to_peer;
} Unfinished;

void unfinished_free(Unfinished *unfinished);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Unfinished, unfinished_free)

/* Replaces what was there for that UUID. False with error; nothing half is left then. */
bool unfinished_write(const char *directory, const Unfinished *unfinished, GError **error);

/* Absent is fine, and so is what is no UUID. */
void unfinished_remove(const char *directory, const char *uuid);

/*
 * All that can be read (Unfinished *, owned by the array). What cannot is passed
 * over, with a line in problems (char *, g_free).
 */
GPtrArray *unfinished_list(const char *directory, GPtrArray *problems);
