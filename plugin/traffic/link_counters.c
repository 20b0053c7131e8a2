/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The dump of all links. It keeps no history: see window.c.
 */
#include "traffic/link_counters.h"

#include "traffic/error.h"
#include "traffic/netlink.h"

#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <string.h>

/* A host with more interfaces than this is not one we can measure each tick. */
enum { LINKS_MAX = 65536, DUMP_ATTEMPTS = 4 };

struct LinkCounters {
    TrafficSocket *socket; /* NULL after a failure */
};

LinkCounters *
link_counters_new(GError **error)
{
    g_autoptr(TrafficSocket) socket = traffic_socket_open(error);
    LinkCounters *self;

    if (socket == NULL)
        return NULL;
    self = g_new0(LinkCounters, 1);
    self->socket = g_steal_pointer(&socket);
    return self;
}

void
link_counters_free(LinkCounters *self)
{
    if (self == NULL)
        return;
    g_clear_pointer(&self->socket, nl_socket_free);
    g_free(self);
}

static int
attribute_read_index(const struct nlattr *attribute)
{
    if (attribute == NULL || nla_len(attribute) < (int)sizeof(uint32_t))
        return 0;
    return (int)nla_get_u32(attribute);
}

static int
link_received(struct nl_msg *message, void *data)
{
    GArray *links = data;
    struct nlattr *attributes[IFLA_MAX + 1];
    struct nlattr *info[IFLA_INFO_MAX + 1];
    struct ifinfomsg header;
    LinkCounter link = { 0 };

    if (links->len >= LINKS_MAX ||
        nlmsg_parse(nlmsg_hdr(message), sizeof header, attributes, IFLA_MAX, NULL) < 0 ||
        attributes[IFLA_IFNAME] == NULL)
        return NL_OK;
    memcpy(&header, nlmsg_data(nlmsg_hdr(message)), sizeof header);
    nla_strlcpy(link.name, attributes[IFLA_IFNAME], sizeof link.name);
    link.ifindex = header.ifi_index;
    link.up = (header.ifi_flags & IFF_UP) != 0;
    link.master_ifindex = attribute_read_index(attributes[IFLA_MASTER]);
    if (attributes[IFLA_LINKINFO] != NULL &&
        nla_parse_nested(info, IFLA_INFO_MAX, attributes[IFLA_LINKINFO], NULL) >= 0 &&
        info[IFLA_INFO_KIND] != NULL)
        nla_strlcpy(link.kind, info[IFLA_INFO_KIND], sizeof link.kind);
    /* For a veth IFLA_LINK is the peer, and elsewhere may be of another
     * namespace: only what rides on a device here has one below. */
    if (attributes[IFLA_LINK_NETNSID] == NULL && strcmp(link.kind, "veth") != 0)
        link.lower_ifindex = attribute_read_index(attributes[IFLA_LINK]);
    if (attributes[IFLA_STATS64] != NULL &&
        nla_len(attributes[IFLA_STATS64]) >=
            (int)(offsetof(struct rtnl_link_stats64, tx_bytes) + sizeof(uint64_t))) {
        const char *statistics = nla_data(attributes[IFLA_STATS64]);

        memcpy(&link.rx_bytes, statistics + offsetof(struct rtnl_link_stats64, rx_bytes),
               sizeof link.rx_bytes);
        memcpy(&link.tx_bytes, statistics + offsetof(struct rtnl_link_stats64, tx_bytes),
               sizeof link.tx_bytes);
        link.statistics_valid = true;
    }
    g_array_append_val(links, link);
    return NL_OK;
}

gboolean
link_counters_read(LinkCounters *self, GArray **ret_links, GError **error)
{
    g_autoptr(GArray) links = g_array_new(FALSE, TRUE, sizeof(LinkCounter));
    struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
    int result = -NLE_DUMP_INTR;

    if (self->socket == NULL && (self->socket = traffic_socket_open(error)) == NULL)
        return FALSE;
    for (int i = 0; result == -NLE_DUMP_INTR && i < DUMP_ATTEMPTS; i++) {
        g_array_set_size(links, 0);
        result = traffic_socket_dump(self->socket, RTM_GETLINK, &header, sizeof header,
                                     link_received, links);
    }
    if (result < 0) {
        g_clear_pointer(&self->socket, nl_socket_free);
        g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_NETLINK,
                    "cannot read the interfaces' counters: %s", nl_geterror(result));
        return FALSE;
    }
    *ret_links = g_steal_pointer(&links);
    return TRUE;
}

const LinkCounter *
link_counters_find(const GArray *links, const char *name)
{
    for (guint i = 0; i < links->len; i++) {
        const LinkCounter *link = &g_array_index(links, LinkCounter, i);

        if (strcmp(link->name, name) == 0)
            return link;
    }
    return NULL;
}

const LinkCounter *
link_counters_find_index(const GArray *links, int ifindex)
{
    for (guint i = 0; i < links->len; i++) {
        const LinkCounter *link = &g_array_index(links, LinkCounter, i);

        if (link->ifindex == ifindex)
            return link;
    }
    return NULL;
}
