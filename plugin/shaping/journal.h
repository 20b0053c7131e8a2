/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What of ours stands on interfaces, on disk before it stands there.
 *
 * Append-only, one JSON object a line:
 *   {"op":"root","device":"eth0","index":2}     about to be made
 *   {"op":"root","device":"eth0","gone":true}   was taken off again
 * op is "root", "ingress" or "ifb". index, where the device was there, finds one
 * that was renamed since: an ingress qdisc whose ifb is deleted drops all. The undo is rendered
 * from it, so nothing that the file says can make us run another command. Each append is fsync'ed.
 * When nothing is left the file is emptied. The file is locked (flock): one object on the
 * machine; safe for several threads.
 */
#pragma once

#include "shaping/tc.h"

typedef struct ShapingJournal ShapingJournal;

enum { SHAPING_JOURNAL_BYTES_MAX = 1 << 20, SHAPING_JOURNAL_LINE_MAX = 512 };

/*
 * Opens or makes `directory`/shaping.journal (0600). The directory exists.
 * SHAPING_ERROR_REFUSED: another process has it open.
 */
ShapingJournal *shaping_journal_open(const char *directory, GError **error);
void shaping_journal_close(ShapingJournal *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ShapingJournal, shaping_journal_close)

/* On failure nothing may be made: the caller stops. */
gboolean shaping_journal_about_to_make(ShapingJournal *self, ShapingLeaves what, const char *device,
                                       GError **error);
gboolean shaping_journal_gone(ShapingJournal *self, ShapingLeaves what, const char *device,
                              GError **error);

/* Nothing of ours stands anywhere, as far as the file knows. */
gboolean shaping_journal_is_empty(ShapingJournal *self);

/*
 * While no shaper has anything up: takes off in reverse order what the file says
 * still stands and what the kernel confirms to be ours (handle and kind), then
 * empties the file. Torn or foreign lines, missing devices and things already
 * gone are passed over. *ret_undone (may be NULL) counts what was taken off.
 * An undo that fails is kept in the file and reported, after the rest.
 */
gboolean shaping_journal_restore(ShapingJournal *self, unsigned *ret_undone, GError **error);
