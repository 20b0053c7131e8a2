/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The shaping worker; see network.h.
 *
 *   main loop                          worker thread (one)
 *   ---------                          -------------------
 *   network_shape: ShapeJob  --------> shaper_apply / shaper_remove
 *   every second: ShapeJob  ---------> shaper_check
 *   job_done  <----------------------- g_idle_add
 *
 * A Shaper is touched by the worker only; `shaped` and `problem` by the main
 * loop only. Jobs run, and their results come, in the order in which they were
 * given: a look at what stands never sees half of a change of ours.
 */
#include "daemon/network-private.h"

#include "common/log.h"

/* Between two looks whether what was put up stands; one takes the worker some 0.3 ms. */
#define WATCH_US G_USEC_PER_SEC
/* Of putting classes up, in a row: what fails that often is not a hiccup. */
#define FAILURES_MAXIMUM 4

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
shape_job_free(ShapeJob *job)
{
    g_clear_error(&job->error);
    g_free(job->plan);
    g_free(job);
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
        network_reset_windows(side);
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
        network_reset_windows(side);
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
job_push(const ShapeJob *given)
{
    ShapeJob *job = g_memdup2(given, sizeof(*given));

    g_hash_table_add(job->network->jobs, job);
    g_thread_pool_push(job->network->worker, job, NULL);
}

static void
shape_job_push(Network *network, ShapingDirection direction, ShapingPlan *plan,
               NetworkShapeDone done, gpointer user_data)
{
    job_push(&(ShapeJob){ .network = network,
                          .direction = direction,
                          .shaper = network->side[direction].shaper,
                          .plan = plan,
                          .done = done,
                          .user_data = user_data });
}

static void
watch_job_push(Network *network, ShapingDirection direction)
{
    network->side[direction].watching = true;
    job_push(&(ShapeJob){ .network = network,
                          .direction = direction,
                          .shaper = network->side[direction].shaper,
                          .watch = true });
}

/* Something stands that no side has up: tc or ip failed when it was to go. */
static bool
network_has_leftovers(const Network *network)
{
    for (int i = 0; i < NETWORK_DIRECTIONS; i++) {
        if (network->side[i].shaped || network->side[i].stuck)
            return false;
    }
    return g_hash_table_size(network->jobs) == 0 && !shaping_journal_is_empty(network->journal);
}

void
network_retry_removals(Network *network)
{
    for (int i = 0; i < NETWORK_DIRECTIONS; i++) {
        if (network->side[i].stuck && !network_is_busy(network, (ShapingDirection)i))
            shape_job_push(network, (ShapingDirection)i, NULL, NULL, NULL);
    }
    /* Without a shaper: what the journal says. */
    if (network_has_leftovers(network))
        job_push(&(ShapeJob){ .network = network });
}

void
network_abandon_shaping(Network *network)
{
    for (int i = 0; i < NETWORK_DIRECTIONS; i++) {
        if (network->side[i].shaped || network_is_busy(network, (ShapingDirection)i))
            shape_job_push(network, (ShapingDirection)i, NULL, NULL, NULL);
    }
}

/* While a change of ours is under way the change itself looks. */
void
network_watch_shaping(Network *network, gint64 now_us)
{
    for (int i = 0; i < NETWORK_DIRECTIONS; i++) {
        Side *side = &network->side[i];

        if (!side->shaped || side->watching || now_us - side->watched_us < WATCH_US ||
            network_is_busy(network, (ShapingDirection)i))
            continue;
        side->watched_us = now_us;
        watch_job_push(network, (ShapingDirection)i);
    }
}

bool
network_shaping_is_due(const Network *network, ShapingDirection direction, gint64 now_us)
{
    const Side *side = &network->side[direction];

    return side->failures > 0 && side->failures < FAILURES_MAXIMUM &&
           now_us - side->failed_us > NETWORK_RETRY_US;
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

void
network_restore_journal(Network *network)
{
    g_autoptr(GError) error = NULL;
    unsigned undone = 0;

    if (!shaping_journal_restore(network->journal, &undone, &error))
        log_event(CONFIG_LOG_WARNING, "restore-failed", "reason: %s", error->message);
    if (undone != 0)
        log_event(CONFIG_LOG_INFO, "restored", "taken_off: %u", undone);
}

bool
network_start_worker(Network *network, GError **error)
{
    network->worker = g_thread_pool_new(shape_worker, NULL, 1, TRUE, error);
    return network->worker != NULL;
}

void
network_stop_worker(Network *network)
{
    GHashTableIter iterator;
    gpointer item;

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
    for (int i = 0; i < NETWORK_DIRECTIONS; i++) {
        Side *side = &network->side[i];
        g_autoptr(GError) error = NULL;

        if (side->shaper != NULL && !shaper_remove(side->shaper, &error))
            log_event(CONFIG_LOG_ERROR, "unshape-failed", "device: %s, reason: %s",
                      network->uplink.name, error->message);
        g_clear_pointer(&side->shaper, shaper_free);
        g_free(side->problem);
    }
}
