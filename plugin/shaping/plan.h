/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What shall stand on one interface in one direction, as plain data.
 *
 *   egress: on the uplink               ingress: on an ifb device fed from the
 *                                       uplink's ingress (u32 + mirred)
 *
 *   htb c0b0: default 11
 *    |
 *    `- class c0b0:1           link        rate = ceil = usable link rate
 *        |
 *        |- class c0b0:10      workload    parent of all that is no migration
 *        |    |- class c0b0:11   everything no filter selects
 *        |    |    `- c0b1:      fq_codel, else bfifo
 *        |    |- class c0b0:201  VM 1, with a floor of its own
 *        |    |    `- c201:
 *        |    `- class c0b0:202  VM 2 ... up to c0b0:240 (64)
 *        |         `- c202:
 *        |
 *        `- class c0b0:20      migrations  parent of all running migrations
 *            |- class c0b0:101   migration 1
 *            |    `- c101:     fq_codel, else bfifo
 *            `- class c0b0:102   migration 2 ... up to c0b0:140 (64)
 *                 `- c102:
 *
 *   filters (u32): parent c0b0:, preference 4096 + 4 * id + family for a
 *   migration and 8192 + id for a VM, so that each one's filters can be
 *   replaced without touching another's. Those of a single port come first
 *   (3072 + 4 * id + family): while one migration's port is not known its
 *   filter takes the whole range, and would take the others' packets. A VM is known by its MAC: the
 * source of what leaves by the uplink, the destination of what comes in.
 *
 * All numbers of tc above are hexadecimal. HTB heeds `prio` on leaves only:
 * one of the workload takes that of the class above it. HTB counts what a leaf
 * sent in all classes above it too, so c0b0:10 counts the whole workload.
 *
 * Rates are bytes per second. Nothing here talks to the kernel.
 */
#pragma once

#include <glib.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#define SHAPING_ERROR shaping_error_quark()
GQuark shaping_error_quark(void);

typedef enum {
    SHAPING_ERROR_INVALID,     /* the plan makes no sense; nothing was done */
    SHAPING_ERROR_REFUSED,     /* an administrator's qdisc stands there */
    SHAPING_ERROR_UNSUPPORTED, /* this kernel lacks something needed */
    SHAPING_ERROR_FAILED,      /* a step failed; what was made is undone */
    SHAPING_ERROR_TIMEOUT,     /* tc or ip did not end in time; likewise */
    SHAPING_ERROR_CHANGED,     /* somebody else changed or took off what stood; likewise */
} ShapingError;

enum {
    SHAPING_MIGRATIONS_MAX = 64,
    SHAPING_MATCHES_MAX = 8, /* per migration */
    SHAPING_VMS_MAX = 64,
    SHAPING_MACS_MAX = 8, /* per VM */
    SHAPING_MAC_BYTES = 6,

    SHAPING_HANDLE_MAJOR = 0xc0b0,
    SHAPING_WORKLOAD_QDISC_MAJOR = 0xc0b1,
    SHAPING_MIGRATION_QDISC_MAJOR = 0xc100, /* + id */
    SHAPING_VM_QDISC_MAJOR = 0xc200,        /* + id */
    SHAPING_CLASS_LINK = 0x1,
    SHAPING_CLASS_WORKLOAD = 0x10,
    SHAPING_CLASS_DEFAULT = 0x11,
    SHAPING_CLASS_MIGRATIONS = 0x20,
    SHAPING_CLASS_MIGRATION = 0x100,       /* + id */
    SHAPING_CLASS_VM = 0x200,              /* + id */
    SHAPING_REDIRECT_PREFERENCE = 0xc0b0,  /* of the filter at ingress */
    SHAPING_VM_FILTER_PREFERENCE = 2048,   /* + id; first: a VM may talk on QEMU's ports, too */
    SHAPING_PORT_FILTER_PREFERENCE = 3072, /* + 4 * id + family: matches of one port */
    SHAPING_FILTER_PREFERENCE = 4096,      /* + 4 * id + family */

    /* QEMU's default range; 64 ports, one mask: 49152/0xffc0. */
    SHAPING_PORT_LOW = 49152,
    SHAPING_PORT_HIGH = 49215,
};

/* Below this HTB's 32-bit token arithmetic loses its meaning (12.5 kB/s is
 * 100 kbit/s); above it nothing exists (8.8 Tbit/s). */
#define SHAPING_RATE_MIN UINT64_C(12500)
#define SHAPING_RATE_MAX (UINT64_C(1) << 40)

/* Full class id for traffic/class_counters.h. */
#define SHAPING_CLASS_ID(minor) (((uint32_t)SHAPING_HANDLE_MAJOR << 16) | (uint32_t)(minor))

typedef enum {
    SHAPING_EGRESS,
    SHAPING_INGRESS,
} ShapingDirection;

typedef struct {
    uint64_t rate; /* guaranteed */
    uint64_t ceil; /* at most, with what others leave */
    unsigned prio; /* 0 (borrows first) to 7 */
} ShapingClass;

/* family is AF_INET, AF_INET6, or AF_UNSPEC for any address. */
typedef struct {
    int family;
    uint8_t bytes[16]; /* network order; IPv4 uses the first four */
} FlowAddress;

typedef enum {
    FLOW_PORT_DESTINATION,
    FLOW_PORT_SOURCE,
} FlowPortSide;

/*
 * TCP segments from `source` to `destination` whose port on `port_side` lies
 * in port_low to port_high. On the source host's egress: destination = the
 * peer. On the destination host's ingress: source = the peer, destination =
 * own address (or any). Both addresses any: IPv4 and IPv6.
 */
typedef struct {
    FlowAddress source;
    FlowAddress destination;
    FlowPortSide port_side;
    uint16_t port_low; /* >= 1 */
    uint16_t port_high;
} FlowMatch;

typedef struct {
    unsigned id; /* 1 to SHAPING_MIGRATIONS_MAX, unique; kept while it runs */
    uint64_t rate;
    uint64_t ceil;
    unsigned prio;        /* 0 (borrows first) to 7 */
    bool goes_first;      /* of its prio it borrows nearly all that there is */
    bool post_copy;       /* a guest waits for pages behind what is queued */
    unsigned match_count; /* 1 to SHAPING_MATCHES_MAX */
    FlowMatch matches[SHAPING_MATCHES_MAX];
} ShapingMigration;

/* A VM of this host whose floor is kept against the other VMs as well. */
typedef struct {
    unsigned id;   /* 1 to SHAPING_VMS_MAX, unique; kept while the VM is here */
    uint64_t rate; /* its floor; it borrows from the workload class */
    uint64_t ceil;
    unsigned mac_count; /* 1 to SHAPING_MACS_MAX */
    uint8_t macs[SHAPING_MACS_MAX][SHAPING_MAC_BYTES];
} ShapingVm;

/* About 30 kB: allocate it, do not put many on the stack. */
typedef struct {
    char interface[IF_NAMESIZE]; /* the uplink, in both directions */
    ShapingDirection direction;
    bool vlan_tagged;      /* select inside 802.1Q too (Uplink.vlan_tagged) */
    uint64_t link_rate;    /* usable: keep it a little below the physical one,
                            * or the queue builds elsewhere */
    ShapingClass workload; /* all VMs together */
    ShapingClass migrations;
    unsigned vm_count;
    ShapingVm vm[SHAPING_VMS_MAX];
    unsigned migration_count;
    ShapingMigration migration[SHAPING_MIGRATIONS_MAX];
} ShapingPlan;

/* A text address ("10.0.0.2", "fd00::2"; NULL or "" = any). False: neither. */
bool flow_address_parse(const char *text, FlowAddress *ret_address);

/* A match with the default port range at the destination. */
FlowMatch flow_match_default(FlowAddress source, FlowAddress destination);

/* "52:54:00:00:00:01", a unicast address that is not all zeros. */
bool shaping_mac_parse(const char *text, uint8_t ret_mac[SHAPING_MAC_BYTES]);

/*
 * Rejects what cannot be meant (bad name, id twice, no match, low > high,
 * mixed families, a MAC twice, rate 0 for the link, rates above
 * SHAPING_RATE_MAX).
 * SHAPING_ERROR_INVALID names the field and the value.
 */
gboolean shaping_plan_validate(const ShapingPlan *plan, GError **error);

/*
 * Brings rates into an order HTB can keep: link_rate and every ceil at least
 * SHAPING_RATE_MIN, ceil at most its parent's, SHAPING_RATE_MIN <= rate <=
 * ceil. A reserve of 0 (medium priority with U = C) is legal input. Floors of
 * VMs that add up to more than the workload's rate shrink in proportion, since
 * HTB would give them what the migrations were promised. shaper_apply() does
 * this by itself.
 */
void shaping_plan_normalise(ShapingPlan *plan);

/* Of a normalised plan: what the VMs' floors leave of the workload's rate. */
ShapingClass shaping_plan_default_class(const ShapingPlan *plan);

/* port/mask pairs that cover low..high exactly; returns their number. */
typedef struct {
    uint16_t port;
    uint16_t mask;
} PortMask;
enum { PORT_MASKS_MAX = 30 };
unsigned port_range_split(uint16_t low, uint16_t high, PortMask ret_masks[PORT_MASKS_MAX]);

/* A name tc may be given: 1 to 15 of [A-Za-z0-9_.-], not starting with '-'
 * or being a path ("." or ".."). */
bool shaping_interface_name_is_valid(const char *name);

/* "convoy<ifindex>", of the uplink */
#define SHAPING_IFB_PREFIX "convoy"
void shaping_ifb_name(int ifindex, char ret_name[IF_NAMESIZE]);
