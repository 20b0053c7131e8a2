/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The thread that writes decisions and the history down; see recorder.h. */
#include "daemon/recorder.h"

#include "common/log.h"
#include "daemon/history.h"

#include <string.h>

struct Recorder {
    char *directory;
    GThreadPool *pool; /* one thread; its data are Lines */
    gint losing;       /* atomic: the last line was lost, and that was said */
};

typedef struct {
    const char *file; /* static */
    char *text;
} Line;

static void
line_free(Line *line)
{
    g_free(line->text);
    g_free(line);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Line, line_free)

static void
recorder_lost(Recorder *recorder, const char *reason)
{
    if (g_atomic_int_compare_and_exchange(&recorder->losing, 0, 1))
        log_event(CONFIG_LOG_WARNING, "not-recorded", "reason: %s", reason);
}

static void
line_write(gpointer data, gpointer user_data)
{
    g_autoptr(Line) line = data;
    Recorder *recorder = user_data;
    g_autoptr(GError) error = NULL;

    if (history_append(recorder->directory, line->file, line->text, &error))
        g_atomic_int_set(&recorder->losing, 0);
    else
        recorder_lost(recorder, error->message);
}

Recorder *
recorder_new(const char *directory)
{
    Recorder *recorder;

    if (directory[0] == '\0')
        return NULL;
    recorder = g_new0(Recorder, 1);
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

/* Takes text over. */
static void
recorder_push(Recorder *recorder, const char *file, char *text, size_t maximum)
{
    g_autoptr(Line) line = g_new0(Line, 1);

    line->file = file;
    line->text = text;
    if (strlen(text) > maximum)
        recorder_lost(recorder, "a record is longer than a line may be");
    else /* queued whatever it returns: false means that no thread could be started for it yet */
        g_thread_pool_push(recorder->pool, g_steal_pointer(&line), NULL);
}

static bool
recorder_takes(Recorder *recorder, guint pending_maximum)
{
    if (recorder == NULL)
        return false;
    if (g_thread_pool_unprocessed(recorder->pool) < pending_maximum)
        return true;
    recorder_lost(recorder, "the disk is too slow");
    return false;
}

void
recorder_add(Recorder *recorder, const Recording *recording)
{
    if (recorder_takes(recorder, RECORDER_PENDING_MAX))
        recorder_push(recorder, HISTORY_DECISIONS_FILE, recording_to_line(recording),
                      RECORDING_LINE_MAX);
}

void
recorder_add_history(Recorder *recorder, char *record)
{
    if (recorder_takes(recorder, RECORDER_HISTORY_PENDING_MAX))
        recorder_push(recorder, HISTORY_FILE, record, HISTORY_LINE_MAX);
    else
        g_free(record);
}
