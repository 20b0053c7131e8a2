/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The peer report: what is written is read back, what is hostile is unknown. */
#include "common/peer.h"

#include <string.h>

static PeerReport
full_report(void)
{
    PeerReport report;

    peer_report_init(&report);
    report.role = PEER_ROLE_SOURCE;
    report.qemu_version = 7002000;
    report.libvirt_version = 9000000;
    report.link_rate = 50000000;
    report.host = (TrafficRates){ true, 0, UINT64_MAX };
    report.vm = (TrafficRates){ true, 4294967296, 1 };
    report.priority_set = true;
    report.priority = PRIORITY_LOW;
    report.memory = (PeerNumber){ true, 536870912 };
    report.technique_set = true;
    report.technique = TECHNIQUE_HYBRID;
    report.post_copy_possible = true;
    report.parallel_connections = 4;
    report.sla_lower = (PeerNumber){ true, 0 };
    report.sla_upper = (PeerNumber){ true, 2 };
    return report;
}

static void
assert_same(const PeerReport *a, const PeerReport *b)
{
    g_autofree char *text_a = peer_report_to_cookie_element(a);
    g_autofree char *text_b = peer_report_to_cookie_element(b);

    g_assert_cmpstr(text_a, ==, text_b);
}

static void
test_cookie(void)
{
    const PeerReport report = full_report();
    g_autofree char *element = peer_report_to_cookie_element(&report);
    g_autofree char *cookie = g_strdup_printf(
        "<qemu-migration>\n  <name>vm</name>\n  <feature name='lockstate'/>\n%s"
        "<convoy:peer xmlns:convoy='urn:virt-convoy:peer:1' version='9'/></qemu-migration>\n",
        element);
    g_autoptr(GError) error = NULL;
    PeerReport back;

    g_assert_true(peer_report_from_cookie(cookie, -1, &back, &error));
    g_assert_no_error(error);
    assert_same(&report, &back);
    g_assert_true(back.sla_lower.valid);
    g_assert_cmpuint(back.sla_lower.value, ==, 0);
    g_assert_cmpuint(back.host.out, ==, UINT64_MAX);
    /* libvirt's length counts the NUL. */
    g_assert_true(peer_report_from_cookie(cookie, (gssize)strlen(cookie) + 1, &back, NULL));
    assert_same(&report, &back);
}

static void
test_offer(void)
{
    const PeerReport report = full_report();
    g_autofree char *element = peer_report_to_offer(&report);
    g_auto(GStrv) parts =
        g_strsplit(element, "convoy:offer xmlns:convoy=\"" PEER_OFFER_NAMESPACE "\"", 2);
    g_autofree char *stripped = g_strconcat(parts[0], "offer", parts[1], NULL);
    PeerReport back;

    g_assert_true(peer_report_from_offer(element, -1, &back, NULL));
    assert_same(&report, &back);
    /* As virDomainGetMetadata gives it. */
    g_assert_true(peer_report_from_offer(stripped, -1, &back, NULL));
    assert_same(&report, &back);
}

static void
test_unknown_is_not_zero(void)
{
    PeerReport report;
    PeerReport back;
    g_autofree char *element = NULL;

    peer_report_init(&report);
    element = peer_report_to_offer(&report);
    g_assert_true(peer_report_from_offer(element, -1, &back, NULL));
    g_assert_false(back.host.valid);
    g_assert_false(back.vm.valid);
    g_assert_false(back.sla_lower.valid);
    g_assert_false(back.memory.valid);
    g_assert_false(back.priority_set);
    g_assert_false(back.technique_set);
    g_assert_false(back.post_copy_possible);
    g_assert_cmpint(back.role, ==, PEER_ROLE_UNKNOWN);
}

/* One bad number spoils its own field only. */
static void
test_tolerance(void)
{
    PeerReport back;
    static const char xml[] =
        "<offer version='77' role='destination' host-in='1' host-out='-1' vm-in='1' "
        "link-rate='18446744073709551616' parallel-connections='9999' sla-lower='5' "
        "sla-upper='-5' memory='1e9' colour='red' priority='urgent'><more/></offer>";

    g_assert_true(peer_report_from_offer(xml, -1, &back, NULL));
    g_assert_cmpuint(back.version, ==, 77);
    g_assert_cmpint(back.role, ==, PEER_ROLE_DESTINATION);
    g_assert_false(back.host.valid);
    g_assert_false(back.vm.valid);
    g_assert_cmpuint(back.link_rate, ==, 0);
    g_assert_cmpuint(back.parallel_connections, ==, 0);
    g_assert_true(back.sla_lower.valid);
    g_assert_false(back.sla_upper.valid);
    g_assert_false(back.memory.valid);
    g_assert_false(back.priority_set);
}

static void
test_refused(void)
{
    g_autofree char *filler = g_strnfill(PEER_ELEMENT_MAXIMUM + 1, 'x');
    g_autofree char *fat = g_strdup_printf(
        "<qemu-migration><peer xmlns='urn:virt-convoy:peer:1' a='%s'/></qemu-migration>", filler);
    g_autofree char *fat_offer = g_strdup_printf("<offer a='%s'/>", filler);
    const struct {
        const char *cookie;
        int code;
    } rows[] = {
        { "", G_IO_ERROR_INVALID_DATA },
        { "<qemu-migration>", G_IO_ERROR_INVALID_DATA },
        { "<other/>", G_IO_ERROR_INVALID_DATA },
        { "<!DOCTYPE q><qemu-migration/>", G_IO_ERROR_INVALID_DATA },
        { "<qemu-migration/>", G_IO_ERROR_NOT_FOUND },
        { "<qemu-migration><peer/></qemu-migration>", G_IO_ERROR_NOT_FOUND },
        { "<qemu-migration><a><peer xmlns='urn:virt-convoy:peer:1'/></a></qemu-migration>",
          G_IO_ERROR_NOT_FOUND },
        { fat, G_IO_ERROR_INVALID_DATA },
    };
    PeerReport back = { .qemu_version = 4711 };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        g_test_message("%.60s", rows[i].cookie);
        g_assert_false(peer_report_from_cookie(rows[i].cookie, -1, &back, &error));
        g_assert_error(error, G_IO_ERROR, rows[i].code);
    }
    g_assert_false(peer_report_from_offer(fat_offer, -1, &back, NULL));
    g_assert_false(peer_report_from_offer("<x/>", -1, &back, NULL));
    g_assert_cmpuint(back.qemu_version, ==, 4711);
}

/* The valid examples are exactly what we would write; the others are not. */
static void
test_examples(void)
{
    const char *tree = g_getenv("CONVOY_TREE");
    g_autofree char *folder =
        g_build_filename(tree != NULL ? tree : ".", "xml-schemas/examples", NULL);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    unsigned seen = 0;
    const char *name;

    g_assert_nonnull(dir);
    while ((name = g_dir_read_name(dir)) != NULL) {
        const bool offer = g_str_has_prefix(name, "offer-");
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autofree char *text = NULL;
        g_autofree char *cookie = NULL;
        g_autofree char *written = NULL;
        PeerReport back;

        if (!offer && !g_str_has_prefix(name, "peer-"))
            continue;
        g_test_message("%s", name);
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_strchomp(text);
        cookie = g_strdup_printf("<qemu-migration>%s</qemu-migration>", text);
        g_assert_true(offer ? peer_report_from_offer(text, -1, &back, NULL)
                            : peer_report_from_cookie(cookie, -1, &back, NULL));
        written = offer ? peer_report_to_offer(&back) : peer_report_to_cookie_element(&back);
        if (g_str_has_suffix(name, "-invalid.xml"))
            g_assert_cmpstr(written, !=, text);
        else
            g_assert_cmpstr(written, ==, text);
        seen++;
    }
    g_assert_cmpuint(seen, >, 20);
}

static void
test_cookie_host(void)
{
    static const char head[] = "<qemu-migration><name>vm</name><hostuuid>";
    static const char tail[] = "</hostuuid></qemu-migration>";
    static const char uuid[] = "11d9de5b-5b74-4d1c-8f2f-2f1f9f6e5d0a";
    g_autofree char *one = g_strconcat(head, uuid, tail, NULL);
    g_autofree char *upper = g_ascii_strup(uuid, -1);
    g_autofree char *same = g_strconcat(head, upper, tail, NULL);
    g_autofree char *other = g_strconcat(head, "21d9de5b-5b74-4d1c-8f2f-2f1f9f6e5d0a", tail, NULL);
    g_autofree char *bad = g_strconcat(head, "x", tail, NULL);

    g_assert_cmpuint(peer_cookie_host(one, -1), !=, 0);
    g_assert_cmpuint(peer_cookie_host(one, -1), ==, peer_cookie_host(same, -1));
    g_assert_cmpuint(peer_cookie_host(one, -1), !=, peer_cookie_host(other, -1));
    g_assert_cmpuint(peer_cookie_host(bad, -1), ==, 0);
    g_assert_cmpuint(peer_cookie_host("<qemu-migration/>", -1), ==, 0);
    g_assert_cmpuint(peer_cookie_host("", -1), ==, 0);
    g_assert_cmpuint(peer_cookie_host("<a>", -1), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/common/peer/cookie-host", test_cookie_host);
    g_test_add_func("/peer/cookie", test_cookie);
    g_test_add_func("/peer/offer", test_offer);
    g_test_add_func("/peer/unknown-is-not-zero", test_unknown_is_not_zero);
    g_test_add_func("/peer/tolerance", test_tolerance);
    g_test_add_func("/peer/refused", test_refused);
    g_test_add_func("/peer/examples", test_examples);
    return g_test_run();
}
