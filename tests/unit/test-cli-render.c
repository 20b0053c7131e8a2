/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon's JSON as text: unknown keys and wrong types are passed over,
 * nothing reaches the terminal as a control sequence.
 */
#include "cli/answer.c"
#include "cli/render.c"

static void
test_explanation(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = render_explanation(
        "{\"migrations\":[{\"domain\":\"web\\u001b[2J\",\"uuid\":\"u\",\"role\":\"source\","
        "\"state\":\"done\",\"priority\":\"high\",\"technique\":\"hybrid\",\"reason\":\"r\","
        "\"ended\":null,\"numbers\":{\"available_pre\":50000000,\"total_s\":11.2,"
        "\"memory_total\":536870912,\"iteration\":3,\"odd\":\"text\",\"none\":null},"
        "\"log\":[{\"time\":\"t\",\"event\":\"e\",\"text\":\"x\\ny\"},7],\"new\":[1]}]}",
        &error);

    g_assert_no_error(error);
    g_assert_cmpstr(text, ==,
                    "web?[2J: source, done\n"
                    "  priority   high\n"
                    "  technique  hybrid\n"
                    "  because    r\n"
                    "  numbers:\n"
                    "    available pre              400.0 Mbit/s\n"
                    "    total                      11.2 s\n"
                    "    memory total               512.0 MiB\n"
                    "    iteration                  3\n"
                    "  what happened:\n"
                    "    t  e: x?y\n"
                    "      \n");
}

static void
test_status(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text =
        render_status("{\"version\":\"1\",\"uplinks\":[{\"name\":\"eth0\",\"link_rate\":50000000,"
                      "\"in\":0,\"class\":\"idle\",\"shaped\":true,\"egress\":{\"shaped\":true,"
                      "\"classes\":{\"workload_rate\":12500000,\"workload_ceil\":49500000,"
                      "\"migration_rate\":37000000,\"migration_ceil\":49500000}}}],"
                      "\"domains\":[{\"name\":\"web\",\"priority\":\"high\",\"sla_lower\":12500000,"
                      "\"traffic\":null}],\"migrations\":[],\"waiting\":[]}",
                      &error);

    g_assert_no_error(error);
    g_assert_cmpstr(text, ==,
                    "virt-convoyd 1\n"
                    "uplink eth0: 400.0 Mbit/s, in 0 bit/s, out unknown, idle, shaped\n"
                    "  egress: workload 100.0 Mbit/s (up to 396.0 Mbit/s), migrations "
                    "296.0 Mbit/s (up to 396.0 Mbit/s)\n"
                    "domain web: priority high, in unknown, out unknown, at least "
                    "100.0 Mbit/s\n"
                    "0 migrations, 0 waiting\n");
}

static void
test_hostile(void)
{
    static const char *const good[] = {
        "{}",
        "{\"migrations\":7,\"uplinks\":{},\"version\":[],\"domains\":[null,[],{}]}",
        "{\"migrations\":[null,1,{}],\"uplinks\":[{\"egress\":1,\"link_rate\":-1e308}]}",
        "{\"uplinks\":[{\"shaped\":\"yes\",\"link_rate\":1e308,\"egress\":{\"shaped\":[]}}],"
        "\"libvirt_connected\":7}",
        "{\"migrations\":[{\"numbers\":{\"_s\":1,\"x\":1e300,\"memory_y\":-5}}]}",
    };
    static const char *const bad[] = { "", "[]", "7", "{", "null", "{\"a\":}" };

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autofree char *status = render_status(good[i], NULL);
        g_autofree char *explanation = render_explanation(good[i], NULL);

        g_test_message("%s", good[i]);
        g_assert_nonnull(status);
        g_assert_nonnull(explanation);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        g_test_message("%s", bad[i]);
        g_assert_null(render_status(bad[i], &error));
        g_assert_nonnull(error);
        g_assert_null(render_explanation(bad[i], NULL));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/render/explanation", test_explanation);
    g_test_add_func("/render/status", test_status);
    g_test_add_func("/render/hostile", test_hostile);
    return g_test_run();
}
