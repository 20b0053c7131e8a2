/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Observe, differ, journal, run, observe again. All or nothing: a failure
 * takes off what stands in this direction, for half a tree would be worse than
 * none.
 */
#include "shaping/shaper.h"

#include "shaping/observe.h"
#include "shaping/tc.h"

#include <string.h>

struct Shaper {
    char interface[IF_NAMESIZE];
    int ifindex;              /* what the interface was; 0: it did not exist yet */
    char device[IF_NAMESIZE]; /* its present name; empty: it is gone */
    char ifb_name[IF_NAMESIZE];
    ShapingDirection direction;
    ShapingJournal *journal;
    ShapingFeatures features; /* as known when what stands was put up */
    ShapingFeatures *known_features;
    bool made_ingress;     /* this process made the ingress qdisc: ours though empty */
    ShapingPlan *standing; /* normalised, as last applied; NULL: nothing was, or it is off */
    char *changed;         /* what somebody else did to it; NULL: nothing */
    char *refused_reason;
    unsigned last_steps;
    gint64 last_duration_us;
};

/* The uplink and, for ingress, its ifb (else an empty one). */
typedef struct {
    Observed *uplink;
    Observed *ifb;
} View;

static void
view_clear(View *view)
{
    observed_free(view->uplink);
    observed_free(view->ifb);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(View, view_clear)

Shaper *
shaper_new(const char *interface, ShapingDirection direction, ShapingJournal *journal,
           ShapingFeatures *features)
{
    Shaper *self = g_new0(Shaper, 1);

    g_strlcpy(self->interface, interface, sizeof self->interface);
    self->direction = direction;
    self->journal = journal;
    self->known_features = features;
    self->ifindex = (int)if_nametoindex(self->interface);
    shaping_ifb_name(self->ifindex, self->ifb_name);
    return self;
}

void
shaper_free(Shaper *self)
{
    if (self == NULL)
        return;
    g_free(self->standing);
    g_free(self->changed);
    g_free(self->refused_reason);
    g_free(self);
}

/*
 * By the index: a device that got another name still has our tree, and an
 * ingress qdisc whose ifb is deleted under it drops all that comes in.
 */
static gboolean
view_take(Shaper *self, View *view, GError **error)
{
    g_clear_pointer(&view->uplink, observed_free);
    g_clear_pointer(&view->ifb, observed_free);
    if (self->ifindex == 0 || if_indextoname((unsigned)self->ifindex, self->device) == NULL)
        self->device[0] = '\0';
    view->uplink =
        self->device[0] != '\0' ? shaping_observe(self->device, error) : observed_new_empty();
    if (view->uplink == NULL)
        return FALSE;
    /* When the uplink went, its ifb did not. */
    view->ifb = self->direction == SHAPING_EGRESS ? observed_new_empty()
                                                  : shaping_observe(self->ifb_name, error);
    return view->ifb != NULL;
}

/*
 * An ingress qdisc that this object made but whose filter is missing is ours;
 * for the kernel's view alone it could be anybody's.
 */
static char *
view_foreign_reason(const Shaper *self, const View *view)
{
    g_autofree char *reason =
        observed_foreign_reason(view->uplink, self->direction, view->ifb->ifindex);
    bool redirects;

    if (self->direction == SHAPING_INGRESS && view->ifb->exists) {
        if (strcmp(view->ifb->link_kind, "ifb") != 0)
            return g_strdup_printf("a device %s that is no ifb stands there", self->ifb_name);
        if (reason == NULL)
            reason = observed_foreign_reason(view->ifb, SHAPING_EGRESS, 0);
    }
    if (reason != NULL && self->made_ingress &&
        observed_has_our_ingress(view->uplink, view->ifb->ifindex, &redirects) && !redirects)
        return NULL;
    return g_steal_pointer(&reason);
}

static gboolean
shaper_refuse(Shaper *self, ShapingError code, const char *reason, GError **error)
{
    g_free(self->refused_reason);
    self->refused_reason = g_strdup_printf("%s: %s", self->interface, reason);
    g_set_error_literal(error, SHAPING_ERROR, (gint)code, self->refused_reason);
    return FALSE;
}

/* Everything of ours in this direction off, whatever of it stands. */
static gboolean
shaper_take_off(Shaper *self, unsigned *ret_steps, GError **error)
{
    g_auto(View) view = { 0 };
    g_autoptr(GPtrArray) steps = NULL;
    g_autoptr(GError) failure = NULL;
    unsigned done = 0;

    g_clear_pointer(&self->standing, g_free);
    if (!view_take(self, &view, error))
        return FALSE;
    steps = shaping_difference_remove(self->device, self->direction, view.uplink, view.ifb,
                                      self->made_ingress);
    /* Never past one that fails: without its ifb a redirect that stands drops what comes in. */
    while (done < steps->len) {
        g_autoptr(GPtrArray) one = g_ptr_array_new();

        g_ptr_array_add(one, g_ptr_array_index(steps, done));
        if (!shaping_run(one, &failure))
            break;
        done++;
    }
    if (ret_steps != NULL)
        *ret_steps = done;
    if (steps->len > 0) {
        g_autoptr(GPtrArray) left = NULL;

        if (!view_take(self, &view, failure == NULL ? &failure : NULL)) {
            g_propagate_error(error, g_steal_pointer(&failure));
            return FALSE;
        }
        left = shaping_difference_remove(self->device, self->direction, view.uplink, view.ifb,
                                         self->made_ingress);
        if (left->len > 0) {
            if (failure == NULL)
                g_set_error(&failure, SHAPING_ERROR, SHAPING_ERROR_FAILED,
                            "%s: shaping still stands after its removal", self->interface);
            g_propagate_error(error, g_steal_pointer(&failure));
            return FALSE;
        }
    }
    self->made_ingress = false;
    if (self->direction == SHAPING_EGRESS)
        return shaping_journal_gone(self->journal, SHAPING_LEAVES_ROOT, self->interface, error);
    return shaping_journal_gone(self->journal, SHAPING_LEAVES_INGRESS, self->interface, error) &&
           shaping_journal_gone(self->journal, SHAPING_LEAVES_IFB, self->ifb_name, error);
}

static gboolean
steps_journal(Shaper *self, GPtrArray *steps, GError **error)
{
    for (guint i = 0; i < steps->len; i++) {
        const ShapingStep *step = g_ptr_array_index(steps, i);

        if (!shaping_journal_about_to_make(self->journal, step->leaves, step->device, error))
            return FALSE;
        if (step->leaves == SHAPING_LEAVES_INGRESS)
            self->made_ingress = true;
    }
    return TRUE;
}

/* The kernel's answer, not the exit code of tc, says what stands. */
static gboolean
shaper_verify(Shaper *self, const ShapingPlan *plan, GError **error)
{
    g_auto(View) view = { 0 };
    g_autoptr(GPtrArray) left = NULL;
    g_autofree char *step = NULL;

    if (!view_take(self, &view, error))
        return FALSE;
    left = shaping_difference(plan, view.uplink, view.ifb, &self->features);
    if (left->len == 0)
        return TRUE;
    step = shaping_step_to_string(g_ptr_array_index(left, 0));
    g_set_error(error, SHAPING_ERROR, SHAPING_ERROR_FAILED,
                "%s: the kernel did not take all of it; missing: %s", self->interface, step);
    return FALSE;
}

/* What a change of ours never takes away. New text; NULL: it is there. */
static char *
view_missing(const Shaper *self, const View *view)
{
    const Observed *shaped = self->direction == SHAPING_EGRESS ? view->uplink : view->ifb;
    bool redirects = false;

    if (!shaped->exists)
        return g_strdup_printf("our device %s is gone", self->ifb_name);
    if (!observed_has_our_root(shaped))
        return g_strdup_printf("our qdisc htb %x: is gone from %s", SHAPING_HANDLE_MAJOR,
                               shaped->name);
    if (self->direction == SHAPING_INGRESS &&
        (!observed_has_our_ingress(view->uplink, view->ifb->ifindex, &redirects) || !redirects))
        return g_strdup_printf("what comes in is not redirected to %s alone", self->ifb_name);
    return NULL;
}

/* What somebody else did to what stood. New text; NULL: nothing. */
static char *
view_deviation(const Shaper *self, const View *view)
{
    g_autofree char *missing = view_missing(self, view);
    g_autofree char *foreign = view_foreign_reason(self, view);
    g_autoptr(GPtrArray) steps = NULL;
    g_autofree char *step = NULL;

    if (missing != NULL && foreign != NULL)
        return g_strdup_printf("%s, and %s", missing, foreign);
    if (missing != NULL || foreign != NULL)
        return missing != NULL ? g_steal_pointer(&missing) : g_steal_pointer(&foreign);
    steps = shaping_difference(self->standing, view->uplink, view->ifb, &self->features);
    if (steps->len == 0)
        return NULL;
    step = shaping_step_to_string(g_ptr_array_index(steps, 0));
    return g_strdup_printf("it would take: %s", step);
}

/* Whoever changed it knows why: what is left of ours goes, and nothing is put up again. */
static void
shaper_give_up(Shaper *self, const char *found, GError **error)
{
    g_autoptr(GError) failure = NULL;

    if (!shaper_take_off(self, NULL, &failure))
        self->changed = g_strdup_printf("%s: somebody else changed what was put up (%s), and "
                                        "taking off what is left failed: %s",
                                        self->interface, found, failure->message);
    else
        self->changed = g_strdup_printf("%s: somebody else changed what was put up (%s)",
                                        self->interface, found);
    g_set_error_literal(error, SHAPING_ERROR, SHAPING_ERROR_CHANGED, self->changed);
}

/* One that goes while it is looked at loses its qdiscs first. */
static bool
shaper_device_stands(const Shaper *self)
{
    return (int)if_nametoindex(self->device) == self->ifindex;
}

static gboolean
shaper_judge(Shaper *self, const View *view, GError **error)
{
    g_autofree char *found = NULL;

    if (self->standing == NULL || !view->uplink->exists)
        return TRUE;
    found = view_deviation(self, view);
    if (found == NULL || !shaper_device_stands(self))
        return TRUE;
    shaper_give_up(self, found, error);
    return FALSE;
}

/*
 * The interface must be the device of the last time. Another one of that name
 * begins anew, and what the old one left goes first.
 */
static gboolean
shaper_find_interface(Shaper *self, GError **error)
{
    int ifindex = (int)if_nametoindex(self->interface);

    if (ifindex != 0 && ifindex == self->ifindex)
        return TRUE;
    if (self->ifindex != 0 && !shaper_take_off(self, NULL, error))
        return FALSE;
    if (ifindex == 0) {
        g_set_error(error, SHAPING_ERROR, SHAPING_ERROR_FAILED, "%s: no such interface",
                    self->interface);
        return FALSE;
    }
    self->ifindex = ifindex;
    shaping_ifb_name(self->ifindex, self->ifb_name);
    return TRUE;
}

static gboolean
shaper_apply_normalised(Shaper *self, const ShapingPlan *plan, GError **error)
{
    g_auto(View) view = { 0 };
    g_autoptr(GPtrArray) steps = NULL;
    g_autoptr(GError) failure = NULL;
    g_autoptr(GError) second = NULL;
    g_autofree char *reason = NULL;
    bool ingress = self->direction == SHAPING_INGRESS;
    const char *missing;

    /* What stands keeps to what was known when it was put up. */
    if (self->standing == NULL) {
        shaping_features_renew(self->journal, ingress, self->known_features);
        self->features = *self->known_features;
    }
    missing = shaping_features_missing(&self->features, ingress);
    if (missing != NULL)
        return shaper_refuse(self, SHAPING_ERROR_UNSUPPORTED, missing, error);
    if (!shaper_find_interface(self, error) || !view_take(self, &view, error) ||
        !shaper_judge(self, &view, error))
        return FALSE;
    if (!view.uplink->exists) {
        g_set_error(error, SHAPING_ERROR, SHAPING_ERROR_FAILED, "%s: no such interface",
                    self->interface);
        return FALSE;
    }
    reason = view_foreign_reason(self, &view);
    if (reason != NULL)
        return shaper_refuse(self, SHAPING_ERROR_REFUSED, reason, error);

    steps = shaping_difference(plan, view.uplink, view.ifb, &self->features);
    if (steps->len == 0)
        return TRUE;
    self->last_steps = steps->len;
    if (steps_journal(self, steps, &failure) && shaping_run(steps, &failure) &&
        shaper_verify(self, plan, &failure))
        return TRUE;
    /* No step of ours takes away the ground the others stand on. */
    if (self->standing != NULL && view_take(self, &view, NULL) && view.uplink->exists) {
        g_autofree char *found = view_missing(self, &view);

        if (found != NULL && shaper_device_stands(self)) {
            shaper_give_up(self, found, error);
            return FALSE;
        }
    }
    if (!shaper_take_off(self, NULL, &second))
        g_prefix_error(&failure, "%s, and taking it off failed too (%s): ", self->interface,
                       second->message);
    g_propagate_error(error, g_steal_pointer(&failure));
    return FALSE;
}

gboolean
shaper_apply(Shaper *self, const ShapingPlan *plan, GError **error)
{
    gint64 start = g_get_monotonic_time();
    g_autofree ShapingPlan *normal = NULL;
    gboolean success;

    self->last_steps = 0;
    self->last_duration_us = 0;
    g_clear_pointer(&self->refused_reason, g_free);
    if (!shaping_plan_validate(plan, error))
        return FALSE;
    if (strcmp(plan->interface, self->interface) != 0 || plan->direction != self->direction) {
        g_set_error(error, SHAPING_ERROR, SHAPING_ERROR_INVALID,
                    "%s: a plan for %s or the other direction", self->interface, plan->interface);
        return FALSE;
    }
    if (self->changed != NULL) {
        g_set_error_literal(error, SHAPING_ERROR, SHAPING_ERROR_CHANGED, self->changed);
        return FALSE;
    }
    normal = g_memdup2(plan, sizeof *plan);
    shaping_plan_normalise(normal);
    success = shaper_apply_normalised(self, normal, error);
    if (success) {
        g_free(self->standing);
        self->standing = g_steal_pointer(&normal);
    }
    self->last_duration_us = g_get_monotonic_time() - start;
    return success;
}

gboolean
shaper_check(Shaper *self, GError **error)
{
    g_auto(View) view = { 0 };

    return self->standing == NULL ||
           (view_take(self, &view, error) && shaper_judge(self, &view, error));
}

gboolean
shaper_remove(Shaper *self, GError **error)
{
    gint64 start = g_get_monotonic_time();
    gboolean success;

    g_clear_pointer(&self->refused_reason, g_free);
    g_clear_pointer(&self->changed, g_free);
    self->last_steps = 0;
    success = shaper_take_off(self, &self->last_steps, error);
    self->last_duration_us = g_get_monotonic_time() - start;
    return success;
}

const char *
shaper_refused_reason(const Shaper *self)
{
    return self->refused_reason;
}

unsigned
shaper_last_steps(const Shaper *self)
{
    return self->last_steps;
}

gint64
shaper_last_duration_us(const Shaper *self)
{
    return self->last_duration_us;
}

const char *
shaper_class_interface(const Shaper *self)
{
    return self->direction == SHAPING_EGRESS ? self->interface : self->ifb_name;
}
