/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Descriptions by UUID and sums of SLA limits. */
#include "daemon/registry.h"

#include <string.h>

#define MBIT (UINT64_C(1000000) / 8)

static char *
domain_xml(unsigned number, const char *bandwidth)
{
    return g_strdup_printf(
        "<domain type='kvm'><name>vm%u</name>"
        "<uuid>00000000-0000-4000-8000-%012u</uuid><memory unit='MiB'>64</memory>"
        "<metadata><convoy:domain xmlns:convoy='" DOMAIN_NAMESPACE "'><convoy:sla>"
        "<convoy:bandwidth %s unit='Mbit/s'/></convoy:sla></convoy:domain></metadata></domain>",
        number, number, bandwidth);
}

static void
put(Registry *registry, unsigned number, const char *bandwidth)
{
    g_autofree char *xml = domain_xml(number, bandwidth);
    g_autoptr(GError) error = NULL;

    g_assert_true(registry_put(registry, xml, &error));
    g_assert_no_error(error);
}

/* Numbers stay while a domain is known, and are used again when it has gone. */
static void
test_classes(void)
{
    static const char *const with_mac = "<devices><interface type='bridge'>"
                                        "<mac address='52:54:00:00:00:01'/></interface></devices>";
    g_autoptr(Registry) registry = registry_new();
    char uuid[REGISTRY_CLASSES_MAX + 3][37];

    for (unsigned i = 1; i <= REGISTRY_CLASSES_MAX + 2; i++) {
        g_autofree char *plain = domain_xml(i, i == 1 ? "upper='9'" : "lower='1'");
        g_auto(GStrv) halves = g_strsplit(plain, "</domain>", 2);
        g_autofree char *xml = g_strconcat(halves[0], i == 2 ? "" : with_mac, "</domain>", NULL);

        g_snprintf(uuid[i], sizeof uuid[i], "00000000-0000-4000-8000-%012u", i);
        g_assert_true(registry_put(registry, xml, NULL));
        if (i >= 3) {
            g_assert_cmpuint(registry_class(registry, uuid[i]), ==, i - 2);
            g_assert_true(registry_put(registry, xml, NULL)); /* the same domain again */
            g_assert_cmpuint(registry_class(registry, uuid[i]), ==, i - 2);
        }
        if (i == REGISTRY_CLASSES_MAX + 2) { /* one more, then one less */
            g_autofree char *text = domain_xml(99, "lower='1'");
            g_auto(GStrv) parts = g_strsplit(text, "</domain>", 2);
            g_autofree char *late = g_strconcat(parts[0], with_mac, "</domain>", NULL);
            const char *name = "00000000-0000-4000-8000-000000000099";

            g_assert_true(registry_put(registry, late, NULL));
            g_assert_cmpuint(registry_class(registry, name), ==, 0);
            registry_remove(registry, uuid[5]);
            g_assert_true(registry_put(registry, late, NULL));
            g_assert_cmpuint(registry_class(registry, name), ==, 3);
        }
    }
    g_assert_cmpuint(registry_class(registry, uuid[1]), ==, 0); /* no lower limit */
    g_assert_cmpuint(registry_class(registry, uuid[2]), ==, 0); /* no MAC */
    g_assert_cmpuint(registry_class(registry, "unknown"), ==, 0);
}

static bool
not_the_first(const DomainDescription *description, gconstpointer data G_GNUC_UNUSED)
{
    return strcmp(description->name, "vm1") != 0;
}

static void
test_sums(void)
{
    g_autoptr(Registry) registry = registry_new();
    g_autoptr(GPtrArray) list = NULL;
    uint64_t lower;
    uint64_t upper;

    registry_sum_limits(registry, NULL, NULL, &lower, &upper);
    g_assert_cmpuint(lower, ==, 0);
    g_assert_cmpuint(upper, ==, 0);
    put(registry, 1, "lower='100' upper='200'");
    put(registry, 2, "lower='50' upper='60'");
    registry_sum_limits(registry, NULL, NULL, &lower, &upper);
    g_assert_cmpuint(lower, ==, 150 * MBIT);
    g_assert_cmpuint(upper, ==, 260 * MBIT);
    registry_sum_limits(registry, not_the_first, NULL, &lower, &upper);
    g_assert_cmpuint(lower, ==, 50 * MBIT);
    g_assert_cmpuint(upper, ==, 60 * MBIT);
    /* One without an upper limit: the sum has none. */
    put(registry, 3, "lower='10'");
    registry_sum_limits(registry, NULL, NULL, &lower, &upper);
    g_assert_cmpuint(lower, ==, 160 * MBIT);
    g_assert_cmpuint(upper, ==, 0);
    list = registry_list(registry);
    g_assert_cmpuint(list->len, ==, 3);
}

static void
test_replace_and_remove(void)
{
    g_autoptr(Registry) registry = registry_new();
    g_autoptr(DomainDescription) copy = NULL;
    const char *uuid = "00000000-0000-4000-8000-000000000001";
    uint64_t lower;
    uint64_t upper;

    put(registry, 1, "lower='100' upper='200'");
    put(registry, 1, "lower='70' upper='80'");
    registry_sum_limits(registry, NULL, NULL, &lower, &upper);
    g_assert_cmpuint(lower, ==, 70 * MBIT);
    copy = registry_copy(registry, uuid);
    registry_remove(registry, uuid);
    g_assert_null(registry_copy(registry, uuid));
    g_assert_cmpuint(copy->metadata.sla_upper, ==, 80 * MBIT);
}

/* While all are listed anew, what was known counts; what is not listed again goes then. */
static void
test_listed_anew(void)
{
    g_autoptr(Registry) registry = registry_new();
    const char *uuid = "00000000-0000-4000-8000-000000000002";
    unsigned number;
    uint64_t lower;
    uint64_t upper;

    put(registry, 1, "lower='100'");
    put(registry, 2, "lower='50'");
    number = registry_class(registry, uuid);
    registry_begin(registry);
    put(registry, 2, "lower='40'");
    put(registry, 3, "lower='1'");
    registry_sum_limits(registry, NULL, NULL, &lower, &upper);
    g_assert_cmpuint(lower, ==, 141 * MBIT);
    /* The list did not come to its end, and is asked for once more. */
    registry_begin(registry);
    put(registry, 2, "lower='40'");
    registry_end(registry);
    registry_sum_limits(registry, NULL, NULL, &lower, &upper);
    g_assert_cmpuint(lower, ==, 40 * MBIT);
    g_assert_cmpuint(registry_class(registry, uuid), ==, number);
    registry_end(registry);
    registry_sum_limits(registry, NULL, NULL, &lower, &upper);
    g_assert_cmpuint(lower, ==, 40 * MBIT);
}

static void
test_unusable(void)
{
    static const char *const texts[] = { "", "<domain", "<network/>",
                                         "<domain><name>a</name></domain>" };
    g_autoptr(Registry) registry = registry_new();

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(registry_put(registry, texts[i], &error));
        g_assert_nonnull(error);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/registry/sums", test_sums);
    g_test_add_func("/registry/replace-and-remove", test_replace_and_remove);
    g_test_add_func("/registry/listed-anew", test_listed_anew);
    g_test_add_func("/registry/classes", test_classes);
    g_test_add_func("/registry/unusable", test_unusable);
    return g_test_run();
}
