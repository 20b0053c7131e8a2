/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One direction of one uplink: put a plan up, move its rates, take it off.
 *
 * Everything blocks (some ms, at worst a few timeouts of 2 s): call from a
 * worker thread, one call at a time per object. It decides no rate.
 */
#pragma once

#include "shaping/features.h"
#include "shaping/journal.h"
#include "shaping/plan.h"

typedef struct Shaper Shaper;

/* `journal` and `features` outlive the shaper. An apply where nothing stands
 * renews the latter (shaping_features_renew): shapers of one thread share them. */
Shaper *shaper_new(const char *interface, ShapingDirection direction, ShapingJournal *journal,
                   ShapingFeatures *features);

/* Frees the object only; what stands keeps standing (the journal knows). */
void shaper_free(Shaper *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Shaper, shaper_free)

/*
 * Makes the kernel match `plan` (its interface and direction must be the
 * shaper's) by the fewest steps, then asks the kernel whether it does.
 * Applying the same plan twice runs no command. On failure everything of ours
 * in this direction is taken off, so the state is "unshaped", never "half";
 * only INVALID, REFUSED and UNSUPPORTED leave what stands, for nothing was
 * tried.
 *
 * What somebody else changed or took off since the last apply is not put up
 * again: CHANGED, now and at each later apply, until shaper_remove().
 */
gboolean shaper_apply(Shaper *self, const ShapingPlan *plan, GError **error);

/*
 * Asks the kernel whether all that the last apply put up stands as it was put
 * up. If not, what is left of ours is taken off, as above. An interface that is
 * gone is not judged, and nothing is when nothing was put up. Runs no command
 * while all is well.
 */
gboolean shaper_check(Shaper *self, GError **error);

/* Takes everything of ours off; true when there was nothing. */
gboolean shaper_remove(Shaper *self, GError **error);

/* Why the last apply was refused (REFUSED or UNSUPPORTED), for explain; NULL
 * when it was not. Valid until the next call. */
const char *shaper_refused_reason(const Shaper *self);

/* Of the last apply or remove: commands run (0: nothing to change) and
 * microseconds it took. */
unsigned shaper_last_steps(const Shaper *self);
gint64 shaper_last_duration_us(const Shaper *self);

/* The interface whose class counters tell about this direction: the uplink or
 * its ifb. */
const char *shaper_class_interface(const Shaper *self);
