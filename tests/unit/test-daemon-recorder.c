/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Decisions and the history reach their files, one a line; a folder that is gone costs only them.
 */
#include "daemon/recorder.h"

#include <glib/gstdio.h>
#include <string.h>

#include "daemon/history.h"

#define LINES 20u

static void
add_one(Recorder *recorder, unsigned number)
{
    Recording recording = { .kind = RECORDING_RESERVE, .about = "egress" };

    recording.reserve.input = reserve_input_init();
    recording.reserve.input.link = UINT64_C(125000000) + number;
    recording.reserve.input.count[PRIORITY_HIGH] = 1;
    recording.reserve.decision.divided =
        reserve_divide(&recording.reserve.input, &recording.reserve.decision.reservation);
    recorder_add(recorder, &recording);
}

static void
test_writes(void)
{
    g_autofree char *directory = g_dir_make_tmp("convoy-recorder-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(directory, HISTORY_DECISIONS_FILE, NULL);
    Recorder *recorder = recorder_new(directory);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    for (unsigned i = 0; i < LINES; i++)
        add_one(recorder, i);
    recorder_free(recorder);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    g_assert_cmpuint(g_strv_length(lines), ==, LINES + 1);
    for (unsigned i = 0; i < LINES; i++) {
        g_autoptr(Recording) back = recording_from_line(lines[i], strlen(lines[i]), NULL, NULL);

        g_assert_nonnull(back);
        /* In order. */
        g_assert_cmpuint(back->reserve.input.link, ==, UINT64_C(125000000) + i);
    }
    g_unlink(path);
    g_rmdir(directory);
}

/* The folder is made, with nobody else allowed in; those above it are not. */
static void
test_history(void)
{
    g_autofree char *above = g_dir_make_tmp("convoy-recorder-XXXXXX", NULL);
    g_autofree char *directory = g_build_filename(above, "data", NULL);
    g_autofree char *path = g_build_filename(directory, HISTORY_FILE, NULL);
    Recorder *recorder = recorder_new(directory);
    g_autofree char *text = NULL;
    GStatBuf status;

    recorder_add_history(recorder, g_strdup("{\"a\":1}"));
    recorder_add_history(recorder, g_strdup("{\"b\":2}"));
    recorder_free(recorder);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "{\"a\":1}\n{\"b\":2}\n");
    g_assert_cmpint(g_stat(directory, &status), ==, 0);
    g_assert_cmpint(status.st_mode & 0007, ==, 0);
    g_unlink(path);
    g_rmdir(directory);
    g_rmdir(above);
}

/* Said once, not once a line. */
static void
test_folder_gone(void)
{
    if (g_test_subprocess()) {
        Recorder *recorder = recorder_new("/dev/null/virt-convoy");

        for (unsigned i = 0; i < LINES; i++)
            add_one(recorder, i);
        recorder_add_history(recorder, g_strdup("{}"));
        recorder_free(recorder);
        return;
    }
    g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("*not-recorded*cannot open /dev/null/virt-convoy/*");
    g_test_trap_assert_stderr_unmatched("*not-recorded*not-recorded*");
    g_assert_null(recorder_new(""));
    recorder_add(NULL, NULL);
    recorder_add_history(NULL, g_strdup("{}"));
    recorder_free(NULL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/recorder/writes", test_writes);
    g_test_add_func("/recorder/history", test_history);
    g_test_add_func("/recorder/folder-gone", test_folder_gone);
    return g_test_run();
}
