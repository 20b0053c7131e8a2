/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See stub.h. Only as much of libvirt as the plugin can tell apart.
 */
#include "stub.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STUB_SETTINGS_MAXIMUM 8
#define COOKIE "<qemu-migration>\n  <name>stub</name>\n</qemu-migration>\n"
#define DOMAIN_XML "<domain type='qemu'><name>%s</name></domain>"

struct _virConnect {
    bool read_only;
};

struct _virDomain {
    char uuid[VIR_UUID_STRING_BUFLEN];
    char name[64];
    virConnectPtr connection;
    bool temporary;
    /* Of all threads: set by Perform, and what was asked for meanwhile. */
    atomic_bool moves;
    atomic_int requests;
};

static struct _virConnect connections[2] = { { false }, { true } };
static __thread StubSeen seen;
static __thread unsigned long fail_mask;
static __thread int fail_code;
static __thread bool guest_paused;
static __thread unsigned long speed_limit;
static __thread unsigned connect_port;
static __thread virError last_error;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t all_here;
    unsigned wanted;
    unsigned here;
    unsigned rounds; /* how often all were there */
    bool missed;     /* somebody did not come: nobody is waited for any more */
} gathering = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0, false };

void
stub_gather(unsigned count)
{
    pthread_mutex_lock(&gathering.lock);
    gathering.wanted = count;
    pthread_mutex_unlock(&gathering.lock);
}

static void
gather(void)
{
    struct timespec until;
    unsigned round;

    /* Set before there are threads. A forked child could not take the lock. */
    if (gathering.wanted == 0)
        return;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += GATHER_SECONDS;
    seen.gatherings++;
    pthread_mutex_lock(&gathering.lock);
    round = gathering.rounds;
    if (++gathering.here == gathering.wanted) {
        gathering.here = 0;
        gathering.rounds++;
        pthread_cond_broadcast(&gathering.all_here);
    }
    while (gathering.rounds == round && !gathering.missed)
        if (pthread_cond_timedwait(&gathering.all_here, &gathering.lock, &until) != 0 &&
            gathering.rounds == round) {
            gathering.missed = true;
            pthread_cond_broadcast(&gathering.all_here);
        }
    seen.gathered += gathering.rounds != round;
    pthread_mutex_unlock(&gathering.lock);
}

StubSeen *
stub_seen(void)
{
    return &seen;
}

void
stub_fail_on(unsigned long mask, int code)
{
    fail_mask = mask;
    fail_code = code;
}

virConnectPtr
stub_connection(bool read_only)
{
    return &connections[read_only];
}

virDomainPtr
stub_domain(const char *uuid, const char *name)
{
    virDomainPtr domain = calloc(1, sizeof(*domain));

    snprintf(domain->uuid, sizeof(domain->uuid), "%s", uuid);
    snprintf(domain->name, sizeof(domain->name), "%s", name);
    domain->connection = &connections[0];
    return domain;
}

virDomainPtr
stub_domain_read_only(const char *uuid, const char *name)
{
    virDomainPtr domain = stub_domain(uuid, name);

    domain->connection = &connections[1];
    return domain;
}

void
stub_limit(unsigned long mib)
{
    speed_limit = mib;
}

void
stub_pause(bool paused)
{
    guest_paused = paused;
}

static void
set_error(int code)
{
    free(last_error.message);
    memset(&last_error, 0, sizeof(last_error));
    last_error.code = code;
    last_error.domain = VIR_FROM_QEMU;
    last_error.level = VIR_ERR_ERROR;
    last_error.message = code != VIR_ERR_OK ? strdup("stub error") : NULL;
}

void
stub_connect(unsigned port)
{
    connect_port = port;
}

/* 0, or errno. */
static int
connect_to(int type, unsigned port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int descriptor = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    int answer = 0;

    errno = 0;
    if (descriptor < 0 ||
        connect(descriptor, (const struct sockaddr *)&address, sizeof(address)) != 0)
        answer = errno;
    if (descriptor >= 0)
        close(descriptor);
    return answer;
}

static void
connect_as_libvirtd(void)
{
    seen.connected += connect_to(SOCK_DGRAM, 53) == 0 &&
                      connect_to(SOCK_STREAM, 1) == ECONNREFUSED &&
                      connect_to(SOCK_STREAM, connect_port) == 0;
}

/* $STUB_HOOK, waited for and told nothing but our settings, as libvirt does. */
static void
run_hook(const char *name, const char *operation, const char *sub_operation)
{
    char *hook = getenv("STUB_HOOK");
    char *arguments[] = { hook, (char *)name, (char *)operation, (char *)sub_operation, "-", NULL };
    char *settings[STUB_SETTINGS_MAXIMUM + 1] = { NULL };
    posix_spawn_file_actions_t actions;
    pid_t child;
    int count = 0, status;

    if (hook == NULL)
        return;
    for (char **each = environ; *each != NULL && count < STUB_SETTINGS_MAXIMUM; each++) {
        if (strncmp(*each, "VIRT_CONVOY_", strlen("VIRT_CONVOY_")) == 0)
            settings[count++] = *each;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    seen.hooks_failed += posix_spawn(&child, hook, &actions, NULL, arguments, settings) != 0 ||
                         waitpid(child, &status, 0) != child || !WIFEXITED(status) ||
                         WEXITSTATUS(status) != 0;
    posix_spawn_file_actions_destroy(&actions);
}

/* Remembers the call; false (with the error set) when it is to fail. */
static bool
enter(unsigned long flags, unsigned long bandwidth, virTypedParameterPtr parameters,
      int n_parameters, const char *xml)
{
    set_error(VIR_ERR_OK);
    seen.calls++;
    seen.flags = flags;
    seen.bandwidth = bandwidth;
    seen.n_parameters = n_parameters;
    snprintf(seen.xml, sizeof(seen.xml), "%s", xml != NULL ? xml : "");
    for (int i = 0; i < n_parameters && i < STUB_PARAMETERS_MAXIMUM; i++) {
        seen.parameters[i] = parameters[i];
        if (strcmp(parameters[i].field, VIR_MIGRATE_PARAM_DEST_XML) == 0)
            snprintf(seen.xml, sizeof(seen.xml), "%s", parameters[i].value.s);
    }
    gather();
    if (connect_port != 0)
        connect_as_libvirtd();
    if (flags & fail_mask) {
        set_error(fail_code);
        return false;
    }
    return true;
}

/* The incoming domain's name is in its XML, which enter() keeps. */
static int
prepare(unsigned long flags, unsigned long bandwidth, virTypedParameterPtr parameters,
        int n_parameters, const char *xml)
{
    char name[64];
    const char *tag;

    if (!enter(flags, bandwidth, parameters, n_parameters, xml))
        return -1;
    tag = strstr(seen.xml, "<name>");
    if (tag != NULL && sscanf(tag, "<name>%63[^<]", name) == 1)
        run_hook(name, "migrate", "begin");
    return 0;
}

/* Finish and Confirm ask this first. */
static bool
refuse_read_only(virConnectPtr connection)
{
    if (connection->read_only)
        set_error(VIR_ERR_OPERATION_DENIED);
    return connection->read_only;
}

/* What libvirt itself finds out about a paused guest in the middle of a Perform. */
static bool
refuse_paused(const char *destination_uri, unsigned long flags)
{
    if (!guest_paused || destination_uri == NULL || !(flags & VIR_MIGRATE_POSTCOPY))
        return false;
    set_error(VIR_ERR_ARGUMENT_UNSUPPORTED);
    return true;
}

static void
give_cookie(char **cookie, int *length)
{
    *cookie = strdup(COOKIE);
    *length = (int)sizeof(COOKIE);
}

char *
virDomainMigrateBegin3(virDomainPtr domain, const char *xmlin, char **cookieout, int *cookieoutlen,
                       unsigned long flags, const char *dname, unsigned long bandwidth)
{
    (void)domain;
    (void)dname;
    if (!enter(flags, bandwidth, NULL, 0, xmlin))
        return NULL;
    give_cookie(cookieout, cookieoutlen);
    return strdup("<domain/>");
}

char *
virDomainMigrateBegin3Params(virDomainPtr domain, virTypedParameterPtr params, int nparams,
                             char **cookieout, int *cookieoutlen, unsigned int flags)
{
    (void)domain;
    if (!enter(flags, 0, params, nparams, NULL))
        return NULL;
    give_cookie(cookieout, cookieoutlen);
    return strdup("<domain/>");
}

int
virDomainMigratePrepare3(virConnectPtr dconn, const char *cookiein, int cookieinlen,
                         char **cookieout, int *cookieoutlen, const char *uri_in, char **uri_out,
                         unsigned long flags, const char *dname, unsigned long bandwidth,
                         const char *dom_xml)
{
    (void)dconn;
    (void)cookiein;
    (void)cookieinlen;
    (void)uri_in;
    (void)dname;
    give_cookie(cookieout, cookieoutlen);
    *uri_out = strdup("tcp:host-b:49152");
    return prepare(flags, bandwidth, NULL, 0, dom_xml);
}

int
virDomainMigratePrepare3Params(virConnectPtr dconn, virTypedParameterPtr params, int nparams,
                               const char *cookiein, int cookieinlen, char **cookieout,
                               int *cookieoutlen, char **uri_out, unsigned int flags)
{
    (void)dconn;
    (void)cookiein;
    (void)cookieinlen;
    give_cookie(cookieout, cookieoutlen);
    *uri_out = strdup("tcp:host-b:49152");
    return prepare(flags, 0, params, nparams, NULL);
}

int
virDomainMigratePrepareTunnel3(virConnectPtr dconn, virStreamPtr st, const char *cookiein,
                               int cookieinlen, char **cookieout, int *cookieoutlen,
                               unsigned long flags, const char *dname, unsigned long bandwidth,
                               const char *dom_xml)
{
    (void)dconn;
    (void)st;
    (void)cookiein;
    (void)cookieinlen;
    (void)dname;
    give_cookie(cookieout, cookieoutlen);
    return prepare(flags, bandwidth, NULL, 0, dom_xml);
}

int
virDomainMigratePrepareTunnel3Params(virConnectPtr dconn, virStreamPtr st,
                                     virTypedParameterPtr params, int nparams, const char *cookiein,
                                     int cookieinlen, char **cookieout, int *cookieoutlen,
                                     unsigned int flags)
{
    (void)dconn;
    (void)st;
    (void)cookiein;
    (void)cookieinlen;
    give_cookie(cookieout, cookieoutlen);
    return prepare(flags, 0, params, nparams, NULL);
}

int
virDomainMigratePerform3(virDomainPtr domain, const char *xmlin, const char *cookiein,
                         int cookieinlen, char **cookieout, int *cookieoutlen, const char *dconnuri,
                         const char *uri, unsigned long flags, const char *dname,
                         unsigned long bandwidth)
{
    (void)cookiein;
    (void)cookieinlen;
    (void)uri;
    (void)dname;
    if (!enter(flags, bandwidth, NULL, 0, xmlin) || refuse_paused(dconnuri, flags))
        return -1;
    atomic_store(&domain->moves, true);
    give_cookie(cookieout, cookieoutlen);
    return 0;
}

int
virDomainMigratePerform3Params(virDomainPtr domain, const char *dconnuri,
                               virTypedParameterPtr params, int nparams, const char *cookiein,
                               int cookieinlen, char **cookieout, int *cookieoutlen,
                               unsigned int flags)
{
    (void)cookiein;
    (void)cookieinlen;
    if (!enter(flags, 0, params, nparams, NULL) || refuse_paused(dconnuri, flags))
        return -1;
    atomic_store(&domain->moves, true);
    give_cookie(cookieout, cookieoutlen);
    return 0;
}

virDomainPtr
virDomainMigrateFinish3(virConnectPtr dconn, const char *dname, const char *cookiein,
                        int cookieinlen, char **cookieout, int *cookieoutlen, const char *dconnuri,
                        const char *uri, unsigned long flags, int cancelled)
{
    (void)cookiein;
    (void)cookieinlen;
    (void)cookieout;
    (void)cookieoutlen;
    (void)dconnuri;
    (void)uri;
    (void)cancelled;
    if (refuse_read_only(dconn))
        return NULL;
    return enter(flags, 0, NULL, 0, NULL) ? stub_domain("", dname) : NULL;
}

virDomainPtr
virDomainMigrateFinish3Params(virConnectPtr dconn, virTypedParameterPtr params, int nparams,
                              const char *cookiein, int cookieinlen, char **cookieout,
                              int *cookieoutlen, unsigned int flags, int cancelled)
{
    (void)cookiein;
    (void)cookieinlen;
    (void)cookieout;
    (void)cookieoutlen;
    (void)cancelled;
    if (refuse_read_only(dconn))
        return NULL;
    return enter(flags, 0, params, nparams, NULL) ? stub_domain("", "finished") : NULL;
}

static int
confirm(virDomainPtr domain, unsigned long flags, virTypedParameterPtr parameters, int n_parameters)
{
    if (!enter(flags, 0, parameters, n_parameters, NULL))
        return -1;
    run_hook(domain->name, "release", "end");
    return 0;
}

int
virDomainMigrateConfirm3(virDomainPtr domain, const char *cookiein, int cookieinlen,
                         unsigned long flags, int cancelled)
{
    (void)cookiein;
    (void)cookieinlen;
    (void)cancelled;
    if (refuse_read_only(domain->connection))
        return -1;
    return confirm(domain, flags, NULL, 0);
}

int
virDomainMigrateConfirm3Params(virDomainPtr domain, virTypedParameterPtr params, int nparams,
                               const char *cookiein, int cookieinlen, unsigned int flags,
                               int cancelled)
{
    (void)cookiein;
    (void)cookieinlen;
    (void)cancelled;
    if (refuse_read_only(domain->connection))
        return -1;
    return confirm(domain, flags, params, nparams);
}

int
virDomainAbortJob(virDomainPtr domain)
{
    /* The plugin asks so whether the client may change anything. */
    if (!domain->temporary)
        gather();
    set_error(domain->connection->read_only ? VIR_ERR_OPERATION_DENIED
              : domain->temporary           ? VIR_ERR_NO_DOMAIN
                                            : VIR_ERR_OPERATION_INVALID);
    return -1;
}

/* A job is seen from Perform on, and stays. */
int
virDomainGetJobInfo(virDomainPtr domain, virDomainJobInfoPtr info)
{
    gather();
    memset(info, 0, sizeof(*info));
    if (atomic_load(&domain->moves)) {
        info->type = VIR_DOMAIN_JOB_UNBOUNDED;
        info->memTotal = 1;
    }
    return 0;
}

static int
note_request(virDomainPtr domain, int request)
{
    gather();
    set_error(VIR_ERR_OK);
    atomic_fetch_or(&domain->requests,
                    request | (atomic_load(&domain->moves) ? 0 : STUB_TOO_EARLY));
    return 0;
}

int
virDomainSuspend(virDomainPtr domain)
{
    return note_request(domain, STUB_SUSPENDED);
}

int
virDomainMigrateStartPostCopy(virDomainPtr domain, unsigned int flags)
{
    (void)flags;
    return note_request(domain, STUB_SWITCHED);
}

int
stub_requests(virDomainPtr domain)
{
    return atomic_load(&domain->requests);
}

int
virDomainAbortJobFlags(virDomainPtr domain, unsigned int flags)
{
    (void)flags;
    return virDomainAbortJob(domain);
}

virDomainPtr
virGetDomain(virConnectPtr conn, const char *name, const unsigned char *uuid, int id)
{
    virDomainPtr domain = stub_domain("", name);

    (void)uuid;
    (void)id;
    domain->connection = conn;
    domain->temporary = true;
    return domain;
}

int
virDomainFree(virDomainPtr domain)
{
    set_error(VIR_ERR_OK);
    free(domain);
    return 0;
}

int
virDomainGetUUIDString(virDomainPtr domain, char *buf)
{
    set_error(VIR_ERR_OK);
    strcpy(buf, domain->uuid);
    return 0;
}

const char *
virDomainGetName(virDomainPtr domain)
{
    set_error(VIR_ERR_OK);
    return domain->name;
}

virConnectPtr
virDomainGetConnect(virDomainPtr domain)
{
    set_error(VIR_ERR_OK);
    return domain->connection;
}

char *
virDomainGetXMLDesc(virDomainPtr domain, unsigned int flags)
{
    char *xml = NULL;

    (void)flags;
    set_error(VIR_ERR_OK);
    return asprintf(&xml, DOMAIN_XML, domain->name) < 0 ? NULL : xml;
}

int
virDomainGetState(virDomainPtr domain, int *state, int *reason, unsigned int flags)
{
    (void)domain;
    (void)flags;
    set_error(VIR_ERR_OK);
    *state = guest_paused ? VIR_DOMAIN_PAUSED : VIR_DOMAIN_RUNNING;
    *reason = guest_paused ? (int)VIR_DOMAIN_PAUSED_USER : (int)VIR_DOMAIN_RUNNING_BOOTED;
    return 0;
}

int
virDomainMigrateGetMaxSpeed(virDomainPtr domain, unsigned long *bandwidth, unsigned int flags)
{
    (void)domain;
    (void)flags;
    set_error(VIR_ERR_OK);
    *bandwidth = speed_limit != 0 ? speed_limit : (unsigned long)(INT64_MAX >> 20);
    return 0;
}

virErrorPtr
virGetLastError(void)
{
    return last_error.code != VIR_ERR_OK ? &last_error : NULL;
}

virErrorPtr
virSaveLastError(void)
{
    virErrorPtr copy = calloc(1, sizeof(*copy));

    *copy = last_error;
    copy->message = last_error.message != NULL ? strdup(last_error.message) : NULL;
    return copy;
}

void
virFreeError(virErrorPtr error)
{
    free(error->message);
    free(error);
}

int
virSetError(virErrorPtr error)
{
    set_error(error->code);
    return 0;
}

void
virResetLastError(void)
{
    set_error(VIR_ERR_OK);
}

void
virRaiseErrorFull(const char *filename, const char *funcname, size_t linenr, int domain, int code,
                  virErrorLevel level, const char *str1, const char *str2, const char *str3,
                  int int1, int int2, const char *fmt, ...)
{
    va_list arguments;

    (void)filename;
    (void)funcname;
    (void)linenr;
    (void)str1;
    (void)str2;
    (void)str3;
    (void)int1;
    (void)int2;
    set_error(code);
    last_error.domain = domain;
    last_error.level = level;
    free(last_error.message);
    va_start(arguments, fmt);
    if (vasprintf(&last_error.message, fmt, arguments) < 0)
        last_error.message = NULL;
    va_end(arguments);
}
