/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The thread that writes decisions down; see recorder.h. */
#include "daemon/recorder.h"

#include "common/log.h"
#include "daemon/history.h"

#include <string.h>

struct Recorder {
    char *directory;
    GThreadPool *pool; /* one thread; its data are lines */
    gint losing;       /* atomic: the last line was lost, and that was said */
};

static void
recorder_lost(Recorder *recorder, const char *reason)
{
    if (g_atomic_int_compare_and_exchange(&recorder->losing, 0, 1))
        log_event(CONFIG_LOG_WARNING, "decisions-not-recorded", "reason: %s", reason);
}

static void
line_write(gpointer data, gpointer user_data)
{
    g_autofree char *line = data;
    Recorder *recorder = user_data;
    g_autoptr(GError) error = NULL;

    if (history_append_line(recorder->directory, HISTORY_DECISIONS_FILE, line, &error))
        g_atomic_int_set(&recorder->losing, 0);
    else
        recorder_lost(recorder, error->message);
}

Recorder *
recorder_new(const char *directory)
{
    Recorder *recorder = g_new0(Recorder, 1);

    recorder->directory = g_strdup(directory);
    /* Not exclusive: that cannot fail, and the one thread ends when it is idle. */
    recorder->pool = g_thread_pool_new(line_write, recorder, 1, FALSE, NULL);
    return recorder;
}

void
recorder_free(Recorder *recorder)
{
    if (recorder == NULL)
        return;
    g_thread_pool_free(recorder->pool, FALSE, TRUE);
    g_free(recorder->directory);
    g_free(recorder);
}

void
recorder_add(Recorder *recorder, const Recording *recording)
{
    g_autofree char *line = NULL;

    if (recorder == NULL)
        return;
    if (g_thread_pool_unprocessed(recorder->pool) >= RECORDER_PENDING_MAX) {
        recorder_lost(recorder, "the disk is too slow");
        return;
    }
    line = recording_to_line(recording);
    if (strlen(line) > RECORDING_LINE_MAX)
        recorder_lost(recorder, "a decision is longer than a line may be");
    else if (g_thread_pool_push(recorder->pool, line, NULL))
        line = NULL; /* also when no thread could be started yet: it is queued */
}
