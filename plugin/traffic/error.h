/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Errors of traffic/: what could not be measured and why. Messages name the
 * interface or address they are about.
 */
#pragma once

#include <glib.h>

#define TRAFFIC_ERROR traffic_error_quark()
GQuark traffic_error_quark(void);

typedef enum {
    TRAFFIC_ERROR_NETLINK,   /* the kernel refused or the answer made no sense */
    TRAFFIC_ERROR_NOT_FOUND, /* no such interface, route or neighbour */
    TRAFFIC_ERROR_AMBIGUOUS, /* more than one answer: configuration must say */
    TRAFFIC_ERROR_INVALID,   /* the caller's text is not an address or a name */
} TrafficError;
