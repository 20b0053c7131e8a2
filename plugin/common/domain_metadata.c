/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Our own element in a domain's metadata. It has the meaning that
 * xml-schemas/domain.rng gives it; whatever departs from the schema is told in
 * a warning, and only that one value is left out.
 */
#include "common/domain_private.h"

#include <string.h>

#include "common/units.h"
#include "common/xml.h"

#define RATE_MAXIMUM UINT64_C(1250000000000) /* 10 Tbit/s */
#define DOWNTIME_MAXIMUM UINT64_C(2000000)   /* ms, libvirt's own limit */
#define DEADLINE_MINIMUM UINT64_C(1000)      /* ms */
#define DEADLINE_MAXIMUM UINT64_C(604800000) /* ms, a week */

static void G_GNUC_PRINTF(3, 4)
    warn(GPtrArray *warnings, const xmlNode *node, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list arguments;

    if (warnings == NULL || warnings->len >= DOMAIN_WARNINGS_MAXIMUM)
        return;
    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    g_ptr_array_add(warnings, g_strdup_printf("line %ld: %.40s: %.400s", xmlGetLineNo(node),
                                              (const char *)node->name, text));
}

/* Misspelt attributes would otherwise be silently without effect. */
static void
attributes_check(const xmlNode *node, const char *const *known, GPtrArray *warnings)
{
    for (const xmlAttr *attribute = node->properties; attribute != NULL;
         attribute = attribute->next) {
        if (attribute->ns == NULL && !g_strv_contains(known, (const char *)attribute->name))
            warn(warnings, node, "unknown attribute \"%.40s\"; ignored",
                 (const char *)attribute->name);
    }
}

/* The rate in an attribute; false when it is absent or bad. */
static bool
rate_read(const xmlNode *node, const char *name, const char *unit, uint64_t *ret_rate,
          GPtrArray *warnings)
{
    g_autofree char *value = xml_attribute(node, name);
    g_autoptr(GError) error = NULL;
    uint64_t rate;

    if (value == NULL)
        return false;
    if (!units_parse_rate_value(value, unit, &rate, &error)) {
        warn(warnings, node, "%s: %s; ignored", name, error->message);
        return false;
    }
    if (rate > RATE_MAXIMUM) {
        warn(warnings, node, "%s: \"%.40s\" is above 10 Tbit/s; ignored", name, value);
        return false;
    }
    *ret_rate = rate;
    return true;
}

static void
bandwidth_read(const xmlNode *node, DomainMetadata *metadata, GPtrArray *warnings)
{
    static const char *const known[] = { "lower", "upper", "unit", NULL };
    g_autofree char *unit = xml_attribute(node, "unit");
    uint64_t lower = 0;
    uint64_t upper = 0;
    bool any;

    attributes_check(node, known, warnings);
    any = rate_read(node, "lower", unit, &lower, warnings);
    any |= rate_read(node, "upper", unit, &upper, warnings);
    if (!any && !xmlHasProp(node, (const xmlChar *)"lower") &&
        !xmlHasProp(node, (const xmlChar *)"upper"))
        warn(warnings, node, "has neither \"lower\" nor \"upper\"");
    if (upper != 0 && upper < lower) {
        warn(warnings, node, "\"upper\" is below \"lower\"; \"upper\" ignored");
        upper = 0;
    }
    metadata->sla_lower = lower;
    metadata->sla_upper = upper;
}

static void
downtime_read(const xmlNode *node, DomainMetadata *metadata, GPtrArray *warnings)
{
    static const char *const known[] = { "maximum", "unit", NULL };
    g_autofree char *value = xml_attribute(node, "maximum");
    g_autofree char *unit = xml_attribute(node, "unit");
    g_autoptr(GError) error = NULL;
    uint64_t downtime;

    attributes_check(node, known, warnings);
    if (!units_parse_duration_value(value, unit, "ms", &downtime, &error))
        warn(warnings, node, "maximum: %s; ignored", error->message);
    else if (downtime < 1 || downtime > DOWNTIME_MAXIMUM)
        warn(warnings, node, "maximum: \"%.40s\" is not between 1 ms and 2000 s; ignored", value);
    else
        metadata->maximum_downtime = downtime;
}

/* What may stand once inside an element; reads one child. */
typedef struct {
    const char *name;
    void (*read)(const xmlNode *node, DomainMetadata *metadata, GPtrArray *warnings);
} Child;

static void
children_read(const xmlNode *parent, const Child *children, DomainMetadata *metadata,
              GPtrArray *warnings)
{
    unsigned seen = 0;

    for (const xmlNode *node = parent->children; node != NULL; node = node->next) {
        size_t i = 0;

        /* Another namespace inside ours is somebody's extension: not for us. */
        if (node->type != XML_ELEMENT_NODE ||
            strcmp(xml_namespace(node), xml_namespace(parent)) != 0)
            continue;
        while (children[i].name != NULL && strcmp(children[i].name, (const char *)node->name) != 0)
            i++;
        if (children[i].name == NULL) {
            warn(warnings, node, "unknown element; ignored");
        } else if ((seen & (1u << i)) != 0) {
            warn(warnings, node, "stands more than once; the first counts");
        } else {
            seen |= 1u << i;
            children[i].read(node, metadata, warnings);
        }
    }
}

static void
priority_read(const xmlNode *node, DomainMetadata *metadata, GPtrArray *warnings)
{
    static const char *const known[] = { NULL };
    g_autofree char *text = xml_content(node);

    attributes_check(node, known, warnings);
    if (text != NULL && priority_from_string(text, &metadata->priority))
        metadata->priority_set = true;
    else
        warn(warnings, node, "\"%.40s\" is not low, medium or high; using the default",
             text != NULL ? text : "");
}

static void
sla_read(const xmlNode *node, DomainMetadata *metadata, GPtrArray *warnings)
{
    static const char *const known[] = { NULL };
    static const Child children[] = {
        { "bandwidth", bandwidth_read },
        { "downtime", downtime_read },
        { NULL, NULL },
    };

    attributes_check(node, known, warnings);
    children_read(node, children, metadata, warnings);
}

static void
technique_read(const xmlNode *node, DomainMetadata *metadata, GPtrArray *warnings)
{
    static const char *const known[] = { "allow", NULL };
    g_autofree char *text = xml_attribute(node, "allow");
    g_auto(GStrv) names = g_strsplit_set(text != NULL ? text : "", " \t\r\n", 64);
    unsigned set = 0;

    attributes_check(node, known, warnings);
    for (size_t i = 0; names[i] != NULL; i++) {
        Technique technique;

        if (*names[i] == '\0')
            continue;
        if (technique_from_string(names[i], &technique))
            set |= 1u << technique;
        else
            warn(warnings, node,
                 "allow: \"%.40s\" is not pre-copy, post-copy or hybrid; "
                 "ignored",
                 names[i]);
    }
    if (set == 0) {
        warn(warnings, node, "allow: names no technique; all are allowed");
        return;
    }
    metadata->techniques = (TechniqueSet)set;
    metadata->techniques_set = true;
}

static void
deadline_read(const xmlNode *node, DomainMetadata *metadata, GPtrArray *warnings)
{
    static const char *const known[] = { "unit", NULL };
    g_autofree char *value = xml_content(node);
    g_autofree char *unit = xml_attribute(node, "unit");
    g_autoptr(GError) error = NULL;
    uint64_t deadline;

    attributes_check(node, known, warnings);
    if (!units_parse_duration_value(value, unit, "s", &deadline, &error))
        warn(warnings, node, "%s; ignored", error->message);
    else if (deadline < DEADLINE_MINIMUM || deadline > DEADLINE_MAXIMUM)
        warn(warnings, node, "\"%.40s\" is not between 1 s and a week; ignored", value);
    else
        metadata->deadline = deadline;
}

void
domain_metadata_init(DomainMetadata *metadata)
{
    *metadata = (DomainMetadata){
        .priority = PRIORITY_MEDIUM,
        .techniques = TECHNIQUE_ALLOW_ALL,
    };
}

void
domain_metadata_read(const xmlNode *node, DomainMetadata *ret_metadata, GPtrArray *warnings)
{
    static const char *const known[] = { NULL };
    static const Child children[] = {
        { "priority", priority_read }, { "sla", sla_read }, { "technique", technique_read },
        { "deadline", deadline_read }, { NULL, NULL },
    };

    domain_metadata_init(ret_metadata);
    attributes_check(node, known, warnings);
    children_read(node, children, ret_metadata, warnings);
}

bool
domain_metadata_parse(const char *xml, gssize length, DomainMetadata *ret_metadata,
                      GPtrArray *warnings, GError **error)
{
    g_autoptr(xmlDoc) document =
        xml_document_read(xml, length, DOMAIN_XML_MAXIMUM, DOMAIN_XML_DEPTH_MAXIMUM, error);
    const xmlNode *root;

    domain_metadata_init(ret_metadata);
    if (document == NULL)
        return false;
    root = xmlDocGetRootElement(document);
    if (!xml_is_element(root, DOMAIN_NAMESPACE, "domain") && !xml_is_element(root, "", "domain")) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "<%.40s> is not a <domain> of %s",
                    (const char *)root->name, DOMAIN_NAMESPACE);
        return false;
    }
    domain_metadata_read(root, ret_metadata, warnings);
    return true;
}

/* One unit must serve both: bytes fit every rate. */
static void
bandwidth_append(GString *out, const char *prefix, const DomainMetadata *metadata)
{
    const bool megabits = metadata->sla_lower % 125000 == 0 && metadata->sla_upper % 125000 == 0;
    const uint64_t divider = megabits ? 125000 : 1;

    g_string_append_printf(out, "<%sbandwidth", prefix);
    if (metadata->sla_lower != 0)
        g_string_append_printf(out, " lower=\"%" G_GUINT64_FORMAT "\"",
                               metadata->sla_lower / divider);
    if (metadata->sla_upper != 0)
        g_string_append_printf(out, " upper=\"%" G_GUINT64_FORMAT "\"",
                               metadata->sla_upper / divider);
    g_string_append_printf(out, " unit=\"%s\"/>", megabits ? "Mbit/s" : "B/s");
}

char *
domain_metadata_to_xml(const DomainMetadata *metadata, bool plain)
{
    g_autoptr(GString) out = g_string_new(NULL);
    const char *p = plain ? "" : "convoy:";
    const bool bandwidth = metadata->sla_lower != 0 || metadata->sla_upper != 0;

    g_string_append_printf(out, "<%sdomain", p);
    if (!plain)
        g_string_append(out, " xmlns:convoy=\"" DOMAIN_NAMESPACE "\"");
    g_string_append_c(out, '>');
    if (metadata->priority_set)
        g_string_append_printf(out, "<%spriority>%s</%spriority>", p,
                               priority_to_string(metadata->priority), p);
    if (bandwidth || metadata->maximum_downtime != 0) {
        g_string_append_printf(out, "<%ssla>", p);
        if (bandwidth)
            bandwidth_append(out, p, metadata);
        if (metadata->maximum_downtime != 0)
            g_string_append_printf(out,
                                   "<%sdowntime maximum=\"%" G_GUINT64_FORMAT "\" unit=\"ms\"/>", p,
                                   metadata->maximum_downtime);
        g_string_append_printf(out, "</%ssla>", p);
    }
    if (metadata->techniques_set) {
        const char *separator = "";

        g_string_append_printf(out, "<%stechnique allow=\"", p);
        for (Technique i = TECHNIQUE_PRE_COPY; i <= TECHNIQUE_HYBRID; i++) {
            if ((metadata->techniques & (1u << i)) == 0)
                continue;
            g_string_append_printf(out, "%s%s", separator, technique_to_string(i));
            separator = " ";
        }
        g_string_append(out, "\"/>");
    }
    if (metadata->deadline != 0)
        g_string_append_printf(out, "<%sdeadline unit=\"ms\">%" G_GUINT64_FORMAT "</%sdeadline>", p,
                               metadata->deadline, p);
    g_string_append_printf(out, "</%sdomain>", p);
    return g_string_free(g_steal_pointer(&out), FALSE);
}
