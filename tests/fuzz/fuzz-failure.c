/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any bytes as what a failed tc or ip left on its standard error: one of the steps
 * that it was given is blamed, in one line of valid text. The first byte says how many
 * steps there were, the second how many were given before them.
 */
#include <stdlib.h>

#include "shaping/tc.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GPtrArray) steps = g_ptr_array_new_with_free_func((GDestroyNotify)shaping_step_free);
    g_autoptr(GError) error = NULL;
    Run run = { 0 };
    g_autofree Run *exact = NULL;
    guint first, count, blamed;

    if (size < 2)
        return 0;
    count = MAX(data[0], 1u);
    first = data[1];
    for (guint i = 0; i < first + count; i++) {
        g_autofree char *line = g_strdup_printf("qdisc add dev eth%u root htb", i);

        g_ptr_array_add(steps,
                        shaping_step_new(SHAPING_TOOL_TC, SHAPING_LEAVES_NOTHING, "eth0", line));
    }
    run.output_length = MIN(size - 2, sizeof run.output - 1);
    memcpy(run.output, data + 2, run.output_length);
    /* On the heap: who reads behind it is found. */
    exact = g_memdup2(&run, sizeof run);
    blamed = run_failed_line(exact, count);
    if (blamed >= count)
        abort();
    run_report(exact, SHAPING_TOOL_TC, "tc", steps, first, count, &error);
    if (error == NULL || strpbrk(error->message, "\r\n\t") != NULL ||
        !g_utf8_validate(error->message, -1, NULL))
        abort();
    return 0;
}
