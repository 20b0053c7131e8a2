/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Puts our offer into an incoming domain XML and takes it out again.
 *
 * Every byte outside the element stays as it was: libvirt and whoever wrote
 * the XML keep their own spelling. Only what this module needs is scanned, and
 * only after libxml2 has found the text well-formed, without DTD and within
 * DOMAIN_XML_MAXIMUM.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

/*
 * Returns a new text with element (from peer_report_to_offer) as first child
 * of <metadata>; the <metadata> is made when missing, an offer that is already
 * there is replaced. NULL on error. Free with g_free.
 */
char *domain_offer_insert(const char *xml, const char *element, GError **error);

/*
 * Returns a new text without our offer; a <metadata> that is left completely
 * empty by that goes too. The same text when there is none. NULL on error.
 */
char *domain_offer_remove(const char *xml, GError **error);
