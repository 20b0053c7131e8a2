/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Claims: about one operation of one domain at one daemon, gone when dropped, and
 * nobody's but a trusted user's.
 */
#include "common/ipc_claim.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STRANGER 64000 /* neither root nor the user of this test */

static void
test_one(void)
{
    int claim;

    g_assert_false(ipc_claim_stands(IPC_CLAIM_MIGRATE, "web"));
    claim = ipc_claim_make(IPC_CLAIM_MIGRATE, "web");
    g_assert_cmpint(claim, >=, 0);
    /* Each question leaves something in a queue that nobody empties. */
    for (int i = 0; i < 20; i++)
        g_assert_true(ipc_claim_stands(IPC_CLAIM_MIGRATE, "web"));
    g_assert_false(ipc_claim_stands(IPC_CLAIM_RELEASE, "web"));
    g_assert_false(ipc_claim_stands(IPC_CLAIM_MIGRATE, "webb"));
    g_assert_false(ipc_claim_stands(IPC_CLAIM_MIGRATE, ""));
    g_assert_cmpint(ipc_claim_make(IPC_CLAIM_MIGRATE, "web"), ==, -EADDRINUSE);
    ipc_claim_drop(-EADDRINUSE);
    g_assert_true(ipc_claim_stands(IPC_CLAIM_MIGRATE, "web"));
    ipc_claim_drop(claim);
    g_assert_false(ipc_claim_stands(IPC_CLAIM_MIGRATE, "web"));
}

static void
test_long_name(void)
{
    g_autofree char *name = g_strnfill(255, 'x');
    g_autofree char *other = g_strconcat(name, "y", NULL);
    int claim = ipc_claim_make(IPC_CLAIM_MIGRATE, name);

    g_assert_cmpint(claim, >=, 0);
    g_assert_true(ipc_claim_stands(IPC_CLAIM_MIGRATE, name));
    g_assert_false(ipc_claim_stands(IPC_CLAIM_MIGRATE, other));
    ipc_claim_drop(claim);
}

static void
test_other_daemon(void)
{
    g_autofree char *path = g_strdup(g_getenv("VIRT_CONVOY_SOCKET"));
    g_autofree char *other = g_strconcat(path, ".other", NULL);
    int claim = ipc_claim_make(IPC_CLAIM_MIGRATE, "web");

    g_setenv("VIRT_CONVOY_SOCKET", other, TRUE);
    g_assert_false(ipc_claim_stands(IPC_CLAIM_MIGRATE, "web"));
    g_setenv("VIRT_CONVOY_SOCKET", path, TRUE);
    g_assert_true(ipc_claim_stands(IPC_CLAIM_MIGRATE, "web"));
    ipc_claim_drop(claim);
}

/* Lives until the other end of the pipe is closed; wrote a byte when it was ready. */
static pid_t
start_child(bool stranger, int *ret_pipe)
{
    int ready[2], wait[2];
    pid_t child;
    char byte = 0;

    g_assert_cmpint(pipe(ready), ==, 0);
    g_assert_cmpint(pipe(wait), ==, 0);
    child = fork();
    if (child == 0) {
        close(wait[1]);
        if (stranger && (setuid(STRANGER) < 0 || ipc_claim_make(IPC_CLAIM_MIGRATE, "web") < 0))
            _exit(EXIT_FAILURE);
        if (write(ready[1], &byte, 1) == 1 && read(wait[0], &byte, 1) == 0)
            _exit(EXIT_SUCCESS);
        _exit(EXIT_FAILURE);
    }
    g_assert_cmpint(child, >, 0);
    close(wait[0]);
    close(ready[1]);
    g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
    close(ready[0]);
    *ret_pipe = wait[1];
    return child;
}

static void
end_child(pid_t child, int descriptor)
{
    int status;

    close(descriptor);
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS);
}

/* libvirtd forks in other threads; what such a child inherits ends nothing late. */
static void
test_inherited(void)
{
    int claim = ipc_claim_make(IPC_CLAIM_MIGRATE, "web"), descriptor;
    pid_t child = start_child(false, &descriptor);

    ipc_claim_drop(claim);
    g_assert_false(ipc_claim_stands(IPC_CLAIM_MIGRATE, "web"));
    end_child(child, descriptor);
    claim = ipc_claim_make(IPC_CLAIM_MIGRATE, "web");
    g_assert_cmpint(claim, >=, 0);
    ipc_claim_drop(claim);
}

static void
test_stranger(void)
{
    pid_t child;
    int descriptor;

    if (geteuid() != 0) {
        g_test_skip("only root can be another user");
        return;
    }
    child = start_child(true, &descriptor);
    g_assert_false(ipc_claim_stands(IPC_CLAIM_MIGRATE, "web"));
    g_assert_cmpint(ipc_claim_make(IPC_CLAIM_MIGRATE, "web"), ==, -EADDRINUSE);
    end_child(child, descriptor);
}

int
main(int argc, char **argv)
{
    /* Tests of other processes do not get in the way. */
    g_autofree char *path = g_strdup_printf("/test-common-ipc-claim-%d", (int)getpid());

    g_test_init(&argc, &argv, NULL);
    g_setenv("VIRT_CONVOY_SOCKET", path, TRUE);
    g_test_add_func("/ipc-claim/one", test_one);
    g_test_add_func("/ipc-claim/long-name", test_long_name);
    g_test_add_func("/ipc-claim/other-daemon", test_other_daemon);
    g_test_add_func("/ipc-claim/inherited", test_inherited);
    g_test_add_func("/ipc-claim/stranger", test_stranger);
    return g_test_run();
}
