/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The port that a peer-to-peer migration's memory goes to.
 *
 * Such a call is the whole migration: both hosts agree on the port inside libvirt, where no
 * entry point sees it. But libvirtd connects to it in the very thread of the call, and hands
 * the connection to QEMU. So this object stands in front of connect(2) as well: everything
 * passes through as it is, and a thread that watches is told of the TCP connections it made.
 * Parallel connections are QEMU's own: nothing is told of them.
 */
#pragma once

typedef void (*ConnectFunc)(unsigned port, void *data);

/*
 * From now on func is called for each TCP connection that this thread makes, with errno
 * kept; NULL: for none any more. libvirtd's own connection to the other libvirtd is told too.
 */
void connect_watch(ConnectFunc func, void *data);
