/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Plays libvirtd: calls the entry points with the plugin in front of the stub
 * library, from many threads, and checks what reached the stub. Built under
 * the name "libvirtd", since the plugin does nothing in other programs.
 *
 *   libvirtd SCENARIO      prints TAP; see run for the daemon that goes with it
 */
#include <errno.h>
#include <glib.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stub.h"

#define THREADS 20
#define ROUNDS 10
#define CHILD_SECONDS 20
#define LIVE_DIRECT (VIR_MIGRATE_LIVE | VIR_MIGRATE_CHANGE_PROTECTION | VIR_MIGRATE_AUTO_CONVERGE)
#define LIVE_P2P (VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER)
#define PEER_URI "qemu+tcp://host-b/system"

/* What one whole migration passed to the stub, phase by phase. */
typedef struct {
    unsigned long begin, prepare, perform, finish, confirm;
    bool complete;
    gint64 longest; /* microseconds of the slowest call */
    gint64 total;
} Trip;

static gint failures;
static gint checks;
static guint tests;

static void
check(bool good, const char *what, const char *detail, unsigned long number)
{
    g_atomic_int_inc(&checks);
    if (good)
        return;
    g_atomic_int_inc(&failures);
    printf("# failed: %s (%s %#lx)\n", what, detail, number);
}

#define CHECK(condition, number) check(condition, #condition, __func__, (unsigned long)(number))

static int
error_code(void)
{
    return virGetLastError() != NULL ? virGetLastError()->code : VIR_ERR_OK;
}

static void
note_time(Trip *trip, gint64 start)
{
    gint64 spent = g_get_monotonic_time() - start;

    trip->longest = MAX(trip->longest, spent);
    trip->total += spent;
}

static const virTypedParameter *
seen_parameter(const char *name)
{
    const StubSeen *seen = stub_seen();
    const virTypedParameter *found = NULL;

    for (int i = 0; i < seen->n_parameters; i++) {
        if (strcmp(seen->parameters[i].field, name) != 0)
            continue;
        CHECK(found == NULL, i);
        found = &seen->parameters[i];
    }
    return found;
}

static void
check_cookie(const char *cookie, int length)
{
    CHECK(cookie != NULL && length > 0, length);
    if (cookie == NULL || length <= 0)
        return;
    CHECK(cookie[length - 1] == '\0' && strlen(cookie) == (size_t)length - 1, length);
    CHECK(g_str_has_suffix(cookie, "</qemu-migration>\n"), length);
}

/* Who may only look meddles between the phases. */
static __thread bool meddled_with;

static void
meddle(bool params, virDomainPtr domain, const char *name, unsigned long flags)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    virDomainPtr same;

    if (!meddled_with)
        return;
    CHECK(virDomainGetUUIDString(domain, uuid) == 0, 0);
    same = stub_domain_read_only(uuid, name);
    if (params) {
        virTypedParameter list = { .field = VIR_MIGRATE_PARAM_DEST_NAME,
                                   .type = VIR_TYPED_PARAM_STRING,
                                   .value.s = (char *)name };

        CHECK(virDomainMigrateFinish3Params(stub_connection(true), &list, 1, NULL, 0, NULL, NULL,
                                            (unsigned)flags, 1) == NULL,
              0);
        CHECK(error_code() == VIR_ERR_OPERATION_DENIED, error_code());
        CHECK(virDomainMigrateConfirm3Params(same, NULL, 0, NULL, 0, (unsigned)flags, 1) == -1, 0);
    } else {
        CHECK(virDomainMigrateFinish3(stub_connection(true), name, NULL, 0, NULL, NULL, NULL, NULL,
                                      flags, 1) == NULL,
              0);
        CHECK(error_code() == VIR_ERR_OPERATION_DENIED, error_code());
        CHECK(virDomainMigrateConfirm3(same, NULL, 0, flags, 1) == -1, 0);
    }
    CHECK(error_code() == VIR_ERR_OPERATION_DENIED, error_code());
    virDomainFree(same);
}

/* A direct migration through all five phases of one family. */
static Trip
migrate_direct(bool params, virDomainPtr domain, const char *name, unsigned long flags)
{
    Trip trip = { 0 };
    virTypedParameterPtr list = NULL;
    int count = 0, maximum = 0, length1 = 0, length2 = 0, length3 = 0, status;
    char *cookie1 = NULL, *cookie2 = NULL, *cookie3 = NULL, *uri = NULL, *begun;
    g_autofree char *xml = g_strdup_printf("<domain><name>%s</name></domain>", name);
    virDomainPtr finished;
    gint64 start;

    virTypedParamsAddString(&list, &count, &maximum, VIR_MIGRATE_PARAM_DEST_XML, xml);
    virTypedParamsAddString(&list, &count, &maximum, VIR_MIGRATE_PARAM_DEST_NAME, name);
    start = g_get_monotonic_time();
    begun = params ? virDomainMigrateBegin3Params(domain, list, count, &cookie1, &length1,
                                                  (unsigned)flags)
                   : virDomainMigrateBegin3(domain, NULL, &cookie1, &length1, flags, name, 0);
    note_time(&trip, start);
    trip.begin = stub_seen()->flags;
    if (begun == NULL)
        goto out;
    check_cookie(cookie1, length1);

    start = g_get_monotonic_time();
    status =
        params ? virDomainMigratePrepare3Params(stub_connection(false), list, count, cookie1,
                                                length1, &cookie2, &length2, &uri, (unsigned)flags)
               : virDomainMigratePrepare3(stub_connection(false), cookie1, length1, &cookie2,
                                          &length2, NULL, &uri, flags, name, 0, xml);
    note_time(&trip, start);
    trip.prepare = stub_seen()->flags;
    if (status < 0)
        goto out;
    check_cookie(cookie2, length2);
    CHECK(g_strcmp0(uri, "tcp:host-b:49152") == 0, 0);

    meddle(params, domain, name, flags);
    start = g_get_monotonic_time();
    status = params ? virDomainMigratePerform3Params(domain, NULL, list, count, cookie2, length2,
                                                     &cookie3, &length3, (unsigned)flags)
                    : virDomainMigratePerform3(domain, NULL, cookie2, length2, &cookie3, &length3,
                                               NULL, uri, flags, name, 0);
    note_time(&trip, start);
    trip.perform = stub_seen()->flags;
    CHECK(status == 0, status);

    meddle(params, domain, name, flags);
    start = g_get_monotonic_time();
    finished = params ? virDomainMigrateFinish3Params(stub_connection(false), list, count, cookie3,
                                                      length3, NULL, NULL, (unsigned)flags, 0)
                      : virDomainMigrateFinish3(stub_connection(false), name, cookie3, length3,
                                                NULL, NULL, NULL, uri, flags, 0);
    note_time(&trip, start);
    trip.finish = stub_seen()->flags;
    CHECK(finished != NULL, 0);
    if (finished != NULL)
        virDomainFree(finished);

    start = g_get_monotonic_time();
    status = params ? virDomainMigrateConfirm3Params(domain, list, count, cookie3, length3,
                                                     (unsigned)flags, 0)
                    : virDomainMigrateConfirm3(domain, cookie3, length3, flags, 0);
    note_time(&trip, start);
    trip.confirm = stub_seen()->flags;
    CHECK(status == 0, status);
    CHECK(virGetLastError() == NULL, 0);
    CHECK(stub_seen()->hooks_failed == 0, stub_seen()->hooks_failed);
    trip.complete = true;
out:
    free(begun);
    free(cookie1);
    free(cookie2);
    free(cookie3);
    free(uri);
    virTypedParamsFree(list, count);
    return trip;
}

static int
migrate_p2p(bool params, virDomainPtr domain, unsigned long flags, bool own_bandwidth)
{
    virTypedParameterPtr list = NULL;
    int count = 0, maximum = 0, length = 0, status;
    char *cookie = NULL;

    if (own_bandwidth)
        virTypedParamsAddULLong(&list, &count, &maximum, VIR_MIGRATE_PARAM_BANDWIDTH, 5);
    status = params ? virDomainMigratePerform3Params(domain, PEER_URI, list, count, NULL, 0,
                                                     &cookie, &length, (unsigned)flags)
                    : virDomainMigratePerform3(domain, NULL, NULL, 0, &cookie, &length, PEER_URI,
                                               NULL, flags, NULL, own_bandwidth ? 5 : 0);
    free(cookie);
    virTypedParamsFree(list, count);
    return status;
}

typedef void (*Scenario)(virDomainPtr domain, const char *name, bool params);

/* Nothing may differ from plain libvirt. */
static void
scenario_unchanged(virDomainPtr domain, const char *name, bool params)
{
    Trip trip = migrate_direct(params, domain, name, LIVE_DIRECT);

    CHECK(trip.complete, 0);
    CHECK(trip.begin == LIVE_DIRECT, trip.begin);
    CHECK(trip.prepare == LIVE_DIRECT, trip.prepare);
    CHECK(trip.perform == LIVE_DIRECT, trip.perform);
    CHECK(trip.finish == LIVE_DIRECT, trip.finish);
    CHECK(trip.confirm == LIVE_DIRECT, trip.confirm);
    CHECK(migrate_p2p(params, domain, LIVE_P2P, false) == 0, 0);
    CHECK(stub_seen()->flags == LIVE_P2P, stub_seen()->flags);
    CHECK(stub_seen()->n_parameters == 0 && stub_seen()->bandwidth == 0, 0);
    stub_fail_on(VIR_MIGRATE_LIVE, VIR_ERR_CONFIG_UNSUPPORTED);
    stub_seen()->calls = 0;
    CHECK(migrate_p2p(params, domain, LIVE_P2P, false) == -1, 0);
    CHECK(stub_seen()->calls == 1, stub_seen()->calls);
    CHECK(error_code() == VIR_ERR_CONFIG_UNSUPPORTED, error_code());
    stub_fail_on(0, 0);
}

static void
scenario_absent(virDomainPtr domain, const char *name, bool params)
{
    gint64 start = g_get_monotonic_time();

    scenario_unchanged(domain, name, params);
    /* Far below the limit of 10 s: nothing was waited for. */
    CHECK(g_get_monotonic_time() - start < 2 * G_USEC_PER_SEC, g_get_monotonic_time() - start);
}

static void
check_post_copy_fence(virDomainPtr domain, const char *name, bool params)
{
    const unsigned long closed[] = {
        VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_LIVE | VIR_MIGRATE_TUNNELLED,
        VIR_MIGRATE_PEER2PEER,
        VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_LIVE | VIR_MIGRATE_PAUSED,
        VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_OFFLINE,
        VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_LIVE | VIR_MIGRATE_PARALLEL,
    };

    (void)name;
    for (size_t i = 0; i < G_N_ELEMENTS(closed); i++) {
        CHECK(migrate_p2p(params, domain, closed[i], false) == 0, closed[i]);
        CHECK(stub_seen()->flags == closed[i], stub_seen()->flags);
    }
}

/* libvirt makes it a migration with VIR_MIGRATE_PAUSED, in which post-copy is refused. */
static void
check_paused_guest(virDomainPtr domain, bool params)
{
    stub_pause(true);
    stub_seen()->calls = 0;
    CHECK(migrate_p2p(params, domain, LIVE_P2P, false) == 0, 0);
    CHECK(stub_seen()->calls == 1, stub_seen()->calls);
    CHECK(stub_seen()->flags == LIVE_P2P, stub_seen()->flags);
    stub_pause(false);
}

static void
check_post_copy_retries(virDomainPtr domain, const char *name, bool params)
{
    Trip trip;

    /* Everybody refuses what was added: all goes as asked. */
    stub_fail_on(VIR_MIGRATE_POSTCOPY, VIR_ERR_CONFIG_UNSUPPORTED);
    trip = migrate_direct(params, domain, name, LIVE_DIRECT);
    CHECK(trip.complete && trip.begin == LIVE_DIRECT && trip.prepare == LIVE_DIRECT &&
              trip.perform == LIVE_DIRECT && trip.finish == LIVE_DIRECT &&
              trip.confirm == LIVE_DIRECT,
          trip.perform);
    CHECK(migrate_p2p(params, domain, LIVE_P2P, false) == 0, 0);
    CHECK(stub_seen()->flags == LIVE_P2P, stub_seen()->flags);
    CHECK(virGetLastError() == NULL, 0);
    /* Not after an abort, and the error is that of the real call. */
    stub_fail_on(VIR_MIGRATE_POSTCOPY, VIR_ERR_OPERATION_ABORTED);
    stub_seen()->calls = 0;
    CHECK(migrate_p2p(params, domain, LIVE_P2P, false) == -1, 0);
    CHECK(stub_seen()->calls == 1, stub_seen()->calls);
    CHECK(error_code() == VIR_ERR_OPERATION_ABORTED, error_code());
    /* It fails as asked too: the caller sees the second error. */
    stub_fail_on(VIR_MIGRATE_LIVE, VIR_ERR_CONFIG_UNSUPPORTED);
    stub_seen()->calls = 0;
    CHECK(migrate_p2p(params, domain, LIVE_P2P, false) == -1, 0);
    CHECK(stub_seen()->calls == 2, stub_seen()->calls);
    CHECK(error_code() == VIR_ERR_CONFIG_UNSUPPORTED, error_code());
    stub_fail_on(0, 0);
}

/* Peer-to-peer: flags travel by themselves, only the offer is added. */
static void
check_offer(virDomainPtr domain, const char *name, bool params)
{
    const unsigned long flags = LIVE_P2P | VIR_MIGRATE_TUNNELLED;
    g_autofree char *xml = g_strdup_printf("<domain><name>%s</name></domain>", name);
    char *cookie = NULL, *uri = NULL;
    int length = 0;

    (void)domain;
    (void)params;
    CHECK(virDomainMigratePrepare3(stub_connection(false), NULL, 0, &cookie, &length, NULL, &uri,
                                   LIVE_P2P, NULL, 0, xml) == 0,
          0);
    CHECK(stub_seen()->flags == LIVE_P2P, stub_seen()->flags);
    CHECK(strstr(stub_seen()->xml, "urn:virt-convoy:offer:1") != NULL, 0);
    check_cookie(cookie, length);
    g_clear_pointer(&cookie, free);
    g_clear_pointer(&uri, free);
    CHECK(virDomainMigratePrepareTunnel3(stub_connection(false), NULL, NULL, 0, &cookie, &length,
                                         flags, NULL, 0, xml) == 0,
          0);
    CHECK(stub_seen()->flags == flags && stub_seen()->bandwidth == 0, stub_seen()->flags);
    check_cookie(cookie, length);
    free(cookie);
}

static void
scenario_post_copy(virDomainPtr domain, const char *name, bool params)
{
    const unsigned long wanted = LIVE_DIRECT | VIR_MIGRATE_POSTCOPY;
    const virTypedParameter *parameter;
    Trip trip;

    meddled_with = true;
    trip = migrate_direct(params, domain, name, LIVE_DIRECT);
    meddled_with = false;
    CHECK(trip.complete, 0);
    CHECK(trip.begin == wanted, trip.begin);
    CHECK(trip.prepare == wanted, trip.prepare);
    CHECK(trip.perform == wanted, trip.perform);
    CHECK(trip.finish == wanted, trip.finish);
    CHECK(trip.confirm == wanted, trip.confirm);

    CHECK(migrate_p2p(params, domain, LIVE_P2P, false) == 0, 0);
    CHECK(stub_seen()->flags == (LIVE_P2P | VIR_MIGRATE_POSTCOPY), stub_seen()->flags);
    if (params) {
        CHECK(stub_seen()->n_parameters == 2, stub_seen()->n_parameters);
        parameter = seen_parameter(VIR_MIGRATE_PARAM_BANDWIDTH);
        CHECK(parameter != NULL && parameter->value.ul == 30, 0);
        parameter = seen_parameter(VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY);
        CHECK(parameter != NULL && parameter->value.ul == 40, 0);
    } else {
        CHECK(stub_seen()->bandwidth == 30, stub_seen()->bandwidth);
    }
    CHECK(migrate_p2p(params, domain, LIVE_P2P, true) == 0, 0);
    parameter = seen_parameter(VIR_MIGRATE_PARAM_BANDWIDTH);
    CHECK(params ? parameter != NULL && parameter->value.ul == 5 : stub_seen()->bandwidth == 5, 0);
    /* A limit that somebody gave the domain before stands: none is added. */
    stub_limit(7);
    CHECK(migrate_p2p(params, domain, LIVE_P2P, false) == 0, 0);
    CHECK(params ? seen_parameter(VIR_MIGRATE_PARAM_BANDWIDTH) == NULL
                 : stub_seen()->bandwidth == 0,
          stub_seen()->bandwidth);
    stub_limit(0);
    check_offer(domain, name, params);
    check_post_copy_fence(domain, name, params);
    check_paused_guest(domain, params);
    check_post_copy_retries(domain, name, params);
}

static void
scenario_parallel(virDomainPtr domain, const char *name, bool params)
{
    /* Without a parameter list the number of connections could not match. */
    const unsigned long wanted = params ? LIVE_DIRECT | VIR_MIGRATE_PARALLEL : LIVE_DIRECT;
    Trip trip = migrate_direct(params, domain, name, LIVE_DIRECT);

    CHECK(trip.complete, 0);
    CHECK(trip.begin == LIVE_DIRECT, trip.begin);
    CHECK(trip.prepare == wanted, trip.prepare);
    CHECK(trip.perform == wanted, trip.perform);
    CHECK(trip.finish == wanted, trip.finish);
    CHECK(trip.confirm == wanted, trip.confirm);
    CHECK(migrate_p2p(params, domain, LIVE_P2P, false) == 0, 0);
    if (params) {
        const virTypedParameter *parameter = seen_parameter(VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS);

        CHECK(stub_seen()->flags == (LIVE_P2P | VIR_MIGRATE_PARALLEL), stub_seen()->flags);
        CHECK(parameter != NULL && parameter->value.i == 4, 0);
    }
    CHECK(migrate_p2p(params, domain, LIVE_P2P | VIR_MIGRATE_POSTCOPY, false) == 0, 0);
    CHECK(stub_seen()->flags == (LIVE_P2P | VIR_MIGRATE_POSTCOPY), stub_seen()->flags);
}

/* The daemon dies after Prepare: what the destination has on is followed. */
static void
scenario_dies_after_prepare(virDomainPtr domain, const char *name, bool params)
{
    Trip trip = migrate_direct(params, domain, name, LIVE_DIRECT);

    CHECK(trip.complete, 0);
    CHECK(trip.prepare == trip.perform, trip.perform);
    CHECK(trip.prepare == trip.finish, trip.finish);
    CHECK(trip.perform == trip.confirm, trip.confirm);
}

/* How many times slower than usual this program runs, as a sanitizer makes it. */
static gint64
slowness(void)
{
    const char *text = getenv("STUB_SLOWNESS");

    return text != NULL ? MAX(atoi(text), 1) : 1;
}

/* The budget of the run is 300 ms: once for each end, in all phases together. */
static void
scenario_silent(virDomainPtr domain, const char *name, bool params)
{
    Trip trip = migrate_direct(params, domain, name, LIVE_DIRECT);

    CHECK(trip.complete, 0);
    CHECK(trip.begin == LIVE_DIRECT && trip.prepare == LIVE_DIRECT && trip.perform == LIVE_DIRECT &&
              trip.finish == LIVE_DIRECT && trip.confirm == LIVE_DIRECT,
          trip.perform);
    CHECK(trip.longest < slowness() * 600 * 1000, trip.longest);
    CHECK(trip.total < slowness() * 1200 * 1000, trip.total);
}

/* The budget of the run is 2 s, once for each end; the daemon's second for an answer is in it. */
static void
scenario_hung_turn(virDomainPtr domain, const char *name, bool params)
{
    Trip trip = migrate_direct(params, domain, name, LIVE_DIRECT);

    CHECK(trip.complete, 0);
    CHECK(trip.begin == LIVE_DIRECT && trip.perform == LIVE_DIRECT, trip.perform);
    CHECK(trip.longest < slowness() * 2700 * 1000, trip.longest);
    CHECK(trip.total < slowness() * 5000 * 1000, trip.total);
}

static void
scenario_wait(virDomainPtr domain, const char *name, bool params)
{
    Trip trip = migrate_direct(params, domain, name, LIVE_DIRECT);

    CHECK(trip.complete, 0);
    CHECK(trip.longest >= 150 * 1000, trip.longest);
}

/* A held call is aborted from another thread. */
static gpointer
abort_when_held(gpointer data)
{
    virDomainPtr domain = data;
    virDomainJobInfo info = { .type = VIR_DOMAIN_JOB_NONE };
    int status = -1;

    for (int i = 0; i < 500 && info.type == VIR_DOMAIN_JOB_NONE; i++) {
        g_usleep(10000);
        CHECK(virDomainGetJobInfo(domain, &info) == 0, i);
    }
    CHECK(info.type == VIR_DOMAIN_JOB_UNBOUNDED, info.type);
    for (int i = 0; i < 500 && status != 0; i++) {
        g_usleep(10000);
        status = virDomainAbortJob(domain);
        CHECK(status == 0 || error_code() == VIR_ERR_OPERATION_INVALID, status);
    }
    CHECK(status == 0, status);
    CHECK(virGetLastError() == NULL, 0);
    virResetLastError();
    return NULL;
}

static void
scenario_hold(virDomainPtr domain, const char *name, bool params)
{
    GThread *thread = g_thread_new("abort", abort_when_held, domain);
    virDomainJobInfo info = { .type = VIR_DOMAIN_JOB_NONE };
    Trip trip;

    stub_seen()->calls = 0;
    trip = migrate_direct(params, domain, name, LIVE_DIRECT);
    CHECK(!trip.complete, 0);
    CHECK(stub_seen()->calls == 0, stub_seen()->calls);
    CHECK(error_code() == VIR_ERR_OPERATION_ABORTED, error_code());
    g_thread_join(thread);
    CHECK(virDomainGetJobInfo(domain, &info) == 0 && info.type == VIR_DOMAIN_JOB_NONE, info.type);
}

/* `virsh migrate --timeout`, or with --timeout-postcopy, of a call that is held. */
static gpointer
hurry_when_held(gpointer data)
{
    virDomainPtr domain = data;
    virDomainJobInfo info = { .type = VIR_DOMAIN_JOB_NONE };
    char uuid[VIR_UUID_STRING_BUFLEN];
    virDomainPtr other;

    for (int i = 0; i < 500 && info.type == VIR_DOMAIN_JOB_NONE; i++) {
        g_usleep(10000);
        CHECK(virDomainGetJobInfo(domain, &info) == 0, i);
    }
    CHECK(info.type == VIR_DOMAIN_JOB_UNBOUNDED && info.memTotal == 0, info.memTotal);
    /* Another client suspends it: that is not about the migration, which waits on. */
    CHECK(virDomainGetUUIDString(domain, uuid) == 0, 0);
    other = stub_domain_read_only(uuid, "other");
    CHECK(virDomainSuspend(other) == 0, 0);
    CHECK(stub_requests(other) == (STUB_SUSPENDED | STUB_TOO_EARLY), stub_requests(other));
    virDomainFree(other);
    if (uuid[strlen(uuid) - 1] % 2 == 0)
        CHECK(virDomainSuspend(domain) == 0, 0);
    else
        CHECK(virDomainMigrateStartPostCopy(domain, 0) == 0, 0);
    virResetLastError();
    return NULL;
}

static void
scenario_hurry(virDomainPtr domain, const char *name, bool params)
{
    GThread *thread = g_thread_new("hurry", hurry_when_held, domain);
    Trip trip = migrate_direct(params, domain, name, LIVE_DIRECT);

    g_thread_join(thread);
    CHECK(trip.complete, 0);
    CHECK(stub_requests(domain) == STUB_SUSPENDED || stub_requests(domain) == STUB_SWITCHED,
          stub_requests(domain));
    /* Nothing is held now, and nothing waited for. */
    CHECK(virDomainSuspend(domain) == 0, 0);
}

/*
 * An abort between Begin and the real Perform: only Perform ends the job that Begin has left,
 * so it runs, and libvirt, which knows of the abort, makes it fail (the stub does not).
 * Without a job it does not run.
 */
static void
scenario_refuse_perform(virDomainPtr domain, const char *name, bool params)
{
    Trip trip = migrate_direct(params, domain, name, LIVE_DIRECT);

    CHECK(trip.complete, 0);
    CHECK(trip.perform == (LIVE_DIRECT | VIR_MIGRATE_POSTCOPY), trip.perform);
    stub_seen()->calls = 0;
    CHECK(migrate_p2p(params, domain, LIVE_P2P, false) == -1, 0);
    CHECK(stub_seen()->calls == 0, stub_seen()->calls);
    CHECK(error_code() == VIR_ERR_OPERATION_ABORTED, error_code());
}

/* A read-only client is told no by libvirt and holds nobody up. */
static void
scenario_read_only(virDomainPtr domain, const char *name, bool params)
{
    int status, length = 0;
    char *cookie = NULL, *uri = NULL;

    (void)domain;
    if (params)
        return;
    status = virDomainMigratePrepare3(stub_connection(true), NULL, 0, &cookie, &length, NULL, &uri,
                                      VIR_MIGRATE_LIVE, name, 0, "<domain/>");
    CHECK(status == 0, status);
    CHECK(stub_seen()->flags == VIR_MIGRATE_LIVE, stub_seen()->flags);
    CHECK(strstr(cookie, "urn:virt-convoy") == NULL, 0);
    free(cookie);
    free(uri);
}

static void
prepare_tunnel(bool params)
{
    char *cookie = NULL;
    int length = 0;
    int status = params ? virDomainMigratePrepareTunnel3Params(stub_connection(false), NULL, NULL,
                                                               0, NULL, 0, &cookie, &length,
                                                               LIVE_P2P | VIR_MIGRATE_TUNNELLED)
                        : virDomainMigratePrepareTunnel3(
                              stub_connection(false), NULL, NULL, 0, &cookie, &length,
                              LIVE_P2P | VIR_MIGRATE_TUNNELLED, NULL, 0, "<domain/>");

    CHECK(status == 0, status);
    free(cookie);
}

/* The daemon is told of a peer-to-peer call's connection, and of no other; see run. */
static void
scenario_connect(virDomainPtr domain, const char *name, bool params)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(listener >= 0, errno);
    CHECK(bind(listener, (const struct sockaddr *)&address, sizeof(address)) == 0, errno);
    CHECK(listen(listener, 16) == 0, errno);
    CHECK(getsockname(listener, (struct sockaddr *)&address, &length) == 0, errno);
    stub_connect(ntohs(address.sin_port));
    CHECK(migrate_p2p(params, domain, LIVE_P2P, false) == 0, 0);
    CHECK(stub_seen()->connected == 1, stub_seen()->connected);
    /* The client has the port of a direct one; begin, prepare, perform and finish connect. */
    CHECK(migrate_direct(params, domain, name, LIVE_DIRECT).complete, 0);
    CHECK(stub_seen()->connected >= 5, stub_seen()->connected);
    stub_connect(0);
    close(listener);
}

/* Everybody is in the real function at once, whichever: no lock is held around it. */
static void
scenario_together(virDomainPtr domain, const char *name, bool params)
{
    virDomainJobInfo info;

    CHECK(migrate_direct(params, domain, name, LIVE_DIRECT).complete, 0);
    prepare_tunnel(params);
    CHECK(migrate_p2p(params, domain, LIVE_P2P, false) == 0, 0);
    CHECK(stub_seen()->flags == (LIVE_P2P | VIR_MIGRATE_POSTCOPY), stub_seen()->flags);
    CHECK(virDomainGetJobInfo(domain, &info) == 0, 0);
    CHECK(virDomainSuspend(domain) == 0, 0);
    CHECK(virDomainMigrateStartPostCopy(domain, 0) == 0, 0);
    CHECK(virDomainAbortJob(domain) == -1, 0);
    CHECK(virDomainAbortJobFlags(domain, 0) == -1, 0);
    /* Five phases, the tunnel, peer-to-peer, and the five above. */
    CHECK(stub_seen()->gatherings == 12, stub_seen()->gatherings);
    CHECK(stub_seen()->gathered == stub_seen()->gatherings, stub_seen()->gathered);
}

/*
 * A child in which only this thread exists: whatever the others held when it was
 * made, its calls run, and as plain libvirt's.
 */
static void
scenario_fork(virDomainPtr domain, const char *name, bool params)
{
    pid_t child;
    int status = 0;

    CHECK(migrate_direct(params, domain, name, LIVE_DIRECT).complete, 0);
    child = fork();
    if (child == 0) {
        const gint before = failures;

        alarm(CHILD_SECONDS);
        scenario_unchanged(domain, name, params);
        CHECK(virDomainAbortJob(domain) == -1, 0);
        _exit(failures == before ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    CHECK(child > 0, child);
    CHECK(child > 0 && waitpid(child, &status, 0) == child, status);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS, status);
    /* And nothing was broken for the parent. */
    CHECK(migrate_p2p(params, domain, LIVE_P2P, false) == 0, 0);
    CHECK(stub_seen()->flags == (LIVE_P2P | VIR_MIGRATE_POSTCOPY), stub_seen()->flags);
}

static const struct {
    const char *name;
    Scenario run;
    int rounds;
} scenarios[] = {
    { "absent", scenario_absent, ROUNDS },
    { "plain", scenario_unchanged, ROUNDS },
    { "hook", scenario_unchanged, 1 },
    { "garbage", scenario_unchanged, ROUNDS },
    { "post-copy", scenario_post_copy, ROUNDS },
    { "parallel", scenario_parallel, ROUNDS },
    { "begin-only", scenario_dies_after_prepare, 1 },
    { "hung", scenario_silent, 1 },
    { "late", scenario_silent, 1 },
    { "stopped", scenario_silent, 1 },
    { "hung-turn", scenario_hung_turn, 1 },
    { "wait", scenario_wait, 1 },
    { "hold", scenario_hold, 1 },
    { "hurry", scenario_hurry, 1 },
    { "dies", scenario_unchanged, 1 },
    { "refuse-perform", scenario_refuse_perform, ROUNDS },
    { "read-only", scenario_read_only, 1 },
    { "connect", scenario_connect, 1 },
    { "together", scenario_together, 1 },
    { "fork", scenario_fork, 2 },
};

typedef struct {
    size_t scenario;
    int number;
} Work;

static gpointer
work(gpointer data)
{
    const Work *task = data;

    for (int round = 0; round < scenarios[task->scenario].rounds; round++) {
        g_autofree char *name = g_strdup_printf("vm-%d", task->number);
        g_autofree char *uuid = g_strdup_printf("00000000-0000-0000-0000-%012d", task->number);
        virDomainPtr domain = stub_domain(uuid, name);

        scenarios[task->scenario].run(domain, name, (task->number + round) % 2 == 0);
        virDomainFree(domain);
    }
    virResetLastError();
    return NULL;
}

static unsigned
count_threads(void)
{
    GDir *tasks = g_dir_open("/proc/self/task", 0, NULL);
    unsigned count = 0;

    while (tasks != NULL && g_dir_read_name(tasks) != NULL)
        count++;
    g_clear_pointer(&tasks, g_dir_close);
    return count;
}

int
main(int argc, char **argv)
{
    GThread *threads[THREADS];
    Work tasks[THREADS];
    gint64 start = g_get_monotonic_time();
    size_t scenario = 0;

    while (argc == 2 && scenario < G_N_ELEMENTS(scenarios) &&
           strcmp(scenarios[scenario].name, argv[1]) != 0)
        scenario++;
    if (argc != 2 || scenario == G_N_ELEMENTS(scenarios)) {
        fprintf(stderr, "usage: libvirtd SCENARIO\n");
        return EXIT_FAILURE;
    }
    CHECK(getenv("LD_PRELOAD") == NULL || strstr(getenv("LD_PRELOAD"), "virt-convoy") == NULL, 0);
    /* Loaded, but not called yet; a sanitizer has a thread of its own. */
    CHECK(count_threads() <= (slowness() > 1 ? 2 : 1), count_threads());
    if (strcmp(argv[1], "together") == 0)
        stub_gather(THREADS);
    for (int i = 0; i < THREADS; i++) {
        tasks[i] = (Work){ scenario, i };
        threads[i] = g_thread_new("migration", work, &tasks[i]);
    }
    for (int i = 0; i < THREADS; i++)
        g_thread_join(threads[i]);
    tests++;
    printf("%s %u - %s: %d threads, %d checks, %d failed, %.2f s\n",
           failures == 0 ? "ok" : "not ok", tests, argv[1], THREADS, checks, failures,
           (double)(g_get_monotonic_time() - start) / G_USEC_PER_SEC);
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
