/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Everything that is known of one migration: facts, decision, progress, and
 * the log that `virt-convoy explain` shows. Data only; manager.h drives it.
 */
#pragma once

#include "common/domain.h"
#include "common/peer.h"
#include "daemon/experience.h"
#include "daemon/hypervisor.h"
#include "daemon/migration-state.h"
#include "decision/allocate.h"
#include "decision/converge.h"
#include "decision/reserve.h"
#include "decision/schedule.h"
#include "decision/technique.h"
#include "shaping/plan.h"

#include <gio/gio.h>

#define MIGRATION_LOG_MAXIMUM 200u

typedef struct {
    gint64 wall_us; /* g_get_real_time() */
    char *event;
    char *text;
} MigrationLogEntry;

/*
 * What was predicted for the technique chosen, when memory began to move. It
 * stays as it is: history and explain compare it with what came.
 */
typedef struct {
    bool valid;
    Technique technique;
    uint64_t pair;
    uint64_t memory; /* bytes */
    RateProfile pre; /* what each phase was expected to have */
    RateProfile post;
    Prediction prediction; /* corrected */
    CalibrationCorrection correction;
} Forecast;

typedef struct {
    uint64_t ticket;
    unsigned leaf; /* 1..SHAPING_MIGRATIONS_MAX; 0: not in the plan */
    MigrationMachine machine;
    bool peer_to_peer;
    bool tunnelled;
    bool tells_port;    /* p2p source: its port becomes known before memory moves */
    bool observed;      /* seen from events only: flags are the user's */
    bool flags_unknown; /* likewise, and libvirtd's state did not tell them */
    bool from_hook;

    DomainDescription *description;
    char *name;
    char *uuid; /* NULL: unknown */
    char *destination_uri;
    char *migrate_uri;
    uint64_t user_flags;
    uint64_t flags;
    uint64_t user_bandwidth_mib; /* MiB/s; 0: left open by the caller */
    uint64_t user_post_copy_bandwidth_mib;
    uint64_t switchover_mib; /* MiB/s told to QEMU for the switchover; 0: nothing */

    Priority priority;
    TechniqueSet allowed;
    const char *excluded[TECHNIQUE_COUNT];
    bool post_copy_by_user;
    unsigned parallel_proposed;
    unsigned parallel;
    bool parallel_settled; /* more connections than these cannot come any more */
    ParallelMeter streams; /* what its connections reach */
    uint64_t metered_sent; /* bytes, at the last reading of it */
    uint64_t metered_left;
    bool peer_known;
    uint64_t source_host;       /* destination: whom it comes from, peer_cookie_host() */
    uint64_t held_at_source_ms; /* destination: before its call came here; 0 unknown or none */
    PeerReport peer;
    bool offer_wanted; /* p2p source: ask the destination once it is active */
    gint64 offer_asked_us;
    bool offer_added; /* destination: our element is in the incoming XML */

    bool has_decision;
    TechniqueDecision decision;
    double overhead; /* seconds of its prediction in which no memory moves */
    DirtyCurve dirty;
    uint64_t dirty_rate;  /* bytes/s; 0 unknown */
    bool dirty_by_passes; /* dirty comes from passes of this very job */
    uint64_t resident;    /* bytes of the QEMU process; 0 unknown */
    Forecast forecast;
    bool has_lesson;
    Lesson lesson;
    gint64 iteration_us;       /* when the last pass began */
    double first_pass_seconds; /* likewise, the first; 0 unknown */
    double pass_seconds;       /* how long the pass before it took; 0 unknown */
    TrafficClass source_class; /* of the host without the VM */
    TrafficClass vm_class;
    TrafficClass peer_class;

    GArray *peer_addresses; /* FlowAddress */
    unsigned port_first;    /* 0: the configured range */
    unsigned port_last;

    AllocateShare share;      /* of the migrations class, as last put into a plan */
    gint64 share_us;          /* monotonic, when that was */
    gint64 waited_us;         /* for its turn until then, less what it moved in its turn since */
    ReserveDeadline deadline; /* as last written to the log */

    char *unshaped; /* why no classes hold it, as last written to the log; NULL: nothing was */
    bool has_limits;
    ReserveQemuLimits limits; /* as last told to QEMU */
    uint64_t speed_by_call;   /* MiB/s, in the answer to its call; 0: none */
    bool telling_limits;      /* libvirt is being told: one after the other */
    bool limits_changed;      /* meanwhile */
    bool limits_failed;       /* what was told last does not stand */
    JobStatistics statistics;
    gint64 statistics_us; /* monotonic, when they were read */
    bool job_seen;        /* libvirt runs a job for it: from now on its absence is the end */
    unsigned idle_polls;
    gint64 idle_us; /* of the last of them */
    bool querying;
    char *schedule_reason;
    gint64 start_expected_us; /* monotonic, while it waits; 0 unknown */

    ConvergeState converge;
    bool expected_not_to_end;    /* the predictor's word, from the passes seen */
    bool polled_often;           /* a decision is near */
    bool last_round;             /* has all of the link but the floors */
    uint64_t downtime_limit_ms;  /* as last told to QEMU by us; 0: never */
    bool raising_downtime;       /* libvirt is being told */
    bool downtime_limit_by_user; /* somebody changed it since: his stays */

    struct {
        bool broken;            /* libvirt keeps the VM paused in post-copy */
        bool trying;            /* a resume is under way */
        bool stored;            /* a daemon that starts again will find it (unfinished.h) */
        char *destination_name; /* another one, as the caller chose; NULL: the same */
        unsigned tries;
        bool unnoticed; /* the destination can be reached, and does not know of the break yet */
        gint64 next_us;
        uint64_t moved; /* to notice a silent path */
        gint64 moved_us;
        bool silent_told;
    } recovery;

    gint64 created_us; /* monotonic */
    gint64 created_wall_us;
    gint64 polled_us;   /* last WaitTurn of the held caller */
    gint64 admitted_us; /* its turn came after it was held; 0: never held */
    gint64 running_us;
    gint64 post_copy_us;
    gint64 ended_us;
    char *failure;
    bool recorded; /* in the history file */

    GPtrArray *log;      /* MigrationLogEntry */
    bool answer_pending; /* perform's EnterCall: its answer waits for the network */
    GDBusMethodInvocation *waiting_turn;
    guint turn_timer;
    bool dirty_measured; /* or asked for: once is enough */
} Migration;

/* now_us: monotonic, its beginning. uuid may be NULL: not known yet. The texts are copied. */
Migration *migration_new(uint64_t ticket, MigrationRole role, const char *name, const char *uuid,
                         gint64 now_us);
void migration_free(Migration *migration);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Migration, migration_free)

/* Adds a line to the migration's own log and to the daemon's. */
void migration_note(Migration *migration, const char *event, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

static inline bool
migration_is_active(const Migration *migration)
{
    return migration->machine.state != MIGRATION_ENDED;
}

/*
 * Why another call for the same domain must not take its place; NULL: it may.
 * libvirt refuses a second migration by itself, and the first is still going.
 */
const char *migration_keeps_place(const Migration *migration, gint64 now_us);

/* Memory moves: the plan of its direction must contain it. */
static inline bool
migration_is_transferring(const Migration *migration)
{
    return migration->machine.state == MIGRATION_RUNNING ||
           migration->machine.state == MIGRATION_POST_COPY;
}

/* Others do not wait for its end: a post-copy that broke, or what was reported not to converge. */
static inline bool
migration_may_not_end(const Migration *migration)
{
    return migration->recovery.broken ||
           (migration->machine.state == MIGRATION_RUNNING && migration->converge.reports != 0);
}

/* In its last round a migration has the share of high priority. */
static inline Priority
migration_shaped_as(const Migration *migration)
{
    return migration->last_round ? PRIORITY_HIGH : migration->priority;
}

/* What was done, as far as this end knows; "-" while nothing is decided. */
const char *migration_technique_text(const Migration *migration);

static inline ShapingDirection
migration_direction(const Migration *migration)
{
    return migration->machine.role == MIGRATION_ROLE_SOURCE ? SHAPING_EGRESS : SHAPING_INGRESS;
}
