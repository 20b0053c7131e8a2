/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any dictionary as the result that LeaveCall brings from libvirtd, for a migration of
 * either role in any state, left by any entry: the first byte says which. What is taken
 * from it keeps its limits and can be told over D-Bus.
 */
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "daemon/calls.h"
#include "dictionary.h"

#define TICKET 1
#define FAILURE_MAXIMUM 1100u /* an entry's name, and MESSAGE_MAXIMUM made valid */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static Migration *left;
static unsigned inputs; /* what was concluded about it */

/* The manager's part, and the answer's, are not what is tried here. */
Migration *
manager_find_ticket(const Manager *manager, uint64_t ticket)
{
    (void)manager;
    return ticket == TICKET ? left : NULL;
}

void
manager_input(Manager *manager, Migration *migration, const MigrationInput *input)
{
    (void)manager;
    if (migration != left ||
        (input->type != MIGRATION_INPUT_FAILED && input->type != MIGRATION_INPUT_SUCCEEDED))
        abort();
    inputs++;
}

void
manager_post_copy_broke(Manager *manager, Migration *migration, const char *how)
{
    (void)manager;
    if (migration->machine.role != MIGRATION_ROLE_SOURCE || how == NULL)
        abort();
    inputs++;
}

void
manager_exclude_post_copy(Migration *migration, const char *reason)
{
    (void)migration;
    if (reason == NULL)
        abort();
}

void
manager_reshape(Manager *manager, ShapingDirection direction, NetworkShapeDone done,
                gpointer user_data)
{
    (void)manager;
    (void)done;
    (void)user_data;
    if (direction != SHAPING_INGRESS)
        abort();
}

void
convoy_daemon1_complete_leave_call(ConvoyDaemon1 *object, GDBusMethodInvocation *invocation)
{
    (void)object;
    (void)invocation;
}

static void
check(const Migration *migration)
{
    if (inputs > 1)
        abort();
    if (migration->failure != NULL && (strlen(migration->failure) > FAILURE_MAXIMUM ||
                                       !g_utf8_validate(migration->failure, -1, NULL)))
        abort();
    if (migration->port_first > migration->port_last || migration->port_last > 65535 ||
        (migration->port_first == 0) != (migration->port_last == 0))
        abort();
    if (migration->machine.role == MIGRATION_ROLE_SOURCE && migration->port_first != 0)
        abort();
    if (migration->machine.state == MIGRATION_ENDED &&
        (inputs != 0 || migration->failure != NULL || migration->port_first != 0))
        abort();
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return log_open(CONFIG_LOG_ERROR, NULL, NULL) ? 0 : 1;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const entries[] = { "begin",  "perform", "confirm", "prepare-tunnel",
                                           "finish", "prepare", "prepar",  "" };
    g_autoptr(GVariant) result = size > 0 ? dictionary_of(data + 1, size - 1) : NULL;
    g_autoptr(Migration) migration = NULL;

    if (result == NULL)
        return 0;
    migration = migration_new(
        TICKET, data[0] & 8 ? MIGRATION_ROLE_SOURCE : MIGRATION_ROLE_DESTINATION, "web", NULL, 0);
    migration->machine.state = (MigrationState)((data[0] >> 4 & 7) % (MIGRATION_ENDED + 1));
    migration->peer_to_peer = data[0] & 128;
    migration->leaf = 1;
    left = migration;
    inputs = 0;
    calls_leave(NULL, NULL, NULL, entries[data[0] & 7], TICKET, result);
    check(migration);
    left = NULL;
    return 0;
}
