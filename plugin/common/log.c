/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The programs' event lines. One write(2) a line, so lines of several threads
 * do not mix; a full disk or a closed descriptor loses the line and nothing
 * else. That a file loses lines is told on standard error, once until one is
 * written again.
 */
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define LOG_LINE_MAXIMUM 4096u

static int log_descriptor = STDERR_FILENO;
static char *log_path;  /* NULL: standard error */
static gint log_losing; /* atomic: the last line was lost, and that was told */
static ConfigLogLevel log_level = CONFIG_LOG_INFO;

/* What sd-daemon(3) calls them; journald strips the prefix. */
static const char *
log_prefix(ConfigLogLevel level)
{
    switch (level) {
    case CONFIG_LOG_ERROR:
        return "<3>";
    case CONFIG_LOG_WARNING:
        return "<4>";
    case CONFIG_LOG_INFO:
        return "<6>";
    case CONFIG_LOG_DEBUG:
        return "<7>";
    }
    return "";
}

bool
log_open(ConfigLogLevel level, const char *path, GError **error)
{
    int descriptor;

    log_close();
    log_level = level;
    if (path == NULL)
        return true;
    descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    if (descriptor < 0) {
        int code = errno;

        g_set_error(error, G_IO_ERROR, (int)g_io_error_from_errno(code),
                    "cannot open log file %s: %s", path, g_strerror(code));
        return false;
    }
    log_descriptor = descriptor;
    log_path = g_strdup(path);
    return true;
}

void
log_close(void)
{
    if (log_descriptor != STDERR_FILENO)
        close(log_descriptor);
    log_descriptor = STDERR_FILENO;
    g_clear_pointer(&log_path, g_free);
    g_atomic_int_set(&log_losing, 0);
}

bool
log_enabled(ConfigLogLevel level)
{
    return level <= log_level;
}

/* Journald is told the level; a person at a terminal is spared it. */
static void
log_append_head(GString *line, ConfigLogLevel level, int descriptor)
{
    if (descriptor != STDERR_FILENO) {
        g_autoptr(GDateTime) now = g_date_time_new_now_utc();
        g_autofree char *text = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S.%fZ ");

        g_string_append(line, text);
    } else if (g_getenv("JOURNAL_STREAM") != NULL) {
        g_string_append(line, log_prefix(level));
    }
}

static void
log_escape_controls(GString *line, size_t from)
{
    for (size_t i = from; i < line->len; i++) {
        unsigned char byte = (unsigned char)line->str[i];
        char escape[5];

        if (byte >= 0x20 && byte != 0x7f)
            continue;
        g_snprintf(escape, sizeof escape, "\\x%02x", byte);
        g_string_erase(line, (gssize)i, 1);
        g_string_insert(line, (gssize)i, escape);
        i += 3;
    }
}

/* The file is full, or its disk gone: whoever reads standard error may help. */
static void
log_lost(int code)
{
    g_autoptr(GString) line = NULL;

    if (log_descriptor == STDERR_FILENO || !g_atomic_int_compare_and_exchange(&log_losing, 0, 1))
        return;
    line = g_string_sized_new(256);
    log_append_head(line, CONFIG_LOG_WARNING, STDERR_FILENO);
    g_string_append_printf(line, "event: log-not-written, file: %s, reason: %s\n", log_path,
                           g_strerror(code));
    if (write(STDERR_FILENO, line->str, line->len) < 0)
        return; /* Nowhere left to tell it. */
}

void
log_event(ConfigLogLevel level, const char *event, const char *format, ...)
{
    g_autoptr(GString) line = NULL;
    size_t head;
    ssize_t written;

    if (!log_enabled(level))
        return;
    line = g_string_sized_new(256);
    log_append_head(line, level, log_descriptor);
    head = line->len;
    g_string_append_printf(line, "event: %s", event);
    if (format != NULL) {
        va_list arguments;

        g_string_append(line, ", ");
        va_start(arguments, format);
        g_string_append_vprintf(line, format, arguments);
        va_end(arguments);
    }
    if (line->len > LOG_LINE_MAXIMUM)
        g_string_truncate(line, LOG_LINE_MAXIMUM);
    log_escape_controls(line, head);
    g_string_append_c(line, '\n');
    written = write(log_descriptor, line->str, line->len);
    if (written < 0 || (size_t)written != line->len)
        log_lost(written < 0 ? errno : ENOSPC);
    else
        g_atomic_int_set(&log_losing, 0);
}
