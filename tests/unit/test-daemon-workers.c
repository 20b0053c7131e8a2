/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How many workers are wanted, and what the journal may say. libvirtd itself: tests/integration. */
#include "daemon/workers.h"

#include <glib.h>
#include <string.h>

static void
test_wanted(void)
{
    static const struct {
        unsigned before;
        unsigned held;
        unsigned wanted;
    } rows[] = {
        { 20, 0, 20 },
        { 20, 1, 28 },
        { 20, 16, 28 },
        { 20, 17, 44 },
        { 100, 17, 100 },
        { 20, 188, 200 },
        { 20, 199, 200 },
        { 20, 200, 200 },
        { 20, UINT32_MAX, 200 },
        { 500, UINT32_MAX, 500 },
        { 0, 0, 0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        g_assert_cmpuint(workers_wanted(rows[i].before, rows[i].held), ==, rows[i].wanted);
    for (unsigned held = 1; held <= WORKERS_MAXIMUM - WORKERS_RESERVE; held++)
        g_assert_cmpuint(workers_wanted(1, held), >=, held + WORKERS_RESERVE);
}

static void
test_journal(void)
{
    static const char *const bad[] = {
        "",
        "\n",
        "libvirtd",
        "libvirtd 20",
        "libvirtd 20 20\n",
        "libvirtd 44 20\n",
        "libvirtd 0 44\n",
        "libvirtd 20 201\n",
        "libvirtd 20 4294967296\n",
        "libvirtd -1 44\n",
        "libvirtd 20 44\nlibvirtd 20 44\n",
        "libvirtd 20 44 more\n",
        "../x 20 44\n",
        "libvirtdlibvirtdlibvirtd 20 44\n",
        "libvirtd 20 44                                                                        \n",
    };
    char server[16] = "untouched";
    unsigned before = 1;
    unsigned raised = 2;

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_false(workers_journal_parse(bad[i], server, &before, &raised));
    g_assert_cmpstr(server, ==, "untouched");
    g_assert_cmpuint(before, ==, 1);
    g_assert_cmpuint(raised, ==, 2);
    g_assert_true(workers_journal_parse("virtqemud 20 44\n", server, &before, &raised));
    g_assert_cmpstr(server, ==, "virtqemud");
    g_assert_cmpuint(before, ==, 20);
    g_assert_cmpuint(raised, ==, 44);
}

/* Another libvirt than the system's own has no pool that we could see. */
static void
test_elsewhere(void)
{
    unsigned now;
    unsigned before;
    Workers *workers = workers_new("test:///default", g_get_tmp_dir());

    g_assert_null(workers);
    workers_follow(workers, 5);
    g_assert_cmpuint(workers_capacity(workers, 64), ==, WORKERS_HELD_UNKNOWN);
    g_assert_cmpuint(workers_capacity(workers, 0), ==, 0);
    g_assert_false(workers_maximum(workers, &now, &before));
    workers_free(workers);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/workers/wanted", test_wanted);
    g_test_add_func("/daemon/workers/journal", test_journal);
    g_test_add_func("/daemon/workers/elsewhere", test_elsewhere);
    return g_test_run();
}
