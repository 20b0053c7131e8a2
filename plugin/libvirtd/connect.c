/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* connect(2), and who wants to know of it; see connect.h. */
#include "libvirtd/connect.h"

#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

static int (*real_connect)(int, const struct sockaddr *, socklen_t);
static __thread ConnectFunc watcher;
static __thread void *watcher_data;
static __thread pid_t watcher_process;

/* Before any thread connects, and not in a child after fork(2), where a lock may be held. */
__attribute__((constructor)) static void
find_real_connect(void)
{
    *(void **)&real_connect = dlsym(RTLD_NEXT, "connect");
}

void
connect_watch(ConnectFunc func, void *data)
{
    watcher = func;
    watcher_data = data;
    watcher_process = getpid();
}

/* A resolver connects by UDP. */
static bool
is_tcp(int descriptor)
{
    int type = 0;
    socklen_t length = sizeof(type);

    return getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
}

static void
tell_watcher(int descriptor, const struct sockaddr *address, socklen_t length)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } copy = { 0 };
    int kept = errno;

    memcpy(&copy, address, length < sizeof(copy) ? length : sizeof(copy));
    if (!is_tcp(descriptor))
        copy.any.sa_family = AF_UNSPEC;
    if (copy.any.sa_family == AF_INET && length >= sizeof(copy.v4))
        watcher(ntohs(copy.v4.sin_port), watcher_data);
    else if (copy.any.sa_family == AF_INET6 && length >= sizeof(copy.v6))
        watcher(ntohs(copy.v6.sin6_port), watcher_data);
    errno = kept;
}

/* The C library declares its argument as a union of all kinds of address. */
int connect_stand_in(int descriptor, const struct sockaddr *address,
                     socklen_t length) __asm__("connect");

EXPORTED int
connect_stand_in(int descriptor, const struct sockaddr *address, socklen_t length)
{
    int status = real_connect != NULL ? real_connect(descriptor, address, length)
                                      : (int)syscall(SYS_connect, descriptor, address, length);

    /* In a child that the call has forked, nobody would answer: see interpose.c. */
    if (status == 0 && watcher != NULL && address != NULL && getpid() == watcher_process)
        tell_watcher(descriptor, address, length);
    return status;
}
