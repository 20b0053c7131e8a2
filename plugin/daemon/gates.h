/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the caller's flags and the two hypervisors leave open for us to add.
 *
 * Rules 2, 3 and 5 of the design in one place: the user's explicit choice is
 * never weakened, multifd and post-copy never meet below QEMU 10.1, post-copy
 * needs a live, direct data path. Pure: flags are VIR_MIGRATE_*.
 */
#pragma once

#include "common/types.h"

/* The same for VIR_MIGRATE_AUTO_CONVERGE. */
const char *gate_auto_converge_flags(uint64_t flags);

/*
 * Why VIR_MIGRATE_POSTCOPY must not be added to a call with these flags, all
 * reasons, interned; NULL when it may be. migrate_uri may be NULL.
 */
const char *gate_post_copy_flags(uint64_t flags, const char *migrate_uri);

/*
 * Why this host cannot receive by post-copy: QEMU takes the pages in through
 * userfaultfd(2). error_number: errno of an attempt to make one, 0 when that
 * went well. Only a kernel without the call is sure to refuse QEMU as well: what
 * a confined daemon may not do, QEMU may.
 */
const char *gate_post_copy_userfaultfd(int error_number);

/* The same for VIR_MIGRATE_PARALLEL. post_copy: it is, or may be, on as well. */
const char *gate_parallel_flags(uint64_t flags, const char *migrate_uri, bool post_copy);

/* The migration carries guest memory in a way that this program steers at all. */
bool gate_is_steerable(uint64_t flags);
