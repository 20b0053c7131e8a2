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

bool
history_append(const char *directory, const char *record, GError **error)
{
    return history_append_line(directory, HISTORY_FILE, record, error);
}

bool
history_append_line(const char *directory, const char *file, const char *record, GError **error)
{
    g_autofree char *path = g_build_filename(directory, file, NULL);
    g_autofree char *older = g_strconcat(path, ".1", NULL);
    g_autofree char *line = g_strconcat(record, "\n", NULL);
    size_t length = strlen(line);
    struct stat status;
    ssize_t written;
    int descriptor;

    if (g_stat(path, &status) == 0 && status.st_size + (off_t)length > HISTORY_BYTES_MAX &&
        g_rename(path, older) < 0)
        return history_fail(error, path, "cannot rename");
    descriptor = g_open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
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
