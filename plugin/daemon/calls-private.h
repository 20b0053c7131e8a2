/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the calls-*.c files share; nobody else includes this. */
#pragma once

#include "common/peer.h"
#include "daemon/calls.h"

#define NAME_MAXIMUM 4096u

/* One call of libvirt, as the plugin tells it. NULL and 0: not stated. */
typedef struct {
    GVariant *parameters; /* owns what migrate_uri points to */
    const char *uuid;
    const char *name;
    const char *domain_xml;
    const char *cookie;
    const char *destination_uri;
    const char *migrate_uri;
    const char *destination_name; /* the caller chose another name there */
    uint64_t flags;
    uint64_t bandwidth_mib;
    uint64_t standing_bandwidth_mib; /* of the domain, which counts where the call has none */
    uint64_t post_copy_bandwidth_mib;
    uint64_t held_ms; /* prepare: that the call waited at the source; at most UINT32_MAX */
    bool tells_port;  /* a peer-to-peer one's port will be named, see calls_notify_port() */
    bool late;        /* its caller has gone on without us */
} Call;

/* The texts live as long as dictionary (a{sv}) and the call; what is too long or no UUID is NULL.
 */
void calls_read(GVariant *dictionary, Call *ret_call);
void calls_call_clear(Call *call);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Call, calls_call_clear)

/*
 * Into the record: what the caller chose, and what it excludes. False with error when the
 * call carries a domain XML that cannot be read.
 */
bool calls_apply(Manager *manager, Migration *migration, const Call *call, GError **error);

/*
 * The answer to EnterCall, a floating reference. migration NULL: not followed, which is
 * ticket 0. with_parameters: QEMU's limits too. The texts may be NULL.
 */
GVariant *calls_answer_new(const Migration *migration, bool with_parameters,
                           const char *cookie_element, const char *domain_xml);
/* Of one that was aborted while its answer was due: the caller learns it when it asks for its turn.
 */
GVariant *calls_answer_aborted(uint64_t ticket);

/*
 * Waits from now on, unless its turn has come or libvirtd has no worker to spare for a
 * held call. True: it waits.
 */
bool calls_hold(Manager *manager, Migration *migration);

/* What this host tells the other end. */
void calls_fill_report(const Manager *manager, const Migration *migration, PeerReport *ret_report);

/* What is not forbidden may become necessary: ask for it while it can be had. */
void calls_ask_for_post_copy(Migration *migration);

/* May a record be made for it? Logs why not. */
bool calls_may_follow(const Manager *manager, MigrationRole role, const char *uuid,
                      const char *name);

/* The answer, a floating reference; NULL with error when the call cannot be used. */
GVariant *calls_begin(Manager *manager, const Call *call, GError **error);
/* Likewise, but error may stay unset: the call carries no domain XML. */
GVariant *calls_prepare(Manager *manager, const Call *call, GError **error);
/* Answers the invocation itself, when the network is ready for the transfer. */
void calls_perform(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
                   const Call *call);

/* Takes description over; it may be NULL, name too when it is not. The record is the manager's. */
Migration *calls_destination_new(Manager *manager, const char *name,
                                 DomainDescription *description);
/* domain_xml with this host's offer in its metadata; NULL: it cannot be added, which is noted. */
char *calls_offer_xml(Manager *manager, Migration *migration, const char *domain_xml);
