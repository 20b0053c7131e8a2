/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which flags a running migration began with, where no call told us.
 *
 * libvirt's interface does not say, and asking QEMU over libvirt's monitor marks the
 * domain as tainted. libvirtd keeps them in a file of its own, to go on after a
 * restart: that is only read here, and what is not exactly as expected is unknown.
 * A direct migration's flags are those of its begin.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define JOB_FLAGS_DIRECTORY "/run/libvirt/qemu" /* libvirtd's and virtqemud's */

/* Of the outgoing migration of that domain; directory: JOB_FLAGS_DIRECTORY. */
bool job_flags_read(const char *directory, const char *name, const char *uuid, uint64_t *ret_flags,
                    GError **error);

/* The same of such a file's text; length -1: NUL-terminated. */
bool job_flags_parse(const char *text, gssize length, const char *uuid, uint64_t *ret_flags,
                     GError **error);
