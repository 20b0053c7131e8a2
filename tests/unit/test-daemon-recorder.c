/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Decisions reach the file, one a line; a folder that is gone costs nothing but them. */
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

/* Said once, not once a line. */
static void
test_folder_gone(void)
{
    if (g_test_subprocess()) {
        Recorder *recorder = recorder_new("/nonexistent/virt-convoy");

        for (unsigned i = 0; i < LINES; i++)
            add_one(recorder, i);
        recorder_free(recorder);
        return;
    }
    g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("*decisions-not-recorded*cannot open*");
    g_test_trap_assert_stderr_unmatched("*decisions-not-recorded*decisions-not-recorded*");
    recorder_add(NULL, NULL);
    recorder_free(NULL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/recorder/writes", test_writes);
    g_test_add_func("/recorder/folder-gone", test_folder_gone);
    return g_test_run();
}
