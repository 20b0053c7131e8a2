/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What crosses the uplink and the taps, tick by tick; see network.h. */
#include "daemon/network-private.h"

#define SMOOTHING_US (2 * G_USEC_PER_SEC)

void
network_reset_windows(Side *side)
{
    g_clear_pointer(&side->workload, traffic_window_free);
    g_clear_pointer(&side->migrations, traffic_window_free);
    side->workload = traffic_window_new(TRAFFIC_OWNER_HOST, SMOOTHING_US);
    side->migrations = traffic_window_new(TRAFFIC_OWNER_HOST, SMOOTHING_US);
    side->class_ifindex = 0;
}

static void
window_free(gpointer data)
{
    traffic_window_free(data);
}

void
network_start_windows(Network *network)
{
    network->windows = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, window_free);
    network->host = traffic_window_new(TRAFFIC_OWNER_HOST, SMOOTHING_US);
    for (int i = 0; i < NETWORK_DIRECTIONS; i++)
        network_reset_windows(&network->side[i]);
}

void
network_free_windows(Network *network)
{
    for (int i = 0; i < NETWORK_DIRECTIONS; i++) {
        g_clear_pointer(&network->side[i].workload, traffic_window_free);
        g_clear_pointer(&network->side[i].migrations, traffic_window_free);
    }
    g_clear_pointer(&network->windows, g_hash_table_unref);
    g_clear_pointer(&network->host, traffic_window_free);
}

/* Returns the class's counter, 0 when it is not there. */
static uint64_t
side_sample_class(TrafficWindow *window, gint64 now_us, const GArray *classes, uint32_t minor)
{
    uint64_t bytes = 0;

    if (class_counters_find(classes, SHAPING_CLASS_ID(minor), &bytes))
        traffic_window_add(window, now_us, 0, bytes);
    else
        traffic_window_miss(window);
    return bytes;
}

/* Returns the migrations class's counter, 0 while nothing is shaped. */
static uint64_t
side_sample(Network *network, Side *side, gint64 now_us, const GArray *links)
{
    g_autoptr(GArray) classes = NULL;

    if (!side->shaped)
        return 0;
    if (side->class_ifindex == 0) {
        const LinkCounter *link = link_counters_find(links, shaper_class_interface(side->shaper));

        if (link == NULL)
            return 0;
        side->class_ifindex = link->ifindex;
    }
    if (!class_counters_read(network->class_counters, side->class_ifindex, &classes, NULL))
        return side->last_migration_bytes;
    side_sample_class(side->workload, now_us, classes, SHAPING_CLASS_WORKLOAD);
    return side_sample_class(side->migrations, now_us, classes, SHAPING_CLASS_MIGRATIONS);
}

/*
 * What crossed the link since the last tick less what the migrations class
 * sent. The class counts the headers of every segment of a large packet, the
 * device may not: the difference never goes below zero.
 */
static void
side_account(Side *side, uint64_t link_bytes, uint64_t migration_bytes)
{
    uint64_t link = link_bytes - side->last_link_bytes;
    uint64_t migrations = migration_bytes > side->last_migration_bytes
                              ? migration_bytes - side->last_migration_bytes
                              : 0;

    if (side->counted && link_bytes >= side->last_link_bytes && link > migrations)
        side->other_bytes += link - migrations;
    side->counted = true;
    side->last_link_bytes = link_bytes;
    side->last_migration_bytes = migration_bytes;
}

void
network_sample_host(Network *network, gint64 now_us, const GArray *links)
{
    const LinkCounter *uplink = link_counters_find(links, network->uplink.name);
    Side *egress = &network->side[SHAPING_EGRESS];
    Side *ingress = &network->side[SHAPING_INGRESS];
    uint64_t migrations_out = side_sample(network, egress, now_us, links);
    uint64_t migrations_in = side_sample(network, ingress, now_us, links);

    if (uplink == NULL || !uplink->statistics_valid) {
        traffic_window_miss(network->host);
        return;
    }
    side_account(egress, uplink->tx_bytes, migrations_out);
    side_account(ingress, uplink->rx_bytes, migrations_in);
    traffic_window_add(network->host, now_us, ingress->other_bytes, egress->other_bytes);
}

/* Taps come and go: a window whose interface is missing is dropped. */
void
network_sample_links(Network *network, gint64 now_us, const GArray *links)
{
    GHashTableIter iterator;
    gpointer name;
    gpointer window;

    for (guint i = 0; i < links->len; i++) {
        const LinkCounter *link = &g_array_index(links, LinkCounter, i);

        if (!link->statistics_valid)
            continue;
        window = g_hash_table_lookup(network->windows, link->name);
        if (window == NULL) {
            window = traffic_window_new(TRAFFIC_OWNER_VM, SMOOTHING_US);
            g_hash_table_insert(network->windows, g_strdup(link->name), window);
        }
        traffic_window_add(window, now_us, link->rx_bytes, link->tx_bytes);
    }
    g_hash_table_iter_init(&iterator, network->windows);
    while (g_hash_table_iter_next(&iterator, &name, &window)) {
        if (link_counters_find(links, name) == NULL)
            g_hash_table_iter_remove(&iterator);
    }
}

TrafficRates
network_host_rates(const Network *network)
{
    return traffic_window_smoothed(network->host);
}

TrafficRates
network_vm_rates(const Network *network, const DomainDescription *description)
{
    TrafficRates sum = { 0 };

    for (guint i = 0; i < description->interfaces->len; i++) {
        const DomainInterface *interface = g_ptr_array_index(description->interfaces, i);
        const TrafficWindow *window =
            interface->device ? g_hash_table_lookup(network->windows, interface->device) : NULL;
        TrafficRates rates = { 0 };

        if (window != NULL)
            rates = traffic_window_smoothed(window);
        if (!rates.valid)
            continue;
        sum.valid = true;
        sum.in += rates.in;
        sum.out += rates.out;
    }
    return sum;
}

static bool
side_rate(const Side *side, TrafficRates rates, uint64_t *ret_rate)
{
    if (!side->shaped || !rates.valid)
        return false;
    *ret_rate = rates.out;
    return true;
}

bool
network_workload_last(const Network *network, ShapingDirection direction, uint64_t *ret_rate)
{
    const Side *side = &network->side[direction];

    return side_rate(side, traffic_window_last(side->workload), ret_rate);
}

bool
network_migrations_last(const Network *network, ShapingDirection direction, uint64_t *ret_rate)
{
    const Side *side = &network->side[direction];

    return side_rate(side, traffic_window_last(side->migrations), ret_rate);
}

bool
network_migrations_rate(const Network *network, ShapingDirection direction, uint64_t *ret_rate)
{
    const Side *side = &network->side[direction];

    return side_rate(side, traffic_window_smoothed(side->migrations), ret_rate);
}

bool
network_link_bytes(const Network *network, ShapingDirection direction, uint64_t *ret_bytes)
{
    const Side *side = &network->side[direction];

    if (!network->uplink_known || !side->counted)
        return false;
    *ret_bytes = side->last_link_bytes;
    return true;
}
