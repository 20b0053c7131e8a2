/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvirtd's pool of workers, watched and raised through the libvirt-admin API.
 *
 * Each held call occupies a worker, and so does each migration; starting post-copy
 * or setting a limit needs a free one. While calls are held, or several migrate, the
 * pool's maximum is raised, so that a reserve stays free, and its minimum with it:
 * libvirt compares free workers less queued calls with zero in unsigned numbers, so a
 * queue that is longer than the free workers never makes the pool grow (seen with
 * eight calls in a burst: seven workers, and a migration that had ended was confirmed
 * 17 s later). Workers for a higher minimum are made at once. Afterwards both are put
 * back. What is raised is on disk before (state_directory/workers), so that a daemon
 * that was killed has it put back when it starts again. A number that somebody else
 * has changed meanwhile is his and stays.
 *
 * A child process talks to libvirtd (see workers.c), so a libvirtd that hangs
 * does not hold the daemon up. The admin API is answered by other workers than
 * the held ones, so a full pool does not block it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct Workers Workers;

/* maxWorkers and minWorkers of libvirtd. */
typedef struct {
    unsigned maximum;
    unsigned minimum; /* 0: not known */
} WorkersPool;

/* Workers that stay free beside the busy ones. */
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

/* Instead of a number of busy workers: only what the journal says is put back. */
#define WORKERS_PUT_BACK "none"

/* The child's main: prints maxWorkers without and with us, or why not. Exit status. */
int workers_child_main(const char *busy_text, const char *journal_path);

/* libvirtd may have started anew, with the pool of its configuration. */
void workers_forget(Workers *workers);

/* `busy` workers are held or migrate now; raises or puts back in the background. */
void workers_follow(Workers *workers, unsigned busy);

/* How many calls may be held at a time, by the pool and the configured limit. */
unsigned workers_capacity(const Workers *workers, unsigned configured);

/* The pool's maximum now, and before it was raised; false: not known. */
bool workers_maximum(const Workers *workers, unsigned *ret_now, unsigned *ret_before);

/* The maximum that leaves the reserve free, and as many to begin with; pure. */
WorkersPool workers_wanted(WorkersPool before, unsigned busy);

/* What it was without us, by what the journal says; pure. */
WorkersPool workers_before(WorkersPool now, WorkersPool before, WorkersPool raised);

/*
 * One line of the journal: "libvirtd 20 44 5 44", maxima, then minima, or without the
 * minima; false when it is anything else.
 */
bool workers_journal_parse(const char *text, char ret_server[16], WorkersPool *ret_before,
                           WorkersPool *ret_raised);
