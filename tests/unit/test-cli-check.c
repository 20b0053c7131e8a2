/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of an installation: each thing that is missing is found, and says what to
 * do; answers of another version and processes that vanish are no obstacle.
 */
#include "cli/answer.c"
#include "cli/check.c"

#include <glib/gstdio.h>
#include <sys/stat.h>

typedef struct {
    char *root;
    char *processes;
    char *hook;
    char *drop_ins;
} Place;

static void
put(const Place *place, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(place->root, name, NULL);
    g_autofree char *folder = g_path_get_dirname(path);

    g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

/* A process as /proc shows it. */
static void
process(const Place *place, const char *pid, const char *comm, const char *maps, const char *net)
{
    g_autofree char *name = g_strconcat("proc/", pid, "/comm", NULL);
    g_autofree char *mapped = g_strconcat("proc/", pid, "/maps", NULL);
    g_autofree char *folder = g_strconcat(place->root, "/proc/", pid, "/ns", NULL);
    g_autofree char *link = g_strconcat(folder, "/net", NULL);

    put(place, name, comm);
    if (maps != NULL)
        put(place, mapped, maps);
    g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
    g_assert_cmpint(symlink(net, link), ==, 0);
}

static Place
place_new(void)
{
    g_autofree char *root = g_dir_make_tmp("check-XXXXXX", NULL);
    Place place = {
        .root = g_strdup(root),
        .processes = g_build_filename(root, "proc", NULL),
        .hook = g_build_filename(root, "hook", NULL),
        .drop_ins = g_build_filename(root, "system", NULL),
    };

    put(&place, "hook", "#!/bin/sh\n");
    g_assert_cmpint(g_chmod(place.hook, 0755), ==, 0);
    process(&place, "self", "check\n", NULL, "net:[1]");
    put(&place, "proc/version", "Linux\n");
    return place;
}

static void
place_clear(Place *place)
{
    const char *argv[] = { "rm", "-rf", place->root, NULL };

    g_assert_true(g_spawn_sync(NULL, (char **)(void *)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL,
                               NULL, NULL, NULL, NULL));
    g_free(place->root);
    g_free(place->processes);
    g_free(place->hook);
    g_free(place->drop_ins);
}

static char *
checked(const Place *place, const char *status, CheckLevel *ret_worst)
{
    CheckInput input = {
        .status = status,
        .status_problem = "virt-convoyd does not run here.\nStart it",
        .processes = place->processes,
        .hook = place->hook,
        .drop_ins = place->drop_ins,
    };
    g_autoptr(GPtrArray) findings = check_findings(&input);
    char *text = check_to_text(findings);

    g_test_message("%s", text);
    *ret_worst = check_worst(findings);
    return text;
}

#define GOOD                                                                                       \
    "{\"version\":\"" CONVOY_VERSION                                                               \
    "\",\"libvirt_connected\":true,\"qemu_version\":7002000,\"uplinks\":"                          \
    "[{\"name\":\"eth0\",\"link_rate\":125000000,\"egress\":{\"problem\":null}}]}"

static void
test_good(void)
{
    Place place = place_new();
    CheckLevel worst;
    g_autofree char *text = NULL;
    g_autofree char *wanted = NULL;

    process(&place, "12", "virtqemud\n", "7f00 r-xp /usr/lib/virt-convoy/virt-convoy-libvirtd.so\n",
            "net:[1]");
    process(&place, "13", "libvirtd\n", "7f00 r-xp /bin/other\n", "net:[2]"); /* a container's */
    text = checked(&place, GOOD, &worst);
    wanted = g_strdup_printf("daemon    ok      virt-convoyd " CONVOY_VERSION " answers\n"
                             "libvirt   ok      connected, QEMU 7.2.0\n"
                             "uplink    ok      eth0, 1.0 Gbit/s\n"
                             "plugin    ok      loaded by virtqemud (pid 12)\n"
                             "hook      ok      %s\n"
                             "settings  ok      read without a warning\n",
                             place.hook);
    g_assert_cmpstr(text, ==, wanted);
    g_assert_cmpint(worst, ==, CHECK_OK);
    place_clear(&place);
}

static void
test_status(void)
{
    static const struct {
        const char *status;
        const char *found;
        CheckLevel worst;
    } rows[] = {
        { NULL, "daemon    FAILED  virt-convoyd does not run here. Start it\n", CHECK_FAILED },
        { "[]", "daemon    FAILED  the daemon's answer is not a JSON object\n", CHECK_FAILED },
        { "{\"version\":\"0.0.1\",\"libvirt_connected\":true,"
          "\"uplinks\":[{\"name\":\"e\",\"link_rate\":1e9}]}",
          "daemon    note    virt-convoyd is 0.0.1, this command " CONVOY_VERSION
          ": systemctl restart virt-convoyd\nlibvirt   ok      connected\n",
          CHECK_NOTE },
        { "{}", "libvirt   FAILED  virt-convoyd is not connected", CHECK_FAILED },
        { "{\"uplinks\":[],\"uplink_problem\":\"no default\\u001b[2J route\"}",
          "uplink    FAILED  no default?[2J route\n", CHECK_FAILED },
        { "{\"uplinks\":[null,7,{}],\"libvirt_connected\":true,\"qemu_version\":1e300}",
          "QEMU 18446744073709.551.615\nuplink    FAILED  the daemon knows none\n", CHECK_FAILED },
        { "{\"uplinks\":7}", "uplink    FAILED  the daemon knows none\n", CHECK_FAILED },
        { "{\"uplinks\":[null,{\"name\":\"e\",\"link_rate\":-1}]}",
          "uplink    FAILED  e: its rate is not known", CHECK_FAILED },
        { "{\"version\":\"" CONVOY_VERSION "\",\"libvirt_connected\":true,\"uplinks\":[{"
          "\"name\":\"e\",\"link_rate\":1e300,\"ingress\":{\"problem\":\"no ifb\"}}]}",
          "shaping   note    ingress: no ifb\n", CHECK_NOTE },
    };
    Place place = place_new();

    process(&place, "12", "libvirtd\n", "x /virt-convoy-libvirtd.so\n", "net:[1]");
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        CheckLevel worst;
        g_autofree char *text = checked(&place, rows[i].status, &worst);

        g_assert_nonnull(strstr(text, rows[i].found));
        g_assert_cmpint(worst, ==, rows[i].worst);
    }
    place_clear(&place);
}

static void
test_plugin(void)
{
    static const struct {
        const char *comm;
        const char *maps;
        bool drop_in;
        const char *found;
        CheckLevel worst;
    } rows[] = {
        { "libvirtd\n", "x /lib/virt-convoy-libvirtd.so (deleted)\n", false,
          "plugin    note    libvirtd (pid 12) has an earlier one loaded: systemctl restart "
          "libvirtd",
          CHECK_NOTE },
        { "libvirtd\n", "x /lib/libc.so\n", true,
          "plugin    FAILED  not loaded by libvirtd (pid 12)", CHECK_FAILED },
        { "libvirtd\n", "x /lib/libc.so\n", false, "the hook works alone", CHECK_NOTE },
        { "libvirtd\n", NULL, true, "", CHECK_OK }, /* it has just ended */
        { "libvirtd-other\n", "", true, "neither libvirtd nor virtqemud runs now", CHECK_NOTE },
        { "", "", true, "neither libvirtd nor virtqemud runs now", CHECK_NOTE },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Place place = place_new();
        CheckLevel worst;
        g_autofree char *text = NULL;

        process(&place, "12", rows[i].comm, rows[i].maps, "net:[1]");
        if (rows[i].drop_in)
            put(&place, "system/libvirtd.service.d/virt-convoy.conf", "");
        text = checked(&place, GOOD, &worst);
        g_assert_nonnull(strstr(text, rows[i].found));
        g_assert_cmpint(worst, ==, rows[i].worst);
        place_clear(&place);
    }
}

static void
test_hook(void)
{
    Place place = place_new();
    CheckLevel worst;
    g_autofree char *plain = NULL;
    g_autofree char *missing = NULL;

    g_assert_cmpint(g_unlink(place.hook), ==, 0);
    g_assert_cmpint(symlink("nowhere", place.hook), ==, 0);
    plain = checked(&place, GOOD, &worst);
    g_assert_nonnull(strstr(plain, "No such file or directory: make install puts it there"));
    g_assert_cmpint(worst, ==, CHECK_FAILED);
    g_assert_cmpint(g_unlink(place.hook), ==, 0);
    put(&place, "hook", "not a program");
    missing = checked(&place, GOOD, &worst);
    g_assert_nonnull(strstr(missing, "hook      FAILED"));
    g_assert_cmpint(worst, ==, CHECK_FAILED);
    place_clear(&place);
}

static void
test_json(void)
{
    Place place = place_new();
    g_autoptr(GPtrArray) warnings = g_ptr_array_new();
    g_autoptr(GPtrArray) findings = NULL;
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autofree char *text = NULL;
    JsonObject *last;
    JsonArray *array;

    g_ptr_array_add(warnings, (gpointer) "file:7: \"what\"");
    findings = check_findings(&(CheckInput){ .processes = "/nowhere",
                                             .hook = place.hook,
                                             .drop_ins = place.drop_ins,
                                             .warnings = warnings });
    text = check_to_json(findings);
    g_assert_true(json_parser_load_from_data(parser, text, -1, NULL));
    array = json_node_get_array(json_parser_get_root(parser));
    g_assert_cmpuint(json_array_get_length(array), ==, findings->len);
    last = json_array_get_object_element(array, findings->len - 1);
    g_assert_cmpstr(json_object_get_string_member(last, "check"), ==, "settings");
    g_assert_cmpstr(json_object_get_string_member(last, "level"), ==, "note");
    g_assert_cmpstr(json_object_get_string_member(last, "text"), ==,
                    "file:7: \"what\": the default is used");
    place_clear(&place);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli/check/good", test_good);
    g_test_add_func("/cli/check/status", test_status);
    g_test_add_func("/cli/check/plugin", test_plugin);
    g_test_add_func("/cli/check/hook", test_hook);
    g_test_add_func("/cli/check/json", test_json);
    return g_test_run();
}
