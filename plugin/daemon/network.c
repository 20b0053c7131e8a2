/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The uplink, and the tick; see network.h.
 *
 *   network.c          finds the uplink, watches it, ticks
 *   network-sample.c   at each tick: counters -> windows -> rates
 *   network-shape.c    what is put up and taken off, by a worker thread
 */
#include "daemon/network-private.h"

#include "common/log.h"

#include <string.h>

/* Between two readings of the uplink's rate; a driver may take a lock of the kernel's for it. */
#define RATE_READ_US (5 * G_USEC_PER_SEC)

/* ---- the uplink -------------------------------------------------------- */

bool
network_find_uplink(Network *network, const char *peer)
{
    const char *configured = network->config->uplink[0] != '\0' ? network->config->uplink : NULL;
    g_autoptr(GError) error = NULL;
    Uplink uplink;

    if (!uplink_find(peer, configured, &uplink, &error)) {
        if (network->uplink_known)
            return true; /* the one that was found before still counts */
        g_free(network->uplink_problem);
        network->uplink_problem = g_strdup(error->message);
        return false;
    }
    if (network->uplink_known && uplink.ifindex == network->uplink.ifindex &&
        strcmp(uplink.name, network->uplink.name) == 0) {
        /* By another way perhaps, through a VLAN; what it was before still counts. */
        uplink.vlan_tagged |= network->uplink.vlan_tagged;
        if (!uplink.rate_valid) {
            uplink.rate_valid = network->uplink.rate_valid;
            uplink.rate = network->uplink.rate;
        }
        network->uplink = uplink;
        return true;
    }
    /* While something stands on the old uplink its shapers must find it again. */
    for (int i = 0; i < NETWORK_DIRECTIONS; i++) {
        if (network->side[i].shaped || network->side[i].stuck)
            return network->uplink_known;
    }
    if (g_hash_table_size(network->jobs) != 0)
        return network->uplink_known;
    network->uplink = uplink;
    if (peer != network->uplink_peer) {
        g_free(network->uplink_peer);
        network->uplink_peer = g_strdup(peer);
    }
    network->uplink_known = true;
    g_clear_pointer(&network->uplink_problem, g_free);
    traffic_window_miss(network->host);
    for (int i = 0; i < NETWORK_DIRECTIONS; i++) {
        Side *side = &network->side[i];

        side->counted = false;
        g_clear_pointer(&side->shaper, shaper_free);
        side->shaper =
            shaper_new(uplink.name, (ShapingDirection)i, network->journal, &network->features);
        network_reset_windows(side);
    }
    log_event(CONFIG_LOG_INFO, network->uplink_lost ? "uplink-back" : "uplink-found",
              "device: %s, index: %d, path: %s, link_rate: %" G_GUINT64_FORMAT " B/s", uplink.name,
              uplink.ifindex, uplink.path, network_link_rate(network));
    network->uplink_lost = false;
    network->uplink_down = false;
    network->changes++;
    return true;
}

const Uplink *
network_uplink(const Network *network)
{
    return network->uplink_known ? &network->uplink : NULL;
}

const char *
network_uplink_problem(const Network *network)
{
    return network->uplink_problem;
}

unsigned
network_changes(const Network *network)
{
    return network->changes;
}

uint64_t
network_link_rate(const Network *network)
{
    if (network->config->link_rate != 0)
        return network->config->link_rate;
    return network->uplink_known && network->uplink.rate_valid ? network->uplink.rate : 0;
}

uint64_t
network_usable_rate(const Network *network)
{
    /* Divided first: the product could overflow. */
    return network_link_rate(network) / 100 * network->config->usable_link_percent;
}

/* The daemon may start before the network does, and tc may fail for a while. */
static void
network_retry(Network *network, gint64 now_us)
{
    if (network->uplink_lost)
        network_find_uplink(network, network->uplink_peer);
    if (now_us - network->retried_us < NETWORK_RETRY_US)
        return;
    network->retried_us = now_us;
    if (!network->uplink_known)
        network_find_uplink(network, network->uplink_peer);
    network_retry_removals(network);
}

/*
 * Somebody took the device away, renamed it or put another one in its place.
 * It is his: what stands of ours goes, under whatever name, and nothing is put
 * up until an uplink is found again.
 */
static void
network_lose_uplink(Network *network, const LinkCounter *same_name, const LinkCounter *same_index)
{
    const char *name = network->uplink.name;

    network->uplink_known = false;
    network->uplink_lost = true;
    network->changes++;
    g_free(network->uplink_problem);
    network->uplink_problem = g_strdup_printf("%s is gone", name);
    log_event(CONFIG_LOG_WARNING, "uplink-gone", "device: %s, index: %d, %s%s", name,
              network->uplink.ifindex,
              same_index ? "its name is now: " : "nothing is shaped until it is back",
              same_index ? same_index->name : (same_name ? " (another has its name)" : ""));
    traffic_window_miss(network->host);
    network_abandon_shaping(network);
}

static void
network_watch_rate(Network *network, const LinkCounter *link, gint64 now_us)
{
    uint64_t before = network_link_rate(network);

    if (network->config->link_rate != 0 || now_us - network->rate_read_us < RATE_READ_US)
        return;
    network->rate_read_us = now_us;
    if (!uplink_renew_rate(NULL, link->kind, &network->uplink))
        return;
    network->changes++;
    log_event(CONFIG_LOG_INFO, "uplink-rate",
              "device: %s, link_rate: %" G_GUINT64_FORMAT " B/s, was: %" G_GUINT64_FORMAT " B/s",
              network->uplink.name, network_link_rate(network), before);
}

static void
network_watch_uplink(Network *network, const GArray *links, gint64 now_us)
{
    const LinkCounter *same_name = link_counters_find(links, network->uplink.name);
    const LinkCounter *same_index = link_counters_find_index(links, network->uplink.ifindex);

    if (same_name == NULL || same_name != same_index) {
        network_lose_uplink(network, same_name, same_index);
        return;
    }
    network_watch_rate(network, same_name, now_us);
    if (same_name->up == !network->uplink_down)
        return;
    network->uplink_down = !same_name->up;
    log_event(network->uplink_down ? CONFIG_LOG_WARNING : CONFIG_LOG_INFO,
              network->uplink_down ? "uplink-down" : "uplink-back", "device: %s, index: %d",
              network->uplink.name, network->uplink.ifindex);
}

/* ---- the tick ---------------------------------------------------------- */

static gboolean
sample(gpointer data)
{
    Network *network = data;
    gint64 now_us = g_get_monotonic_time();
    g_autoptr(GArray) links = NULL;
    g_autoptr(GError) error = NULL;

    network_retry(network, now_us);
    if (!link_counters_read(network->link_counters, &links, &error)) {
        if (!network->counters_problem_told)
            log_event(CONFIG_LOG_WARNING, "counters-unreadable", "reason: %s", error->message);
        network->counters_problem_told = true;
    } else {
        network->counters_problem_told = false;
        network_sample_links(network, now_us, links);
        if (network->uplink_known)
            network_watch_uplink(network, links, now_us);
        if (network->uplink_known)
            network_sample_host(network, now_us, links);
    }
    network_watch_shaping(network, now_us);
    network->tick(now_us, network->user_data);
    return G_SOURCE_CONTINUE;
}

/* ---- life -------------------------------------------------------------- */

Network *
network_new(const Config *config, const char *state_directory, NetworkTickFunc tick,
            gpointer user_data, GError **error)
{
    g_autoptr(Network) network = g_new0(Network, 1);

    network->config = config;
    network->tick = tick;
    network->user_data = user_data;
    network->jobs = g_hash_table_new(NULL, NULL);
    network_start_windows(network);
    network->journal = shaping_journal_open(state_directory, error);
    if (network->journal == NULL)
        return NULL;
    network_restore_journal(network);
    network->link_counters = link_counters_new(error);
    if (network->link_counters == NULL)
        return NULL;
    network->class_counters = class_counters_new(error);
    if (network->class_counters == NULL)
        return NULL;
    if (!network_start_worker(network, error))
        return NULL;
    if (config->shape) /* the probe makes a device of its own for a moment */
        shaping_features_probe(network->journal, &network->features);
    if (!network_find_uplink(network, NULL))
        log_event(CONFIG_LOG_WARNING, "uplink-unknown", "reason: %s", network->uplink_problem);
    network->timer = g_timeout_add(config->sample_interval, sample, network);
    return g_steal_pointer(&network);
}

void
network_free(Network *network)
{
    if (network == NULL)
        return;
    if (network->timer != 0)
        g_source_remove(network->timer);
    network_stop_worker(network);
    network_free_windows(network);
    g_clear_pointer(&network->link_counters, link_counters_free);
    g_clear_pointer(&network->class_counters, class_counters_free);
    g_clear_pointer(&network->journal, shaping_journal_close);
    g_free(network->uplink_peer);
    g_free(network->uplink_problem);
    g_free(network);
}
