/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One line per event for the programs: "event: name, key: value, ...".
 *
 * Only programs log; libraries return errors. The level is set once at the
 * start. A line cannot be forged: control characters in values are escaped.
 * Safe from any thread. To standard error (journald adds the time and reads the
 * <N> prefix of sd-daemon) or to a file, which gets the time in front.
 */
#pragma once

#include <gio/gio.h>

#include "common/config.h"

/*
 * path NULL: standard error; else appended to, mode 0640. False with an error
 * when the file cannot be opened; standard error is then still used. A file that
 * takes no lines any more is named on standard error, once.
 */
bool log_open(ConfigLogLevel level, const char *path, GError **error);
void log_close(void);

/* True when a line of this level would be written: skip costly work. */
bool log_enabled(ConfigLogLevel level);

/*
 * log_event(CONFIG_LOG_INFO, "migration-started", "domain: %s, rate: %s", ...).
 * format NULL: the event alone.
 */
void log_event(ConfigLogLevel level, const char *event, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
