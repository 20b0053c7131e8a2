/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Running steps: tc and ip as bounded children that read their commands from
 * standard input. No shell, and no undo: the shaper looks at the kernel and
 * decides what is to be taken off.
 */
#include "shaping/tc.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct {
    GSubprocess *process;
    char output[512]; /* the first words of its standard error */
    gsize output_length;
    unsigned pending;
    bool timed_out;
} Run;

ShapingStep *
shaping_step_new(ShapingTool tool, ShapingLeaves leaves, const char *device, const char *line)
{
    ShapingStep *step = g_new0(ShapingStep, 1);

    step->tool = tool;
    step->leaves = leaves;
    g_strlcpy(step->device, device, sizeof step->device);
    step->arguments = g_strsplit(line, " ", -1);
    return step;
}

void
shaping_step_free(ShapingStep *step)
{
    if (step == NULL)
        return;
    g_strfreev(step->arguments);
    g_strfreev(step->undo);
    g_free(step);
}

static const char *
tool_name(ShapingTool tool)
{
    return tool == SHAPING_TOOL_TC ? "tc" : "ip";
}

char *
shaping_step_to_string(const ShapingStep *step)
{
    g_autofree char *line = g_strjoinv(" ", step->arguments);

    return g_strconcat(tool_name(step->tool), " ", line, NULL);
}

/*
 * A daemon's PATH need not have sbin. The variables are for tests; they name
 * a program, never a command line.
 */
static char *
tool_find(ShapingTool tool)
{
    static const char *const directories[] = { "/usr/sbin", "/sbin", "/usr/bin", "/bin" };
    const char *path = g_getenv(tool == SHAPING_TOOL_TC ? "VIRT_CONVOY_TC" : "VIRT_CONVOY_IP");

    if (path != NULL && *path != '\0')
        return g_strdup(path);
    for (gsize i = 0; i < G_N_ELEMENTS(directories); i++) {
        g_autofree char *candidate = g_build_filename(directories[i], tool_name(tool), NULL);

        if (g_file_test(candidate, G_FILE_TEST_IS_EXECUTABLE))
            return g_steal_pointer(&candidate);
    }
    return g_find_program_in_path(tool_name(tool));
}

/* A file rather than a pipe: a batch longer than a pipe would need a writer. */
static int
batch_file_make(const char *text, gsize length)
{
    int fd = memfd_create("virt-convoy-batch", MFD_CLOEXEC);

    if (fd < 0)
        return -1;
    while (length > 0) {
        ssize_t written = write(fd, text, length);

        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            close(fd);
            return -1;
        }
        text += written;
        length -= (gsize)written;
    }
    if (lseek(fd, 0, SEEK_SET) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static gboolean
run_timed_out(gpointer data)
{
    Run *run = data;

    run->timed_out = true;
    g_subprocess_force_exit(run->process);
    return G_SOURCE_REMOVE;
}

static void
run_exited(GObject *object, GAsyncResult *result, gpointer data)
{
    Run *run = data;

    g_subprocess_wait_finish(G_SUBPROCESS(object), result, NULL);
    run->pending--;
}

static void
run_output_read(GObject *object, GAsyncResult *result, gpointer data)
{
    Run *run = data;

    g_input_stream_read_all_finish(G_INPUT_STREAM(object), result, &run->output_length, NULL);
    run->pending--;
}

/* Exits of the child are waited for in a context of its own, so that any
 * thread may call and no other source runs meanwhile. */
static void
run_wait(Run *run)
{
    g_autoptr(GMainContext) context = g_main_context_new();
    g_autoptr(GSource) timeout = g_timeout_source_new(SHAPING_STEP_TIMEOUT_MS);
    g_autoptr(GCancellable) cancellable = g_cancellable_new();

    g_main_context_push_thread_default(context);
    g_source_set_callback(timeout, run_timed_out, run, NULL);
    g_source_attach(timeout, context);
    run->pending = 2;
    g_subprocess_wait_async(run->process, NULL, run_exited, run);
    g_input_stream_read_all_async(g_subprocess_get_stderr_pipe(run->process), run->output,
                                  sizeof run->output - 1, G_PRIORITY_DEFAULT, cancellable,
                                  run_output_read, run);
    while (run->pending > 0) {
        g_main_context_iteration(context, TRUE);
        /* A killed child may have left the pipe to a child of its own. */
        if (run->timed_out)
            g_cancellable_cancel(cancellable);
    }
    g_source_destroy(timeout);
    g_main_context_pop_thread_default(context);
}

/* "Command failed -:3" says which line; without it the first is blamed. */
static guint
run_failed_line(const Run *run, guint count)
{
    static const char words[] = "Command failed -:";
    const char *mark = strstr(run->output, words);
    guint64 line = mark == NULL ? 1 : g_ascii_strtoull(mark + strlen(words), NULL, 10);

    return (guint)CLAMP(line, 1, count) - 1;
}

static void
run_report(Run *run, ShapingTool tool, const char *program, GPtrArray *steps, guint first,
           guint count, GError **error)
{
    guint failed = first + run_failed_line(run, count);
    g_autofree char *step = shaping_step_to_string(g_ptr_array_index(steps, failed));
    g_autofree char *output = NULL;

    if (run->timed_out) {
        g_set_error(error, SHAPING_ERROR, SHAPING_ERROR_TIMEOUT,
                    "%s did not end within %d ms; the batch began with \"%s\"", program,
                    SHAPING_STEP_TIMEOUT_MS, step);
        return;
    }
    g_strdelimit(run->output, "\r\n\t", ' ');
    output = g_utf8_make_valid(g_strstrip(run->output), -1);
    g_set_error(error, SHAPING_ERROR, SHAPING_ERROR_FAILED, "\"%s\" failed: %s", step,
                *output != '\0' ? output : tool_name(tool));
}

static gboolean
batch_run(ShapingTool tool, GPtrArray *steps, guint first, guint count, GError **error)
{
    g_autofree char *program = tool_find(tool);
    g_autoptr(GString) batch = g_string_new(NULL);
    g_autoptr(GSubprocessLauncher) launcher = NULL;
    g_autoptr(GError) local = NULL;
    Run run = { 0 };
    gboolean success;
    int fd;

    if (program == NULL) {
        g_set_error(error, SHAPING_ERROR, SHAPING_ERROR_UNSUPPORTED,
                    "the program %s (package iproute2) is not installed", tool_name(tool));
        return FALSE;
    }
    for (guint i = 0; i < count; i++) {
        const ShapingStep *step = g_ptr_array_index(steps, first + i);
        g_autofree char *line = g_strjoinv(" ", step->arguments);

        g_string_append_printf(batch, "%s\n", line);
    }
    fd = batch_file_make(batch->str, batch->len);
    if (fd < 0) {
        g_set_error(error, SHAPING_ERROR, SHAPING_ERROR_FAILED,
                    "cannot hold %" G_GSIZE_FORMAT " bytes of commands for %s: %s", batch->len,
                    program, g_strerror(errno));
        return FALSE;
    }
    launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_SILENCE |
                                         G_SUBPROCESS_FLAGS_STDERR_PIPE);
    g_subprocess_launcher_take_stdin_fd(launcher, fd);
    g_subprocess_launcher_setenv(launcher, "LC_ALL", "C", TRUE);
    run.process = g_subprocess_launcher_spawn(launcher, &local, program, "-batch", "-", NULL);
    if (run.process == NULL) {
        g_set_error(error, SHAPING_ERROR, SHAPING_ERROR_FAILED, "cannot run %s: %s", program,
                    local->message);
        return FALSE;
    }
    run_wait(&run);
    success = !run.timed_out && g_subprocess_get_successful(run.process);
    if (!success)
        run_report(&run, tool, program, steps, first, count, error);
    g_object_unref(run.process);
    return success;
}

gboolean
shaping_run(GPtrArray *steps, GError **error)
{
    guint first = 0;

    while (first < steps->len) {
        const ShapingStep *step = g_ptr_array_index(steps, first);
        guint count = 1;

        while (first + count < steps->len &&
               ((ShapingStep *)g_ptr_array_index(steps, first + count))->tool == step->tool)
            count++;
        if (!batch_run(step->tool, steps, first, count, error))
            return FALSE;
        first += count;
    }
    return TRUE;
}
