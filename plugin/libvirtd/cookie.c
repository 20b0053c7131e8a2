/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Cookie and domain XML as text; see cookie.h.
 *
 * GMarkup instead of libxml2: it is in libvirtd's address space already, has
 * no global state and no entities, and everything here is a short element.
 */
#include "libvirtd/cookie.h"

#include <glib.h>
#include <libvirt/libvirt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define CLOSING_TAG "</qemu-migration>"
#define CONNECTIONS_MAXIMUM 255u

typedef struct {
    unsigned depth;
    unsigned roots;
    bool ours;
} ElementCheck;

static void
check_start(GMarkupParseContext *context, const char *name, const char **keys, const char **values,
            gpointer data, GError **error)
{
    ElementCheck *check = data;

    (void)context;
    (void)name;
    if (check->depth++ == 0)
        check->roots++;
    for (size_t i = 0; keys[i] != NULL; i++) {
        if (check->depth == 1 && g_str_has_prefix(keys[i], "xmlns") &&
            g_str_has_prefix(values[i], COOKIE_NAMESPACE_PREFIX))
            check->ours = true;
        for (size_t j = i + 1; keys[j] != NULL; j++) {
            /* GMarkup lets this pass, XML does not. */
            if (strcmp(keys[i], keys[j]) == 0)
                g_set_error(error, G_MARKUP_ERROR, G_MARKUP_ERROR_PARSE,
                            "attribute '%s' occurs twice", keys[i]);
            if (error != NULL && *error != NULL)
                return;
        }
    }
}

static void
check_end(GMarkupParseContext *context, const char *name, gpointer data, GError **error)
{
    ElementCheck *check = data;

    (void)context;
    (void)name;
    (void)error;
    check->depth--;
}

static void
check_passthrough(GMarkupParseContext *context, const char *text, gsize length, gpointer data,
                  GError **error)
{
    (void)context;
    (void)text;
    (void)length;
    (void)data;
    g_set_error_literal(error, G_MARKUP_ERROR, G_MARKUP_ERROR_PARSE,
                        "comment, declaration or CDATA");
}

static const char *
skip_blanks(const char *at)
{
    return at + strspn(at, " \t\n");
}

/* Past an ASCII name; NULL when there is none. */
static const char *
skip_name(const char *at)
{
    if (!g_ascii_isalpha(*at) && *at != '_')
        return NULL;
    while (g_ascii_isalnum(*at) || strchr("_:.-", *at) != NULL) {
        if (*at++ == '\0')
            return NULL;
    }
    return at;
}

/* Past ="value" or ='value'; NULL when it is not of that form. */
static const char *
skip_value(const char *at)
{
    const char *end;

    at = skip_blanks(at);
    if (*at++ != '=')
        return NULL;
    at = skip_blanks(at);
    if (*at != '"' && *at != '\'')
        return NULL;
    end = strchr(at + 1, *at);
    return end != NULL && memchr(at, '<', (size_t)(end - at)) == NULL ? end + 1 : NULL;
}

/* Past a tag that begins at '<'; NULL when XML would not have it. */
static const char *
skip_tag(const char *at)
{
    bool closing = at[1] == '/';

    at = skip_name(at + (closing ? 2 : 1));
    while (at != NULL) {
        const char *next = skip_blanks(at);

        if (*next == '>')
            return next + 1;
        if (closing)
            return NULL;
        if (next[0] == '/' && next[1] == '>')
            return next + 2;
        /* An attribute stands apart from what is before it. */
        if (next == at)
            return NULL;
        at = skip_name(next);
        if (at != NULL)
            at = skip_value(at);
    }
    return NULL;
}

/*
 * GMarkup lets things pass that libxml2 at the other end does not: attributes
 * that touch each other, odd names, a '<' in a value, "]]>" in text, references
 * to characters that XML does not have. Ours never refer to any by number.
 */
static bool
tags_are_strict(const char *element)
{
    const char *at = element;

    if (strstr(element, "]]>") != NULL || strstr(element, "&#") != NULL)
        return false;
    while (at != NULL && (at = strchr(at, '<')) != NULL) {
        at = skip_tag(at);
        if (at == NULL)
            return false;
    }
    return true;
}

bool
cookie_element_is_safe(const char *element)
{
    static const GMarkupParser parser = {
        .start_element = check_start,
        .end_element = check_end,
        .passthrough = check_passthrough,
    };
    ElementCheck check = { 0 };
    GMarkupParseContext *context;
    size_t length;
    bool good;

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
    if (!tags_are_strict(element))
        return false;
    context = g_markup_parse_context_new(&parser, 0, &check, NULL);
    good = g_markup_parse_context_parse(context, element, (gssize)length, NULL) &&
           g_markup_parse_context_end_parse(context, NULL);
    g_markup_parse_context_free(context);
    return good && check.roots == 1 && check.depth == 0 && check.ours;
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
                           "\" connections=\"%u\"/>",
                           note->flags, note->follows, note->connections);
}

static uint64_t
attribute_number(const char **keys, const char **values, const char *key, uint64_t maximum)
{
    guint64 number;

    for (size_t i = 0; keys[i] != NULL; i++) {
        if (strcmp(keys[i], key) == 0)
            return g_ascii_string_to_unsigned(values[i], 10, 0, maximum, &number, NULL) ? number
                                                                                        : 0;
    }
    return 0;
}

typedef struct {
    CookieNote note;
    bool found;
} NoteSearch;

static void
note_start(GMarkupParseContext *context, const char *name, const char **keys, const char **values,
           gpointer data, GError **error)
{
    NoteSearch *search = data;
    bool ours = false;

    (void)context;
    (void)error;
    if (search->found || !(g_str_has_suffix(name, ":plugin") || strcmp(name, "plugin") == 0))
        return;
    for (size_t i = 0; keys[i] != NULL; i++)
        ours = ours || (g_str_has_prefix(keys[i], "xmlns") &&
                        strcmp(values[i], COOKIE_NOTE_NAMESPACE) == 0);
    if (!ours)
        return;
    search->note.flags = attribute_number(keys, values, "flags", UINT32_MAX);
    search->note.follows = attribute_number(keys, values, "follows", UINT32_MAX);
    search->note.connections =
        (unsigned)attribute_number(keys, values, "connections", CONNECTIONS_MAXIMUM);
    search->found = true;
}

bool
cookie_note_from_cookie(const char *cookie, int length, CookieNote *ret_note)
{
    static const GMarkupParser parser = { .start_element = note_start };
    NoteSearch search = { 0 };
    GMarkupParseContext *context;
    size_t bytes;
    bool good;

    if (cookie == NULL || length <= 0 || (size_t)length > COOKIE_MAXIMUM)
        return false;
    bytes = strnlen(cookie, (size_t)length);
    /* Most cookies have no note: do not parse those. */
    if (g_strstr_len(cookie, (gssize)bytes, COOKIE_NOTE_NAMESPACE) == NULL)
        return false;
    context = g_markup_parse_context_new(&parser, G_MARKUP_TREAT_CDATA_AS_TEXT, &search, NULL);
    good = g_markup_parse_context_parse(context, cookie, (gssize)bytes, NULL) &&
           g_markup_parse_context_end_parse(context, NULL);
    g_markup_parse_context_free(context);
    if (!good || !search.found)
        return false;
    *ret_note = search.note;
    return true;
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

typedef struct {
    unsigned depth;
    bool in_name;
    GString *name;
} NameSearch;

static void
name_start(GMarkupParseContext *context, const char *name, const char **keys, const char **values,
           gpointer data, GError **error)
{
    NameSearch *search = data;

    (void)context;
    (void)keys;
    (void)values;
    (void)error;
    search->depth++;
    search->in_name = search->depth == 2 && strcmp(name, "name") == 0;
}

static void
name_end(GMarkupParseContext *context, const char *name, gpointer data, GError **error)
{
    NameSearch *search = data;

    (void)context;
    (void)name;
    /* Found: the rest of the document does not matter. */
    if (search->in_name)
        g_set_error_literal(error, G_MARKUP_ERROR, G_MARKUP_ERROR_PARSE, "done");
    search->depth--;
}

static void
name_text(GMarkupParseContext *context, const char *text, gsize length, gpointer data,
          GError **error)
{
    NameSearch *search = data;

    (void)context;
    (void)error;
    if (search->in_name)
        g_string_append_len(search->name, text, (gssize)length);
}

char *
cookie_domain_name(const char *xml)
{
    static const GMarkupParser parser = {
        .start_element = name_start,
        .end_element = name_end,
        .text = name_text,
    };
    NameSearch search = { 0 };
    GMarkupParseContext *context;
    size_t length;

    if (xml == NULL)
        return NULL;
    length = strnlen(xml, COOKIE_DOMAIN_MAXIMUM + 1);
    if (length > COOKIE_DOMAIN_MAXIMUM)
        return NULL;
    search.name = g_string_new(NULL);
    context = g_markup_parse_context_new(&parser, 0, &search, NULL);
    g_markup_parse_context_parse(context, xml, (gssize)length, NULL);
    g_markup_parse_context_free(context);
    return g_string_free(search.name, search.name->len == 0);
}
