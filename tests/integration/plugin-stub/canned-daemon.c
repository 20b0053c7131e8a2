/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A daemon that decides nothing: it gives the answers named on its command
 * line, good and bad ones, and prints what it was told.
 *
 *   canned-daemon SOCKET MODE LOG
 *
 * plain         follows, adds nothing
 * post-copy     adds VIR_MIGRATE_POSTCOPY, a bandwidth, reports and an offer;
 *               also takes flags away and adds others, which must not count
 * parallel      adds VIR_MIGRATE_PARALLEL with 4 connections
 * garbage       wrong types, broken XML, impossible numbers
 * hung          never answers
 * late          answers after 1.5 s
 * wait          wait, two times "waiting", then go
 * hold          the source waits until AbortWaiting or ReleaseWaiting
 * refuse        wait, then aborted
 * refuse-perform  as post-copy, but Perform waits and is aborted
 * dies          as hold, but exits at the first WaitTurn
 * hung-turn     as hold, but never answers WaitTurn
 * begin-only    as parallel, exits after the first LeaveCall of "prepare"
 */
#include <glib-unix.h>
#include <libvirt/libvirt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/ipc.h"
#include "daemon-interface.h"

#define PEER "<convoy:peer xmlns:convoy=\"urn:virt-convoy:peer:1\" version=\"1\"/>"
#define OFFER "<metadata><convoy:offer xmlns:convoy=\"urn:virt-convoy:offer:1\"/></metadata>"

typedef struct {
    GDBusMethodInvocation *invocation;
    ConvoyDaemon1 *daemon;
    GVariant *answer;
} Late;

static const char *mode;
static GMainLoop *loop;
static GHashTable *turns;    /* ticket -> times asked */
static GHashTable *uuids;    /* ticket -> UUID */
static GHashTable *aborted;  /* UUIDs */
static GHashTable *released; /* UUIDs */
static guint64 last_ticket;

static bool
mode_is(const char *name)
{
    return strcmp(mode, name) == 0;
}

static gboolean
answer_late(gpointer data)
{
    Late *late = data;

    convoy_daemon1_complete_enter_call(late->daemon, late->invocation, late->answer);
    g_free(late);
    return G_SOURCE_REMOVE;
}

static void
add(GVariantBuilder *builder, const char *key, GVariant *value)
{
    g_variant_builder_add(builder, "{sv}", key, value);
}

static void
add_extended_xml(GVariantBuilder *builder, GVariant *call)
{
    const char *xml, *end;
    g_autofree char *extended = NULL;

    if (!g_variant_lookup(call, "domain-xml", "&s", &xml))
        return;
    end = g_strrstr(xml, "</domain>");
    /* libvirt allows one <metadata>: extend it when it is there. */
    if (end == NULL || strstr(xml, "<metadata") != NULL)
        return;
    extended = g_strdup_printf("%.*s" OFFER "%s", (int)(end - xml), xml, end);
    add(builder, "domain-xml", g_variant_new_string(extended));
}

static void
add_good_answer(GVariantBuilder *builder, const char *entry, GVariant *call)
{
    GVariantBuilder parameters;
    guint64 flags = 0;

    g_variant_lookup(call, "flags", "t", &flags);
    g_variant_builder_init(&parameters, G_VARIANT_TYPE_VARDICT);
    if (mode_is("post-copy") || mode_is("refuse-perform")) {
        if ((flags & VIR_MIGRATE_LIVE) && !(flags & VIR_MIGRATE_TUNNELLED))
            flags |= VIR_MIGRATE_POSTCOPY;
        if (strcmp(entry, "perform") == 0) {
            add(&parameters, "bandwidth", g_variant_new_uint64(30));
            add(&parameters, "bandwidth.postcopy", g_variant_new_uint64(40));
        }
        flags &= ~(guint64)VIR_MIGRATE_AUTO_CONVERGE;
        flags |= VIR_MIGRATE_UNSAFE;
        add(&parameters, "compression", g_variant_new_string("mt"));
    }
    if (mode_is("parallel") || mode_is("begin-only")) {
        flags |= VIR_MIGRATE_PARALLEL;
        add(&parameters, "parallel.connections", g_variant_new_int32(4));
    }
    add(builder, "flags", g_variant_new_uint64(flags));
    add(builder, "parameters", g_variant_builder_end(&parameters));
    add(builder, "cookie-element", g_variant_new_string(PEER));
    if (g_str_has_prefix(entry, "prepare"))
        add_extended_xml(builder, call);
}

static void
add_garbage(GVariantBuilder *builder)
{
    static const char *const elements[] = {
        "<convoy:peer xmlns:convoy=\"urn:virt-convoy:peer:1\">",
        "</qemu-migration>",
        "<a/><b/>",
        "<other/>",
        "",
        "text",
        "<p xmlns=\"urn:virt-convoy:peer:1\" a=\"1\" a=\"2\"/>",
    };

    add(builder, "flags", g_variant_new_string("all of them"));
    add(builder, "parameters", g_variant_new_uint64(G_MAXUINT64));
    add(builder, "wait", g_variant_new_string("yes"));
    add(builder, "cookie-element",
        g_variant_new_string(elements[last_ticket % G_N_ELEMENTS(elements)]));
    add(builder, "domain-xml", g_variant_new_string("<domain>other</domain>"));
    add(builder, "unheard-of", g_variant_new_int32(-1));
}

static gboolean
on_enter_call(ConvoyDaemon1 *daemon, GDBusMethodInvocation *invocation, const char *entry,
              GVariant *call, gpointer data)
{
    GVariantBuilder builder;
    GVariant *answer;
    guint64 flags = 0;
    const char *name = "", *uuid = "";

    (void)data;
    g_variant_lookup(call, "flags", "t", &flags);
    g_variant_lookup(call, "name", "&s", &name);
    printf("enter %s name=%s flags=%#" G_GINT64_MODIFIER "x\n", entry, name, flags);
    if (mode_is("hung"))
        return TRUE;
    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    add(&builder, "ticket", g_variant_new_uint64(++last_ticket));
    g_variant_lookup(call, "uuid", "&s", &uuid);
    g_hash_table_insert(uuids, GSIZE_TO_POINTER((gsize)last_ticket), g_strdup(uuid));
    if (mode_is("garbage"))
        add_garbage(&builder);
    else
        add_good_answer(&builder, entry, call);
    if (mode_is("wait") || mode_is("hold") || mode_is("dies") || mode_is("hung-turn") ||
        (mode_is("refuse-perform") && strcmp(entry, "perform") == 0))
        add(&builder, "wait", g_variant_new_boolean(TRUE));
    answer = g_variant_builder_end(&builder);
    if (mode_is("late")) {
        Late *late = g_new0(Late, 1);

        *late = (Late){ invocation, daemon, g_variant_ref_sink(answer) };
        g_timeout_add(1500, answer_late, late);
        return TRUE;
    }
    convoy_daemon1_complete_enter_call(daemon, invocation, answer);
    return TRUE;
}

static const char *
state_of_held(const char *uuid)
{
    if (uuid == NULL || uuid[0] == '\0' || g_hash_table_contains(released, uuid))
        return "go";
    return g_hash_table_contains(aborted, uuid) ? "aborted" : "waiting";
}

static gboolean
on_wait_turn(ConvoyDaemon1 *daemon, GDBusMethodInvocation *invocation, guint64 ticket,
             gpointer data)
{
    gpointer key = GSIZE_TO_POINTER((gsize)ticket);
    guint asked = GPOINTER_TO_UINT(g_hash_table_lookup(turns, key));
    const char *state = asked < 2 ? "waiting" : "go";

    (void)data;
    if (mode_is("dies"))
        exit(0);
    if (mode_is("hung-turn"))
        return TRUE;
    g_hash_table_insert(turns, key, GUINT_TO_POINTER(asked + 1));
    if (mode_is("hold"))
        state = state_of_held(g_hash_table_lookup(uuids, key));
    if (g_str_has_prefix(mode, "refuse"))
        state = "aborted";
    if (mode_is("garbage"))
        state = "perhaps";
    convoy_daemon1_complete_wait_turn(daemon, invocation, state, "");
    return TRUE;
}

static gboolean
on_leave_call(ConvoyDaemon1 *daemon, GDBusMethodInvocation *invocation, const char *entry,
              guint64 ticket, GVariant *result, gpointer data)
{
    g_autofree char *text = g_variant_print(result, FALSE);

    (void)data;
    printf("leave %s ticket=%" G_GUINT64_FORMAT " %s\n", entry, ticket, text);
    convoy_daemon1_complete_leave_call(daemon, invocation);
    if (mode_is("begin-only") && strcmp(entry, "prepare") == 0)
        exit(0);
    return TRUE;
}

static gboolean
on_notify_port(ConvoyDaemon1 *daemon, GDBusMethodInvocation *invocation, guint64 ticket, guint port,
               gpointer data)
{
    (void)data;
    printf("port ticket=%" G_GUINT64_FORMAT " %u\n", ticket, port);
    convoy_daemon1_complete_notify_port(daemon, invocation);
    return TRUE;
}

static gboolean
on_abort_waiting(ConvoyDaemon1 *daemon, GDBusMethodInvocation *invocation, const char *uuid,
                 gpointer data)
{
    (void)data;
    printf("abort %s\n", uuid);
    g_hash_table_add(aborted, g_strdup(uuid));
    convoy_daemon1_complete_abort_waiting(daemon, invocation, mode_is("hold"));
    return TRUE;
}

static gboolean
on_release_waiting(ConvoyDaemon1 *daemon, GDBusMethodInvocation *invocation, const char *uuid,
                   gpointer data)
{
    (void)data;
    printf("release %s\n", uuid);
    g_hash_table_add(released, g_strdup(uuid));
    convoy_daemon1_complete_release_waiting(daemon, invocation, mode_is("hold"));
    return TRUE;
}

static gboolean
on_notify_hook(ConvoyDaemon1 *daemon, GDBusMethodInvocation *invocation, const char *domain,
               const char *operation, const char *sub_operation, const char *xml, gpointer data)
{
    (void)data;
    printf("hook %s %s %s xml=%zu\n", domain, operation, sub_operation, strlen(xml));
    if (mode_is("hung"))
        return TRUE;
    convoy_daemon1_complete_notify_hook(daemon, invocation, ++last_ticket,
                                        mode_is("wait") || mode_is("hold") || mode_is("refuse") ||
                                            mode_is("hung-turn"),
                                        mode_is("post-copy") ? xml : "");
    return TRUE;
}

static gboolean
on_new_connection(GDBusServer *server, GDBusConnection *connection, gpointer data)
{
    (void)server;
    g_object_ref(connection);
    return ipc_export(connection, G_DBUS_INTERFACE_SKELETON(data), NULL);
}

static gboolean
on_terminate(gpointer data)
{
    (void)data;
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

int
main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDBusServer) server = NULL;
    g_autoptr(ConvoyDaemon1) daemon = NULL;

    if (argc != 4) {
        fprintf(stderr, "usage: canned-daemon SOCKET MODE LOG\n");
        return EXIT_FAILURE;
    }
    mode = argv[2];
    turns = g_hash_table_new(NULL, NULL);
    uuids = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    aborted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    released = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    loop = g_main_loop_new(NULL, FALSE);
    daemon = convoy_daemon1_skeleton_new();
    g_signal_connect(daemon, "handle-enter-call", G_CALLBACK(on_enter_call), NULL);
    g_signal_connect(daemon, "handle-wait-turn", G_CALLBACK(on_wait_turn), NULL);
    g_signal_connect(daemon, "handle-leave-call", G_CALLBACK(on_leave_call), NULL);
    g_signal_connect(daemon, "handle-notify-port", G_CALLBACK(on_notify_port), NULL);
    g_signal_connect(daemon, "handle-abort-waiting", G_CALLBACK(on_abort_waiting), NULL);
    g_signal_connect(daemon, "handle-release-waiting", G_CALLBACK(on_release_waiting), NULL);
    g_signal_connect(daemon, "handle-notify-hook", G_CALLBACK(on_notify_hook), NULL);
    server = ipc_server_new(argv[1], &error);
    if (server == NULL) {
        fprintf(stderr, "canned-daemon: %s\n", error->message);
        return EXIT_FAILURE;
    }
    g_signal_connect(server, "new-connection", G_CALLBACK(on_new_connection), daemon);
    g_dbus_server_start(server);
    g_unix_signal_add(SIGTERM, on_terminate, NULL);
    printf("ready\n");
    fflush(stdout);
    if (freopen(argv[3], "w", stdout) == NULL) {
        perror(argv[3]);
        return EXIT_FAILURE;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    g_main_loop_run(loop);
    return EXIT_SUCCESS;
}
