/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sizes, rates and durations as people and libvirt write them.
 *
 * Inside the program rates are bytes/s, sizes bytes, durations milliseconds;
 * only this module knows other units. Every parser takes hostile text: it
 * refuses signs, overflow, rubbish behind the number and names the text in the
 * error (G_NUMBER_PARSER_ERROR_INVALID). Outputs are untouched on failure.
 *
 * Rate units: bit/s kbit/s Mbit/s Gbit/s Tbit/s (1000), Kibit/s Mibit/s
 * Gibit/s Tibit/s (1024), B/s KB/s MB/s GB/s TB/s (1000), KiB/s MiB/s GiB/s
 * TiB/s (1024). Size units: as libvirt's scaled integers (b, bytes, KB, k,
 * KiB, M, MiB, ...). Duration units: us, ms, s, min, h. Case is ignored
 * but for the B of byte rates: "Mb/s", read as bits by some, is refused.
 * Fractions ("1.1GB/s") are allowed with a unit; the result is rounded down.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* The longest text any parser looks at; longer text is refused. */
#define UNITS_TEXT_MAXIMUM 64

/* "400Mbit/s", "400 Mbit/s"; a number without unit is refused. */
bool units_parse_rate(const char *text, uint64_t *ret_bytes_per_second, GError **error);

/* A value and its unit apart, as XML attributes; unit NULL or "": bytes/s. */
bool units_parse_rate_value(const char *value, const char *unit, uint64_t *ret_bytes_per_second,
                            GError **error);

/* Value and unit of a size; unit NULL or "" means default_scale (1, 1024). */
bool units_parse_size_value(const char *value, const char *unit, uint64_t default_scale,
                            uint64_t *ret_bytes, GError **error);

/* "2s", "250 ms"; a number without unit is refused. */
bool units_parse_duration(const char *text, uint64_t *ret_milliseconds, GError **error);

/* A value and its unit apart; unit NULL or "" means default_unit ("ms"). */
bool units_parse_duration_value(const char *value, const char *unit, const char *default_unit,
                                uint64_t *ret_milliseconds, GError **error);

/* Digits only, no sign, no blanks, minimum <= number <= maximum. */
bool units_parse_number(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *ret_number,
                        GError **error);

/*
 * Exact texts that the parsers read back to the same number ("400Mbit/s",
 * "1001B/s", "250ms", "2s"), for files and XML. Free with g_free.
 */
char *units_format_rate(uint64_t bytes_per_second);
char *units_format_duration(uint64_t milliseconds);

/* Rounded texts for people: "398.2 Mbit/s", "512.0 MiB", "11.2 s". */
char *units_describe_rate(uint64_t bytes_per_second);
char *units_describe_size(uint64_t bytes);
char *units_describe_duration(uint64_t milliseconds);
