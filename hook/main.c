/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virt-convoy-hook: libvirt's qemu hook (/etc/libvirt/hooks/qemu.d/).
 *
 * libvirtd waits for this program, and a non-zero exit cancels a migration. It
 * tells the daemon what libvirt said and prints what the daemon answers; every
 * failure on our side means exit 0 with empty output. Only a migration that
 * the user aborted while it waited is refused. It never calls libvirt, which
 * would wait for this program in turn.
 *
 * It speaks D-Bus with libdbus, not with GDBus: libvirt starts this program anew
 * for each operation, and libdbus is there in half of GDBus's time and without
 * threads. (sd-bus is quicker still, but sends its whole authentication at once,
 * which GDBus servers before GLib 2.76 may drop.)
 *
 * An interval timer bounds every exchange with the daemon, whatever libdbus is
 * doing: when it fires, the process ends with success and has printed nothing.
 * Where the plugin has asked the daemon already, nothing is asked here.
 */
#include <dbus/dbus.h>
#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/config.h"
#include "common/ipc_claim.h"
#include "common/ipc_socket.h"

#define XML_MAXIMUM (4u * 1024u * 1024u) /* bytes read from standard input */
#define TIMEOUT_MINIMUM 10u              /* ms */
#define TIMEOUT_MAXIMUM 60000u
#define RELEASE_TIMEOUT 300u       /* ms; nobody needs the answer */
#define WAIT_TURN_ANSWER_TIME 1000 /* ms the daemon may take by contract */
#define WAIT_TURN_PACE 100         /* ms between two, at least */

/* The daemon has use for these only; all others end before anything is done. */
static bool
operation_is_wanted(const char *operation, const char *sub_operation)
{
    if (strcmp(operation, "migrate") == 0)
        return strcmp(sub_operation, "begin") == 0;
    /* "release" follows every "stopped". */
    return strcmp(operation, "release") == 0;
}

/* All of standard input; NULL when it is too long, unreadable or not UTF-8. */
static char *
read_domain_xml(void)
{
    GString *text = g_string_sized_new(16384);
    char buffer[16384];
    ssize_t got;

    do {
        got = read(STDIN_FILENO, buffer, sizeof(buffer));
        if (got > 0)
            g_string_append_len(text, buffer, got);
    } while ((got > 0 && text->len <= XML_MAXIMUM) || (got < 0 && errno == EINTR));
    return g_string_free(text, got != 0 || text->len > XML_MAXIMUM ||
                                   !g_utf8_validate_len(text->str, text->len, NULL));
}

static void
deadline_passed(int number)
{
    (void)number;
    _exit(EXIT_SUCCESS);
}

/* Ends the process timeout milliseconds from now; 0 calls it off. */
static void
deadline_set(unsigned timeout)
{
    const struct itimerval value = {
        .it_value = { .tv_sec = timeout / 1000, .tv_usec = timeout % 1000 * 1000 },
    };
    sigset_t set;

    signal(SIGALRM, deadline_passed);
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    setitimer(ITIMER_REAL, &value, NULL);
}

static unsigned
call_timeout(void)
{
    const char *text = g_getenv("VIRT_CONVOY_TIMEOUT_MS");
    g_autoptr(Config) config = NULL;
    guint64 number;

    if (text != NULL &&
        g_ascii_string_to_unsigned(text, 10, TIMEOUT_MINIMUM, TIMEOUT_MAXIMUM, &number, NULL))
        return (unsigned)number;
    config = config_load(NULL, NULL);
    return CLAMP(config->call_timeout, TIMEOUT_MINIMUM, TIMEOUT_MAXIMUM);
}

static void
connection_close(DBusConnection *connection)
{
    dbus_connection_close(connection);
    dbus_connection_unref(connection);
}

/* NULL: no daemon that may be trusted. */
static DBusConnection *
connection_open(const char *path)
{
    DBusConnection *connection;
    char *escaped, *address;
    int descriptor;

    if (ipc_socket_check(path) < 0)
        return NULL;
    escaped = dbus_address_escape_value(path);
    if (escaped == NULL)
        return NULL;
    address = g_strconcat("unix:path=", escaped, NULL);
    connection = dbus_connection_open_private(address, NULL);
    g_free(address);
    dbus_free(escaped);
    if (connection == NULL)
        return NULL;
    /* The file may have been exchanged since: ask who really listens. */
    if (!dbus_connection_get_socket(connection, &descriptor) || !ipc_listener_trusted(descriptor)) {
        connection_close(connection);
        return NULL;
    }
    return connection;
}

/* Takes call. NULL: an error, or an answer of another type. */
static DBusMessage *
connection_call(DBusConnection *connection, DBusMessage *call, const char *reply_type)
{
    DBusMessage *reply =
        dbus_connection_send_with_reply_and_block(connection, call, DBUS_TIMEOUT_INFINITE, NULL);

    dbus_message_unref(call);
    if (reply != NULL && !dbus_message_has_signature(reply, reply_type)) {
        dbus_message_unref(reply);
        return NULL;
    }
    return reply;
}

static DBusMessage *
method_call_new(const char *method)
{
    return dbus_message_new_method_call(NULL, IPC_OBJECT_PATH, IPC_INTERFACE, method);
}

static gint64
milliseconds_since(gint64 start)
{
    return (g_get_monotonic_time() - start) / 1000;
}

/*
 * False: the migration was aborted while it waited. No answer means go on. left: ms of the
 * timeout; the daemon has those, or the contract's when they are more.
 */
static bool
wait_for_turn(DBusConnection *connection, dbus_uint64_t ticket, gint64 left)
{
    bool waiting = true, aborted = false;

    while (waiting) {
        const gint64 start = g_get_monotonic_time();
        DBusMessage *call = method_call_new("WaitTurn"), *reply;
        const char *state, *message;
        gint64 spent;

        if (call == NULL)
            return true;
        if (!dbus_message_append_args(call, DBUS_TYPE_UINT64, &ticket, DBUS_TYPE_INVALID)) {
            dbus_message_unref(call);
            return true;
        }
        deadline_set((unsigned)MAX(left, WAIT_TURN_ANSWER_TIME));
        reply = connection_call(connection, call, "ss");
        deadline_set(0);
        if (reply == NULL)
            return true;
        if (!dbus_message_get_args(reply, NULL, DBUS_TYPE_STRING, &state, DBUS_TYPE_STRING,
                                   &message, DBUS_TYPE_INVALID))
            state = "";
        waiting = strcmp(state, "waiting") == 0;
        aborted = strcmp(state, "aborted") == 0;
        if (aborted)
            fprintf(stderr, "virt-convoy: migration aborted: %.512s\n", message);
        dbus_message_unref(reply);
        spent = milliseconds_since(start);
        left -= MAX(spent - WAIT_TURN_ANSWER_TIME, 0);
        if (waiting && spent < WAIT_TURN_PACE)
            g_usleep((gulong)(WAIT_TURN_PACE - spent) * 1000);
    }
    return !aborted;
}

/* libvirt takes what is printed for the whole XML: all of it or nothing. */
static void
print_domain_xml(const char *xml)
{
    size_t length = strlen(xml);

    if (length == 0 || length > XML_MAXIMUM)
        return;
    if (fwrite(xml, 1, length, stdout) == length)
        fflush(stdout);
}

/* The answer to NotifyHook; NULL when there is none. */
static DBusMessage *
notify_hook(DBusConnection *connection, const char *domain, const char *operation,
            const char *sub_operation, const char *xml)
{
    DBusMessage *call = method_call_new("NotifyHook");

    if (call == NULL)
        return NULL;
    if (!dbus_message_append_args(call, DBUS_TYPE_STRING, &domain, DBUS_TYPE_STRING, &operation,
                                  DBUS_TYPE_STRING, &sub_operation, DBUS_TYPE_STRING, &xml,
                                  DBUS_TYPE_INVALID)) {
        dbus_message_unref(call);
        return NULL;
    }
    return connection_call(connection, call, "tbs");
}

static int
notify_daemon(const char *domain, const char *operation, const char *sub_operation, const char *xml)
{
    const gint64 start = g_get_monotonic_time();
    unsigned timeout = call_timeout();
    /* A daemon that hangs has cost this migration its timeout already. */
    unsigned limit = strcmp(operation, "release") == 0 ? MIN(timeout, RELEASE_TIMEOUT) : timeout;
    int status = EXIT_SUCCESS;
    DBusConnection *connection;
    DBusMessage *reply = NULL;
    dbus_uint64_t ticket;
    dbus_bool_t wait;
    const char *xml_out;

    deadline_set(limit);
    connection = connection_open(ipc_socket_path());
    if (connection != NULL)
        reply = notify_hook(connection, domain, operation, sub_operation, xml);
    deadline_set(0);
    if (reply != NULL &&
        dbus_message_get_args(reply, NULL, DBUS_TYPE_UINT64, &ticket, DBUS_TYPE_BOOLEAN, &wait,
                              DBUS_TYPE_STRING, &xml_out, DBUS_TYPE_INVALID)) {
        if (wait && ticket != 0 &&
            !wait_for_turn(connection, ticket, timeout - milliseconds_since(start)))
            status = EXIT_FAILURE;
        else
            print_domain_xml(xml_out);
    }
    if (reply != NULL)
        dbus_message_unref(reply);
    if (connection != NULL)
        connection_close(connection);
    return status;
}

int
main(int argc, char **argv)
{
    g_autofree char *xml = NULL;

    if (argc < 4 || !operation_is_wanted(argv[2], argv[3]) || ipc_claim_stands(argv[2], argv[1]))
        return EXIT_SUCCESS;
    signal(SIGPIPE, SIG_IGN);
    /* libdbus takes no other text. */
    if (!g_utf8_validate(argv[1], -1, NULL) || !g_utf8_validate(argv[3], -1, NULL))
        return EXIT_SUCCESS;
    xml = read_domain_xml();
    if (xml == NULL)
        return EXIT_SUCCESS;
    return notify_daemon(argv[1], argv[2], argv[3], xml);
}
