/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the kernel says stands on an interface: qdiscs, HTB classes, u32
 * filters.
 *
 * Over rtnetlink, not `tc -j`: iproute2 6.1 prints classes as text with
 * rounded rates even with -j, and u32 matches as members of one name, which a
 * JSON parser folds into one. Also it costs no process. Reads only.
 */
#pragma once

#include "shaping/plan.h"

typedef struct {
    uint32_t handle; /* major << 16; 0 for a default of the kernel */
    uint32_t parent; /* TC_H_ROOT, TC_H_INGRESS, a class, ... */
    char kind[IF_NAMESIZE];
    uint32_t limit; /* of a fifo, else 0 */
} ObservedQdisc;

typedef struct {
    uint32_t id;
    uint32_t parent;
    uint64_t rate;
    uint64_t ceil;
    uint32_t prio;
    uint32_t quantum;
} ObservedClass;

enum { OBSERVED_KEYS_MAX = 16, OBSERVED_OBJECTS_MAX = 4096, OBSERVED_DEVICE_GONE = -1 };

typedef struct {
    uint32_t value, mask; /* host order */
    int offset;
} U32Key;

typedef struct {
    uint32_t parent;
    uint16_t preference;
    uint16_t protocol; /* host order */
    char kind[IF_NAMESIZE];
    uint32_t class_id;
    unsigned key_count; /* more than OBSERVED_KEYS_MAX: exotic is set */
    U32Key keys[OBSERVED_KEYS_MAX];
    int redirect_ifindex; /* mirred egress redirect; 0: none, or OBSERVED_DEVICE_GONE: it
                           * drops what comes in */
    bool exotic;          /* has something we never write */
} ObservedFilter;

typedef struct {
    char name[IF_NAMESIZE];
    bool exists;
    int ifindex;
    char link_kind[IF_NAMESIZE];
    bool up;
    GArray *qdiscs;  /* ObservedQdisc */
    GArray *classes; /* ObservedClass, htb only */
    GArray *filters; /* ObservedFilter at our root and at ingress */
} Observed;

/* An interface that does not exist is an answer, not an error. More than
 * OBSERVED_OBJECTS_MAX objects of a kind is an error. */
Observed *shaping_observe(const char *interface, GError **error);
Observed *observed_new_empty(void);
void observed_free(Observed *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Observed, observed_free)

/* Our root (htb c0b0:) stands. */
bool observed_has_our_root(const Observed *self);

/*
 * The ingress qdisc stands and holds nothing but our redirect to `ifb_ifindex`
 * (0: to any), or nothing at all, as a crash between the two steps leaves it.
 * A redirect of ours whose ifb was deleted is ours, and redirects no more.
 */
bool observed_has_our_ingress(const Observed *self, int ifb_ifindex, bool *ret_redirects);

/*
 * Why `direction` of this interface is not ours to shape: an administrator's
 * root qdisc or child, an ingress or clsact qdisc that does not feed
 * `ifb_ifindex` (0 when our ifb does not exist). NULL: free, or ours. New
 * text, free with g_free.
 */
char *observed_foreign_reason(const Observed *self, ShapingDirection direction, int ifb_ifindex);
