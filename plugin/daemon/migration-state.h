/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One migration as a state machine: (state, input) -> (state, actions).
 *
 * Owns no clock, descriptor, log or libvirt object; the manager feeds inputs
 * and carries the actions out. The phases on the source of a direct migration:
 *
 *   begin            perform                                    confirm
 *     |  WAITING        |  iteration 1, 2, ...   post-copy         |
 *     |---------> ADMITTED ----> RUNNING ------> POST_COPY ----> ENDED
 *      held call        memory moves
 *
 * A peer-to-peer source has perform alone, a destination prepare and finish,
 * and a migration that is only seen from events starts in RUNNING.
 */
#pragma once

#include "common/types.h"

typedef enum {
    MIGRATION_ROLE_SOURCE,
    MIGRATION_ROLE_DESTINATION,
} MigrationRole;

typedef enum {
    MIGRATION_WAITING,   /* the call is held before libvirt takes a job */
    MIGRATION_ADMITTED,  /* may go on; no memory moves yet */
    MIGRATION_RUNNING,   /* memory moves, the VM runs on the source */
    MIGRATION_POST_COPY, /* the VM runs on the destination, memory still moves */
    MIGRATION_ENDED,
} MigrationState;

typedef enum {
    MIGRATION_OUTCOME_NONE,
    MIGRATION_OUTCOME_SUCCEEDED,
    MIGRATION_OUTCOME_FAILED,
    MIGRATION_OUTCOME_ABORTED, /* while it was held */
    MIGRATION_OUTCOME_UNKNOWN, /* nothing was heard of it any more */
} MigrationOutcome;

typedef enum {
    MIGRATION_INPUT_TURN,              /* admitted */
    MIGRATION_INPUT_ABORT,             /* the user aborts; counts while held */
    MIGRATION_INPUT_TRANSFER,          /* memory is about to move */
    MIGRATION_INPUT_ITERATION,         /* QEMU began pass `iteration` */
    MIGRATION_INPUT_DECIDED,           /* the technique was chosen or changed */
    MIGRATION_INPUT_POST_COPY_ENTERED, /* libvirt said so */
    MIGRATION_INPUT_POST_COPY_REFUSED, /* our request failed */
    MIGRATION_INPUT_SUCCEEDED,
    MIGRATION_INPUT_FAILED,
    MIGRATION_INPUT_LOST, /* no job, no call, no domain */
} MigrationInputType;

typedef struct {
    MigrationInputType type;
    unsigned iteration;  /* of ITERATION */
    Technique technique; /* of DECIDED */
} MigrationInput;

typedef enum {
    MIGRATION_ACTION_SHAPE = 1u << 0, /* the plan must include it from now on */
    MIGRATION_ACTION_LIMIT = 1u << 1, /* downtime and bandwidth limits to QEMU */
    MIGRATION_ACTION_START_POST_COPY = 1u << 2,
    MIGRATION_ACTION_END = 1u << 3, /* unshape, remove the offer, write history */
} MigrationAction;

typedef struct {
    MigrationRole role;
    MigrationState state;
    MigrationOutcome outcome;
    Technique technique;
    bool decided; /* technique is final for now; false: wait for the offer */
    bool post_copy_possible;
    bool post_copy_requested;
    bool post_copy_held; /* not now: the path has just collapsed */
    bool reading_due;    /* a pass ended: hybrid waits for what is measured at its end */
    unsigned iteration;  /* the last one seen; 0 none */
} MigrationMachine;

/* It is admitted; who holds it sets MIGRATION_WAITING. */
void migration_machine_init(MigrationMachine *machine, MigrationRole role);

/* Returns the set of MigrationAction to carry out. Unfitting input changes nothing. */
unsigned migration_machine_step(MigrationMachine *machine, const MigrationInput *input);

const char *migration_role_to_string(MigrationRole role);
const char *migration_state_to_string(MigrationState state);
const char *migration_outcome_to_string(MigrationOutcome outcome);
