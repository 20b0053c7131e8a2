/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What may be added to a caller's flags. */
#include "daemon/gates.h"

#include <errno.h>
#include <glib.h>
#include <libvirt/libvirt.h>

typedef struct {
    uint64_t flags;
    const char *uri;
    bool post_copy;
    bool parallel;
    bool auto_converge;
} Row;

#define LIVE VIR_MIGRATE_LIVE

static const Row rows[] = {
    { LIVE, NULL, true, true, true },
    { LIVE, "tcp:host-b:49152", true, true, true },
    { LIVE, "tcp://[fd00::2]:49152", true, true, true },
    { LIVE, "rdma://host-b:49152", false, false, true },
    { LIVE, "unix:///run/migrate.sock", false, false, true },
    { LIVE, "", false, false, true },
    { 0, NULL, false, true, false },
    { LIVE | VIR_MIGRATE_PEER2PEER, NULL, true, true, true },
    { LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_TUNNELLED, NULL, false, false, false },
    { LIVE | VIR_MIGRATE_PAUSED, NULL, false, true, true },
    { LIVE | VIR_MIGRATE_PARALLEL, NULL, false, false, true },
    { LIVE | VIR_MIGRATE_POSTCOPY, NULL, true, false, true },
    { LIVE | VIR_MIGRATE_COMPRESSED, NULL, false, false, false },
    { LIVE | VIR_MIGRATE_ZEROCOPY, NULL, false, true, true },
    { LIVE | VIR_MIGRATE_NON_SHARED_DISK, NULL, false, true, true },
    { LIVE | VIR_MIGRATE_NON_SHARED_INC, NULL, false, true, true },
    { LIVE | VIR_MIGRATE_AUTO_CONVERGE, NULL, true, true, false },
    { VIR_MIGRATE_OFFLINE | VIR_MIGRATE_PERSIST_DEST, NULL, false, false, false },
};

static void
test_rows(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        const Row *row = &rows[i];

        g_test_message("row %zu: flags 0x%" G_GINT64_MODIFIER "x", i, row->flags);
        g_assert_cmpint(gate_post_copy_flags(row->flags, row->uri) == NULL, ==, row->post_copy);
        g_assert_cmpint(gate_parallel_flags(row->flags, row->uri, false) == NULL, ==,
                        row->parallel);
        g_assert_cmpint(gate_auto_converge_flags(row->flags) == NULL, ==, row->auto_converge);
        /* Whatever else is true: never both. */
        g_assert_nonnull(gate_parallel_flags(row->flags, row->uri, true));
    }
}

/* A reason names all that stands against it. */
static void
test_reasons(void)
{
    static const struct {
        uint64_t flags;
        const char *uri;
        const char *reason;
    } reasons[] = {
        { LIVE, NULL, NULL },
        { 0, NULL, "the migration is not live" },
        { VIR_MIGRATE_PAUSED, "rdma://host-b",
          "the migration is not live; the migration does not use TCP; "
          "the VM stays paused at the destination" },
        { LIVE | VIR_MIGRATE_PARALLEL | VIR_MIGRATE_ZEROCOPY, NULL,
          "parallel connections were asked for; zero-copy was asked for" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(reasons); i++)
        g_assert_cmpstr(gate_post_copy_flags(reasons[i].flags, reasons[i].uri), ==,
                        reasons[i].reason);
}

/* Whoever asked for both: no switch below QEMU 10.1, nor where it is not known. */
static void
test_start(void)
{
    static const uint64_t post_copy = LIVE | VIR_MIGRATE_POSTCOPY;
    static const uint64_t parallel = LIVE | VIR_MIGRATE_PARALLEL;
    static const uint64_t both = LIVE | VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_PARALLEL;
    static const struct {
        const uint64_t *flags;
        uint32_t source;
        uint32_t destination;
        bool allowed;
    } starts[] = {
        { &post_copy, 7002022, 7002022, true },
        { &post_copy, 0, 0, true },
        { &parallel, 7002022, 7002022, true }, /* libvirt refuses it by itself */
        { &both, 7002022, 7002022, false },
        { &both, 10000002, 10000002, false },
        { &both, 10001000, 10000099, false },
        { &both, 10000099, 10001000, false },
        { &both, 10001000, 0, false },
        { &both, 0, 10001000, false },
        { &both, 0, 0, false },
        { &both, 10001000, 10001000, true },
        { &both, UINT32_MAX, UINT32_MAX, true },
        { NULL, 7002022, 7002022, false },
        { NULL, 10001000, 0, false },
        { NULL, 10001000, 10001000, true },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(starts); i++) {
        const char *reason =
            gate_start_post_copy(starts[i].flags, starts[i].source, starts[i].destination);

        g_test_message("row %zu: %s", i, reason != NULL ? reason : "allowed");
        g_assert_cmpint(reason == NULL, ==, starts[i].allowed);
    }
}

static void
test_userfaultfd(void)
{
    g_assert_null(gate_post_copy_userfaultfd(0));
    g_assert_null(gate_post_copy_userfaultfd(EPERM));
    g_assert_nonnull(gate_post_copy_userfaultfd(ENOSYS));
}

/* The caller's limit binds the passes, not the last round, where both ends of the call know how. */
static void
test_switchover(void)
{
    static const uint64_t p2p = LIVE | VIR_MIGRATE_PEER2PEER;

    static const struct {
        uint64_t flags;
        uint64_t user;
        uint64_t guaranteed;
        uint32_t libvirt;
        uint32_t qemu;
        uint64_t expected;
    } told[] = {
        { p2p, 10, 40, 11001000, 8002000, 40 },
        { p2p, 10, 40, UINT32_MAX, UINT32_MAX, 40 },
        { p2p, 10, UINT64_MAX, 11001000, 8002000, UINT64_MAX },
        { LIVE, 10, 40, 11001000, 8002000, 0 }, /* parameters of a direct call come later */
        { p2p, 0, 40, 11001000, 8002000, 0 },   /* no limit: QEMU measures the class */
        { p2p, 40, 40, 11001000, 8002000, 0 },  /* nothing is won */
        { p2p, 50, 40, 11001000, 8002000, 0 },  /* nor must it be less than was asked for */
        { p2p, 10, 0, 11001000, 8002000, 0 },   /* no class */
        { p2p, 10, 40, 11000999, 10001000, 0 },
        { p2p, 10, 40, 9000000, 7002022, 0 },
        { p2p, 10, 40, 11001000, 8001999, 0 },
        { p2p, 10, 40, 0, 8002000, 0 }, /* not connected yet */
        { p2p, 10, 40, 11001000, 0, 0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(told); i++) {
        g_test_message("row %zu", i);
        g_assert_cmpuint(gate_switchover_mib(told[i].flags, told[i].user, told[i].guaranteed,
                                             told[i].libvirt, told[i].qemu),
                         ==, told[i].expected);
    }
}

static void
test_steerable(void)
{
    g_assert_true(gate_is_steerable(0));
    g_assert_true(gate_is_steerable(LIVE | VIR_MIGRATE_POSTCOPY));
    g_assert_false(gate_is_steerable(VIR_MIGRATE_OFFLINE));
    g_assert_false(gate_is_steerable(LIVE | VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_POSTCOPY_RESUME));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gates/rows", test_rows);
    g_test_add_func("/gates/reasons", test_reasons);
    g_test_add_func("/gates/start", test_start);
    g_test_add_func("/gates/userfaultfd", test_userfaultfd);
    g_test_add_func("/gates/switchover", test_switchover);
    g_test_add_func("/gates/steerable", test_steerable);
    return g_test_run();
}
