/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tables of texts for common/units, the hostile ones included. */
#include "common/units.h"

#include <gio/gio.h>

typedef struct {
    const char *text;
    bool good;
    uint64_t expected;
} Row;

static void
test_rate(void)
{
    static const Row rows[] = {
        { "400Mbit/s", true, 50000000 },
        { "400 Mbit/s", true, 50000000 },
        { " 400 mbit/s ", true, 50000000 },
        { "1.1GB/s", true, 1100000000 },
        { "10Gbit/s", true, 1250000000 },
        { "40Gbit/s", true, 5000000000 }, /* above 2^32 */
        { "1KiB/s", true, 1024 },
        { "1KB/s", true, 1000 },
        { "8bit/s", true, 1 },
        { "7bit/s", true, 0 },
        { "1GiB/s", true, 1073741824 },
        { "0B/s", true, 0 },
        { "18446744073709551615B/s", true, UINT64_MAX },
        { "18446744073709551616B/s", false, 0 },
        { "18446744073709551615KB/s", false, 0 },
        { "18446744073709551615TiB/s", false, 0 },
        { "99999999999999999999999999999999999999999999999B/s", false, 0 },
        { "400", false, 0 },
        { "", false, 0 },
        { "-1Mbit/s", false, 0 },
        { "+1Mbit/s", false, 0 },
        { "1e3Mbit/s", false, 0 },
        { "0x10B/s", false, 0 },
        { "1,5Mbit/s", false, 0 },
        { "1.Mbit/s", false, 0 },
        { "1.0000000001Mbit/s", false, 0 },
        { "1 2Mbit/s", false, 0 },
        { "100Mb/s", false, 0 },
        { "Mbit/s", false, 0 },
        { "nan", false, 0 },
        { "1\xff", false, 0 },
        { NULL, false, 0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        uint64_t rate = 4711;

        g_test_message("%s", rows[i].text != NULL ? rows[i].text : "(null)");
        g_assert_cmpint(units_parse_rate(rows[i].text, &rate, &error), ==, rows[i].good);
        g_assert_cmpuint(rate, ==, rows[i].good ? rows[i].expected : 4711);
        g_assert_true((error == NULL) == rows[i].good);
        if (error != NULL)
            g_assert_true(g_utf8_validate(error->message, -1, NULL));
    }
}

static void
test_value_and_unit(void)
{
    uint64_t value = 0;

    g_assert_true(units_parse_rate_value("100", "Mbit/s", &value, NULL));
    g_assert_cmpuint(value, ==, 12500000);
    g_assert_true(units_parse_rate_value("100", NULL, &value, NULL));
    g_assert_cmpuint(value, ==, 100);
    g_assert_false(units_parse_rate_value("100Mbit/s", "Mbit/s", &value, NULL));
    g_assert_false(units_parse_rate_value(NULL, "Mbit/s", &value, NULL));
    g_assert_true(units_parse_size_value("524288", NULL, 1024, &value, NULL));
    g_assert_cmpuint(value, ==, 536870912);
    g_assert_true(units_parse_size_value("2", "GiB", 1024, &value, NULL));
    g_assert_cmpuint(value, ==, UINT64_C(2147483648));
    g_assert_true(units_parse_size_value("1", "G", 1, &value, NULL));
    g_assert_cmpuint(value, ==, 1073741824);
    g_assert_true(units_parse_duration_value("2", "s", "ms", &value, NULL));
    g_assert_cmpuint(value, ==, 2000);
    g_assert_true(units_parse_duration_value("120", NULL, "s", &value, NULL));
    g_assert_cmpuint(value, ==, 120000);
    g_assert_true(units_parse_duration("1500us", &value, NULL));
    g_assert_cmpuint(value, ==, 1);
    g_assert_false(units_parse_duration("5", &value, NULL));
    g_assert_false(units_parse_duration_value("0", "fortnights", "ms", &value, NULL));
    g_assert_true(units_parse_duration("0", &value, NULL));
    g_assert_cmpuint(value, ==, 0);
    g_assert_false(units_parse_duration("5 fortnights", &value, NULL));
}

static void
test_number(void)
{
    uint64_t number = 7;

    g_assert_true(units_parse_number("49152", 1, 65535, &number, NULL));
    g_assert_cmpuint(number, ==, 49152);
    g_assert_true(units_parse_number("18446744073709551615", 0, UINT64_MAX, &number, NULL));
    g_assert_cmpuint(number, ==, UINT64_MAX);
    g_assert_false(units_parse_number("18446744073709551616", 0, UINT64_MAX, &number, NULL));
    g_assert_false(units_parse_number("0", 1, 9, &number, NULL));
    g_assert_false(units_parse_number("10", 1, 9, &number, NULL));
    g_assert_false(units_parse_number(" 5", 1, 9, &number, NULL));
    g_assert_false(units_parse_number("5 ", 1, 9, &number, NULL));
    g_assert_false(units_parse_number("-5", 0, 9, &number, NULL));
    g_assert_false(units_parse_number("", 0, 9, &number, NULL));
    g_assert_false(units_parse_number(NULL, 0, 9, &number, NULL));
    g_assert_cmpuint(number, ==, UINT64_MAX);
}

/* What is written is read back to the very same number. */
static void
test_round_trip(void)
{
    static const uint64_t numbers[] = {
        0,         1,          124,        125,        1000,
        50000000,  1100000000, 4294967295, 4294967296, UINT64_C(1250000000000),
        UINT64_MAX
    };

    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
        g_autofree char *rate = units_format_rate(numbers[i]);
        g_autofree char *duration = units_format_duration(numbers[i]);
        uint64_t back = 4711;

        g_assert_true(units_parse_rate(rate, &back, NULL));
        g_assert_cmpuint(back, ==, numbers[i]);
        g_assert_true(units_parse_duration(duration, &back, NULL));
        g_assert_cmpuint(back, ==, numbers[i]);
    }
}

static void
test_describe(void)
{
    g_autofree char *rate = units_describe_rate(49775000);
    g_autofree char *small = units_describe_rate(10);
    g_autofree char *huge = units_describe_rate(UINT64_MAX);
    g_autofree char *size = units_describe_size(536870912);
    g_autofree char *duration = units_describe_duration(11234);

    g_assert_cmpstr(rate, ==, "398.2 Mbit/s");
    g_assert_cmpstr(small, ==, "80 bit/s");
    g_assert_true(g_str_has_suffix(huge, " Tbit/s"));
    g_assert_cmpstr(size, ==, "512.0 MiB");
    g_assert_cmpstr(duration, ==, "11.2 s");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/units/rate", test_rate);
    g_test_add_func("/units/value-and-unit", test_value_and_unit);
    g_test_add_func("/units/number", test_number);
    g_test_add_func("/units/round-trip", test_round_trip);
    g_test_add_func("/units/describe", test_describe);
    return g_test_run();
}
