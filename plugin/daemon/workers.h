/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvirtd's pool of workers, watched and raised through the libvirt-admin API.
 *
 * Each held call occupies a worker, and starting post-copy or setting a limit
 * needs a free one. While calls are held the pool's maximum is raised, so that
 * a reserve stays free; afterwards it is put back. What is raised is on disk
 * before (state_directory/workers), so that a daemon that was killed has it
 * put back when it starts again. A maximum that somebody else has changed
 * meanwhile is his and stays.
 *
 * A child process talks to libvirtd (see workers.c), so a libvirtd that hangs
 * does not hold the daemon up. The admin API is answered by other workers than
 * the held ones, so a full pool does not block it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct Workers Workers;

/* Workers that stay free beside the held calls. */
#define WORKERS_RESERVE 12u
/* More are never asked for. */
#define WORKERS_MAXIMUM 200u
/* Calls that may be held where the pool is not known: libvirtd's default has 20. */
#define WORKERS_HELD_UNKNOWN 8u

/*
 * libvirt_uri: that of the hypervisor; only the system's own libvirtd or
 * virtqemud has an admin socket beside it. Puts back what an earlier daemon left.
 */
Workers *workers_new(const char *libvirt_uri, const char *state_directory);
/* Puts back, and waits for that: six seconds at most. NULL is fine. */
void workers_free(Workers *workers);

/* The first argument of this program when it is the child. */
#define WORKERS_CHILD_OPTION "--fit-workers"

/* Instead of a number of held calls: only what the journal says is put back. */
#define WORKERS_PUT_BACK "none"

/* The child's main: prints maxWorkers without and with us, or why not. Exit status. */
int workers_child_main(const char *held_text, const char *journal_path);

/* `held` calls are held now; raises or puts back in the background. */
void workers_follow(Workers *workers, unsigned held);

/* How many calls may be held at a time, by the pool and the configured limit. */
unsigned workers_capacity(const Workers *workers, unsigned configured);

/* The pool's maximum now, and before it was raised; false: not known. */
bool workers_maximum(const Workers *workers, unsigned *ret_now, unsigned *ret_before);

/* The maximum that leaves the reserve free; pure. before: without held calls. */
unsigned workers_wanted(unsigned before, unsigned held);

/* One line of the journal: "libvirtd 20 44"; false when it is anything else. */
bool workers_journal_parse(const char *text, char ret_server[16], unsigned *ret_before,
                           unsigned *ret_raised);
