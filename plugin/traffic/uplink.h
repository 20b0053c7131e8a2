/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which interface migration traffic to a peer queues on, and how fast it is.
 *
 * The kernel is asked for the route; the answer is followed through a bridge
 * (to the port behind which the next hop's MAC address was learnt, else to the
 * only port that is no VM's or container's) and through VLAN and macvlan to the
 * device below. It stops at a bond or team: a tree there covers every member
 * and survives a failover. It changes nothing and guesses nothing: two
 * candidates are an error that asks for `[network] uplink`.
 */
#pragma once

#include <glib.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    char name[IF_NAMESIZE];
    int ifindex;
    bool vlan_tagged; /* the way to the peer goes over a VLAN on top of it */
    bool rate_valid;  /* false: `rate` means nothing */
    uint64_t rate;    /* bytes/s, as the driver says */
    char path[128];   /* for explain: "br0 > eth0", cut when too long */
} Uplink;

/*
 * `peer`: a numeric IPv4 or IPv6 address (IPv6 may carry %zone), or NULL for
 * the default route. `configured`: the uplink from the configuration, or NULL;
 * when given, no route is asked, it must only exist. *ret_uplink is untouched
 * on failure. Errors: TRAFFIC_ERROR_*; AMBIGUOUS names the candidates.
 */
gboolean uplink_find(const char *peer, const char *configured, Uplink *ret_uplink, GError **error);

/*
 * Link rate in bytes/s from `sysfs_root`/class/net/<name>/speed (NULL: /sys).
 * False when it is not known: no such file, -1, 0, or a kind (or driver) whose
 * number is made up: veth, tun, bridge, virtio_net, dummy, ifb, ...
 */
bool uplink_read_rate(const char *sysfs_root, const char *name, const char *kind,
                      uint64_t *ret_rate);

/*
 * The rate once more: a link may be negotiated anew, a bond gets another member. What cannot
 * be read now stays as it was. True: it is another one, or known at last.
 */
bool uplink_renew_rate(const char *sysfs_root, const char *kind, Uplink *uplink);

/*
 * The port of bridge `bridge_ifindex` to take among `links` (GArray of
 * LinkCounter) when the forwarding database does not help: the only physical
 * port, else the only veth. 0 when none or several; the candidates are then
 * appended to `candidates` (may be NULL). Pure; here for its test.
 */
int uplink_choose_bridge_port(const GArray *links, int bridge_ifindex, GString *candidates);
