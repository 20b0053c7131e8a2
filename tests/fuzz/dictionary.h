/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A fuzzer's bytes as a D-Bus dictionary. */
#pragma once

#include <glib.h>
#include <stdint.h>

/* GVariant's text form when they are that, else its serialised form. A full reference. */
static inline GVariant *
dictionary_of(const uint8_t *data, size_t size)
{
    GVariant *dictionary = NULL;
    g_autoptr(GBytes) bytes = NULL;

    if (g_utf8_validate((const char *)data, (gssize)size, NULL))
        dictionary = g_variant_parse(G_VARIANT_TYPE_VARDICT, (const char *)data,
                                     (const char *)data + size, NULL, NULL);
    if (dictionary != NULL)
        return dictionary;
    bytes = g_bytes_new(data, size);
    return g_variant_ref_sink(g_variant_new_from_bytes(G_VARIANT_TYPE_VARDICT, bytes, FALSE));
}
