/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whose turn it is, and the held calls that wait for it; see manager.h. */
#include "daemon/manager-private.h"

#include "daemon/planner.h"

void
manager_answer_turn(Manager *manager G_GNUC_UNUSED, Migration *migration)
{
    const char *state = "go";
    g_autofree char *message = NULL;

    if (migration->waiting_turn == NULL || migration->machine.state == MIGRATION_WAITING)
        return;
    migration->polled_us = g_get_monotonic_time();
    if (migration->machine.outcome == MIGRATION_OUTCOME_ABORTED) {
        state = "aborted";
        message = g_strdup_printf(
            "migration of domain '%s' was aborted while it waited for its turn", migration->name);
    }
    if (migration->turn_timer != 0)
        g_source_remove(migration->turn_timer);
    migration->turn_timer = 0;
    g_dbus_method_invocation_return_value(g_steal_pointer(&migration->waiting_turn),
                                          g_variant_new("(ss)", state, message ? message : ""));
}

static void
turn_shaped(const GError *error G_GNUC_UNUSED, gpointer data)
{
    g_autofree Reference *reference = data;
    Migration *migration = manager_find_ticket(reference->manager, reference->ticket);

    if (migration != NULL)
        manager_answer_turn(reference->manager, migration);
}

unsigned
manager_count_held(const Manager *manager)
{
    unsigned held = 0;

    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);

        held += migration->machine.state == MIGRATION_WAITING;
    }
    return held;
}

unsigned
manager_count_busy(const Manager *manager)
{
    unsigned moving = 0;
    unsigned held = manager_count_held(manager);

    for (guint i = 0; i < manager->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(manager->migrations, i);

        moving += migration->machine.role == MIGRATION_ROLE_SOURCE &&
                  migration->machine.state != MIGRATION_WAITING && migration_is_active(migration);
    }
    return held + moving <= 1 ? 0 : held + moving;
}

void
manager_let_in(Manager *manager, Migration *migration, const char *reason)
{
    static const MigrationInput turn = { .type = MIGRATION_INPUT_TURN };
    bool source = migration->machine.role == MIGRATION_ROLE_SOURCE;
    gint64 now_us = g_get_monotonic_time();
    bool shape;

    migration_note(migration, "admitted", "waited: %.2f s, reason: %s",
                   (double)(now_us - migration->created_us) / 1e6, reason);
    if (source)
        migration->admitted_us = now_us;
    manager_input(manager, migration, &turn);
    /*
     * Classes come first where memory moves as soon as the call goes on: at the source of a
     * peer-to-peer migration that knows its peer by now, and at every destination. One that
     * does not ask at the moment is let in with its next question.
     */
    shape = source ? migration->peer_to_peer && !migration->answer_pending
                   : migration->waiting_turn != NULL;
    if (shape)
        manager_transfer(manager, migration, turn_shaped, reference_new(manager, migration));
    else
        manager_answer_turn(manager, migration);
}

static void
manager_admit_incoming(Manager *manager)
{
    Migration *migration;

    while ((migration = planner_admit_incoming(manager)) != NULL)
        manager_let_in(manager, migration, migration->schedule_reason);
}

static gboolean
gathered(gpointer data)
{
    Manager *manager = data;

    manager->gathering_timer = 0;
    manager_schedule(manager);
    /* What goes on at once is not worth the load of a measurement; what waits is. */
    for (guint i = 0; i < manager->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(manager->migrations, i);

        if (migration->machine.role == MIGRATION_ROLE_SOURCE && !migration->dirty_measured &&
            migration->machine.state == MIGRATION_WAITING &&
            planner_gathering_left(manager, migration, g_get_monotonic_time()) == 0)
            manager_measure_dirty_rate(manager, migration);
    }
    return G_SOURCE_REMOVE;
}

/* From when the first of those that gather is not new any more they may start. */
static void
manager_await_gathering(Manager *manager)
{
    gint64 now_us = g_get_monotonic_time();
    gint64 least_us = 0;

    for (guint i = 0; i < manager->migrations->len; i++) {
        gint64 left_us =
            planner_gathering_left(manager, g_ptr_array_index(manager->migrations, i), now_us);

        if (left_us != 0 && (least_us == 0 || left_us < least_us))
            least_us = left_us;
    }
    if (least_us != 0 && manager->gathering_timer == 0)
        manager->gathering_timer = g_timeout_add((guint)(least_us / 1000) + 1, gathered, manager);
}

void
manager_schedule(Manager *manager)
{
    g_autoptr(GPtrArray) starting = planner_schedule(manager);

    for (guint i = 0; i < starting->len; i++) {
        Migration *migration = g_ptr_array_index(starting, i);

        manager_let_in(manager, migration,
                       migration->schedule_reason ? migration->schedule_reason : "-");
    }
    manager_admit_incoming(manager);
    manager_await_gathering(manager);
}
