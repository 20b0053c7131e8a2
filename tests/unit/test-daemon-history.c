/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The history file: appends, stays bounded, reports what it cannot do. */
#include "daemon/history.h"

#include <gio/gio.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    char *directory;
    char *path;
    char *older;
} Fixture;

static void
set_up(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    fixture->directory = g_dir_make_tmp("convoy-history-XXXXXX", NULL);
    fixture->path = g_build_filename(fixture->directory, "history.jsonl", NULL);
    fixture->older = g_strconcat(fixture->path, ".1", NULL);
}

static void
tear_down(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    g_unlink(fixture->path);
    g_unlink(fixture->older);
    g_rmdir(fixture->directory);
    g_free(fixture->directory);
    g_free(fixture->path);
    g_free(fixture->older);
}

static void
test_appends(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(history_append(fixture->directory, HISTORY_FILE, "{\"a\":1}", &error));
    g_assert_true(history_append(fixture->directory, HISTORY_FILE, "{\"b\":2}", &error));
    g_assert_no_error(error);
    g_assert_true(g_file_get_contents(fixture->path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "{\"a\":1}\n{\"b\":2}\n");
}

static void
test_stays_bounded(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *record = g_strnfill(100 * 1024, 'x');
    g_autoptr(GError) error = NULL;
    GStatBuf status;

    for (unsigned i = 0; i < 35; i++)
        g_assert_true(history_append(fixture->directory, HISTORY_FILE, record, &error));
    g_assert_cmpint(g_stat(fixture->path, &status), ==, 0);
    g_assert_cmpint(status.st_size, <=, HISTORY_BYTES_MAX);
    g_assert_cmpint(g_stat(fixture->older, &status), ==, 0);
    g_assert_cmpint(status.st_size, <=, HISTORY_BYTES_MAX);
}

static void
test_reports(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *missing = g_build_filename(fixture->directory, "missing", "below", NULL);
    g_autoptr(GError) error = NULL;

    g_assert_false(history_append(missing, HISTORY_FILE, "{}", &error));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, missing));
}

static void
count_line(const char *line, gpointer data)
{
    GPtrArray *lines = data;

    g_ptr_array_add(lines, g_strdup(line));
}

static void
test_reads(Fixture *fixture, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *longer = g_strnfill(HISTORY_LINE_MAX + 1, 'x');
    g_autofree char *text = g_strconcat("c\n\n", longer, "\nd\nhalf", NULL);

    g_assert_cmpuint(history_read(fixture->directory, count_line, lines), ==, 0);
    g_assert_true(g_file_set_contents(fixture->older, "a\nb\n", -1, NULL));
    g_assert_true(g_file_set_contents(fixture->path, text, -1, NULL));
    g_assert_cmpuint(history_read(fixture->directory, count_line, lines), ==, 4);
    g_assert_cmpuint(lines->len, ==, 4);
    for (unsigned i = 0; i < lines->len; i++)
        g_assert_cmpint(((char *)g_ptr_array_index(lines, i))[0], ==, 'a' + (int)i);

    /* Neither a huge file nor something else than a file is read. */
    g_unlink(fixture->older);
    g_assert_cmpint(g_mkdir(fixture->older, 0755), ==, 0);
    g_assert_cmpint(truncate(fixture->path, 4 * HISTORY_BYTES_MAX), ==, 0);
    g_assert_cmpuint(history_read(fixture->directory, count_line, lines), ==, 0);
    g_rmdir(fixture->older);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/history/appends", Fixture, NULL, set_up, test_appends, tear_down);
    g_test_add("/history/stays-bounded", Fixture, NULL, set_up, test_stays_bounded, tear_down);
    g_test_add("/history/reads", Fixture, NULL, set_up, test_reads, tear_down);
    g_test_add("/history/reports", Fixture, NULL, set_up, test_reports, tear_down);
    return g_test_run();
}
