/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A fuzzer's bytes as messages of rtnetlink. */
#pragma once

#include <glib.h>
#include <netlink/msg.h>
#include <stdint.h>
#include <string.h>

#define MESSAGE_MAXIMUM 4096u

typedef void (*MessageFunc)(unsigned kind, struct nl_msg *message, size_t length, void *data);

/*
 * Each message is a kind (one byte, up to kinds), its length (two bytes, little-endian) and
 * what follows the netlink header. func reads it; length is without that header.
 */
static inline void
messages_feed(const uint8_t *data, size_t size, unsigned kinds, int type, MessageFunc func,
              void *user_data)
{
    size_t at = 0;

    while (at + 3 <= size) {
        size_t length = data[at + 1] | (size_t)data[at + 2] << 8;
        struct nl_msg *message;

        length = MIN(MIN(length, MESSAGE_MAXIMUM), size - at - 3);
        /* No byte more than the message has: who reads on is found. */
        message = nlmsg_alloc_size(NLMSG_HDRLEN + NLMSG_ALIGN(length));
        memcpy(nlmsg_data(nlmsg_put(message, 0, 0, type, (int)length, 0)), data + at + 3, length);
        func(data[at] % kinds, message, length, user_data);
        nlmsg_free(message);
        at += 3 + length;
    }
}
