/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A child process that fits libvirtd's pool to the calls that are busy; see
 * workers.h. libvirt-admin brings a copy of libvirt's object types of its own,
 * and GObject takes each name once: a process that uses both ends. The child is
 * this program again (/proc/self/exe), uses libvirt-admin alone, and an alarm
 * ends it when libvirtd hangs.
 */
#include "daemon/workers.h"

#include "common/log.h"

#include <gio/gio.h>
#include <libvirt/libvirt-admin.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Raised by this much at a time: a gang arrives within milliseconds. */
#define RAISE_STEP 16u
/* As long as the pool cannot be read it is tried again, but not at every tick. */
#define RETRY_US (5 * G_USEC_PER_SEC)
#define JOURNAL_MAXIMUM 64u

/* Longest life of the child. */
#define CHILD_SECONDS 3u

struct Workers {
    int references; /* the owner and a child under way */
    char *journal_path;
    GSubprocess *child; /* NULL: none runs */
    unsigned busy;      /* as told last */
    unsigned asked;     /* busy, of the child that was started last */
    bool known;
    unsigned before; /* maxWorkers without us */
    unsigned now;
    gint64 tried_us;
    bool complained;
    bool forgotten; /* while the child runs */
    bool stopped;
};

/* The pool is fitted again only when another step is needed. */
static unsigned
steps_of(unsigned busy)
{
    return (MIN(busy, WORKERS_MAXIMUM) + RAISE_STEP - 1) / RAISE_STEP;
}

WorkersPool
workers_wanted(WorkersPool before, unsigned busy)
{
    WorkersPool wanted = before;
    unsigned number;

    if (busy == 0)
        return before;
    number = MIN(steps_of(busy) * RAISE_STEP + WORKERS_RESERVE, WORKERS_MAXIMUM);
    wanted.maximum = MAX(before.maximum, number);
    if (before.minimum != 0)
        wanted.minimum = MAX(before.minimum, number);
    return wanted;
}

static bool
pool_is(const WorkersPool *left, const WorkersPool *right)
{
    return left->maximum == right->maximum && left->minimum == right->minimum;
}

bool
workers_journal_parse(const char *text, char ret_server[16], WorkersPool *ret_before,
                      WorkersPool *ret_raised)
{
    char server[16];
    WorkersPool before = { 0 };
    WorkersPool raised = { 0 };
    int end = 0;

    if (strlen(text) > JOURNAL_MAXIMUM)
        return false;
    if ((sscanf(text, "%15s %6u %6u %6u %6u\n%n", server, &before.maximum, &raised.maximum,
                &before.minimum, &raised.minimum, &end) != 5 ||
         before.minimum == 0) &&
        sscanf(text, "%15s %6u %6u\n%n", server, &before.maximum, &raised.maximum, &end) != 3)
        return false;
    if (end == 0 || text[end] != '\0')
        return false;
    if (strcmp(server, "libvirtd") != 0 && strcmp(server, "virtqemud") != 0)
        return false;
    if (before.maximum == 0 || raised.maximum < before.maximum || raised.minimum < before.minimum ||
        raised.maximum > MAX(before.maximum, WORKERS_MAXIMUM) || raised.minimum > raised.maximum ||
        pool_is(&before, &raised))
        return false;
    memcpy(ret_server, server, sizeof(server));
    *ret_before = before;
    *ret_raised = raised;
    return true;
}

/* ---- in the child ------------------------------------------------------ */

/* The daemon that answers qemu:///system, chosen as libvirt's client does. */
static const char *
server_name(void)
{
    return access("/run/libvirt/virtqemud-sock", F_OK) == 0 ? "virtqemud" : "libvirtd";
}

static virAdmServerPtr
server_open(const char *name, virAdmConnectPtr *ret_connection)
{
    g_autofree char *uri = g_strdup_printf("%s:///system", name);
    virAdmServerPtr server;

    *ret_connection = virAdmConnectOpen(uri, 0);
    if (*ret_connection == NULL)
        return NULL;
    server = virAdmConnectLookupServer(*ret_connection, name, 0);
    if (server == NULL)
        virAdmConnectClose(*ret_connection);
    return server;
}

static void
server_close(virAdmServerPtr server, virAdmConnectPtr connection)
{
    virAdmServerFree(server);
    virAdmConnectClose(connection);
}

static bool
pool_get(virAdmServerPtr server, WorkersPool *ret_pool)
{
    virTypedParameterPtr parameters = NULL;
    int count = 0;
    WorkersPool pool = { 0 };

    if (virAdmServerGetThreadPoolParameters(server, &parameters, &count, 0) < 0)
        return false;
    virTypedParamsGetUInt(parameters, count, VIR_THREADPOOL_WORKERS_MAX, &pool.maximum);
    virTypedParamsGetUInt(parameters, count, VIR_THREADPOOL_WORKERS_MIN, &pool.minimum);
    virTypedParamsFree(parameters, count);
    *ret_pool = pool;
    return pool.maximum != 0;
}

static bool
pool_set(virAdmServerPtr server, WorkersPool pool)
{
    virTypedParameterPtr parameters = NULL;
    int count = 0;
    int capacity = 0;
    bool done;

    done = virTypedParamsAddUInt(&parameters, &count, &capacity, VIR_THREADPOOL_WORKERS_MAX,
                                 pool.maximum) == 0 &&
           (pool.minimum == 0 ||
            virTypedParamsAddUInt(&parameters, &count, &capacity, VIR_THREADPOOL_WORKERS_MIN,
                                  pool.minimum) == 0) &&
           virAdmServerSetThreadPoolParameters(server, parameters, count, 0) == 0;
    virTypedParamsFree(parameters, count);
    return done;
}

static bool
journal_write(const char *path, const char *server, WorkersPool before, WorkersPool raised)
{
    g_autofree char *line =
        before.minimum != 0 ? g_strdup_printf("%s %u %u %u %u\n", server, before.maximum,
                                              raised.maximum, before.minimum, raised.minimum)
                            : g_strdup_printf("%s %u %u\n", server, before.maximum, raised.maximum);

    return g_file_set_contents_full(
        path, line, -1, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600, NULL);
}

/* What the journal says is raised; false: nothing, or nothing that can be believed. */
static bool
journal_read(const char *path, char ret_server[16], WorkersPool *ret_before,
             WorkersPool *ret_raised)
{
    g_autofree char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return false;
    if (workers_journal_parse(text, ret_server, ret_before, ret_raised))
        return true;
    g_printerr("workers-journal-bad: %s is removed\n", path);
    unlink(path);
    return false;
}

/*
 * What is not as we left it: libvirtd started anew, or somebody else decided. Any number
 * that we would raise to is ours: the journal is written first, and a raise may not follow.
 */
static unsigned
number_before(unsigned now, unsigned before, unsigned raised)
{
    bool step =
        now > before && (now == WORKERS_MAXIMUM ||
                         (now > WORKERS_RESERVE && (now - WORKERS_RESERVE) % RAISE_STEP == 0));

    return before != 0 && (now == raised || step) ? before : now;
}

WorkersPool
workers_before(WorkersPool now, WorkersPool before, WorkersPool raised)
{
    return (WorkersPool){
        .maximum = number_before(now.maximum, before.maximum, raised.maximum),
        .minimum = number_before(now.minimum, before.minimum, raised.minimum),
    };
}

/* Makes the pool fit `busy`. False: it could not be read or set. */
static bool
pool_fit(const char *journal_path, unsigned busy, WorkersPool *ret_before, WorkersPool *ret_now)
{
    char raised_server[16];
    const char *name = server_name();
    virAdmConnectPtr connection;
    virAdmServerPtr server;
    WorkersPool before = { 0 };
    WorkersPool raised = { 0 };
    WorkersPool now = { 0 };
    WorkersPool wanted;
    bool done;

    if (journal_read(journal_path, raised_server, &before, &raised))
        name = strcmp(raised_server, "virtqemud") == 0 ? "virtqemud" : "libvirtd";
    server = server_open(name, &connection);
    if (server == NULL)
        return false;
    done = pool_get(server, &now);
    if (!done) {
        server_close(server, connection);
        return false;
    }
    before = workers_before(now, before, raised);
    wanted = workers_wanted(before, busy);
    if (!pool_is(&wanted, &now))
        done = (pool_is(&wanted, &before) || journal_write(journal_path, name, before, wanted)) &&
               pool_set(server, wanted);
    if (done && pool_is(&wanted, &before))
        unlink(journal_path);
    server_close(server, connection);
    *ret_before = before;
    *ret_now = done ? wanted : now;
    return done;
}

static void
error_silent(void *data G_GNUC_UNUSED, virErrorPtr error G_GNUC_UNUSED)
{
}

int
workers_child_main(const char *busy_text, const char *journal_path)
{
    WorkersPool before = { 0 };
    WorkersPool now = { 0 };
    guint64 busy = 0;

    /* Nothing to put back: a libvirtd that sleeps behind its socket may go on sleeping. */
    if (strcmp(busy_text, WORKERS_PUT_BACK) == 0) {
        if (access(journal_path, F_OK) != 0)
            return 0;
    } else if (!g_ascii_string_to_unsigned(busy_text, 10, 0, UINT32_MAX, &busy, NULL))
        return 2;
    alarm(CHILD_SECONDS);
    virSetErrorFunc(NULL, error_silent);
    if (virAdmInitialize() < 0 || !pool_fit(journal_path, (unsigned)busy, &before, &now)) {
        const char *message = virGetLastErrorMessage();

        g_print("%s\n", message);
        return 1;
    }
    g_print("%u %u\n", before.maximum, now.maximum);
    return 0;
}

/* ---- in the daemon, on the main loop ----------------------------------- */

static void
workers_unref(Workers *self)
{
    if (--self->references > 0)
        return;
    g_clear_object(&self->child);
    g_free(self->journal_path);
    g_free(self);
}

static GSubprocess *
child_start(const Workers *self, const char *busy)
{
    const char *argv[] = { "/proc/self/exe", WORKERS_CHILD_OPTION, busy, self->journal_path, NULL };

    return g_subprocess_newv(argv, G_SUBPROCESS_FLAGS_STDOUT_PIPE, NULL);
}

static void
child_heard(Workers *self, const char *text)
{
    unsigned before;
    unsigned now;

    self->known = text != NULL && sscanf(text, "%u %u", &before, &now) == 2;
    if (self->known) {
        if (self->now != 0 && now != self->now)
            log_event(CONFIG_LOG_INFO, "workers", "maximum: %u, was: %u, busy: %u", now, self->now,
                      self->asked);
        self->before = before;
        self->now = now;
    } else if (!self->complained) {
        log_event(
            CONFIG_LOG_INFO, "workers-unknown", "reason: %.*s, instead: at most %u held calls",
            text ? (int)strcspn(text, "\n") : 9, text ? text : "no answer", WORKERS_HELD_UNKNOWN);
    }
    self->complained = !self->known;
}

static void
child_ended(GObject *source, GAsyncResult *result, gpointer data)
{
    Workers *self = data;
    g_autofree char *text = NULL;

    g_subprocess_communicate_utf8_finish(G_SUBPROCESS(source), result, &text, NULL, NULL);
    g_clear_object(&self->child);
    if (!self->stopped) {
        child_heard(self, text);
        self->known = self->known && !self->forgotten;
        self->forgotten = false;
        workers_follow(self, self->busy);
    }
    workers_unref(self);
}

static void
workers_ask(Workers *self)
{
    g_autofree char *text = g_strdup_printf("%u", self->busy);

    self->tried_us = g_get_monotonic_time();
    self->asked = self->busy;
    self->child = child_start(self, text);
    if (self->child == NULL) {
        self->known = false; /* tried again, but not at every tick */
        return;
    }
    self->references++;
    g_subprocess_communicate_utf8_async(self->child, NULL, NULL, child_ended, self);
}

Workers *
workers_new(const char *libvirt_uri, const char *state_directory)
{
    Workers *self;

    if (strcmp(libvirt_uri, "qemu:///system") != 0)
        return NULL;
    self = g_new0(Workers, 1);
    self->references = 1;
    self->journal_path = g_build_filename(state_directory, "workers", NULL);
    workers_ask(self);
    return self;
}

void
workers_free(Workers *self)
{
    g_autoptr(GSubprocess) last = NULL;

    if (self == NULL)
        return;
    self->stopped = true;
    /* One that still raises would do so after the last one. */
    if (self->child != NULL)
        g_subprocess_wait(self->child, NULL, NULL);
    last = child_start(self, WORKERS_PUT_BACK);
    if (last != NULL)
        g_subprocess_wait(last, NULL, NULL);
    workers_unref(self);
}

void
workers_forget(Workers *self)
{
    if (self == NULL)
        return;
    self->known = false;
    self->tried_us = 0;
    self->forgotten = self->child != NULL; /* what it answers may be of before */
}

void
workers_follow(Workers *self, unsigned busy)
{
    if (self == NULL)
        return;
    self->busy = busy;
    if (self->child != NULL)
        return; /* looked at again when it has ended */
    if (self->known ? steps_of(busy) != steps_of(self->asked)
                    : g_get_monotonic_time() - self->tried_us > RETRY_US)
        workers_ask(self);
}

unsigned
workers_capacity(const Workers *self, unsigned configured)
{
    bool known = self != NULL && self->known;

    return MIN(known ? WORKERS_MAXIMUM - WORKERS_RESERVE : WORKERS_HELD_UNKNOWN, configured);
}

bool
workers_maximum(const Workers *self, unsigned *ret_now, unsigned *ret_before)
{
    if (self == NULL || !self->known)
        return false;
    *ret_now = self->now;
    *ret_before = self->before;
    return true;
}
