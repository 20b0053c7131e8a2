/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Text that the plugin adds to libvirt's XML, and what it reads back.
 *
 * A cookie that the other end cannot parse fails its migration, so nothing is
 * appended that was not checked to be one well-formed element of ours. Only
 * the plugin's own note is read here; the reports are the daemons' business.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COOKIE_NAMESPACE_PREFIX "urn:virt-convoy:"
#define COOKIE_NOTE_NAMESPACE "urn:virt-convoy:plugin:1"
#define COOKIE_ELEMENT_MAXIMUM (64u * 1024u)       /* bytes */
#define COOKIE_MAXIMUM (4u * 1024u * 1024u)        /* bytes of a whole cookie */
#define COOKIE_DOMAIN_MAXIMUM (2u * 1024u * 1024u) /* bytes of a domain XML */

/*
 * What one plugin tells the other in a direct migration, beside the daemons'
 * reports, so that both ends of libvirt get matching flags even when a daemon
 * dies between two phases.
 */
typedef struct {
    uint64_t flags;       /* VIR_MIGRATE_* added at this end */
    uint64_t follows;     /* source: flags it takes over when they are added there */
    unsigned connections; /* parallel.connections added; 0 none */
    uint64_t held_ms;     /* source: milliseconds that its call waited for its turn */
} CookieNote;

/* One element of one of our namespaces, well-formed, ASCII, no entity games. */
bool cookie_element_is_safe(const char *element);

/*
 * Appends element inside the last </qemu-migration> of *cookie (malloc family,
 * NUL-terminated, *length counts the NUL) and reallocates it. False, with the
 * cookie unchanged, when there is none, it is not of that form, or element is
 * not safe.
 */
bool cookie_append(char **cookie, int *length, const char *element);

/* The note as an element; free with g_free. */
char *cookie_note_to_element(const CookieNote *note);

/* Finds the note; false (ret_note untouched) when there is none. */
bool cookie_note_from_cookie(const char *cookie, int length, CookieNote *ret_note);

/*
 * Whether changed is original with nothing but one insertion of ours (at most
 * the slash of an empty element gives way to it).
 */
bool cookie_domain_is_extension(const char *original, const char *changed);

/* /domain/name of a domain XML; NULL when not found. Free with g_free. */
char *cookie_domain_name(const char *xml);
