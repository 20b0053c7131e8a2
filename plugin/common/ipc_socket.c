/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The daemon's socket as the kernel shows it; see ipc_socket.h. */
#include "common/ipc_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

const char *
ipc_socket_path(void)
{
    const char *path = getenv("VIRT_CONVOY_SOCKET");

    return path != NULL && *path != '\0' ? path : IPC_SOCKET_DEFAULT;
}

bool
ipc_owner_trusted(uid_t uid)
{
    return uid == 0 || uid == geteuid();
}

int
ipc_socket_check(const char *path)
{
    struct stat status;

    if (stat(path, &status) < 0)
        return -errno;
    return S_ISSOCK(status.st_mode) && ipc_owner_trusted(status.st_uid) ? 0 : -EPERM;
}

bool
ipc_listener_trusted(int descriptor)
{
    struct ucred peer;
    socklen_t size = sizeof peer;

    return getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           ipc_owner_trusted(peer.uid);
}
