/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Domain XML, its metadata and the offer in it. The examples under
 * xml-schemas/ are read here too: parser and schema agree on each.
 */
#include "common/domain.h"

#include <string.h>

#include "common/domain_offer.h"
#include "common/peer.h"

#define HEAD "<domain type='kvm'><name>vm</name>"

static const char guest[] =
    "<domain type='kvm' id='3'>\n"
    "  <name>web-1</name>\n"
    "  <uuid>C7A5FDBD-EDAF-9455-926A-D65C16DB1809</uuid>\n"
    "  <metadata>\n"
    "    <other:x xmlns:other='urn:other'>&lt;metadata&gt;</other:x>\n"
    "    <convoy:domain xmlns:convoy='urn:virt-convoy:domain:1'>\n"
    "      <convoy:priority>high</convoy:priority>\n"
    "      <convoy:sla><convoy:bandwidth lower='100' upper='200' unit='Mbit/s'/>\n"
    "        <convoy:downtime maximum='300' unit='ms'/></convoy:sla>\n"
    "      <convoy:technique allow='pre-copy hybrid'/>\n"
    "      <convoy:deadline unit='s'>120</convoy:deadline>\n"
    "    </convoy:domain>\n"
    "  </metadata>\n"
    "  <memory unit='KiB'>524288</memory>\n"
    "  <currentMemory>262144</currentMemory>\n"
    "  <vcpu placement='static'>2</vcpu>\n"
    "  <devices>\n"
    "    <disk type='file' device='disk'/><disk type='file' device='cdrom'/>\n"
    "    <interface type='bridge'><mac address='52:54:00:11:22:33'/>\n"
    "      <source bridge='br0'/><target dev='vnet4'/></interface>\n"
    "    <interface type='network'><source network='default'/>\n"
    "      <target dev='../../evil'/></interface>\n"
    "  </devices>\n"
    "</domain>\n";

static DomainDescription *
parse(const char *xml)
{
    g_autoptr(GError) error = NULL;
    DomainDescription *description = domain_description_parse(xml, -1, &error);

    g_assert_no_error(error);
    return description;
}

static void
test_description(void)
{
    g_autoptr(DomainDescription) description = parse(guest);
    const DomainMetadata *metadata = &description->metadata;
    const DomainInterface *interface;

    g_assert_cmpstr(description->name, ==, "web-1");
    g_assert_cmpstr(description->uuid, ==, "c7a5fdbd-edaf-9455-926a-d65c16db1809");
    g_assert_cmpuint(description->memory, ==, 536870912);
    g_assert_cmpuint(description->current_memory, ==, 268435456);
    g_assert_cmpuint(description->disks, ==, 2);
    g_assert_null(description->post_copy_obstacle);
    g_assert_cmpuint(description->interfaces->len, ==, 2);
    interface = description->interfaces->pdata[0];
    g_assert_cmpstr(interface->device, ==, "vnet4");
    g_assert_cmpstr(interface->mac, ==, "52:54:00:11:22:33");
    g_assert_cmpstr(interface->source, ==, "br0");
    interface = description->interfaces->pdata[1];
    g_assert_null(interface->device);
    g_assert_cmpstr(interface->source, ==, "default");
    g_assert_true(description->has_metadata);
    g_assert_cmpuint(description->warnings->len, ==, 0);
    g_assert_true(metadata->priority_set);
    g_assert_cmpint(metadata->priority, ==, PRIORITY_HIGH);
    g_assert_cmpuint(metadata->sla_lower, ==, 12500000);
    g_assert_cmpuint(metadata->sla_upper, ==, 25000000);
    g_assert_cmpuint(metadata->maximum_downtime, ==, 300);
    g_assert_cmpuint(metadata->techniques, ==, TECHNIQUE_ALLOW_PRE_COPY | TECHNIQUE_ALLOW_HYBRID);
    g_assert_cmpuint(metadata->deadline, ==, 120000);
}

static void
test_minimal(void)
{
    g_autoptr(DomainDescription) description = parse("<domain><name>x</name></domain>");

    g_assert_null(description->uuid);
    g_assert_cmpuint(description->memory, ==, 0);
    g_assert_false(description->has_metadata);
    g_assert_cmpint(description->metadata.priority, ==, PRIORITY_MEDIUM);
    g_assert_cmpuint(description->metadata.techniques, ==, TECHNIQUE_ALLOW_ALL);
}

/* A bridge or a tap that is named like a command or a way out of a folder is none. */
static void
test_interface_names(void)
{
    static const struct {
        const char *escaped;
        const char *expected; /* NULL: no such bridge or tap is known */
    } rows[] = {
        { "br0", "br0" }, { "../../x", NULL },   { "&quot;; rm -rf /", NULL },
        { "a b", NULL },  { "br0&#10;x", NULL }, { "", NULL },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *xml =
            g_strdup_printf(HEAD "<devices><interface type='bridge'><source bridge='%s'/>"
                                 "<target dev='%s'/></interface></devices></domain>",
                            rows[i].escaped, rows[i].escaped);
        g_autoptr(DomainDescription) description = parse(xml);
        const DomainInterface *interface;

        g_assert_cmpuint(description->interfaces->len, ==, 1);
        interface = description->interfaces->pdata[0];
        g_assert_cmpstr(interface->source, ==, rows[i].expected);
        g_assert_cmpstr(interface->device, ==, rows[i].expected);
    }
}

static void
test_post_copy_obstacles(void)
{
    static const struct {
        const char *xml;
        const char *obstacle; /* whole, or NULL */
    } rows[] = {
        { HEAD "</domain>", NULL },
        { HEAD "<memoryBacking><hugepages/></memoryBacking></domain>", "memory uses huge pages" },
        { HEAD "<memoryBacking><source type='file'/></memoryBacking></domain>",
          "memory is backed by a file" },
        { HEAD "<memoryBacking><source type='memfd'/></memoryBacking></domain>",
          "memory is backed by a memfd" },
        { HEAD "<memoryBacking><source type='anonymous'/></memoryBacking></domain>", NULL },
        { HEAD "<memoryBacking><access mode='shared'/></memoryBacking></domain>",
          "memory is shared" },
        { HEAD "<memoryBacking><access mode='private'/></memoryBacking></domain>", NULL },
        { HEAD "<memoryBacking><locked/></memoryBacking></domain>", "memory is locked" },
        { HEAD "<memoryBacking><nosharepages/></memoryBacking></domain>", NULL },
        { HEAD "<launchSecurity type='sev'/></domain>",
          "guest memory is encrypted (launchSecurity)" },
        { HEAD "<cpu><numa><cell id='0' memAccess='shared'/></numa></cpu></domain>",
          "memory is shared (numa cell)" },
        { HEAD "<cpu><numa><cell id='0' memAccess='private'/></numa></cpu></domain>", NULL },
        { HEAD "<devices><hostdev mode='subsystem' type='pci'/></devices></domain>",
          "a host device is assigned (hostdev)" },
        { HEAD "<devices><hostdev mode='subsystem' type='mdev'/></devices></domain>",
          "a host device is assigned (hostdev)" },
        { HEAD "<devices><interface type='hostdev'/></devices></domain>",
          "a host device is assigned (interface type hostdev)" },
        { HEAD "<devices><interface type='vhostuser'/></devices></domain>",
          "an interface is served by vhost-user" },
        { HEAD "<devices><interface type='vdpa'/></devices></domain>",
          "an interface is served by vDPA" },
        { HEAD "<devices><interface type='bridge'/></devices></domain>", NULL },
        { HEAD "<devices><disk type='vhostuser'/></devices></domain>",
          "a disk is served by vhost-user or vDPA" },
        { HEAD "<devices><disk type='vhostvdpa'/></devices></domain>",
          "a disk is served by vhost-user or vDPA" },
        { HEAD "<devices><filesystem type='mount'/></devices></domain>",
          "a file system is shared with the host" },
        { HEAD "<devices><shmem name='s'/></devices></domain>",
          "memory is shared with the host (shmem)" },
        { HEAD "<devices><video><driver name='vhostuser'/></video></devices></domain>",
          "video is served by vhost-user" },
        { HEAD "<devices><video><driver name='qemu'/></video></devices></domain>", NULL },
        { HEAD "<devices><memory model='nvdimm'/></devices></domain>",
          "a memory device is not plain memory (nvdimm, virtio-mem, ...)" },
        { HEAD "<devices><memory model='virtio-mem'/></devices></domain>",
          "a memory device is not plain memory (nvdimm, virtio-mem, ...)" },
        { HEAD "<devices><memory model='dimm'/></devices></domain>", NULL },
        { HEAD "<devices><memory model='dimm'><source><pagesize>2048</pagesize></source>"
               "</memory></devices></domain>",
          "a memory device uses huge pages" },
        { "<domain xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><name>v</name>"
          "<q:commandline><q:arg value='-mem-path'/></q:commandline></domain>",
          "QEMU arguments (qemu:commandline) change memory or devices" },
        /* All of them, each once. */
        { HEAD "<memoryBacking><hugepages/><locked/><access mode='shared'/></memoryBacking>"
               "<devices><hostdev/><interface type='vhostuser'/><hostdev/>"
               "<interface type='vhostuser'/></devices></domain>",
          "memory uses huge pages; memory is shared; memory is locked; "
          "a host device is assigned (hostdev); an interface is served by vhost-user" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(DomainDescription) description = parse(rows[i].xml);

        g_test_message("%s", rows[i].xml);
        g_assert_cmpstr(description->post_copy_obstacle, ==, rows[i].obstacle);
    }
}

static char *
nested(unsigned depth)
{
    GString *xml = g_string_new(HEAD);

    for (unsigned i = 0; i < depth; i++)
        g_string_append(xml, "<a>");
    for (unsigned i = 0; i < depth; i++)
        g_string_append(xml, "</a>");
    g_string_append(xml, "</domain>");
    return g_string_free(xml, FALSE);
}

static void
test_refused(void)
{
    g_autofree char *deep = nested(DOMAIN_XML_DEPTH_MAXIMUM + 1);
    g_autofree char *filler = g_strnfill(DOMAIN_XML_MAXIMUM, ' ');
    g_autofree char *long_xml = g_strconcat(HEAD, filler, "</domain>", NULL);
    const char *rows[] = {
        "",
        "rubbish",
        "<domain>",
        "<domain/>",
        "<guest><name>x</name></guest>",
        "<!DOCTYPE d [<!ENTITY a 'b'>]><domain><name>&a;</name></domain>",
        "<!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain><name>x</name></domain>",
        "<domain><name>&undefined;</name></domain>",
        "<domain><name>\xff\xfe</name></domain>",
        deep,
        long_xml,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        g_test_message("%.60s", rows[i]);
        g_assert_null(domain_description_parse(rows[i], -1, &error));
        g_assert_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA);
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
    }
}

/* Bad metadata costs a warning with its line, never the description. */
static void
test_bad_metadata(void)
{
    g_autoptr(DomainDescription) description =
        parse("<domain><name>x</name>\n<metadata>\n"
              "<c:domain xmlns:c='urn:virt-convoy:domain:1'>\n"
              "<c:priority>urgent</c:priority>\n"
              "<c:sla><c:bandwidth lower='200' upper='100' unit='Mbit/s'/></c:sla>\n"
              "</c:domain></metadata></domain>");

    g_assert_cmpuint(description->warnings->len, ==, 2);
    g_assert_true(
        g_str_has_prefix(description->warnings->pdata[0], "line 4: priority: \"urgent\""));
    g_assert_true(g_str_has_prefix(description->warnings->pdata[1], "line 5: bandwidth: "));
    g_assert_false(description->metadata.priority_set);
    g_assert_cmpuint(description->metadata.sla_lower, ==, 25000000);
    g_assert_cmpuint(description->metadata.sla_upper, ==, 0);
}

static void
test_misspelt_root(void)
{
    g_autoptr(DomainDescription) description =
        parse("<domain><name>x</name><metadata><domian xmlns='urn:virt-convoy:domain:1'/>"
              "</metadata></domain>");

    g_assert_cmpuint(description->warnings->len, ==, 1);
    g_assert_false(description->has_metadata);
}

static void
test_metadata_round_trip(void)
{
    const DomainMetadata rows[] = {
        { .priority = PRIORITY_MEDIUM, .techniques = TECHNIQUE_ALLOW_ALL },
        { true, PRIORITY_HIGH, 12500000, 25000000, 300, true, TECHNIQUE_ALLOW_HYBRID, 120000 },
        { true, PRIORITY_LOW, 1, 0, 0, false, TECHNIQUE_ALLOW_ALL, 1500 },
        { false, PRIORITY_MEDIUM, 0, 4294967297, 2000000, true, TECHNIQUE_ALLOW_ALL, 0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        for (int plain = 0; plain <= 1; plain++) {
            g_autofree char *xml = domain_metadata_to_xml(&rows[i], plain);
            g_autofree char *again = NULL;
            g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
            DomainMetadata back;

            g_assert_true(domain_metadata_parse(xml, -1, &back, warnings, NULL));
            g_assert_cmpuint(warnings->len, ==, 0);
            again = domain_metadata_to_xml(&back, plain);
            g_assert_cmpstr(again, ==, xml);
            g_assert_cmpuint(back.sla_lower, ==, rows[i].sla_lower);
            g_assert_cmpuint(back.sla_upper, ==, rows[i].sla_upper);
            g_assert_cmpuint(back.deadline, ==, rows[i].deadline);
        }
    }
}

/* The schema's examples: valid ones without a warning, the others with one. */
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
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autofree char *text = NULL;
        g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
        DomainMetadata metadata;

        if (!g_str_has_prefix(name, "domain-"))
            continue;
        g_test_message("%s", name);
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_assert_true(domain_metadata_parse(text, -1, &metadata, warnings, NULL));
        g_assert_true((warnings->len > 0) == g_str_has_suffix(name, "-invalid.xml"));
        seen++;
    }
    g_assert_cmpuint(seen, >, 12);
}

static char *
offer_make(uint64_t memory)
{
    PeerReport report;

    peer_report_init(&report);
    report.role = PEER_ROLE_DESTINATION;
    report.memory = (PeerNumber){ true, memory };
    return peer_report_to_offer(&report);
}

/* In and out again leaves every byte as it was. */
static void
test_offer_round_trip(void)
{
    static const char *const rows[] = {
        guest,
        "<domain><name>x</name></domain>",
        "<?xml version='1.0'?>\n<!-- <metadata> -->\n<domain\ttype = 'kvm' a='>'>\r\n"
        "<name>x</name><!-- </domain> --><description><![CDATA[<metadata></domain>]]>"
        "</description>\n<metadata >\n <a xmlns='urn:a' b='/>'/>\n</metadata\n>\n</domain >\n",
        "<domain><metadata><a><offer/></a></metadata><devices><metadata/></devices></domain>",
        "<domain><title>\xc3\xa4&#228;&amp;</title></domain>",
    };
    g_autofree char *offer = offer_make(1);
    g_autofree char *other = offer_make(2);

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *with = domain_offer_insert(rows[i], offer, &error);
        g_autofree char *replaced = NULL;
        g_autofree char *without = NULL;
        g_autofree char *untouched = NULL;

        g_test_message("%s", rows[i]);
        g_assert_no_error(error);
        g_assert_nonnull(strstr(with, offer));
        g_assert_cmpuint(strlen(with), >=, strlen(rows[i]) + strlen(offer));
        replaced = domain_offer_insert(with, other, &error);
        g_assert_no_error(error);
        g_assert_null(strstr(replaced, offer));
        g_assert_nonnull(strstr(replaced, other));
        without = domain_offer_remove(replaced, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(without, ==, rows[i]);
        untouched = domain_offer_remove(rows[i], &error);
        g_assert_cmpstr(untouched, ==, rows[i]);
    }
}

/* An empty <metadata/> is used; libvirt does not tell it from none. */
static void
test_offer_empty_metadata(void)
{
    g_autofree char *offer = offer_make(1);
    g_autofree char *with = domain_offer_insert("<domain><metadata/></domain>", offer, NULL);
    g_autofree char *expected =
        g_strconcat("<domain><metadata>", offer, "</metadata></domain>", NULL);
    g_autofree char *prefixed = domain_offer_remove(
        "<domain><metadata>a<o:offer xmlns:o='urn:virt-convoy:offer:1'>\n<b/></o:offer>z"
        "</metadata></domain>",
        NULL);

    g_assert_cmpstr(with, ==, expected);
    g_assert_cmpstr(prefixed, ==, "<domain><metadata>az</metadata></domain>");
}

static void
test_offer_refused(void)
{
    g_autofree char *offer = offer_make(1);
    g_autofree char *declared = g_strconcat("<?xml version='1.0'?>", offer, NULL);
    static const char good[] = "<domain><name>x</name></domain>";
    const struct {
        const char *xml;
        const char *offer;
    } rows[] = {
        { "", offer },
        { "<domain", offer },
        { "<domain/>", offer },
        { "<network/>", offer },
        { "<!DOCTYPE domain><domain></domain>", offer },
        { good, "" },
        { good, "<offer" },
        { good, "</metadata>" },
        { good, "<peer/>" },
        { good, declared },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(domain_offer_insert(rows[i].xml, rows[i].offer, &error));
        g_assert_nonnull(error);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domain/description", test_description);
    g_test_add_func("/domain/minimal", test_minimal);
    g_test_add_func("/domain/interface-names", test_interface_names);
    g_test_add_func("/domain/post-copy-obstacles", test_post_copy_obstacles);
    g_test_add_func("/domain/refused", test_refused);
    g_test_add_func("/domain/bad-metadata", test_bad_metadata);
    g_test_add_func("/domain/misspelt-root", test_misspelt_root);
    g_test_add_func("/domain/metadata-round-trip", test_metadata_round_trip);
    g_test_add_func("/domain/examples", test_examples);
    g_test_add_func("/domain/offer-round-trip", test_offer_round_trip);
    g_test_add_func("/domain/offer-empty-metadata", test_offer_empty_metadata);
    g_test_add_func("/domain/offer-refused", test_offer_refused);
    return g_test_run();
}
