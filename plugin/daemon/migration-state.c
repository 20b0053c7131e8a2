/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The life of one migration, pure; see migration-state.h for the picture. */
#include "daemon/migration-state.h"

void
migration_machine_init(MigrationMachine *machine, MigrationRole role)
{
    *machine = (MigrationMachine){
        .role = role,
        .state = MIGRATION_ADMITTED,
    };
}

/* At once for post-copy (QEMU's migration is active from iteration 1 on), after the first pass
 * for hybrid. */
static bool
post_copy_due(const MigrationMachine *machine)
{
    if (machine->role != MIGRATION_ROLE_SOURCE || machine->state != MIGRATION_RUNNING ||
        !machine->decided || !machine->post_copy_possible || machine->post_copy_requested ||
        machine->post_copy_held)
        return false;
    switch (machine->technique) {
    case TECHNIQUE_PRE_COPY:
        return false;
    case TECHNIQUE_POST_COPY:
        return machine->iteration >= 1;
    case TECHNIQUE_HYBRID:
        return machine->iteration >= 2 && !machine->reading_due;
    }
    return false;
}

static unsigned
machine_end(MigrationMachine *machine, MigrationOutcome outcome)
{
    machine->state = MIGRATION_ENDED;
    machine->outcome = outcome;
    return MIGRATION_ACTION_END;
}

static unsigned
machine_switch_if_due(MigrationMachine *machine)
{
    if (!post_copy_due(machine))
        return 0;
    machine->post_copy_requested = true;
    return MIGRATION_ACTION_START_POST_COPY;
}

/* RUNNING is reached by the call, or first by an event when nobody told us. */
static unsigned
machine_transfer(MigrationMachine *machine)
{
    if (machine->state != MIGRATION_WAITING && machine->state != MIGRATION_ADMITTED)
        return 0;
    machine->state = MIGRATION_RUNNING;
    return MIGRATION_ACTION_SHAPE;
}

unsigned
migration_machine_step(MigrationMachine *machine, const MigrationInput *input)
{
    unsigned actions = 0;

    if (machine->state == MIGRATION_ENDED)
        return 0;
    switch (input->type) {
    case MIGRATION_INPUT_TURN:
        if (machine->state == MIGRATION_WAITING)
            machine->state = MIGRATION_ADMITTED;
        return 0;
    case MIGRATION_INPUT_ABORT:
        if (machine->state == MIGRATION_WAITING)
            return machine_end(machine, MIGRATION_OUTCOME_ABORTED);
        return 0;
    case MIGRATION_INPUT_TRANSFER:
        return machine_transfer(machine);
    case MIGRATION_INPUT_ITERATION:
        if (input->iteration == 0)
            return 0;
        actions = machine_transfer(machine);
        if (machine->iteration == 0)
            actions |= MIGRATION_ACTION_LIMIT;
        if (input->iteration > machine->iteration)
            machine->iteration = input->iteration;
        return actions | machine_switch_if_due(machine);
    case MIGRATION_INPUT_DECIDED:
        machine->technique = input->technique;
        machine->decided = true;
        return machine_switch_if_due(machine);
    case MIGRATION_INPUT_POST_COPY_ENTERED:
        actions = machine_transfer(machine);
        machine->state = MIGRATION_POST_COPY;
        return actions;
    case MIGRATION_INPUT_POST_COPY_REFUSED:
        machine->post_copy_possible = false;
        machine->technique = TECHNIQUE_PRE_COPY;
        return 0;
    case MIGRATION_INPUT_SUCCEEDED:
        return machine_end(machine, MIGRATION_OUTCOME_SUCCEEDED);
    case MIGRATION_INPUT_FAILED:
        return machine_end(machine, MIGRATION_OUTCOME_FAILED);
    case MIGRATION_INPUT_LOST:
        return machine_end(machine, MIGRATION_OUTCOME_UNKNOWN);
    }
    return 0;
}

const char *
migration_role_to_string(MigrationRole role)
{
    return role == MIGRATION_ROLE_SOURCE ? "source" : "destination";
}

const char *
migration_state_to_string(MigrationState state)
{
    switch (state) {
    case MIGRATION_WAITING:
        return "waiting";
    case MIGRATION_ADMITTED:
        return "admitted";
    case MIGRATION_RUNNING:
        return "running";
    case MIGRATION_POST_COPY:
        return "post-copy";
    case MIGRATION_ENDED:
        return "ended";
    }
    return "unknown";
}

const char *
migration_outcome_to_string(MigrationOutcome outcome)
{
    switch (outcome) {
    case MIGRATION_OUTCOME_NONE:
        return "none";
    case MIGRATION_OUTCOME_SUCCEEDED:
        return "succeeded";
    case MIGRATION_OUTCOME_FAILED:
        return "failed";
    case MIGRATION_OUTCOME_ABORTED:
        return "aborted";
    case MIGRATION_OUTCOME_UNKNOWN:
        return "unknown";
    }
    return "unknown";
}
