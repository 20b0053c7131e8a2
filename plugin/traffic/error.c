/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The error domain of traffic/; see error.h.
 */
#include "traffic/error.h"

G_DEFINE_QUARK(convoy - traffic - error - quark, traffic_error)
