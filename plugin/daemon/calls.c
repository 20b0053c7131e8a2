/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The entry points of the interface, and what their answers share; see calls.h. */
#include "daemon/calls-private.h"

#include "common/log.h"
#include "daemon/gates.h"
#include "daemon/planner.h"

#include <libvirt/libvirt.h>
#include <string.h>

#define TURN_MAXIMUM_MS 900
/* VIR_MIGRATE_PARAM_BANDWIDTH_AVAIL_SWITCHOVER, which headers before 11.1 do not have. */
#define PARAM_SWITCHOVER "bandwidth.avail.switchover"

/* ---- answering, and what both ends use ---------------------------------- */

GVariant *
calls_answer_new(const Migration *migration, bool with_parameters, const char *cookie_element,
                 const char *domain_xml)
{
    GVariantDict answer;
    GVariantDict parameters;

    g_variant_dict_init(&answer, NULL);
    g_variant_dict_insert(&answer, "ticket", "t", migration ? migration->ticket : (uint64_t)0);
    if (migration == NULL)
        return g_variant_dict_end(&answer);
    g_variant_dict_insert(&answer, "wait", "b", migration->machine.state == MIGRATION_WAITING);
    g_variant_dict_insert(&answer, "flags", "t", migration->flags);
    g_variant_dict_init(&parameters, NULL);
    if (with_parameters && migration->has_limits) {
        if (migration->user_bandwidth_mib == 0)
            g_variant_dict_insert(&parameters, VIR_MIGRATE_PARAM_BANDWIDTH, "t",
                                  migration->limits.max_bandwidth);
        if (migration->switchover_mib != 0)
            g_variant_dict_insert(&parameters, PARAM_SWITCHOVER, "t", migration->switchover_mib);
        if ((migration->flags & VIR_MIGRATE_POSTCOPY) &&
            migration->user_post_copy_bandwidth_mib == 0)
            g_variant_dict_insert(&parameters, VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY, "t",
                                  migration->limits.post_copy);
    }
    if (migration->parallel > 1)
        g_variant_dict_insert(&parameters, VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS, "i",
                              (int)migration->parallel);
    g_variant_dict_insert_value(&answer, "parameters", g_variant_dict_end(&parameters));
    if (cookie_element != NULL)
        g_variant_dict_insert(&answer, "cookie-element", "s", cookie_element);
    if (domain_xml != NULL)
        g_variant_dict_insert(&answer, "domain-xml", "s", domain_xml);
    return g_variant_dict_end(&answer);
}

GVariant *
calls_answer_aborted(uint64_t ticket)
{
    GVariantDict answer;

    g_variant_dict_init(&answer, NULL);
    g_variant_dict_insert(&answer, "ticket", "t", ticket);
    g_variant_dict_insert(&answer, "wait", "b", TRUE);
    return g_variant_dict_end(&answer);
}

void
calls_fill_report(const Manager *manager, const Migration *migration, PeerReport *ret_report)
{
    uint64_t lower;
    uint64_t upper;

    peer_report_init(ret_report);
    ret_report->role =
        migration->machine.role == MIGRATION_ROLE_SOURCE ? PEER_ROLE_SOURCE : PEER_ROLE_DESTINATION;
    ret_report->qemu_version = hypervisor_qemu_version(manager->hypervisor);
    ret_report->libvirt_version = hypervisor_libvirt_version(manager->hypervisor);
    ret_report->link_rate = network_usable_rate(manager->network);
    ret_report->host = network_host_rates(manager->network);
    ret_report->priority_set = true;
    ret_report->priority = migration->priority;
    ret_report->post_copy_possible = migration->machine.post_copy_possible;
    registry_sum_limits(manager->registry, planner_limits_count_here, manager, &lower, &upper);
    ret_report->sla_lower = (PeerNumber){ true, lower };
    if (upper != 0)
        ret_report->sla_upper = (PeerNumber){ true, upper };
}

void
calls_ask_for_post_copy(Migration *migration)
{
    if (migration->allowed & (TECHNIQUE_ALLOW_POST_COPY | TECHNIQUE_ALLOW_HYBRID))
        migration->flags |= VIR_MIGRATE_POSTCOPY;
    migration->machine.post_copy_possible = migration->flags & VIR_MIGRATE_POSTCOPY;
}

/* Without a UUID libvirt could not be asked about it, nor its end be seen. */
bool
calls_may_follow(const Manager *manager, MigrationRole role, const char *uuid, const char *name)
{
    const char *reason =
        uuid != NULL ? manager_refusal(manager, role, uuid, name) : "the call carries no UUID";

    if (reason != NULL)
        log_event(CONFIG_LOG_WARNING, "call-not-followed", "domain: %s, role: %s, reason: %s", name,
                  migration_role_to_string(role), reason);
    return reason == NULL;
}

bool
calls_hold(Manager *manager, Migration *migration)
{
    unsigned held = manager_count_held(manager);
    unsigned capacity = workers_capacity(manager->workers, manager->config->held_calls_maximum);

    if (held >= capacity) {
        migration_note(migration, "not-held", "held_calls: %u, limit: %u", held, capacity);
        return false;
    }
    migration->machine.state = MIGRATION_WAITING;
    migration->polled_us = g_get_monotonic_time();
    manager_schedule(manager);
    if (migration->machine.state != MIGRATION_WAITING)
        return false;
    migration_note(migration, "waiting", "reason: %s",
                   migration->schedule_reason ? migration->schedule_reason : "-");
    workers_follow(manager->workers, manager_count_busy(manager));
    return true;
}

/* ---- entry points of the interface ------------------------------------- */

void
calls_enter(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
            const char *entry, GVariant *dictionary)
{
    g_autoptr(GError) error = NULL;
    GVariant *answer = NULL;
    g_auto(Call) call = { 0 };

    calls_read(dictionary, &call);
    if (call.name == NULL || call.name[0] == '\0' || strlen(call.name) > NAME_MAXIMUM ||
        !gate_is_steerable(call.flags)) {
        convoy_daemon1_complete_enter_call(skeleton, invocation,
                                           calls_answer_new(NULL, false, NULL, NULL));
        return;
    }
    /* A daemon that was stopped finds it waiting; the migration may be over by now. */
    if (call.late) {
        log_event(CONFIG_LOG_WARNING, "call-late", "domain: %s, entry: %.32s", call.name, entry);
        convoy_daemon1_complete_enter_call(skeleton, invocation,
                                           calls_answer_new(NULL, false, NULL, NULL));
        return;
    }
    /* A direct perform goes on with the record that its begin made. */
    if ((g_str_equal(entry, "begin") ||
         (g_str_equal(entry, "perform") &&
          ((call.flags & VIR_MIGRATE_PEER2PEER) ||
           manager_find(manager, MIGRATION_ROLE_SOURCE, call.uuid, call.name) == NULL))) &&
        !calls_may_follow(manager, MIGRATION_ROLE_SOURCE, call.uuid, call.name)) {
        convoy_daemon1_complete_enter_call(skeleton, invocation,
                                           calls_answer_new(NULL, false, NULL, NULL));
        return;
    }
    if (g_str_equal(entry, "perform")) {
        calls_perform(manager, skeleton, invocation, &call);
        return;
    }
    if (g_str_equal(entry, "begin"))
        answer = calls_begin(manager, &call, &error);
    else if (g_str_equal(entry, "prepare") || g_str_equal(entry, "prepare-tunnel"))
        answer = calls_prepare(manager, &call, &error);
    else
        answer = calls_answer_new(NULL, false, NULL, NULL);
    if (answer != NULL) {
        convoy_daemon1_complete_enter_call(skeleton, invocation, answer);
    } else {
        if (error == NULL)
            g_set_error_literal(&error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                                "the call carries no domain XML");
        log_event(CONFIG_LOG_WARNING, "call-unusable", "entry: %s, domain: %s, reason: %s", entry,
                  call.name, error->message);
        g_dbus_method_invocation_return_gerror(invocation, error);
    }
}

typedef struct {
    Manager *manager;
    uint64_t ticket;
} Turn;

static gboolean
turn_still_waiting(gpointer data)
{
    Turn *turn = data;
    Migration *migration = manager_find_ticket(turn->manager, turn->ticket);

    if (migration != NULL) {
        migration->turn_timer = 0;
        migration->polled_us = g_get_monotonic_time();
        if (migration->waiting_turn != NULL)
            g_dbus_method_invocation_return_value(
                g_steal_pointer(&migration->waiting_turn),
                g_variant_new("(ss)", "waiting",
                              migration->schedule_reason ? migration->schedule_reason : ""));
    }
    return G_SOURCE_REMOVE;
}

void
calls_wait_turn(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
                uint64_t ticket)
{
    Migration *migration = manager_find_ticket(manager, ticket);
    Turn *turn;

    if (migration == NULL) {
        bool aborted = manager_was_aborted(manager, ticket);

        convoy_daemon1_complete_wait_turn(skeleton, invocation, aborted ? "aborted" : "go",
                                          aborted ? "it was aborted while it waited" : "");
        return;
    }
    /* The caller asks again because it gave the first answer up: it still waits. */
    if (migration->turn_timer != 0)
        g_source_remove(migration->turn_timer);
    migration->turn_timer = 0;
    if (migration->waiting_turn != NULL)
        g_dbus_method_invocation_return_value(g_steal_pointer(&migration->waiting_turn),
                                              g_variant_new("(ss)", "waiting", ""));
    migration->polled_us = g_get_monotonic_time();
    migration->waiting_turn = invocation;
    if (migration->machine.state != MIGRATION_WAITING) {
        /* Admitted between two questions: an incoming one is not in the plan yet. */
        if (migration->machine.role == MIGRATION_ROLE_DESTINATION &&
            migration->machine.state == MIGRATION_ADMITTED)
            manager_transfer(manager, migration, NULL, NULL);
        manager_answer_turn(manager, migration);
        return;
    }
    turn = g_new0(Turn, 1);
    turn->manager = manager;
    turn->ticket = ticket;
    migration->turn_timer =
        g_timeout_add_full(G_PRIORITY_DEFAULT, TURN_MAXIMUM_MS, turn_still_waiting, turn, g_free);
}

/* NULL: none is held. */
static Migration *
find_waiting(const Manager *manager, const char *uuid)
{
    Migration *migration = manager_find(manager, MIGRATION_ROLE_SOURCE, uuid, NULL);

    return migration != NULL && migration->machine.state == MIGRATION_WAITING ? migration : NULL;
}

void
calls_abort_waiting(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
                    const char *uuid)
{
    static const MigrationInput abort_input = { .type = MIGRATION_INPUT_ABORT };
    Migration *migration = find_waiting(manager, uuid);

    if (migration != NULL)
        manager_input(manager, migration, &abort_input);
    convoy_daemon1_complete_abort_waiting(skeleton, invocation, migration != NULL);
}

void
calls_release_waiting(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
                      const char *uuid)
{
    Migration *migration = find_waiting(manager, uuid);

    if (migration != NULL)
        manager_let_in(manager, migration, "its caller's --timeout is up");
    convoy_daemon1_complete_release_waiting(skeleton, invocation, migration != NULL);
}
