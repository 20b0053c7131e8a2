/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any bytes as a cookie, as an element for one, and as domain XML in libvirtd's
 * own process. What is appended must leave XML that libvirt's parser accepts: a
 * cookie that cannot be read at the other end fails the migration.
 */
#include <glib.h>
#include <libxml/parser.h>
#include <stdlib.h>
#include <string.h>

#include "libvirtd/cookie.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char head[] = "<qemu-migration>\n  <name>web</name>\n";
static const char tail[] = "</qemu-migration>\n";

static bool
is_well_formed(const char *text)
{
    xmlDoc *document = xmlReadMemory(text, (int)strlen(text), NULL, NULL,
                                     XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);

    if (document == NULL)
        return false;
    xmlFreeDoc(document);
    return true;
}

/* Appends to a copy; the cookie with it, or NULL when it was refused. Free with free(). */
static char *
appended(const char *cookie, const char *element)
{
    char *copy = strdup(cookie);
    int length = (int)strlen(cookie) + 1;

    if (!cookie_append(&copy, &length, element)) {
        if (strcmp(copy, cookie) != 0 || length != (int)strlen(cookie) + 1)
            abort();
        free(copy);
        return NULL;
    }
    if (length != (int)(strlen(cookie) + strlen(element)) + 1 || copy[length - 1] != '\0' ||
        strstr(copy, element) == NULL)
        abort();
    return copy;
}

static void
check_element(const char *text)
{
    g_autofree char *cookie = g_strconcat(head, tail, NULL);
    char *with = appended(cookie, text);

    if ((with != NULL) != cookie_element_is_safe(text))
        abort();
    if (with != NULL && !is_well_formed(with))
        abort();
    free(with);
}

static void
check_cookie(const char *text)
{
    CookieNote note = {
        .flags = 1u << 15, .follows = 1u << 17, .connections = 4, .held_ms = 61000
    };
    g_autofree char *element = cookie_note_to_element(&note);
    char *with = appended(text, element);
    CookieNote back;

    if (with != NULL && is_well_formed(text) && !is_well_formed(with))
        abort();
    if (cookie_note_from_cookie(text, (int)strlen(text) + 1, &back) &&
        (back.flags > UINT32_MAX || back.follows > UINT32_MAX || back.connections > 255 ||
         back.held_ms > UINT32_MAX))
        abort();
    free(with);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autofree char *name = cookie_domain_name(text);
    g_autofree char *longer = g_strconcat(text, COOKIE_NAMESPACE_PREFIX, NULL);
    CookieNote note;

    /* With NUL bytes in it, too. */
    cookie_note_from_cookie((const char *)data, (int)size, &note);
    check_element(text);
    check_cookie(text);
    if (!cookie_domain_is_extension(text, longer) || cookie_domain_is_extension(longer, text))
        abort();
    return 0;
}
