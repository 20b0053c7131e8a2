/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What one end of a migration tells the other.
 *
 * The same report travels as <convoy:peer> inside libvirt's migration cookie
 * and as <convoy:offer> in the incoming domain's metadata. The reader trusts
 * nothing: 64 KiB for our element, unknown attributes ignored, a number out of
 * range leaves that one field unknown, a newer version is read as far as we
 * know it. Unknown is never zero: each number that may be unknown says so.
 */
#pragma once

#include <gio/gio.h>

#include "common/types.h"

#define PEER_NAMESPACE "urn:virt-convoy:peer:1"
#define PEER_OFFER_NAMESPACE "urn:virt-convoy:offer:1"
#define PEER_OFFER_KEY "convoy-offer" /* the prefix for virDomainSetMetadata */
#define PEER_VERSION 1u
#define PEER_ELEMENT_MAXIMUM (64u * 1024u)       /* bytes of our element */
#define PEER_COOKIE_MAXIMUM (4u * 1024u * 1024u) /* bytes of a whole cookie */
#define PEER_CONNECTIONS_MAXIMUM 255u

typedef enum {
    PEER_ROLE_UNKNOWN = 0,
    PEER_ROLE_SOURCE,
    PEER_ROLE_DESTINATION,
} PeerRole;

/* A number that may be unknown: value means nothing unless valid. */
typedef struct {
    bool valid;
    uint64_t value;
} PeerNumber;

/* Plain data: copy by assignment, no free function. Rates in bytes/s. */
typedef struct {
    unsigned version; /* of the sender's format */
    PeerRole role;
    unsigned qemu_version;    /* major*1000000+minor*1000+micro; 0 unknown */
    unsigned libvirt_version; /* likewise */
    uint64_t link_rate;       /* 0 unknown */
    TrafficRates host;        /* the sender's uplink without this VM */
    TrafficRates vm;          /* source: the VM's own traffic */
    bool priority_set;
    Priority priority;
    PeerNumber memory; /* bytes the VM has */
    bool technique_set;
    Technique technique;           /* source: wanted; destination: agreed */
    bool post_copy_possible;       /* false when not stated */
    unsigned parallel_connections; /* source: proposed; destination: agreed; 0 none */
    PeerNumber sla_lower;          /* sums of the sender's host */
    PeerNumber sla_upper;
} PeerReport;

/* Version PEER_VERSION, everything else unknown. */
void peer_report_init(PeerReport *report);

/* One complete element, no XML declaration, no line break. Free with g_free. */
char *peer_report_to_cookie_element(const PeerReport *report);
char *peer_report_to_offer(const PeerReport *report);

/*
 * Finds our element in a whole <qemu-migration> cookie text (length -1: it is
 * NUL-terminated; a final NUL inside length is tolerated). False with
 * G_IO_ERROR_NOT_FOUND when the cookie is good but has no element of ours: the
 * other end has no virt-convoy. The first of several elements counts.
 */
bool peer_report_from_cookie(const char *cookie, gssize length, PeerReport *ret_report,
                             GError **error);

/*
 * Our offer as virDomainGetMetadata returns it (namespace stripped) or as a
 * complete element. Errors as above.
 */
bool peer_report_from_offer(const char *element, gssize length, PeerReport *ret_report,
                            GError **error);

/*
 * Which host a cookie comes from: libvirt's own host UUID in it, as a number
 * that only means equal or not. 0: unknown.
 */
uint64_t peer_cookie_host(const char *cookie, gssize length);
