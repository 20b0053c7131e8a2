/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Cookie and domain XML as text; see cookie.h.
 *
 * What is read is read by libxml2, as the other end's libvirt does: what it takes
 * here it takes there. What is written stays text, so that every byte of libvirt's
 * own remains as it was.
 */
#include "libvirtd/cookie.h"

#include "common/xml.h"

#include <libvirt/libvirt.h>
#include <stdlib.h>
#include <string.h>

#define CLOSING_TAG "</qemu-migration>"
#define CONNECTIONS_MAXIMUM 255u
#define ELEMENT_DEPTH_MAXIMUM 16u
/* A cookie may carry a whole domain XML. */
#define COOKIE_DEPTH_MAXIMUM 64u

bool
cookie_element_is_safe(const char *element)
{
    g_autoptr(xmlDoc) document = NULL;
    size_t length;

    if (element == NULL)
        return false;
    length = strnlen(element, COOKIE_ELEMENT_MAXIMUM + 1);
    if (length == 0 || length > COOKIE_ELEMENT_MAXIMUM)
        return false;
    /* Nothing outside the element, and nothing that needs an encoding. */
    if (element[0] != '<' || element[length - 1] != '>')
        return false;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)element[i];

        if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte > 0x7e)
            return false;
    }
    /* XML declarations, which may stand at the beginning only, comments, CDATA and the like. */
    if (strstr(element, "<!") != NULL || strstr(element, "<?") != NULL)
        return false;
    document = xml_document_read(element, (gssize)length, COOKIE_ELEMENT_MAXIMUM,
                                 ELEMENT_DEPTH_MAXIMUM, NULL);
    return document != NULL &&
           g_str_has_prefix(xml_namespace(xmlDocGetRootElement(document)), COOKIE_NAMESPACE_PREFIX);
}

/* Offset of the last closing tag; the cookie is bounded by its own length. */
static bool
find_closing_tag(const char *cookie, size_t length, size_t *ret_offset)
{
    const size_t tag = strlen(CLOSING_TAG);

    if (length < tag)
        return false;
    for (size_t offset = length - tag + 1; offset-- > 0;) {
        if (memcmp(cookie + offset, CLOSING_TAG, tag) == 0) {
            *ret_offset = offset;
            return true;
        }
    }
    return false;
}

bool
cookie_append(char **cookie, int *length, const char *element)
{
    size_t old, added, offset;
    char *grown;

    if (cookie == NULL || length == NULL || *cookie == NULL || *length <= 1 ||
        (size_t)*length > COOKIE_MAXIMUM)
        return false;
    old = (size_t)*length;
    if ((*cookie)[old - 1] != '\0' || strlen(*cookie) != old - 1)
        return false;
    if (!cookie_element_is_safe(element) || !find_closing_tag(*cookie, old - 1, &offset))
        return false;

    added = strlen(element);
    if (old + added > COOKIE_MAXIMUM)
        return false;
    grown = realloc(*cookie, old + added);
    if (grown == NULL)
        return false;
    memmove(grown + offset + added, grown + offset, old - offset);
    memcpy(grown + offset, element, added);
    *cookie = grown;
    *length = (int)(old + added);
    return true;
}

char *
cookie_note_to_element(const CookieNote *note)
{
    return g_strdup_printf("<convoy:plugin xmlns:convoy=\"" COOKIE_NOTE_NAMESPACE
                           "\" flags=\"%" G_GUINT64_FORMAT "\" follows=\"%" G_GUINT64_FORMAT
                           "\" connections=\"%u\" held=\"%" G_GUINT64_FORMAT "\"/>",
                           note->flags, note->follows, note->connections, note->held_ms);
}

/* 0 when it is absent, no number or out of range. */
static uint64_t
attribute_number(const xmlNode *node, const char *key, uint64_t maximum)
{
    g_autofree char *text = xml_attribute(node, key);
    guint64 number;

    return text != NULL && g_ascii_string_to_unsigned(text, 10, 0, maximum, &number, NULL) ? number
                                                                                           : 0;
}

bool
cookie_note_from_cookie(const char *cookie, int length, CookieNote *ret_note)
{
    g_autoptr(xmlDoc) document = NULL;
    size_t bytes;

    if (cookie == NULL || length <= 0 || (size_t)length > COOKIE_MAXIMUM)
        return false;
    bytes = strnlen(cookie, (size_t)length);
    /* Most cookies have no note: do not parse those. */
    if (g_strstr_len(cookie, (gssize)bytes, COOKIE_NOTE_NAMESPACE) == NULL)
        return false;
    document = xml_document_read(cookie, (gssize)bytes, COOKIE_MAXIMUM, COOKIE_DEPTH_MAXIMUM, NULL);
    if (document == NULL)
        return false;
    for (const xmlNode *node = xmlDocGetRootElement(document)->children; node != NULL;
         node = node->next) {
        if (!xml_is_element(node, COOKIE_NOTE_NAMESPACE, "plugin"))
            continue;
        ret_note->flags = attribute_number(node, "flags", UINT32_MAX);
        ret_note->follows = attribute_number(node, "follows", UINT32_MAX);
        ret_note->connections =
            (unsigned)attribute_number(node, "connections", CONNECTIONS_MAXIMUM);
        ret_note->held_ms = attribute_number(node, "held", UINT32_MAX);
        return true;
    }
    return false;
}

bool
cookie_domain_is_extension(const char *original, const char *changed)
{
    size_t original_length, changed_length, prefix = 0, suffix = 0, gone;
    g_autofree char *inserted = NULL;

    if (original == NULL || changed == NULL)
        return false;
    original_length = strlen(original);
    changed_length = strlen(changed);
    if (changed_length <= original_length || changed_length > COOKIE_DOMAIN_MAXIMUM)
        return false;
    while (prefix < original_length && original[prefix] == changed[prefix])
        prefix++;
    while (suffix < original_length - prefix &&
           original[original_length - 1 - suffix] == changed[changed_length - 1 - suffix])
        suffix++;
    gone = original_length - prefix - suffix;
    if (gone > 1 || (gone == 1 && original[prefix] != '/'))
        return false;
    inserted = g_strndup(changed + prefix, changed_length - prefix - suffix);
    return strstr(inserted, COOKIE_NAMESPACE_PREFIX) != NULL;
}

char *
cookie_domain_name(const char *xml)
{
    g_autoptr(xmlDoc) document =
        xml != NULL ? xml_document_read(xml, -1, COOKIE_DOMAIN_MAXIMUM, COOKIE_DEPTH_MAXIMUM, NULL)
                    : NULL;
    const xmlNode *name =
        document != NULL ? xml_child(xmlDocGetRootElement(document), "name") : NULL;
    /* Finish is called with every blank of it. */
    g_autofree char *text = xml_text(name);

    return text != NULL && text[0] != '\0' ? g_steal_pointer(&text) : NULL;
}
