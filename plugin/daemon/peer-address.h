/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From libvirt's URIs to the addresses and ports that select migration traffic.
 * Look-ups do not block; the resolver may need seconds, so the caller's own
 * timer decides how long it waits.
 */
#pragma once

#include "shaping/plan.h"

#include <gio/gio.h>

#define PEER_ADDRESSES_MAXIMUM 4u

/* addresses: FlowAddress, at least one when error is NULL; owned by the caller of func. */
typedef void (*PeerAddressFunc)(GArray *addresses, const GError *error, gpointer user_data);

/*
 * The host in migrate_uri ("tcp:host:port", "tcp://host:port"), else in
 * destination_uri ("qemu+tcp://host/system"). Either may be NULL. func runs
 * exactly once, later or at once.
 */
void peer_address_resolve(const char *migrate_uri, const char *destination_uri,
                          PeerAddressFunc func, gpointer user_data);

/* The host of such a URI; NULL: none, or no plain name or address. Free with g_free. Pure. */
char *peer_host_from_uri(const char *uri);

/*
 * form with the host of migrate_uri in place of its first "%s", IPv6 in brackets
 * ("qemu://%s/system"); a form without "%s" as it is. NULL when form is empty, or
 * needs a host and there is none. Free with g_free. Pure.
 */
char *peer_uri_from_form(const char *form, const char *migrate_uri);

/* Sets both to the URI's port; untouched when it has none. uri may be NULL. Pure. */
void peer_port_from_uri(const char *uri, unsigned *ret_first, unsigned *ret_last);

/* Numeric text; free with g_free. */
char *flow_address_to_text(const FlowAddress *address);
