/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virt-convoy-hook: libvirt's qemu hook (/etc/libvirt/hooks/qemu.d/).
 *
 * libvirtd waits for this program, and a non-zero exit cancels a migration. It
 * tells the daemon what libvirt said and prints what the daemon answers; every
 * failure on our side means exit 0 with empty output. Only a migration that
 * the user aborted while it waited is refused. It never calls libvirt, which
 * would wait for this program in turn.
 */
#include <errno.h>
#include <gio/gio.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/config.h"
#include "common/ipc.h"

#define XML_MAXIMUM (4u * 1024u * 1024u) /* bytes read from standard input */
#define TIMEOUT_MINIMUM 10u              /* ms */
#define TIMEOUT_MAXIMUM 60000u
#define WAIT_TURN_ANSWER_TIME 1000u /* ms the daemon may take by contract */
#define WAIT_TURN_PACE 100000       /* microseconds between two, at least */

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

/* False: the migration was aborted while it waited. No answer means go on. */
static bool
wait_for_turn(GDBusConnection *connection, guint64 ticket, unsigned timeout)
{
    for (;;) {
        gint64 start = g_get_monotonic_time(), spent;
        g_autoptr(GVariant) reply =
            ipc_call(connection, "WaitTurn", g_variant_new("(t)", ticket), "(ss)",
                     ipc_deadline(timeout + WAIT_TURN_ANSWER_TIME), NULL);
        const char *state, *message;

        if (reply == NULL)
            return true;
        g_variant_get(reply, "(&s&s)", &state, &message);
        if (strcmp(state, "aborted") == 0) {
            fprintf(stderr, "virt-convoy: migration aborted: %.512s\n", message);
            return false;
        }
        if (strcmp(state, "waiting") != 0)
            return true;
        spent = g_get_monotonic_time() - start;
        if (spent < WAIT_TURN_PACE)
            g_usleep((gulong)(WAIT_TURN_PACE - spent));
    }
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

static int
notify_daemon(const char *domain, const char *operation, const char *sub_operation, const char *xml)
{
    unsigned timeout = call_timeout();
    gint64 deadline = ipc_deadline(timeout);
    g_autoptr(GDBusConnection) connection = ipc_connect(NULL, deadline, NULL);
    g_autoptr(GVariant) reply = NULL;
    guint64 ticket;
    gboolean wait;
    const char *xml_out;

    if (connection == NULL)
        return EXIT_SUCCESS;
    reply = ipc_call(connection, "NotifyHook",
                     g_variant_new("(ssss)", domain, operation, sub_operation, xml), "(tbs)",
                     deadline, NULL);
    if (reply == NULL)
        return EXIT_SUCCESS;
    g_variant_get(reply, "(tb&s)", &ticket, &wait, &xml_out);
    if (wait && ticket != 0 && !wait_for_turn(connection, ticket, timeout))
        return EXIT_FAILURE;
    print_domain_xml(xml_out);
    return EXIT_SUCCESS;
}

int
main(int argc, char **argv)
{
    g_autofree char *xml = NULL;

    if (argc < 4 || !operation_is_wanted(argv[2], argv[3]))
        return EXIT_SUCCESS;
    signal(SIGPIPE, SIG_IGN);
    if (!g_utf8_validate(argv[1], -1, NULL))
        return EXIT_SUCCESS;
    xml = read_domain_xml();
    if (xml == NULL)
        return EXIT_SUCCESS;
    return notify_daemon(argv[1], argv[2], argv[3], xml);
}
