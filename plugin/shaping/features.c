/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Trying each feature on a device that carries no traffic. The kernel's answer
 * decides, since modules load on demand and version numbers say little.
 */
#include "shaping/features.h"

#include "shaping/journal.h"
#include "shaping/tc.h"

#include <string.h>

#define PROBE_DEVICE SHAPING_IFB_PREFIX "probe"

static bool
probe_try(ShapingTool tool, const char *line)
{
    g_autoptr(GPtrArray) steps = g_ptr_array_new_with_free_func((GDestroyNotify)shaping_step_free);

    g_ptr_array_add(steps, shaping_step_new(tool, SHAPING_LEAVES_NOTHING, PROBE_DEVICE, line));
    return shaping_run(steps, NULL);
}

/* False: a device of that name stands and is not a probe's. */
static bool
probe_device_clear(void)
{
    g_autoptr(Observed) observed = shaping_observe(PROBE_DEVICE, NULL);

    if (observed == NULL || !observed->exists)
        return observed != NULL;
    if (strcmp(observed->link_kind, "ifb") != 0 && strcmp(observed->link_kind, "dummy") != 0)
        return false;
    return probe_try(SHAPING_TOOL_IP, "link del dev " PROBE_DEVICE);
}

static ShapingFeatures
features_assumed(void)
{
    return (ShapingFeatures){
        .htb = true,
        .u32 = true,
        .ifb = true,
        .ingress = true,
        .mirred = true,
        .assumed = true,
        .probed_us = g_get_monotonic_time(),
    };
}

void
shaping_features_probe(ShapingJournal *journal, ShapingFeatures *ret_features)
{
    ShapingFeatures features = { .probed_us = g_get_monotonic_time() };

    /* What cannot be journaled is not made. */
    if (!shaping_journal_about_to_make(journal, SHAPING_LEAVES_IFB, PROBE_DEVICE, NULL)) {
        *ret_features = features_assumed();
        return;
    }
    if (probe_device_clear())
        features.ifb = probe_try(SHAPING_TOOL_IP, "link add name " PROBE_DEVICE " up type ifb");
    if (!features.ifb &&
        !probe_try(SHAPING_TOOL_IP, "link add name " PROBE_DEVICE " up type dummy")) {
        shaping_journal_gone(journal, SHAPING_LEAVES_IFB, PROBE_DEVICE, NULL);
        *ret_features = features_assumed();
        return;
    }
    features.fq_codel =
        probe_try(SHAPING_TOOL_TC, "qdisc replace dev " PROBE_DEVICE " root handle c0b1: fq_codel");
    features.htb = probe_try(SHAPING_TOOL_TC,
                             "qdisc replace dev " PROBE_DEVICE " root handle c0b0: htb default 10");
    features.u32 =
        features.htb && probe_try(SHAPING_TOOL_TC, "filter add dev " PROBE_DEVICE
                                                   " parent c0b0: protocol ip prio 1 u32 "
                                                   "match u32 0 0 flowid c0b0:10");
    features.ingress =
        probe_try(SHAPING_TOOL_TC, "qdisc add dev " PROBE_DEVICE " handle ffff: ingress");
    features.mirred =
        features.ingress &&
        probe_try(SHAPING_TOOL_TC, "filter add dev " PROBE_DEVICE
                                   " parent ffff: protocol all prio 1 u32 match u32 0 0 "
                                   "action mirred egress redirect dev " PROBE_DEVICE);
    /* One that stays is in the journal: whoever restores it takes it off. */
    if (probe_try(SHAPING_TOOL_IP, "link del dev " PROBE_DEVICE))
        shaping_journal_gone(journal, SHAPING_LEAVES_IFB, PROBE_DEVICE, NULL);
    *ret_features = features;
}

const char *
shaping_features_missing(const ShapingFeatures *features, bool ingress)
{
    if (!features->htb)
        return "the kernel has no htb qdisc";
    if (!features->u32)
        return "the kernel has no u32 classifier";
    if (!ingress)
        return NULL;
    if (!features->ifb)
        return "the kernel has no ifb device";
    if (!features->ingress)
        return "the kernel has no ingress qdisc";
    if (!features->mirred)
        return "the kernel has no mirred action";
    return NULL;
}

void
shaping_features_renew(ShapingJournal *journal, bool ingress, ShapingFeatures *features)
{
    gint64 age_us = g_get_monotonic_time() - features->probed_us;

    if (shaping_features_missing(features, ingress) != NULL &&
        age_us >= SHAPING_FEATURES_KEPT_SECONDS * G_USEC_PER_SEC)
        shaping_features_probe(journal, features);
}
