/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The journal's file and the running of steps, with programs that misbehave in
 * place of tc. Nothing here needs rights over interfaces.
 */
#include "shaping/journal.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct {
    char *directory;
    char *journal;
    char *program;
} Fixture;

static void
fixture_set_up(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    self->directory = g_dir_make_tmp("convoy-XXXXXX", NULL);
    self->journal = g_build_filename(self->directory, "shaping.journal", NULL);
    self->program = g_build_filename(self->directory, "tc", NULL);
}

static void
fixture_tear_down(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    g_unsetenv("VIRT_CONVOY_TC");
    g_unlink(self->journal);
    g_unlink(self->program);
    g_assert_cmpint(g_rmdir(self->directory), ==, 0);
    g_free(self->directory);
    g_free(self->journal);
    g_free(self->program);
}

static void
file_assert(const Fixture *self, const char *expected)
{
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(self->journal, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, expected);
}

static void
test_lines(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ShapingJournal) journal = shaping_journal_open(self->directory, &error);

    g_assert_no_error(error);
    g_assert_true(shaping_journal_about_to_make(journal, SHAPING_LEAVES_ROOT, "a0", NULL));
    g_assert_true(shaping_journal_about_to_make(journal, SHAPING_LEAVES_ROOT, "a0", NULL));
    g_assert_true(shaping_journal_about_to_make(journal, SHAPING_LEAVES_NOTHING, "a0", NULL));
    g_assert_true(shaping_journal_about_to_make(journal, SHAPING_LEAVES_IFB, "convoy7", NULL));
    g_assert_true(shaping_journal_gone(journal, SHAPING_LEAVES_ROOT, "a0", NULL));
    g_assert_true(shaping_journal_gone(journal, SHAPING_LEAVES_INGRESS, "a0", NULL));
    file_assert(self, "{\"op\":\"root\",\"device\":\"a0\"}\n"
                      "{\"op\":\"ifb\",\"device\":\"convoy7\"}\n"
                      "{\"op\":\"root\",\"device\":\"a0\",\"gone\":true}\n");
    g_assert_true(shaping_journal_gone(journal, SHAPING_LEAVES_IFB, "convoy7", NULL));
    file_assert(self, "");
}

/* A device that is there is noted with its index: lo's is 1 in every namespace. */
static void
test_index(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ShapingJournal) journal = shaping_journal_open(self->directory, NULL);

    g_assert_true(shaping_journal_about_to_make(journal, SHAPING_LEAVES_ROOT, "lo", NULL));
    g_assert_true(shaping_journal_about_to_make(journal, SHAPING_LEAVES_IFB, "convoy7", NULL));
    file_assert(self, "{\"op\":\"root\",\"device\":\"lo\",\"index\":1}\n"
                      "{\"op\":\"ifb\",\"device\":\"convoy7\"}\n");
    g_clear_pointer(&journal, shaping_journal_close);
    journal = shaping_journal_open(self->directory, NULL);
    g_assert_true(shaping_journal_gone(journal, SHAPING_LEAVES_ROOT, "lo", NULL));
    g_assert_true(shaping_journal_gone(journal, SHAPING_LEAVES_IFB, "convoy7", NULL));
    file_assert(self, "");
}

/* None of these lines names a thing that stands: nothing may be run. */
static void
test_hostile_file(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *deep = g_strnfill(900000, '[');
    g_autofree char *longer = g_strnfill(5000, 'x');
    g_autofree char *text = g_strconcat(
        "garbage\n\n{}\n[]\n", deep, "\n", longer, "\n{\"op\":{\"op\":\"root\"}}\n",
        "{\"op\":\"exec\",\"device\":\"lo\"}\n", "{\"op\":7,\"device\":\"lo\"}\n",
        "{\"op\":\"root\"}\n", "{\"op\":\"root\",\"device\":null}\n",
        "{\"op\":\"root\",\"device\":\"-batch\"}\n",
        "{\"op\":\"root\",\"device\":\"lo; reboot\"}\n",
        "{\"op\":\"root\",\"device\":\"lo\",\"gone\":[]}\n\xff\xfe\n",
        "{\"op\":\"root\",\"device\":\"away0\",\"index\":1}\n",
        "{\"op\":\"root\",\"device\":\"away1\",\"index\":99999999999999999999}\n",
        "{\"op\":\"ingress\",\"device\":\"away2\",\"index\":\"1\"}\n",
        "{\"op\":\"ingress\",\"device\":\"away3\",\"index\":-1}\n",
        "{\"op\":\"root\",\"device\":\"lo\"}\n", "{\"op\":\"ifb\",\"device\":\"lo\"}\n",
        "{\"op\":\"ingress\",\"device\":\"convoynone\"}\n", "{\"op\":\"root\",\"dev", NULL);
    g_autoptr(ShapingJournal) journal = NULL;
    g_autoptr(GError) error = NULL;
    unsigned undone = 77;

    g_assert_true(g_file_set_contents(self->journal, text, -1, NULL));
    /* Whatever it would run fails the test. */
    g_setenv("VIRT_CONVOY_TC", "/bin/false", TRUE);
    journal = shaping_journal_open(self->directory, &error);
    g_assert_no_error(error);
    g_assert_true(shaping_journal_restore(journal, &undone, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(undone, ==, 0);
    file_assert(self, "");
}

/* An append after a torn line stands on a line of its own. */
static void
test_torn_line(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ShapingJournal) journal = NULL;

    g_assert_true(g_file_set_contents(self->journal, "{\"op\":\"ro", -1, NULL));
    journal = shaping_journal_open(self->directory, NULL);
    g_assert_true(shaping_journal_about_to_make(journal, SHAPING_LEAVES_ROOT, "a0", NULL));
    file_assert(self, "{\"op\":\"ro\n{\"op\":\"root\",\"device\":\"a0\"}\n");
}

/* A disk that is full in the middle of a line: nothing of it stays, and the next one is whole. */
static void
test_full_disk(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    static const char first[] = "{\"op\":\"root\",\"device\":\"a0\"}\n";
    g_autoptr(ShapingJournal) journal = shaping_journal_open(self->directory, NULL);
    g_autoptr(GError) error = NULL;
    struct rlimit before, limit;

    g_assert_true(shaping_journal_about_to_make(journal, SHAPING_LEAVES_ROOT, "a0", NULL));
    g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &before), ==, 0);
    limit = (struct rlimit){ .rlim_cur = sizeof first + 10, .rlim_max = before.rlim_max };
    signal(SIGXFSZ, SIG_IGN);
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
    g_assert_false(shaping_journal_about_to_make(journal, SHAPING_LEAVES_IFB, "convoy7", &error));
    g_assert_error(error, SHAPING_ERROR, SHAPING_ERROR_FAILED);
    file_assert(self, first);
    /* The last thing that goes empties the file, which needs no room. */
    g_assert_true(shaping_journal_gone(journal, SHAPING_LEAVES_ROOT, "a0", NULL));
    file_assert(self, "");
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &before), ==, 0);
    g_assert_true(shaping_journal_about_to_make(journal, SHAPING_LEAVES_ROOT, "a0", NULL));
    file_assert(self, first);
}

static void
test_not_a_file(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(symlink("/etc/hostname", self->journal), ==, 0);
    g_assert_null(shaping_journal_open(self->directory, &error));
    g_assert_error(error, SHAPING_ERROR, SHAPING_ERROR_FAILED);
    g_assert_nonnull(strstr(error->message, self->journal));
    g_clear_error(&error);
    g_unlink(self->journal);
    g_assert_cmpint(mkfifo(self->journal, 0600), ==, 0);
    g_assert_null(shaping_journal_open(self->directory, &error));
    g_assert_error(error, SHAPING_ERROR, SHAPING_ERROR_FAILED);
    g_clear_error(&error);
    g_assert_null(shaping_journal_open("/nowhere", &error));
    g_assert_error(error, SHAPING_ERROR, SHAPING_ERROR_FAILED);
}

static GPtrArray *
steps_new(guint count)
{
    GPtrArray *steps = g_ptr_array_new_with_free_func((GDestroyNotify)shaping_step_free);

    for (guint i = 0; i < count; i++) {
        g_autofree char *line = g_strdup_printf("qdisc add dev a%u root pfifo", i);

        g_ptr_array_add(steps,
                        shaping_step_new(SHAPING_TOOL_TC, SHAPING_LEAVES_NOTHING, "a0", line));
    }
    return steps;
}

static gboolean
program_run(const Fixture *self, const char *script, guint count, GError **error)
{
    g_autoptr(GPtrArray) steps = steps_new(count);

    g_assert_true(g_file_set_contents(self->program, script, -1, NULL));
    g_assert_cmpint(g_chmod(self->program, 0700), ==, 0);
    g_setenv("VIRT_CONVOY_TC", self->program, TRUE);
    return shaping_run(steps, error);
}

static void
test_run(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GError) error = NULL;

    /* The batch arrives whole, also when it exceeds a pipe's 64 KiB. */
    g_assert_true(program_run(self,
                              "#!/bin/sh\n[ \"$*\" = '-batch -' ] && "
                              "[ $(grep -c '^qdisc add dev a[0-9]* root pfifo$') -eq 5000 ]\n",
                              5000, &error));
    g_assert_no_error(error);
    g_assert_false(program_run(self,
                               "#!/bin/sh\necho 'Error: no way.\nCommand failed -:3' >&2\n"
                               "exit 1\n",
                               5, &error));
    g_assert_error(error, SHAPING_ERROR, SHAPING_ERROR_FAILED);
    g_assert_cmpstr(error->message, ==,
                    "\"tc qdisc add dev a2 root pfifo\" failed: Error: no way. "
                    "Command failed -:3");
    g_clear_error(&error);
    g_assert_false(
        program_run(self, "#!/bin/sh\necho 'Command failed -:99999' >&2; exit 1\n", 2, &error));
    g_assert_nonnull(strstr(error->message, "dev a1 "));
    g_clear_error(&error);
    g_assert_false(program_run(self, "#!/bin/sh\nkill -9 $$\n", 1, &error));
    g_assert_error(error, SHAPING_ERROR, SHAPING_ERROR_FAILED);
    g_clear_error(&error);
    g_setenv("VIRT_CONVOY_TC", "/nowhere/tc", TRUE);
    {
        g_autoptr(GPtrArray) steps = steps_new(1);

        g_assert_false(shaping_run(steps, &error));
    }
    g_assert_error(error, SHAPING_ERROR, SHAPING_ERROR_FAILED);
    g_assert_nonnull(strstr(error->message, "/nowhere/tc"));
}

/* Ended at the limit: one that hangs, one whose child holds the pipe, and one
 * that never stops writing. */
static void
test_run_timeout(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    static const char *const scripts[] = {
        "#!/bin/sh\nexec sleep 8\n",
        "#!/bin/sh\nsleep 8\n",
        "#!/bin/sh\nexec yes >&2\n",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(scripts); i++) {
        g_autoptr(GError) error = NULL;
        gint64 start = g_get_monotonic_time();

        g_assert_false(program_run(self, scripts[i], 1, &error));
        g_assert_error(error, SHAPING_ERROR, SHAPING_ERROR_TIMEOUT);
        g_assert_cmpint(g_get_monotonic_time() - start, >=, SHAPING_STEP_TIMEOUT_MS * 1000 - 1000);
        g_assert_cmpint(g_get_monotonic_time() - start, <, 7 * G_USEC_PER_SEC);
    }
}

#define TEST_ADD(path, function)                                                                   \
    g_test_add(path, Fixture, NULL, fixture_set_up, function, fixture_tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST_ADD("/shaping/journal/lines", test_lines);
    TEST_ADD("/shaping/journal/index", test_index);
    TEST_ADD("/shaping/journal/hostile", test_hostile_file);
    TEST_ADD("/shaping/journal/torn", test_torn_line);
    TEST_ADD("/shaping/journal/full-disk", test_full_disk);
    TEST_ADD("/shaping/journal/not-a-file", test_not_a_file);
    TEST_ADD("/shaping/run/outcomes", test_run);
    TEST_ADD("/shaping/run/timeout", test_run_timeout);
    return g_test_run();
}
