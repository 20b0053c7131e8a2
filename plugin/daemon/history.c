/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The history file; see history.h. */
#include "daemon/history.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool
history_fail(GError **error, const char *path, const char *what)
{
    int number = errno;

    g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(number), "%s %s: %s", what, path,
                g_strerror(number));
    return false;
}

/* NULL: nothing that could be read. */
static char *
file_read(const char *path)
{
    int descriptor = g_open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0);
    g_autofree char *text = NULL;
    struct stat status;
    size_t used = 0;

    if (descriptor < 0)
        return NULL;
    if (fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) &&
        status.st_size <= 2 * HISTORY_BYTES_MAX) {
        size_t size = (size_t)status.st_size;
        ssize_t got = 1;

        text = g_malloc(size + 1);
        while (used < size && (got = read(descriptor, text + used, size - used)) > 0)
            used += (size_t)got;
        text[used] = '\0';
    }
    close(descriptor);
    return g_steal_pointer(&text);
}

unsigned
history_read(const char *directory, HistoryLineFunc func, gpointer user_data)
{
    static const char *const names[] = { "history.jsonl.1", "history.jsonl" };
    unsigned count = 0;

    if (directory[0] == '\0')
        return 0;
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(directory, names[i], NULL);
        g_autofree char *text = file_read(path);
        char *line = text;

        while (line != NULL && *line != '\0') {
            char *end = strchr(line, '\n');

            if (end == NULL)
                break; /* cut short when the disk was full */
            *end = '\0';
            if (end > line && end - line <= HISTORY_LINE_MAX) {
                func(line, user_data);
                count++;
            }
            line = end + 1;
        }
    }
    return count;
}

bool
history_append(const char *directory, const char *file, const char *record, GError **error)
{
    g_autofree char *path = g_build_filename(directory, file, NULL);
    g_autofree char *older = g_strconcat(path, ".1", NULL);
    g_autofree char *line = g_strconcat(record, "\n", NULL);
    const int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
    size_t length = strlen(line);
    struct stat status;
    ssize_t written;
    int descriptor;

    if (g_stat(path, &status) == 0 && status.st_size + (off_t)length > HISTORY_BYTES_MAX &&
        g_rename(path, older) < 0)
        return history_fail(error, path, "cannot rename");
    descriptor = g_open(path, flags, 0640);
    if (descriptor < 0 && errno == ENOENT && g_mkdir(directory, 0750) == 0)
        descriptor = g_open(path, flags, 0640);
    if (descriptor < 0)
        return history_fail(error, path, "cannot open");
    /* One write: a reader never sees half a line unless the disk is full. */
    written = write(descriptor, line, length);
    if (written >= 0 && (size_t)written != length) {
        errno = ENOSPC;
        written = -1;
    }
    if (written < 0)
        history_fail(error, path, "cannot write");
    close(descriptor);
    return written >= 0;
}
