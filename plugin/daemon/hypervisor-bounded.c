/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A thread that is waited for only so long: a libvirtd that hangs must not keep the
 * daemon from stopping. See hypervisor-private.h.
 */
#include "daemon/hypervisor-private.h"

/* Shared by the thread and the one that waits for it; whoever ends last frees it. */
typedef struct {
    void (*run)(gpointer data);
    gpointer data;
    GDestroyNotify clear;
    GMutex lock;
    GCond changed;
    bool done;
} Bounded;

/* Threads inside libvirt, of any Hypervisor. */
static gint busy_threads;

void
hypervisor_thread_begins(void)
{
    g_atomic_int_inc(&busy_threads);
}

void
hypervisor_thread_ends(void)
{
    g_atomic_int_add(&busy_threads, -1);
}

bool
hypervisor_threads_left(void)
{
    return g_atomic_int_get(&busy_threads) > 0;
}

static void
bounded_clear(gpointer data)
{
    Bounded *bounded = data;

    g_atomic_rc_box_release_full(bounded->data, bounded->clear);
    g_mutex_clear(&bounded->lock);
    g_cond_clear(&bounded->changed);
}

static gpointer
bounded_thread(gpointer data)
{
    Bounded *bounded = data;

    bounded->run(bounded->data);
    g_mutex_lock(&bounded->lock);
    bounded->done = true;
    g_cond_signal(&bounded->changed);
    g_mutex_unlock(&bounded->lock);
    g_atomic_rc_box_release_full(bounded, bounded_clear);
    hypervisor_thread_ends();
    return NULL;
}

bool
hypervisor_run_bounded(void (*run)(gpointer data), gpointer data, GDestroyNotify clear,
                       gint64 maximum_us)
{
    gint64 deadline = g_get_monotonic_time() + maximum_us;
    Bounded *bounded = g_atomic_rc_box_new0(Bounded);
    GThread *thread;
    bool done;

    g_mutex_init(&bounded->lock);
    g_cond_init(&bounded->changed);
    bounded->run = run;
    bounded->data = g_atomic_rc_box_acquire(data);
    bounded->clear = clear;
    hypervisor_thread_begins();
    thread =
        g_thread_try_new("convoy-bounded", bounded_thread, g_atomic_rc_box_acquire(bounded), NULL);
    if (thread == NULL) {
        hypervisor_thread_ends();
        g_atomic_rc_box_release(bounded);
    } else {
        g_thread_unref(thread);
    }
    g_mutex_lock(&bounded->lock);
    while (thread != NULL && maximum_us > 0 && !bounded->done &&
           g_cond_wait_until(&bounded->changed, &bounded->lock, deadline))
        ;
    done = bounded->done;
    g_mutex_unlock(&bounded->lock);
    g_atomic_rc_box_release_full(bounded, bounded_clear);
    return done;
}
