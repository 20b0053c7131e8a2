/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads XML that somebody else wrote. A DOCTYPE stops the parser at once, so
 * no entity is ever declared and there is nothing to expand.
 */
#include "common/xml.h"

#include <libxml/parser.h>
#include <string.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlParserCtxt, xmlFreeParserCtxt)

static void
doctype_refuse(void *context, const xmlChar *name, const xmlChar *external, const xmlChar *system)
{
    xmlParserCtxt *parser = context;

    (void)name;
    (void)external;
    (void)system;
    parser->_private = parser; /* tells xml_document_read why it stopped */
    xmlStopParser(parser);
}

/* Walks the tree without recursion. */
static bool
depth_within(const xmlNode *root, unsigned maximum)
{
    const xmlNode *node = root;
    unsigned depth = 1;

    while (node != NULL) {
        if (depth > maximum)
            return false;
        if (node->type == XML_ELEMENT_NODE && node->children != NULL) {
            node = node->children;
            depth++;
            continue;
        }
        while (node != root && node->next == NULL) {
            node = node->parent;
            depth--;
        }
        if (node == root)
            return true;
        node = node->next;
    }
    return true;
}

xmlDoc *
xml_document_read(const char *text, gssize length, size_t maximum, unsigned depth, GError **error)
{
    const int flags =
        XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_BIG_LINES;
    g_autoptr(xmlParserCtxt) parser = NULL;
    g_autoptr(xmlDoc) document = NULL;
    size_t size = length < 0 ? strnlen(text, maximum + 1) : (size_t)length;

    if (size > 0 && text[size - 1] == '\0')
        size--;
    if (size > maximum) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "XML is longer than %" G_GSIZE_FORMAT " bytes", maximum);
        return NULL;
    }
    parser = xmlNewParserCtxt();
    if (parser == NULL) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "no memory for an XML parser");
        return NULL;
    }
    parser->sax->internalSubset = doctype_refuse;
    document = xmlCtxtReadMemory(parser, text, (int)size, NULL, "UTF-8", flags);
    if (parser->_private != NULL) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "XML has a document type declaration, which is not accepted");
        return NULL;
    }
    if (document == NULL || xmlDocGetRootElement(document) == NULL) {
        const xmlError *cause = xmlCtxtGetLastError(parser);
        g_autofree char *why = cause != NULL && cause->message != NULL
                                   ? g_utf8_make_valid(cause->message, -1)
                                   : g_strdup("empty");

        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "XML is not well-formed: line %d: %s", cause != NULL ? cause->line : 0,
                    g_strstrip(why));
        return NULL;
    }
    if (!depth_within(xmlDocGetRootElement(document), depth)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "XML nests deeper than %u elements",
                    depth);
        return NULL;
    }
    return g_steal_pointer(&document);
}

const char *
xml_namespace(const xmlNode *node)
{
    return node->ns != NULL && node->ns->href != NULL ? (const char *)node->ns->href : "";
}

bool
xml_is_element(const xmlNode *node, const char *ns, const char *name)
{
    return node != NULL && node->type == XML_ELEMENT_NODE &&
           strcmp((const char *)node->name, name) == 0 &&
           (ns == NULL || strcmp(xml_namespace(node), ns) == 0);
}

xmlNode *
xml_child(const xmlNode *parent, const char *name)
{
    for (xmlNode *node = parent != NULL ? parent->children : NULL; node != NULL;
         node = node->next) {
        if (xml_is_element(node, NULL, name))
            return node;
    }
    return NULL;
}

char *
xml_attribute(const xmlNode *node, const char *name)
{
    xmlChar *value = node != NULL ? xmlGetNoNsProp(node, (const xmlChar *)name) : NULL;
    char *copy = g_strdup((const char *)value);

    xmlFree(value);
    return copy;
}

char *
xml_text(const xmlNode *node)
{
    xmlChar *value = node != NULL ? xmlNodeGetContent(node) : NULL;
    char *copy = g_strdup((const char *)value);

    xmlFree(value);
    return copy;
}

char *
xml_content(const xmlNode *node)
{
    char *text = xml_text(node);

    return text != NULL ? g_strstrip(text) : NULL;
}
