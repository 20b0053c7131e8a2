/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A table of domain descriptions; see registry.h. */
#include "daemon/registry.h"

struct Registry {
    GHashTable *domains; /* UUID text (owned by the entry) -> RegistryEntry */
};

typedef struct {
    DomainDescription *description;
    char *xml;             /* to make further descriptions from */
    unsigned class_number; /* 0: none */
    bool stale;            /* since registry_begin() */
} RegistryEntry;

static void
entry_free(gpointer data)
{
    RegistryEntry *entry = data;

    domain_description_free(entry->description);
    g_free(entry->xml);
    g_free(entry);
}

Registry *
registry_new(void)
{
    Registry *registry = g_new0(Registry, 1);

    registry->domains = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, entry_free);
    return registry;
}

void
registry_free(Registry *registry)
{
    if (registry == NULL)
        return;
    g_hash_table_unref(registry->domains);
    g_free(registry);
}

static bool
description_has_class(const DomainDescription *description)
{
    if (description->metadata.sla_lower == 0)
        return false;
    for (guint i = 0; i < description->interfaces->len; i++) {
        const DomainInterface *interface = g_ptr_array_index(description->interfaces, i);

        if (interface->mac != NULL)
            return true;
    }
    return false;
}

/* The lowest number that no domain has; 0: all are taken. */
static unsigned
registry_free_class(const Registry *registry)
{
    bool used[REGISTRY_CLASSES_MAX + 1] = { false };
    GHashTableIter iterator;
    gpointer value;

    g_hash_table_iter_init(&iterator, registry->domains);
    while (g_hash_table_iter_next(&iterator, NULL, &value))
        used[((const RegistryEntry *)value)->class_number] = true;
    for (unsigned number = 1; number <= REGISTRY_CLASSES_MAX; number++) {
        if (!used[number])
            return number;
    }
    return 0;
}

bool
registry_put(Registry *registry, const char *xml, GError **error)
{
    g_autoptr(DomainDescription) description = domain_description_parse(xml, -1, error);
    RegistryEntry *entry;

    if (description == NULL)
        return false;
    if (description->uuid == NULL) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "domain '%s' has no UUID",
                    description->name);
        return false;
    }
    entry = g_new0(RegistryEntry, 1);
    entry->xml = g_strdup(xml);
    entry->description = g_steal_pointer(&description);
    if (description_has_class(entry->description)) {
        entry->class_number = registry_class(registry, entry->description->uuid);
        if (entry->class_number == 0)
            entry->class_number = registry_free_class(registry);
    }
    g_hash_table_replace(registry->domains, entry->description->uuid, entry);
    return true;
}

void
registry_remove(Registry *registry, const char *uuid)
{
    g_hash_table_remove(registry->domains, uuid);
}

void
registry_begin(Registry *registry)
{
    GHashTableIter iterator;
    gpointer value;

    g_hash_table_iter_init(&iterator, registry->domains);
    while (g_hash_table_iter_next(&iterator, NULL, &value))
        ((RegistryEntry *)value)->stale = true;
}

static gboolean
entry_is_stale(gpointer key G_GNUC_UNUSED, gpointer value, gpointer data G_GNUC_UNUSED)
{
    return ((const RegistryEntry *)value)->stale;
}

void
registry_end(Registry *registry)
{
    g_hash_table_foreach_remove(registry->domains, entry_is_stale, NULL);
}

unsigned
registry_class(const Registry *registry, const char *uuid)
{
    const RegistryEntry *entry = g_hash_table_lookup(registry->domains, uuid);

    return entry ? entry->class_number : 0;
}

DomainDescription *
registry_copy(const Registry *registry, const char *uuid)
{
    const RegistryEntry *entry = g_hash_table_lookup(registry->domains, uuid);

    return entry ? domain_description_parse(entry->xml, -1, NULL) : NULL;
}

GPtrArray *
registry_list(const Registry *registry)
{
    GPtrArray *descriptions = g_ptr_array_new();
    GHashTableIter iterator;
    gpointer value;

    g_hash_table_iter_init(&iterator, registry->domains);
    while (g_hash_table_iter_next(&iterator, NULL, &value))
        g_ptr_array_add(descriptions, ((RegistryEntry *)value)->description);
    return descriptions;
}

static uint64_t
add_saturating(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

void
registry_sum_limits(const Registry *registry, RegistryCounts counts, gconstpointer user_data,
                    uint64_t *ret_lower, uint64_t *ret_upper)
{
    GHashTableIter iterator;
    gpointer value;
    uint64_t lower = 0;
    uint64_t upper = 0;
    bool upper_open = false;

    g_hash_table_iter_init(&iterator, registry->domains);
    while (g_hash_table_iter_next(&iterator, NULL, &value)) {
        const DomainDescription *description = ((RegistryEntry *)value)->description;
        const DomainMetadata *metadata = &description->metadata;

        if (counts != NULL && !counts(description, user_data))
            continue;
        lower = add_saturating(lower, metadata->sla_lower);
        upper = add_saturating(upper, metadata->sla_upper);
        /* A VM with a floor and no upper limit may use whatever there is. */
        upper_open |= metadata->sla_lower != 0 && metadata->sla_upper == 0;
    }
    *ret_lower = lower;
    *ret_upper = upper_open ? 0 : upper;
}
