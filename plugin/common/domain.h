/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a domain XML says that matters for a migration, and our metadata in it.
 *
 * Parsing is for any bytes: at most 1 MiB, no DTD, no entities, no network,
 * depth bounded. Only a text that is no domain XML at all is an error. Bad
 * metadata never is: the field keeps its default and a warning tells what and
 * where, because a typing error must not stop somebody's migration.
 */
#pragma once

#include <gio/gio.h>

#include "common/types.h"

#define DOMAIN_XML_MAXIMUM (1024u * 1024u) /* bytes */
#define DOMAIN_XML_DEPTH_MAXIMUM 64u
#define DOMAIN_INTERFACES_MAXIMUM 64u
#define DOMAIN_WARNINGS_MAXIMUM 32u
#define DOMAIN_NAMESPACE "urn:virt-convoy:domain:1"
#define DOMAIN_METADATA_KEY "convoy" /* the prefix given to virDomainSetMetadata */

/* Rates in bytes/s. 0 means "not stated" in every field but priority. */
typedef struct {
    bool priority_set;         /* false: use the configuration's default */
    Priority priority;         /* PRIORITY_MEDIUM when not set */
    uint64_t sla_lower;        /* bandwidth this VM is promised at least */
    uint64_t sla_upper;        /* never below sla_lower when both are stated */
    uint64_t maximum_downtime; /* ms */
    bool techniques_set;
    TechniqueSet techniques; /* TECHNIQUE_ALLOW_ALL when not set */
    uint64_t deadline;       /* ms the whole migration should take at most */
} DomainMetadata;

typedef struct {
    char *type;   /* bridge, network, direct, hostdev, user, ... */
    char *device; /* tap on the host, from <target dev>; NULL: none known */
    char *mac;    /* NULL: none */
    char *source; /* bridge name, else network or dev; NULL: none */
} DomainInterface;

typedef struct {
    char *name;               /* never NULL */
    char *uuid;               /* lower-case, 36 characters; NULL: absent */
    uint64_t memory;          /* bytes, maximum memory; 0 = not stated */
    uint64_t current_memory;  /* bytes; equals memory when not stated */
    GPtrArray *interfaces;    /* DomainInterface */
    unsigned disks;           /* of all kinds */
    char *post_copy_obstacle; /* why post-copy must not be used, all of it; NULL: none */
    bool has_metadata;        /* our element is there, good or bad */
    DomainMetadata metadata;
    GPtrArray *warnings; /* char *: "line 7: priority: ..." */
} DomainDescription;

/* length -1: xml is NUL-terminated. */
DomainDescription *domain_description_parse(const char *xml, gssize length, GError **error);
void domain_description_free(DomainDescription *description);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DomainDescription, domain_description_free)

/* Everything at "not stated". */
void domain_metadata_init(DomainMetadata *metadata);

/*
 * Our element alone, as virDomainGetMetadata returns it: libvirt strips the
 * namespace there, so <domain> without one is accepted too. Always fills
 * ret_metadata; false only when the text is not such an element. warnings (char *,
 * g_free) may be NULL.
 */
bool domain_metadata_parse(const char *xml, gssize length, DomainMetadata *ret_metadata,
                           GPtrArray *warnings, GError **error);

/*
 * The element for virDomainSetMetadata (which adds prefix and namespace itself):
 * without namespace when plain, else complete. Reads back to the same values.
 */
char *domain_metadata_to_xml(const DomainMetadata *metadata, bool plain);
