/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One rtnetlink request and its answers, for the files of traffic/ only.
 */
#pragma once

#include <glib.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>

typedef struct nl_sock TrafficSocket;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TrafficSocket, nl_socket_free)

/* NULL with TRAFFIC_ERROR_NETLINK. */
TrafficSocket *traffic_socket_open(GError **error);

/*
 * Sends one request and gives each answer to `received`. 0 or a negative NLE_*
 * code; -NLE_DUMP_INTR is a dump that a change interrupted: ask again.
 */
int traffic_socket_ask(TrafficSocket *socket, struct nl_msg *request, nl_recvmsg_msg_cb_t received,
                       void *data);

/* As above, for a dump whose request is only a header. */
int traffic_socket_dump(TrafficSocket *socket, int type, const void *header, size_t size,
                        nl_recvmsg_msg_cb_t received, void *data);
