/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon's only door to libvirt.
 *
 * libvirtd may itself be waiting for the daemon (a held call, the hook), so
 * nothing here blocks the caller: each request runs in a worker thread and its
 * callback arrives on the default main context. Events arrive there too. When
 * libvirtd goes away the connection is opened again in the background.
 *
 * Requests name a domain by UUID. A callback runs exactly once, unless the
 * Hypervisor was freed before; then it does not run at all.
 */
#pragma once

#include <gio/gio.h>
#include <libvirt/libvirt.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Hypervisor Hypervisor;

typedef enum {
    HYPERVISOR_CONNECTED,
    HYPERVISOR_DISCONNECTED,
    HYPERVISOR_DOMAIN_STARTED,      /* began to run here, also as an incoming migration */
    HYPERVISOR_DOMAIN_STOPPED,      /* left this host; `migrated` tells why */
    HYPERVISOR_DOMAIN_ARRIVED,      /* goes on after a migration, or after one that failed */
    HYPERVISOR_DOMAIN_CHANGED,      /* metadata or a device changed */
    HYPERVISOR_POST_COPY_ENTERED,   /* source: paused for post-copy; destination: resumed by it */
    HYPERVISOR_POST_COPY_FAILED,    /* the path broke in post-copy: the VM is paused */
    HYPERVISOR_MIGRATION_ITERATION, /* QEMU begins pass number `iteration` (1, 2, ...) */
    HYPERVISOR_JOB_COMPLETED,       /* `statistics` of the finished job are valid */
} HypervisorEventType;

/*
 * One reading of a migration job. Bytes, milliseconds, bytes per second. Zero
 * in dirty_rate means that QEMU has not measured it yet.
 */
typedef struct {
    bool valid;
    bool active;
    bool success;
    bool outgoing;
    uint64_t elapsed_ms;
    uint64_t downtime_ms;
    uint64_t memory_total;
    uint64_t memory_processed;
    uint64_t memory_remaining;
    uint64_t memory_constant; /* zero pages found so far, in all passes */
    uint64_t dirty_rate;
    uint64_t iteration;
    uint64_t throughput;
    uint64_t post_copy_requests;
} JobStatistics;

typedef struct {
    HypervisorEventType type;
    const char *uuid; /* NULL for the connection's own events */
    const char *name;
    unsigned iteration;
    bool migrated;
    const JobStatistics *statistics;
} HypervisorEvent;

typedef void (*HypervisorEventFunc)(const HypervisorEvent *event, gpointer user_data);

/*
 * uri: libvirt connection URI. Opens in the background at once. Call
 * gvir_event_register() before the first Hypervisor is made.
 */
Hypervisor *hypervisor_new(const char *uri, HypervisorEventFunc func, gpointer user_data);
void hypervisor_free(Hypervisor *hypervisor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Hypervisor, hypervisor_free)

/*
 * Threads are still inside libvirt after hypervisor_free: a process that ends
 * must do so by _exit, or libvirt is taken down under them.
 */
bool hypervisor_threads_left(void);

/* False until it is open, and while it is opened again. */
bool hypervisor_is_connected(const Hypervisor *hypervisor);

/* major * 1000000 + minor * 1000 + micro; 0 while unknown. */
uint32_t hypervisor_qemu_version(const Hypervisor *hypervisor);
uint32_t hypervisor_libvirt_version(const Hypervisor *hypervisor);

/* Outcomes that are no virErrorNumber, as codes in `error` of the functions that say so. */
#define HYPERVISOR_ERROR_CHANGED (-1)
#define HYPERVISOR_ERROR_GOES_ON (-2)
#define HYPERVISOR_ERROR_NOT_NOTICED (-3)

/* error is NULL on success. */
typedef void (*HypervisorDone)(const GError *error, gpointer user_data);
/* statistics->active is false when no migration job runs on the domain. */
typedef void (*HypervisorJobDone)(const JobStatistics *statistics, const GError *error,
                                  gpointer user_data);
/* texts: array of gchar * (domain XML of the active domains), owned by the caller of done. */
typedef void (*HypervisorTextsDone)(GPtrArray *texts, const GError *error, gpointer user_data);
/* text: NULL with error set on failure. */
typedef void (*HypervisorTextDone)(const char *text, const GError *error, gpointer user_data);
/* number: what and in which unit is said where it is asked for. */
typedef void (*HypervisorNumberDone)(uint64_t number, const GError *error, gpointer user_data);

/*
 * Bytes of memory that the QEMU process has resident (huge pages and swapped out
 * pages not counted). Not stated by libvirt is reported as an error: unknown.
 */
void hypervisor_query_memory(Hypervisor *hypervisor, const char *uuid, HypervisorNumberDone done,
                             gpointer user_data);

/* Refused by libvirt unless the migration began with VIR_MIGRATE_POSTCOPY. */
void hypervisor_start_post_copy(Hypervisor *hypervisor, const char *uuid, HypervisorDone done,
                                gpointer user_data);

/* What libvirt says of a domain whose speed nobody has limited, MiB/s. */
#define HYPERVISOR_SPEED_UNLIMITED ((uint64_t)INT64_MAX >> 20)

/*
 * MiB/s for the pre-copy and the post-copy phase; 0 leaves that phase as it is. libvirt
 * keeps the former beyond the migration, unless the call had a limit of its own: then
 * that stands until its end, and afterwards what stood before. told_mib is what it was
 * told last, by a call or here (0: nothing yet): when another limit stands, somebody has
 * chosen it, and nothing is set (HYPERVISOR_ERROR_CHANGED). done gets what stands for
 * pre-copy now, also beside an error; 0 if that could not be found out or was not asked.
 */
void hypervisor_set_max_speed(Hypervisor *hypervisor, const char *uuid, uint64_t told_mib,
                              uint64_t pre_copy_mib, uint64_t post_copy_mib,
                              HypervisorNumberDone done, gpointer user_data);

/* After hypervisor_set_max_speed() to lift it: no limit of ours stands any more. */
bool hypervisor_speed_is_lifted(const GError *error);

/* The limits of one domain, to be lifted. */
typedef struct {
    char uuid[VIR_UUID_STRING_BUFLEN];
    uint64_t told_mib; /* for pre-copy, as in hypervisor_set_max_speed(); 0: not limited by us */
    bool post_copy;    /* limited by us as well */
    bool lifted;       /* result: no limit of ours stays with the domain */
} HypervisorSpeedLift;

/*
 * For a daemon that stops: lifts them without the main loop, and waits for it no longer
 * than 2 s. Those that are not `lifted` then may stand or not.
 */
void hypervisor_lift_speeds(Hypervisor *hypervisor, HypervisorSpeedLift *lifts, guint n_lifts);

/* The limit of the migration that runs; libvirt refuses it when none does. */
void hypervisor_set_max_downtime(Hypervisor *hypervisor, const char *uuid, uint64_t milliseconds,
                                 HypervisorDone done, gpointer user_data);

/*
 * Raises the limit only while it is what we set before: present_ms is that, or 0 when
 * nothing was set. HYPERVISOR_ERROR_CHANGED when somebody else has changed it.
 */
void hypervisor_raise_max_downtime(Hypervisor *hypervisor, const char *uuid, uint64_t present_ms,
                                   uint64_t milliseconds, HypervisorDone done, gpointer user_data);

/* Of a domain at the source, as libvirt tells it. */
typedef enum {
    HYPERVISOR_NO_POST_COPY = 0,
    HYPERVISOR_POST_COPY_MOVES,
    HYPERVISOR_POST_COPY_BROKEN,
} HypervisorPostCopy;

typedef void (*HypervisorPostCopyDone)(HypervisorPostCopy state, const GError *error,
                                       gpointer user_data);

/* VIR_ERR_NO_DOMAIN as error->code: it is not there any more. */
void hypervisor_query_post_copy(Hypervisor *hypervisor, const char *uuid,
                                HypervisorPostCopyDone done, gpointer user_data);

/*
 * Resumes a post-copy that broke, peer-to-peer through destination_uri, and ends
 * when the migration does. HYPERVISOR_ERROR_GOES_ON when the VM is not paused for
 * that reason any more. The destination is asked first, over a connection of its
 * own: while it cannot be reached, or has not noticed the break
 * (HYPERVISOR_ERROR_NOT_NOTICED), this domain's migration is not touched. migrate_uri may be NULL,
 * and destination_name too: then it is the same there. flags: the original ones.
 */
void hypervisor_resume_post_copy(Hypervisor *hypervisor, const char *uuid,
                                 const char *destination_uri, const char *migrate_uri,
                                 const char *destination_name, uint64_t flags, HypervisorDone done,
                                 gpointer user_data);

/* One reading; VIR_ERR_NO_DOMAIN when the domain does not run here. */
void hypervisor_query_job(Hypervisor *hypervisor, const char *uuid, HypervisorJobDone done,
                          gpointer user_data);

/* The XML of all active domains, or of one when uuid is not NULL. */
void hypervisor_list_domains(Hypervisor *hypervisor, const char *uuid, HypervisorTextsDone done,
                             gpointer user_data);

/*
 * Reads the offer that the destination put into the incoming domain's
 * metadata, over a connection of its own to destination_uri.
 */
void hypervisor_read_offer(Hypervisor *hypervisor, const char *destination_uri, const char *uuid,
                           HypervisorTextDone done, gpointer user_data);

/* Removes the offer from the domain's live and persistent metadata; absent is success. */
void hypervisor_remove_offer(Hypervisor *hypervisor, const char *uuid, HypervisorDone done,
                             gpointer user_data);

/*
 * Dirty rate in bytes/s by libvirt's page sampling over so many seconds (never another
 * mode: those can end a guest). 0 from libvirt is reported as an error: unknown.
 */
#define HYPERVISOR_DIRTY_RATE_SECONDS 1
void hypervisor_measure_dirty_rate(Hypervisor *hypervisor, const char *uuid,
                                   HypervisorNumberDone done, gpointer user_data);
