/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Checks and arithmetic on plans. No kernel, no command: rendering is tc.c.
 */
#include "shaping/plan.h"

#include <arpa/inet.h>
#include <string.h>

G_DEFINE_QUARK(convoy - shaping - error - quark, shaping_error)

bool
flow_address_parse(const char *text, FlowAddress *ret_address)
{
    FlowAddress address = { .family = AF_UNSPEC };

    if (text != NULL && *text != '\0') {
        if (inet_pton(AF_INET, text, address.bytes) == 1)
            address.family = AF_INET;
        else if (inet_pton(AF_INET6, text, address.bytes) == 1)
            address.family = AF_INET6;
        else
            return false;
    }
    *ret_address = address;
    return true;
}

FlowMatch
flow_match_default(FlowAddress source, FlowAddress destination)
{
    return (FlowMatch){
        .source = source,
        .destination = destination,
        .port_side = FLOW_PORT_DESTINATION,
        .port_low = SHAPING_PORT_LOW,
        .port_high = SHAPING_PORT_HIGH,
    };
}

bool
shaping_interface_name_is_valid(const char *name)
{
    size_t length = name == NULL ? 0 : strnlen(name, IF_NAMESIZE);

    if (length == 0 || length >= IF_NAMESIZE || name[0] == '-')
        return false;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (!g_ascii_isalnum(name[i]) && strchr("_.-", name[i]) == NULL)
            return false;
    }
    return true;
}

void
shaping_ifb_name(int ifindex, char ret_name[IF_NAMESIZE])
{
    /* 6 letters and up to 9 digits: an ifindex that high does not occur. */
    g_snprintf(ret_name, IF_NAMESIZE, "convoy%d", ifindex);
}

static gboolean
plan_refuse(GError **error, const char *field, unsigned id, guint64 value, const char *rule)
{
    if (id == 0)
        g_set_error(error, SHAPING_ERROR, SHAPING_ERROR_INVALID,
                    "shaping plan: %s %" G_GUINT64_FORMAT " %s", field, value, rule);
    else
        g_set_error(error, SHAPING_ERROR, SHAPING_ERROR_INVALID,
                    "shaping plan: migration %u: %s %" G_GUINT64_FORMAT " %s", id, field, value,
                    rule);
    return FALSE;
}

static gboolean
class_validate(const ShapingClass *class, const char *name, GError **error)
{
    if (class->rate > SHAPING_RATE_MAX)
        return plan_refuse(error, name, 0, class->rate, "is above the greatest rate");
    if (class->ceil > SHAPING_RATE_MAX)
        return plan_refuse(error, name, 0, class->ceil, "is above the greatest rate");
    if (class->prio > 7)
        return plan_refuse(error, name, 0, class->prio, "is no priority of HTB (0 to 7)");
    return TRUE;
}

static bool
address_family_is_known(const FlowAddress *address)
{
    return address->family == AF_UNSPEC || address->family == AF_INET ||
           address->family == AF_INET6;
}

static gboolean
match_validate(const FlowMatch *match, unsigned id, GError **error)
{
    if (!address_family_is_known(&match->source))
        return plan_refuse(error, "address family", id, (guint64)match->source.family,
                           "is neither IPv4 nor IPv6");
    if (!address_family_is_known(&match->destination))
        return plan_refuse(error, "address family", id, (guint64)match->destination.family,
                           "is neither IPv4 nor IPv6");
    if (match->source.family != AF_UNSPEC && match->destination.family != AF_UNSPEC &&
        match->source.family != match->destination.family)
        return plan_refuse(error, "address family", id, (guint64)match->source.family,
                           "differs between source and destination");
    if (match->port_side != FLOW_PORT_SOURCE && match->port_side != FLOW_PORT_DESTINATION)
        return plan_refuse(error, "port side", id, (guint64)match->port_side, "is unknown");
    if (match->port_low == 0 || match->port_low > match->port_high)
        return plan_refuse(error, "port", id, match->port_low,
                           "is 0 or above the end of its range");
    return TRUE;
}

gboolean
shaping_plan_validate(const ShapingPlan *plan, GError **error)
{
    guint64 seen[2] = { 0, 0 };

    if (!shaping_interface_name_is_valid(plan->interface)) {
        g_autofree char *quoted = g_strndup(plan->interface, IF_NAMESIZE);
        g_autofree char *escaped = g_strescape(quoted, NULL);

        g_set_error(error, SHAPING_ERROR, SHAPING_ERROR_INVALID,
                    "shaping plan: \"%s\" is no interface name that tc can be given", escaped);
        return FALSE;
    }
    if (plan->direction != SHAPING_EGRESS && plan->direction != SHAPING_INGRESS)
        return plan_refuse(error, "direction", 0, (guint64)plan->direction, "is unknown");
    if (plan->link_rate == 0 || plan->link_rate > SHAPING_RATE_MAX)
        return plan_refuse(error, "link rate", 0, plan->link_rate,
                           "is 0 or above the greatest rate");
    if (!class_validate(&plan->workload, "workload class", error) ||
        !class_validate(&plan->migrations, "migrations class", error))
        return FALSE;
    if (plan->migration_count > SHAPING_MIGRATIONS_MAX)
        return plan_refuse(error, "number of migrations", 0, plan->migration_count, "is above 64");

    for (unsigned i = 0; i < plan->migration_count; i++) {
        const ShapingMigration *migration = &plan->migration[i];
        unsigned id = migration->id;

        if (id < 1 || id > SHAPING_MIGRATIONS_MAX)
            return plan_refuse(error, "migration id", 0, id, "is not in 1 to 64");
        if ((seen[id / 64] & (UINT64_C(1) << (id % 64))) != 0)
            return plan_refuse(error, "migration id", 0, id, "occurs twice");
        seen[id / 64] |= UINT64_C(1) << (id % 64);
        if (migration->rate > SHAPING_RATE_MAX)
            return plan_refuse(error, "rate", id, migration->rate, "is above the greatest rate");
        if (migration->ceil > SHAPING_RATE_MAX)
            return plan_refuse(error, "ceil", id, migration->ceil, "is above the greatest rate");
        if (migration->match_count < 1 || migration->match_count > SHAPING_MATCHES_MAX)
            return plan_refuse(error, "number of matches", id, migration->match_count,
                               "is not in 1 to 8");
        for (unsigned j = 0; j < migration->match_count; j++) {
            if (!match_validate(&migration->matches[j], id, error))
                return FALSE;
        }
    }
    return TRUE;
}

static void
rates_normalise(uint64_t *rate, uint64_t *ceiling, uint64_t parent_ceiling)
{
    *ceiling = CLAMP(*ceiling, SHAPING_RATE_MIN, parent_ceiling);
    *rate = CLAMP(*rate, SHAPING_RATE_MIN, *ceiling);
}

void
shaping_plan_normalise(ShapingPlan *plan)
{
    plan->link_rate = MAX(plan->link_rate, SHAPING_RATE_MIN);
    rates_normalise(&plan->workload.rate, &plan->workload.ceil, plan->link_rate);
    rates_normalise(&plan->migrations.rate, &plan->migrations.ceil, plan->link_rate);
    for (unsigned i = 0; i < plan->migration_count; i++)
        rates_normalise(&plan->migration[i].rate, &plan->migration[i].ceil, plan->migrations.ceil);
}

unsigned
port_range_split(uint16_t low, uint16_t high, PortMask ret_masks[PORT_MASKS_MAX])
{
    uint32_t first = low;
    unsigned count = 0;

    /* The greatest aligned block that starts at `first` and fits, repeated: at
     * most 15 going up and 15 going down. */
    while (first <= high && count < PORT_MASKS_MAX) {
        uint32_t size = 1;

        while (first % (size * 2) == 0 && first + size * 2 - 1 <= high)
            size *= 2;
        ret_masks[count++] = (PortMask){
            .port = (uint16_t)first,
            .mask = (uint16_t)(0x10000u - size),
        };
        first += size;
    }
    return count;
}
