/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The domains that run on this host: their descriptions by UUID and the sums
 * of their SLA limits. Filled by the manager from domain XML; no libvirt here.
 */
#pragma once

#include "common/domain.h"

typedef struct Registry Registry;

Registry *registry_new(void);
void registry_free(Registry *registry);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Registry, registry_free)

/* Parses a live domain XML; replaces what was known of that UUID. */
bool registry_put(Registry *registry, const char *xml, GError **error);
void registry_remove(Registry *registry, const char *uuid);

/*
 * Between the two all that run here are put: what was known before registry_begin() and is
 * not put again is forgotten by registry_end(). Without the end everything stays.
 */
void registry_begin(Registry *registry);
void registry_end(Registry *registry);

enum { REGISTRY_CLASSES_MAX = 64 };

/*
 * A number of its own, 1 to REGISTRY_CLASSES_MAX, for each domain with a lower
 * limit and a MAC; it stays the same as long as the domain is known. 0: not
 * such a domain, or too many of them.
 */
unsigned registry_class(const Registry *registry, const char *uuid);

/* A copy of its own for a migration; NULL: not known. */
DomainDescription *registry_copy(const Registry *registry, const char *uuid);

/* All DomainDescription, valid until the next change; free the array only. */
GPtrArray *registry_list(const Registry *registry);

/* Does this domain run here, so that its limits count here? */
typedef bool (*RegistryCounts)(const DomainDescription *description, gconstpointer user_data);

/*
 * Sums over the domains for which counts() is true (NULL: all), bytes/s. A
 * domain with a lower limit and no upper one makes the upper sum 0 (none): the
 * workload has then no bound that could be kept. Saturates.
 */
void registry_sum_limits(const Registry *registry, RegistryCounts counts, gconstpointer user_data,
                         uint64_t *ret_lower, uint64_t *ret_upper);
