/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon's socket against clients that do everything wrong. Server and
 * manager run in this process on the main loop, libvirt is its test driver,
 * tc is never called; the client is a thread of its own. Whatever is sent must
 * be answered in two seconds, and the daemon must go on answering.
 */
#include "common/ipc.h"
#include "daemon/manager.h"
#include "daemon/server.h"
#include "daemon-test.h"

#include <glib/gstdio.h>
#include <libvirt/libvirt.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_US (2 * G_USEC_PER_SEC)
#define UUID_FORMAT "00000000-0000-4000-8000-%012u"

typedef struct {
    GMainLoop *loop;
    Config *config;
    Manager *manager;
    Server *server;
    char *directory;
    char *socket;
    GDBusConnection *connection;
    void (*client)(gpointer fixture);
    guint64 held; /* ticket of a call that waits */
} Fixture;

static void
directory_remove(const char *path)
{
    g_autoptr(GDir) folder = g_dir_open(path, 0, NULL);
    const char *name;

    while (folder != NULL && (name = g_dir_read_name(folder)) != NULL) {
        g_autofree char *file = g_build_filename(path, name, NULL);

        g_remove(file);
    }
    g_rmdir(path);
}

static gpointer
client_run(gpointer data)
{
    Fixture *fixture = data;
    g_autoptr(GError) error = NULL;

    fixture->connection = ipc_connect(fixture->socket, ipc_deadline(2000), &error);
    g_assert_no_error(error);
    fixture->client(fixture);
    g_clear_object(&fixture->connection);
    g_main_loop_quit(fixture->loop);
    return NULL;
}

/* Runs client against a daemon with that configuration added. */
static void
with_daemon(const char *more, void (*client)(gpointer), void (*before)(Fixture *))
{
    Fixture fixture = { .client = client };
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    GThread *thread;

    fixture.directory = g_dir_make_tmp("virt-convoy-XXXXXX", &error);
    g_assert_no_error(error);
    text = g_strconcat("[network]\nuplink=lo\nshape=no\n"
                       "[daemon]\nlibvirt-uri=test:///default\nlog-level=error\ndata-directory=",
                       fixture.directory, "\n", more, NULL);
    fixture.socket = g_build_filename(fixture.directory, "socket", NULL);
    fixture.config = config_parse(text, strlen(text), "test", NULL);
    fixture.loop = g_main_loop_new(NULL, FALSE);
    fixture.manager = manager_new(fixture.config, fixture.directory, &error);
    g_assert_no_error(error);
    fixture.server = server_new(fixture.manager, fixture.socket, &error);
    g_assert_no_error(error);
    if (before != NULL)
        before(&fixture);
    thread = g_thread_new("client", client_run, &fixture);
    g_main_loop_run(fixture.loop);
    g_thread_join(thread);
    server_free(fixture.server);
    manager_free(fixture.manager);
    /* A connection that the test broke off ends its thread. */
    while (hypervisor_threads_left())
        g_usleep(1000);
    config_free(fixture.config);
    g_main_loop_unref(fixture.loop);
    directory_remove(fixture.directory);
    g_free(fixture.directory);
    g_free(fixture.socket);
}

/* NULL: an error was answered, which is an answer. */
static GVariant *
call(Fixture *fixture, const char *method, GVariant *parameters)
{
    g_autoptr(GError) error = NULL;
    gint64 begin_us = g_get_monotonic_time();
    GVariant *reply =
        ipc_call(fixture->connection, method, parameters, NULL, begin_us + ANSWER_US, &error);

    if (reply == NULL && !g_dbus_error_is_remote_error(error))
        g_error("%s: %s", method, error->message);
    g_assert_cmpint(g_get_monotonic_time() - begin_us, <, ANSWER_US);
    return reply;
}

static void
call_ignore(Fixture *fixture, const char *method, GVariant *parameters)
{
    GVariant *reply = call(fixture, method, parameters);

    g_clear_pointer(&reply, g_variant_unref);
}

static void
assert_alive(Fixture *fixture)
{
    g_autoptr(GVariant) status = call(fixture, "GetStatus", NULL);
    g_autoptr(GVariant) explanation = call(fixture, "Explain", g_variant_new("(s)", ""));

    g_assert_nonnull(status);
    g_assert_nonnull(explanation);
}

static char *
domain_xml(unsigned number)
{
    return g_strdup_printf("<domain type='test'><name>vm%u</name><uuid>" UUID_FORMAT
                           "</uuid><memory unit='MiB'>64</memory></domain>",
                           number, number);
}

/* A well-formed call; parameters may be NULL. */
static GVariant *
enter_arguments_xml(const char *entry, unsigned number, const char *xml, guint64 flags,
                    GVariant *parameters)
{
    g_autofree char *name = g_strdup_printf("vm%u", number);
    g_autofree char *uuid = g_strdup_printf(UUID_FORMAT, number);
    GVariantDict fields;

    g_variant_dict_init(&fields, NULL);
    g_variant_dict_insert(&fields, "name", "s", name);
    g_variant_dict_insert(&fields, "uuid", "s", uuid);
    g_variant_dict_insert(&fields, "domain-xml", "s", xml);
    g_variant_dict_insert(&fields, "flags", "t", flags);
    if (parameters != NULL)
        g_variant_dict_insert_value(&fields, "parameters", parameters);
    return g_variant_new("(s@a{sv})", entry, g_variant_dict_end(&fields));
}

static GVariant *
enter_arguments(const char *entry, unsigned number, guint64 flags, GVariant *parameters)
{
    g_autofree char *xml = domain_xml(number);

    return enter_arguments_xml(entry, number, xml, flags, parameters);
}

static GVariant *
answer_to(Fixture *fixture, GVariant *arguments)
{
    g_autoptr(GVariant) reply = call(fixture, "EnterCall", arguments);

    g_assert_nonnull(reply);
    return g_variant_get_child_value(reply, 0);
}

/* The answer's ticket; 0: not followed. */
static guint64
enter(Fixture *fixture, const char *entry, unsigned number, guint64 flags, GVariant *parameters,
      gboolean *ret_wait)
{
    g_autoptr(GVariant) answer =
        answer_to(fixture, enter_arguments(entry, number, flags, parameters));
    guint64 ticket = 0;
    gboolean wait = FALSE;

    g_assert_true(g_variant_lookup(answer, "ticket", "t", &ticket));
    g_variant_lookup(answer, "wait", "b", &wait);
    if (ret_wait != NULL)
        *ret_wait = wait;
    return ticket;
}

static GVariant *
result(gboolean success)
{
    GVariantDict fields;

    g_variant_dict_init(&fields, NULL);
    g_variant_dict_insert(&fields, "success", "b", success);
    return g_variant_dict_end(&fields);
}

/* ---- wrong shapes ------------------------------------------------------ */

static char *
repeat(const char *text, size_t length)
{
    GString *all = g_string_sized_new(length + strlen(text));

    while (all->len < length)
        g_string_append(all, text);
    return g_string_free(all, FALSE);
}

static void
client_shapes(gpointer data)
{
    static const char *const methods[] = { "EnterCall",   "WaitTurn",     "NotifyPort",
                                           "LeaveCall",   "AbortWaiting", "ReleaseWaiting",
                                           "NotifyHook",  "GetStatus",    "Explain",
                                           "NoSuchMethod" };
    static const char *const shapes[] = {
        "()",
        "('x',)",
        "(1,)",
        "('', 1, 2)",
        "(<'x'>,)",
        "('a', 'b', 'c', 'd')",
        "('x', {1: 2})",
        "([1, 2, 3],)",
        "(uint64 18446744073709551615,)",
        "('begin', @a{sv} {})",
        "('', uint64 0, @a{sv} {})",
        "('x', uint64 7, @a{sv} {})",
        "('', '', '', '')",
        "(uint64 1, uint32 49160)",
        "('vm', 'migrate', 'begin', '')",
        "('vm', 'migrate', 'begin', '<a')",
        "('vm', 'release', 'end', '<domain/>')",
    };
    static const char *const keys[] = { "uuid",      "name",       "domain-xml",      "flags",
                                        "cookie-in", "parameters", "destination-uri", "success" };
    static const char *const values[] = {
        "uint32 1",
        "'text'",
        "''",
        "@as []",
        "true",
        "@a{sv} {}",
        "-1",
        "int64 -1",
        "1.5",
        "uint64 18446744073709551615",
        "<<<'deep'>>>",
        "@ay []",
        "{'bandwidth': <'x'>, 'migrate_uri': <1>}",
        "{'migrate_uri': <'tcp:[::1]:70000'>, 'bandwidth': <uint64 18446744073709551615>}",
    };
    static const char *const entries[] = { "begin",   "prepare",          "prepare-tunnel",
                                           "perform", "finish",           "confirm",
                                           "",        "no\nsuch%nentry%s" };
    Fixture *fixture = data;

    for (size_t i = 0; i < G_N_ELEMENTS(methods); i++) {
        for (size_t j = 0; j < G_N_ELEMENTS(shapes); j++)
            call_ignore(fixture, methods[i], g_variant_new_parsed(shapes[j]));
        call_ignore(fixture, methods[i], NULL);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(entries); i++) {
        for (size_t j = 0; j < G_N_ELEMENTS(keys); j++) {
            for (size_t k = 0; k < G_N_ELEMENTS(values); k++) {
                g_autofree char *text =
                    g_strdup_printf("{'name': <'vm%%n'>, 'uuid': <'" UUID_FORMAT "'>, '%s': <%s>}",
                                    1u, keys[j], values[k]);
                g_autoptr(GVariant) fields = g_variant_ref_sink(
                    g_variant_parse(G_VARIANT_TYPE_VARDICT, text, NULL, NULL, NULL));

                call_ignore(fixture, "EnterCall", g_variant_new("(s@a{sv})", entries[i], fields));
            }
        }
    }
    assert_alive(fixture);
}

static void
test_shapes(void)
{
    with_daemon("", client_shapes, NULL);
}

/* ---- huge -------------------------------------------------------------- */

static void
client_huge(gpointer data)
{
    Fixture *fixture = data;
    g_autofree char *text = repeat("x", 4u << 20);
    g_autofree char *nested = repeat("<a>", 1u << 20);
    g_autofree char *controls = repeat("%s\n\x1b[2J", 1u << 20);
    const char *const texts[] = { text, nested, controls };
    static const char *const keys[] = { "uuid", "name", "domain-xml", "cookie-in",
                                        "destination-uri" };
    guint64 ticket;

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        GVariantDict fields;

        for (size_t j = 0; j < G_N_ELEMENTS(keys); j++) {
            g_variant_dict_init(&fields, NULL);
            g_variant_dict_insert(&fields, "name", "s", "vm1");
            g_variant_dict_insert(&fields, keys[j], "s", texts[i]);
            call_ignore(fixture, "EnterCall",
                        g_variant_new("(s@a{sv})", "begin", g_variant_dict_end(&fields)));
        }
        g_variant_dict_init(&fields, NULL);
        g_variant_dict_insert(&fields, "migrate_uri", "s", texts[i]);
        enter(fixture, "perform", 1, VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER,
              g_variant_dict_end(&fields), NULL);
        call_ignore(fixture, "NotifyHook",
                    g_variant_new("(ssss)", texts[i], "migrate", "begin", texts[i]));
        call_ignore(fixture, "NotifyHook",
                    g_variant_new("(ssss)", "vm1", "migrate", "begin", texts[i]));
        call_ignore(fixture, "AbortWaiting", g_variant_new("(s)", texts[i]));
        call_ignore(fixture, "ReleaseWaiting", g_variant_new("(s)", texts[i]));
        call_ignore(fixture, "Explain", g_variant_new("(s)", texts[i]));
        ticket = enter(fixture, "begin", 2, VIR_MIGRATE_LIVE, NULL, NULL);
        g_assert_cmpuint(ticket, !=, 0);
        g_variant_dict_init(&fields, NULL);
        g_variant_dict_insert(&fields, "error-message", "s", texts[i]);
        call_ignore(fixture, "LeaveCall",
                    g_variant_new("(st@a{sv})", "begin", ticket, g_variant_dict_end(&fields)));
    }
    {
        g_autoptr(GVariant) explanation = call(fixture, "Explain", g_variant_new("(s)", "vm2"));

        /* What a caller sends as a reason is not kept whole. */
        g_assert_cmpuint(g_variant_get_size(explanation), <, 64u << 10);
    }
    assert_alive(fixture);
}

static void
test_huge(void)
{
    with_daemon("", client_huge, NULL);
}

/* ---- out of order ------------------------------------------------------ */

static const char *
turn_state(GVariant *reply)
{
    const char *state;

    g_assert_nonnull(reply);
    g_variant_get(reply, "(&s&s)", &state, NULL);
    return state;
}

static bool
explanation_has(Fixture *fixture, const char *domain, const char *expected)
{
    g_autoptr(GVariant) explanation = call(fixture, "Explain", g_variant_new("(s)", domain));
    const char *text;

    g_assert_nonnull(explanation);
    g_variant_get(explanation, "(&s)", &text);
    g_test_message("%s in %s", expected, text);
    return strstr(text, expected) != NULL;
}

static void
assert_explained(Fixture *fixture, const char *domain, const char *expected)
{
    g_assert_true(explanation_has(fixture, domain, expected));
}

/* What comes alone goes on once it is clear that nothing comes with it. */
static void
wait_turn(Fixture *fixture, guint64 ticket)
{
    for (;;) {
        g_autoptr(GVariant) turn = call(fixture, "WaitTurn", g_variant_new("(t)", ticket));

        if (g_str_equal(turn_state(turn), "go"))
            return;
        g_assert_cmpstr(turn_state(turn), ==, "waiting");
    }
}

/* A second Begin waits for the first one's job in vain while that one moves memory. */
static void
check_second_begin(Fixture *fixture)
{
    guint64 ticket = enter(fixture, "begin", 5, VIR_MIGRATE_LIVE, NULL, NULL);

    wait_turn(fixture, ticket);
    g_assert_cmpuint(enter(fixture, "perform", 5, VIR_MIGRATE_LIVE, NULL, NULL), ==, ticket);
    call_ignore(fixture, "LeaveCall", g_variant_new("(st@a{sv})", "begin", ticket, result(FALSE)));
    assert_explained(fixture, "vm5", "\"state\":\"running\"");
    call_ignore(fixture, "LeaveCall",
                g_variant_new("(st@a{sv})", "perform", ticket, result(FALSE)));
    assert_explained(fixture, "vm5", "\"outcome\":\"failed\"");
}

/* What is too long is cut, but not in the middle of a character. */
static void
check_cut_text(Fixture *fixture)
{
    g_autofree char *letters = g_strnfill(1023, 'a');
    g_autofree char *text = g_strconcat(letters, "\303\251 and more", NULL);
    guint64 ticket = enter(fixture, "begin", 6, VIR_MIGRATE_LIVE, NULL, NULL);
    GVariantDict fields;

    g_variant_dict_init(&fields, NULL);
    g_variant_dict_insert(&fields, "success", "b", FALSE);
    g_variant_dict_insert(&fields, "error-message", "s", text);
    call_ignore(fixture, "LeaveCall",
                g_variant_new("(st@a{sv})", "begin", ticket, g_variant_dict_end(&fields)));
    assert_explained(fixture, "vm6", letters);
}

static void
client_order(gpointer data)
{
    Fixture *fixture = data;
    guint64 p2p = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER;
    GVariantDict fields;
    guint64 ticket;
    g_autoptr(GVariant) turn = NULL;
    g_autoptr(GVariant) explanation = NULL;

    /* Tickets that nobody gave out: such a call goes on. */
    turn = call(fixture, "WaitTurn", g_variant_new("(t)", (guint64)4711));
    g_assert_cmpstr(turn_state(turn), ==, "go");
    call_ignore(fixture, "LeaveCall",
                g_variant_new("(st@a{sv})", "perform", (guint64)4711, result(TRUE)));
    /* An end that does not belong to this end changes nothing. */
    ticket = enter(fixture, "begin", 1, VIR_MIGRATE_LIVE, NULL, NULL);
    wait_turn(fixture, ticket);
    call_ignore(fixture, "LeaveCall", g_variant_new("(st@a{sv})", "finish", ticket, result(TRUE)));
    call_ignore(fixture, "LeaveCall", g_variant_new("(st@a{sv})", "x", ticket, result(FALSE)));
    explanation = call(fixture, "Explain", g_variant_new("(s)", "vm1"));
    g_assert_nonnull(strstr(g_variant_get_data(explanation), "\"state\":\"admitted\""));
    check_second_begin(fixture);
    check_cut_text(fixture);
    /* Perform without begin, twice, and with a URI that only the parameters hold. */
    for (unsigned i = 0; i < 20; i++) {
        g_variant_dict_init(&fields, NULL);
        g_variant_dict_insert(&fields, "migrate_uri", "s", "tcp:127.0.0.1:49160");
        enter(fixture, "perform", 2 + i % 2, i % 2 ? VIR_MIGRATE_LIVE : p2p,
              g_variant_dict_end(&fields), NULL);
    }
    /* Left twice; entered again after the end. */
    ticket = enter(fixture, "perform", 9, p2p, NULL, NULL);
    for (unsigned i = 0; i < 2; i++)
        call_ignore(fixture, "LeaveCall",
                    g_variant_new("(st@a{sv})", "perform", ticket, result(TRUE)));
    g_assert_cmpuint(enter(fixture, "perform", 9, p2p, NULL, NULL), >, ticket);
    /* Without a UUID nobody could see the end: not followed. */
    g_variant_dict_init(&fields, NULL);
    g_variant_dict_insert(&fields, "name", "s", "nameless");
    {
        g_autoptr(GVariant) reply =
            call(fixture, "EnterCall",
                 g_variant_new("(s@a{sv})", "perform", g_variant_dict_end(&fields)));
        g_autoptr(GVariant) answer = g_variant_get_child_value(reply, 0);

        g_assert_true(g_variant_lookup(answer, "ticket", "t", &ticket));
        g_assert_cmpuint(ticket, ==, 0);
    }
    assert_alive(fixture);
}

/* ---- late -------------------------------------------------------------- */

static guint64
enter_with_deadline(Fixture *fixture, const char *entry, GVariant *deadline)
{
    g_autoptr(GVariant) arguments =
        g_variant_ref_sink(enter_arguments(entry, 1, VIR_MIGRATE_LIVE, NULL));
    g_autoptr(GVariant) before = g_variant_get_child_value(arguments, 1);
    g_autoptr(GVariant) reply = NULL;
    g_autoptr(GVariant) answer = NULL;
    guint64 ticket = 0;
    GVariantDict fields;

    g_variant_dict_init(&fields, before);
    g_variant_dict_insert_value(&fields, "deadline", deadline);
    reply =
        call(fixture, "EnterCall", g_variant_new("(s@a{sv})", entry, g_variant_dict_end(&fields)));
    answer = g_variant_get_child_value(reply, 0);
    g_assert_true(g_variant_lookup(answer, "ticket", "t", &ticket));
    return ticket;
}

/* A daemon that was stopped reads calls whose migration may be over. */
static void
client_late(gpointer data)
{
    static const char *const entries[] = { "begin", "prepare", "perform" };
    Fixture *fixture = data;
    gint64 now_us = g_get_monotonic_time();
    const gint64 past[] = { now_us, now_us - 1, 0, -1, G_MININT64 };
    g_autoptr(GVariant) explanation = NULL;
    GVariant *ahead[3];

    for (size_t i = 0; i < G_N_ELEMENTS(entries); i++) {
        for (size_t j = 0; j < G_N_ELEMENTS(past); j++)
            g_assert_cmpuint(enter_with_deadline(fixture, entries[i], g_variant_new_int64(past[j])),
                             ==, 0);
    }
    explanation = call(fixture, "Explain", g_variant_new("(s)", "vm1"));
    g_assert_null(strstr(g_variant_get_data(explanation), "\"state\""));
    ahead[0] = g_variant_new_int64(now_us + 60 * G_USEC_PER_SEC);
    ahead[1] = g_variant_new_int64(G_MAXINT64);
    ahead[2] = g_variant_new_string("1"); /* of another type: there is none */
    for (size_t i = 0; i < G_N_ELEMENTS(ahead); i++) {
        guint64 ticket = enter_with_deadline(fixture, "begin", ahead[i]);

        g_assert_cmpuint(ticket, !=, 0);
        wait_turn(fixture, ticket);
    }
    assert_alive(fixture);
}

static void
test_late(void)
{
    with_daemon("", client_late, NULL);
}

static void
test_order(void)
{
    with_daemon("", client_order, NULL);
}

/* ---- held calls -------------------------------------------------------- */

static gpointer
second_waiter(gpointer data)
{
    const Fixture *fixture = data;

    return call(data, "WaitTurn", g_variant_new("(t)", fixture->held));
}

/* One that waits goes on before its turn, once. */
static void
check_release(Fixture *fixture)
{
    g_autofree char *uuid = g_strdup_printf(UUID_FORMAT, 3u);
    gboolean wait = FALSE;
    guint64 ticket = enter(fixture, "begin", 3, VIR_MIGRATE_LIVE, NULL, &wait);

    g_assert_true(wait);
    for (int expected = 1; expected >= 0; expected--) {
        g_autoptr(GVariant) released = call(fixture, "ReleaseWaiting", g_variant_new("(s)", uuid));
        g_autoptr(GVariant) turn = call(fixture, "WaitTurn", g_variant_new("(t)", ticket));

        g_variant_get(released, "(b)", &wait);
        g_assert_cmpint(wait, ==, expected);
        g_assert_cmpstr(turn_state(turn), ==, "go");
    }
}

static void
client_held(gpointer data)
{
    Fixture *fixture = data;
    g_autofree char *uuid = g_strdup_printf(UUID_FORMAT, 2u);
    g_autoptr(GVariant) first = NULL;
    g_autoptr(GVariant) second = NULL;
    g_autoptr(GVariant) aborted = NULL;
    g_autoptr(GVariant) after = NULL;
    gboolean wait = FALSE;
    guint64 first_ticket;
    GThread *thread;

    first_ticket = enter(fixture, "begin", 1, VIR_MIGRATE_LIVE, NULL, &wait);
    /* A plugin may still know the small numbers of an earlier daemon. */
    g_assert_cmpuint(first_ticket, >, 1000);
    wait_turn(fixture, first_ticket);
    fixture->held = enter(fixture, "begin", 2, VIR_MIGRATE_LIVE, NULL, &wait);
    g_assert_cmpuint(fixture->held, >, first_ticket);
    g_assert_true(wait);
    /* Another call for it must not push it out while its caller is there. */
    g_assert_cmpuint(enter(fixture, "begin", 2, VIR_MIGRATE_LIVE, NULL, NULL), ==, 0);
    /* Two that wait with one ticket: neither may go. */
    thread = g_thread_new("second", second_waiter, fixture);
    first = call(fixture, "WaitTurn", g_variant_new("(t)", fixture->held));
    second = g_thread_join(thread);
    g_assert_cmpstr(turn_state(first), ==, "waiting");
    g_assert_cmpstr(turn_state(second), ==, "waiting");
    aborted = call(fixture, "AbortWaiting", g_variant_new("(s)", uuid));
    g_variant_get(aborted, "(b)", &wait);
    g_assert_true(wait);
    after = call(fixture, "WaitTurn", g_variant_new("(t)", fixture->held));
    g_assert_cmpstr(turn_state(after), ==, "aborted");
    check_release(fixture);
    assert_alive(fixture);
}

static void
test_held(void)
{
    with_daemon("[policy]\nmaximum-running=1\n", client_held, NULL);
}

/* ---- the port of a peer-to-peer migration -------------------------------- */

static void
notify_port(Fixture *fixture, guint64 ticket, guint port)
{
    call_ignore(fixture, "NotifyPort", g_variant_new("(tu)", ticket, port));
}

static void
client_port(gpointer data)
{
    static const guint never[] = { 0, 22, 16509, 49151, 49216, 65536 + 49160, G_MAXUINT32 };
    Fixture *fixture = data;
    guint64 p2p = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER;
    guint64 others[] = {
        enter(fixture, "begin", 2, VIR_MIGRATE_LIVE, NULL, NULL),
        enter(fixture, "perform", 3, p2p | VIR_MIGRATE_TUNNELLED, NULL, NULL),
        enter(fixture, "perform", 4, p2p | VIR_MIGRATE_NON_SHARED_DISK, NULL, NULL),
        4711,
    };
    guint64 ticket = enter(fixture, "perform", 1, p2p, NULL, NULL);

    /* The other libvirtd's, and what no call can have told. */
    for (size_t i = 0; i < G_N_ELEMENTS(never); i++)
        notify_port(fixture, ticket, never[i]);
    g_assert_false(explanation_has(fixture, "vm1", "\"port\""));
    for (unsigned port = 49152; port <= 49215; port += 63) {
        g_autofree char *text = g_strdup_printf("number: %u", port);

        notify_port(fixture, ticket, port); /* done again as asked: another one */
        g_assert_true(explanation_has(fixture, "vm1", text));
    }
    /* Whose connections are not those of one port. */
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++)
        notify_port(fixture, others[i], 49160);
    for (unsigned i = 1; i <= 4; i++) {
        g_autofree char *name = g_strdup_printf("vm%u", i);

        g_assert_false(explanation_has(fixture, name, "number: 49160"));
    }
    call_ignore(fixture, "LeaveCall", g_variant_new("(st@a{sv})", "perform", ticket, result(TRUE)));
    notify_port(fixture, ticket, 49170);
    g_assert_false(explanation_has(fixture, "vm1", "number: 49170"));
}

static void
test_port(void)
{
    with_daemon("[policy]\ngathering-time=0\n", client_port, NULL);
}

/* ---- what only one answer can carry -------------------------------------- */

static gboolean
waits_peer_to_peer(Fixture *fixture)
{
    gboolean wait = FALSE;

    enter(fixture, "perform", 1, VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER, NULL, &wait);
    return wait;
}

static void
client_gathers(gpointer data)
{
    g_assert_false(waits_peer_to_peer(data));
}

/* The caller has no time for so much. */
static void
client_gathers_long(gpointer data)
{
    g_assert_true(waits_peer_to_peer(data));
}

/* A peer-to-peer call is answered once nothing else is likely to come with it. */
static void
test_gathers(void)
{
    with_daemon("[policy]\ngathering-time=300ms\n", client_gathers, NULL);
    with_daemon("[policy]\ngathering-time=5s\n", client_gathers_long, NULL);
}

/* ---- what a guest that dirties faster than the link gets ----------------- */

/* The flags that libvirt is to have for a peer-to-peer migration with that metadata. */
static guint64
flags_used(Fixture *fixture, unsigned number, const char *metadata, guint64 flags)
{
    g_autofree char *xml = g_strdup_printf(
        "<domain type='test'><name>vm%u</name><uuid>" UUID_FORMAT
        "</uuid><memory unit='MiB'>64</memory><metadata><c:domain xmlns:c='" DOMAIN_NAMESPACE
        "'>%s</c:domain></metadata></domain>",
        number, number, metadata);
    g_autoptr(GVariant) answer =
        answer_to(fixture, enter_arguments_xml("perform", number, xml, flags, NULL));
    guint64 used = 0;

    g_assert_true(g_variant_lookup(answer, "flags", "t", &used));
    return used;
}

static const char pre_copy_alone[] = "<c:technique allow='pre-copy'/>";

static void
client_auto_converge(gpointer data)
{
    Fixture *fixture = data;
    guint64 p2p = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER;

    g_assert_cmphex(flags_used(fixture, 1, pre_copy_alone, p2p), ==,
                    p2p | VIR_MIGRATE_AUTO_CONVERGE);
    g_assert_cmphex(flags_used(fixture, 2, "", p2p), ==, p2p | VIR_MIGRATE_POSTCOPY);
    /* libvirt refuses it with these. */
    g_assert_cmphex(flags_used(fixture, 3, pre_copy_alone, p2p | VIR_MIGRATE_COMPRESSED) &
                        VIR_MIGRATE_AUTO_CONVERGE,
                    ==, 0);
}

static void
client_no_auto_converge(gpointer data)
{
    Fixture *fixture = data;
    guint64 p2p = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER;

    g_assert_cmphex(flags_used(fixture, 1, pre_copy_alone, p2p), ==, p2p);
}

/* Throttled only where the configuration agrees, and nothing better is allowed. */
static void
test_auto_converge(void)
{
    with_daemon("[policy]\nauto-converge=auto\ngathering-time=0\n", client_auto_converge, NULL);
    with_daemon("[policy]\nauto-converge=never\ngathering-time=0\n", client_no_auto_converge, NULL);
}

/* ---- a destination that several sources push to ------------------------- */

/* A prepare whose cookie says that it comes from host number `source`. */
static guint64
prepare_from(Fixture *fixture, unsigned number, unsigned source, gboolean *ret_wait)
{
    g_autofree char *xml = domain_xml(number);
    g_autofree char *name = g_strdup_printf("vm%u", number);
    g_autofree char *cookie = g_strdup_printf(
        "<qemu-migration><hostuuid>" UUID_FORMAT "</hostuuid></qemu-migration>", source);
    g_autoptr(GVariant) answer = NULL;
    GVariantDict fields;
    guint64 ticket = 0;

    g_variant_dict_init(&fields, NULL);
    g_variant_dict_insert(&fields, "name", "s", name);
    g_variant_dict_insert(&fields, "domain-xml", "s", xml);
    g_variant_dict_insert(&fields, "flags", "t", (guint64)VIR_MIGRATE_LIVE);
    g_variant_dict_insert(&fields, "cookie-in", "s", cookie);
    answer = answer_to(fixture, g_variant_new("(s@a{sv})", "prepare", g_variant_dict_end(&fields)));
    g_assert_true(g_variant_lookup(answer, "ticket", "t", &ticket));
    *ret_wait = FALSE;
    g_variant_lookup(answer, "wait", "b", ret_wait);
    return ticket;
}

static void
client_admission(gpointer data)
{
    Fixture *fixture = data;
    gboolean wait;
    guint64 first = prepare_from(fixture, 1, 101, &wait);
    guint64 held;
    g_autoptr(GVariant) before = NULL;
    g_autoptr(GVariant) after = NULL;

    g_assert_false(wait);
    prepare_from(fixture, 2, 101, &wait); /* its own host has decided that */
    g_assert_false(wait);
    held = prepare_from(fixture, 3, 102, &wait);
    g_assert_true(wait);
    before = call(fixture, "WaitTurn", g_variant_new("(t)", held));
    g_assert_cmpstr(turn_state(before), ==, "waiting");
    call_ignore(fixture, "LeaveCall", g_variant_new("(st@a{sv})", "finish", first, result(TRUE)));
    call_ignore(fixture, "LeaveCall",
                g_variant_new("(st@a{sv})", "finish", first + 1, result(TRUE)));
    after = call(fixture, "WaitTurn", g_variant_new("(t)", held));
    g_assert_cmpstr(turn_state(after), ==, "go");
    assert_alive(fixture);
}

static void
test_admission(void)
{
    with_daemon("", client_admission, NULL);
}

/* ---- calls that never end ---------------------------------------------- */

static void
client_flood(gpointer data)
{
    static const char *const entries[] = { "begin", "prepare", "perform" };
    Fixture *fixture = data;
    unsigned followed = 0;

    for (unsigned i = 0; i < 1000; i++)
        followed += enter(fixture, entries[i % 3], i, VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER,
                          NULL, NULL) != 0;
    g_assert_cmpuint(followed, >, 100);
    g_assert_cmpuint(followed, <, 600);
    assert_alive(fixture);
}

static void
test_flood(void)
{
    with_daemon("", client_flood, NULL);
}

/* ---- a destination that hangs ------------------------------------------ */

static GSocketListener *silent_listener;

static void
offer_ignore(const char *text G_GNUC_UNUSED, const GError *error G_GNUC_UNUSED,
             gpointer data G_GNUC_UNUSED)
{
}

/* Connections are taken by the kernel and never answered. */
static void
ask_silent_host(Fixture *fixture)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *uri = NULL;
    guint16 port;

    silent_listener = g_socket_listener_new();
    port = g_socket_listener_add_any_inet_port(silent_listener, NULL, &error);
    g_assert_no_error(error);
    uri = g_strdup_printf("test+tcp://127.0.0.1:%u/default", port);
    while (!hypervisor_is_connected(fixture->manager->hypervisor))
        g_main_context_iteration(NULL, TRUE);
    for (unsigned i = 0; i < 50; i++)
        hypervisor_read_offer(fixture->manager->hypervisor, uri,
                              "00000000-0000-4000-8000-000000000001", offer_ignore, NULL);
}

static void
client_silent(gpointer data)
{
    for (unsigned i = 0; i < 5; i++) {
        gint64 begin_us = g_get_monotonic_time();

        assert_alive(data);
        g_assert_cmpint(g_get_monotonic_time() - begin_us, <, ANSWER_US / 4);
    }
    g_socket_listener_close(silent_listener);
}

static void
test_silent_host(void)
{
    with_daemon("", client_silent, ask_silent_host);
    g_clear_object(&silent_listener);
}

/* ---- who keeps a place ------------------------------------------------- */

static void
test_keeps_place(void)
{
    g_autoptr(Migration) migration =
        migration_new(1, MIGRATION_ROLE_SOURCE, "vm", NULL, G_USEC_PER_SEC);

    g_assert_null(migration_keeps_place(migration, G_USEC_PER_SEC));
    migration->machine.state = MIGRATION_WAITING;
    migration->polled_us = 10 * G_USEC_PER_SEC;
    g_assert_nonnull(migration_keeps_place(migration, 11 * G_USEC_PER_SEC));
    g_assert_null(migration_keeps_place(migration, 15 * G_USEC_PER_SEC));
    migration->machine.state = MIGRATION_RUNNING;
    g_assert_null(migration_keeps_place(migration, 15 * G_USEC_PER_SEC));
    migration->job_seen = true;
    g_assert_nonnull(migration_keeps_place(migration, 15 * G_USEC_PER_SEC));
    migration->machine.state = MIGRATION_ENDED;
    g_assert_null(migration_keeps_place(migration, 15 * G_USEC_PER_SEC));
}

int
main(int argc, char **argv)
{
    daemon_test_init(&argc, &argv);
    g_test_add_func("/daemon/server/shapes", test_shapes);
    g_test_add_func("/daemon/server/huge", test_huge);
    g_test_add_func("/daemon/server/order", test_order);
    g_test_add_func("/daemon/server/late", test_late);
    g_test_add_func("/daemon/server/held", test_held);
    g_test_add_func("/daemon/server/port", test_port);
    g_test_add_func("/daemon/server/gathers", test_gathers);
    g_test_add_func("/daemon/server/auto-converge", test_auto_converge);
    g_test_add_func("/daemon/server/admission", test_admission);
    g_test_add_func("/daemon/server/flood", test_flood);
    g_test_add_func("/daemon/server/silent-host", test_silent_host);
    g_test_add_func("/daemon/server/keeps-place", test_keeps_place);
    return g_test_run();
}
