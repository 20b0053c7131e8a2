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
    g_snprintf(ret_name, IF_NAMESIZE, SHAPING_IFB_PREFIX "%d", ifindex);
}

bool
shaping_mac_parse(const char *text, uint8_t ret_mac[SHAPING_MAC_BYTES])
{
    uint8_t mac[SHAPING_MAC_BYTES];
    unsigned any = 0;

    if (text == NULL || strlen(text) != 3 * SHAPING_MAC_BYTES - 1)
        return false;
    for (unsigned i = 0; i < SHAPING_MAC_BYTES; i++) {
        int high = g_ascii_xdigit_value(text[3 * i]);
        int low = g_ascii_xdigit_value(text[3 * i + 1]);

        if (high < 0 || low < 0 || (i + 1 < SHAPING_MAC_BYTES && text[3 * i + 2] != ':'))
            return false;
        mac[i] = (uint8_t)(high << 4 | low);
        any |= mac[i];
    }
    /* The lowest bit of the first byte marks groups. */
    if (any == 0 || (mac[0] & 1) != 0)
        return false;
    memcpy(ret_mac, mac, sizeof mac);
    return true;
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

/* Two classes for one address: only the first would ever be used. */
static bool
mac_is_repeated(const ShapingPlan *plan, unsigned vm, unsigned number)
{
    for (unsigned i = 0; i <= vm; i++) {
        unsigned count = i == vm ? number : plan->vm[i].mac_count;

        for (unsigned j = 0; j < count; j++) {
            if (memcmp(plan->vm[i].macs[j], plan->vm[vm].macs[number], SHAPING_MAC_BYTES) == 0)
                return true;
        }
    }
    return false;
}

static gboolean
vms_validate(const ShapingPlan *plan, GError **error)
{
    guint64 seen[2] = { 0, 0 };

    if (plan->vm_count > SHAPING_VMS_MAX)
        return plan_refuse(error, "number of VMs", 0, plan->vm_count, "is above 64");
    for (unsigned i = 0; i < plan->vm_count; i++) {
        const ShapingVm *vm = &plan->vm[i];

        if (vm->id < 1 || vm->id > SHAPING_VMS_MAX)
            return plan_refuse(error, "VM id", 0, vm->id, "is not in 1 to 64");
        if ((seen[vm->id / 64] & (UINT64_C(1) << (vm->id % 64))) != 0)
            return plan_refuse(error, "VM id", 0, vm->id, "occurs twice");
        seen[vm->id / 64] |= UINT64_C(1) << (vm->id % 64);
        if (vm->rate > SHAPING_RATE_MAX)
            return plan_refuse(error, "rate of a VM", 0, vm->rate, "is above the greatest rate");
        if (vm->ceil > SHAPING_RATE_MAX)
            return plan_refuse(error, "ceil of a VM", 0, vm->ceil, "is above the greatest rate");
        if (vm->mac_count < 1 || vm->mac_count > SHAPING_MACS_MAX)
            return plan_refuse(error, "number of MACs of a VM", 0, vm->mac_count,
                               "is not in 1 to 8");
        for (unsigned j = 0; j < vm->mac_count; j++) {
            if (mac_is_repeated(plan, i, j))
                return plan_refuse(error, "MAC of VM", 0, vm->id, "occurs twice");
        }
    }
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
        !class_validate(&plan->migrations, "migrations class", error) || !vms_validate(plan, error))
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
        if (migration->prio > 7)
            return plan_refuse(error, "prio", id, migration->prio,
                               "is no priority of HTB (0 to 7)");
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

/* At most 64 rates of SHAPING_RATE_MAX (2^40): no sum reaches 64 bits. */
static uint64_t
vm_rates_sum(const ShapingPlan *plan)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < plan->vm_count; i++)
        sum += plan->vm[i].rate;
    return sum;
}

static void
vms_normalise(ShapingPlan *plan)
{
    uint64_t sum;

    for (unsigned i = 0; i < plan->vm_count; i++)
        rates_normalise(&plan->vm[i].rate, &plan->vm[i].ceil, plan->workload.ceil);
    sum = vm_rates_sum(plan);
    for (unsigned i = 0; i < plan->vm_count && sum > plan->workload.rate; i++) {
        double share = (double)plan->workload.rate / (double)sum;
        uint64_t rate = (uint64_t)((double)plan->vm[i].rate * share);

        plan->vm[i].rate = MAX(rate, SHAPING_RATE_MIN);
    }
}

ShapingClass
shaping_plan_default_class(const ShapingPlan *plan)
{
    ShapingClass class = plan->workload;
    uint64_t sum = vm_rates_sum(plan);

    class.rate = class.rate > sum ? MAX(class.rate - sum, SHAPING_RATE_MIN) : SHAPING_RATE_MIN;
    return class;
}

void
shaping_plan_normalise(ShapingPlan *plan)
{
    plan->link_rate = MAX(plan->link_rate, SHAPING_RATE_MIN);
    rates_normalise(&plan->workload.rate, &plan->workload.ceil, plan->link_rate);
    vms_normalise(plan);
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
