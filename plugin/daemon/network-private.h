/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the network*.c files share; nobody else includes this. */
#pragma once

#include "daemon/network.h"

#include "shaping/shaper.h"
#include "traffic/class_counters.h"
#include "traffic/link_counters.h"
#include "traffic/window.h"

#define NETWORK_DIRECTIONS 2
/* Before what failed is tried again, and between two looks for an uplink. */
#define NETWORK_RETRY_US (5 * G_USEC_PER_SEC)

/* One direction of the uplink. */
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
    /* Bytes of everything but migrations, as a counter of our own: see side_account(). */
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
    Side side[NETWORK_DIRECTIONS];
    GHashTable *jobs; /* ShapeJob that are under way */
    gint64 retried_us;
    gint64 rate_read_us;
    bool counters_problem_told;
};

/* Of taps, uplink and classes, as long as the network lives. */
void network_start_windows(Network *network);
void network_free_windows(Network *network);
/* Begins to measure a direction anew: what it is measured by was put up or taken off. */
void network_reset_windows(Side *side);
/* Adds what the taps, and the uplink where it is known, have counted. */
void network_sample_links(Network *network, gint64 now_us, const GArray *links);
void network_sample_host(Network *network, gint64 now_us, const GArray *links);

/* What an earlier daemon left goes. */
void network_restore_journal(Network *network);
bool network_start_worker(Network *network, GError **error);
/* Waits for its present run, ends what is queued, takes everything off. */
void network_stop_worker(Network *network);
/* Takes off again what could not be taken off. */
void network_retry_removals(Network *network);
/* The device is not ours any more: what stands of ours goes. */
void network_abandon_shaping(Network *network);
/* Looks whether what was put up stands, now and then. */
void network_watch_shaping(Network *network, gint64 now_us);
