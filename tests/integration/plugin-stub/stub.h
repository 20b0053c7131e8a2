/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A library with the symbols of libvirt that the plugin uses, and a memory of
 * how it was called. Everything is per thread, as libvirt's errors are.
 */
#pragma once

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdbool.h>

#define STUB_PARAMETERS_MAXIMUM 16

/* The most recent call of a migration function in this thread. */
typedef struct {
    unsigned calls; /* since stub_reset */
    unsigned long flags;
    unsigned long bandwidth;
    int n_parameters;
    virTypedParameter parameters[STUB_PARAMETERS_MAXIMUM];
    char xml[4096];
    unsigned gatherings; /* see stub_gather */
    unsigned gathered;
    unsigned hooks_failed;
    unsigned connected; /* see stub_connect */
} StubSeen;

StubSeen *stub_seen(void);

/* The next calls whose flags contain any of mask fail with code. 0: none. */
void stub_fail_on(unsigned long mask, int code);

/*
 * Each function that the plugin stands in front of waits inside until so many threads are
 * in one. Call it before there are any; all then make the same calls. StubSeen.gatherings
 * says how often this thread waited, and gathered how often all came within GATHER_SECONDS.
 */
void stub_gather(unsigned count);
#define GATHER_SECONDS 10

virConnectPtr stub_connection(bool read_only);
virDomainPtr stub_domain(const char *uuid, const char *name);
/* Bits by their order: suspended, switched to post-copy; and whether memory moved by then. */
#define STUB_SUSPENDED 1
#define STUB_SWITCHED 2
#define STUB_TOO_EARLY 4
int stub_requests(virDomainPtr domain);

/* The same domain as another client has it, who may only look. */
virDomainPtr stub_domain_read_only(const char *uuid, const char *name);

/*
 * Each function that migrates connects to that TCP port of this machine, as libvirtd does in a
 * peer-to-peer call; before, to another one where nobody listens, and by UDP as a resolver does.
 * StubSeen.connected counts how often all three ended as they must. 0: none.
 */
void stub_connect(unsigned port);

/* `virsh migrate-setspeed` of this thread's domains, MiB/s; 0: none. */
void stub_limit(unsigned long mib);

/* This thread's domains are paused by their user; post-copy is refused for them, as by libvirt. */
void stub_pause(bool paused);

/* src/libvirt_internal.h */
char *virDomainMigrateBegin3(virDomainPtr, const char *, char **, int *, unsigned long,
                             const char *, unsigned long);
char *virDomainMigrateBegin3Params(virDomainPtr, virTypedParameterPtr, int, char **, int *,
                                   unsigned int);
int virDomainMigratePrepare3(virConnectPtr, const char *, int, char **, int *, const char *,
                             char **, unsigned long, const char *, unsigned long, const char *);
int virDomainMigratePrepare3Params(virConnectPtr, virTypedParameterPtr, int, const char *, int,
                                   char **, int *, char **, unsigned int);
int virDomainMigratePrepareTunnel3(virConnectPtr, virStreamPtr, const char *, int, char **, int *,
                                   unsigned long, const char *, unsigned long, const char *);
int virDomainMigratePrepareTunnel3Params(virConnectPtr, virStreamPtr, virTypedParameterPtr, int,
                                         const char *, int, char **, int *, unsigned int);
int virDomainMigratePerform3(virDomainPtr, const char *, const char *, int, char **, int *,
                             const char *, const char *, unsigned long, const char *,
                             unsigned long);
int virDomainMigratePerform3Params(virDomainPtr, const char *, virTypedParameterPtr, int,
                                   const char *, int, char **, int *, unsigned int);
virDomainPtr virDomainMigrateFinish3(virConnectPtr, const char *, const char *, int, char **, int *,
                                     const char *, const char *, unsigned long, int);
virDomainPtr virDomainMigrateFinish3Params(virConnectPtr, virTypedParameterPtr, int, const char *,
                                           int, char **, int *, unsigned int, int);
int virDomainMigrateConfirm3(virDomainPtr, const char *, int, unsigned long, int);
int virDomainMigrateConfirm3Params(virDomainPtr, virTypedParameterPtr, int, const char *, int,
                                   unsigned int, int);
virDomainPtr virGetDomain(virConnectPtr, const char *, const unsigned char *, int);
int virSetError(virErrorPtr);
void virRaiseErrorFull(const char *, const char *, size_t, int, int, virErrorLevel, const char *,
                       const char *, const char *, int, int, const char *, ...);
