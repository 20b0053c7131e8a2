/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a daemon that stops asks of libvirt: with an answer, without one, and with a
 * libvirt that never answers.
 */
#include "daemon/hypervisor-private.h"

#include "daemon-test.h"

/* The one domain of libvirt's test driver, which has no limits of migrations. */
#define TEST_DOMAIN "6695eb01-f6a4-8304-79aa-97f2502e193f"
#define NO_DOMAIN "11111111-2222-3333-4444-555555555555"

static void
on_event(const HypervisorEvent *event, gpointer data)
{
    if (event->type == HYPERVISOR_CONNECTED)
        *(bool *)data = true;
}

static void
test_lift(void)
{
    HypervisorSpeedLift lifts[] = {
        { .uuid = NO_DOMAIN, .told_mib = 7 },
        { .uuid = TEST_DOMAIN, .told_mib = 7 },
        { .uuid = TEST_DOMAIN, .post_copy = true },
        { .uuid = "no UUID", .told_mib = 7 },
    };
    bool connected = false;
    g_autoptr(Hypervisor) hypervisor = hypervisor_new("test:///default", on_event, &connected);

    /* Not connected yet: nothing is known of any. */
    hypervisor_lift_speeds(hypervisor, lifts, G_N_ELEMENTS(lifts));
    for (size_t i = 0; i < G_N_ELEMENTS(lifts); i++)
        g_assert_false(lifts[i].lifted);
    while (!connected)
        g_main_context_iteration(NULL, TRUE);
    hypervisor_lift_speeds(hypervisor, lifts, 0);
    hypervisor_lift_speeds(hypervisor, lifts, G_N_ELEMENTS(lifts));
    g_assert_true(lifts[0].lifted); /* its limit went with it */
    for (size_t i = 1; i < G_N_ELEMENTS(lifts); i++)
        g_assert_false(lifts[i].lifted);
    g_assert_cmpuint(lifts[0].told_mib, ==, 7);
}

typedef struct {
    GMutex *lock;
    GCond *changed;
    bool *may_end;
    bool *cleared;
    unsigned answer;
} Slow;

static void
slow_run(gpointer data)
{
    Slow *slow = data;

    g_mutex_lock(slow->lock);
    while (!*slow->may_end)
        g_cond_wait(slow->changed, slow->lock);
    slow->answer = 42;
    g_mutex_unlock(slow->lock);
}

static void
slow_clear(gpointer data)
{
    Slow *slow = data;

    g_mutex_lock(slow->lock);
    *slow->cleared = true;
    g_cond_broadcast(slow->changed);
    g_mutex_unlock(slow->lock);
}

static void
test_bounded(void)
{
    GMutex lock;
    GCond changed;
    bool may_end = false;
    bool cleared = false;
    Slow *slow = g_atomic_rc_box_new0(Slow);

    g_mutex_init(&lock);
    g_cond_init(&changed);
    *slow = (Slow){ &lock, &changed, &may_end, &cleared, 0 };
    /* Hangs: what waits for it goes on, and what they share is the thread's alone. */
    g_assert_false(hypervisor_run_bounded(slow_run, slow, slow_clear, 1000));
    g_assert_true(hypervisor_threads_left());
    g_atomic_rc_box_release_full(slow, slow_clear);
    g_assert_false(cleared);
    g_mutex_lock(&lock);
    may_end = true;
    g_cond_broadcast(&changed);
    while (!cleared)
        g_cond_wait(&changed, &lock);
    g_mutex_unlock(&lock);
    while (hypervisor_threads_left())
        g_thread_yield();

    /* Answers: the result is there, and cleared by the one who reads it. */
    cleared = false;
    slow = g_atomic_rc_box_new0(Slow);
    *slow = (Slow){ &lock, &changed, &may_end, &cleared, 0 };
    g_assert_true(hypervisor_run_bounded(slow_run, slow, slow_clear, 60 * G_USEC_PER_SEC));
    g_assert_cmpuint(slow->answer, ==, 42);
    g_atomic_rc_box_release_full(slow, slow_clear);
    while (hypervisor_threads_left())
        g_thread_yield();
    g_assert_true(cleared);
    g_mutex_clear(&lock);
    g_cond_clear(&changed);
}

int
main(int argc, char **argv)
{
    daemon_test_init(&argc, &argv);
    g_test_add_func("/daemon/hypervisor/lift", test_lift);
    g_test_add_func("/daemon/hypervisor/bounded", test_bounded);
    return g_test_run();
}
