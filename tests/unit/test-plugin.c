/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The parts of the libvirtd plugin that need no libvirt: text, rules, table.
 *
 * They are no part of the library of modules, so their sources are included.
 */
#include <glib.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>

#include "libvirtd/cookie.c"
#include "libvirtd/environment.c"
#include "libvirtd/records.c"
#undef CONNECTIONS_MAXIMUM
#include "libvirtd/rules.c"

#define PEER "<c:peer xmlns:c=\"urn:virt-convoy:peer:1\" version=\"1\"/>"

static void
test_environment(void)
{
    static const struct {
        const char *list, *path, *kept;
    } rows[] = {
        { "/usr/lib/v.so", "/usr/lib/v.so", "" },
        { "v.so", "/usr/lib/v.so", "" },
        { "/other/v.so", "/usr/lib/v.so", "" },
        { "/a.so:/usr/lib/v.so", "/usr/lib/v.so", "/a.so" },
        { "/usr/lib/v.so:/a.so", "/usr/lib/v.so", "/a.so" },
        { "/a.so /usr/lib/v.so /b.so", "/usr/lib/v.so", "/a.so:/b.so" },
        { "::/a.so::v.so:", "/usr/lib/v.so", "/a.so" },
        { "/a/not-v.so:xv.so", "/usr/lib/v.so", "/a/not-v.so:xv.so" },
        { "v.so.1", "/usr/lib/v.so", "v.so.1" },
        { "", "/usr/lib/v.so", "" },
        { "/a.so", "", "/a.so" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        char *kept = environment_without_object(rows[i].list, rows[i].path);

        g_assert_cmpstr(kept, ==, rows[i].kept);
        free(kept);
    }
    g_assert_null(environment_without_object(NULL, "v.so"));
    g_assert_true(environment_is_driver_daemon("/usr/sbin/libvirtd"));
    g_assert_true(environment_is_driver_daemon("virtqemud"));
    g_assert_false(environment_is_driver_daemon("virsh"));
    g_assert_false(environment_is_driver_daemon("libvirtd-wrapper"));
    g_assert_false(environment_is_driver_daemon(NULL));
}

static void
test_element(void)
{
    static const struct {
        const char *element;
        bool safe;
    } rows[] = {
        { PEER, true },
        { "<p xmlns='urn:virt-convoy:peer:1'><q a='&lt;'/></p>", true },
        { "<p xmlns='urn:other'/>", false },
        { "<p/>", false },
        { "", false },
        { "text", false },
        { " " PEER, false },
        { PEER PEER, false },
        { PEER "\n", false },
        { "<p xmlns='urn:virt-convoy:peer:1'>", false },
        { "<p xmlns='urn:virt-convoy:peer:1'></q>", false },
        { "<p xmlns='urn:virt-convoy:peer:1' a='1' a='2'/>", false },
        { "<p xmlns='urn:virt-convoy:peer:1'><!-- - --></p>", false },
        { "<p xmlns='urn:virt-convoy:peer:1'><![CDATA[x]]></p>", false },
        { "<?xml version='1.0'?>" PEER, false },
        { "<!DOCTYPE p>" PEER, false },
        { "<p xmlns='urn:virt-convoy:peer:1' a='&other;'/>", false },
        { "<p xmlns='urn:virt-convoy:peer:1' a='\xc3\xa4'/>", false },
        { "<p xmlns='urn:virt-convoy:peer:1' a='\x01'/>", false },
        /* Well-formed enough for a lenient parser, not for the other end's. */
        { "<p xmlns='urn:virt-convoy:peer:1'a='1'/>", false },
        { "<p xmlns='urn:virt-convoy:peer:1' a='<'/>", false },
        { "<p xmlns='urn:virt-convoy:peer:1'>]]></p>", false },
        { "<p xmlns='urn:virt-convoy:peer:1'><1/></p>", false },
        { "<p xmlns='urn:virt-convoy:peer:1' a+b='1'/>", false },
        { "<p\n\txmlns = \"urn:virt-convoy:peer:1\" a='/>'><q\n/></p\t>", true },
        { "<other><p xmlns='urn:virt-convoy:peer:1'/></other>", false },
        { "<p xmlns='urn:virt-convoy:peer:1'>&#30;</p>", false },
        { PEER "</qemu-migration><qemu-migration>" PEER, false },
        { "<c:p xmlns:c='urn:virt-convoy:peer:1' a='&#38;'><q/></c:p>", true },
        { "<p xmlns:c='urn:virt-convoy:peer:1'/>", false }, /* declared, but not its own */
        { "<p xmlns='urn:virt-convoy:peer:1'><?other?></p>", false },
        { PEER "<!-- after it -->", false },
        { "<p xmlns='urn:virt-convoy:peer:1'>&lt;!-- no comment --&gt;</p>", true },
    };
    g_autofree char *huge = g_strdup_printf("<p xmlns='urn:virt-convoy:peer:1' a='%*d'/>",
                                            (int)COOKIE_ELEMENT_MAXIMUM, 1);
    g_autoptr(GString) deep = g_string_new("<p xmlns='urn:virt-convoy:peer:1'>");

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_test_message("%s", rows[i].element);
        g_assert_true(cookie_element_is_safe(rows[i].element) == rows[i].safe);
    }
    g_assert_false(cookie_element_is_safe(huge));
    for (unsigned i = 0; i < 1000; i++)
        g_string_append(deep, "<q>");
    for (unsigned i = 0; i < 1000; i++)
        g_string_append(deep, "</q>");
    g_string_append(deep, "</p>");
    g_assert_false(cookie_element_is_safe(deep->str));
    g_assert_false(cookie_element_is_safe(NULL));
}

static void
check_append(const char *cookie, int length, const char *element, const char *expected)
{
    char *text = cookie != NULL ? malloc((size_t)MAX(length, 1)) : NULL;
    int new_length = length;

    if (text != NULL && length > 0)
        memcpy(text, cookie, (size_t)length);
    g_assert_true(cookie_append(&text, &new_length, element) == (expected != NULL));
    if (expected != NULL) {
        g_assert_cmpstr(text, ==, expected);
        g_assert_cmpint(new_length, ==, (int)strlen(expected) + 1);
    } else {
        g_assert_cmpint(new_length, ==, length);
        if (cookie != NULL && length > 0)
            g_assert_true(memcmp(text, cookie, (size_t)length) == 0);
    }
    free(text);
}

#define WITH_LENGTH(text) (text), (int)sizeof(text)

static void
test_cookie_append(void)
{
    char *none = NULL;
    int length = 0;

    check_append(WITH_LENGTH("<qemu-migration><a/></qemu-migration>\n"), PEER,
                 "<qemu-migration><a/>" PEER "</qemu-migration>\n");
    check_append(WITH_LENGTH("<qemu-migration></qemu-migration>"), PEER,
                 "<qemu-migration>" PEER "</qemu-migration>");
    /* The last one, should a text inside look like it. */
    check_append(WITH_LENGTH("<a>&lt;</qemu-migration></a></qemu-migration>"), PEER,
                 "<a>&lt;</qemu-migration></a>" PEER "</qemu-migration>");
    check_append(WITH_LENGTH("<qemu-migration/>"), PEER, NULL);
    check_append(WITH_LENGTH(""), PEER, NULL);
    check_append(WITH_LENGTH("</qemu-migration>"), "<broken", NULL);
    check_append(WITH_LENGTH("</qemu-migration>"), NULL, NULL);
    check_append("</qemu-migration>", 17, PEER, NULL);                /* no NUL */
    check_append(WITH_LENGTH("</qemu-migration>\0more"), PEER, NULL); /* NUL inside */
    check_append("", 0, PEER, NULL);
    check_append("", -5, PEER, NULL);
    g_assert_false(cookie_append(&none, &length, PEER));
    g_assert_false(cookie_append(NULL, NULL, PEER));
}

static void
test_cookie_note(void)
{
    const CookieNote note = {
        .flags = 1u << 15, .follows = 1u << 17, .connections = 4, .held_ms = 61000
    };
    static const char *const none[] = {
        "<m a='" COOKIE_NOTE_NAMESPACE "'><plugin/></m>",
        "<m><!-- <plugin xmlns='" COOKIE_NOTE_NAMESPACE "'/> --></m>",
        "<m><plugin xmlns='" COOKIE_NOTE_NAMESPACE "'/>",
        "<m><other xmlns='" COOKIE_NOTE_NAMESPACE "'/></m>",
        "<!DOCTYPE m [<!ENTITY e 'x'>]><m><plugin xmlns='" COOKIE_NOTE_NAMESPACE "'/></m>",
    };
    CookieNote found = { 0 };
    g_autofree char *element = cookie_note_to_element(&note);
    g_autofree char *cookie =
        g_strdup_printf("<qemu-migration>" PEER "%s</qemu-migration>", element);

    g_assert_true(cookie_element_is_safe(element));
    g_assert_true(cookie_note_from_cookie(cookie, (int)strlen(cookie) + 1, &found));
    g_assert_cmpuint(found.flags, ==, note.flags);
    g_assert_cmpuint(found.follows, ==, note.follows);
    g_assert_cmpuint(found.connections, ==, note.connections);
    g_assert_cmpuint(found.held_ms, ==, note.held_ms);
    /* Cut anywhere it is no note. */
    for (int length = 0; length < (int)strlen(cookie); length++)
        g_assert_false(cookie_note_from_cookie(cookie, length, &found));
    g_assert_false(cookie_note_from_cookie(NULL, 0, &found));
    g_assert_false(cookie_note_from_cookie(cookie, -1, &found));
    /* Numbers out of range are unknown, not wrapped. */
    g_free(cookie);
    cookie = g_strdup(
        "<m><plugin xmlns='" COOKIE_NOTE_NAMESPACE
        "' flags='99999999999999999999' follows='-1' connections='256' held='4294967296'/></m>");
    g_assert_true(cookie_note_from_cookie(cookie, (int)strlen(cookie) + 1, &found));
    g_assert_cmpuint(found.flags | found.follows | found.connections | found.held_ms, ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(none); i++) {
        g_test_message("%s", none[i]);
        g_assert_false(cookie_note_from_cookie(none[i], (int)strlen(none[i]) + 1, &found));
    }
}

static void
test_domain_text(void)
{
    static const struct {
        const char *original, *changed;
        bool extension;
    } rows[] = {
        { "<d><m></m></d>", "<d><m>" PEER "</m></d>", true },
        { "<d></d>", "<d><metadata>" PEER "</metadata></d>", true },
        { "<d><metadata/></d>", "<d><metadata>" PEER "</metadata></d>", true },
        { "<d></d>", "<d></d>", false },
        { "<d></d>", "<d><disk/></d>", false },
        { "<d><disk/></d>", "<d>" PEER "</d>", false },
        { "<d a='1'></d>", "<d a='2'>" PEER "</d>", false },
        { "<d>aa</d>", "<d>a" PEER "</d>", false },
        { "<d></d>", "", false },
        { "", "<d>" PEER "</d>", true }, /* Prepare would refuse, and be done again */
    };
    g_autofree char *name = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_test_message("%s -> %s", rows[i].original, rows[i].changed);
        g_assert_true(cookie_domain_is_extension(rows[i].original, rows[i].changed) ==
                      rows[i].extension);
    }
    g_assert_false(cookie_domain_is_extension(NULL, NULL));

    name = cookie_domain_name("<domain type='kvm'>\n  <x><name>no</name></x>\n"
                              "  <name>a&amp;b</name><rest/></domain>");
    g_assert_cmpstr(name, ==, "a&b");
    g_free(name);
    name = cookie_domain_name("<domain><name> web </name></domain>");
    g_assert_cmpstr(name, ==, " web ");
    g_assert_null(cookie_domain_name("<domain><name>cut</name><rest"));
    g_assert_null(cookie_domain_name("<domain><name/></domain>"));
    g_assert_null(cookie_domain_name("<!DOCTYPE domain [<!ENTITY e SYSTEM 'file:///etc/hostname'>]>"
                                     "<domain><name>&e;</name></domain>"));
    g_assert_null(cookie_domain_name("<domain><x><name>no</name></x></domain>"));
    g_assert_null(cookie_domain_name("<name>no</name>"));
    g_assert_null(cookie_domain_name("not XML"));
    g_assert_null(cookie_domain_name(NULL));
}

#define LIVE VIR_MIGRATE_LIVE
#define POSTCOPY VIR_MIGRATE_POSTCOPY
#define PARALLEL VIR_MIGRATE_PARALLEL

static void
test_rules_flags(void)
{
    static const struct {
        uint64_t asked, wanted, permitted, added;
        bool list;
    } rows[] = {
        { LIVE, LIVE | POSTCOPY, UINT64_MAX, POSTCOPY, true },
        { LIVE, POSTCOPY, UINT64_MAX, POSTCOPY, false }, /* LIVE is not taken away */
        { LIVE, POSTCOPY, 0, 0, true },
        { LIVE, POSTCOPY, PARALLEL, 0, true },
        { 0, POSTCOPY, UINT64_MAX, 0, true },
        { LIVE | VIR_MIGRATE_PAUSED, POSTCOPY, UINT64_MAX, 0, true },
        { LIVE | VIR_MIGRATE_TUNNELLED, POSTCOPY | PARALLEL, UINT64_MAX, 0, true },
        { LIVE | VIR_MIGRATE_OFFLINE, POSTCOPY | PARALLEL, UINT64_MAX, 0, true },
        { LIVE | VIR_MIGRATE_COMPRESSED, POSTCOPY | PARALLEL, UINT64_MAX, 0, true },
        { LIVE | VIR_MIGRATE_POSTCOPY_RESUME, PARALLEL, UINT64_MAX, 0, true },
        { LIVE, PARALLEL, UINT64_MAX, PARALLEL, true },
        { 0, PARALLEL, UINT64_MAX, PARALLEL, true },
        { LIVE, PARALLEL, UINT64_MAX, 0, false },
        { LIVE, PARALLEL | POSTCOPY, UINT64_MAX, POSTCOPY, true },
        { LIVE | POSTCOPY, POSTCOPY | PARALLEL, UINT64_MAX, 0, true },
        { LIVE | PARALLEL, POSTCOPY | PARALLEL, UINT64_MAX, 0, true },
        { LIVE, UINT64_MAX, UINT64_MAX, POSTCOPY, true },
        { LIVE, VIR_MIGRATE_AUTO_CONVERGE, UINT64_MAX, VIR_MIGRATE_AUTO_CONVERGE, true },
        { LIVE, VIR_MIGRATE_AUTO_CONVERGE, POSTCOPY | PARALLEL, 0, true },
        { LIVE, VIR_MIGRATE_AUTO_CONVERGE | POSTCOPY, UINT64_MAX, POSTCOPY, true },
        { LIVE | POSTCOPY, VIR_MIGRATE_AUTO_CONVERGE, UINT64_MAX, 0, true },
        { LIVE | VIR_MIGRATE_AUTO_CONVERGE, VIR_MIGRATE_AUTO_CONVERGE, UINT64_MAX, 0, true },
        { 0, VIR_MIGRATE_AUTO_CONVERGE, UINT64_MAX, 0, true },
        { LIVE | VIR_MIGRATE_POSTCOPY_RESUME, VIR_MIGRATE_AUTO_CONVERGE, UINT64_MAX, 0, true },
        { LIVE, VIR_MIGRATE_UNSAFE | VIR_MIGRATE_TUNNELLED, UINT64_MAX, 0, true },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        const Asked asked = { .flags = rows[i].asked, .typed_parameters = rows[i].list };
        const Additions wanted = { .flags = rows[i].wanted };
        Additions reduced = rules_reduce(&asked, rows[i].permitted, &wanted);

        g_test_message("row %zu", i);
        g_assert_cmphex(reduced.flags, ==, rows[i].added);
    }
}

static void
test_rules_parameters(void)
{
    const Additions wanted = {
        .flags = PARALLEL,
        .bandwidth = 10,
        .bandwidth_post_copy = 20,
        .bandwidth_switchover = 30,
        .connections = 4,
    };
    const Additions huge = {
        .flags = POSTCOPY | PARALLEL,
        .bandwidth = UINT64_MAX,
        .bandwidth_post_copy = UINT64_MAX,
        .bandwidth_switchover = UINT64_MAX,
        .connections = UINT_MAX,
    };
    Asked asked = { .flags = LIVE, .typed_parameters = true };
    Additions reduced = rules_reduce(&asked, UINT64_MAX, &wanted);

    g_assert_cmpuint(reduced.bandwidth, ==, 10);
    g_assert_cmpuint(reduced.bandwidth_post_copy, ==, 0);  /* no post-copy here */
    g_assert_cmpuint(reduced.bandwidth_switchover, ==, 0); /* could not be repeated without */
    g_assert_cmpuint(reduced.connections, ==, 4);
    asked.flags = LIVE | POSTCOPY;
    reduced = rules_reduce(&asked, UINT64_MAX, &wanted);
    g_assert_cmpuint(reduced.bandwidth_post_copy, ==, 20);
    g_assert_cmpuint(reduced.connections, ==, 0);
    asked.flags = LIVE | VIR_MIGRATE_PEER2PEER;
    reduced = rules_reduce(&asked, UINT64_MAX, &wanted);
    g_assert_cmpuint(reduced.bandwidth_switchover, ==, 30);
    reduced = rules_reduce(&asked, UINT64_MAX, &huge);
    g_assert_cmpuint(reduced.bandwidth_switchover, ==, 0);
    asked.bandwidth_switchover = true;
    reduced = rules_reduce(&asked, UINT64_MAX, &wanted);
    g_assert_cmpuint(reduced.bandwidth_switchover, ==, 0);
    asked.bandwidth_switchover = false;
    asked.flags = LIVE | PARALLEL; /* the user's own: both ends have the user's number */
    reduced = rules_reduce(&asked, UINT64_MAX, &wanted);
    g_assert_cmpuint(reduced.connections, ==, 0);

    asked = (Asked){ .flags = LIVE,
                     .typed_parameters = true,
                     .bandwidth = true,
                     .bandwidth_post_copy = true,
                     .connections = true };
    reduced = rules_reduce(&asked, UINT64_MAX, &wanted);
    g_assert_cmpuint(reduced.bandwidth | reduced.bandwidth_post_copy, ==, 0);
    g_assert_cmpuint(reduced.connections, ==, 0);

    asked = (Asked){ .flags = LIVE, .typed_parameters = true };
    reduced = rules_reduce(&asked, UINT64_MAX, &huge);
    g_assert_cmpuint(reduced.bandwidth | reduced.bandwidth_post_copy, ==, 0);
    asked.rdma = true;
    g_assert_cmphex(rules_reduce(&asked, PARALLEL, &wanted).flags, ==, 0);
    asked = (Asked){ .flags = VIR_MIGRATE_OFFLINE, .typed_parameters = true };
    reduced = rules_reduce(&asked, UINT64_MAX, &wanted);
    g_assert_false(rules_adds_anything(&reduced));
}

static void
test_rules_errors(void)
{
    g_assert_true(rules_setup_error_is_repeatable(VIR_ERR_CONFIG_UNSUPPORTED));
    g_assert_true(rules_setup_error_is_repeatable(VIR_ERR_INTERNAL_ERROR));
    g_assert_false(rules_setup_error_is_repeatable(VIR_ERR_OPERATION_ABORTED));
    g_assert_false(rules_setup_error_is_repeatable(VIR_ERR_OPERATION_TIMEOUT));

    g_assert_true(rules_perform_error_is_repeatable(VIR_ERR_ARGUMENT_UNSUPPORTED, NULL));
    g_assert_true(rules_perform_error_is_repeatable(
        VIR_ERR_INTERNAL_ERROR, "internal error: unable to execute QEMU command "
                                "'migrate-set-capabilities': Postcopy is not supported"));
    /* The incoming QEMU died: plain libvirt would have failed just so. */
    g_assert_false(rules_perform_error_is_repeatable(VIR_ERR_OPERATION_FAILED,
                                                     "operation failed: domain is not running"));
    g_assert_false(rules_perform_error_is_repeatable(VIR_ERR_INTERNAL_ERROR, NULL));
    g_assert_false(rules_perform_error_is_repeatable(VIR_ERR_OPERATION_ABORTED, NULL));
    g_assert_false(rules_perform_error_is_repeatable(VIR_ERR_OPERATION_TIMEOUT, NULL));
    g_assert_false(rules_perform_error_is_repeatable(VIR_ERR_OK, NULL));
}

static void
test_records(void)
{
    Record record = { .ticket = 7, .added_flags = POSTCOPY, .budget = 100 };
    Record found = { 0 };

    g_assert_false(records_get(RECORD_SOURCE, "a", &found));
    records_put(RECORD_SOURCE, "a", &record);
    g_assert_false(records_get(RECORD_DESTINATION, "a", &found));
    g_assert_true(records_get(RECORD_SOURCE, "a", &found));
    g_assert_cmpuint(found.ticket, ==, 7);
    g_assert_cmphex(found.added_flags, ==, POSTCOPY);
    records_drop(RECORD_DESTINATION, "a", NULL);
    g_assert_true(records_get(RECORD_SOURCE, "a", &found));

    /* Full: the one that was stored longest ago gives way. */
    for (unsigned i = 0; i < RECORDS_MAXIMUM - 1; i++) {
        g_autofree char *key = g_strdup_printf("%u", i);

        records_put(RECORD_DESTINATION, key, &record);
    }
    records_put(RECORD_SOURCE, "a", &record);
    records_put(RECORD_SOURCE, "b", &record);
    g_assert_true(records_get(RECORD_SOURCE, "a", &found));
    g_assert_true(records_get(RECORD_SOURCE, "b", &found));
    g_assert_false(records_get(RECORD_DESTINATION, "0", &found));
    g_assert_true(records_get(RECORD_DESTINATION, "1", &found));

    /* What the next migration has stored meanwhile is not ours to drop. */
    g_assert_true(records_get(RECORD_SOURCE, "a", &found));
    records_put(RECORD_SOURCE, "a", &record);
    records_drop(RECORD_SOURCE, "a", &found);
    g_assert_true(records_get(RECORD_SOURCE, "a", &found));
    records_drop(RECORD_SOURCE, "a", &found);
    g_assert_false(records_get(RECORD_SOURCE, "a", &found));
    records_put(RECORD_SOURCE, "a", &record);
    records_drop(RECORD_SOURCE, "a", NULL);
    records_drop(RECORD_SOURCE, "a", NULL);
    records_drop(RECORD_SOURCE, NULL, NULL);
    records_put(RECORD_SOURCE, NULL, &record);
    g_assert_false(records_get(RECORD_SOURCE, NULL, &found));
    g_assert_false(records_get(RECORD_SOURCE, "a", &found));
}

static void
test_running_calls(void)
{
    RunningCall first, second, nameless;

    g_assert_false(running_calls_any("u1", false));
    running_call_enter(&first, "u1", "client 1");
    running_call_enter(&second, "u2", "client 1");
    running_call_enter(&nameless, NULL, NULL);
    g_assert_false(running_calls_any("", false));
    g_assert_true(running_calls_any("u1", true));
    g_assert_true(running_calls_held_by("u1", first.connection));
    g_assert_false(running_calls_held_by("u1", "client 2"));
    g_assert_false(running_calls_held_by("u1", NULL));
    /* Aborted while held: the real function is not to run. */
    g_assert_true(running_calls_abort("u1", true));
    g_assert_false(running_call_start(&first));
    /* Started: an abort of held calls comes too late. */
    g_assert_true(running_call_start(&second));
    g_assert_false(running_calls_held_by("u2", second.connection));
    g_assert_false(running_calls_abort("u2", true));
    g_assert_false(running_call_is_aborted(&second));
    g_assert_true(running_calls_abort("u2", false));
    g_assert_true(running_call_is_aborted(&second));
    running_call_leave(&second);
    running_call_leave(&first);
    running_call_leave(&first);
    running_call_leave(&nameless);
    g_assert_false(running_calls_any("u1", false));
    g_assert_null(running);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/plugin/environment", test_environment);
    g_test_add_func("/plugin/cookie/element", test_element);
    g_test_add_func("/plugin/cookie/append", test_cookie_append);
    g_test_add_func("/plugin/cookie/note", test_cookie_note);
    g_test_add_func("/plugin/domain-text", test_domain_text);
    g_test_add_func("/plugin/rules/flags", test_rules_flags);
    g_test_add_func("/plugin/rules/parameters", test_rules_parameters);
    g_test_add_func("/plugin/rules/errors", test_rules_errors);
    g_test_add_func("/plugin/records", test_records);
    g_test_add_func("/plugin/running-calls", test_running_calls);
    return g_test_run();
}
