/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon's JSON texts as lines for people. Keys that are missing are left
 * out, keys that are not known are ignored, so that daemon and command may be
 * of different versions. Control characters are never passed to the terminal.
 */
#pragma once

#include <gio/gio.h>

/* Free with g_free; NULL with an error when json is no JSON object. */
char *render_status(const char *json, GError **error);
char *render_explanation(const char *json, GError **error);
