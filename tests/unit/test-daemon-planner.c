/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From a manager's records to a plan: whose lower limit has a class of its own
 * at which end, and what a migration has in its last round. No tc is called, and
 * libvirt is its test driver, which is never waited for.
 */
#include "daemon/manager-private.h"
#include "daemon/planner.h"
#include "daemon-test.h"

#include <glib/gstdio.h>
#include <libvirt/libvirt.h>
#include <string.h>

#define MBIT (UINT64_C(1000000) / 8)
#define MB UINT64_C(1000000)
#define LINK (190 * MBIT)
#define UUID "00000000-0000-4000-8000-00000000000"
#define SHARED 0xff /* last byte of a MAC that two have */

typedef struct {
    Config *config;
    Manager *manager;
    char *directory;
} Fixture;

static void
set_up(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    static const char text[] =
        "[network]\nuplink=lo\nlink-rate=200Mbit/s\nusable-link-percent=95\nshape=no\n"
        "[daemon]\nlibvirt-uri=test:///default\nlog-level=error\n"
        "data-directory=\n";
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;

    fixture->directory = g_dir_make_tmp("convoy-planner-XXXXXX", &error);
    g_assert_no_error(error);
    fixture->config = config_parse(text, strlen(text), "test", warnings);
    g_assert_cmpuint(warnings->len, ==, 0);
    fixture->manager = manager_new(fixture->config, fixture->directory, &error);
    g_assert_no_error(error);
}

static void
tear_down(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *journal = g_build_filename(fixture->directory, "shaping.journal", NULL);

    manager_free(fixture->manager);
    while (hypervisor_threads_left())
        g_usleep(1000);
    config_free(fixture->config);
    g_assert_cmpint(g_remove(journal), ==, 0);
    g_assert_cmpint(g_rmdir(fixture->directory), ==, 0);
    g_free(fixture->directory);
}

/* The VM's own MAC ends in its number; lower: Mbit/s, 0 for none. */
static void
vm_put(Fixture *fixture, unsigned number, unsigned lower, bool own_mac, bool shared_mac)
{
    g_autoptr(GString) xml = g_string_new(NULL);
    g_autoptr(GError) error = NULL;

    g_string_printf(xml,
                    "<domain><name>vm%u</name><uuid>" UUID "%u</uuid><memory unit='MiB'>64</memory>"
                    "<metadata><c:domain xmlns:c='" DOMAIN_NAMESPACE "'>",
                    number, number);
    if (lower != 0)
        g_string_append_printf(xml, "<c:sla><c:bandwidth lower='%u' unit='Mbit/s'/></c:sla>",
                               lower);
    g_string_append(xml, "</c:domain></metadata><devices>");
    if (own_mac)
        g_string_append_printf(xml,
                               "<interface type='bridge'><mac address='52:54:00:00:00:%02x'/>"
                               "</interface>",
                               number);
    if (shared_mac)
        g_string_append_printf(xml,
                               "<interface type='bridge'><mac address='52:54:00:00:00:%02x'/>"
                               "</interface>",
                               SHARED);
    g_string_append(xml, "</devices></domain>");
    registry_put(fixture->manager->registry, xml->str, &error);
    g_assert_no_error(error);
}

/* One whose memory moves; it has no description unless the test gives it one. */
static Migration *
migration_put(Fixture *fixture, MigrationRole role, unsigned number)
{
    g_autofree char *name = g_strdup_printf("vm%u", number);
    g_autofree char *uuid = g_strdup_printf(UUID "%u", number);
    Migration *migration = manager_add(fixture->manager, role, name, uuid);
    FlowAddress peer;

    migration->machine.state = MIGRATION_RUNNING;
    migration->leaf = fixture->manager->migrations->len;
    migration->port_first = migration->port_last = 49151 + migration->leaf;
    g_assert_true(flow_address_parse("192.0.2.1", &peer));
    g_array_append_val(migration->peer_addresses, peer);
    return migration;
}

/* ---- lower limits ------------------------------------------------------ */

static ShapingPlan *
floors(const Fixture *fixture)
{
    static const ShapingVm none;
    Reservation reservation = { .workload = { .rate = 100 * MBIT, .ceil = 150 * MBIT } };
    ShapingPlan *plan = g_new(ShapingPlan, 1);

    /* What was there before must not shine through. */
    memset(plan, 0xa5, sizeof *plan);
    planner_fill_floors(fixture->manager, &reservation, plan);
    for (unsigned i = plan->vm_count; i < SHAPING_VMS_MAX; i++)
        g_assert_cmpint(memcmp(&plan->vm[i], &none, sizeof none), ==, 0);
    return plan;
}

static unsigned
count_mac(const ShapingPlan *plan, unsigned id, uint8_t last)
{
    uint8_t mac[SHAPING_MAC_BYTES] = { 0x52, 0x54, 0, 0, 0, last };
    unsigned count = 0;

    for (unsigned i = 0; i < plan->vm_count; i++) {
        for (unsigned j = 0; j < plan->vm[i].mac_count; j++)
            count += (id == 0 || plan->vm[i].id == id) &&
                     memcmp(plan->vm[i].macs[j], mac, sizeof mac) == 0;
    }
    return count;
}

static void
test_floors(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree ShapingPlan *plan = NULL;
    g_autofree ShapingPlan *again = NULL;
    g_autofree ShapingPlan *without = NULL;

    vm_put(fixture, 1, 40, true, true);
    vm_put(fixture, 2, 20, true, true);
    vm_put(fixture, 3, 0, true, false);   /* no lower limit */
    vm_put(fixture, 4, 10, false, false); /* no MAC to be known by */
    plan = floors(fixture);
    g_assert_cmpuint(plan->vm_count, ==, 2);
    for (unsigned i = 0; i < 2; i++) {
        g_assert_cmpuint(plan->vm[i].id, ==, i + 1);
        g_assert_cmpuint(count_mac(plan, i + 1, (uint8_t)(i + 1)), ==, 1);
        g_assert_cmpuint(plan->vm[i].ceil, ==, 150 * MBIT);
    }
    /* 8 % for headers. */
    g_assert_cmpuint(plan->vm[0].rate, ==, 40 * MBIT / 100 * 110);
    g_assert_cmpuint(plan->vm[1].rate, ==, 20 * MBIT / 100 * 110);
    g_assert_cmpuint(count_mac(plan, 0, SHARED), ==, 1);
    g_assert_cmpuint(count_mac(plan, 0, 3), ==, 0);

    again = floors(fixture);
    g_assert_cmpint(memcmp(plan->vm, again->vm, sizeof plan->vm), ==, 0);
    g_assert_cmpuint(planner_floors_stamp(plan), ==, planner_floors_stamp(again));
    /* The other keeps its number, and is now the only one with that MAC. */
    registry_remove(fixture->manager->registry, UUID "1");
    without = floors(fixture);
    g_assert_cmpuint(without->vm_count, ==, 1);
    g_assert_cmpuint(without->vm[0].id, ==, 2);
    g_assert_cmpuint(count_mac(without, 2, SHARED), ==, 1);
    g_assert_cmpuint(planner_floors_stamp(plan), !=, planner_floors_stamp(without));
}

/* A limit counts where the VM runs: at the destination from the start of post-copy on. */
static void
test_floors_while_migrating(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        MigrationRole role;
        MigrationState state;
        bool here;
    } rows[] = {
        { MIGRATION_ROLE_SOURCE, MIGRATION_WAITING, true },
        { MIGRATION_ROLE_SOURCE, MIGRATION_RUNNING, true },
        { MIGRATION_ROLE_SOURCE, MIGRATION_POST_COPY, false },
        { MIGRATION_ROLE_DESTINATION, MIGRATION_WAITING, false },
        { MIGRATION_ROLE_DESTINATION, MIGRATION_RUNNING, false },
        { MIGRATION_ROLE_DESTINATION, MIGRATION_POST_COPY, true },
        /* It has ended: the registry alone tells whether the VM is here. */
        { MIGRATION_ROLE_SOURCE, MIGRATION_ENDED, true },
        { MIGRATION_ROLE_DESTINATION, MIGRATION_ENDED, true },
    };

    vm_put(fixture, 1, 40, true, false);
    vm_put(fixture, 2, 20, true, false);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Migration *migration = migration_put(fixture, rows[i].role, 1);
        g_autofree ShapingPlan *plan = NULL;
        ReserveInput input;

        migration->machine.state = rows[i].state;
        g_test_message("%s, %s", migration_role_to_string(rows[i].role),
                       migration_state_to_string(rows[i].state));
        plan = floors(fixture);
        g_assert_cmpuint(count_mac(plan, 1, 1), ==, rows[i].here);
        g_assert_cmpuint(count_mac(plan, 2, 2), ==, 1);
        g_assert_cmpuint(plan->vm_count, ==, rows[i].here ? 2 : 1);
        /* The class above them is promised the same, and 1 % for what has no limit. */
        manager_reserve_input(fixture->manager, SHAPING_EGRESS, NULL, &input);
        g_assert_cmpuint(input.lower, ==, (rows[i].here ? 60 : 20) * MBIT / 100 * 110 + LINK / 100);
        g_ptr_array_remove(fixture->manager->migrations, migration);
    }
}

/* ---- the last round ---------------------------------------------------- */

static ShapingPlan *
plan_now(const Fixture *fixture)
{
    const Manager *manager = fixture->manager;
    ShapingPlan *plan = g_new0(ShapingPlan, 1);

    g_assert_true(manager->side[SHAPING_EGRESS].has_reservation);
    planner_fill_plan(manager, SHAPING_EGRESS, &manager->side[SHAPING_EGRESS].reservation, plan);
    return plan;
}

/* Ten seconds of a first pass at 5 MB/s, and the second has just begun. */
static void
remember_passes(Migration *migration, uint64_t left)
{
    gint64 now_us = g_get_monotonic_time();

    for (int second = -11; second <= -1; second++) {
        ConvergeSample sample = {
            .time_us = now_us + second * G_USEC_PER_SEC,
            .iteration = second < -1 ? 1 : 2,
            .remaining = left + (uint64_t)(-1 - second) * 5 * MB,
            .transferred = (uint64_t)(second + 11) * 5 * MB,
        };
        ConvergeLimits limits = { .memory = 64 * MB };
        ConvergeDecision decision;

        converge_step(&migration->converge, &sample, &limits, &decision);
        g_assert_false(decision.last_round);
    }
    migration->statistics = (JobStatistics){ .valid = true,
                                             .active = true,
                                             .iteration = 2,
                                             .memory_total = 64 * MB,
                                             .memory_remaining = left,
                                             .memory_processed = 55 * MB };
}

/*
 * What is left fits 300 ms at all of the link but the floors: for two seconds the
 * migration has nearly all of what high priority would have, and may borrow as much.
 */
static void
check_last_round(Fixture *fixture, Priority priority, uint64_t left, uint64_t left_of_other)
{
    Manager *manager = fixture->manager;
    Migration *last = migration_put(fixture, MIGRATION_ROLE_SOURCE, 2);
    Migration *other = migration_put(fixture, MIGRATION_ROLE_SOURCE, 3);
    g_autofree ShapingPlan *before = NULL;
    g_autofree ShapingPlan *during = NULL;
    g_autofree ShapingPlan *after = NULL;
    const Reservation *reservation = &manager->side[SHAPING_EGRESS].reservation;
    uint64_t limit;

    vm_put(fixture, 1, 40, true, false); /* stays */
    last->priority = other->priority = priority;
    remember_passes(last, left);
    other->statistics = (JobStatistics){ .valid = true,
                                         .active = true,
                                         .iteration = 1,
                                         .memory_total = 64 * MB,
                                         .memory_remaining = left_of_other };
    manager_reshape(manager, SHAPING_EGRESS, NULL, NULL);
    before = plan_now(fixture);
    limit = last->limits.max_bandwidth;

    manager_converge(manager, last);
    g_assert_true(last->last_round);
    during = plan_now(fixture);
    g_test_message("%s: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                   " B/s, before %" G_GUINT64_FORMAT,
                   priority_to_string(priority), during->migration[0].rate, during->migrations.rate,
                   before->migration[0].rate);
    g_assert_cmpuint(during->migrations.rate, ==, LINK - reservation->lower);
    g_assert_cmpuint(during->migrations.rate, >, before->migrations.rate);
    g_assert_cmpuint(during->migration[0].rate, >=, during->migrations.rate / 4 * 3);
    g_assert_cmpuint(during->migration[0].ceil, ==, reservation->leaf[PRIORITY_HIGH].ceil);
    g_assert_cmpuint(during->migration[0].ceil, ==, LINK);
    /* Where no class is to be had, QEMU's own limit is all there is. */
    g_assert_cmpuint(last->limits.max_bandwidth, >, limit);

    /* As if it had begun three seconds ago. */
    last->converge.last_round_us -= 3 * G_USEC_PER_SEC;
    manager_converge(manager, last);
    g_assert_false(last->last_round);
    after = plan_now(fixture);
    g_assert_cmpuint(after->migrations.rate, ==, before->migrations.rate);
    g_assert_cmpuint(after->migration[0].rate, ==, before->migration[0].rate);
    g_assert_cmpuint(after->migration[0].ceil, ==, before->migration[0].ceil);
}

static void
test_last_round_medium(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    check_last_round(fixture, PRIORITY_MEDIUM, 5 * MB, 5 * MB);
}

static void
test_last_round_low(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    check_last_round(fixture, PRIORITY_LOW, 5 * MB, 40 * MB);
}

/* No round is lent for what would not fit it: the caller's limit, or the other end's link. */
static void
test_last_round_bounded(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    Migration *migration = migration_put(fixture, MIGRATION_ROLE_SOURCE, 1);

    manager_reshape(fixture->manager, SHAPING_EGRESS, NULL, NULL);
    remember_passes(migration, 5 * MB);
    migration->user_bandwidth_mib = 10;
    manager_converge(fixture->manager, migration);
    g_assert_false(migration->last_round);
    migration->user_bandwidth_mib = 0;
    migration->peer_known = true;
    migration->peer.link_rate = 10 * MB;
    manager_converge(fixture->manager, migration);
    g_assert_false(migration->last_round);
    migration->peer.link_rate = 100 * MB;
    migration->peer.sla_lower = (PeerNumber){ true, 85 * MB };
    manager_converge(fixture->manager, migration);
    g_assert_false(migration->last_round);
    migration->peer.sla_lower.value = 30 * MB;
    manager_converge(fixture->manager, migration);
    g_assert_true(migration->last_round);
}

/* ---- turns --------------------------------------------------------------- */

/* The first one borrows first, and whose turn it is is worth a new division. */
static void
test_turns(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    Manager *manager = fixture->manager;
    Migration *one = migration_put(fixture, MIGRATION_ROLE_SOURCE, 1);
    Migration *two = migration_put(fixture, MIGRATION_ROLE_SOURCE, 2);
    const Reservation *reservation = &manager->side[SHAPING_EGRESS].reservation;
    g_autofree ShapingPlan *plan = NULL;
    g_autofree ShapingPlan *evenly = NULL;
    Migration *third;

    one->priority = two->priority = PRIORITY_LOW;
    one->admitted_us = 1;
    two->admitted_us = 2;
    manager_reshape(manager, SHAPING_EGRESS, NULL, NULL);
    plan = plan_now(fixture);
    g_assert_cmpint(one->share.reason, ==, ALLOCATE_REASON_TURN);
    g_assert_cmpint(two->share.reason, ==, ALLOCATE_REASON_WAITS);
    g_assert_true(plan->migration[0].goes_first);
    g_assert_false(plan->migration[1].goes_first);
    g_assert_cmpuint(plan->migration[0].prio, <, plan->migration[1].prio);
    g_assert_false(planner_shares_differ(manager, SHAPING_EGRESS, reservation));
    /* The floor is so low that its division hardly changes. */
    two->admitted_us = 0;
    two->created_us = 0;
    g_assert_true(planner_shares_differ(manager, SHAPING_EGRESS, reservation));
    /* What it waited until now is remembered. */
    two->share_us -= 5 * G_USEC_PER_SEC;
    g_free(plan_now(fixture));
    g_assert_cmpint(two->share.reason, ==, ALLOCATE_REASON_TURN);
    g_assert_cmpint(two->waited_us, >=, 5 * G_USEC_PER_SEC);
    /* Beside one that shares evenly nobody goes first. */
    third = migration_put(fixture, MIGRATION_ROLE_SOURCE, 3);
    third->flags = VIR_MIGRATE_AUTO_CONVERGE;
    third->priority = PRIORITY_LOW;
    evenly = plan_now(fixture);
    g_assert_cmpint(two->share.reason, ==, ALLOCATE_REASON_TURN);
    g_assert_false(evenly->migration[1].goes_first);
}

/* ---- what those that run leave to others --------------------------------- */

/* Rates are known from the second sample on. */
static void
measure(const Fixture *fixture)
{
    while (!network_host_rates(fixture->manager->network).valid)
        g_main_context_iteration(NULL, TRUE);
}

static void
peer_set(Migration *migration, const char *text)
{
    FlowAddress peer;

    g_array_set_size(migration->peer_addresses, 0);
    if (text == NULL)
        return;
    g_assert_true(flow_address_parse(text, &peer));
    g_array_append_val(migration->peer_addresses, peer);
}

/* The first one has told what its destination has free; of 20 MB the last moves after ... */
static void
test_free_towards(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        const char *name;
        uint64_t in; /* that the destination receives, of 100 Mbit/s */
        const char *waiting;
        const char *third; /* another one that runs; "": there is none */
        double least;      /* ... so many seconds, and this one begins */
        double most;
    } rows[] = {
        { "to the same host", 90, "192.0.2.1", "", 14, 17 },
        { "to the same host, which is idle", 0, "192.0.2.1", "", 1, 3 },
        { "not known yet where to", 90, NULL, "", 14, 17 },
        { "to another host", 90, "192.0.2.2", "", 0.5, 2 },
        { "of several hosts", 90, NULL, "192.0.2.2", 0.5, 3 },
        { "beside one that did not say where to", 90, "192.0.2.1", NULL, 14, 40 },
    };
    Manager *manager = fixture->manager;

    measure(fixture);
    fixture->config->scheduling = SCHEDULING_SERIAL;
    fixture->config->gathering_time = 0;
    manager->prepare_seconds = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Migration *one = migration_put(fixture, MIGRATION_ROLE_SOURCE, 1);
        Migration *third = NULL;
        Migration *waiting;
        double seconds;

        one->running_us = g_get_monotonic_time();
        one->statistics = (JobStatistics){
            .valid = true, .active = true, .memory_total = 64 * MB, .memory_remaining = 20 * MB
        };
        one->peer_known = true;
        one->peer.link_rate = 100 * MBIT;
        one->peer.host = (TrafficRates){ .valid = true, .in = rows[i].in * MBIT };
        if (g_strcmp0(rows[i].third, "") != 0) {
            third = migration_put(fixture, MIGRATION_ROLE_SOURCE, 3);
            peer_set(third, rows[i].third);
            third->running_us = one->running_us;
            third->statistics = one->statistics;
            third->statistics.memory_remaining = 1;
        }
        waiting = migration_put(fixture, MIGRATION_ROLE_SOURCE, 2);
        waiting->machine.state = MIGRATION_WAITING;
        peer_set(waiting, rows[i].waiting);
        planner_estimate_starts(manager);
        seconds = (double)(waiting->start_expected_us - g_get_monotonic_time()) / G_USEC_PER_SEC;
        g_test_message("%s: begins after %.1f s", rows[i].name, seconds);
        g_assert_cmpfloat(seconds, >, rows[i].least);
        g_assert_cmpfloat(seconds, <, rows[i].most);
        g_ptr_array_set_size(manager->migrations, 0);
    }
}

/* Of medium priority, for a second; the first one has its turn, the others wait for theirs. */
static Migration *
turn_put(Fixture *fixture, unsigned number, uint64_t left, uint64_t throughput)
{
    Migration *migration = migration_put(fixture, MIGRATION_ROLE_SOURCE, number);
    gint64 now_us = g_get_monotonic_time();

    migration->priority = PRIORITY_MEDIUM;
    migration->running_us = now_us - G_USEC_PER_SEC;
    migration->statistics_us = now_us;
    migration->dirty = dirty_curve_from_rate(100, 100, 64 * MB);
    migration->share.reason = number == 1 ? ALLOCATE_REASON_TURN : ALLOCATE_REASON_WAITS;
    migration->statistics = (JobStatistics){ .valid = true,
                                             .active = true,
                                             .memory_total = 64 * MB,
                                             .memory_remaining = left,
                                             .throughput = throughput };
    return migration;
}

static void
waiting_put(Fixture *fixture, unsigned number)
{
    Migration *migration = migration_put(fixture, MIGRATION_ROLE_SOURCE, number);

    migration->priority = PRIORITY_MEDIUM;
    migration->machine.state = MIGRATION_WAITING;
}

/*
 * A connection carries 12 MB/s. One of medium priority reaches 5, the next one waits for its
 * turn and reaches 1: a third one may start beside them, and leaves no room for a fourth.
 * Where the first one ends in a moment the second one is about to have it.
 */
static void
test_starts_beside_one_that_waits(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        const char *name;
        uint64_t left;
        guint starting;
    } rows[] = {
        { "the first one goes on", 50 * MB, 1 },
        { "the first one ends", 100, 1 },
    };
    Manager *manager = fixture->manager;

    measure(fixture);
    fixture->config->gathering_time = 0;
    fixture->config->one_stream_rate = 12 * MB;
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GPtrArray) starting = NULL;
        Migration *first = turn_put(fixture, 1, rows[i].left, 5 * MB);

        first->streams = (ParallelMeter){ .latest_us = g_get_monotonic_time(),
                                          .latest = 5 * MB,
                                          .latest_room = 20 * MB };
        turn_put(fixture, 2, 50 * MB, MB);
        waiting_put(fixture, 3);
        waiting_put(fixture, 4);
        starting = planner_schedule(manager);
        g_test_message("%s: %u start", rows[i].name, starting->len);
        g_assert_cmpuint(starting->len, ==, rows[i].starting);
        g_ptr_array_set_size(manager->migrations, 0);
    }
}

/* Two run, a third one waits; it prepares while the first one ends. */
static void
test_starts_while_one_ends(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        uint64_t left;
        guint starting;
    } rows[] = { { 50 * MB, 0 }, { 100, 1 } };
    Manager *manager = fixture->manager;

    measure(fixture);
    fixture->config->gathering_time = 0;
    fixture->config->shape = true;
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GPtrArray) starting = NULL;

        turn_put(fixture, 1, rows[i].left, 20 * MB);
        turn_put(fixture, 2, 50 * MB, MB);
        waiting_put(fixture, 3);
        starting = planner_schedule(manager);
        g_test_message("%" G_GUINT64_FORMAT " left: %u start", rows[i].left, starting->len);
        g_assert_cmpuint(starting->len, ==, rows[i].starting);
        g_ptr_array_set_size(manager->migrations, 0);
    }
    fixture->config->shape = false;
}

/* As many as there are classes for, incoming ones among them; then high priority waits, too. */
static void
test_starts_bounded(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        unsigned configured;
        unsigned incoming;
        guint starting;
        bool no_classes;
    } rows[] = {
        { 0, 0, SHAPING_MIGRATIONS_MAX, false },        { 0, 3, SHAPING_MIGRATIONS_MAX - 3, false },
        { 1000, 3, SHAPING_MIGRATIONS_MAX - 3, false }, { 5, 3, 5, false },
        { 0, SHAPING_MIGRATIONS_MAX, 1, false },        { 0, 3, SHAPING_MIGRATIONS_MAX + 6, true },
    };
    Manager *manager = fixture->manager;

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GPtrArray) starting = NULL;

        fixture->config->maximum_running = rows[i].configured;
        fixture->config->shape = !rows[i].no_classes;
        for (unsigned number = 0; number < rows[i].incoming; number++)
            migration_put(fixture, MIGRATION_ROLE_DESTINATION, number);
        for (unsigned number = 0; number < SHAPING_MIGRATIONS_MAX + 6; number++) {
            Migration *migration = migration_put(fixture, MIGRATION_ROLE_SOURCE, 100 + number);

            migration->machine.state = MIGRATION_WAITING;
            migration->priority = PRIORITY_HIGH;
        }
        starting = planner_schedule(manager);
        g_test_message("row %zu: %u start", i, starting->len);
        g_assert_cmpuint(starting->len, ==, rows[i].starting);
        g_ptr_array_set_size(manager->migrations, 0);
    }
    fixture->config->shape = false;
}

/* What another host's migrations take of 190 Mbit/s decides whether this host's come in. */
static void
test_incoming(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        const char *name;
        unsigned running_s; /* for which one of host 1 has moved memory */
        uint64_t running;   /* Mbit/s of its host's link; 0: not told */
        uint64_t waiting;   /* likewise of the one that host 2 offers */
        unsigned source;    /* of the one that waits */
        bool let_in;
    } rows[] = {
        { "as fast a link, just begun", 1, 190, 190, 2, false },
        { "nothing told, just begun", 1, 0, 0, 2, false },
        { "a slow link, just begun", 1, 20, 190, 2, true },
        { "two slow links", 1, 20, 20, 2, true },
        { "half of the link, and the other half", 1, 95, 95, 2, true },
        { "nearly all of the link", 1, 150, 190, 2, false },
        { "as fast a link, but it was seen to send nothing", 10, 190, 190, 2, true },
        { "nothing told, but it was seen to send nothing", 10, 0, 0, 2, true },
        { "its own host has decided that", 1, 190, 190, 1, true },
    };
    Manager *manager = fixture->manager;

    measure(fixture);
    fixture->config->gathering_time = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Migration *running = migration_put(fixture, MIGRATION_ROLE_DESTINATION, 1);
        Migration *waiting = migration_put(fixture, MIGRATION_ROLE_DESTINATION, 2);
        const Migration *first;

        running->priority = waiting->priority = PRIORITY_MEDIUM;
        running->source_host = 1;
        running->running_us = g_get_monotonic_time() - rows[i].running_s * G_USEC_PER_SEC;
        running->peer_known = waiting->peer_known = true;
        running->peer.link_rate = rows[i].running * MBIT;
        waiting->source_host = rows[i].source;
        waiting->machine.state = MIGRATION_WAITING;
        waiting->peer.link_rate = rows[i].waiting * MBIT;
        first = planner_admit_incoming(manager);
        g_test_message("%s: %s", rows[i].name, waiting->schedule_reason);
        g_assert_true(first == (rows[i].let_in ? waiting : NULL));
        g_ptr_array_set_size(manager->migrations, 0);
    }
}

/* Within a second so much; where it was seen to bend it still bends. */
static void
test_dirty_rate(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    Migration *migration = migration_put(fixture, MIGRATION_ROLE_SOURCE, 1);

    migration->description = domain_description_parse(
        "<domain><name>vm1</name><uuid>" UUID "1</uuid><memory unit='MB'>8000</memory></domain>",
        -1, NULL);
    manager_take_dirty_rate(migration, 100 * MB);
    g_assert_cmpuint(migration->dirty_rate, ==, 100 * MB);
    g_assert_cmpfloat_with_epsilon(dirty_curve_at(&migration->dirty, 60), 6000e6, 1);
    migration->dirty = (DirtyCurve){ 0 };
    g_assert_true(dirty_curve_add(&migration->dirty, 2, 80e6));
    g_assert_true(dirty_curve_add(&migration->dirty, 20, 120e6));
    manager_take_dirty_rate(migration, 100 * MB);
    g_assert_cmpuint(migration->dirty_rate, ==, 100 * MB);
    g_assert_cmpfloat_with_epsilon(dirty_curve_at(&migration->dirty, 1), 100e6, 1);
    g_assert_cmpfloat(dirty_curve_at(&migration->dirty, 2), >=, 100e6);
    g_assert_cmpfloat(dirty_curve_at(&migration->dirty, 60), <, 200e6);
    /* More in a second than in all of that migration: it is not that guest any more. */
    manager_take_dirty_rate(migration, 150 * MB);
    g_assert_cmpuint(migration->dirty_rate, ==, 150 * MB);
    g_assert_cmpfloat_with_epsilon(dirty_curve_at(&migration->dirty, 20), 3000e6, 1);
}

/* 5 MB/s for two seconds, and there was more for it: that is what its connection carries. */
static void
test_meter_streams(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        const char *name;
        uint64_t left; /* at the end */
        bool last_round;
        AllocateReason reason;
        uint64_t reached;
    } rows[] = {
        { "much is left", 40 * MB, false, ALLOCATE_REASON_TURN, 5 * MB },
        { "less than it sends in a second", 4 * MB, false, ALLOCATE_REASON_TURN, 0 },
        { "the last round", 40 * MB, true, ALLOCATE_REASON_TURN, 0 },
        { "it waits for its turn", 40 * MB, false, ALLOCATE_REASON_WAITS, 0 },
    };

    measure(fixture);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Migration *migration = migration_put(fixture, MIGRATION_ROLE_SOURCE, 1);

        migration->machine.iteration = 1;
        migration->share.reason = rows[i].reason;
        for (unsigned second = 1; second <= 3; second += 2) {
            migration->last_round = second > 1 && rows[i].last_round;
            migration->statistics_us = second * G_USEC_PER_SEC;
            migration->statistics = (JobStatistics){
                .valid = true,
                .active = true,
                .throughput = 5 * MB,
                .memory_processed = second * 5 * MB,
                .memory_remaining = rows[i].left + (3 - second) * 5 * MB,
            };
            manager_meter_streams(fixture->manager, migration);
        }
        g_test_message("%s: %" G_GUINT64_FORMAT " B/s", rows[i].name, migration->streams.reached);
        g_assert_cmpuint(migration->streams.reached, ==, rows[i].reached);
        g_ptr_array_set_size(fixture->manager->migrations, 0);
    }
}

/* ---- what both ends guarantee ------------------------------------------ */

typedef struct {
    const char *name;
    Priority priority;
    bool known;    /* the peer told its limits */
    uint64_t link; /* of the peer, Mbit/s */
    uint64_t lower;
    uint64_t upper;  /* 0: none */
    uint64_t demand; /* what comes in there */
    uint64_t least;  /* expected, Mbit/s */
    uint64_t most;
} Guarantee;

/* Here: 190 Mbit/s, nothing promised, nothing measured. */
static const Guarantee guarantees[] = {
    { "high, nothing told", PRIORITY_HIGH, false, 190, 0, 0, 0, 171, 171 },
    { "high, no limits there", PRIORITY_HIGH, true, 190, 0, 0, 150, 171, 171 },
    { "high, limits there", PRIORITY_HIGH, true, 190, 120, 0, 0, 56, 57 },
    { "high, all is promised there", PRIORITY_HIGH, true, 190, 500, 0, 0, 1, 10 },
    { "high, 2^64 promised there", PRIORITY_HIGH, true, 190, UINT64_MAX / MBIT, 0, 0, 1, 10 },
    { "high, slower link there", PRIORITY_HIGH, true, 100, 40, 0, 0, 54, 55 },
    { "high, link unknown there", PRIORITY_HIGH, true, 0, 40, 0, 0, 171, 171 },
    { "medium, nothing told", PRIORITY_MEDIUM, false, 190, 0, 0, 0, 95, 95 },
    { "medium, upper limit there", PRIORITY_MEDIUM, true, 190, 40, 150, 0, 40, 40 },
    { "medium, no upper limit there", PRIORITY_MEDIUM, true, 190, 40, 0, 180, 95, 95 },
    { "low, busy there", PRIORITY_LOW, true, 190, 40, 0, 180, 9, 10 },
    { "low, slower link there", PRIORITY_LOW, true, 100, 40, 0, 100, 5, 5 },
};

static void
test_guarantees(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    Migration *migration = migration_put(fixture, MIGRATION_ROLE_SOURCE, 1);

    migration->peer_known = true;
    for (size_t i = 0; i < G_N_ELEMENTS(guarantees); i++) {
        const Guarantee *row = &guarantees[i];
        TechniqueInput input;

        migration->priority = row->priority;
        migration->peer.link_rate = row->link * MBIT;
        migration->peer.sla_lower = (PeerNumber){ row->known, row->lower * MBIT };
        migration->peer.sla_upper = (PeerNumber){ row->upper != 0, row->upper * MBIT };
        migration->peer.host = (TrafficRates){ .valid = true, .in = row->demand * MBIT };
        planner_technique_input(fixture->manager, migration, &input);
        g_test_message("%s: %.1f Mbit/s", row->name, (double)input.guaranteed / (double)MBIT);
        g_assert_cmpuint(input.guaranteed, >=, row->least * MBIT);
        g_assert_cmpuint(input.guaranteed, <=, row->most * MBIT);
    }
}

/* ---- the switch for a deadline ----------------------------------------- */

/* A second is left of its deadline, and at the rate of its passes it needs more. */
static Migration *
late_put(Fixture *fixture, TechniqueSet allowed, unsigned iteration)
{
    static const char xml[] =
        "<domain><name>vm1</name><uuid>" UUID "1</uuid><memory unit='MiB'>64</memory><metadata>"
        "<c:domain xmlns:c='" DOMAIN_NAMESPACE "'><c:deadline unit='s'>10</c:deadline></c:domain>"
        "</metadata></domain>";
    Migration *migration = migration_put(fixture, MIGRATION_ROLE_SOURCE, 1);
    gint64 now_us = g_get_monotonic_time();
    ConvergeLimits limits = { .memory = 64 * MB };
    ConvergeDecision decision;

    migration->description = domain_description_parse(xml, -1, NULL);
    migration->allowed = allowed;
    migration->created_us = migration->running_us = now_us - 9 * G_USEC_PER_SEC;
    migration->dirty_rate = MB;
    migration->machine.decided = true;
    migration->machine.post_copy_possible = true;
    migration->machine.iteration = iteration;
    /* 3 MB/s, and 40 are left. */
    for (int second = -9; second <= -2; second += 7) {
        ConvergeSample sample = {
            .time_us = now_us + second * G_USEC_PER_SEC,
            .iteration = iteration,
            .remaining = (uint64_t)(34 - 3 * second) * MB,
            .transferred = (uint64_t)(27 + 3 * second) * MB,
        };

        converge_step(&migration->converge, &sample, &limits, &decision);
    }
    migration->statistics = (JobStatistics){ .valid = true,
                                             .active = true,
                                             .iteration = iteration,
                                             .memory_total = 64 * MB,
                                             .memory_remaining = 40 * MB,
                                             .memory_processed = 24 * MB };
    return migration;
}

static void
late_remove(Fixture *fixture, Migration *migration)
{
    manager_forget_post_copy(fixture->manager, migration);
    g_ptr_array_remove(fixture->manager->migrations, migration);
}

/* Within the first pass the switch would be post-copy alone, later hybrid. */
static void
test_switch_for_deadline(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *unfinished = g_build_filename(fixture->directory, "post-copy", NULL);
    static const struct {
        TechniqueSet allowed;
        unsigned iteration;
        Technique expected;
    } rows[] = {
        { TECHNIQUE_ALLOW_PRE_COPY | TECHNIQUE_ALLOW_HYBRID, 1, TECHNIQUE_PRE_COPY },
        { TECHNIQUE_ALLOW_PRE_COPY | TECHNIQUE_ALLOW_HYBRID, 2, TECHNIQUE_HYBRID },
        { TECHNIQUE_ALLOW_PRE_COPY | TECHNIQUE_ALLOW_POST_COPY, 1, TECHNIQUE_POST_COPY },
        { TECHNIQUE_ALLOW_PRE_COPY | TECHNIQUE_ALLOW_POST_COPY, 2, TECHNIQUE_PRE_COPY },
        { TECHNIQUE_ALLOW_ALL, 1, TECHNIQUE_POST_COPY },
        { TECHNIQUE_ALLOW_ALL, 2, TECHNIQUE_HYBRID },
        { TECHNIQUE_ALLOW_PRE_COPY, 2, TECHNIQUE_PRE_COPY },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Migration *migration = late_put(fixture, rows[i].allowed, rows[i].iteration);

        manager_converge(fixture->manager, migration);
        g_test_message("row %zu: %s", i, technique_to_string(migration->machine.technique));
        g_assert_cmpint(migration->machine.technique, ==, rows[i].expected);
        late_remove(fixture, migration);
    }
    g_assert_cmpint(g_rmdir(unfinished), ==, 0);
}

/*
 * It may be another job of the domain than the one that was announced: what libvirt keeps
 * of it has the last word. QEMU's version is not known here: parallel connections and
 * post-copy would lose the VM.
 */
static void
test_switch_by_flags(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *unfinished = g_build_filename(fixture->directory, "post-copy", NULL);
    g_autofree char *path = g_build_filename(fixture->directory, "vm1.xml", NULL);
    static const struct {
        unsigned flags;
        unsigned number; /* whose file it says it is */
        bool refused;
    } rows[] = {
        { VIR_MIGRATE_LIVE | VIR_MIGRATE_POSTCOPY, 1, false },
        { VIR_MIGRATE_LIVE | VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_PARALLEL, 1, true },
        { VIR_MIGRATE_LIVE | VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_NON_SHARED_DISK, 1, true },
        { VIR_MIGRATE_LIVE | VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_PARALLEL, 2, false },
    };

    fixture->manager->job_flags_directory = fixture->directory;
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = g_strdup_printf(
            "<domstatus><job async='migration out' flags='0x%x'/><domain type='kvm'>"
            "<uuid>" UUID "%u</uuid></domain></domstatus>",
            rows[i].flags, rows[i].number);
        Migration *migration = late_put(fixture, TECHNIQUE_ALLOW_ALL, 2);

        g_assert_true(g_file_set_contents(path, text, -1, NULL));
        manager_converge(fixture->manager, migration);
        g_test_message("row %zu: %s", i, technique_to_string(migration->machine.technique));
        g_assert_cmpint(migration->machine.technique, ==,
                        rows[i].refused ? TECHNIQUE_PRE_COPY : TECHNIQUE_HYBRID);
        g_assert_cmpint((migration->allowed & TECHNIQUE_ALLOW_HYBRID) != 0, ==, !rows[i].refused);
        late_remove(fixture, migration);
    }
    g_assert_cmpint(g_remove(path), ==, 0);
    g_assert_cmpint(g_rmdir(unfinished), ==, 0);
}

/* ---- deadlines --------------------------------------------------------- */

/* 60 s, less 300 ms of downtime and 1.5 s in reserve. */
static void
test_deadline(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    static const char xml[] =
        "<domain><name>vm1</name><uuid>" UUID "1</uuid><memory unit='MiB'>64</memory><metadata>"
        "<c:domain xmlns:c='" DOMAIN_NAMESPACE "'><c:deadline unit='s'>60</c:deadline></c:domain>"
        "</metadata></domain>";
    static const struct {
        MigrationRole role;
        uint64_t held_ms;   /* at the source, as the destination was told */
        int64_t running_ms; /* when memory began to move; -1: not yet */
        int64_t now_ms;
        int64_t left_ms;
    } rows[] = {
        { MIGRATION_ROLE_SOURCE, 0, -1, 0, 58200 },
        { MIGRATION_ROLE_SOURCE, 0, 5000, 20000, 38200 },
        { MIGRATION_ROLE_SOURCE, 0, 5000, 70000, -11800 },
        { MIGRATION_ROLE_DESTINATION, 0, 0, 20000, 58200 },
        { MIGRATION_ROLE_DESTINATION, 0, -1, 20000, 38200 }, /* held here */
        { MIGRATION_ROLE_DESTINATION, 40000, 0, 20000, 18200 },
        { MIGRATION_ROLE_DESTINATION, 40000, 10000, 20000, 8200 },
        { MIGRATION_ROLE_DESTINATION, UINT32_MAX, 0, 0, 58200 - (int64_t)UINT32_MAX },
    };
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Migration *migration = migration_put(fixture, rows[i].role, 1);
        int64_t left = 0;

        g_test_message("row %zu", i);
        g_assert_false(planner_time_left(migration, migration->created_us, &left));
        manager_describe(fixture->manager, migration, domain_description_parse(xml, -1, &error));
        g_assert_no_error(error);
        migration->held_at_source_ms = rows[i].held_ms;
        if (rows[i].running_ms >= 0)
            migration->running_us = migration->created_us + rows[i].running_ms * 1000;
        g_assert_true(
            planner_time_left(migration, migration->created_us + rows[i].now_ms * 1000, &left));
        g_assert_cmpint(left, ==, rows[i].left_ms);
    }
}

int
main(int argc, char **argv)
{
    daemon_test_init(&argc, &argv);
#define ADD(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)
    ADD("/planner/floors", test_floors);
    ADD("/planner/floors-while-migrating", test_floors_while_migrating);
    ADD("/planner/last-round/medium", test_last_round_medium);
    ADD("/planner/last-round/low", test_last_round_low);
    ADD("/planner/last-round/bounded", test_last_round_bounded);
    ADD("/planner/turns", test_turns);
    ADD("/planner/free-towards", test_free_towards);
    ADD("/planner/starts-beside-one-that-waits", test_starts_beside_one_that_waits);
    ADD("/planner/starts-while-one-ends", test_starts_while_one_ends);
    ADD("/planner/starts-bounded", test_starts_bounded);
    ADD("/planner/incoming", test_incoming);
    ADD("/planner/dirty-rate", test_dirty_rate);
    ADD("/planner/meter-streams", test_meter_streams);
    ADD("/planner/guarantees", test_guarantees);
    ADD("/planner/switch-for-deadline", test_switch_for_deadline);
    ADD("/planner/switch-by-flags", test_switch_by_flags);
    ADD("/planner/deadline", test_deadline);
    return g_test_run();
}
