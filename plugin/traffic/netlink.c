/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sending and receiving over libnl; what the messages mean is the callers'.
 */
#include "traffic/netlink.h"

#include "traffic/error.h"

TrafficSocket *
traffic_socket_open(GError **error)
{
    g_autoptr(TrafficSocket) socket = nl_socket_alloc();
    int result = socket == NULL ? -NLE_NOMEM : nl_connect(socket, NETLINK_ROUTE);

    if (result < 0) {
        g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_NETLINK, "cannot open a netlink socket: %s",
                    nl_geterror(result));
        return NULL;
    }
    /* Answers end by themselves; an acknowledgement would stay in the queue. */
    nl_socket_disable_auto_ack(socket);
    nl_socket_enable_msg_peek(socket);
    return g_steal_pointer(&socket);
}

int
traffic_socket_ask(TrafficSocket *socket, struct nl_msg *request, nl_recvmsg_msg_cb_t received,
                   void *data)
{
    int result = nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_CUSTOM, received, data);

    if (result >= 0)
        result = nl_send_auto(socket, request);
    if (result >= 0)
        result = nl_recvmsgs_default(socket);
    return MIN(result, 0);
}

int
traffic_socket_dump(TrafficSocket *socket, int type, const void *header, size_t size,
                    nl_recvmsg_msg_cb_t received, void *data)
{
    struct nl_msg *request = nlmsg_alloc_simple(type, NLM_F_REQUEST | NLM_F_DUMP);
    int result;

    if (request == NULL)
        return -NLE_NOMEM;
    result = nlmsg_append(request, (void *)header, size, NLMSG_ALIGNTO);
    if (result >= 0)
        result = traffic_socket_ask(socket, request, received, data);
    nlmsg_free(request);
    return result;
}
