/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whom a class can make wait for its turn beside another migration, and in what order. */
#include "daemon/planner-private.h"

#include <libvirt/libvirt.h>

#define NOW_US (1000 * G_USEC_PER_SEC)

typedef struct {
    bool peer_to_peer;
    bool tells_port;
    unsigned pass;
    bool tunnelled;
    bool moves;
    bool incoming;
    bool ended;
    unsigned port;
    const char *peer; /* NULL: not known yet */
    uint64_t flags;
} Facts;

static Migration *
add(Manager *manager, const Facts *facts)
{
    MigrationRole role = facts->incoming ? MIGRATION_ROLE_DESTINATION : MIGRATION_ROLE_SOURCE;
    Migration *migration = migration_new(manager->migrations->len + 1, role, "web", NULL, NOW_US);
    FlowAddress address;

    migration->peer_to_peer = facts->peer_to_peer;
    migration->tells_port = facts->tells_port;
    migration->machine.iteration = facts->pass;
    migration->tunnelled = facts->tunnelled;
    migration->port_first = migration->port_last = facts->port;
    migration->flags = migration->user_flags = facts->flags;
    migration->machine.state = facts->ended   ? MIGRATION_ENDED
                               : facts->moves ? MIGRATION_RUNNING
                                              : MIGRATION_WAITING;
    if (facts->peer != NULL) {
        g_assert_true(flow_address_parse(facts->peer, &address));
        g_array_append_val(migration->peer_addresses, address);
    }
    g_ptr_array_add(manager->migrations, migration);
    return migration;
}

static void
free_migration(gpointer data)
{
    migration_free(data);
}

static void
manager_begin(Manager *manager, Config *config)
{
    *config = (Config){ .scheduling = SCHEDULING_AUTOMATIC };
    *manager =
        (Manager){ .config = config, .migrations = g_ptr_array_new_with_free_func(free_migration) };
}

/* Of one migration alone. */
static Migration *
manager_begin_with(Manager *manager, Config *config, const Facts *facts)
{
    manager_begin(manager, config);
    return add(manager, facts);
}

static void
test_told_apart(void)
{
    static const struct {
        const char *name;
        Facts one, other;
        AllocateTurn turn;
    } rows[] = {
        { "direct ones will name their ports", { 0 }, { 0 }, ALLOCATE_TURN_TAKES },
        { "direct ones with ports",
          { .moves = true, .port = 49152, .peer = "192.0.2.1" },
          { .moves = true, .port = 49153, .peer = "192.0.2.1" },
          ALLOCATE_TURN_TAKES },
        { "one port each, of nobody knows which hosts",
          { .moves = true, .port = 49152 },
          { .moves = true, .port = 49152 },
          ALLOCATE_TURN_NONE },
        { "the same at a destination, where it is its own",
          { .incoming = true, .moves = true, .port = 49152 },
          { .incoming = true, .moves = true },
          ALLOCATE_TURN_TAKES },
        { "a direct one that moves without a port",
          { .moves = true, .peer = "192.0.2.1" },
          { .moves = true, .port = 49153, .peer = "192.0.2.1" },
          ALLOCATE_TURN_TAKES },
        { "peer-to-peer to one host",
          { .peer_to_peer = true, .peer = "192.0.2.1" },
          { .peer_to_peer = true, .peer = "192.0.2.1" },
          ALLOCATE_TURN_NONE },
        { "peer-to-peer to one host by IPv6",
          { .peer_to_peer = true, .peer = "2001:db8::1" },
          { .peer_to_peer = true, .peer = "2001:db8::1" },
          ALLOCATE_TURN_NONE },
        { "peer-to-peer to two hosts",
          { .peer_to_peer = true, .peer = "192.0.2.1" },
          { .peer_to_peer = true, .peer = "192.0.2.2" },
          ALLOCATE_TURN_TAKES },
        { "peer-to-peer to a host not known yet",
          { .peer_to_peer = true, .peer = "192.0.2.1" },
          { .peer_to_peer = true },
          ALLOCATE_TURN_NONE },
        { "peer-to-peer with ports",
          { .peer_to_peer = true, .port = 49152, .peer = "192.0.2.1" },
          { .peer_to_peer = true, .port = 49153, .peer = "192.0.2.1" },
          ALLOCATE_TURN_TAKES },
        { "peer-to-peer whose ports will be named",
          { .peer_to_peer = true, .tells_port = true, .peer = "192.0.2.1" },
          { .peer_to_peer = true, .tells_port = true, .peer = "192.0.2.1" },
          ALLOCATE_TURN_TAKES },
        { "the same, of which one prepares and one moves by the port that was named",
          { .peer_to_peer = true, .tells_port = true, .moves = true, .peer = "192.0.2.1" },
          { .peer_to_peer = true, .port = 49152, .moves = true, .pass = 1, .peer = "192.0.2.1" },
          ALLOCATE_TURN_TAKES },
        { "it moves, and its port was never named",
          { .peer_to_peer = true,
            .tells_port = true,
            .moves = true,
            .pass = 1,
            .peer = "192.0.2.1" },
          { .peer_to_peer = true, .moves = true, .pass = 1, .peer = "192.0.2.1" },
          ALLOCATE_TURN_NONE },
        { "parallel connections, which QEMU makes",
          { .peer_to_peer = true,
            .tells_port = true,
            .flags = VIR_MIGRATE_PARALLEL,
            .peer = "192.0.2.1" },
          { .peer_to_peer = true, .flags = VIR_MIGRATE_PARALLEL, .peer = "192.0.2.1" },
          ALLOCATE_TURN_NONE },
        { "one port is taken before a range that it is in",
          { .port = 49152, .moves = true, .peer = "192.0.2.1" },
          { .moves = true, .peer_to_peer = true, .peer = "192.0.2.1" },
          ALLOCATE_TURN_TAKES },
        { "one that will name its port beside a range that moves",
          { .peer = "192.0.2.1" },
          { .moves = true, .peer_to_peer = true, .peer = "192.0.2.1" },
          ALLOCATE_TURN_TAKES },
        { "one that moves beside a range that waits",
          { .port = 49152, .moves = true, .peer = "192.0.2.1" },
          { .peer_to_peer = true, .peer = "192.0.2.1" },
          ALLOCATE_TURN_TAKES },
        { "a range beside one port",
          { .moves = true, .peer_to_peer = true, .peer = "192.0.2.1" },
          { .port = 49152, .moves = true, .peer = "192.0.2.1" },
          ALLOCATE_TURN_TAKES },
        { "two ranges",
          { .moves = true, .peer = "192.0.2.1" },
          { .moves = true, .peer_to_peer = true, .peer = "192.0.2.1" },
          ALLOCATE_TURN_NONE },
        { "one port beside disks",
          { .port = 49152, .moves = true, .peer = "192.0.2.1" },
          { .port = 49153,
            .moves = true,
            .peer = "192.0.2.1",
            .flags = VIR_MIGRATE_NON_SHARED_INC },
          ALLOCATE_TURN_TAKES },
        { "a range beside disks",
          { .moves = true },
          { .port = 49153,
            .moves = true,
            .peer = "192.0.2.1",
            .flags = VIR_MIGRATE_NON_SHARED_INC },
          ALLOCATE_TURN_NONE },
        { "disks beside one port",
          { .port = 49152,
            .moves = true,
            .peer = "192.0.2.1",
            .flags = VIR_MIGRATE_NON_SHARED_INC },
          { .port = 49153, .moves = true, .peer = "192.0.2.1" },
          ALLOCATE_TURN_NONE },
        { "disks", { .flags = VIR_MIGRATE_NON_SHARED_INC }, { 0 }, ALLOCATE_TURN_NONE },
        { "tunnelled", { .tunnelled = true }, { 0 }, ALLOCATE_TURN_NONE },
        { "beside one that ended",
          { .peer_to_peer = true },
          { .peer_to_peer = true, .ended = true },
          ALLOCATE_TURN_TAKES },
        { "beside one that arrives",
          { .peer_to_peer = true },
          { .peer_to_peer = true, .incoming = true },
          ALLOCATE_TURN_TAKES },
        { "QEMU would throttle it",
          { .flags = VIR_MIGRATE_AUTO_CONVERGE },
          { 0 },
          ALLOCATE_TURN_NONE },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Config config;
        Manager manager;
        Migration *one;

        g_test_message("%s", rows[i].name);
        manager_begin(&manager, &config);
        one = add(&manager, &rows[i].one);
        add(&manager, &rows[i].other);
        g_assert_cmpint(planner_turn(&manager, one), ==, rows[i].turn);
        config.scheduling = SCHEDULING_PARALLEL;
        g_assert_cmpint(planner_turn(&manager, one), ==, ALLOCATE_TURN_NONE);
        g_ptr_array_unref(manager.migrations);
    }
}

static void
test_first(void)
{
    static const Facts facts = { .flags = VIR_MIGRATE_AUTO_CONVERGE };
    Config config;
    Manager manager;
    Migration *one = manager_begin_with(&manager, &config, &facts);

    one->last_round = true;
    g_assert_cmpint(planner_turn(&manager, one), ==, ALLOCATE_TURN_FIRST);
    one->last_round = false;
    one->machine.state = MIGRATION_POST_COPY;
    g_assert_cmpint(planner_turn(&manager, one), ==, ALLOCATE_TURN_FIRST);
    one->recovery.broken = true;
    g_assert_cmpint(planner_turn(&manager, one), ==, ALLOCATE_TURN_NONE);
    g_ptr_array_unref(manager.migrations);
}

/* What waits is last; what began comes in the order of its admission; high goes by volume. */
static void
test_places(void)
{
    static const Facts facts = { 0 };
    Config config;
    Manager manager;
    Migration *one = manager_begin_with(&manager, &config, &facts);

    one->priority = PRIORITY_MEDIUM;
    g_assert_cmpuint(planner_allocation_item(&manager, one, NOW_US + 7).place, ==, NOW_US + 7);
    one->machine.state = MIGRATION_RUNNING;
    g_assert_cmpuint(planner_allocation_item(&manager, one, NOW_US + 7).place, ==, NOW_US);
    one->admitted_us = NOW_US + 5;
    g_assert_cmpuint(planner_allocation_item(&manager, one, NOW_US + 7).place, ==, NOW_US + 5);
    one->last_round = true; /* its turn, with the weight of its priority */
    g_assert_cmpint(planner_allocation_item(&manager, one, NOW_US + 7).turn, ==,
                    ALLOCATE_TURN_FIRST);
    g_assert_cmpfloat(planner_allocation_item(&manager, one, NOW_US).weight, <,
                      reserve_weight(PRIORITY_HIGH) * reserve_weight(PRIORITY_HIGH));
    one->priority = PRIORITY_HIGH;
    g_assert_cmpuint(planner_allocation_item(&manager, one, NOW_US + 7).place, ==, 0);
    g_ptr_array_unref(manager.migrations);
}

static bool
may_fall_behind(const Manager *manager, const Migration *migration, gint64 after_seconds)
{
    return planner_allocation_item(manager, migration, NOW_US + after_seconds * G_USEC_PER_SEC)
        .may_fall_behind;
}

/* Whoever dirties a lot is spared for a minute of waiting, not longer. */
static void
test_falls_behind(void)
{
    static const Facts facts = { .moves = true };
    Config config;
    Manager manager;
    Migration *one = manager_begin_with(&manager, &config, &facts);

    g_assert_true(may_fall_behind(&manager, one, 0));
    one->share.reason = ALLOCATE_REASON_WAITS;
    one->share_us = NOW_US;
    g_assert_true(may_fall_behind(&manager, one, 59));
    g_assert_false(may_fall_behind(&manager, one, 60));
    /* Its turn does not make it forget at once. */
    one->waited_us = planner_waited_us(one, NOW_US + 70 * G_USEC_PER_SEC);
    one->share_us = NOW_US + 70 * G_USEC_PER_SEC;
    one->share.reason = ALLOCATE_REASON_TURN;
    g_assert_false(may_fall_behind(&manager, one, 71));
    g_assert_false(may_fall_behind(&manager, one, 80));
    g_assert_true(may_fall_behind(&manager, one, 81));
    g_assert_cmpint(planner_waited_us(one, NOW_US + 1000 * G_USEC_PER_SEC), ==, 0);
    /* What it has sent of later passes would be dirtied again. */
    one->machine.iteration = 1;
    g_assert_true(may_fall_behind(&manager, one, 1000));
    one->machine.iteration = 2;
    g_assert_false(may_fall_behind(&manager, one, 1000));
    g_ptr_array_unref(manager.migrations);
}

static gint64
gathering_left_ms(const Manager *manager, const Migration *migration, gint64 after_ms)
{
    return planner_gathering_left(manager, migration, NOW_US + after_ms * 1000) / 1000;
}

/* Alone so long; once another one came twice as long after it; at most five times in all. */
static void
test_gathering(void)
{
    static const Facts facts = { 0 };
    static const Facts incoming = { .incoming = true };
    static const Facts ended = { .ended = true };
    static const Facts moves = { .moves = true };
    Config config;
    Manager manager;
    Migration *one = manager_begin_with(&manager, &config, &facts);
    Migration *other;

    config.gathering_time = 200;
    add(&manager, &incoming);
    add(&manager, &ended);
    add(&manager, &moves)->created_us = NOW_US - 1001 * 1000; /* long ago */
    g_assert_cmpint(gathering_left_ms(&manager, one, 0), ==, 200);
    g_assert_cmpint(gathering_left_ms(&manager, one, 150), ==, 50);
    g_assert_cmpint(gathering_left_ms(&manager, one, 200), ==, 0);
    other = add(&manager, &facts);
    other->created_us = NOW_US + 150 * 1000;
    g_assert_cmpint(gathering_left_ms(&manager, one, 150), ==, 400);
    g_assert_cmpint(gathering_left_ms(&manager, other, 150), ==, 400);
    add(&manager, &moves)->created_us = NOW_US + 500 * 1000;
    g_assert_cmpint(gathering_left_ms(&manager, one, 500), ==, 400);
    add(&manager, &facts)->created_us = NOW_US + 900 * 1000;
    g_assert_cmpint(gathering_left_ms(&manager, one, 900), ==, 100);
    g_assert_cmpint(gathering_left_ms(&manager, other, 900), ==, 250);
    one->machine.state = MIGRATION_RUNNING;
    g_assert_cmpint(gathering_left_ms(&manager, one, 900), ==, 0);
    config.gathering_time = 0;
    g_assert_cmpint(gathering_left_ms(&manager, other, 150), ==, 0);
    g_ptr_array_unref(manager.migrations);
}

static void
test_reached(void)
{
    static const Facts facts = { .moves = true };
    Config config;
    Manager manager;
    Migration *one = manager_begin_with(&manager, &config, &facts);

    one->priority = PRIORITY_MEDIUM;
    g_assert_cmpuint(planner_stream_reached(one, NOW_US), ==, 0);
    one->streams = (ParallelMeter){ .latest_us = NOW_US, .latest = 60, .latest_room = 100 };
    g_assert_cmpuint(planner_stream_reached(one, NOW_US), ==, 60);
    one->priority = PRIORITY_HIGH;
    g_assert_cmpuint(planner_stream_reached(one, NOW_US), ==, 0);
    one->priority = PRIORITY_LOW;
    one->machine.state = MIGRATION_POST_COPY;
    g_assert_cmpuint(planner_stream_reached(one, NOW_US), ==, 0);
    /* Who waits for its turn is not asked what there was for it. */
    one->machine.state = MIGRATION_RUNNING;
    one->share.reason = ALLOCATE_REASON_WAITS;
    g_assert_cmpuint(planner_stream_reached(one, NOW_US), ==, 0);
    one->statistics = (JobStatistics){ .valid = true, .active = true, .throughput = 10 };
    g_assert_cmpuint(planner_stream_reached(one, NOW_US), ==, 10);
    one->statistics.throughput = 0;
    g_assert_cmpuint(planner_stream_reached(one, NOW_US), ==, 1);
    g_ptr_array_unref(manager.migrations);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/turns/told-apart", test_told_apart);
    g_test_add_func("/daemon/turns/first", test_first);
    g_test_add_func("/daemon/turns/places", test_places);
    g_test_add_func("/daemon/turns/falls-behind", test_falls_behind);
    g_test_add_func("/daemon/turns/gathering", test_gathering);
    g_test_add_func("/daemon/turns/reached", test_reached);
    return g_test_run();
}
