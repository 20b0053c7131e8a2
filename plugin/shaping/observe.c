/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading qdiscs, classes and filters over rtnetlink. Every attribute is
 * checked for its length before it is read: a module's answer is input too.
 */
#include "shaping/observe.h"

#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <string.h>

typedef struct nl_sock NetlinkSocket;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetlinkSocket, nl_socket_free)

typedef struct {
    Observed *observed;
    bool too_many;
} Dump;

Observed *
observed_new_empty(void)
{
    Observed *self = g_new0(Observed, 1);

    self->qdiscs = g_array_new(FALSE, TRUE, sizeof(ObservedQdisc));
    self->classes = g_array_new(FALSE, TRUE, sizeof(ObservedClass));
    self->filters = g_array_new(FALSE, TRUE, sizeof(ObservedFilter));
    return self;
}

void
observed_free(Observed *self)
{
    if (self == NULL)
        return;
    g_array_unref(self->qdiscs);
    g_array_unref(self->classes);
    g_array_unref(self->filters);
    g_free(self);
}

static void
attribute_copy_string(char ret_text[IF_NAMESIZE], const struct nlattr *attribute)
{
    if (attribute != NULL)
        nla_strlcpy(ret_text, attribute, IF_NAMESIZE);
}

/* A copy of a fixed struct; zeros and false when the attribute is too short. */
static bool
attribute_copy(void *ret_value, size_t size, const struct nlattr *attribute)
{
    memset(ret_value, 0, size);
    if (attribute == NULL || (size_t)nla_len(attribute) < size)
        return false;
    memcpy(ret_value, nla_data(attribute), size);
    return true;
}

static bool
dump_has_room(Dump *dump, const GArray *array)
{
    if (array->len >= OBSERVED_OBJECTS_MAX)
        dump->too_many = true;
    return !dump->too_many;
}

static bool
message_parse(struct nl_msg *message, struct tcmsg *ret_header,
              struct nlattr *ret_attributes[TCA_MAX + 1])
{
    struct nlmsghdr *header = nlmsg_hdr(message);

    if (nlmsg_parse(header, sizeof(struct tcmsg), ret_attributes, TCA_MAX, NULL) < 0)
        return false;
    memcpy(ret_header, nlmsg_data(header), sizeof *ret_header);
    return true;
}

static int
qdisc_received(struct nl_msg *message, void *data)
{
    Dump *dump = data;
    struct nlattr *attributes[TCA_MAX + 1];
    struct tcmsg header;
    ObservedQdisc qdisc = { 0 };

    if (!message_parse(message, &header, attributes) ||
        header.tcm_ifindex != dump->observed->ifindex ||
        !dump_has_room(dump, dump->observed->qdiscs))
        return NL_OK;
    qdisc.handle = header.tcm_handle;
    qdisc.parent = header.tcm_parent;
    attribute_copy_string(qdisc.kind, attributes[TCA_KIND]);
    if (g_str_has_suffix(qdisc.kind, "fifo")) {
        struct tc_fifo_qopt options;

        attribute_copy(&options, sizeof options, attributes[TCA_OPTIONS]);
        qdisc.limit = options.limit;
    }
    g_array_append_val(dump->observed->qdiscs, qdisc);
    return NL_OK;
}

static int
class_received(struct nl_msg *message, void *data)
{
    Dump *dump = data;
    struct nlattr *attributes[TCA_MAX + 1];
    struct nlattr *htb[TCA_HTB_MAX + 1];
    struct tcmsg header;
    struct tc_htb_opt options;
    ObservedClass class = { 0 };
    char kind[IF_NAMESIZE] = "";

    if (!message_parse(message, &header, attributes) ||
        header.tcm_ifindex != dump->observed->ifindex ||
        !dump_has_room(dump, dump->observed->classes))
        return NL_OK;
    attribute_copy_string(kind, attributes[TCA_KIND]);
    if (strcmp(kind, "htb") != 0 || attributes[TCA_OPTIONS] == NULL ||
        nla_parse_nested(htb, TCA_HTB_MAX, attributes[TCA_OPTIONS], NULL) < 0 ||
        !attribute_copy(&options, sizeof options, htb[TCA_HTB_PARMS]))
        return NL_OK;
    class.id = header.tcm_handle;
    class.parent = header.tcm_parent;
    class.prio = options.prio;
    class.quantum = options.quantum;
    /* From 2^32 bytes/s on, the number is in an attribute of its own. */
    if (!attribute_copy(&class.rate, sizeof class.rate, htb[TCA_HTB_RATE64]))
        class.rate = options.rate.rate;
    if (!attribute_copy(&class.ceil, sizeof class.ceil, htb[TCA_HTB_CEIL64]))
        class.ceil = options.ceil.rate;
    g_array_append_val(dump->observed->classes, class);
    return NL_OK;
}

/* Our redirect is exactly one mirred action; anything else is exotic. */
static void
filter_read_actions(ObservedFilter *filter, struct nlattr *attribute)
{
    struct nlattr *actions[TCA_ACT_MAX_PRIO + 1];
    struct nlattr *action[TCA_ACT_MAX + 1];
    struct nlattr *mirred[TCA_MIRRED_MAX + 1];
    struct tc_mirred options;
    char kind[IF_NAMESIZE] = "";

    filter->exotic = true;
    if (nla_parse_nested(actions, TCA_ACT_MAX_PRIO, attribute, NULL) < 0 || actions[1] == NULL ||
        actions[2] != NULL || nla_parse_nested(action, TCA_ACT_MAX, actions[1], NULL) < 0)
        return;
    attribute_copy_string(kind, action[TCA_ACT_KIND]);
    if (strcmp(kind, "mirred") != 0 || action[TCA_ACT_OPTIONS] == NULL ||
        nla_parse_nested(mirred, TCA_MIRRED_MAX, action[TCA_ACT_OPTIONS], NULL) < 0 ||
        !attribute_copy(&options, sizeof options, mirred[TCA_MIRRED_PARMS]) ||
        options.eaction != TCA_EGRESS_REDIR)
        return;
    filter->redirect_ifindex = options.ifindex != 0 ? (int)options.ifindex : OBSERVED_DEVICE_GONE;
    filter->exotic = false;
}

static void
filter_read_keys(ObservedFilter *filter, const struct nlattr *attribute)
{
    struct tc_u32_sel selector;
    size_t length = (size_t)nla_len(attribute);
    const uint8_t *keys = (const uint8_t *)nla_data(attribute) + sizeof selector;

    if (!attribute_copy(&selector, sizeof selector, attribute) ||
        length < sizeof selector + selector.nkeys * sizeof(struct tc_u32_key)) {
        filter->exotic = true;
        return;
    }
    for (unsigned i = 0; i < selector.nkeys; i++) {
        struct tc_u32_key key;

        if (i >= OBSERVED_KEYS_MAX) {
            filter->exotic = true;
            return;
        }
        memcpy(&key, keys + i * sizeof key, sizeof key);
        if (key.offmask != 0)
            filter->exotic = true;
        filter->keys[filter->key_count++] = (U32Key){
            .value = g_ntohl(key.val),
            .mask = g_ntohl(key.mask),
            .offset = key.off,
        };
    }
}

static int
filter_received(struct nl_msg *message, void *data)
{
    Dump *dump = data;
    struct nlattr *attributes[TCA_MAX + 1];
    struct nlattr *u32[TCA_U32_MAX + 1];
    struct tcmsg header;
    ObservedFilter filter = { 0 };

    if (!message_parse(message, &header, attributes) ||
        header.tcm_ifindex != dump->observed->ifindex ||
        !dump_has_room(dump, dump->observed->filters))
        return NL_OK;
    filter.parent = header.tcm_parent;
    filter.preference = (uint16_t)(header.tcm_info >> 16);
    filter.protocol = g_ntohs((uint16_t)(header.tcm_info & 0xffff));
    attribute_copy_string(filter.kind, attributes[TCA_KIND]);
    if (strcmp(filter.kind, "u32") != 0) {
        filter.exotic = true;
    } else {
        /* A chain's head and its hash tables come without a selector. */
        if (header.tcm_handle == 0 || attributes[TCA_OPTIONS] == NULL ||
            nla_parse_nested(u32, TCA_U32_MAX, attributes[TCA_OPTIONS], NULL) < 0 ||
            u32[TCA_U32_SEL] == NULL)
            return NL_OK;
        if (u32[TCA_U32_CLASSID] != NULL && nla_len(u32[TCA_U32_CLASSID]) >= (int)sizeof(uint32_t))
            filter.class_id = nla_get_u32(u32[TCA_U32_CLASSID]);
        filter_read_keys(&filter, u32[TCA_U32_SEL]);
        if (u32[TCA_U32_ACT] != NULL)
            filter_read_actions(&filter, u32[TCA_U32_ACT]);
    }
    g_array_append_val(dump->observed->filters, filter);
    return NL_OK;
}

static int
link_received(struct nl_msg *message, void *data)
{
    Dump *dump = data;
    struct nlattr *attributes[IFLA_MAX + 1];
    struct nlattr *info[IFLA_INFO_MAX + 1];
    struct ifinfomsg header;

    if (nlmsg_parse(nlmsg_hdr(message), sizeof header, attributes, IFLA_MAX, NULL) < 0)
        return NL_OK;
    memcpy(&header, nlmsg_data(nlmsg_hdr(message)), sizeof header);
    dump->observed->exists = true;
    dump->observed->ifindex = header.ifi_index;
    dump->observed->up = (header.ifi_flags & IFF_UP) != 0;
    if (attributes[IFLA_LINKINFO] != NULL &&
        nla_parse_nested(info, IFLA_INFO_MAX, attributes[IFLA_LINKINFO], NULL) >= 0)
        attribute_copy_string(dump->observed->link_kind, info[IFLA_INFO_KIND]);
    return NL_OK;
}

static int
request_send(NetlinkSocket *socket, int type, int flags, const void *header, size_t size,
             nl_recvmsg_msg_cb_t received, Dump *dump)
{
    int result = nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_CUSTOM, received, dump);

    if (result < 0)
        return result;
    result = nl_send_simple(socket, type, flags, (void *)header, size);
    return result < 0 ? result : nl_recvmsgs_default(socket);
}

static int
observe_once(NetlinkSocket *socket, Dump *dump, unsigned ifindex)
{
    struct ifinfomsg link = { .ifi_family = AF_UNSPEC, .ifi_index = (int)ifindex };
    struct tcmsg tc = { .tcm_family = AF_UNSPEC, .tcm_ifindex = (int)ifindex };
    int result = request_send(socket, RTM_GETLINK, 0, &link, sizeof link, link_received, dump);

    if (result == -NLE_NODEV || result == -NLE_OBJ_NOTFOUND)
        return 0;
    if (result < 0)
        return result;
    result = request_send(socket, RTM_GETQDISC, NLM_F_DUMP, &tc, sizeof tc, qdisc_received, dump);
    if (result < 0)
        return result;
    result = request_send(socket, RTM_GETTCLASS, NLM_F_DUMP, &tc, sizeof tc, class_received, dump);
    if (result < 0)
        return result;
    /* A parent without a qdisc answers with an empty dump or EINVAL,
     * depending on the kernel: ask only where one stands. */
    for (guint i = 0; i < dump->observed->qdiscs->len; i++) {
        const ObservedQdisc *qdisc = &g_array_index(dump->observed->qdiscs, ObservedQdisc, i);

        if (qdisc->parent != TC_H_INGRESS && qdisc->handle != (uint32_t)SHAPING_HANDLE_MAJOR << 16)
            continue;
        tc.tcm_parent = qdisc->handle;
        result =
            request_send(socket, RTM_GETTFILTER, NLM_F_DUMP, &tc, sizeof tc, filter_received, dump);
        if (result < 0)
            return result;
    }
    return 0;
}

Observed *
shaping_observe(const char *interface, GError **error)
{
    g_autoptr(NetlinkSocket) socket = nl_socket_alloc();
    int result;

    if (socket == NULL || nl_connect(socket, NETLINK_ROUTE) < 0) {
        g_set_error(error, SHAPING_ERROR, SHAPING_ERROR_FAILED, "%s: cannot open a netlink socket",
                    interface);
        return NULL;
    }
    nl_socket_disable_auto_ack(socket);
    nl_socket_enable_msg_peek(socket);

    /* A dump that another change interrupted is taken anew. */
    for (int attempt = 0;; attempt++) {
        g_autoptr(Observed) observed = observed_new_empty();
        Dump dump = { .observed = observed };
        unsigned ifindex = if_nametoindex(interface);

        g_strlcpy(observed->name, interface, sizeof observed->name);
        if (ifindex == 0)
            return g_steal_pointer(&observed);
        result = observe_once(socket, &dump, ifindex);
        if (dump.too_many) {
            g_set_error(error, SHAPING_ERROR, SHAPING_ERROR_FAILED,
                        "%s: more than %d qdiscs, classes or filters", interface,
                        OBSERVED_OBJECTS_MAX);
            return NULL;
        }
        if (result >= 0)
            return g_steal_pointer(&observed);
        if (result != -NLE_DUMP_INTR || attempt >= 3) {
            g_set_error(error, SHAPING_ERROR, SHAPING_ERROR_FAILED,
                        "%s: cannot read qdiscs, classes and filters: %s", interface,
                        nl_geterror(result));
            return NULL;
        }
    }
}

bool
observed_has_our_root(const Observed *self)
{
    for (guint i = 0; i < self->qdiscs->len; i++) {
        const ObservedQdisc *qdisc = &g_array_index(self->qdiscs, ObservedQdisc, i);

        if (qdisc->parent == TC_H_ROOT && strcmp(qdisc->kind, "htb") == 0 &&
            qdisc->handle == (uint32_t)SHAPING_HANDLE_MAJOR << 16)
            return true;
    }
    return false;
}

bool
observed_has_our_ingress(const Observed *self, int ifb_ifindex, bool *ret_redirects)
{
    bool stands = false, redirects = false;

    for (guint i = 0; i < self->qdiscs->len; i++) {
        const ObservedQdisc *qdisc = &g_array_index(self->qdiscs, ObservedQdisc, i);

        if (qdisc->parent == TC_H_INGRESS && strcmp(qdisc->kind, "ingress") == 0)
            stands = true;
    }
    if (!stands)
        return false;
    for (guint i = 0; i < self->filters->len; i++) {
        const ObservedFilter *filter = &g_array_index(self->filters, ObservedFilter, i);

        if (TC_H_MAJ(filter->parent) != TC_H_MAJ(TC_H_INGRESS))
            continue;
        if (filter->exotic || filter->preference != SHAPING_REDIRECT_PREFERENCE ||
            filter->redirect_ifindex == 0)
            return false;
        if (filter->redirect_ifindex == OBSERVED_DEVICE_GONE)
            continue;
        if (ifb_ifindex != 0 && filter->redirect_ifindex != ifb_ifindex)
            return false;
        redirects = true;
    }
    if (ret_redirects != NULL)
        *ret_redirects = redirects;
    return true;
}

char *
observed_foreign_reason(const Observed *self, ShapingDirection direction, int ifb_ifindex)
{
    bool redirects = false;

    if (direction == SHAPING_EGRESS && observed_has_our_root(self))
        return NULL;
    if (direction == SHAPING_INGRESS && ifb_ifindex != 0 &&
        observed_has_our_ingress(self, ifb_ifindex, &redirects) && redirects)
        return NULL;

    for (guint i = 0; i < self->qdiscs->len; i++) {
        const ObservedQdisc *qdisc = &g_array_index(self->qdiscs, ObservedQdisc, i);
        bool at_ingress = qdisc->parent == TC_H_INGRESS;

        if (at_ingress != (direction == SHAPING_INGRESS))
            continue;
        /* Handle 0: the kernel put it there itself and will again. */
        if (qdisc->handle == 0)
            continue;
        return g_strdup_printf("a qdisc %s %x: that is not ours stands there", qdisc->kind,
                               qdisc->handle >> 16);
    }
    return NULL;
}
