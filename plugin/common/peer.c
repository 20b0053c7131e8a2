/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The report between the two ends. Only attributes, only numbers and fixed
 * words: nothing needs escaping, and a reader of another version finds what it
 * knows.
 */
#include "common/peer.h"

#include <string.h>

#include "common/units.h"
#include "common/xml.h"

#define DEPTH_MAXIMUM 64u

void
peer_report_init(PeerReport *report)
{
    *report = (PeerReport){
        .version = PEER_VERSION,
        .priority = PRIORITY_MEDIUM,
    };
}

static void
number_append(GString *out, const char *name, bool valid, uint64_t value)
{
    if (valid)
        g_string_append_printf(out, " %s=\"%" G_GUINT64_FORMAT "\"", name, value);
}

static void
word_append(GString *out, const char *name, const char *word)
{
    if (word != NULL)
        g_string_append_printf(out, " %s=\"%s\"", name, word);
}

static const char *
role_to_string(PeerRole role)
{
    switch (role) {
    case PEER_ROLE_SOURCE:
        return "source";
    case PEER_ROLE_DESTINATION:
        return "destination";
    case PEER_ROLE_UNKNOWN:
        return NULL;
    }
    return NULL;
}

static char *
report_to_xml(const PeerReport *report, const char *name, const char *ns)
{
    g_autoptr(GString) out = g_string_sized_new(512);

    g_string_append_printf(out, "<convoy:%s xmlns:convoy=\"%s\" version=\"%u\"", name, ns,
                           report->version);
    word_append(out, "role", role_to_string(report->role));
    number_append(out, "qemu-version", report->qemu_version != 0, report->qemu_version);
    number_append(out, "libvirt-version", report->libvirt_version != 0, report->libvirt_version);
    number_append(out, "link-rate", report->link_rate != 0, report->link_rate);
    number_append(out, "host-in", report->host.valid, report->host.in);
    number_append(out, "host-out", report->host.valid, report->host.out);
    number_append(out, "vm-in", report->vm.valid, report->vm.in);
    number_append(out, "vm-out", report->vm.valid, report->vm.out);
    if (report->priority_set)
        word_append(out, "priority", priority_to_string(report->priority));
    number_append(out, "memory", report->memory.valid, report->memory.value);
    if (report->technique_set)
        word_append(out, "technique", technique_to_string(report->technique));
    word_append(out, "post-copy", report->post_copy_possible ? "yes" : "no");
    number_append(out, "parallel-connections", report->parallel_connections != 0,
                  report->parallel_connections);
    number_append(out, "sla-lower", report->sla_lower.valid, report->sla_lower.value);
    number_append(out, "sla-upper", report->sla_upper.valid, report->sla_upper.value);
    g_string_append(out, "/>");
    return g_string_free(g_steal_pointer(&out), FALSE);
}

char *
peer_report_to_cookie_element(const PeerReport *report)
{
    return report_to_xml(report, "peer", PEER_NAMESPACE);
}

char *
peer_report_to_offer(const PeerReport *report)
{
    return report_to_xml(report, "offer", PEER_OFFER_NAMESPACE);
}

static PeerNumber
number_read(const xmlNode *node, const char *name, uint64_t maximum)
{
    g_autofree char *text = xml_attribute(node, name);
    PeerNumber number = { false, 0 };

    number.valid = units_parse_number(text, 0, maximum, &number.value, NULL);
    return number;
}

/* For fields whose 0 says "unknown". */
static unsigned
small_number_read(const xmlNode *node, const char *name, unsigned maximum)
{
    PeerNumber number = number_read(node, name, maximum);

    return number.valid ? (unsigned)number.value : 0;
}

/* One direction without the other decides nothing, so it is unknown. */
static TrafficRates
rates_read(const xmlNode *node, const char *in_name, const char *out_name)
{
    PeerNumber in = number_read(node, in_name, UINT64_MAX);
    PeerNumber out = number_read(node, out_name, UINT64_MAX);

    if (!in.valid || !out.valid)
        return (TrafficRates){ .valid = false };
    return (TrafficRates){ .valid = true, .in = in.value, .out = out.value };
}

static bool
word_is(const xmlNode *node, const char *name, const char *expected)
{
    g_autofree char *text = xml_attribute(node, name);

    return text != NULL && strcmp(text, expected) == 0;
}

static void
report_read(const xmlNode *node, PeerReport *ret_report)
{
    g_autofree char *priority = xml_attribute(node, "priority");
    g_autofree char *technique = xml_attribute(node, "technique");
    PeerReport report;

    peer_report_init(&report);
    report.version = small_number_read(node, "version", UINT32_MAX);
    if (word_is(node, "role", "source"))
        report.role = PEER_ROLE_SOURCE;
    else if (word_is(node, "role", "destination"))
        report.role = PEER_ROLE_DESTINATION;
    report.qemu_version = small_number_read(node, "qemu-version", UINT32_MAX);
    report.libvirt_version = small_number_read(node, "libvirt-version", UINT32_MAX);
    report.link_rate = number_read(node, "link-rate", UINT64_MAX).value;
    report.host = rates_read(node, "host-in", "host-out");
    report.vm = rates_read(node, "vm-in", "vm-out");
    report.priority_set = priority_from_string(priority, &report.priority);
    report.memory = number_read(node, "memory", UINT64_MAX);
    report.technique_set = technique_from_string(technique, &report.technique);
    report.post_copy_possible = word_is(node, "post-copy", "yes");
    report.parallel_connections =
        small_number_read(node, "parallel-connections", PEER_CONNECTIONS_MAXIMUM);
    report.sla_lower = number_read(node, "sla-lower", UINT64_MAX);
    report.sla_upper = number_read(node, "sla-upper", UINT64_MAX);
    *ret_report = report;
}

/* Attributes that would not fit PEER_ELEMENT_MAXIMUM are not ours. */
static bool
element_within_limit(const xmlNode *node)
{
    size_t size = 0;

    for (const xmlAttr *attribute = node->properties; attribute != NULL;
         attribute = attribute->next) {
        for (const xmlNode *text = attribute->children; text != NULL; text = text->next)
            size += text->content != NULL ? strlen((const char *)text->content) : 0;
        size += strlen((const char *)attribute->name);
        if (size > PEER_ELEMENT_MAXIMUM)
            return false;
    }
    return true;
}

bool
peer_report_from_cookie(const char *cookie, gssize length, PeerReport *ret_report, GError **error)
{
    g_autoptr(xmlDoc) document =
        xml_document_read(cookie, length, PEER_COOKIE_MAXIMUM, DEPTH_MAXIMUM, error);
    const xmlNode *root;

    if (document == NULL)
        return false;
    root = xmlDocGetRootElement(document);
    if (!xml_is_element(root, NULL, "qemu-migration")) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "migration cookie: root element is <%.40s>, not <qemu-migration>",
                    (const char *)root->name);
        return false;
    }
    for (const xmlNode *node = root->children; node != NULL; node = node->next) {
        if (!xml_is_element(node, PEER_NAMESPACE, "peer"))
            continue;
        if (!element_within_limit(node)) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                        "migration cookie: <peer> is longer than %u bytes", PEER_ELEMENT_MAXIMUM);
            return false;
        }
        report_read(node, ret_report);
        return true;
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                "migration cookie: no element of virt-convoy");
    return false;
}

bool
peer_report_from_offer(const char *element, gssize length, PeerReport *ret_report, GError **error)
{
    g_autoptr(xmlDoc) document =
        xml_document_read(element, length, PEER_ELEMENT_MAXIMUM, DEPTH_MAXIMUM, error);
    const xmlNode *root;

    if (document == NULL)
        return false;
    root = xmlDocGetRootElement(document);
    if (!xml_is_element(root, PEER_OFFER_NAMESPACE, "offer") &&
        !xml_is_element(root, "", "offer")) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    "offer: <%.40s> is not an <offer> of virt-convoy", (const char *)root->name);
        return false;
    }
    report_read(root, ret_report);
    return true;
}

uint64_t
peer_cookie_host(const char *cookie, gssize length)
{
    g_autoptr(xmlDoc) document =
        xml_document_read(cookie, length, PEER_COOKIE_MAXIMUM, DEPTH_MAXIMUM, NULL);
    const xmlNode *root = document != NULL ? xmlDocGetRootElement(document) : NULL;
    g_autofree char *uuid = NULL;
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */

    if (!xml_is_element(root, NULL, "qemu-migration"))
        return 0;
    uuid = xml_content(xml_child(root, "hostuuid"));
    if (uuid == NULL || !g_uuid_string_is_valid(uuid))
        return 0;
    for (const char *p = uuid; *p != '\0'; p++)
        hash = (hash ^ (uint64_t)(unsigned char)g_ascii_tolower(*p)) * UINT64_C(1099511628211);
    return hash != 0 ? hash : 1;
}
