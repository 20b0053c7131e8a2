/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libxml2 for bytes that somebody else wrote: bounded, without DTD, without
 * network, silent. The plugin uses it inside libvirtd, which uses libxml2 itself:
 * nothing here may change libxml2's global state, least of all clean it up.
 */
#pragma once

#include <gio/gio.h>
#include <libxml/tree.h>
#include <stdbool.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlDoc, xmlFreeDoc)

/*
 * Parses text as UTF-8, whatever it declares. Refuses (G_IO_ERROR_INVALID_DATA)
 * what is not well-formed, has a DOCTYPE, is longer than maximum bytes or nests
 * deeper than depth. length -1: NUL-terminated; a NUL at the end is tolerated.
 */
xmlDoc *xml_document_read(const char *text, gssize length, size_t maximum, unsigned depth,
                          GError **error);

/* True when node is an element of that name; ns NULL: of any namespace. */
bool xml_is_element(const xmlNode *node, const char *ns, const char *name);

/* The namespace of an element, "" when it has none. */
const char *xml_namespace(const xmlNode *node);

/* First child element of that name, any namespace; NULL. parent may be NULL. */
xmlNode *xml_child(const xmlNode *parent, const char *name);

/* Copies; NULL when absent. Free with g_free. node may be NULL. */
char *xml_attribute(const xmlNode *node, const char *name);
/* As it stands: blanks around a domain's name belong to it. */
char *xml_text(const xmlNode *node);
/* With white space around it removed. */
char *xml_content(const xmlNode *node);
