/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where virt-convoyd listens and who may listen there: what every client needs,
 * whatever it speaks D-Bus with. C library only.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#define IPC_SOCKET_DEFAULT "/run/virt-convoy/socket"
#define IPC_STATE_DIRECTORY_DEFAULT "/run/virt-convoy"
#define IPC_OBJECT_PATH "/org/virtconvoy/Daemon"
#define IPC_INTERFACE "org.virtconvoy.Daemon1"

/* $VIRT_CONVOY_SOCKET, else the default. Owned by libc or the module. */
const char *ipc_socket_path(void);

/* Root, or the user that asks. */
bool ipc_owner_trusted(uid_t uid);

/*
 * 0: path is a socket of a trusted owner. Else a negative errno: -EPERM for
 * another owner or another kind of file, otherwise what stat says.
 */
int ipc_socket_check(const char *path);

/* Whether the process that listens at the other end of descriptor is trusted. */
bool ipc_listener_trusted(int descriptor);
