/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rates from counters: the numbers, and every case where there is no number.
 */
#include "traffic/window.h"

#define SECOND G_USEC_PER_SEC

static void
test_two_readings(void)
{
    g_autoptr(TrafficWindow) window = traffic_window_new(TRAFFIC_OWNER_HOST, SECOND);

    g_assert_false(traffic_window_smoothed(window).valid);
    traffic_window_add(window, 10 * SECOND, 1000, 5000);
    g_assert_false(traffic_window_smoothed(window).valid);
    traffic_window_add(window, 12 * SECOND, 3000, 5000);
    g_assert_true(traffic_window_smoothed(window).valid);
    g_assert_cmpuint(traffic_window_smoothed(window).in, ==, 1000);
    /* A measured zero is a number. */
    g_assert_cmpuint(traffic_window_smoothed(window).out, ==, 0);
}

static void
test_tap_is_seen_from_the_vm(void)
{
    g_autoptr(TrafficWindow) window = traffic_window_new(TRAFFIC_OWNER_VM, SECOND);

    traffic_window_add(window, SECOND, 0, 0);
    traffic_window_add(window, 2 * SECOND, 100, 700);
    g_assert_cmpuint(traffic_window_last(window).out, ==, 100);
    g_assert_cmpuint(traffic_window_last(window).in, ==, 700);
}

/* After one time constant of a step from 0 to 1000, 63.2 % are visible,
 * whether it took one tick or ten. */
static void
test_average_heeds_time_not_ticks(void)
{
    g_autoptr(TrafficWindow) one = traffic_window_new(TRAFFIC_OWNER_HOST, 2 * SECOND);
    g_autoptr(TrafficWindow) ten = traffic_window_new(TRAFFIC_OWNER_HOST, 2 * SECOND);

    traffic_window_add(one, SECOND, 0, 0);
    traffic_window_add(one, 2 * SECOND, 0, 0);
    traffic_window_add(one, 4 * SECOND, 2000, 0);
    traffic_window_add(ten, SECOND, 0, 0);
    traffic_window_add(ten, 2 * SECOND, 0, 0);
    for (gint64 i = 1; i <= 10; i++)
        traffic_window_add(ten, 2 * SECOND + i * SECOND / 5, (uint64_t)i * 200, 0);
    g_assert_cmpuint(traffic_window_smoothed(one).in, ==, 632);
    g_assert_cmpuint(traffic_window_smoothed(ten).in, ==, 632);
    g_assert_cmpuint(traffic_window_last(one).in, ==, 1000);
}

/* What happens between two good samples must change neither. */
static void
test_hostile_readings(void)
{
    static const struct {
        const char *name;
        gint64 now_us;
        uint64_t rx, tx;
        uint64_t next_in; /* rate of a reading 1000 bytes and a second later */
    } rows[] = {
        { "rx reset", 4 * SECOND, 0, 9000, 1000 },
        { "tx reset", 4 * SECOND, 9000, 0, 1000 },
        { "clock went back", SECOND, 9000, 9000, 1000 },
        { "clock stood still", 3 * SECOND, 9000, 9000, 1000 },
        { "counter at its end falls to 0", 4 * SECOND, 0, 0, 1000 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(TrafficWindow) window = traffic_window_new(TRAFFIC_OWNER_HOST, 1);

        g_test_message("%s", rows[i].name);
        traffic_window_add(window, 2 * SECOND, 4000, 4000);
        traffic_window_add(window, 3 * SECOND, 5000, 5000);
        traffic_window_add(window, rows[i].now_us, rows[i].rx, rows[i].tx);
        g_assert_cmpuint(traffic_window_last(window).in, ==, 1000);
        traffic_window_add(window, rows[i].now_us + SECOND, rows[i].rx + 1000, rows[i].tx);
        g_assert_cmpuint(traffic_window_last(window).in, ==, rows[i].next_in);
    }
}

static void
test_missing_interface(void)
{
    g_autoptr(TrafficWindow) window = traffic_window_new(TRAFFIC_OWNER_HOST, SECOND);

    traffic_window_miss(window);
    traffic_window_add(window, SECOND, 0, 0);
    traffic_window_add(window, 2 * SECOND, 1000, 0);
    traffic_window_miss(window);
    g_assert_false(traffic_window_smoothed(window).valid);
    g_assert_false(traffic_window_last(window).valid);
    g_assert_cmpuint(traffic_window_last(window).in, ==, 0);
    traffic_window_add(window, 3 * SECOND, 7000, 0);
    g_assert_false(traffic_window_smoothed(window).valid);
    traffic_window_add(window, 4 * SECOND, 7500, 0);
    g_assert_cmpuint(traffic_window_smoothed(window).in, ==, 500);
}

static void
test_too_close_readings(void)
{
    g_autoptr(TrafficWindow) window = traffic_window_new(TRAFFIC_OWNER_HOST, SECOND);

    traffic_window_add(window, SECOND, 0, 0);
    traffic_window_add(window, SECOND + 999, 1000000, 0);
    g_assert_false(traffic_window_last(window).valid);
    /* Nothing is lost: the bytes count in the next reading. */
    traffic_window_add(window, 2 * SECOND, 1000000, 0);
    g_assert_cmpuint(traffic_window_last(window).in, ==, 1000000);
}

static void
test_large_numbers(void)
{
    g_autoptr(TrafficWindow) window = traffic_window_new(TRAFFIC_OWNER_HOST, 0);

    traffic_window_add(window, SECOND, 0, UINT64_MAX - 1);
    traffic_window_add(window, 2 * SECOND, UINT64_C(1) << 33, UINT64_MAX);
    g_assert_cmpuint(traffic_window_last(window).in, ==, UINT64_C(1) << 33);
    g_assert_cmpuint(traffic_window_last(window).out, ==, 1);
    traffic_window_add(window, 2 * SECOND + 1000, UINT64_MAX, UINT64_MAX);
    g_assert_cmpuint(traffic_window_last(window).in, ==, UINT64_C(1) << 63);
    traffic_window_free(NULL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/traffic/window/two-readings", test_two_readings);
    g_test_add_func("/traffic/window/tap", test_tap_is_seen_from_the_vm);
    g_test_add_func("/traffic/window/average", test_average_heeds_time_not_ticks);
    g_test_add_func("/traffic/window/hostile", test_hostile_readings);
    g_test_add_func("/traffic/window/missing", test_missing_interface);
    g_test_add_func("/traffic/window/too-close", test_too_close_readings);
    g_test_add_func("/traffic/window/large", test_large_numbers);
    return g_test_run();
}
