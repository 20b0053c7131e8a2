/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an answer of the daemon may add to a call, whatever it says.
 *
 * The daemon decides; this is the fence that keeps the user's choice and the
 * user's VM safe from a daemon that is wrong. Pure functions.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* VIR_MIGRATE_PARAM_BANDWIDTH_AVAIL_SWITCHOVER, which headers before 11.1 do not have. */
#define RULES_PARAM_SWITCHOVER "bandwidth.avail.switchover"
/* libvirt's largest, and what it says where there is none; MiB/s. */
#define RULES_BANDWIDTH_MAXIMUM (UINT64_C(0x7fffffffffffffff) >> 20)

/* What is added to the caller's flags and parameters. Zero adds nothing. */
typedef struct {
    uint64_t flags;                /* only what the caller did not set */
    uint64_t bandwidth;            /* MiB/s */
    uint64_t bandwidth_post_copy;  /* MiB/s */
    uint64_t bandwidth_switchover; /* MiB/s */
    unsigned connections;          /* parallel.connections */
} Additions;

/* What the caller asked for, as far as the rules depend on it. */
typedef struct {
    uint64_t flags;        /* VIR_MIGRATE_* */
    bool typed_parameters; /* the call has a parameter list */
    bool bandwidth;        /* these four: the caller set it, this one perhaps beforehand */
    bool bandwidth_post_copy;
    bool bandwidth_switchover;
    bool connections;
    bool rdma; /* migration URI is rdma: */
} Asked;

/* Flags that may be added to these calls at all; 0 for offline and resume. */
uint64_t rules_addable_flags(const Asked *asked);

/*
 * Reduces wanted to what may be added: from permitted_flags only, never
 * post-copy with parallel or with auto-converge, never a parameter that the caller set or that
 * needs a flag which is not there. wanted->flags may contain the caller's own.
 */
Additions rules_reduce(const Asked *asked, uint64_t permitted_flags, const Additions *wanted);

bool rules_adds_anything(const Additions *additions);

/* After Begin or Prepare failed: would leaving our additions out help? */
bool rules_setup_error_is_repeatable(int error_code);

/*
 * After a peer-to-peer Perform failed: did the error arise before memory moved,
 * over something we added? Some codes say so by themselves; an internal error
 * or a failed operation only when QEMU refused to be set up, which its message
 * (may be NULL) shows by the command that failed.
 */
bool rules_perform_error_is_repeatable(int error_code, const char *message);
