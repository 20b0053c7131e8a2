/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Conversations with the migration state machine, as tables. */
#include "daemon/migration-state.h"

#include <glib.h>

#define LINES_MAX 10

typedef struct {
    MigrationInput input;
    MigrationState state;
    unsigned actions;
} Line;

typedef struct {
    const char *name;
    MigrationRole role;
    bool waiting;
    bool post_copy_possible;
    MigrationOutcome outcome;
    Line lines[LINES_MAX];
} Conversation;

#define IN(kind)                                                                                   \
    {                                                                                              \
        .type = MIGRATION_INPUT_##kind                                                             \
    }
#define PASS(number)                                                                               \
    {                                                                                              \
        .type = MIGRATION_INPUT_ITERATION, .iteration = (number)                                   \
    }
#define DECIDED(how)                                                                               \
    {                                                                                              \
        .type = MIGRATION_INPUT_DECIDED, .technique = TECHNIQUE_##how                              \
    }
#define SHAPE MIGRATION_ACTION_SHAPE
#define LIMIT MIGRATION_ACTION_LIMIT
#define SWITCH MIGRATION_ACTION_START_POST_COPY
#define END MIGRATION_ACTION_END

static const Conversation conversations[] = {
    { "pre-copy never switches",
      MIGRATION_ROLE_SOURCE,
      false,
      true,
      MIGRATION_OUTCOME_SUCCEEDED,
      { { DECIDED(PRE_COPY), MIGRATION_ADMITTED, 0 },
        { IN(TRANSFER), MIGRATION_RUNNING, SHAPE },
        { PASS(1), MIGRATION_RUNNING, LIMIT },
        { PASS(2), MIGRATION_RUNNING, 0 },
        { PASS(9), MIGRATION_RUNNING, 0 },
        { IN(SUCCEEDED), MIGRATION_ENDED, END },
        { IN(SUCCEEDED), MIGRATION_ENDED, 0 } } },
    { "post-copy switches with the first pass",
      MIGRATION_ROLE_SOURCE,
      false,
      true,
      MIGRATION_OUTCOME_SUCCEEDED,
      { { DECIDED(POST_COPY), MIGRATION_ADMITTED, 0 },
        { IN(TRANSFER), MIGRATION_RUNNING, SHAPE },
        { PASS(1), MIGRATION_RUNNING, LIMIT | SWITCH },
        { PASS(2), MIGRATION_RUNNING, 0 },
        { IN(POST_COPY_ENTERED), MIGRATION_POST_COPY, 0 },
        { IN(SUCCEEDED), MIGRATION_ENDED, END } } },
    { "hybrid switches after one pass",
      MIGRATION_ROLE_SOURCE,
      false,
      true,
      MIGRATION_OUTCOME_FAILED,
      { { DECIDED(HYBRID), MIGRATION_ADMITTED, 0 },
        { IN(TRANSFER), MIGRATION_RUNNING, SHAPE },
        { PASS(1), MIGRATION_RUNNING, LIMIT },
        { PASS(2), MIGRATION_RUNNING, SWITCH },
        { PASS(3), MIGRATION_RUNNING, 0 },
        { IN(FAILED), MIGRATION_ENDED, END } } },
    { "no switch without the flag",
      MIGRATION_ROLE_SOURCE,
      false,
      false,
      MIGRATION_OUTCOME_SUCCEEDED,
      { { DECIDED(POST_COPY), MIGRATION_ADMITTED, 0 },
        { PASS(1), MIGRATION_RUNNING, SHAPE | LIMIT },
        { PASS(2), MIGRATION_RUNNING, 0 },
        { IN(SUCCEEDED), MIGRATION_ENDED, END } } },
    { "a late decision switches at once",
      MIGRATION_ROLE_SOURCE,
      false,
      true,
      MIGRATION_OUTCOME_SUCCEEDED,
      { { IN(TRANSFER), MIGRATION_RUNNING, SHAPE },
        { PASS(1), MIGRATION_RUNNING, LIMIT },
        { DECIDED(POST_COPY), MIGRATION_RUNNING, SWITCH },
        { DECIDED(POST_COPY), MIGRATION_RUNNING, 0 },
        { IN(SUCCEEDED), MIGRATION_ENDED, END } } },
    { "a refused switch is not asked again",
      MIGRATION_ROLE_SOURCE,
      false,
      true,
      MIGRATION_OUTCOME_UNKNOWN,
      { { DECIDED(POST_COPY), MIGRATION_ADMITTED, 0 },
        { PASS(1), MIGRATION_RUNNING, SHAPE | LIMIT | SWITCH },
        { IN(POST_COPY_REFUSED), MIGRATION_RUNNING, 0 },
        { PASS(2), MIGRATION_RUNNING, 0 },
        { DECIDED(HYBRID), MIGRATION_RUNNING, 0 },
        { IN(LOST), MIGRATION_ENDED, END } } },
    { "an abort counts while held",
      MIGRATION_ROLE_SOURCE,
      true,
      true,
      MIGRATION_OUTCOME_ABORTED,
      { { IN(ABORT), MIGRATION_ENDED, END }, { IN(TURN), MIGRATION_ENDED, 0 } } },
    { "a held caller that is gone was not aborted",
      MIGRATION_ROLE_SOURCE,
      true,
      true,
      MIGRATION_OUTCOME_UNKNOWN,
      { { IN(LOST), MIGRATION_ENDED, END }, { IN(ABORT), MIGRATION_ENDED, 0 } } },
    { "an abort of a running one is libvirt's",
      MIGRATION_ROLE_SOURCE,
      true,
      true,
      MIGRATION_OUTCOME_FAILED,
      { { IN(TURN), MIGRATION_ADMITTED, 0 },
        { IN(ABORT), MIGRATION_ADMITTED, 0 },
        { IN(TRANSFER), MIGRATION_RUNNING, SHAPE },
        { IN(TRANSFER), MIGRATION_RUNNING, 0 },
        { IN(ABORT), MIGRATION_RUNNING, 0 },
        { IN(FAILED), MIGRATION_ENDED, END } } },
    { "a destination never switches",
      MIGRATION_ROLE_DESTINATION,
      false,
      true,
      MIGRATION_OUTCOME_SUCCEEDED,
      { { IN(TRANSFER), MIGRATION_RUNNING, SHAPE },
        { DECIDED(POST_COPY), MIGRATION_RUNNING, 0 },
        { PASS(1), MIGRATION_RUNNING, LIMIT },
        { IN(POST_COPY_ENTERED), MIGRATION_POST_COPY, 0 },
        { IN(SUCCEEDED), MIGRATION_ENDED, END } } },
    { "pass zero is no pass",
      MIGRATION_ROLE_SOURCE,
      false,
      true,
      MIGRATION_OUTCOME_NONE,
      { { DECIDED(POST_COPY), MIGRATION_ADMITTED, 0 }, { PASS(0), MIGRATION_ADMITTED, 0 } } },
};

static void
test_conversation(gconstpointer data)
{
    const Conversation *conversation = data;
    MigrationMachine machine;

    migration_machine_init(&machine, conversation->role);
    if (conversation->waiting)
        machine.state = MIGRATION_WAITING;
    machine.post_copy_possible = conversation->post_copy_possible;
    for (size_t i = 0; i < LINES_MAX; i++) {
        const Line *line = &conversation->lines[i];

        if (i > 0 && line->state == MIGRATION_WAITING)
            break; /* the table's unused rest is zero */
        g_assert_cmpuint(migration_machine_step(&machine, &line->input), ==, line->actions);
        g_assert_cmpint(machine.state, ==, line->state);
    }
    g_assert_cmpint(machine.outcome, ==, conversation->outcome);
}

/*
 * A switch that is held, or waits for what is measured at the end of its pass, is made up for
 * by the same decision once more.
 */
static void
test_held(gconstpointer data)
{
    static const MigrationInput inputs[] = { DECIDED(HYBRID), IN(TRANSFER), PASS(1), PASS(2),
                                             PASS(3) };
    static const MigrationInput again = DECIDED(HYBRID);
    MigrationMachine machine;
    bool *reason = data != NULL ? &machine.post_copy_held : &machine.reading_due;

    migration_machine_init(&machine, MIGRATION_ROLE_SOURCE);
    machine.post_copy_possible = true;
    *reason = true;
    for (size_t i = 0; i < G_N_ELEMENTS(inputs); i++)
        g_assert_cmpuint(migration_machine_step(&machine, &inputs[i]) & SWITCH, ==, 0);
    *reason = false;
    g_assert_cmpuint(migration_machine_step(&machine, &again), ==, SWITCH);
    g_assert_cmpuint(migration_machine_step(&machine, &again), ==, 0);
}

/* Post-copy from the start has no pass behind it that could be measured. */
static void
test_nothing_to_read(void)
{
    static const MigrationInput decided = DECIDED(POST_COPY);
    static const MigrationInput first = PASS(1);
    MigrationMachine machine;

    migration_machine_init(&machine, MIGRATION_ROLE_SOURCE);
    machine.post_copy_possible = true;
    machine.reading_due = true;
    migration_machine_step(&machine, &decided);
    g_assert_cmpuint(migration_machine_step(&machine, &first) & SWITCH, ==, SWITCH);
}

/* Statistics told of a pass, then its event does. */
static void
test_pass_told_twice(void)
{
    static const MigrationInput first = PASS(1);
    static const MigrationInput second = PASS(2);
    static const MigrationInput hybrid = DECIDED(HYBRID);
    MigrationMachine machine;

    migration_machine_init(&machine, MIGRATION_ROLE_SOURCE);
    machine.post_copy_possible = true;
    migration_machine_step(&machine, &first);
    g_assert_cmpuint(migration_machine_step(&machine, &hybrid), ==, 0);
    g_assert_cmpuint(migration_machine_step(&machine, &second), ==, SWITCH);
    g_assert_cmpuint(migration_machine_step(&machine, &hybrid), ==, 0);
    g_assert_cmpuint(migration_machine_step(&machine, &second), ==, 0);
    g_assert_cmpint(machine.technique, ==, TECHNIQUE_HYBRID);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(conversations); i++) {
        g_autofree char *path = g_strdup_printf("/migration-state/%s", conversations[i].name);

        g_test_add_data_func(path, &conversations[i], test_conversation);
    }
    g_test_add_data_func("/migration-state/held", "held", test_held);
    g_test_add_data_func("/migration-state/reading-due", NULL, test_held);
    g_test_add_func("/migration-state/nothing-to-read", test_nothing_to_read);
    g_test_add_func("/migration-state/pass-told-twice", test_pass_told_twice);
    return g_test_run();
}
