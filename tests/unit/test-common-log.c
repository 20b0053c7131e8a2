/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Event lines: one line each, levels kept, nothing forged. */
#include "common/log.h"

#include <glib/gstdio.h>
#include <string.h>

static void
test_lines(void)
{
    g_autofree char *folder = g_dir_make_tmp("convoy-log-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "log", NULL);
    g_autofree char *text = NULL;
    g_autofree char *filler = g_strnfill(10000, 'x');
    g_auto(GStrv) lines = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(log_open(CONFIG_LOG_INFO, path, &error));
    g_assert_true(log_enabled(CONFIG_LOG_ERROR));
    g_assert_false(log_enabled(CONFIG_LOG_DEBUG));
    log_event(CONFIG_LOG_INFO, "started", NULL);
    log_event(CONFIG_LOG_DEBUG, "hidden", NULL);
    log_event(CONFIG_LOG_WARNING, "odd-name", "domain: %s, rate: %d", "a\nevent: forged\x1b", 5);
    log_event(CONFIG_LOG_INFO, "long", "text: %s", filler);
    log_close();
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    g_assert_cmpuint(g_strv_length(lines), ==, 4); /* the last one is empty */
    g_assert_true(g_str_has_suffix(lines[0], "Z event: started"));
    g_assert_true(
        g_str_has_suffix(lines[1], "Z event: odd-name, domain: a\\x0aevent: forged\\x1b, rate: 5"));
    g_assert_cmpuint(strlen(lines[2]), <=, 4096);
    g_unlink(path);
    g_rmdir(folder);
}

static void
test_bad_file(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(log_open(CONFIG_LOG_ERROR, "/nonexistent/log", &error));
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error->message, "/nonexistent/log"));
}

/* Told on standard error, once. */
static void
test_full_disk(void)
{
    if (g_test_subprocess()) {
        g_assert_true(log_open(CONFIG_LOG_INFO, "/dev/full", NULL));
        for (int i = 0; i < 100; i++)
            log_event(CONFIG_LOG_INFO, "iteration", "number: %d", i);
        log_close();
        return;
    }
    g_test_trap_subprocess(NULL, 0, (GTestSubprocessFlags)0);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("*event: log-not-written, file: /dev/full, reason: *");
    g_test_trap_assert_stderr_unmatched("*log-not-written*log-not-written*");
    g_test_trap_assert_stderr_unmatched("*iteration*");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/log/lines", test_lines);
    g_test_add_func("/log/bad-file", test_bad_file);
    g_test_add_func("/log/full-disk", test_full_disk);
    return g_test_run();
}
