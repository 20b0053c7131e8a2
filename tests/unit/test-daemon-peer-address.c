/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* URIs as libvirt writes them, and as nobody should. */
#include "daemon/peer-address.h"

#include <arpa/inet.h>
#include <string.h>

typedef struct {
    const char *uri;
    const char *host; /* NULL: none */
    unsigned port;    /* 0: none */
} Row;

static const Row rows[] = {
    { "tcp:host-b:49152", "host-b", 49152 },
    { "tcp://host-b:49153", "host-b", 49153 },
    { "tcp://[fd00::2]:49152", "fd00::2", 49152 },
    { "tcp:[fd00::2]:49152", "fd00::2", 49152 },
    { "tcp://10.0.0.2", "10.0.0.2", 0 },
    { "qemu+tcp://host-b/system", "host-b", 0 },
    { "qemu+ssh://root@host-b:2222/system", "host-b", 2222 },
    { "qemu:///system", NULL, 0 },
    { "tcp:host-b:0", "host-b", 0 },
    { "tcp:host-b:65536", NULL, 0 },
    { "tcp:host-b:-1", NULL, 0 },
    { "tcp:", NULL, 0 },
    { "", NULL, 0 },
    { "\"; rm -rf /", NULL, 0 },
    { "tcp://[fe80::1%25eth0.2]:49152", "fe80::1%eth0.2", 49152 },
    { "tcp:host_b.example-1.org:49152", "host_b.example-1.org", 49152 },
    { "tcp://h%2Fsystem%3Fno_verify%3D1:49152", NULL, 49152 },
    { "tcp://h%3Fcommand%3D%2Fbin%2Fx", NULL, 0 },
    { "tcp://root%40host-b", NULL, 0 },
    { "tcp://host-b%23", NULL, 0 },
    { "tcp://h%252Fsystem", NULL, 0 },
    { "tcp://host%20b", NULL, 0 },
    { "tcp://[fe80::1%25eth0%2Fsystem%3Fno_verify%3D1]", NULL, 0 },
    { "tcp://-oProxyCommand:1", NULL, 1 },
    { NULL, NULL, 0 },
};

static void
test_rows(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *host = peer_host_from_uri(rows[i].uri);
        unsigned first = 0;
        unsigned last = 0;

        g_test_message("row %zu: %s", i, rows[i].uri);
        g_assert_cmpstr(host, ==, rows[i].host);
        peer_port_from_uri(rows[i].uri, &first, &last);
        g_assert_cmpuint(first, ==, rows[i].port);
        g_assert_cmpuint(last, ==, rows[i].port);
    }
}

static void
test_too_long(void)
{
    g_autofree char *name = g_strnfill(5000, 'a');
    g_autofree char *uri = g_strconcat("tcp://", name, ":1", NULL);

    g_assert_null(peer_host_from_uri(uri));
}

static void
test_forms(void)
{
    static const struct {
        const char *form;
        const char *migrate_uri;
        const char *expected;
    } forms[] = {
        { "qemu://%s/system", "tcp:host-b:49152", "qemu://host-b/system" },
        { "qemu+tls://%s:16514/system", "tcp://[fd77::2]:49152",
          "qemu+tls://[fd77::2]:16514/system" },
        { "tcp://%s", "tcp://10.0.0.1:1", "tcp://10.0.0.1" },
        { "qemu:///system", NULL, "qemu:///system" },
        { "", "tcp:host-b:49152", NULL },
        { "qemu://%s/system", NULL, NULL },
        { "qemu://%s/system", "", NULL },
        { "qemu://%s/system", "unix:///run/socket", NULL },
        { "qemu+ssh://%s/system", "tcp://h%2Fsystem%3Fcommand%3D%2Fbin%2Fx%23:49152", NULL },
        { "%s%s%n", "tcp:host-b", "host-b%s%n" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(forms); i++) {
        g_autofree char *uri = peer_uri_from_form(forms[i].form, forms[i].migrate_uri);

        g_assert_cmpstr(uri, ==, forms[i].expected);
    }
}

typedef struct {
    GMainLoop *loop;
    guint count;
    bool failed;
    char *first;
} Resolved;

static void
on_resolved(GArray *addresses, const GError *error, gpointer data)
{
    Resolved *resolved = data;

    resolved->failed = error != NULL;
    resolved->count = addresses ? addresses->len : 0;
    if (resolved->count != 0)
        resolved->first = flow_address_to_text(&g_array_index(addresses, FlowAddress, 0));
    if (resolved->loop != NULL)
        g_main_loop_quit(resolved->loop);
}

static void
test_resolve_numeric(void)
{
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    Resolved resolved = { .loop = loop };

    /* The migration URI counts before the connection URI. */
    peer_address_resolve("tcp:10.1.2.3:49152", "qemu+tcp://10.9.9.9/system", on_resolved,
                         &resolved);
    g_main_loop_run(loop);
    g_assert_false(resolved.failed);
    g_assert_cmpuint(resolved.count, ==, 1);
    g_assert_cmpstr(resolved.first, ==, "10.1.2.3");
    g_free(resolved.first);
}

static void
test_resolve_nothing(void)
{
    Resolved resolved = { 0 };

    peer_address_resolve(NULL, "qemu:///system", on_resolved, &resolved);
    g_assert_true(resolved.failed);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/peer-address/rows", test_rows);
    g_test_add_func("/peer-address/forms", test_forms);
    g_test_add_func("/peer-address/too-long", test_too_long);
    g_test_add_func("/peer-address/resolve-numeric", test_resolve_numeric);
    g_test_add_func("/peer-address/resolve-nothing", test_resolve_nothing);
    return g_test_run();
}
