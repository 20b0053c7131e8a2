/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory load inside a guest: fills memory with data that does not compress,
 * then rewrites a working set at a fixed rate with ever changing data, so that
 * neither zero-page detection nor XBZRLE can hide the dirty rate from a live
 * migration.
 *
 * The number of pages rewritten is published in a shared file, where
 * echo-server reads it. Nothing here talks to the network.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE_BYTES 4096u
#define PAGE_WORDS (PAGE_BYTES / sizeof(uint64_t))
#define PAGES_PER_MIB 256u
#define TICK_NS 10000000LL
#define TICK_PAGES 16u
#define SECOND_NS 1000000000LL
#define MIB_MAX (1u << 20)

static uint64_t
monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static void
page_fill(uint64_t *page, uint64_t seed)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 0x632be59bd9b4e019u;

    for (size_t i = 0; i < PAGE_WORDS; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        page[i] = x;
    }
}

/* Cheap under emulation, yet every word of the page differs afterwards. */
static void
page_rewrite(uint64_t *page, uint64_t round)
{
    for (size_t i = 0; i < PAGE_WORDS; i++)
        page[i] = page[i] * 0xd1342543de82ef95u + (round | 1u);
}

static int
argument_mib(const char *name, const char *text, uint64_t *ret_mib)
{
    char *end = NULL;

    errno = 0;
    *ret_mib = strtoull(text, &end, 10);
    if (errno || end == text || *end || *ret_mib > MIB_MAX) {
        fprintf(stderr, "dirty-pages: %s: bad number '%s'\n", name, text);
        return -1;
    }
    return 0;
}

static uint64_t *
counter_map(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT, 0644);
    void *map;

    if (fd < 0 || ftruncate(fd, PAGE_BYTES) < 0)
        return NULL;
    map = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return map == MAP_FAILED ? NULL : map;
}

static void
dirty_forever(uint64_t *memory, uint64_t pages, uint64_t rate_mib, uint64_t *counter)
{
    uint64_t page = 0;
    uint64_t round = 1;
    uint64_t start = monotonic_ns();
    uint64_t done = 0;
    /* To wake an emulated processor costs more than a few pages do. */
    long long tick = SECOND_NS * TICK_PAGES / (long long)(rate_mib * PAGES_PER_MIB);
    struct timespec nap = { 0, tick > TICK_NS ? tick : TICK_NS };

    for (;;) {
        uint64_t elapsed = monotonic_ns() - start;
        uint64_t due = (uint64_t)((double)elapsed / SECOND_NS * (double)(rate_mib * PAGES_PER_MIB));

        /* A pause of the whole guest is not made up for by a burst. */
        if (due > done + rate_mib * PAGES_PER_MIB) {
            start = monotonic_ns();
            done = 0;
            continue;
        }
        while (done < due) {
            page_rewrite(memory + page * PAGE_WORDS, round);
            if (++page == pages) {
                page = 0;
                round++;
            }
            done++;
            __atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
        }
        nanosleep(&nap, NULL);
    }
}

int
main(int argc, char **argv)
{
    uint64_t fill_mib, working_mib, rate_mib, pages;
    uint64_t *memory, *counter;

    if (argc != 5) {
        fprintf(stderr, "usage: dirty-pages FILL WORKING-SET RATE COUNTER-FILE\n");
        return 2;
    }
    if (argument_mib("FILL", argv[1], &fill_mib) < 0 ||
        argument_mib("WORKING-SET", argv[2], &working_mib) < 0 ||
        argument_mib("RATE", argv[3], &rate_mib) < 0)
        return 2;
    if (fill_mib < working_mib)
        fill_mib = working_mib;

    counter = counter_map(argv[4]);
    if (!counter) {
        fprintf(stderr, "dirty-pages: cannot map %s\n", argv[4]);
        return 1;
    }
    if (fill_mib == 0)
        return 0;

    memory = mmap(NULL, fill_mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        fprintf(stderr, "dirty-pages: no memory for %llu MiB\n", (unsigned long long)fill_mib);
        return 1;
    }
    pages = fill_mib * PAGES_PER_MIB;
    for (uint64_t i = 0; i < pages; i++)
        page_fill(memory + i * PAGE_WORDS, i + 1);

    /*
     * The caller runs this in the background and waits for this line: a fork
     * here would copy every page on its next write.
     */
    puts("dirty-pages: filled");
    fflush(stdout);

    if (rate_mib == 0 || working_mib == 0)
        for (;;)
            pause();
    dirty_forever(memory, working_mib * PAGES_PER_MIB, rate_mib, counter);
}
