/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libxml2 says which element is ours (namespaces, prefixes); a scanner of tags
 * says at which byte it stands. Both count child elements, so they cannot
 * disagree about names. The scanner only ever sees text that libxml2 found
 * well-formed and without a DOCTYPE.
 */
#include "common/domain_offer.h"

#include <string.h>

#include "common/domain.h"
#include "common/peer.h"
#include "common/xml.h"

#define OFFERS_MAXIMUM 4u /* libvirt keeps one element of a namespace */
#define NOT_FOUND (-1)

/* Byte offsets: [start, open_end) is the start tag, [close_start, end) the end tag. */
typedef struct {
    size_t start;
    size_t open_end;
    size_t close_start;
    size_t end;
    bool self_closing;
} Span;

/* Past the first needle at or after at; the text's end when there is none. */
static const char *
skip_past(const char *at, const char *needle)
{
    const char *found = strstr(at, needle);

    return found != NULL ? found + strlen(needle) : at + strlen(at);
}

/* Past the '>' of the tag at `at`; quotes may hide one. */
static const char *
skip_tag(const char *at)
{
    char quote = '\0';

    for (; *at != '\0'; at++) {
        if (quote != '\0') {
            if (*at == quote)
                quote = '\0';
        } else if (*at == '"' || *at == '\'') {
            quote = *at;
        } else if (*at == '>') {
            return at + 1;
        }
    }
    return at;
}

/* The next start or end tag at or after at; comments and the like are passed. */
static const char *
next_tag(const char *at)
{
    for (;;) {
        at = strchr(at, '<');
        if (at == NULL)
            return NULL;
        if (g_str_has_prefix(at, "<!--"))
            at = skip_past(at + 4, "-->");
        else if (g_str_has_prefix(at, "<![CDATA["))
            at = skip_past(at + 9, "]]>");
        else if (at[1] == '?')
            at = skip_past(at + 2, "?>");
        else
            return at;
    }
}

/* The element whose start tag is the first tag at or after from. */
static bool
element_span(const char *xml, size_t from, Span *ret_span)
{
    const char *at = next_tag(xml + from);
    size_t depth = 0;
    Span span = { 0 };

    while (at != NULL) {
        const char *end = skip_tag(at);
        const bool closes = at[1] == '/';
        const bool empty = end - at >= 3 && end[-2] == '/';

        if (depth == 0) {
            if (closes)
                return false;
            span.start = (size_t)(at - xml);
            span.open_end = (size_t)(end - xml);
            span.self_closing = empty;
        }
        if (closes)
            depth--;
        else if (!empty)
            depth++;
        if (depth == 0) {
            span.close_start = empty ? span.open_end : (size_t)(at - xml);
            span.end = (size_t)(end - xml);
            *ret_span = span;
            return true;
        }
        at = next_tag(end);
    }
    return false;
}

/* The index-th child element of parent. */
static bool
child_span(const char *xml, const Span *parent, int index, Span *ret_span)
{
    size_t from = parent->open_end;

    for (int i = 0; i <= index; i++) {
        if (!element_span(xml, from, ret_span))
            return false;
        from = ret_span->end;
    }
    return true;
}

/* Which child element of parent it is, and its node; NOT_FOUND and NULL. */
static int
child_index(const xmlNode *parent, const char *ns, const char *name, const xmlNode **ret_node)
{
    int index = 0;

    *ret_node = NULL;
    for (const xmlNode *node = parent != NULL ? parent->children : NULL; node != NULL;
         node = node->next) {
        if (node->type != XML_ELEMENT_NODE)
            continue;
        if (xml_is_element(node, ns, name)) {
            *ret_node = node;
            return index;
        }
        index++;
    }
    return NOT_FOUND;
}

typedef struct {
    Span domain;
    Span metadata;
    Span offer;
    bool has_metadata;
    bool has_offer;
} Places;

static bool
places_find(const char *xml, Places *ret_places, GError **error)
{
    g_autoptr(xmlDoc) document =
        xml_document_read(xml, -1, DOMAIN_XML_MAXIMUM, DOMAIN_XML_DEPTH_MAXIMUM, error);
    Places places = { 0 };
    const xmlNode *root;
    const xmlNode *metadata_node;
    const xmlNode *offer_node;
    int metadata;
    int offer;
    bool good;

    if (document == NULL)
        return false;
    root = xmlDocGetRootElement(document);
    if (!xml_is_element(root, "", "domain")) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "incoming XML: root element is <%.40s>, not <domain>",
                    (const char *)root->name);
        return false;
    }
    metadata = child_index(root, "", "metadata", &metadata_node);
    offer = child_index(metadata_node, PEER_OFFER_NAMESPACE, "offer", &offer_node);
    places.has_metadata = metadata != NOT_FOUND;
    places.has_offer = places.has_metadata && offer != NOT_FOUND;
    good = element_span(xml, 0, &places.domain);
    if (good && places.has_metadata)
        good = child_span(xml, &places.domain, metadata, &places.metadata);
    if (good && places.has_offer)
        good = child_span(xml, &places.metadata, offer, &places.offer);
    if (!good || (places.domain.self_closing && places.has_metadata)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "incoming XML: the place for the offer cannot be found");
        return false;
    }
    *ret_places = places;
    return true;
}

/* xml with [start, end) replaced. */
static char *
text_replace(const char *xml, size_t start, size_t end, const char *with)
{
    GString *out = g_string_new_len(xml, (gssize)start);

    g_string_append(out, with);
    g_string_append(out, xml + end);
    return g_string_free(out, FALSE);
}

char *
domain_offer_remove(const char *xml, GError **error)
{
    g_autofree char *text = g_strdup(xml);

    for (unsigned i = 0; i <= OFFERS_MAXIMUM; i++) {
        Places places;
        Span span;
        char *shorter;

        if (!places_find(text, &places, error))
            return NULL;
        if (!places.has_offer)
            return g_steal_pointer(&text);
        span = places.offer;
        if (places.metadata.open_end == span.start && places.metadata.close_start == span.end)
            span = places.metadata;
        shorter = text_replace(text, span.start, span.end, "");
        g_free(text);
        text = shorter;
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "incoming XML: more than %u offers",
                OFFERS_MAXIMUM);
    return NULL;
}

char *
domain_offer_insert(const char *xml, const char *element, GError **error)
{
    g_autofree char *text = NULL;
    g_autofree char *block = NULL;
    g_autofree char *result = NULL;
    PeerReport report;
    Places places;

    /* Only a whole offer goes in: half an element would break the XML. */
    if (!peer_report_from_offer(element, -1, &report, error))
        return NULL;
    if (g_str_has_prefix(element, "<?")) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "offer: an XML declaration cannot stand inside another XML");
        return NULL;
    }
    text = domain_offer_remove(xml, error);
    if (text == NULL || !places_find(text, &places, error))
        return NULL;
    if (places.has_metadata && !places.metadata.self_closing) {
        result = text_replace(text, places.metadata.open_end, places.metadata.open_end, element);
    } else {
        block = g_strconcat("<metadata>", element, "</metadata>", NULL);
        if (places.has_metadata)
            result = text_replace(text, places.metadata.start, places.metadata.end, block);
        else if (!places.domain.self_closing)
            result =
                text_replace(text, places.domain.close_start, places.domain.close_start, block);
    }
    if (result == NULL || strlen(result) > DOMAIN_XML_MAXIMUM) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "incoming XML: the offer does not fit into it");
        return NULL;
    }
    return g_steal_pointer(&result);
}
