/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One thread that keeps libvirtd's maxWorkers where it should be; see workers.h. */
#include "daemon/workers.h"

#include "common/log.h"

#include <errno.h>
#include <gio/gio.h>
#include <libvirt/libvirt-admin.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Raised by this much at a time: a gang arrives within milliseconds. */
#define RAISE_STEP 16u
/* As long as the pool cannot be read it is tried again, but not at every tick. */
#define RETRY_US (5 * G_USEC_PER_SEC)
#define STOP_US (2 * G_USEC_PER_SEC)
#define JOURNAL_MAXIMUM 64u

struct Workers {
    GMutex lock; /* of everything below */
    GCond changed;
    GThread *thread;
    char *journal_path;
    unsigned held;    /* as told last */
    unsigned applied; /* held, as the pool was fitted to last */
    bool ask;
    bool stop;
    bool stopped;
    bool known;
    unsigned before; /* maxWorkers without us */
    unsigned now;
    gint64 tried_us;
    bool complained;
};

static gint threads_left;

unsigned
workers_wanted(unsigned before, unsigned held)
{
    unsigned rounded;

    if (held == 0)
        return before;
    if (held >= WORKERS_MAXIMUM)
        return MAX(before, WORKERS_MAXIMUM);
    rounded = (held + RAISE_STEP - 1) / RAISE_STEP * RAISE_STEP;
    return MAX(before, MIN(rounded + WORKERS_RESERVE, WORKERS_MAXIMUM));
}

bool
workers_journal_parse(const char *text, char ret_server[16], unsigned *ret_before,
                      unsigned *ret_raised)
{
    char server[16];
    unsigned before;
    unsigned raised;
    int end = 0;

    if (strlen(text) > JOURNAL_MAXIMUM ||
        sscanf(text, "%15s %6u %6u\n%n", server, &before, &raised, &end) != 3 || text[end] != '\0')
        return false;
    if (strcmp(server, "libvirtd") != 0 && strcmp(server, "virtqemud") != 0)
        return false;
    if (before == 0 || raised <= before || raised > WORKERS_MAXIMUM)
        return false;
    strcpy(ret_server, server);
    *ret_before = before;
    *ret_raised = raised;
    return true;
}

/* ---- in the thread ----------------------------------------------------- */

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
maximum_get(virAdmServerPtr server, unsigned *ret_maximum)
{
    virTypedParameterPtr parameters = NULL;
    int count = 0;
    unsigned maximum = 0;

    if (virAdmServerGetThreadPoolParameters(server, &parameters, &count, 0) < 0)
        return false;
    virTypedParamsGetUInt(parameters, count, VIR_THREADPOOL_WORKERS_MAX, &maximum);
    virTypedParamsFree(parameters, count);
    *ret_maximum = maximum;
    return maximum != 0;
}

static bool
maximum_set(virAdmServerPtr server, unsigned maximum)
{
    virTypedParameterPtr parameters = NULL;
    int count = 0;
    int capacity = 0;
    bool done;

    done = virTypedParamsAddUInt(&parameters, &count, &capacity, VIR_THREADPOOL_WORKERS_MAX,
                                 maximum) == 0 &&
           virAdmServerSetThreadPoolParameters(server, parameters, count, 0) == 0;
    virTypedParamsFree(parameters, count);
    return done;
}

static bool
journal_write(const char *path, const char *server, unsigned before, unsigned raised)
{
    g_autofree char *line = g_strdup_printf("%s %u %u\n", server, before, raised);

    return g_file_set_contents_full(
        path, line, -1, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600, NULL);
}

/* What the journal says is raised; false: nothing, or nothing that can be believed. */
static bool
journal_read(const char *path, char ret_server[16], unsigned *ret_before, unsigned *ret_raised)
{
    g_autofree char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return false;
    if (workers_journal_parse(text, ret_server, ret_before, ret_raised))
        return true;
    log_event(CONFIG_LOG_WARNING, "workers-journal-bad", "file: %s, done: removed", path);
    unlink(path);
    return false;
}

/* Makes the pool fit `held`. False: it could not be read or set. */
static bool
pool_fit(const char *journal_path, unsigned held, unsigned *ret_before, unsigned *ret_now)
{
    char raised_server[16];
    const char *name = server_name();
    virAdmConnectPtr connection;
    virAdmServerPtr server;
    unsigned before = 0;
    unsigned raised = 0;
    unsigned now;
    unsigned wanted;
    bool done;

    if (journal_read(journal_path, raised_server, &before, &raised))
        name = strcmp(raised_server, "virtqemud") == 0 ? "virtqemud" : "libvirtd";
    server = server_open(name, &connection);
    if (server == NULL)
        return false;
    done = maximum_get(server, &now);
    /* Not what we made of it: libvirtd started anew, or somebody else decided. */
    if (done && now != raised)
        before = now;
    wanted = workers_wanted(before, held);
    if (done && wanted != now) {
        done = (wanted == before || journal_write(journal_path, name, before, wanted)) &&
               maximum_set(server, wanted);
        log_event(done ? CONFIG_LOG_INFO : CONFIG_LOG_WARNING, "workers",
                  "server: %s, maximum: %u, was: %u, held_calls: %u, done: %s", name, wanted, now,
                  held, done ? "yes" : "no");
    }
    if (done && wanted == before)
        unlink(journal_path);
    server_close(server, connection);
    *ret_before = before;
    *ret_now = done ? wanted : now;
    return done;
}

static gpointer
workers_run(gpointer data)
{
    Workers *self = data;
    bool stop = false;

    while (!stop) {
        unsigned held;
        unsigned before = 0;
        unsigned now = 0;
        bool known;

        g_mutex_lock(&self->lock);
        while (!self->ask && !self->stop)
            g_cond_wait(&self->changed, &self->lock);
        stop = self->stop;
        held = stop ? 0 : self->held;
        self->ask = false;
        g_mutex_unlock(&self->lock);

        known = pool_fit(self->journal_path, held, &before, &now);
        g_mutex_lock(&self->lock);
        self->known = known;
        self->before = before;
        self->now = now;
        self->applied = held;
        self->tried_us = g_get_monotonic_time();
        if (!known && !self->complained)
            log_event(CONFIG_LOG_INFO, "workers-unknown",
                      "reason: %s, instead: at most %u held calls", virGetLastErrorMessage(),
                      WORKERS_HELD_UNKNOWN);
        self->complained = !known;
        g_mutex_unlock(&self->lock);
    }
    g_mutex_lock(&self->lock);
    self->stopped = true;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    return NULL;
}

/* ---- on the main loop -------------------------------------------------- */

Workers *
workers_new(const char *libvirt_uri, const char *state_directory)
{
    Workers *self;

    if (strcmp(libvirt_uri, "qemu:///system") != 0 || virAdmInitialize() < 0)
        return NULL;
    self = g_new0(Workers, 1);
    g_mutex_init(&self->lock);
    g_cond_init(&self->changed);
    self->journal_path = g_build_filename(state_directory, "workers", NULL);
    self->ask = true;
    self->thread = g_thread_new("workers", workers_run, self);
    return self;
}

void
workers_free(Workers *self)
{
    gint64 deadline = g_get_monotonic_time() + STOP_US;
    bool stopped = true;

    if (self == NULL)
        return;
    g_mutex_lock(&self->lock);
    self->stop = true;
    g_cond_broadcast(&self->changed);
    while (!self->stopped && stopped)
        stopped = g_cond_wait_until(&self->changed, &self->lock, deadline);
    stopped = self->stopped;
    g_mutex_unlock(&self->lock);
    if (!stopped) {
        /* libvirtd hangs: the journal has it, and the next daemon puts it back. */
        g_atomic_int_inc(&threads_left);
        g_thread_unref(self->thread);
        return;
    }
    g_thread_join(self->thread);
    g_mutex_clear(&self->lock);
    g_cond_clear(&self->changed);
    g_free(self->journal_path);
    g_free(self);
}

bool
workers_thread_left(void)
{
    return g_atomic_int_get(&threads_left) != 0;
}

void
workers_follow(Workers *self, unsigned held)
{
    if (self == NULL)
        return;
    g_mutex_lock(&self->lock);
    self->held = held;
    if ((self->known &&
         workers_wanted(self->before, held) != workers_wanted(self->before, self->applied)) ||
        (!self->known && self->tried_us != 0 &&
         g_get_monotonic_time() - self->tried_us > RETRY_US)) {
        self->ask = true;
        self->tried_us = g_get_monotonic_time();
        g_cond_broadcast(&self->changed);
    }
    g_mutex_unlock(&self->lock);
}

unsigned
workers_capacity(Workers *self, unsigned configured)
{
    unsigned capacity = WORKERS_HELD_UNKNOWN;

    if (self != NULL) {
        g_mutex_lock(&self->lock);
        if (self->known)
            capacity = WORKERS_MAXIMUM - WORKERS_RESERVE;
        g_mutex_unlock(&self->lock);
    }
    return MIN(capacity, configured);
}

bool
workers_maximum(Workers *self, unsigned *ret_now, unsigned *ret_before)
{
    bool known = false;

    if (self == NULL)
        return false;
    g_mutex_lock(&self->lock);
    known = self->known;
    *ret_now = self->now;
    *ret_before = self->before;
    g_mutex_unlock(&self->lock);
    return known;
}
