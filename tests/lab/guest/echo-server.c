/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Proof that a guest is alive and went on where it was: a UDP server that
 * answers each datagram with the datagram itself followed by
 *   " COUNTER UPTIME-MS PAGES-DIRTIED"
 * COUNTER grows by one per datagram since boot, so a guest that was restarted
 * or rolled back gives itself away. It keeps no state per peer.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define REQUEST_MAX 64
#define COUNTER_BYTES 4096

static const uint64_t *
counter_map(const char *path)
{
    int fd = open(path, O_RDONLY);
    void *map;

    if (fd < 0)
        return NULL;
    map = mmap(NULL, COUNTER_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    return map == MAP_FAILED ? NULL : map;
}

static long long
uptime_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int
main(int argc, char **argv)
{
    struct sockaddr_in6 here = { .sin6_family = AF_INET6 };
    const uint64_t *pages;
    unsigned long long counter = 0;
    int fd, off = 0;

    if (argc != 3) {
        fprintf(stderr, "usage: echo-server PORT COUNTER-FILE\n");
        return 2;
    }
    here.sin6_port = htons((uint16_t)atoi(argv[1]));
    pages = counter_map(argv[2]);

    fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0 ||
        bind(fd, (struct sockaddr *)&here, sizeof(here)) < 0) {
        perror("echo-server");
        return 1;
    }

    for (;;) {
        char buffer[REQUEST_MAX + 96];
        struct sockaddr_in6 peer;
        socklen_t length = sizeof(peer);
        ssize_t n = recvfrom(fd, buffer, REQUEST_MAX, 0, (struct sockaddr *)&peer, &length);
        int tail;

        if (n < 0)
            continue;
        tail = snprintf(buffer + n, sizeof(buffer) - (size_t)n, " %llu %lld %llu", ++counter,
                        uptime_ms(),
                        (unsigned long long)(pages ? __atomic_load_n(pages, __ATOMIC_RELAXED) : 0));
        sendto(fd, buffer, (size_t)(n + tail), 0, (struct sockaddr *)&peer, length);
    }
}
