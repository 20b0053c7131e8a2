/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Our metadata of a domain, read and written through libvirt. Synchronous;
 * changes the running domain and its stored definition alike, so that the next
 * start has the same values.
 */
#pragma once

#include "common/domain.h"

/*
 * domain: name or UUID. A domain without our metadata gives "not stated"
 * everywhere and *ret_present false. warnings (char *, g_free) may be NULL.
 */
bool guest_metadata_get(const char *uri, const char *domain, DomainMetadata *ret_metadata,
                        bool *ret_present, GPtrArray *warnings, GError **error);

/* metadata NULL removes our element. */
bool guest_metadata_set(const char *uri, const char *domain, const DomainMetadata *metadata,
                        GError **error);
