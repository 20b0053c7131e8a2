/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One call of virt-convoyd over its socket, by whoever runs this.
 *
 *   peer-call SOCKET METHOD ARGUMENTS
 *
 * ARGUMENTS is a tuple in GVariant's notation. Prints the answer, or the error on
 * standard error with exit status 1.
 */
#include <gio/gio.h>
#include <stdlib.h>

int
main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDBusConnection) connection = NULL;
    g_autoptr(GVariant) arguments = NULL, answer = NULL;
    g_autofree char *address = NULL, *text = NULL;

    if (argc != 4) {
        g_printerr("usage: peer-call SOCKET METHOD ARGUMENTS\n");
        return 2;
    }
    address = g_strdup_printf("unix:path=%s", argv[1]);
    arguments = g_variant_parse(NULL, argv[3], NULL, NULL, &error);
    if (arguments != NULL)
        connection = g_dbus_connection_new_for_address_sync(
            address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL, NULL, &error);
    if (connection != NULL)
        answer = g_dbus_connection_call_sync(connection, NULL, "/org/virtconvoy/Daemon",
                                             "org.virtconvoy.Daemon1", argv[2], arguments, NULL,
                                             G_DBUS_CALL_FLAGS_NONE, 5000, NULL, &error);
    if (answer == NULL) {
        g_printerr("%s\n", error->message);
        return EXIT_FAILURE;
    }
    text = g_variant_print(answer, TRUE);
    g_print("%s\n", text);
    return EXIT_SUCCESS;
}
