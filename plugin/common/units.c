/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sizes, rates and durations: text to integers and back.
 *
 * A number is read as a whole part and up to nine decimals, and scaled in 128
 * bits: no floating point, so what is printed reads back to the same number
 * and nothing depends on the locale (libvirtd sets one).
 */
#include "common/units.h"

#include <string.h>

#define DECIMALS_MAXIMUM 9u
#define DECIMALS_SCALE 1000000000u

/* A unit's factor is multiplier / divider of the base unit. */
typedef struct {
    const char *name;
    uint64_t multiplier;
    uint64_t divider;
} Unit;

#define KIBI UINT64_C(1024)
#define MEBI (KIBI * KIBI)
#define GIBI (MEBI * KIBI)
#define TEBI (GIBI * KIBI)
#define KILO UINT64_C(1000)
#define MEGA (KILO * KILO)
#define GIGA (MEGA * KILO)
#define TERA (GIGA * KILO)

static const Unit rate_units[] = {
    { "bit/s", 1, 8 },      { "kbit/s", KILO, 8 },  { "Mbit/s", MEGA, 8 },  { "Gbit/s", GIGA, 8 },
    { "Tbit/s", TERA, 8 },  { "Kibit/s", KIBI, 8 }, { "Mibit/s", MEBI, 8 }, { "Gibit/s", GIBI, 8 },
    { "Tibit/s", TEBI, 8 }, { "B/s", 1, 1 },        { "KB/s", KILO, 1 },    { "MB/s", MEGA, 1 },
    { "GB/s", GIGA, 1 },    { "TB/s", TERA, 1 },    { "KiB/s", KIBI, 1 },   { "MiB/s", MEBI, 1 },
    { "GiB/s", GIBI, 1 },   { "TiB/s", TEBI, 1 },
};

/* The spellings of libvirt's scaled integers. */
static const Unit size_units[] = {
    { "b", 1, 1 },     { "bytes", 1, 1 },  { "KB", KILO, 1 }, { "MB", MEGA, 1 },
    { "GB", GIGA, 1 }, { "TB", TERA, 1 },  { "k", KIBI, 1 },  { "KiB", KIBI, 1 },
    { "M", MEBI, 1 },  { "MiB", MEBI, 1 }, { "G", GIBI, 1 },  { "GiB", GIBI, 1 },
    { "T", TEBI, 1 },  { "TiB", TEBI, 1 },
};

static const Unit duration_units[] = {
    { "us", 1, 1000 }, { "ms", 1, 1 }, { "s", 1000, 1 }, { "min", 60000, 1 }, { "h", 3600000, 1 },
};

static bool
units_fail(GError **error, const char *text, const char *why)
{
    g_autofree char *shown = NULL;

    if (text != NULL)
        shown = g_strndup(text, UNITS_TEXT_MAXIMUM);
    if (shown != NULL && !g_utf8_validate(shown, -1, NULL)) {
        g_autofree char *raw = g_steal_pointer(&shown);
        shown = g_strescape(raw, NULL);
    }
    g_set_error(error, G_NUMBER_PARSER_ERROR, G_NUMBER_PARSER_ERROR_INVALID, "\"%s\" %s",
                shown != NULL ? shown : "", why);
    return false;
}

static const char *
text_skip_blanks(const char *text)
{
    while (*text == ' ' || *text == '\t')
        text++;
    return text;
}

/* The number at the start of text, scaled by DECIMALS_SCALE. */
static bool
number_scan(const char *text, unsigned __int128 *ret_scaled, const char **ret_rest)
{
    unsigned __int128 scaled = 0;
    const char *at = text;
    uint64_t place = DECIMALS_SCALE;

    if (!g_ascii_isdigit(*at))
        return false;
    for (; g_ascii_isdigit(*at); at++) {
        scaled = scaled * 10 + (unsigned)(*at - '0');
        if (scaled > UINT64_MAX)
            return false;
    }
    scaled *= DECIMALS_SCALE;
    if (*at == '.') {
        at++;
        if (!g_ascii_isdigit(*at))
            return false;
        for (; g_ascii_isdigit(*at); at++) {
            place /= 10;
            if (place == 0)
                return false;
            scaled += place * (unsigned)(*at - '0');
        }
    }
    *ret_scaled = scaled;
    *ret_rest = at;
    return true;
}

/* A rate in "Mb/s" may be meant in bits, so no byte rate has a small b. */
static bool
unit_ambiguous(const char *name)
{
    return g_str_has_suffix(name, "b/s");
}

static const Unit *
unit_find(const Unit *units, size_t count, const char *name)
{
    for (size_t i = 0; i < count && !unit_ambiguous(name); i++) {
        if (g_ascii_strcasecmp(units[i].name, name) == 0)
            return &units[i];
    }
    return NULL;
}

/*
 * value [blanks] unit, the unit either behind the value or given apart. What
 * value * multiplier can reach (2^64 * 10^9 * 2^40) is below 2^134, so the
 * multiplication is checked.
 */
static bool
quantity_parse(const Unit *units, size_t count, const char *text, const char *unit_text,
               const Unit *fallback, uint64_t *ret, GError **error)
{
    unsigned __int128 scaled;
    unsigned __int128 result;
    const char *rest;
    const Unit *unit;
    char name[UNITS_TEXT_MAXIMUM + 1];

    if (text == NULL || strnlen(text, UNITS_TEXT_MAXIMUM + 1) > UNITS_TEXT_MAXIMUM ||
        (unit_text != NULL && strnlen(unit_text, UNITS_TEXT_MAXIMUM + 1) > UNITS_TEXT_MAXIMUM))
        return units_fail(error, text, "is missing or too long");
    if (!number_scan(text_skip_blanks(text), &scaled, &rest))
        return units_fail(error, text, "does not start with a number that fits");
    rest = text_skip_blanks(rest);
    if (scaled == 0 && *rest == '\0' && (unit_text == NULL || *unit_text == '\0')) {
        *ret = 0; /* nothing is nothing in any unit */
        return true;
    }
    if (unit_text != NULL && *unit_text != '\0') {
        if (*rest != '\0')
            return units_fail(error, text, "has text behind the number");
        rest = unit_text;
    }
    g_strlcpy(name, rest, sizeof name);
    g_strchomp(name);
    unit = *name == '\0' ? fallback : unit_find(units, count, name);
    if (unit == NULL)
        return units_fail(error, *name == '\0' ? text : name,
                          *name == '\0' ? "needs a unit" : "is not a known unit");
    if (__builtin_mul_overflow(scaled, (unsigned __int128)unit->multiplier, &result))
        return units_fail(error, text, "is too large");
    result /= (unsigned __int128)DECIMALS_SCALE * unit->divider;
    if (result > UINT64_MAX)
        return units_fail(error, text, "is too large");
    *ret = (uint64_t)result;
    return true;
}

bool
units_parse_rate(const char *text, uint64_t *ret_bytes_per_second, GError **error)
{
    return quantity_parse(rate_units, G_N_ELEMENTS(rate_units), text, NULL, NULL,
                          ret_bytes_per_second, error);
}

bool
units_parse_rate_value(const char *value, const char *unit, uint64_t *ret_bytes_per_second,
                       GError **error)
{
    static const Unit bytes = { "B/s", 1, 1 };

    return quantity_parse(rate_units, G_N_ELEMENTS(rate_units), value, unit, &bytes,
                          ret_bytes_per_second, error);
}

bool
units_parse_size_value(const char *value, const char *unit, uint64_t default_scale,
                       uint64_t *ret_bytes, GError **error)
{
    const Unit fallback = { "", default_scale, 1 };

    return quantity_parse(size_units, G_N_ELEMENTS(size_units), value, unit, &fallback, ret_bytes,
                          error);
}

bool
units_parse_duration(const char *text, uint64_t *ret_milliseconds, GError **error)
{
    return quantity_parse(duration_units, G_N_ELEMENTS(duration_units), text, NULL, NULL,
                          ret_milliseconds, error);
}

bool
units_parse_duration_value(const char *value, const char *unit, const char *default_unit,
                           uint64_t *ret_milliseconds, GError **error)
{
    const Unit *fallback = unit_find(duration_units, G_N_ELEMENTS(duration_units), default_unit);

    return quantity_parse(duration_units, G_N_ELEMENTS(duration_units), value, unit, fallback,
                          ret_milliseconds, error);
}

bool
units_parse_number(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *ret_number,
                   GError **error)
{
    uint64_t number = 0;
    const char *at = text;
    char why[96];

    if (text == NULL || *text == '\0')
        return units_fail(error, text, "is not a number");
    for (; g_ascii_isdigit(*at) && at - text <= UNITS_TEXT_MAXIMUM; at++) {
        if (__builtin_mul_overflow(number, UINT64_C(10), &number) ||
            __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number))
            return units_fail(error, text, "is too large");
    }
    if (*at != '\0')
        return units_fail(error, text, "is not a number");
    if (number < minimum || number > maximum) {
        g_snprintf(why, sizeof why, "is not between %" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT,
                   minimum, maximum);
        return units_fail(error, text, why);
    }
    *ret_number = number;
    return true;
}

/* The largest decimal unit that divides the rate exactly, bits first. */
char *
units_format_rate(uint64_t bytes_per_second)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } exact[] = {
        { "Gbit/s", 125000000 },
        { "Mbit/s", 125000 },
        { "kbit/s", 125 },
        { "B/s", 1 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(exact); i++) {
        if (bytes_per_second != 0 && bytes_per_second % exact[i].bytes == 0)
            return g_strdup_printf("%" G_GUINT64_FORMAT "%s", bytes_per_second / exact[i].bytes,
                                   exact[i].name);
    }
    return g_strdup("0B/s");
}

char *
units_format_duration(uint64_t milliseconds)
{
    if (milliseconds % 1000 == 0)
        return g_strdup_printf("%" G_GUINT64_FORMAT "s", milliseconds / 1000);
    return g_strdup_printf("%" G_GUINT64_FORMAT "ms", milliseconds);
}

static char *
describe(double value, double step, const char *const *names, size_t count)
{
    size_t i = 0;

    while (i + 1 < count && value >= step) {
        value /= step;
        i++;
    }
    return g_strdup_printf("%.*f %s", i == 0 ? 0 : 1, value, names[i]);
}

char *
units_describe_rate(uint64_t bytes_per_second)
{
    static const char *const names[] = { "bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s" };

    return describe((double)bytes_per_second * 8, 1000, names, G_N_ELEMENTS(names));
}

char *
units_describe_size(uint64_t bytes)
{
    static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB" };

    return describe((double)bytes, 1024, names, G_N_ELEMENTS(names));
}

char *
units_describe_duration(uint64_t milliseconds)
{
    if (milliseconds < 1000)
        return g_strdup_printf("%" G_GUINT64_FORMAT " ms", milliseconds);
    if (milliseconds < 600000)
        return g_strdup_printf("%.1f s", (double)milliseconds / 1000);
    return g_strdup_printf("%.1f min", (double)milliseconds / 60000);
}
