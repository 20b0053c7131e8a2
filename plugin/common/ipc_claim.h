/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the plugin lets the hook know: about this domain the daemon has been asked,
 * or waited for in vain, so do not ask it again.
 *
 * libvirtd runs the hook within a call that the plugin stands in front of, and gives
 * it neither environment nor descriptors of ours. A claim is a listening socket with an
 * abstract name that both can compute. It ends with libvirtd at the latest, leaves no
 * file, and the kernel says whose it is; AppArmor's abstractions/base lets a profile
 * have such sockets with itself. Where a claim cannot be made the hook asks, as it
 * does without the plugin.
 */
#pragma once

#include <stdbool.h>

/* The operations of the hook that can be claimed. */
#define IPC_CLAIM_MIGRATE "migrate"
#define IPC_CLAIM_RELEASE "release"

/*
 * Claims operation for the domain of this name at the daemon behind ipc_socket_path. A
 * descriptor for ipc_claim_drop, or a negative errno: -EADDRINUSE when it is claimed, or was
 * a moment ago and a child that another thread has forked has not yet called exec.
 */
int ipc_claim_make(const char *operation, const char *domain);

/* Takes what ipc_claim_make returned, errors too. */
void ipc_claim_drop(int claim);

/* Whether a claim of a trusted process stands; never waits. */
bool ipc_claim_stands(const char *operation, const char *domain);
