/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs a program on a kernel without user-fault support, as far as it and its
 * children can tell: a seccomp filter answers userfaultfd(2) with ENOSYS.
 *
 *   without-userfaultfd COMMAND [ARGUMENT...]
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog filter = { sizeof(steps) / sizeof(steps[0]), steps };

    if (argc < 2) {
        fprintf(stderr, "usage: without-userfaultfd COMMAND [ARGUMENT...]\n");
        return 2;
    }
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0) {
        fprintf(stderr, "without-userfaultfd: seccomp: %s\n", strerror(errno));
        return 1;
    }
    execvp(argv[1], argv + 1);
    fprintf(stderr, "without-userfaultfd: %s: %s\n", argv[1], strerror(errno));
    return 127;
}
