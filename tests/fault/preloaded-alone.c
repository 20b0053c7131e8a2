/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Preloaded into libvirtd around the address sanitizer, for two things that the
 * sanitizer is not made for.
 *
 * libvirt would pass LD_PRELOAD on to QEMU, which has no business with it.
 *
 * libvirtd forks while its other threads run, and the child allocates before it
 * starts its program. glibc's allocator is whole again in such a child; this
 * sanitizer's may have been copied while another thread held one of its locks,
 * and then the child waits for ever. So no thread is inside the allocator while
 * one forks: who allocates shares `forking`, who forks has it alone. Aligned memory,
 * which neither libvirt nor GLib asks for there, goes past it.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* Memory for whoever asks before the allocator is found: it is never given back. */
#define EARLY_BYTES 65536u

static pthread_rwlock_t forking = PTHREAD_RWLOCK_INITIALIZER;
static _Alignas(max_align_t) char early[EARLY_BYTES];
static size_t early_used;
static int looking_up; /* only while the process starts, with one thread */
/* NULL until this object is linked: the sanitizer is linked first, and allocates. */
static void *(*volatile look_up)(void *, const char *) = dlsym;

static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
} next;

static void
fork_begins(void)
{
    pthread_rwlock_wrlock(&forking);
}

static void
fork_is_over(void)
{
    pthread_rwlock_unlock(&forking);
}

/* In the child this thread has an identity of its own, which the lock does not know. */
static void
fork_is_over_in_child(void)
{
    pthread_rwlock_init(&forking, NULL);
}

__attribute__((constructor)) static void
prepare(void)
{
    unsetenv("LD_PRELOAD");
    pthread_atfork(fork_begins, fork_is_over, fork_is_over_in_child);
}

/* Looking up may itself allocate. */
static int
is_found(void)
{
    if (next.free != NULL || looking_up || look_up == NULL)
        return next.free != NULL;
    looking_up = 1;
    *(void **)&next.malloc = look_up(RTLD_NEXT, "malloc");
    *(void **)&next.calloc = look_up(RTLD_NEXT, "calloc");
    *(void **)&next.realloc = look_up(RTLD_NEXT, "realloc");
    *(void **)&next.free = look_up(RTLD_NEXT, "free");
    looking_up = 0;
    return next.free != NULL;
}

static void *
early_allocation(size_t size)
{
    void *memory = early + early_used;

    size = (size + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
    if (size > EARLY_BYTES - early_used)
        return NULL;
    early_used += size;
    return memory;
}

/* Nothing says how long it is: what comes after it is at least there to be read. */
static size_t
early_room(const void *memory)
{
    return EARLY_BYTES - (size_t)((const char *)memory - early);
}

static int
is_early(const void *memory)
{
    return (uintptr_t)memory - (uintptr_t)early < EARLY_BYTES;
}

EXPORT void *
malloc(size_t size)
{
    void *memory;

    if (!is_found())
        return early_allocation(size);
    pthread_rwlock_rdlock(&forking);
    memory = next.malloc(size);
    pthread_rwlock_unlock(&forking);
    return memory;
}

EXPORT void *
calloc(size_t count, size_t size)
{
    void *memory;

    if (!is_found())
        return early_allocation(count * size); /* zero: it was never used */
    pthread_rwlock_rdlock(&forking);
    memory = next.calloc(count, size);
    pthread_rwlock_unlock(&forking);
    return memory;
}

EXPORT void *
realloc(void *old, size_t size)
{
    void *memory;

    if (!is_found() || is_early(old)) {
        memory = malloc(size);
        if (memory != NULL && old != NULL)
            memcpy(memory, old, early_room(old) < size ? early_room(old) : size);
        return memory;
    }
    pthread_rwlock_rdlock(&forking);
    memory = next.realloc(old, size);
    pthread_rwlock_unlock(&forking);
    return memory;
}

EXPORT void
free(void *memory)
{
    if (memory == NULL || is_early(memory) || !is_found())
        return;
    pthread_rwlock_rdlock(&forking);
    next.free(memory);
    pthread_rwlock_unlock(&forking);
}
