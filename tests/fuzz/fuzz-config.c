/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any bytes as a configuration file: always a Config within its ranges. */
#include <stdlib.h>
#include <string.h>

#include "common/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) none = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(Config) config = config_parse((const char *)data, size, "fuzz", warnings);
    g_autofree char *text = config_to_text(config, true);
    g_autoptr(Config) back = config_parse(text, strlen(text), "fuzz", none);
    g_autofree char *again = config_to_text(back, true);

    /* Whatever was accepted is valid when written down. */
    if (none->len != 0 || strcmp(text, again) != 0)
        abort();
    for (unsigned i = 0; i < warnings->len; i++) {
        if (!g_utf8_validate(warnings->pdata[i], -1, NULL))
            abort();
    }
    return 0;
}
