/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What libvirt was told, and what a daemon finds that starts again. Taking back: tests/fault. */
#include "daemon/speeds.h"

#include <glib/gstdio.h>

#define FIRST "5b92d60c-d21b-4d6d-9bcb-f0f0051d1cac"
#define SECOND "5b92d60c-d21b-4d6d-9bcb-f0f0051d1cad"

static void
test_life(void)
{
    g_autofree char *directory = g_dir_make_tmp("convoy-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(directory, "speeds", NULL);
    g_autoptr(Speeds) speeds = speeds_new(directory);
    g_autoptr(Speeds) next = NULL;
    g_auto(GStrv) uuids = NULL;

    g_assert_cmpuint(speeds_told(speeds, FIRST), ==, 0);
    g_assert_cmpuint(speeds_told(speeds, NULL), ==, 0);
    speeds_tell(speeds, FIRST, 10);
    speeds_tell(speeds, FIRST, 12);
    speeds_tell(speeds, SECOND, UINT64_MAX);
    g_assert_cmpuint(speeds_told(speeds, SECOND), ==, 0);
    speeds_tell(speeds, SECOND, UINT64_C(1) << 40);
    speeds_tell(speeds, "../../x", 5);
    speeds_tell(speeds, NULL, 5);
    next = speeds_new(directory);
    g_assert_cmpuint(speeds_told(next, FIRST), ==, 12);
    g_assert_cmpuint(speeds_told(next, SECOND), ==, UINT64_C(1) << 40);
    uuids = speeds_list(next);
    g_assert_cmpuint(g_strv_length(uuids), ==, 2);
    speeds_forget(next, FIRST);
    speeds_forget(next, FIRST);
    g_assert_true(g_file_test(path, G_FILE_TEST_EXISTS));
    speeds_forget(next, SECOND);
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    g_rmdir(directory);
}

static void
test_hostile(void)
{
    static const char *const texts[] = {
        "",
        "\n",
        "[told]\n",
        "[told]\n../../etc/passwd=5\n",
        "[told]\n" FIRST "=\n",
        "[told]\n" FIRST "=-1\n",
        "[told]\n" FIRST "=0\n",
        "[told]\n" FIRST "=99999999999999999999999\n",
        "[told]\n" FIRST "=many\n",
        "[other]\n" FIRST "=5\n",
        "[told]\n" FIRST,
        "\xff\xfe",
    };
    g_autofree char *directory = g_dir_make_tmp("convoy-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(directory, "speeds", NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(Speeds) speeds = NULL;
        g_auto(GStrv) uuids = NULL;

        g_test_message("%s", texts[i]);
        g_assert_true(g_file_set_contents(path, texts[i], -1, NULL));
        speeds = speeds_new(directory);
        uuids = speeds_list(speeds);
        g_assert_cmpuint(g_strv_length(uuids), ==, 0);
        speeds_tell(speeds, FIRST, 7);
        g_assert_cmpuint(speeds_told(speeds, FIRST), ==, 7);
    }
    g_unlink(path);
    g_rmdir(directory);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/speeds/life", test_life);
    g_test_add_func("/daemon/speeds/hostile", test_hostile);
    return g_test_run();
}
