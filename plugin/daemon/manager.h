/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon's centre: which migrations there are, what was decided for each,
 * and what the network must look like because of them.
 *
 * Runs on the main loop only. calls.h translates what libvirtd's plugin and
 * the hook say into the functions below; hypervisor.h and network.h do what
 * takes time in threads of their own.
 */
#pragma once

#include "common/config.h"
#include "daemon/experience.h"
#include "daemon/hypervisor.h"
#include "daemon/migration.h"
#include "daemon/network.h"
#include "daemon/recorder.h"
#include "daemon/registry.h"
#include "daemon/speeds.h"
#include "daemon/workers.h"
#include "decision/workload_meter.h"

typedef struct Manager Manager;

struct Manager {
    const Config *config;
    char *state_directory;           /* tied to the boot */
    const char *job_flags_directory; /* JOB_FLAGS_DIRECTORY */
    Network *network;
    Hypervisor *hypervisor;
    Registry *registry;
    Speeds *speeds; /* limits to be taken back */
    bool lift_failure_told;
    Workers *workers; /* NULL: not to be had */
    Experience *experience;
    Recorder *recorder;    /* writes decisions and the history down; NULL: nowhere */
    GPtrArray *migrations; /* active first come, first in */
    GPtrArray *history;    /* ended, oldest first, config->history_limit */
    uint64_t next_ticket;
    bool domains_unlisted; /* libvirt could not list them: it is asked again */
    gint64 last_poll_us;
    unsigned network_changes; /* those of the network that were followed */
    TrafficClass host_class;
    guint gathering_timer;  /* 0: none of those that wait has come just now */
    double prepare_seconds; /* from a turn to the first byte; rises at once, falls slowly */
    struct {
        uint64_t held; /* bytes/s held for the workload */
        bool held_valid;
        gint64 followed_us;
        gint64 reshaped_us;
        WorkloadMeter meter; /* while no classes count the workload */
        bool has_reservation;
        Reservation reservation; /* as last put into a plan */
        unsigned migrations;     /* in that plan */
        guint floors;            /* its planner_floors_stamp() */
    } side[2];                   /* by ShapingDirection */
};

/* state_directory: what is undone after a crash; config must outlive the manager. */
Manager *manager_new(const Config *config, const char *state_directory, GError **error);
void manager_free(Manager *manager);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Manager, manager_free)

/*
 * Why no record may be made for such a migration; NULL: it may. Bounds what
 * calls that never end can cost, and guards a migration that is going.
 */
const char *manager_refusal(const Manager *manager, MigrationRole role, const char *uuid,
                            const char *name);

/* A new migration record; an active one of the same domain and role ends as lost. */
Migration *manager_add(Manager *manager, MigrationRole role, const char *name, const char *uuid);

/* Active ones only; uuid or name may be NULL. NULL: none. */
Migration *manager_find(const Manager *manager, MigrationRole role, const char *uuid,
                        const char *name);
Migration *manager_find_ticket(const Manager *manager, uint64_t ticket);
/* An ended one that was aborted while its call was held. */
bool manager_was_aborted(const Manager *manager, uint64_t ticket);

/* Takes description over and derives priority, allowed techniques and warnings. */
void manager_describe(Manager *manager, Migration *migration, DomainDescription *description);

/* Excludes post-copy and hybrid with a static reason; NULL does nothing. */
void manager_exclude_post_copy(Migration *migration, const char *reason);

/*
 * Asks libvirt for the dirty rate of a migration that is held: it costs the
 * guest a second of page sampling and the caller nothing.
 */
void manager_measure_dirty_rate(Manager *manager, Migration *migration);
/* Takes its answer over, bytes/s; the migration has a description. */
void manager_take_dirty_rate(Migration *migration, uint64_t bytes_per_second);

/*
 * libvirt keeps the VM of a source's migration paused in post-copy: it is
 * resumed when the path is back. how: what was seen, for people.
 */
void manager_post_copy_broke(Manager *manager, Migration *migration, const char *how);

/* ms; 0: neither the domain's metadata nor the configuration states one. */
uint64_t manager_maximum_downtime(const Manager *manager, const Migration *migration);

/* Asks libvirt how much of the domain's memory is resident; costs the guest nothing. */
void manager_measure_memory(Manager *manager, Migration *migration);

/*
 * Predicts the migration's time as it stands, until its second pass begins:
 * an answer that comes a little late still counts. Sources only.
 */
void manager_forecast(Manager *manager, Migration *migration);

/*
 * This host and the one that a migration leaves for, as calibration_pair(): by
 * its address, else by what its URI's name was resolved to last time.
 */
uint64_t manager_pair(const Manager *manager, const Migration *migration);

/*
 * Bytes/s that one connection of it can carry: as configured, or less where it
 * was measured so on the way to that host; where the destination is not known
 * yet, on the way to all hosts.
 */
uint64_t manager_stream_rate(const Manager *manager, const Migration *migration);

/* Chooses the technique from present rates; may be called again. */
void manager_decide(Manager *manager, Migration *migration);

/*
 * The technique of a source's migration is final: nothing more will be told of its
 * destination. anew: more is known than when it was decided last.
 */
void manager_settle(Manager *manager, Migration *migration, bool anew);

/*
 * How a direction is to be divided for what transfers now, and for joining as
 * well when it is not NULL. False: the link rate is unknown.
 */
bool manager_reserve(const Manager *manager, ShapingDirection direction, const Migration *joining,
                     Reservation *ret_reservation);

/* Its input, as manager_reserve() would use it. */
void manager_reserve_input(const Manager *manager, ShapingDirection direction,
                           const Migration *joining, ReserveInput *ret_input);

/* Feeds the state machine and carries its actions out. */
void manager_input(Manager *manager, Migration *migration, const MigrationInput *input);

/*
 * Memory is about to move: puts the migration into the plan. done runs when
 * the kernel has answered, with an error when it goes on unshaped.
 */
void manager_transfer(Manager *manager, Migration *migration, NetworkShapeDone done,
                      gpointer user_data);

/* Lets waiting migrations go whose turn it is. */
void manager_schedule(Manager *manager);

/* Source calls that are held in libvirtd now; each occupies one of its workers. */
unsigned manager_count_held(const Manager *manager);
/* libvirtd's workers that held calls and outgoing migrations occupy; 0: one at most. */
unsigned manager_count_busy(const Manager *manager);

/* Makes direction's classes fit what transfers now. done may be NULL. */
void manager_reshape(Manager *manager, ShapingDirection direction, NetworkShapeDone done,
                     gpointer user_data);

/* A held one, of either end, goes on now; reason: one line for people. */
void manager_let_in(Manager *manager, Migration *migration, const char *reason);

/* Answers a pending WaitTurn at once if the state allows it. */
void manager_answer_turn(Manager *manager, Migration *migration);
