/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Classes of traffic: thresholds, hysteresis and hostile rates. */
#include "decision/classify.h"

#include <glib.h>
#include <math.h>

#define MB UINT64_C(1000000)

static void
test_table(void)
{
    static const struct {
        const char *name;
        bool valid;
        uint64_t in, out, link;
        TrafficClass previous, expected;
    } rows[] = {
        { "unknown rates", false, 90 * MB, 0, 125 * MB, TRAFFIC_CLASS_INBOUND,
          TRAFFIC_CLASS_UNKNOWN },
        { "nothing", true, 0, 0, 125 * MB, 0, TRAFFIC_CLASS_IDLE },
        { "nothing, no link", true, 0, 0, 0, 0, TRAFFIC_CLASS_IDLE },
        { "4 % of the link", true, 5 * MB, 0, 125 * MB, 0, TRAFFIC_CLASS_IDLE },
        { "6 % of the link", true, 0, 15 * MB / 2, 125 * MB, 0, TRAFFIC_CLASS_OUTBOUND },
        { "directions do not add up", true, 5 * MB, 5 * MB, 125 * MB, 0, TRAFFIC_CLASS_IDLE },
        { "no link: absolute below", true, 124999, 0, 0, 0, TRAFFIC_CLASS_IDLE },
        { "no link: absolute above", true, 125001, 0, 0, 0, TRAFFIC_CLASS_INBOUND },
        { "tiny link: absolute rules", true, 100000, 0, 1000, 0, TRAFFIC_CLASS_IDLE },
        { "twice dominates", true, 20 * MB, 10 * MB, 125 * MB, 0, TRAFFIC_CLASS_INBOUND },
        { "less than twice", true, 19 * MB, 10 * MB, 125 * MB, 0, TRAFFIC_CLASS_MIXED },
        { "equal", true, 20 * MB, 20 * MB, 125 * MB, 0, TRAFFIC_CLASS_MIXED },
        { "outbound", true, 1 * MB, 90 * MB, 125 * MB, 0, TRAFFIC_CLASS_OUTBOUND },
        /* hysteresis */
        { "idle stays below 6 %", true, 7 * MB, 0, 125 * MB, TRAFFIC_CLASS_IDLE,
          TRAFFIC_CLASS_IDLE },
        { "idle ends above 6 %", true, 8 * MB, 0, 125 * MB, TRAFFIC_CLASS_IDLE,
          TRAFFIC_CLASS_INBOUND },
        { "inbound stays above 4 %", true, 51 * MB / 10, 0, 125 * MB, TRAFFIC_CLASS_INBOUND,
          TRAFFIC_CLASS_INBOUND },
        { "inbound ends below 4 %", true, 49 * MB / 10, 0, 125 * MB, TRAFFIC_CLASS_INBOUND,
          TRAFFIC_CLASS_IDLE },
        { "inbound stays at 1.6", true, 32 * MB, 20 * MB, 125 * MB, TRAFFIC_CLASS_INBOUND,
          TRAFFIC_CLASS_INBOUND },
        { "outbound does not help inbound", true, 32 * MB, 20 * MB, 125 * MB,
          TRAFFIC_CLASS_OUTBOUND, TRAFFIC_CLASS_MIXED },
        { "inbound ends at 1.4", true, 28 * MB, 20 * MB, 125 * MB, TRAFFIC_CLASS_INBOUND,
          TRAFFIC_CLASS_MIXED },
        { "outbound stays at 1.6", true, 20 * MB, 32 * MB, 125 * MB, TRAFFIC_CLASS_OUTBOUND,
          TRAFFIC_CLASS_OUTBOUND },
        { "turns round at once", true, 5 * MB, 60 * MB, 125 * MB, TRAFFIC_CLASS_INBOUND,
          TRAFFIC_CLASS_OUTBOUND },
        /* hostile */
        { "huge in", true, UINT64_MAX, 0, 125 * MB, 0, TRAFFIC_CLASS_INBOUND },
        { "huge both", true, UINT64_MAX, UINT64_MAX, UINT64_MAX, 0, TRAFFIC_CLASS_MIXED },
        { "2^32 out", true, 0, UINT64_C(1) << 32, UINT64_C(12500) * MB, 0, TRAFFIC_CLASS_OUTBOUND },
        { "2^32 link", true, 1, UINT64_C(1) << 31, UINT64_C(1) << 32, 0, TRAFFIC_CLASS_OUTBOUND },
        { "senseless previous", true, 20 * MB, 0, 125 * MB, (TrafficClass)77,
          TRAFFIC_CLASS_INBOUND },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        TrafficRates rates = { .valid = rows[i].valid, .in = rows[i].in, .out = rows[i].out };
        TrafficClass found = classify_traffic(&rates, rows[i].link, rows[i].previous, NULL);

        g_test_message("%s: %s", rows[i].name, traffic_class_to_string(found));
        g_assert_cmpint(found, ==, rows[i].expected);
    }
}

/* Around the idle threshold a flickering rate must not make the class flicker. */
static void
test_no_flicker(void)
{
    TrafficClass held = TRAFFIC_CLASS_UNKNOWN;
    unsigned int changes = 0;

    for (unsigned int i = 0; i < 100; i++) {
        TrafficRates rates = { .valid = true, .in = (i % 2 ? 65 : 60) * MB / 10 };
        TrafficClass now = classify_traffic(&rates, 125 * MB, held, NULL);

        changes += now != held;
        held = now;
    }
    g_assert_cmpuint(changes, ==, 1);
}

static void
test_params(void)
{
    ClassifyParams params = classify_params_default();
    TrafficRates rates = { .valid = true, .in = 20 * MB, .out = 9 * MB };

    params.dominance = 3.0;
    g_assert_cmpint(classify_traffic(&rates, 125 * MB, 0, &params), ==, TRAFFIC_CLASS_MIXED);
    params.idle_percent = 20.0;
    g_assert_cmpint(classify_traffic(&rates, 125 * MB, 0, &params), ==, TRAFFIC_CLASS_IDLE);

    /* Senseless values are replaced: the answer is the default's. */
    params = (ClassifyParams){ .idle_percent = (double)NAN,
                               .dominance = -1.0,
                               .dominance_kept = (double)INFINITY,
                               .hysteresis_percent = 1e300 };
    g_assert_cmpint(classify_traffic(&rates, 125 * MB, 0, &params), ==, TRAFFIC_CLASS_INBOUND);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/decision/classify/table", test_table);
    g_test_add_func("/decision/classify/no-flicker", test_no_flicker);
    g_test_add_func("/decision/classify/params", test_params);
    return g_test_run();
}
