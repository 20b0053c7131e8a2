/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The dump of one interface's HTB classes, for their byte counters only.
 */
#include "traffic/class_counters.h"

#include "traffic/error.h"
#include "traffic/netlink.h"

#include <linux/gen_stats.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <string.h>

enum { CLASSES_MAX = 4096, DUMP_ATTEMPTS = 4 };

struct ClassCounters {
    TrafficSocket *socket; /* NULL after a failure */
};

typedef struct {
    int ifindex;
    GArray *classes;
} ClassDump;

ClassCounters *
class_counters_new(GError **error)
{
    g_autoptr(TrafficSocket) socket = traffic_socket_open(error);
    ClassCounters *self;

    if (socket == NULL)
        return NULL;
    self = g_new0(ClassCounters, 1);
    self->socket = g_steal_pointer(&socket);
    return self;
}

void
class_counters_free(ClassCounters *self)
{
    if (self == NULL)
        return;
    g_clear_pointer(&self->socket, nl_socket_free);
    g_free(self);
}

static int
class_received(struct nl_msg *message, void *data)
{
    ClassDump *dump = data;
    struct nlattr *attributes[TCA_MAX + 1];
    struct nlattr *statistics[TCA_STATS_MAX + 1];
    struct tcmsg header;
    ClassCounter class = { 0 };
    char kind[8] = "";

    if (dump->classes->len >= CLASSES_MAX ||
        nlmsg_parse(nlmsg_hdr(message), sizeof header, attributes, TCA_MAX, NULL) < 0)
        return NL_OK;
    memcpy(&header, nlmsg_data(nlmsg_hdr(message)), sizeof header);
    if (attributes[TCA_KIND] != NULL)
        nla_strlcpy(kind, attributes[TCA_KIND], sizeof kind);
    if (header.tcm_ifindex != dump->ifindex || strcmp(kind, "htb") != 0 ||
        attributes[TCA_STATS2] == NULL ||
        nla_parse_nested(statistics, TCA_STATS_MAX, attributes[TCA_STATS2], NULL) < 0 ||
        statistics[TCA_STATS_BASIC] == NULL ||
        nla_len(statistics[TCA_STATS_BASIC]) < (int)sizeof class.bytes)
        return NL_OK;
    class.class_id = header.tcm_handle;
    /* The first member of struct gnet_stats_basic. */
    memcpy(&class.bytes, nla_data(statistics[TCA_STATS_BASIC]), sizeof class.bytes);
    g_array_append_val(dump->classes, class);
    return NL_OK;
}

gboolean
class_counters_read(ClassCounters *self, int ifindex, GArray **ret_classes, GError **error)
{
    g_autoptr(GArray) classes = g_array_new(FALSE, TRUE, sizeof(ClassCounter));
    ClassDump dump = { .ifindex = ifindex, .classes = classes };
    struct tcmsg header = { .tcm_family = AF_UNSPEC, .tcm_ifindex = ifindex };
    int result = -NLE_DUMP_INTR;

    if (ifindex <= 0) {
        g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_NOT_FOUND, "no interface has the index %d",
                    ifindex);
        return FALSE;
    }
    if (self->socket == NULL && (self->socket = traffic_socket_open(error)) == NULL)
        return FALSE;
    for (int i = 0; result == -NLE_DUMP_INTR && i < DUMP_ATTEMPTS; i++) {
        g_array_set_size(classes, 0);
        result = traffic_socket_dump(self->socket, RTM_GETTCLASS, &header, sizeof header,
                                     class_received, &dump);
    }
    if (result < 0) {
        g_clear_pointer(&self->socket, nl_socket_free);
        g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_NETLINK,
                    "cannot read the HTB classes of interface %d: %s", ifindex,
                    nl_geterror(result));
        return FALSE;
    }
    *ret_classes = g_steal_pointer(&classes);
    return TRUE;
}

bool
class_counters_find(const GArray *classes, uint32_t class_id, uint64_t *ret_bytes)
{
    for (guint i = 0; i < classes->len; i++) {
        const ClassCounter *class = &g_array_index(classes, ClassCounter, i);

        if (class->class_id == class_id) {
            *ret_bytes = class->bytes;
            return true;
        }
    }
    return false;
}
