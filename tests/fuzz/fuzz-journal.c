/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any bytes as the shaping journal that a killed daemon left: only names that
 * are of ours come out of it, and what is written anew reads back to the same.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "shaping/journal.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ShapingJournal *
journal_of(const void *bytes, size_t length)
{
    ShapingJournal *self = g_new0(ShapingJournal, 1);

    g_mutex_init(&self->mutex);
    self->path = g_strdup("fuzz");
    self->standing = g_array_new(FALSE, TRUE, sizeof(Standing));
    self->fd = memfd_create("journal", MFD_CLOEXEC);
    if (self->fd < 0 || write(self->fd, bytes, length) != (ssize_t)length ||
        !journal_read(self, NULL))
        abort();
    return self;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(ShapingJournal) journal = journal_of(data, size);
    g_autoptr(ShapingJournal) back = NULL;
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < journal->standing->len; i++) {
        const Standing *entry = &g_array_index(journal->standing, Standing, i);
        ShapingStep *step;

        if (entry->what == SHAPING_LEAVES_NOTHING ||
            !shaping_interface_name_is_valid(entry->device))
            abort();
        step = shaping_step_undo(entry->what, entry->device);
        if (step == NULL)
            abort();
        shaping_step_free(step);
        line_render(text, entry->what, entry->device, entry->ifindex, FALSE);
    }
    back = journal_of(text->str, text->len);
    if (back->standing->len != journal->standing->len)
        abort();
    for (guint i = 0; i < back->standing->len; i++) {
        const Standing *a = &g_array_index(journal->standing, Standing, i);
        const Standing *b = &g_array_index(back->standing, Standing, i);

        if (a->what != b->what || strcmp(a->device, b->device) != 0 || a->ifindex != b->ifindex)
            abort();
    }
    return 0;
}
