/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any bytes as a recorded decision, and any readable input to the decision functions. */
#include <stdlib.h>
#include <string.h>

#include "daemon/recording.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GPtrArray) notes = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    g_autoptr(Recording) recording = recording_from_line((const char *)data, size, notes, &error);
    g_autoptr(Recording) back = NULL;
    g_autoptr(Recording) now = NULL;
    g_autoptr(GPtrArray) differences = NULL;
    g_autofree char *line = NULL;
    g_autofree char *again = NULL;
    g_autofree char *described = NULL;

    if (recording == NULL) {
        if (error == NULL || !g_utf8_validate(error->message, -1, NULL))
            abort();
        return 0;
    }
    /* What was read is written, and reads back to the same. */
    line = recording_to_line(recording);
    back = recording_from_line(line, strlen(line), NULL, NULL);
    if (back == NULL)
        abort();
    again = recording_to_line(back);
    if (strcmp(line, again) != 0)
        abort();
    now = recording_decide_again(recording);
    differences = recording_compare(now, now, -1.0);
    if (differences->len != 0)
        abort();
    described = recording_describe(now);
    return 0;
}
