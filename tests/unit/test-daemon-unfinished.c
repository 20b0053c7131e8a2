/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is written of a post-copy comes back; what somebody else wrote is judged. */
#include "daemon/unfinished.h"

#include <glib/gstdio.h>
#include <string.h>

#define UUID "0b1c2d3e-0000-4000-8000-00000000000a"
#define OTHER "0b1c2d3e-0000-4000-8000-00000000000b"

static char *directory;

static GPtrArray *
list_and_expect(guint count, guint bad)
{
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
    GPtrArray *list = unfinished_list(directory, problems);

    for (guint i = 0; i < problems->len; i++)
        g_test_message("%s", (const char *)g_ptr_array_index(problems, i));
    g_assert_cmpuint(list->len, ==, count);
    g_assert_cmpuint(problems->len, ==, bad);
    return list;
}

static void
test_comes_back(void)
{
    Unfinished written = {
        .uuid = (char *)"0B1C2D3E-0000-4000-8000-00000000000A",
        .name = (char *)"we b\n[migration]\nflags=7; # ü",
        .destination_uri = (char *)"qemu+tcp://host-b/system?a=b;c",
        .migrate_uri = (char *)"tcp:[fe80::1%eth0]:49152",
        .destination_name = (char *)" other ",
        .flags = UINT64_MAX,
        .peer_to_peer = true,
    };
    Unfinished least = { .uuid = (char *)OTHER, .name = (char *)"b" };
    g_autoptr(GPtrArray) none = list_and_expect(0, 0);
    g_autoptr(GPtrArray) one = NULL;
    g_autoptr(GPtrArray) two = NULL;
    g_autoptr(GPtrArray) left = NULL;
    const Unfinished *read;

    g_assert_true(unfinished_write(directory, &least, NULL));
    unfinished_remove(directory, OTHER);
    unfinished_remove(directory, OTHER);
    g_assert_true(unfinished_write(directory, &written, NULL));
    g_assert_true(unfinished_write(directory, &written, NULL));
    one = list_and_expect(1, 0);
    read = g_ptr_array_index(one, 0);
    g_assert_cmpstr(read->uuid, ==, UUID);
    g_assert_cmpstr(read->name, ==, written.name);
    g_assert_cmpstr(read->destination_uri, ==, written.destination_uri);
    g_assert_cmpstr(read->migrate_uri, ==, written.migrate_uri);
    g_assert_cmpstr(read->destination_name, ==, written.destination_name);
    g_assert_cmpuint(read->flags, ==, UINT64_MAX);
    g_assert_true(read->peer_to_peer);
    g_assert_true(unfinished_write(directory, &least, NULL));
    two = list_and_expect(2, 0);
    unfinished_remove(directory, written.uuid);
    left = list_and_expect(1, 0);
    read = g_ptr_array_index(left, 0);
    g_assert_cmpstr(read->uuid, ==, OTHER);
    g_assert_null(read->destination_uri);
    g_assert_null(read->migrate_uri);
    g_assert_null(read->destination_name);
    g_assert_false(read->peer_to_peer);
    unfinished_remove(directory, OTHER);
}

static void
test_refused(void)
{
    static const char *const bad[] = { NULL, "", "../" UUID, "web", UUID "/x" };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        Unfinished unfinished = { .uuid = (char *)bad[i], .name = (char *)"web" };
        g_autoptr(GError) error = NULL;

        g_assert_false(unfinished_write(directory, &unfinished, &error));
        g_assert_nonnull(error);
        unfinished_remove(directory, bad[i]);
    }
    {
        Unfinished unfinished = { .uuid = (char *)UUID, .name = (char *)"web" };
        g_autofree char *no_directory = g_build_filename(directory, "file", NULL);

        g_assert_true(g_file_set_contents(no_directory, "", 0, NULL));
        g_assert_false(unfinished_write(no_directory, &unfinished, NULL));
        g_unlink(no_directory);
    }
}

static void
test_hostile(void)
{
    g_autofree char *folder = g_build_filename(directory, "post-copy", NULL);
    g_autofree char *path = g_build_filename(folder, UUID, NULL);
    g_autofree char *stranger = g_build_filename(folder, "stranger", NULL);
    g_autofree char *long_name = g_strnfill(UNFINISHED_TEXT_MAX + 1, 'x');
    g_autofree char *too_long =
        g_strdup_printf("[migration]\nname=%s\nflags=1\npeer-to-peer=true\n", long_name);
    g_autofree char *too_large = g_strnfill((gsize)1 << 20, '\n');
    const char *const bad[] = {
        "",
        "\xff\xfe",
        "name=web",
        "[other]\nname=web\nflags=1\npeer-to-peer=true\n",
        "[migration]\nflags=1\npeer-to-peer=true\n",
        "[migration]\nname=\nflags=1\npeer-to-peer=true\n",
        "[migration]\nname=web\npeer-to-peer=true\n",
        "[migration]\nname=web\nflags=-1x\npeer-to-peer=true\n",
        "[migration]\nname=web\nflags=18446744073709551616\npeer-to-peer=true\n",
        "[migration]\nname=web\nflags=1\n",
        "[migration]\nname=web\nflags=1\npeer-to-peer=maybe\n",
        "[migration]\nname=web\nflags=1\npeer-to-peer=true\ndestination-uri=\xc3\x28\n",
        too_long,
        too_large,
    };
    g_autoptr(GPtrArray) list = NULL;

    g_assert_cmpint(g_mkdir_with_parents(folder, 0700), ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GPtrArray) none = NULL;

        g_assert_true(g_file_set_contents(path, bad[i], -1, NULL));
        g_test_message("row %zu", i);
        none = list_and_expect(0, 1);
    }
    g_assert_true(
        g_file_set_contents(path, "[migration]\nname=web\nflags=1\npeer-to-peer=true\n", -1, NULL));
    g_assert_cmpint(g_mkdir(stranger, 0700), ==, 0);
    list = list_and_expect(1, 1);
    g_rmdir(stranger);
    g_unlink(path);
    unfinished_free(NULL);
}

int
main(int argc, char **argv)
{
    int status;
    g_autofree char *folder = NULL;

    g_test_init(&argc, &argv, NULL);
    directory = g_dir_make_tmp("convoy-unfinished-XXXXXX", NULL);
    folder = g_build_filename(directory, "post-copy", NULL);
    g_test_add_func("/unfinished/comes-back", test_comes_back);
    g_test_add_func("/unfinished/refused", test_refused);
    g_test_add_func("/unfinished/hostile", test_hostile);
    status = g_test_run();
    g_rmdir(folder);
    g_rmdir(directory);
    g_free(directory);
    return status;
}
