/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virt-convoyd: parses, checks the environment, runs, puts everything back. */
#include "common/ipc.h"
#include "common/log.h"
#include "common/version.h"
#include "daemon/manager.h"
#include "daemon/server.h"

#include <glib-unix.h>
#include <libvirt-glib/libvirt-glib.h>
#include <libvirt/virterror.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    char *config;
    char *socket;
    char *state_directory;
    char *log_file;
    gboolean version;
} Options;

static gboolean
stop(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_CONTINUE;
}

/* libvirt prints errors to standard error by itself: they are reported where they matter. */
static void
libvirt_error_silent(void *data G_GNUC_UNUSED, virErrorPtr error G_GNUC_UNUSED)
{
}

/* The default would end the daemon with its shaping left behind. */
static gboolean
reload_refused(gpointer data G_GNUC_UNUSED)
{
    log_event(CONFIG_LOG_WARNING, "not-reloaded", "signal: SIGHUP, instead: restart virt-convoyd");
    return G_SOURCE_CONTINUE;
}

static bool
options_parse(Options *options, int *argc, char ***argv, GError **error)
{
    const GOptionEntry entries[] = {
        { "config", 'c', 0, G_OPTION_ARG_FILENAME, &options->config, "Configuration file", "FILE" },
        { "socket", 's', 0, G_OPTION_ARG_FILENAME, &options->socket,
          "Socket to answer on (" IPC_SOCKET_DEFAULT ")", "PATH" },
        { "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &options->state_directory,
          "Where the journal is (" IPC_STATE_DIRECTORY_DEFAULT ")", "DIR" },
        { "log-file", 'l', 0, G_OPTION_ARG_FILENAME, &options->log_file,
          "Log to a file instead of standard error", "FILE" },
        { "version", 'V', 0, G_OPTION_ARG_NONE, &options->version, "Print the version", NULL },
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- traffic-aware live migration");

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, error))
        return false;
    if (*argc > 1) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "unexpected argument '%s'",
                    (*argv)[1]);
        return false;
    }
    return true;
}

static int
run(const Options *options)
{
    const char *directory =
        options->state_directory ? options->state_directory : IPC_STATE_DIRECTORY_DEFAULT;
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(Config) config = config_load(options->config, warnings);
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    g_autoptr(GError) error = NULL;
    g_autoptr(Manager) manager = NULL;
    g_autoptr(Server) server = NULL;

    /* A log is worth less than the daemon: a full or read-only disk must not keep it from work. */
    if (!log_open(config->log_level, options->log_file, &error))
        log_event(CONFIG_LOG_WARNING, "log-not-opened", "reason: %s, instead: standard error",
                  error->message);
    g_clear_error(&error);
    for (guint i = 0; i < warnings->len; i++)
        log_event(CONFIG_LOG_WARNING, "configuration-bad", "problem: %s, used: the default",
                  (const char *)g_ptr_array_index(warnings, i));
    if (g_mkdir_with_parents(directory, 0755) < 0) {
        g_printerr("virt-convoyd: cannot make %s: %s\n", directory, g_strerror(errno));
        return EXIT_FAILURE;
    }
    /* A log that is closed at the other end must not end the daemon. */
    signal(SIGPIPE, SIG_IGN);
    g_unix_signal_add(SIGHUP, reload_refused, NULL);
    virSetErrorFunc(NULL, libvirt_error_silent);
    gvir_event_register();
    manager = manager_new(config, directory, &error);
    if (manager != NULL)
        server = server_new(manager, options->socket, &error);
    if (server == NULL) {
        g_printerr("virt-convoyd: %s\n", error->message);
        return EXIT_FAILURE;
    }
    g_unix_signal_add(SIGTERM, stop, loop);
    g_unix_signal_add(SIGINT, stop, loop);
    log_event(CONFIG_LOG_INFO, "ready", "version: %s, socket: %s", CONVOY_VERSION,
              options->socket ? options->socket : ipc_socket_path());
    g_main_loop_run(loop);
    log_event(CONFIG_LOG_INFO, "stopping", NULL);
    /* Calls end first, then shaping comes off; the order of autoptr is the reverse. */
    g_clear_pointer(&server, server_free);
    g_clear_pointer(&manager, manager_free);
    log_close();
    if (hypervisor_threads_left())
        _exit(EXIT_SUCCESS);
    return EXIT_SUCCESS;
}

int
main(int argc, char **argv)
{
    Options options = { 0 };
    g_autoptr(GError) error = NULL;
    int status;

    if (argc == 4 && strcmp(argv[1], WORKERS_CHILD_OPTION) == 0)
        return workers_child_main(argv[2], argv[3]);
    if (!options_parse(&options, &argc, &argv, &error)) {
        g_printerr("virt-convoyd: %s; see virt-convoyd --help\n", error->message);
        return 2;
    }
    if (options.version) {
        g_print("virt-convoyd %s\n", CONVOY_VERSION);
        return EXIT_SUCCESS;
    }
    if (geteuid() != 0) {
        g_printerr("virt-convoyd: needs CAP_NET_ADMIN: start it as root or by its unit\n");
        return EXIT_FAILURE;
    }
    status = run(&options);
    g_free(options.config);
    g_free(options.socket);
    g_free(options.state_directory);
    g_free(options.log_file);
    return status;
}
