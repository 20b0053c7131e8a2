/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From what stands to what is wanted, as commands. Pure: reads the plan and
 * the observation, runs nothing (that is tc.c). The tree is drawn in plan.h.
 */
#include "shaping/tc.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/pkt_sched.h>
#include <string.h>

/* A filter's protocol decides its preference: one preference, one protocol. */
typedef enum {
    FAMILY_IPV4,
    FAMILY_IPV6,
    FAMILY_VLAN,
    FAMILY_COUNT,
    FAMILY_ANY = FAMILY_COUNT, /* of a VM: whatever it sends, ARP included */
} FilterFamily;

static const struct {
    const char *name;
    uint16_t protocol;
} family_table[] = {
    [FAMILY_IPV4] = { "ip", ETH_P_IP },
    [FAMILY_IPV6] = { "ipv6", ETH_P_IPV6 },
    [FAMILY_VLAN] = { "802.1Q", ETH_P_8021Q },
    [FAMILY_ANY] = { "all", ETH_P_ALL },
};

typedef struct {
    const ShapingPlan *plan;
    const ShapingFeatures *features;
    const char *device;
    const Observed *observed;
    bool fresh; /* the root is made by this run: nothing below it stands */
    GPtrArray *steps;
} Difference;

ShapingStep *
shaping_step_undo(ShapingLeaves leaves, const char *device)
{
    g_autofree char *line = NULL;

    switch (leaves) {
    case SHAPING_LEAVES_NOTHING:
        return NULL;
    case SHAPING_LEAVES_ROOT:
        line = g_strdup_printf("qdisc del dev %s root", device);
        return shaping_step_new(SHAPING_TOOL_TC, SHAPING_LEAVES_NOTHING, device, line);
    case SHAPING_LEAVES_INGRESS:
        line = g_strdup_printf("qdisc del dev %s ingress", device);
        return shaping_step_new(SHAPING_TOOL_TC, SHAPING_LEAVES_NOTHING, device, line);
    case SHAPING_LEAVES_IFB:
        line = g_strdup_printf("link del dev %s", device);
        return shaping_step_new(SHAPING_TOOL_IP, SHAPING_LEAVES_NOTHING, device, line);
    }
    return NULL;
}

G_GNUC_PRINTF(5, 6)
static void
steps_add(GPtrArray *steps, ShapingTool tool, ShapingLeaves leaves, const char *device,
          const char *format, ...)
{
    g_autofree char *line = NULL;
    ShapingStep *step, *undo;
    va_list arguments;

    va_start(arguments, format);
    line = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    step = shaping_step_new(tool, leaves, device, line);
    undo = shaping_step_undo(leaves, device);
    if (undo != NULL) {
        step->undo = g_steal_pointer(&undo->arguments);
        shaping_step_free(undo);
    }
    g_ptr_array_add(steps, step);
}

/* -- classes ------------------------------------------------------------- */

/*
 * One millisecond at the rate: HTB's timer is not finer than that on a busy
 * machine, and tc's own default of one jiffy rounds to nothing at high rates.
 */
static uint64_t
class_burst(uint64_t rate)
{
    return CLAMP(rate / 1000, 3200, 16u << 20);
}

/* Of TCP, with its headers: what the uplink, and the ifb, see as one packet (TSO, GRO). */
#define SEGMENT_BYTES (72u << 10)

/*
 * What a class may send before another one of its prio when several borrow: in proportion
 * to the rate. HTB takes each packet off what is left of it, adds it once and goes on to
 * the next class. With less than a packet that falls without end, until after 2 GB the
 * number wraps around and the class sends as much without giving way: so a segment at
 * least, which is no more than HTB sends anyway. Many of them where one goes first: a
 * change of prio waits until the class has nothing queued. Measured: 16 segments gave 12
 * to 1 against a single stream. In post-copy guests wait for pages of both.
 */
static uint32_t
class_quantum(const ShapingMigration *migration, uint64_t rate)
{
    uint32_t quantum = (uint32_t)CLAMP(rate / 1000, SEGMENT_BYTES, 200000);

    if (migration == NULL || !migration->goes_first)
        return quantum;
    return MAX(quantum, SEGMENT_BYTES * (migration->post_copy ? 2u : 16u));
}

static const ObservedClass *
class_find(const Difference *self, uint32_t id)
{
    if (self->fresh)
        return NULL;
    for (guint i = 0; i < self->observed->classes->len; i++) {
        const ObservedClass *class = &g_array_index(self->observed->classes, ObservedClass, i);

        if (class->id == id)
            return class;
    }
    return NULL;
}

static void
class_differ(Difference *self, unsigned parent, unsigned minor, const ShapingClass *wanted,
             bool is_leaf, const ShapingMigration *migration)
{
    const ObservedClass *class = class_find(self, SHAPING_CLASS_ID(minor));
    uint32_t quantum = class_quantum(migration, wanted->rate);
    g_autofree char *above = parent == 0 ? g_strdup_printf("%x:", SHAPING_HANDLE_MAJOR)
                                         : g_strdup_printf("%x:%x", SHAPING_HANDLE_MAJOR, parent);

    /* HTB keeps prio and quantum of leaves only. */
    if (class != NULL && class->rate == wanted->rate && class->ceil == wanted->ceil &&
        (!is_leaf || (class->prio == wanted->prio && class->quantum == quantum)))
        return;
    steps_add(self->steps, SHAPING_TOOL_TC, SHAPING_LEAVES_NOTHING, self->device,
              "class %s dev %s parent %s classid %x:%x htb rate %" G_GUINT64_FORMAT
              "bit ceil %" G_GUINT64_FORMAT "bit burst %" G_GUINT64_FORMAT
              " cburst %" G_GUINT64_FORMAT " prio %u quantum %u",
              class == NULL ? "add" : "change", self->device, above, SHAPING_HANDLE_MAJOR, minor,
              wanted->rate * 8, wanted->ceil * 8, class_burst(wanted->rate),
              class_burst(wanted->ceil), wanted->prio, quantum);
}

/* -- leaf qdiscs ---------------------------------------------------------- */

/*
 * bfifo rather than pfifo: segments of 64 KiB (TSO, GRO) count as one packet,
 * so a limit in packets can mean anything from 50 ms to 2 s. About 12 ms at the ceil.
 *
 * For the workload that is 50 ms where it is held to a quarter of the link. The
 * acknowledgements of what a guest receives queue there behind what it sends: with
 * four times as much one that was held to 40 of 200 Mbit/s received 25 to 67 of 80
 * Mbit/s, which nothing else bounded.
 *
 * A migration is one bulk flow with a short way, but never has less than four such
 * segments (with the headers of their packets each counts about 68 KB), or what drops
 * in the bursts of a workload beside it is a third of a window: on a link of 200
 * Mbit/s whose both ends are busy a gang took 66 s with a queue of two segments and
 * 54 s with four. In post-copy the pages a guest waits for queue behind the bulk:
 * 5 ms and two segments.
 */
typedef enum {
    QUEUE_WORKLOAD,
    QUEUE_PRE_COPY,
    QUEUE_POST_COPY,
} QueueUse;

static uint32_t
fifo_limit(uint64_t ceiling, QueueUse use)
{
    static const struct {
        unsigned part; /* of a second */
        unsigned least;
    } queues[] = {
        [QUEUE_WORKLOAD] = { 80, 160u << 10 },
        [QUEUE_PRE_COPY] = { 80, 320u << 10 },
        [QUEUE_POST_COPY] = { 200, 160u << 10 },
    };

    return (uint32_t)CLAMP(ceiling / queues[use].part, queues[use].least, 16u << 20);
}

static void
leaf_qdisc_differ(Difference *self, unsigned minor, unsigned major, uint64_t ceiling, QueueUse use)
{
    const ObservedQdisc *found = NULL;
    const char *kind = self->features->fq_codel ? "fq_codel" : "bfifo";
    uint32_t limit = self->features->fq_codel ? 0 : fifo_limit(ceiling, use);
    const char *verb = "add";
    g_autofree char *options = limit == 0 ? g_strdup("") : g_strdup_printf(" limit %u", limit);

    for (guint i = 0; !self->fresh && i < self->observed->qdiscs->len; i++) {
        const ObservedQdisc *qdisc = &g_array_index(self->observed->qdiscs, ObservedQdisc, i);

        if (qdisc->parent == SHAPING_CLASS_ID(minor) && qdisc->handle != 0)
            found = qdisc;
    }
    if (found != NULL) {
        bool same_kind = strcmp(found->kind, kind) == 0 && found->handle == major << 16;

        if (same_kind && found->limit == limit)
            return;
        verb = same_kind ? "change" : "replace";
    }
    steps_add(self->steps, SHAPING_TOOL_TC, SHAPING_LEAVES_NOTHING, self->device,
              "qdisc %s dev %s parent %x:%x handle %x: %s%s", verb, self->device,
              SHAPING_HANDLE_MAJOR, minor, major, kind, options);
}

/* -- filters --------------------------------------------------------------- */

static void
key_add(U32Key keys[OBSERVED_KEYS_MAX], unsigned *count, uint32_t value, uint32_t mask, int offset)
{
    keys[(*count)++] = (U32Key){ .value = value & mask, .mask = mask, .offset = offset };
}

static void
key_add_address(U32Key keys[OBSERVED_KEYS_MAX], unsigned *count, const FlowAddress *address,
                int offset)
{
    unsigned words = address->family == AF_INET ? 1 : address->family == AF_INET6 ? 4 : 0;

    for (unsigned i = 0; i < words; i++) {
        uint32_t word;

        memcpy(&word, address->bytes + 4 * i, sizeof word);
        key_add(keys, count, ntohl(word), 0xffffffff, offset + 4 * (int)i);
    }
}

/*
 * The u32 keys of one match, in the order the kernel keeps them; returns their number.
 * Offsets count from the network header. The first key pins the version and,
 * for IPv4, a header without options, since ports are looked for at a fixed
 * place; IPv6 likewise has TCP as its first next header.
 *
 *   IPv4   0 version, length   8 protocol   12 source   16 destination   20 ports
 *   IPv6   0 version   4 next header   8 source   24 destination   40 ports
 */
static unsigned
match_keys(const FlowMatch *match, bool ipv6, PortMask ports, U32Key ret_keys[OBSERVED_KEYS_MAX])
{
    unsigned count = 0;
    unsigned shift = match->port_side == FLOW_PORT_SOURCE ? 16 : 0;

    if (ipv6) {
        key_add(ret_keys, &count, 0x60000000, 0xf0000000, 0);
        key_add(ret_keys, &count, IPPROTO_TCP << 8, 0x0000ff00, 4);
        key_add_address(ret_keys, &count, &match->source, 8);
        key_add_address(ret_keys, &count, &match->destination, 24);
    } else {
        key_add(ret_keys, &count, 0x45000000, 0xff000000, 0);
        key_add(ret_keys, &count, IPPROTO_TCP << 16, 0x00ff0000, 8);
        key_add_address(ret_keys, &count, &match->source, 12);
        key_add_address(ret_keys, &count, &match->destination, 16);
    }
    key_add(ret_keys, &count, (uint32_t)ports.port << shift, (uint32_t)ports.mask << shift,
            ipv6 ? 40 : 20);
    return count;
}

static bool
match_has_family(const FlowMatch *match, bool ipv6)
{
    int other = ipv6 ? AF_INET : AF_INET6;

    return match->source.family != other && match->destination.family != other;
}

static unsigned
filter_preference(unsigned id, FilterFamily family, bool one_port)
{
    return (one_port ? SHAPING_PORT_FILTER_PREFERENCE : SHAPING_FILTER_PREFERENCE) + 4 * id +
           (unsigned)family;
}

/*
 * The filters one migration wants in one family, of its matches with a single port or of
 * the others: ObservedFilter with keys.
 */
static GArray *
filters_wanted(const ShapingPlan *plan, const ShapingMigration *migration, FilterFamily family,
               bool one_port)
{
    GArray *wanted = g_array_new(FALSE, TRUE, sizeof(ObservedFilter));

    if (family == FAMILY_VLAN && !plan->vlan_tagged)
        return wanted;
    for (unsigned i = 0; i < migration->match_count; i++) {
        const FlowMatch *match = &migration->matches[i];
        PortMask ports[PORT_MASKS_MAX];
        unsigned count = port_range_split(match->port_low, match->port_high, ports);

        if ((match->port_low == match->port_high) != one_port)
            continue;
        for (int ipv6 = 0; ipv6 <= 1; ipv6++) {
            if (!match_has_family(match, ipv6 != 0) ||
                (family != FAMILY_VLAN && (family == FAMILY_IPV6) != (ipv6 != 0)))
                continue;
            for (unsigned j = 0; j < count; j++) {
                ObservedFilter filter = { 0 };

                filter.class_id = SHAPING_CLASS_ID(SHAPING_CLASS_MIGRATION + migration->id);
                filter.key_count = match_keys(match, ipv6 != 0, ports[j], filter.keys);
                g_array_append_val(wanted, filter);
            }
        }
    }
    return wanted;
}

/*
 * The Ethernet header lies before the network header, at negative offsets; the
 * kernel counts both from the same place on an uplink and on an ifb that is fed
 * from ingress:
 *
 *   -14 destination MAC   -8 source MAC   -2 protocol
 *
 * tc takes offsets that are multiples of four only, so the destination's first
 * two bytes are the second half of the word at -16.
 */
static GArray *
vm_filters_wanted(const ShapingPlan *plan, const ShapingVm *vm)
{
    GArray *wanted = g_array_new(FALSE, TRUE, sizeof(ObservedFilter));
    bool source = plan->direction == SHAPING_EGRESS;

    for (unsigned i = 0; i < vm->mac_count; i++) {
        ObservedFilter filter = { .class_id = SHAPING_CLASS_ID(SHAPING_CLASS_VM + vm->id) };
        uint64_t mac = 0;

        for (unsigned j = 0; j < SHAPING_MAC_BYTES; j++)
            mac = mac << 8 | vm->macs[i][j];
        if (source) {
            key_add(filter.keys, &filter.key_count, (uint32_t)(mac >> 16), 0xffffffff, -8);
            key_add(filter.keys, &filter.key_count, (uint32_t)(mac << 16), 0xffff0000, -4);
        } else {
            key_add(filter.keys, &filter.key_count, (uint32_t)(mac >> 32), 0x0000ffff, -16);
            key_add(filter.keys, &filter.key_count, (uint32_t)mac, 0xffffffff, -12);
        }
        g_array_append_val(wanted, filter);
    }
    return wanted;
}

static bool
keys_equal(const ObservedFilter *a, const ObservedFilter *b)
{
    if (a->key_count != b->key_count)
        return false;
    for (unsigned i = 0; i < a->key_count; i++) {
        if (a->keys[i].value != b->keys[i].value || a->keys[i].mask != b->keys[i].mask ||
            a->keys[i].offset != b->keys[i].offset)
            return false;
    }
    return true;
}

/* Those that stand under a preference, and whether they are the wanted ones in
 * the wanted order. */
static unsigned
filters_standing(const Difference *self, unsigned preference, FilterFamily family,
                 const GArray *wanted, bool *ret_same)
{
    unsigned count = 0;
    bool same = true;

    for (guint i = 0; !self->fresh && i < self->observed->filters->len; i++) {
        const ObservedFilter *filter = &g_array_index(self->observed->filters, ObservedFilter, i);
        const ObservedFilter *other =
            count < wanted->len ? &g_array_index(wanted, ObservedFilter, count) : NULL;

        if (filter->parent != (uint32_t)SHAPING_HANDLE_MAJOR << 16 ||
            filter->preference != preference)
            continue;
        count++;
        same = same && other != NULL && !filter->exotic && filter->redirect_ifindex == 0 &&
               filter->protocol == family_table[family].protocol &&
               filter->class_id == other->class_id && keys_equal(filter, other);
    }
    *ret_same = same && count == wanted->len;
    return count;
}

static void
filters_delete(Difference *self, unsigned preference, FilterFamily family)
{
    steps_add(self->steps, SHAPING_TOOL_TC, SHAPING_LEAVES_NOTHING, self->device,
              "filter del dev %s parent %x: protocol %s prio %u", self->device,
              SHAPING_HANDLE_MAJOR, family_table[family].name, preference);
}

static void
filters_differ(Difference *self, unsigned preference, FilterFamily family, const GArray *wanted)
{
    bool same;

    if (filters_standing(self, preference, family, wanted, &same) > 0 && !same)
        filters_delete(self, preference, family);
    if (same)
        return;
    for (guint i = 0; i < wanted->len; i++) {
        const ObservedFilter *filter = &g_array_index(wanted, ObservedFilter, i);
        g_autoptr(GString) keys = g_string_new(NULL);

        for (unsigned j = 0; j < filter->key_count; j++)
            g_string_append_printf(keys, " match u32 0x%08x 0x%08x at %d", filter->keys[j].value,
                                   filter->keys[j].mask, filter->keys[j].offset);
        steps_add(self->steps, SHAPING_TOOL_TC, SHAPING_LEAVES_NOTHING, self->device,
                  "filter add dev %s parent %x: protocol %s prio %u u32%s flowid %x:%x",
                  self->device, SHAPING_HANDLE_MAJOR, family_table[family].name, preference,
                  keys->str, SHAPING_HANDLE_MAJOR, filter->class_id & 0xffff);
    }
}

/* -- the tree --------------------------------------------------------------- */

static bool
plan_has_vm(const ShapingPlan *plan, unsigned id)
{
    for (unsigned i = 0; i < plan->vm_count; i++) {
        if (plan->vm[i].id == id)
            return true;
    }
    return false;
}

static bool
plan_has_migration(const ShapingPlan *plan, unsigned id)
{
    for (unsigned i = 0; i < plan->migration_count; i++) {
        if (plan->migration[i].id == id)
            return true;
    }
    return false;
}

static void
filters_end(Difference *self, unsigned preference, FilterFamily family)
{
    g_autoptr(GArray) none = g_array_new(FALSE, TRUE, sizeof(ObservedFilter));
    bool same;

    if (filters_standing(self, preference, family, none, &same) > 0)
        filters_delete(self, preference, family);
}

static void
class_end(Difference *self, unsigned minor)
{
    if (class_find(self, SHAPING_CLASS_ID(minor)) != NULL)
        steps_add(self->steps, SHAPING_TOOL_TC, SHAPING_LEAVES_NOTHING, self->device,
                  "class del dev %s classid %x:%x", self->device, SHAPING_HANDLE_MAJOR, minor);
}

/* A class goes after the filters that point to it: the kernel insists. */
static void
ended_vms_differ(Difference *self)
{
    for (unsigned id = 1; id <= SHAPING_VMS_MAX; id++) {
        if (plan_has_vm(self->plan, id))
            continue;
        filters_end(self, SHAPING_VM_FILTER_PREFERENCE + id, FAMILY_ANY);
        class_end(self, SHAPING_CLASS_VM + id);
    }
}

static void
ended_migrations_differ(Difference *self)
{
    for (unsigned id = 1; id <= SHAPING_MIGRATIONS_MAX; id++) {
        if (plan_has_migration(self->plan, id))
            continue;
        for (unsigned family = 0; family < FAMILY_COUNT; family++) {
            filters_end(self, filter_preference(id, family, true), family);
            filters_end(self, filter_preference(id, family, false), family);
        }
        class_end(self, SHAPING_CLASS_MIGRATION + id);
    }
}

static void
workload_differ(Difference *self)
{
    const ShapingPlan *plan = self->plan;
    ShapingClass rest = shaping_plan_default_class(plan);

    class_differ(self, SHAPING_CLASS_LINK, SHAPING_CLASS_WORKLOAD, &plan->workload, false, NULL);
    class_differ(self, SHAPING_CLASS_WORKLOAD, SHAPING_CLASS_DEFAULT, &rest, true, NULL);
    leaf_qdisc_differ(self, SHAPING_CLASS_DEFAULT, SHAPING_WORKLOAD_QDISC_MAJOR, rest.ceil,
                      QUEUE_WORKLOAD);
    for (unsigned i = 0; i < plan->vm_count; i++) {
        const ShapingVm *vm = &plan->vm[i];
        unsigned minor = SHAPING_CLASS_VM + vm->id;
        ShapingClass class = { vm->rate, vm->ceil, plan->workload.prio };
        g_autoptr(GArray) wanted = vm_filters_wanted(plan, vm);

        class_differ(self, SHAPING_CLASS_WORKLOAD, minor, &class, true, NULL);
        leaf_qdisc_differ(self, minor, SHAPING_VM_QDISC_MAJOR + vm->id, vm->ceil, QUEUE_WORKLOAD);
        filters_differ(self, SHAPING_VM_FILTER_PREFERENCE + vm->id, FAMILY_ANY, wanted);
    }
}

static void
tree_differ(Difference *self, ShapingLeaves root_leaves)
{
    const ShapingPlan *plan = self->plan;
    ShapingClass link = { .rate = plan->link_rate, .ceil = plan->link_rate };

    if (self->fresh) {
        steps_add(self->steps, SHAPING_TOOL_TC, root_leaves, self->device,
                  "qdisc add dev %s root handle %x: htb default %x", self->device,
                  SHAPING_HANDLE_MAJOR, SHAPING_CLASS_DEFAULT);
    } else {
        ended_vms_differ(self);
        ended_migrations_differ(self);
    }

    class_differ(self, 0, SHAPING_CLASS_LINK, &link, false, NULL);
    workload_differ(self);
    class_differ(self, SHAPING_CLASS_LINK, SHAPING_CLASS_MIGRATIONS, &plan->migrations, false,
                 NULL);
    for (unsigned i = 0; i < plan->migration_count; i++) {
        const ShapingMigration *migration = &plan->migration[i];
        unsigned minor = SHAPING_CLASS_MIGRATION + migration->id;
        ShapingClass class = { migration->rate, migration->ceil, migration->prio };

        class_differ(self, SHAPING_CLASS_MIGRATIONS, minor, &class, true, migration);
        leaf_qdisc_differ(self, minor, SHAPING_MIGRATION_QDISC_MAJOR + migration->id,
                          migration->ceil, migration->post_copy ? QUEUE_POST_COPY : QUEUE_PRE_COPY);
        for (unsigned family = 0; family < FAMILY_COUNT; family++) {
            g_autoptr(GArray) one_port = filters_wanted(plan, migration, family, true);
            g_autoptr(GArray) others = filters_wanted(plan, migration, family, false);

            filters_differ(self, filter_preference(migration->id, family, true), family, one_port);
            filters_differ(self, filter_preference(migration->id, family, false), family, others);
        }
    }
}

/* Our redirect stands, whatever else does: one to our ifb, or to one that is gone. */
static bool
redirect_stands(const Observed *uplink, int ifb_ifindex)
{
    for (guint i = 0; i < uplink->filters->len; i++) {
        const ObservedFilter *filter = &g_array_index(uplink->filters, ObservedFilter, i);

        if (TC_H_MAJ(filter->parent) == TC_H_MAJ(TC_H_INGRESS) &&
            filter->preference == SHAPING_REDIRECT_PREFERENCE &&
            (filter->redirect_ifindex == OBSERVED_DEVICE_GONE ||
             (ifb_ifindex != 0 && filter->redirect_ifindex == ifb_ifindex)))
            return true;
    }
    return false;
}

static void
redirect_delete(GPtrArray *steps, const char *interface)
{
    steps_add(steps, SHAPING_TOOL_TC, SHAPING_LEAVES_NOTHING, interface,
              "filter del dev %s parent ffff: protocol all prio %u", interface,
              SHAPING_REDIRECT_PREFERENCE);
}

GPtrArray *
shaping_difference(const ShapingPlan *plan, const Observed *uplink, const Observed *ifb,
                   const ShapingFeatures *features)
{
    GPtrArray *steps = g_ptr_array_new_with_free_func((GDestroyNotify)shaping_step_free);
    Difference self = { .plan = plan, .features = features, .steps = steps };
    char ifb_name[IF_NAMESIZE];
    bool redirects = false;

    if (plan->direction == SHAPING_EGRESS) {
        self.device = plan->interface;
        self.observed = uplink;
        self.fresh = !observed_has_our_root(uplink);
        tree_differ(&self, SHAPING_LEAVES_ROOT);
        return steps;
    }

    /* The tree stands complete before the first packet is sent through it. */
    shaping_ifb_name(uplink->ifindex, ifb_name);
    self.device = ifb_name;
    self.observed = ifb;
    self.fresh = !observed_has_our_root(ifb);
    if (!ifb->exists)
        steps_add(steps, SHAPING_TOOL_IP, SHAPING_LEAVES_IFB, ifb_name,
                  "link add name %s up type ifb", ifb_name);
    else if (!ifb->up)
        steps_add(steps, SHAPING_TOOL_IP, SHAPING_LEAVES_NOTHING, ifb_name, "link set dev %s up",
                  ifb_name);
    tree_differ(&self, SHAPING_LEAVES_NOTHING);
    if (!observed_has_our_ingress(uplink, ifb->ifindex, &redirects))
        steps_add(steps, SHAPING_TOOL_TC, SHAPING_LEAVES_INGRESS, plan->interface,
                  "qdisc add dev %s handle ffff: ingress", plan->interface);
    else if (!redirects && redirect_stands(uplink, 0))
        redirect_delete(steps, plan->interface);
    if (!redirects)
        steps_add(steps, SHAPING_TOOL_TC, SHAPING_LEAVES_NOTHING, plan->interface,
                  "filter add dev %s parent ffff: protocol all prio %u u32 match u32 0 0 "
                  "action mirred egress redirect dev %s",
                  plan->interface, SHAPING_REDIRECT_PREFERENCE, ifb_name);
    return steps;
}

GPtrArray *
shaping_difference_remove(const char *interface, ShapingDirection direction, const Observed *uplink,
                          const Observed *ifb, bool empty_ingress_is_ours)
{
    GPtrArray *steps = g_ptr_array_new_with_free_func((GDestroyNotify)shaping_step_free);
    bool redirects = false;

    if (direction == SHAPING_EGRESS) {
        if (observed_has_our_root(uplink))
            g_ptr_array_add(steps, shaping_step_undo(SHAPING_LEAVES_ROOT, interface));
        return steps;
    }
    if (observed_has_our_ingress(uplink, ifb->ifindex, &redirects)) {
        if (redirects || redirect_stands(uplink, ifb->ifindex) || empty_ingress_is_ours)
            g_ptr_array_add(steps, shaping_step_undo(SHAPING_LEAVES_INGRESS, interface));
    } else if (redirect_stands(uplink, ifb->ifindex)) {
        /* Somebody added to our ingress qdisc: only our filter is ours now. */
        redirect_delete(steps, interface);
    }
    if (ifb->exists && strcmp(ifb->link_kind, "ifb") == 0)
        g_ptr_array_add(steps, shaping_step_undo(SHAPING_LEAVES_IFB, ifb->name));
    return steps;
}
