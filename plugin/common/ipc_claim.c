/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A listening socket that nobody ever accepts from; see ipc_claim.h. */
#include "common/ipc_claim.h"

#include <errno.h>
#include <glib.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/ipc_socket.h"

/* A digest, since a domain's name may be longer than an address. The size of the address. */
static socklen_t
address_fill(const char *operation, const char *domain, struct sockaddr_un *ret_address)
{
    g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA256);
    const char *socket_path = ipc_socket_path();
    int length;

    g_checksum_update(checksum, (const guchar *)socket_path, (gssize)strlen(socket_path) + 1);
    g_checksum_update(checksum, (const guchar *)operation, (gssize)strlen(operation) + 1);
    g_checksum_update(checksum, (const guchar *)domain, (gssize)strlen(domain));
    memset(ret_address, 0, sizeof *ret_address);
    ret_address->sun_family = AF_UNIX;
    /* The first byte stays NUL: no file. */
    length = g_snprintf(ret_address->sun_path + 1, sizeof ret_address->sun_path - 1,
                        "virt-convoy/claim/%s", g_checksum_get_string(checksum));
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

int
ipc_claim_make(const char *operation, const char *domain)
{
    struct sockaddr_un address;
    socklen_t size = address_fill(operation, domain, &address);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (descriptor < 0)
        return -errno;
    if (bind(descriptor, (const struct sockaddr *)&address, size) < 0 ||
        listen(descriptor, SOMAXCONN) < 0) {
        const int code = errno;

        close(descriptor);
        return -code;
    }
    return descriptor;
}

void
ipc_claim_drop(int claim)
{
    if (claim < 0)
        return;
    /* A child that has not yet called exec has the descriptor, too. */
    shutdown(claim, SHUT_RDWR);
    close(claim);
}

bool
ipc_claim_stands(const char *operation, const char *domain)
{
    struct sockaddr_un address;
    socklen_t size = address_fill(operation, domain, &address);
    /* A full queue is no reason to wait. */
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool stands;

    if (descriptor < 0)
        return false;
    stands = connect(descriptor, (const struct sockaddr *)&address, size) == 0 &&
             ipc_listener_trusted(descriptor);
    close(descriptor);
    return stands;
}
