/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the plugin in libvirtd and the qemu hook say, turned into migrations,
 * and what they are told. The rules about flags and who agrees to what:
 *
 *   begin    (source)       ask for the possibility of post-copy, or propose
 *                           parallel connections; never both
 *   prepare  (destination)  agree only to what the source asked for
 *   perform  (source)       use only what the destination agreed to; a
 *                           peer-to-peer call carries its flags there by itself
 *
 * Every function answers its invocation exactly once, at the latest after one
 * second; nothing here asks libvirtd.
 */
#pragma once

#include "daemon-interface.h"
#include "daemon/manager.h"

/* call: a{sv}; see the interface XML. */
void calls_enter(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
                 const char *entry, GVariant *call);
void calls_wait_turn(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
                     uint64_t ticket);
void calls_leave(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
                 const char *entry, uint64_t ticket, GVariant *result);
/* The port of a peer-to-peer migration; one that cannot be it is passed over. */
void calls_notify_port(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
                       uint64_t ticket, unsigned port);
void calls_abort_waiting(Manager *manager, ConvoyDaemon1 *skeleton,
                         GDBusMethodInvocation *invocation, const char *uuid);
void calls_release_waiting(Manager *manager, ConvoyDaemon1 *skeleton,
                           GDBusMethodInvocation *invocation, const char *uuid);
void calls_notify_hook(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
                       const char *domain, const char *operation, const char *sub_operation,
                       const char *xml);
