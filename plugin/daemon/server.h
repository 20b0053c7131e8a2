/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The private socket: accepts peers, exports the interface to each, and hands
 * calls to calls.h and report.h. Who may call what is decided in common/ipc.h.
 */
#pragma once

#include "daemon/manager.h"

typedef struct Server Server;

/* socket_path NULL: the default. manager outlives the server. */
Server *server_new(Manager *manager, const char *socket_path, GError **error);
/* Closes all connections and removes the socket. */
void server_free(Server *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Server, server_free)
