/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What reaches a domain while its migration waits at the entry of its call.
 *
 * libvirt knows of no job then, so what a user does about a running migration would
 * be refused, or would mean something else. Each function runs the real one, and makes
 * up for that. No policy: whose turn it is remains the daemon's affair.
 */
#pragma once

#include <libvirt/libvirt.h>

/*
 * A held migration is a job without progress. libvirt knows of none yet, and
 * virsh passes Ctrl-C on only while the domain has one.
 */
void held_show_job(virDomainPtr domain, virDomainJobInfoPtr info);

/* virDomainAbortJob and -Flags: run_real as asked, and end a held call. */
int held_abort(virDomainPtr domain, int (*run_real)(virDomainPtr, unsigned int),
               unsigned int flags);

/*
 * virDomainSuspend and virDomainMigrateStartPostCopy by the client that migrates, which
 * mean the migration: `virsh migrate --timeout` counts from the command on, and calls
 * them when the time is up. A guest suspended before libvirt knows of the migration
 * would stay paused at the destination, and the switch would be refused. So the held
 * call goes on at once, and run_real follows when memory moves. Returns what it does.
 */
int held_hurry(virDomainPtr domain, int (*run_real)(virDomainPtr, unsigned int),
               unsigned int flags);
