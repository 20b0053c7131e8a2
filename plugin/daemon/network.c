/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Uplink, samples and the shaping worker; see network.h.
 *
 *   main loop                          worker thread (one)
 *   ---------                          -------------------
 *   tick: counters -> windows
 *   network_shape: ShapeJob  --------> shaper_apply / shaper_remove
 *   every second: ShapeJob  ---------> shaper_check
 *   job_done  <----------------------- g_idle_add
 *
 * A Shaper is touched by the worker only; `shaped` and `problem` by the main
 * loop only. Jobs run, and their results come, in the order in which they were
 * given: a look at what stands never sees half of a change of ours.
 */
#include "daemon/network.h"

#include "common/log.h"
#include "shaping/shaper.h"
#include "traffic/class_counters.h"
#include "traffic/link_counters.h"
#include "traffic/window.h"

#include <string.h>

#define DIRECTIONS 2
#define SMOOTHING_US (2 * G_USEC_PER_SEC)
#define RETRY_US (5 * G_USEC_PER_SEC)
/* Between two looks whether what was put up stands; one takes the worker some 0.3 ms. */
#define WATCH_US G_USEC_PER_SEC
/* Between two readings of the uplink's rate; a driver may take a lock of the kernel's for it. */
#define RATE_READ_US (5 * G_USEC_PER_SEC)
/* Of putting classes up, in a row: what fails that often is not a hiccup. */
#define FAILURES_MAXIMUM 4

typedef struct {
    Shaper *shaper;
    bool shaped;
    bool stuck;        /* taking it off failed: tried again */
    unsigned failures; /* of putting it up, in a row */
    gint64 failed_us;  /* monotonic, the last of them */
    bool watching;     /* a look at what stands is under way */
    gint64 watched_us;
    int class_ifindex; /* 0: look it up at the next tick */
    char *problem;
    gint64 last_reshape_us;
    TrafficWindow *workload;
    TrafficWindow *migrations;
    /* Bytes of everything but migrations, as a counter of our own: see account(). */
    bool counted;
    uint64_t last_link_bytes;
    uint64_t last_migration_bytes;
    uint64_t other_bytes;
} Side;

struct Network {
    const Config *config;
    NetworkTickFunc tick;
    gpointer user_data;
    guint timer;
    Uplink uplink;
    char *uplink_peer; /* towards whom it was found; NULL: the default route */
    bool uplink_known;
    bool uplink_lost; /* there was one, and it is gone */
    bool uplink_down;
    unsigned changes;
    char *uplink_problem;
    LinkCounters *link_counters;
    ClassCounters *class_counters;
    GHashTable *windows; /* interface name -> TrafficWindow, as a VM sees it */
    TrafficWindow *host;
    ShapingFeatures features;
    ShapingJournal *journal;
    GThreadPool *worker;
    Side side[DIRECTIONS];
    GHashTable *jobs; /* ShapeJob that are under way */
    gint64 retried_us;
    gint64 rate_read_us;
    bool counters_problem_told;
};

typedef struct {
    Network *network;
    ShapingDirection direction;
    Shaper *shaper;    /* NULL: restore what the journal says */
    ShapingPlan *plan; /* NULL: remove */
    bool watch;        /* change nothing: does it stand? */
    NetworkShapeDone done;
    gpointer user_data;
    GError *error;
    gint64 duration_us;
} ShapeJob;

static void
window_free(gpointer data)
{
    traffic_window_free(data);
}

static void
shape_job_free(ShapeJob *job)
{
    g_clear_error(&job->error);
    g_free(job->plan);
    g_free(job);
}

/* ---- sampling ---------------------------------------------------------- */

static void
side_reset_windows(Side *side)
{
    g_clear_pointer(&side->workload, traffic_window_free);
    g_clear_pointer(&side->migrations, traffic_window_free);
    side->workload = traffic_window_new(TRAFFIC_OWNER_HOST, SMOOTHING_US);
    side->migrations = traffic_window_new(TRAFFIC_OWNER_HOST, SMOOTHING_US);
    side->class_ifindex = 0;
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

static void
sample_host(Network *network, gint64 now_us, const GArray *links)
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
static void
sample_links(Network *network, gint64 now_us, const GArray *links)
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

static void shape_job_push(Network *network, ShapingDirection direction, ShapingPlan *plan,
                           NetworkShapeDone done, gpointer user_data);
static void restore_job_push(Network *network);
static void watch_job_push(Network *network, ShapingDirection direction);

/* Something stands that no side has up: tc or ip failed when it was to go. */
static bool
network_has_leftovers(const Network *network)
{
    for (int i = 0; i < DIRECTIONS; i++) {
        if (network->side[i].shaped || network->side[i].stuck)
            return false;
    }
    return g_hash_table_size(network->jobs) == 0 && !shaping_journal_is_empty(network->journal);
}

/* The daemon may start before the network does, and tc may fail for a while. */
static void
network_retry(Network *network, gint64 now_us)
{
    if (network->uplink_lost)
        network_find_uplink(network, network->uplink_peer);
    if (now_us - network->retried_us < RETRY_US)
        return;
    network->retried_us = now_us;
    if (!network->uplink_known)
        network_find_uplink(network, network->uplink_peer);
    for (int i = 0; i < DIRECTIONS; i++) {
        if (network->side[i].stuck && !network_is_busy(network, (ShapingDirection)i))
            shape_job_push(network, (ShapingDirection)i, NULL, NULL, NULL);
    }
    if (network_has_leftovers(network))
        restore_job_push(network);
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
    for (int i = 0; i < DIRECTIONS; i++) {
        if (network->side[i].shaped || network_is_busy(network, (ShapingDirection)i))
            shape_job_push(network, (ShapingDirection)i, NULL, NULL, NULL);
    }
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

/* While a change of ours is under way the change itself looks. */
static void
network_watch_shaping(Network *network, gint64 now_us)
{
    for (int i = 0; i < DIRECTIONS; i++) {
        Side *side = &network->side[i];

        if (!side->shaped || side->watching || now_us - side->watched_us < WATCH_US ||
            network_is_busy(network, (ShapingDirection)i))
            continue;
        side->watched_us = now_us;
        watch_job_push(network, (ShapingDirection)i);
    }
}

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
        sample_links(network, now_us, links);
        if (network->uplink_known)
            network_watch_uplink(network, links, now_us);
        if (network->uplink_known)
            sample_host(network, now_us, links);
    }
    network_watch_shaping(network, now_us);
    network->tick(now_us, network->user_data);
    return G_SOURCE_CONTINUE;
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
    for (int i = 0; i < DIRECTIONS; i++) {
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
    for (int i = 0; i < DIRECTIONS; i++) {
        Side *side = &network->side[i];

        side->counted = false;
        g_clear_pointer(&side->shaper, shaper_free);
        side->shaper =
            shaper_new(uplink.name, (ShapingDirection)i, network->journal, &network->features);
        side_reset_windows(side);
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

/* ---- shaping ----------------------------------------------------------- */

bool
network_shaping_is_due(const Network *network, ShapingDirection direction, gint64 now_us)
{
    const Side *side = &network->side[direction];

    return side->failures > 0 && side->failures < FAILURES_MAXIMUM &&
           now_us - side->failed_us > RETRY_US;
}

static const char *
direction_to_string(ShapingDirection direction)
{
    return direction == SHAPING_EGRESS ? "egress" : "ingress";
}

static void
network_tell_changed(const Network *network, ShapingDirection direction)
{
    log_event(CONFIG_LOG_WARNING, "tree-changed",
              "device: %s, direction: %s, found: %s, done: what is left of ours is off until no "
              "migration runs in this direction",
              network->uplink.name, direction_to_string(direction),
              network->side[direction].problem);
}

static gboolean
watch_job_done(gpointer data)
{
    ShapeJob *job = data;
    Network *network = job->network;
    Side *side = &network->side[job->direction];

    g_hash_table_remove(network->jobs, job);
    side->watching = false;
    /* What could not be read says nothing. */
    if (job->error != NULL && g_error_matches(job->error, SHAPING_ERROR, SHAPING_ERROR_CHANGED)) {
        side->shaped = false;
        side_reset_windows(side);
        g_free(side->problem);
        side->problem = g_strdup(job->error->message);
        network_tell_changed(network, job->direction);
        network->changes++;
    }
    shape_job_free(job);
    return G_SOURCE_REMOVE;
}

static gboolean
shape_job_done(gpointer data)
{
    ShapeJob *job = data;
    Network *network = job->network;
    Side *side = &network->side[job->direction];
    bool was_shaped = side->shaped;
    bool changed = g_error_matches(job->error, SHAPING_ERROR, SHAPING_ERROR_CHANGED);
    bool told = job->error && g_strcmp0(side->problem, job->error->message) == 0;

    g_hash_table_remove(network->jobs, job);
    side->shaped = job->plan != NULL && job->error == NULL;
    side->stuck = job->plan == NULL && job->error != NULL;
    if (job->plan == NULL || job->error == NULL) {
        side->failures = 0;
    } else if (g_error_matches(job->error, SHAPING_ERROR, SHAPING_ERROR_FAILED) ||
               g_error_matches(job->error, SHAPING_ERROR, SHAPING_ERROR_TIMEOUT)) {
        side->failures++;
        side->failed_us = g_get_monotonic_time();
    }
    side->last_reshape_us = job->duration_us;
    g_clear_pointer(&side->problem, g_free);
    if (job->error != NULL)
        side->problem = g_strdup(job->error->message);
    if (side->shaped != was_shaped)
        side_reset_windows(side);
    if (changed && was_shaped)
        network_tell_changed(network, job->direction);
    /* What is tried again and fails again was told. */
    log_event(job->error && side->failures <= 1 && !told && !changed ? CONFIG_LOG_WARNING
                                                                     : CONFIG_LOG_DEBUG,
              job->plan ? "shaped" : "unshaped",
              "device: %s, direction: %s, duration_us: %" G_GINT64_FORMAT "%s%s",
              network->uplink.name, direction_to_string(job->direction), job->duration_us,
              job->error ? ", problem: " : "", job->error ? job->error->message : "");
    if (job->done != NULL)
        job->done(job->error, job->user_data);
    shape_job_free(job);
    return G_SOURCE_REMOVE;
}

static gboolean
restore_job_done(gpointer data)
{
    ShapeJob *job = data;

    g_hash_table_remove(job->network->jobs, job);
    if (job->error != NULL)
        log_event(CONFIG_LOG_WARNING, "restore-failed", "reason: %s", job->error->message);
    else
        log_event(CONFIG_LOG_INFO, "restored", "what a failed removal left is gone");
    shape_job_free(job);
    return G_SOURCE_REMOVE;
}

/* One thread for all of it: a shaper cannot begin while the journal is restored. */
static void
shape_worker(gpointer data, gpointer user_data G_GNUC_UNUSED)
{
    ShapeJob *job = data;
    gint64 begin_us = g_get_monotonic_time();

    if (job->shaper == NULL) {
        shaping_journal_restore(job->network->journal, NULL, &job->error);
        g_idle_add_full(G_PRIORITY_DEFAULT, restore_job_done, job, NULL);
        return;
    }
    if (job->watch) {
        shaper_check(job->shaper, &job->error);
        g_idle_add_full(G_PRIORITY_DEFAULT, watch_job_done, job, NULL);
        return;
    }
    if (job->plan != NULL)
        shaper_apply(job->shaper, job->plan, &job->error);
    else
        shaper_remove(job->shaper, &job->error);
    job->duration_us = g_get_monotonic_time() - begin_us;
    g_idle_add_full(G_PRIORITY_DEFAULT, shape_job_done, job, NULL);
}

static void
shape_job_push(Network *network, ShapingDirection direction, ShapingPlan *plan,
               NetworkShapeDone done, gpointer user_data)
{
    ShapeJob *job = g_new0(ShapeJob, 1);

    job->network = network;
    job->direction = direction;
    job->shaper = network->side[direction].shaper;
    job->plan = plan;
    job->done = done;
    job->user_data = user_data;
    g_hash_table_add(network->jobs, job);
    g_thread_pool_push(network->worker, job, NULL);
}

static void
restore_job_push(Network *network)
{
    ShapeJob *job = g_new0(ShapeJob, 1);

    job->network = network;
    g_hash_table_add(network->jobs, job);
    g_thread_pool_push(network->worker, job, NULL);
}

static void
watch_job_push(Network *network, ShapingDirection direction)
{
    ShapeJob *job = g_new0(ShapeJob, 1);

    job->network = network;
    job->direction = direction;
    job->shaper = network->side[direction].shaper;
    job->watch = true;
    network->side[direction].watching = true;
    g_hash_table_add(network->jobs, job);
    g_thread_pool_push(network->worker, job, NULL);
}

void
network_shape(Network *network, ShapingDirection direction, ShapingPlan *plan,
              NetworkShapeDone done, gpointer user_data)
{
    g_autoptr(GError) error = NULL;

    if (!network->config->shape)
        g_set_error_literal(&error, SHAPING_ERROR, SHAPING_ERROR_REFUSED,
                            "[network] shape is off in the configuration");
    else if (!network->uplink_known)
        g_set_error(&error, SHAPING_ERROR, SHAPING_ERROR_REFUSED, "no uplink: %s",
                    network->uplink_problem ? network->uplink_problem : "not found");
    else if (network_usable_rate(network) == 0)
        g_set_error(&error, SHAPING_ERROR, SHAPING_ERROR_REFUSED,
                    "the rate of %s is unknown: set [network] link-rate", network->uplink.name);
    if (error != NULL) {
        Side *side = &network->side[direction];

        g_free(side->problem);
        side->problem = g_strdup(error->message);
        g_free(plan);
        if (done != NULL)
            done(error, user_data);
        return;
    }
    g_strlcpy(plan->interface, network->uplink.name, sizeof(plan->interface));
    plan->direction = direction;
    plan->vlan_tagged = network->uplink.vlan_tagged;
    plan->link_rate = network_usable_rate(network);
    shape_job_push(network, direction, plan, done, user_data);
}

void
network_unshape(Network *network, ShapingDirection direction, NetworkShapeDone done,
                gpointer user_data)
{
    if (network->side[direction].shaper != NULL)
        shape_job_push(network, direction, NULL, done, user_data);
    else if (done != NULL)
        done(NULL, user_data);
}

bool
network_is_busy(const Network *network, ShapingDirection direction)
{
    GHashTableIter iterator;
    gpointer job;

    g_hash_table_iter_init(&iterator, network->jobs);
    while (g_hash_table_iter_next(&iterator, &job, NULL)) {
        if (((const ShapeJob *)job)->direction == direction && !((const ShapeJob *)job)->watch)
            return true;
    }
    return false;
}

bool
network_is_shaped(const Network *network, ShapingDirection direction)
{
    return network->side[direction].shaped;
}

bool
network_can_shape(const Network *network, ShapingDirection direction)
{
    return network->config->shape && network->uplink_known && network_usable_rate(network) != 0 &&
           network->side[direction].problem == NULL;
}

const char *
network_shaping_problem(const Network *network, ShapingDirection direction)
{
    return network->side[direction].problem;
}

gint64
network_last_reshape_us(const Network *network, ShapingDirection direction)
{
    return network->side[direction].last_reshape_us;
}

/* ---- life -------------------------------------------------------------- */

static void
network_restore_journal(Network *network)
{
    g_autoptr(GError) error = NULL;
    unsigned undone = 0;

    if (!shaping_journal_restore(network->journal, &undone, &error))
        log_event(CONFIG_LOG_WARNING, "restore-failed", "reason: %s", error->message);
    if (undone != 0)
        log_event(CONFIG_LOG_INFO, "restored", "taken_off: %u", undone);
}

Network *
network_new(const Config *config, const char *state_directory, NetworkTickFunc tick,
            gpointer user_data, GError **error)
{
    g_autoptr(Network) network = g_new0(Network, 1);

    network->config = config;
    network->tick = tick;
    network->user_data = user_data;
    network->windows = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, window_free);
    network->jobs = g_hash_table_new(NULL, NULL);
    network->host = traffic_window_new(TRAFFIC_OWNER_HOST, SMOOTHING_US);
    for (int i = 0; i < DIRECTIONS; i++)
        side_reset_windows(&network->side[i]);
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
    network->worker = g_thread_pool_new(shape_worker, NULL, 1, TRUE, error);
    if (network->worker == NULL)
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
    GHashTableIter iterator;
    gpointer item;

    if (network == NULL)
        return;
    if (network->timer != 0)
        g_source_remove(network->timer);
    if (network->worker != NULL)
        g_thread_pool_free(network->worker, TRUE, TRUE); /* what is queued is moot */
    if (network->jobs != NULL) {
        g_autoptr(GError) stopping =
            g_error_new_literal(G_IO_ERROR, G_IO_ERROR_CANCELLED, "the daemon stops");

        g_hash_table_iter_init(&iterator, network->jobs);
        while (g_hash_table_iter_next(&iterator, &item, NULL)) {
            ShapeJob *job = item;

            g_idle_remove_by_data(job);
            if (job->done != NULL)
                job->done(stopping, job->user_data);
            shape_job_free(job);
        }
        g_hash_table_unref(network->jobs);
    }
    for (int i = 0; i < DIRECTIONS; i++) {
        Side *side = &network->side[i];
        g_autoptr(GError) error = NULL;

        if (side->shaper != NULL && !shaper_remove(side->shaper, &error))
            log_event(CONFIG_LOG_ERROR, "unshape-failed", "device: %s, reason: %s",
                      network->uplink.name, error->message);
        g_clear_pointer(&side->shaper, shaper_free);
        g_clear_pointer(&side->workload, traffic_window_free);
        g_clear_pointer(&side->migrations, traffic_window_free);
        g_free(side->problem);
    }
    g_clear_pointer(&network->windows, g_hash_table_unref);
    g_clear_pointer(&network->host, traffic_window_free);
    g_clear_pointer(&network->link_counters, link_counters_free);
    g_clear_pointer(&network->class_counters, class_counters_free);
    g_clear_pointer(&network->journal, shaping_journal_close);
    g_free(network->uplink_peer);
    g_free(network->uplink_problem);
    g_free(network);
}
