/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How many workers are wanted, and what the journal may say. libvirtd itself: tests/integration. */
#include "daemon/workers.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void
test_wanted(void)
{
    static const struct {
        WorkersPool before;
        unsigned busy;
        WorkersPool wanted;
    } rows[] = {
        { { 20, 5 }, 0, { 20, 5 } },
        { { 20, 5 }, 1, { 28, 28 } },
        { { 20, 5 }, 16, { 28, 28 } },
        { { 20, 5 }, 17, { 44, 44 } },
        { { 100, 5 }, 17, { 100, 44 } },
        { { 100, 60 }, 17, { 100, 60 } },
        { { 20, 0 }, 1, { 28, 0 } }, /* unknown stays as it is */
        { { 20, 5 }, 188, { 200, 200 } },
        { { 20, 5 }, 199, { 200, 200 } },
        { { 20, 5 }, 200, { 200, 200 } },
        { { 20, 5 }, UINT32_MAX, { 200, 200 } },
        { { 500, 5 }, UINT32_MAX, { 500, 200 } },
        { { 0, 0 }, 0, { 0, 0 } },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        WorkersPool wanted = workers_wanted(rows[i].before, rows[i].busy);

        g_test_message("row %" G_GSIZE_FORMAT, i);
        g_assert_cmpuint(wanted.maximum, ==, rows[i].wanted.maximum);
        g_assert_cmpuint(wanted.minimum, ==, rows[i].wanted.minimum);
    }
    for (unsigned busy = 1; busy <= WORKERS_MAXIMUM - WORKERS_RESERVE; busy++)
        g_assert_cmpuint(workers_wanted((WorkersPool){ 1, 1 }, busy).minimum, >=,
                         busy + WORKERS_RESERVE);
}

static void
test_before(void)
{
    static const struct {
        WorkersPool now, before, raised, expected;
    } rows[] = {
        { { 20, 5 }, { 0, 0 }, { 0, 0 }, { 20, 5 } },     /* no journal */
        { { 44, 44 }, { 0, 0 }, { 0, 0 }, { 44, 44 } },   /* and so not ours */
        { { 44, 44 }, { 20, 5 }, { 44, 44 }, { 20, 5 } }, /* as we left it */
        { { 28, 28 }, { 20, 5 }, { 44, 44 }, { 20, 5 } }, /* the second raise was cut short */
        { { 44, 44 }, { 20, 5 }, { 28, 28 }, { 20, 5 } }, /* or lowering was */
        { { 200, 200 }, { 20, 5 }, { 188, 188 }, { 20, 5 } },
        { { 20, 5 }, { 20, 5 }, { 44, 44 }, { 20, 5 } }, /* libvirtd started anew */
        { { 30, 7 }, { 20, 5 }, { 44, 44 }, { 30, 7 } }, /* somebody else decided */
        { { 10, 5 }, { 20, 5 }, { 44, 44 }, { 10, 5 } },
        { { 44, 7 }, { 20, 5 }, { 44, 44 }, { 20, 7 } },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        WorkersPool found = workers_before(rows[i].now, rows[i].before, rows[i].raised);

        g_test_message("row %" G_GSIZE_FORMAT, i);
        g_assert_cmpuint(found.maximum, ==, rows[i].expected.maximum);
        g_assert_cmpuint(found.minimum, ==, rows[i].expected.minimum);
    }
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
        "libvirtd 20 44 5\n",
        "libvirtd 20 44 0 44\n",
        "libvirtd 20 44 5 45\n",
        "libvirtd 20 44 5 4\n",
        "libvirtd 20 20 5 5\n",
        "libvirtd 20 44 -5 44\n",
        "libvirtd 20 44 5 4294967340\n",
        "libvirtd 20 44 5 44 6\n",
        "libvirtd 500 501 5 44\n",
    };
    char server[16] = "untouched";
    WorkersPool before = { 1, 2 };
    WorkersPool raised = { 3, 4 };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("row %" G_GSIZE_FORMAT, i);
        g_assert_false(workers_journal_parse(bad[i], server, &before, &raised));
    }
    g_assert_cmpstr(server, ==, "untouched");
    g_assert_cmpuint(before.maximum, ==, 1);
    g_assert_cmpuint(raised.minimum, ==, 4);
    g_assert_true(workers_journal_parse("virtqemud 20 44\n", server, &before, &raised));
    g_assert_cmpstr(server, ==, "virtqemud");
    g_assert_cmpuint(before.maximum, ==, 20);
    g_assert_cmpuint(before.minimum, ==, 0);
    g_assert_cmpuint(raised.maximum, ==, 44);
    g_assert_true(workers_journal_parse("libvirtd 500 500 5 28\n", server, &before, &raised));
    g_assert_cmpuint(before.maximum, ==, 500);
    g_assert_cmpuint(before.minimum, ==, 5);
    g_assert_cmpuint(raised.maximum, ==, 500);
    g_assert_cmpuint(raised.minimum, ==, 28);
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

/*
 * The child is this program again: it plays libvirtd's part. What it is asked
 * for is appended to the file that stands for the journal.
 */
static int
child_main(const char *held, const char *path)
{
    FILE *file = fopen(path, "a");
    unsigned number = (unsigned)g_ascii_strtoull(held, NULL, 10);

    if (file == NULL)
        return 1;
    fprintf(file, "%s\n", held);
    fclose(file);
    if (g_getenv("TEST_WORKERS_REFUSE") != NULL)
        g_print("no admin socket\n");
    else
        g_print("20 %u\n", workers_wanted((WorkersPool){ 20, 5 }, number).maximum);
    return 0;
}

static char *
asked(const char *directory)
{
    g_autofree char *path = g_build_filename(directory, "workers", NULL);
    char *text = NULL;

    g_file_get_contents(path, &text, NULL, NULL);
    return text != NULL ? text : g_strdup("");
}

static void
test_child(void)
{
    g_autofree char *directory = g_dir_make_tmp("workers-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(directory, "workers", NULL);
    g_autofree char *all = NULL;
    Workers *workers = workers_new("qemu:///system", directory);
    unsigned now = 0;
    unsigned before = 0;

    g_assert_nonnull(workers);
    while (!workers_maximum(workers, &now, &before))
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpuint(now, ==, 20);
    g_assert_cmpuint(workers_capacity(workers, 1000), ==, WORKERS_MAXIMUM - WORKERS_RESERVE);
    workers_follow(workers, 1);
    workers_follow(workers, 30); /* while the child for 1 is under way */
    while (workers_maximum(workers, &now, &before) && now != 44)
        g_main_context_iteration(NULL, TRUE);
    workers_follow(workers, 25); /* the same step: nobody is asked */
    workers_follow(workers, 0);
    while (workers_maximum(workers, &now, &before) && now != 20)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpuint(before, ==, 20);
    workers_free(workers);
    all = asked(directory);
    g_assert_cmpstr(all, ==, "0\n1\n30\n0\n" WORKERS_PUT_BACK "\n");
    unlink(path);
    rmdir(directory);
}

static void
test_child_refused(void)
{
    g_autofree char *directory = g_dir_make_tmp("workers-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(directory, "workers", NULL);
    g_autofree char *all = NULL;
    gint64 end_us;
    unsigned now;
    unsigned before;
    Workers *workers;

    g_setenv("TEST_WORKERS_REFUSE", "yes", TRUE);
    workers = workers_new("qemu:///system", directory);
    end_us = g_get_monotonic_time() + G_USEC_PER_SEC / 2;
    while (g_get_monotonic_time() < end_us) {
        workers_follow(workers, 5); /* not tried again at once */
        g_main_context_iteration(NULL, FALSE);
        g_usleep(1000);
    }
    g_assert_false(workers_maximum(workers, &now, &before));
    g_assert_cmpuint(workers_capacity(workers, 64), ==, WORKERS_HELD_UNKNOWN);
    workers_free(workers);
    g_unsetenv("TEST_WORKERS_REFUSE");
    all = asked(directory);
    g_assert_cmpstr(all, ==, "0\n" WORKERS_PUT_BACK "\n");
    unlink(path);
    rmdir(directory);
}

int
main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], WORKERS_CHILD_OPTION) == 0)
        return child_main(argv[2], argv[3]);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/workers/wanted", test_wanted);
    g_test_add_func("/daemon/workers/before", test_before);
    g_test_add_func("/daemon/workers/journal", test_journal);
    g_test_add_func("/daemon/workers/elsewhere", test_elsewhere);
    g_test_add_func("/daemon/workers/child", test_child);
    g_test_add_func("/daemon/workers/child-refused", test_child_refused);
    return g_test_run();
}
