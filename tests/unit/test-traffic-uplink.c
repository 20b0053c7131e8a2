/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Choosing a bridge's uplink, reading link rates from a made-up sysfs, and
 * the parts of link counters and routes that any machine can show (loopback).
 */
#include "traffic/class_counters.h"
#include "traffic/error.h"
#include "traffic/link_counters.h"
#include "traffic/uplink.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static void
links_add(GArray *links, int ifindex, const char *name, const char *kind, int master)
{
    LinkCounter link = { .ifindex = ifindex, .master_ifindex = master };

    g_strlcpy(link.name, name, sizeof link.name);
    g_strlcpy(link.kind, kind, sizeof link.kind);
    g_array_append_val(links, link);
}

static void
test_bridge_port(void)
{
    enum { BRIDGE = 7 };
    static const struct {
        const char *name;
        struct {
            const char *name, *kind;
            int master;
        } links[4];
        int expected; /* index in links + 1; 0: ambiguous */
        const char *candidates;
    } rows[] = {
        { "one nic", { { "eth0", "", BRIDGE }, { "vnet0", "tun", BRIDGE } }, 1, "eth0" },
        { "nic beside a container",
          { { "veth9", "veth", BRIDGE }, { "eth0", "", BRIDGE } },
          2,
          "veth9, eth0" },
        { "only a veth", { { "vnet0", "tun", BRIDGE }, { "eth0", "veth", BRIDGE } }, 2, "eth0" },
        { "bond",
          { { "bond0", "bond", BRIDGE }, { "eth0", "", 9 }, { "eth1", "", 9 } },
          1,
          "bond0" },
        { "vlan", { { "eth0.5", "vlan", BRIDGE }, { "eth0", "", 0 } }, 1, "eth0.5" },
        { "two nics", { { "eth0", "", BRIDGE }, { "eth1", "", BRIDGE } }, 0, "eth0, eth1" },
        { "two veths", { { "a", "veth", BRIDGE }, { "b", "veth", BRIDGE } }, 0, "a, b" },
        { "guests only", { { "vnet0", "tun", BRIDGE }, { "vnet1", "tun", BRIDGE } }, 0, "" },
        { "other bridge's port", { { "eth0", "", 8 } }, 0, "" },
        { "no links", { { NULL, NULL, 0 } }, 0, "" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GArray) links = g_array_new(FALSE, TRUE, sizeof(LinkCounter));
        g_autoptr(GString) candidates = g_string_new(NULL);

        for (int j = 0; j < 4 && rows[i].links[j].name != NULL; j++)
            links_add(links, j + 1, rows[i].links[j].name, rows[i].links[j].kind,
                      rows[i].links[j].master);
        g_test_message("%s", rows[i].name);
        g_assert_cmpint(uplink_choose_bridge_port(links, BRIDGE, candidates), ==, rows[i].expected);
        g_assert_cmpstr(candidates->str, ==, rows[i].candidates);
        g_assert_cmpint(uplink_choose_bridge_port(links, BRIDGE, NULL), ==, rows[i].expected);
    }
}

static void
test_rate(void)
{
    static const struct {
        const char *kind, *speed, *driver;
        bool known;
        uint64_t rate;
    } rows[] = {
        { "", "1000\n", "igb", true, 125000000 },
        { "", "400000\n", "mlx5_core", true, UINT64_C(50000000000) }, /* above 2^32 */
        { "bond", "20000\n", NULL, true, UINT64_C(2500000000) },
        { "", "-1\n", "igb", false, 0 },
        { "", "0\n", "igb", false, 0 },
        { "", "4294967295\n", "igb", false, 0 }, /* SPEED_UNKNOWN as unsigned */
        { "", "fast\n", "igb", false, 0 },
        { "", "", "igb", false, 0 },
        { "", "1000 2000\n", "igb", false, 0 },
        { "", "1000\n", "virtio_net", false, 0 },
        { "veth", "10000\n", NULL, false, 0 },
        { "tun", "10000\n", NULL, false, 0 },
        { "bridge", "10000\n", NULL, false, 0 },
        { "", NULL, NULL, false, 0 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *root = g_dir_make_tmp("convoy-XXXXXX", NULL);
        g_autofree char *net = g_build_filename(root, "class/net/eth0", NULL);
        g_autofree char *device = g_build_filename(net, "device", NULL);
        g_autofree char *speed = g_build_filename(net, "speed", NULL);
        g_autofree char *driver = g_build_filename(device, "driver", NULL);
        g_autofree char *class = g_build_filename(root, "class", NULL);
        g_autofree char *nets = g_build_filename(class, "net", NULL);
        uint64_t rate = 77;
        Uplink unknown = { .name = "eth0" };
        Uplink other = { .name = "eth0", .rate_valid = true, .rate = 77 };

        g_assert_cmpint(g_mkdir_with_parents(device, 0700), ==, 0);
        if (rows[i].speed != NULL)
            g_assert_true(g_file_set_contents(speed, rows[i].speed, -1, NULL));
        if (rows[i].driver != NULL) {
            g_autofree char *target = g_strconcat("/drivers/", rows[i].driver, NULL);

            g_assert_cmpint(symlink(target, driver), ==, 0);
        }
        g_test_message("row %" G_GSIZE_FORMAT, i);
        g_assert_cmpint(uplink_read_rate(root, "eth0", rows[i].kind, &rate), ==, rows[i].known);
        g_assert_cmpuint(rate, ==, rows[i].known ? rows[i].rate : 77);
        /* What cannot be read now stays; the same once more is no news. */
        g_assert_cmpint(uplink_renew_rate(root, rows[i].kind, &unknown), ==, rows[i].known);
        g_assert_cmpint(unknown.rate_valid, ==, rows[i].known);
        g_assert_cmpint(uplink_renew_rate(root, rows[i].kind, &other), ==, rows[i].known);
        g_assert_true(other.rate_valid && other.rate == rate);
        g_assert_false(uplink_renew_rate(root, rows[i].kind, &other));
        g_unlink(driver);
        g_unlink(speed);
        g_rmdir(device);
        g_rmdir(net);
        g_rmdir(nets);
        g_rmdir(class);
        g_rmdir(root);
    }
}

static void
test_hostile_interface_name(void)
{
    uint64_t rate = 77;

    g_assert_false(uplink_read_rate(NULL, "..", "", &rate));
    g_assert_false(uplink_read_rate(NULL, "a/b", "", &rate));
    g_assert_false(uplink_read_rate("/nowhere", "eth0", "", &rate));
    g_assert_cmpuint(rate, ==, 77);
}

static void
test_loopback(void)
{
    g_autoptr(LinkCounters) counters = link_counters_new(NULL);
    g_autoptr(GError) error = NULL;

    for (int i = 0; i < 3; i++) {
        g_autoptr(GArray) links = NULL;
        const LinkCounter *lo;

        g_assert_true(link_counters_read(counters, &links, &error));
        g_assert_no_error(error);
        lo = link_counters_find(links, "lo");
        g_assert_nonnull(lo);
        g_assert_cmpint(lo->ifindex, ==, 1);
        g_assert_true(lo->statistics_valid);
        g_assert_true(link_counters_find_index(links, 1) == lo);
        g_assert_null(link_counters_find(links, "no-such-link"));
        g_assert_null(link_counters_find_index(links, 0));
    }
}

static void
test_find_errors(void)
{
    static const struct {
        const char *peer, *configured;
        TrafficError code;
        const char *text; /* must be named in the message */
    } rows[] = {
        { "127.0.0.1", NULL, TRAFFIC_ERROR_INVALID, "127.0.0.1" },
        { "host.example", NULL, TRAFFIC_ERROR_INVALID, "host.example" },
        { "", NULL, TRAFFIC_ERROR_INVALID, "\"\"" },
        { "fe80::1%no-such-link", NULL, TRAFFIC_ERROR_INVALID, "no-such-link" },
        { "10.0.0.1%lo", NULL, TRAFFIC_ERROR_INVALID, "10.0.0.1%lo" },
        { NULL, "no-such-link", TRAFFIC_ERROR_NOT_FOUND, "no-such-link" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        Uplink uplink = { .ifindex = 77 };

        g_assert_false(uplink_find(rows[i].peer, rows[i].configured, &uplink, &error));
        g_assert_error(error, TRAFFIC_ERROR, (gint)rows[i].code);
        g_assert_nonnull(strstr(error->message, rows[i].text));
        g_assert_cmpint(uplink.ifindex, ==, 77);
    }
}

static void
test_configured(void)
{
    g_autoptr(GError) error = NULL;
    Uplink uplink;

    g_assert_true(uplink_find(NULL, "lo", &uplink, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(uplink.name, ==, "lo");
    g_assert_cmpstr(uplink.path, ==, "lo");
    g_assert_false(uplink.rate_valid);
}

static void
test_classes(void)
{
    g_autoptr(ClassCounters) counters = class_counters_new(NULL);
    g_autoptr(GArray) classes = NULL;
    g_autoptr(GError) error = NULL;
    uint64_t bytes = 77;

    g_assert_true(class_counters_read(counters, 1, &classes, &error));
    g_assert_cmpuint(classes->len, ==, 0);
    g_assert_false(class_counters_find(classes, 0xc0b00010, &bytes));
    g_assert_cmpuint(bytes, ==, 77);
    g_assert_false(class_counters_read(counters, 0, &classes, &error));
    g_assert_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_NOT_FOUND);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/traffic/uplink/bridge-port", test_bridge_port);
    g_test_add_func("/traffic/uplink/rate", test_rate);
    g_test_add_func("/traffic/uplink/hostile-name", test_hostile_interface_name);
    g_test_add_func("/traffic/links/loopback", test_loopback);
    g_test_add_func("/traffic/uplink/errors", test_find_errors);
    g_test_add_func("/traffic/uplink/configured", test_configured);
    g_test_add_func("/traffic/classes/none", test_classes);
    return g_test_run();
}
