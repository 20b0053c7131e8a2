/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From an address to the device that queues, by asking the kernel: route,
 * neighbour, forwarding database, links.
 */
#include "traffic/uplink.h"

#include "traffic/error.h"
#include "traffic/link_counters.h"
#include "traffic/netlink.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <string.h>

enum { DEPTH_MAX = 8, DUMP_ATTEMPTS = 4 };

typedef struct {
    int family;
    uint8_t bytes[16];
    int zone; /* ifindex of an IPv6 zone, else 0 */
} Address;

typedef struct {
    bool found;
    unsigned type; /* RTN_* */
    int ifindex;
    uint32_t metric;
    bool has_gateway;
    Address gateway;
} Route;

typedef struct {
    Address address; /* looked for in the neighbour table */
    int ifindex;
    bool has_mac;
    uint8_t mac[ETH_ALEN];
    int port_ifindex; /* found in the forwarding database */
} Neighbour;

static size_t
address_length(int family)
{
    return family == AF_INET ? 4 : 16;
}

static bool
address_parse(const char *text, Address *ret_address)
{
    Address address = { 0 };
    const char *zone = strchr(text, '%');
    g_autofree char *number = zone == NULL ? g_strdup(text) : g_strndup(text, (gsize)(zone - text));

    if (inet_pton(AF_INET, number, address.bytes) == 1 && zone == NULL)
        address.family = AF_INET;
    else if (inet_pton(AF_INET6, number, address.bytes) == 1)
        address.family = AF_INET6;
    else
        return false;
    if (zone != NULL && (address.zone = (int)if_nametoindex(zone + 1)) == 0)
        return false;
    *ret_address = address;
    return true;
}

static int
attribute_read_int(const struct nlattr *attribute)
{
    if (attribute == NULL || nla_len(attribute) < (int)sizeof(uint32_t))
        return 0;
    return (int)nla_get_u32(attribute);
}

static bool
attribute_read_address(const struct nlattr *attribute, int family, Address *ret_address)
{
    if (attribute == NULL || nla_len(attribute) < (int)address_length(family))
        return false;
    *ret_address = (Address){ .family = family };
    memcpy(ret_address->bytes, nla_data(attribute), address_length(family));
    return true;
}

static void
route_read_next_hop(struct nlattr *attributes[RTA_MAX + 1], int family, Route *route)
{
    const struct nlattr *via = attributes[RTA_VIA];

    route->ifindex = attribute_read_int(attributes[RTA_OIF]);
    route->has_gateway = attribute_read_address(attributes[RTA_GATEWAY], family, &route->gateway);
    /* An IPv4 route through an IPv6 neighbour. */
    if (via != NULL && nla_len(via) >= (int)(sizeof(struct rtvia) + 16)) {
        route->gateway = (Address){ .family = AF_INET6 };
        memcpy(route->gateway.bytes, (const char *)nla_data(via) + sizeof(struct rtvia), 16);
        route->has_gateway = true;
    }
}

/* The first way of several; equal ways to one peer leave by one uplink. */
static void
route_read_multipath(const struct nlattr *attribute, int family, Route *route)
{
    struct nlattr *attributes[RTA_MAX + 1];
    struct rtnexthop hop;
    int length = nla_len(attribute);

    if (length < (int)sizeof hop)
        return;
    memcpy(&hop, nla_data(attribute), sizeof hop);
    if (hop.rtnh_len < sizeof hop || hop.rtnh_len > length)
        return;
    if (nla_parse(attributes, RTA_MAX, (struct nlattr *)((char *)nla_data(attribute) + sizeof hop),
                  hop.rtnh_len - (int)sizeof hop, NULL) < 0)
        return;
    route_read_next_hop(attributes, family, route);
    route->ifindex = hop.rtnh_ifindex;
}

static bool
route_parse(struct nl_msg *message, struct rtmsg *ret_header, Route *ret_route)
{
    struct nlattr *attributes[RTA_MAX + 1];
    struct nlmsghdr *header = nlmsg_hdr(message);
    Route route = { .found = true };

    if (header->nlmsg_type != RTM_NEWROUTE ||
        nlmsg_parse(header, sizeof *ret_header, attributes, RTA_MAX, NULL) < 0)
        return false;
    memcpy(ret_header, nlmsg_data(header), sizeof *ret_header);
    route.type = ret_header->rtm_type;
    route.metric = (uint32_t)attribute_read_int(attributes[RTA_PRIORITY]);
    route_read_next_hop(attributes, ret_header->rtm_family, &route);
    if (route.ifindex == 0 && attributes[RTA_MULTIPATH] != NULL)
        route_read_multipath(attributes[RTA_MULTIPATH], ret_header->rtm_family, &route);
    *ret_route = route;
    return true;
}

static int
route_received(struct nl_msg *message, void *data)
{
    struct rtmsg header;

    route_parse(message, &header, data);
    return NL_OK;
}

static int
default_route_received(struct nl_msg *message, void *data)
{
    Route *best = data;
    Route route;
    struct rtmsg header;

    if (route_parse(message, &header, &route) && header.rtm_dst_len == 0 &&
        header.rtm_table == RT_TABLE_MAIN && header.rtm_type == RTN_UNICAST && route.ifindex != 0 &&
        (!best->found || route.metric < best->metric))
        *best = route;
    return NL_OK;
}

static int
route_ask(TrafficSocket *socket, const Address *peer, Route *route)
{
    struct rtmsg header = {
        .rtm_family = (unsigned char)peer->family,
        .rtm_dst_len = (unsigned char)(address_length(peer->family) * 8),
    };
    struct nl_msg *request = nlmsg_alloc_simple(RTM_GETROUTE, NLM_F_REQUEST);
    int result = -NLE_NOMEM;

    if (request == NULL)
        return result;
    result = nlmsg_append(request, &header, sizeof header, NLMSG_ALIGNTO);
    if (result >= 0)
        result = nla_put(request, RTA_DST, (int)address_length(peer->family), peer->bytes);
    if (result >= 0 && peer->zone != 0)
        result = nla_put_u32(request, RTA_OIF, (uint32_t)peer->zone);
    if (result >= 0)
        result = traffic_socket_ask(socket, request, route_received, route);
    nlmsg_free(request);
    return result;
}

static int
default_route_ask(TrafficSocket *socket, Route *route)
{
    static const unsigned char families[] = { AF_INET, AF_INET6 };
    int result = 0;

    for (gsize i = 0; i < G_N_ELEMENTS(families) && !route->found; i++) {
        struct rtmsg header = { .rtm_family = families[i] };

        result = traffic_socket_dump(socket, RTM_GETROUTE, &header, sizeof header,
                                     default_route_received, route);
        for (int j = 1; result == -NLE_DUMP_INTR && j < DUMP_ATTEMPTS; j++)
            result = traffic_socket_dump(socket, RTM_GETROUTE, &header, sizeof header,
                                         default_route_received, route);
    }
    return result;
}

static gboolean
route_find(TrafficSocket *socket, const char *peer, Route *ret_route, Address *ret_next,
           GError **error)
{
    Address address = { 0 };
    Route route = { 0 };
    int result;

    if (peer != NULL && !address_parse(peer, &address)) {
        g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_INVALID, "\"%s\" is not a numeric address",
                    peer);
        return FALSE;
    }
    result = peer == NULL ? default_route_ask(socket, &route) : route_ask(socket, &address, &route);
    if (result < 0 || !route.found || route.ifindex == 0) {
        g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_NOT_FOUND, "no route to %s%s%s",
                    peer == NULL ? "anywhere (no default route)" : peer, result < 0 ? ": " : "",
                    result < 0 ? nl_geterror(result) : "");
        return FALSE;
    }
    if (route.type == RTN_LOCAL) {
        g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_INVALID, "%s is this host itself", peer);
        return FALSE;
    }
    if (route.type != RTN_UNICAST) {
        g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_NOT_FOUND,
                    "the route to %s is not a unicast route", peer);
        return FALSE;
    }
    *ret_route = route;
    *ret_next = route.has_gateway ? route.gateway : address;
    return TRUE;
}

/* -- through a bridge ------------------------------------------------------- */

static int
neighbour_received(struct nl_msg *message, void *data)
{
    Neighbour *neighbour = data;
    struct nlattr *attributes[NDA_MAX + 1];
    struct ndmsg header;
    Address address;

    if (nlmsg_parse(nlmsg_hdr(message), sizeof header, attributes, NDA_MAX, NULL) < 0)
        return NL_OK;
    memcpy(&header, nlmsg_data(nlmsg_hdr(message)), sizeof header);
    if (header.ndm_family != neighbour->address.family ||
        header.ndm_ifindex != neighbour->ifindex ||
        (header.ndm_state & (NUD_INCOMPLETE | NUD_FAILED)) != 0 ||
        !attribute_read_address(attributes[NDA_DST], header.ndm_family, &address) ||
        memcmp(address.bytes, neighbour->address.bytes, address_length(address.family)) != 0 ||
        attributes[NDA_LLADDR] == NULL || nla_len(attributes[NDA_LLADDR]) != ETH_ALEN)
        return NL_OK;
    memcpy(neighbour->mac, nla_data(attributes[NDA_LLADDR]), ETH_ALEN);
    neighbour->has_mac = true;
    return NL_OK;
}

static int
forwarding_received(struct nl_msg *message, void *data)
{
    Neighbour *neighbour = data;
    struct nlattr *attributes[NDA_MAX + 1];
    struct ndmsg header;

    if (nlmsg_parse(nlmsg_hdr(message), sizeof header, attributes, NDA_MAX, NULL) < 0)
        return NL_OK;
    memcpy(&header, nlmsg_data(nlmsg_hdr(message)), sizeof header);
    if (header.ndm_family == AF_BRIDGE &&
        attribute_read_int(attributes[NDA_MASTER]) == neighbour->ifindex &&
        attributes[NDA_LLADDR] != NULL && nla_len(attributes[NDA_LLADDR]) == ETH_ALEN &&
        memcmp(nla_data(attributes[NDA_LLADDR]), neighbour->mac, ETH_ALEN) == 0)
        neighbour->port_ifindex = header.ndm_ifindex;
    return NL_OK;
}

/* The port behind which the bridge learnt the next hop; 0: not known. Which
 * has no error: the ports are then told apart by their kind. */
static int
bridge_port_learnt(TrafficSocket *socket, int bridge_ifindex, const Address *next)
{
    Neighbour neighbour = { .address = *next, .ifindex = bridge_ifindex };
    struct ndmsg header = { .ndm_family = (unsigned char)next->family };

    if (next->family == AF_UNSPEC)
        return 0;
    if (traffic_socket_dump(socket, RTM_GETNEIGH, &header, sizeof header, neighbour_received,
                            &neighbour) < 0 ||
        !neighbour.has_mac)
        return 0;
    header.ndm_family = AF_BRIDGE;
    if (traffic_socket_dump(socket, RTM_GETNEIGH, &header, sizeof header, forwarding_received,
                            &neighbour) < 0)
        return 0;
    return neighbour.port_ifindex;
}

static bool
kind_is_guest_port(const char *kind)
{
    return strcmp(kind, "tun") == 0 || strcmp(kind, "macvtap") == 0;
}

static bool
kind_is_physical_port(const char *kind)
{
    static const char *const kinds[] = { "", "bond", "team", "vlan" };

    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (strcmp(kind, kinds[i]) == 0)
            return true;
    }
    return false;
}

int
uplink_choose_bridge_port(const GArray *links, int bridge_ifindex, GString *candidates)
{
    int physical = 0, veth = 0;
    guint physical_count = 0, veth_count = 0;

    for (guint i = 0; i < links->len; i++) {
        const LinkCounter *link = &g_array_index(links, LinkCounter, i);

        if (link->master_ifindex != bridge_ifindex)
            continue;
        if (kind_is_physical_port(link->kind)) {
            physical = link->ifindex;
            physical_count++;
        } else if (strcmp(link->kind, "veth") == 0) {
            veth = link->ifindex;
            veth_count++;
        } else {
            continue;
        }
        if (candidates != NULL)
            g_string_append_printf(candidates, "%s%s", candidates->len > 0 ? ", " : "", link->name);
    }
    if (physical_count == 1)
        return physical;
    return physical_count == 0 && veth_count == 1 ? veth : 0;
}

static const LinkCounter *
bridge_port_find(TrafficSocket *socket, const GArray *links, const LinkCounter *bridge,
                 const Address *next, GError **error)
{
    g_autoptr(GString) candidates = g_string_new(NULL);
    const LinkCounter *port =
        link_counters_find_index(links, bridge_port_learnt(socket, bridge->ifindex, next));

    /* Behind a guest's tap: then a guest routes, and its tap is no uplink. */
    if (port != NULL && port->master_ifindex == bridge->ifindex && !kind_is_guest_port(port->kind))
        return port;
    port = link_counters_find_index(links,
                                    uplink_choose_bridge_port(links, bridge->ifindex, candidates));
    if (port == NULL)
        g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_AMBIGUOUS,
                    "bridge %s: which port is the uplink is ambiguous (candidates: %s); set "
                    "[network] uplink",
                    bridge->name, candidates->len > 0 ? candidates->str : "none");
    return port;
}

/* -- rate ------------------------------------------------------------------- */

static bool
kind_has_real_speed(const char *kind)
{
    /* Bonds and teams add up their members' rates. */
    return kind[0] == '\0' || strcmp(kind, "bond") == 0 || strcmp(kind, "team") == 0;
}

static bool
driver_has_real_speed(const char *root, const char *name)
{
    g_autofree char *link = g_build_filename(root, "class/net", name, "device/driver", NULL);
    g_autofree char *target = g_file_read_link(link, NULL);
    g_autofree char *driver = target == NULL ? NULL : g_path_get_basename(target);

    return g_strcmp0(driver, "virtio_net") != 0;
}

bool
uplink_read_rate(const char *sysfs_root, const char *name, const char *kind, uint64_t *ret_rate)
{
    const char *root = sysfs_root == NULL ? "/sys" : sysfs_root;
    g_autofree char *path = g_build_filename(root, "class/net", name, "speed", NULL);
    g_autofree char *text = NULL;
    gint64 megabits;

    if (!kind_has_real_speed(kind) || strchr(name, '/') != NULL || name[0] == '.' ||
        !driver_has_real_speed(root, name) || !g_file_get_contents(path, &text, NULL, NULL) ||
        !g_ascii_string_to_signed(g_strstrip(text), 10, 1, 100 * 1000 * 1000, &megabits, NULL))
        return false;
    *ret_rate = (uint64_t)megabits * 1000 * 1000 / 8;
    return true;
}

bool
uplink_renew_rate(const char *sysfs_root, const char *kind, Uplink *uplink)
{
    uint64_t rate;

    if (!uplink_read_rate(sysfs_root, uplink->name, kind, &rate) ||
        (uplink->rate_valid && uplink->rate == rate))
        return false;
    uplink->rate = rate;
    uplink->rate_valid = true;
    return true;
}

/* -- the way down ------------------------------------------------------------ */

static void
path_append(Uplink *uplink, const char *name)
{
    if (uplink->path[0] != '\0')
        g_strlcat(uplink->path, " > ", sizeof uplink->path);
    g_strlcat(uplink->path, name, sizeof uplink->path);
}

static bool
link_is_upper(const LinkCounter *link)
{
    return link->lower_ifindex != 0 &&
           (strcmp(link->kind, "vlan") == 0 || strcmp(link->kind, "macvlan") == 0);
}

static const LinkCounter *
link_below(TrafficSocket *socket, const GArray *links, const LinkCounter *link, const Address *next,
           GError **error)
{
    const LinkCounter *below;

    if (strcmp(link->kind, "bridge") == 0)
        return bridge_port_find(socket, links, link, next, error);
    below = link_counters_find_index(links, link->lower_ifindex);
    if (below == NULL)
        g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_NOT_FOUND,
                    "%s: the device below it is not in this namespace; set [network] uplink",
                    link->name);
    return below;
}

static const LinkCounter *
uplink_descend(TrafficSocket *socket, const GArray *links, const LinkCounter *link,
               const Address *next, Uplink *uplink, GError **error)
{
    for (int depth = 0; depth < DEPTH_MAX; depth++) {
        path_append(uplink, link->name);
        if (strcmp(link->kind, "openvswitch") == 0) {
            g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_AMBIGUOUS,
                        "%s: an Open vSwitch does not tell its uplink; set [network] uplink",
                        link->name);
            return NULL;
        }
        if (strcmp(link->kind, "bridge") != 0 && !link_is_upper(link))
            return link;
        if (strcmp(link->kind, "vlan") == 0)
            uplink->vlan_tagged = true;
        link = link_below(socket, links, link, next, error);
        if (link == NULL)
            return NULL;
    }
    g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_AMBIGUOUS,
                "%s: devices are stacked too deep; set [network] uplink", uplink->path);
    return NULL;
}

gboolean
uplink_find(const char *peer, const char *configured, Uplink *ret_uplink, GError **error)
{
    g_autoptr(LinkCounters) counters = link_counters_new(error);
    g_autoptr(TrafficSocket) socket = NULL;
    g_autoptr(GArray) links = NULL;
    const LinkCounter *link;
    Uplink uplink = { 0 };

    if (counters == NULL || !link_counters_read(counters, &links, error))
        return FALSE;
    if (configured != NULL) {
        link = link_counters_find(links, configured);
        if (link == NULL) {
            g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_NOT_FOUND,
                        "the configured uplink \"%s\" does not exist", configured);
            return FALSE;
        }
        path_append(&uplink, link->name);
        /* Which VLANs ride on it is not asked. */
        uplink.vlan_tagged = strcmp(link->kind, "vlan") != 0;
    } else {
        Address next = { 0 };
        Route route;

        socket = traffic_socket_open(error);
        if (socket == NULL || !route_find(socket, peer, &route, &next, error))
            return FALSE;
        link = link_counters_find_index(links, route.ifindex);
        if (link == NULL) {
            g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_NOT_FOUND,
                        "the interface %d of the route is gone", route.ifindex);
            return FALSE;
        }
        link = uplink_descend(socket, links, link, &next, &uplink, error);
        if (link == NULL)
            return FALSE;
    }
    g_strlcpy(uplink.name, link->name, sizeof uplink.name);
    uplink.ifindex = link->ifindex;
    uplink.rate_valid = uplink_read_rate(NULL, link->name, link->kind, &uplink.rate);
    *ret_uplink = uplink;
    return TRUE;
}
