/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls at the host that the migration leaves: begin and perform; see calls-private.h. */
#include "daemon/calls-private.h"

#include "daemon/gates.h"
#include "daemon/peer-address.h"
#include "daemon/planner.h"
#include "decision/parallel.h"

#include <libvirt/libvirt.h>

#define ANSWER_MAXIMUM_MS 1000

/* ---- an answer that waits for the network ------------------------------ */

/* An answer that waits for the network; the timer bounds it. */
typedef struct {
    int references;
    Manager *manager;
    ConvoyDaemon1 *skeleton;
    GDBusMethodInvocation *invocation; /* NULL once answered */
    uint64_t ticket;
    gint64 began_us; /* monotonic */
    guint timer;
} Pending;

static gboolean pending_gathered(gpointer data);

static void
pending_unref(Pending *pending)
{
    if (--pending->references > 0)
        return;
    if (pending->timer != 0)
        g_source_remove(pending->timer);
    g_object_unref(pending->skeleton);
    g_free(pending);
}

/* Only what the class guarantees is told, so that the downtime holds. */
static void
find_switchover(const Manager *manager, Migration *migration)
{
    const Reservation *reservation = &manager->side[SHAPING_EGRESS].reservation;
    uint64_t guaranteed = 0;

    if (manager->side[SHAPING_EGRESS].has_reservation &&
        network_is_shaped(manager->network, SHAPING_EGRESS))
        guaranteed = MIN(migration->share.rate, reservation->leaf[migration->priority].rate) >> 20;
    migration->switchover_mib =
        gate_switchover_mib(migration->user_flags, migration->user_bandwidth_mib, guaranteed,
                            hypervisor_libvirt_version(manager->hypervisor),
                            hypervisor_qemu_version(manager->hypervisor));
}

static void
pending_answer(Pending *pending)
{
    Migration *migration = manager_find_ticket(pending->manager, pending->ticket);
    GVariant *answer;

    if (pending->invocation == NULL)
        return;
    if (migration != NULL) {
        find_switchover(pending->manager, migration);
        if (migration->has_limits && migration->user_bandwidth_mib == 0)
            migration->speed_by_call = migration->limits.max_bandwidth;
        answer = calls_answer_new(migration, true, NULL, NULL);
    } else if (manager_was_aborted(pending->manager, pending->ticket)) {
        answer = calls_answer_aborted(pending->ticket);
    } else {
        answer = calls_answer_new(NULL, false, NULL, NULL);
    }
    convoy_daemon1_complete_enter_call(pending->skeleton, g_steal_pointer(&pending->invocation),
                                       answer);
}

static gboolean
pending_late(gpointer data)
{
    Pending *pending = data;
    Migration *migration = manager_find_ticket(pending->manager, pending->ticket);

    pending->timer = 0;
    if (migration != NULL)
        migration_note(migration, "shaping-late", "the call goes on before the classes stand");
    pending_answer(pending);
    pending_unref(pending);
    return G_SOURCE_REMOVE;
}

static void
pending_shaped(const GError *error G_GNUC_UNUSED, gpointer data)
{
    Pending *pending = data;

    pending_answer(pending);
    if (pending->timer != 0) {
        g_source_remove(pending->timer);
        pending->timer = 0;
        pending->references--;
    }
    pending_unref(pending);
}

/* Classes first, where its turn has come: memory moves as soon as the call goes on. */
static void
pending_go_on(Pending *pending)
{
    Migration *migration = manager_find_ticket(pending->manager, pending->ticket);

    if (migration == NULL || !migration_is_active(migration)) {
        pending_shaped(NULL, pending);
        return;
    }
    migration->answer_pending = false;
    if (migration->machine.state == MIGRATION_WAITING)
        pending_shaped(NULL, pending); /* its turn comes later, through WaitTurn */
    else
        manager_transfer(pending->manager, migration, pending_shaped, pending);
}

/*
 * Only this answer can carry its limits: it waits for what is over in a moment, but
 * within the time that the caller has for it.
 */
static bool
pending_gathers(Pending *pending)
{
    const Migration *migration = manager_find_ticket(pending->manager, pending->ticket);
    gint64 now_us = g_get_monotonic_time();
    gint64 longest_us =
        MIN((gint64)pending->manager->config->call_timeout / 2, ANSWER_MAXIMUM_MS * 3 / 4) * 1000;
    gint64 left_us;

    if (migration == NULL || !migration_is_active(migration))
        return false;
    left_us = planner_gathering_left(pending->manager, migration, now_us);
    if (left_us <= 0 || now_us - pending->began_us + left_us > longest_us)
        return false;
    g_timeout_add((guint)(left_us / 1000) + 1, pending_gathered, pending);
    return true;
}

static gboolean
pending_gathered(gpointer data)
{
    Pending *pending = data;

    manager_schedule(pending->manager);
    if (!pending_gathers(pending))
        pending_go_on(pending);
    return G_SOURCE_REMOVE;
}

static void
pending_resolved(GArray *addresses, const GError *error, gpointer data)
{
    Pending *pending = data;
    Migration *migration = manager_find_ticket(pending->manager, pending->ticket);

    if (migration == NULL || !migration_is_active(migration)) {
        pending_shaped(NULL, pending);
        return;
    }
    if (error != NULL)
        migration_note(migration, "peer-unresolved", "reason: %s, selected by: port alone",
                       error->message);
    else {
        g_array_set_size(migration->peer_addresses, 0); /* a repeated call names it again */
        g_array_append_vals(migration->peer_addresses, addresses->data, addresses->len);
    }
    if (error == NULL) {
        /* A host may have a network of its own for migrations. */
        g_autofree char *peer = flow_address_to_text(&g_array_index(addresses, FlowAddress, 0));

        network_find_uplink(pending->manager->network, peer);
    }
    if (!pending_gathers(pending))
        pending_go_on(pending);
}

static unsigned
propose_parallel(const Manager *manager, Migration *migration, uint32_t destination_qemu,
                 bool both_ends)
{
    uint32_t qemu = hypervisor_qemu_version(manager->hypervisor);
    ParallelInput input = {
        .technique = TECHNIQUE_PRE_COPY,
        .tunnelled = migration->tunnelled,
        .both_ends_agree = both_ends,
        .source_qemu = qemu,
        .destination_qemu = destination_qemu,
        .available_known = network_usable_rate(manager->network) != 0,
        .available = migration->decision.available_pre,
        .one_stream_rate = manager_stream_rate(manager, migration),
        .setting = manager->config->parallel_connections,
        .cores = g_get_num_processors(),
    };
    unsigned connections;

    if (migration->decision.technique != TECHNIQUE_PRE_COPY ||
        gate_parallel_flags(migration->user_flags, migration->migrate_uri, false) != NULL)
        return 0;
    connections = parallel_connections(&input);
    recorder_add(manager->recorder, &(Recording){ .kind = RECORDING_PARALLEL,
                                                  .wall_us = g_get_real_time(),
                                                  .about = migration->name,
                                                  .parallel = { input, { connections } } });
    if (connections != 0)
        migration_note(migration, "parallel",
                       "connections: %u, one_stream: %" G_GUINT64_FORMAT
                       " B/s, available: %" G_GUINT64_FORMAT " B/s, cores: %u",
                       connections, input.one_stream_rate, input.available, input.cores);
    return connections;
}

static void
hold_if_not_its_turn(Manager *manager, Migration *migration)
{
    if (!calls_hold(manager, migration))
        return;
    planner_estimate_starts(manager);
    if (planner_gathering_left(manager, migration, g_get_monotonic_time()) == 0)
        manager_measure_dirty_rate(manager, migration);
}

static Migration *
source_new(Manager *manager, const Call *call, GError **error)
{
    Migration *migration = manager_add(manager, MIGRATION_ROLE_SOURCE, call->name, call->uuid);

    migration->migrate_uri = g_strdup(call->migrate_uri);
    migration->destination_uri = g_strdup(call->destination_uri);
    if (calls_apply(manager, migration, call, error)) {
        /* It is ours, of a migration that has just ended. */
        if (call->bandwidth_mib == 0 &&
            call->standing_bandwidth_mib == speeds_told(manager->speeds, migration->uuid))
            migration->user_bandwidth_mib = 0;
        manager_measure_memory(manager, migration);
        return migration;
    }
    migration->failure = g_strdup((*error)->message);
    manager_input(manager, migration, &(MigrationInput){ .type = MIGRATION_INPUT_FAILED });
    return NULL;
}

GVariant *
calls_begin(Manager *manager, const Call *call, GError **error)
{
    Migration *migration = source_new(manager, call, error);
    g_autofree char *element = NULL;
    PeerReport report;

    if (migration == NULL)
        return NULL;
    manager_decide(manager, migration);
    /* The destination's version is not known yet: it agrees or does not. */
    migration->parallel_proposed =
        propose_parallel(manager, migration, hypervisor_qemu_version(manager->hypervisor), true);
    if (migration->parallel_proposed == 0)
        calls_ask_for_post_copy(migration);
    calls_fill_report(manager, migration, &report);
    report.vm = migration->description ? network_vm_rates(manager->network, migration->description)
                                       : (TrafficRates){ 0 };
    report.technique_set = true;
    report.technique = migration->decision.technique;
    report.parallel_connections = migration->parallel_proposed;
    if (migration->description != NULL)
        report.memory = (PeerNumber){ true, migration->description->current_memory };
    element = peer_report_to_cookie_element(&report);
    hold_if_not_its_turn(manager, migration);
    return calls_answer_new(migration, false, element, NULL);
}

/* Uses what the destination agreed to, and nothing else. */
static void
perform_direct_agree(Manager *manager, Migration *migration, const Call *call)
{
    g_autoptr(GError) error = NULL;

    migration->flags = migration->user_flags;
    if (call->cookie != NULL &&
        peer_report_from_cookie(call->cookie, -1, &migration->peer, &error) &&
        migration->peer.role == PEER_ROLE_DESTINATION) {
        migration->peer_known = true;
        /* Its QEMU waits for them: what was agreed on is not weighed once more. */
        if (migration->parallel_proposed != 0 && migration->peer.parallel_connections > 1 &&
            technique_gate_versions(TECHNIQUE_PRE_COPY,
                                    hypervisor_qemu_version(manager->hypervisor),
                                    migration->peer.qemu_version)) {
            migration->parallel = migration->peer.parallel_connections;
            migration->flags |= VIR_MIGRATE_PARALLEL;
            manager_exclude_post_copy(migration, "parallel connections are used");
        } else if (migration->peer.post_copy_possible) {
            calls_ask_for_post_copy(migration);
        } else if (migration->allowed & TECHNIQUE_ALLOW_POST_COPY) {
            manager_exclude_post_copy(migration, "the destination did not agree to post-copy");
        }
    } else if (!migration->post_copy_by_user) {
        manager_exclude_post_copy(migration, "the destination has no virt-convoy");
    }
    migration->parallel_proposed = migration->parallel;
    migration->parallel_settled = true;
    migration->machine.post_copy_possible = migration->flags & VIR_MIGRATE_POSTCOPY;
    if (!migration->machine.post_copy_possible && (migration->allowed & TECHNIQUE_ALLOW_POST_COPY))
        manager_exclude_post_copy(migration, "post-copy was not agreed on");
}

static void
perform_peer_to_peer_agree(Manager *manager, Migration *migration)
{
    uint32_t qemu = hypervisor_qemu_version(manager->hypervisor);

    manager_decide(manager, migration);
    migration->parallel = propose_parallel(manager, migration, qemu, true);
    migration->parallel_settled = true;
    if (migration->parallel > 1) {
        migration->flags |= VIR_MIGRATE_PARALLEL;
        manager_exclude_post_copy(migration, "parallel connections are used");
    } else {
        calls_ask_for_post_copy(migration);
    }
    /* The flag reaches the destination by itself, its offer comes back in the XML. */
    migration->offer_wanted = (migration->flags & VIR_MIGRATE_POSTCOPY) && !migration->tunnelled &&
                              migration->destination_uri != NULL;
}

/*
 * It takes processor time from the guest: only where the configuration agrees, and
 * not where the dirty rate is known to let the migration end. libvirt takes the flag
 * at the start alone, so what is unknown now cannot wait; QEMU itself begins to
 * throttle only when passes do not shrink.
 */
static void
add_auto_converge(const Manager *manager, Migration *migration)
{
    const Prediction *prediction = &migration->decision.prediction[TECHNIQUE_PRE_COPY];

    if (!manager->config->auto_converge || migration->machine.post_copy_possible ||
        !migration->has_decision || (prediction->converges && !prediction->dirty_assumed) ||
        gate_auto_converge_flags(migration->user_flags) != NULL)
        return;
    migration->flags |= VIR_MIGRATE_AUTO_CONVERGE;
    migration_note(migration, "auto-converge",
                   "added: post-copy is excluded and pre-copy is not known to end, dirty_rate: "
                   "%" G_GUINT64_FORMAT " B/s%s, rate: %" G_GUINT64_FORMAT " B/s",
                   (uint64_t)migration->decision.dirty_rate,
                   prediction->dirty_assumed ? " (assumed)" : "", migration->decision.rate_pre);
}

void
calls_perform(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
              const Call *call)
{
    bool peer_to_peer = call->flags & VIR_MIGRATE_PEER2PEER;
    Migration *migration =
        peer_to_peer ? NULL : manager_find(manager, MIGRATION_ROLE_SOURCE, call->uuid, call->name);
    static const MigrationInput turn = { .type = MIGRATION_INPUT_TURN };
    g_autoptr(GError) error = NULL;
    Pending *pending;

    if (migration == NULL) {
        migration = source_new(manager, call, &error);
        if (migration == NULL) {
            g_dbus_method_invocation_return_gerror(invocation, error);
            return;
        }
    } else {
        /* Its begin was held, but nobody waited: memory moves now all the same. */
        manager_input(manager, migration, &turn);
        manager_answer_turn(manager, migration);
    }
    migration->user_flags = call->flags;
    g_free(migration->migrate_uri);
    migration->migrate_uri = g_strdup(call->migrate_uri);
    if (peer_to_peer)
        perform_peer_to_peer_agree(manager, migration);
    else
        perform_direct_agree(manager, migration, call);
    if (!migration->offer_wanted)
        manager_settle(manager, migration, !peer_to_peer);
    add_auto_converge(manager, migration);
    if (!gate_copies_disks(call->flags))
        peer_port_from_uri(call->migrate_uri, &migration->port_first, &migration->port_last);
    migration_note(migration, "perform",
                   "flags_given: 0x%" G_GINT64_MODIFIER "x, flags_used: 0x%" G_GINT64_MODIFIER "x",
                   migration->user_flags, migration->flags);
    migration->answer_pending = true;
    if (peer_to_peer)
        hold_if_not_its_turn(manager, migration);
    pending = g_new0(Pending, 1);
    pending->references = 2; /* the look-up and shaping, and the timer */
    pending->manager = manager;
    pending->skeleton = g_object_ref(skeleton);
    pending->invocation = invocation;
    pending->ticket = migration->ticket;
    pending->began_us = g_get_monotonic_time();
    pending->timer = g_timeout_add(ANSWER_MAXIMUM_MS, pending_late, pending);
    peer_address_resolve(migration->migrate_uri, migration->destination_uri, pending_resolved,
                         pending);
}

void
calls_notify_port(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
                  uint64_t ticket, unsigned port)
{
    Migration *migration = manager_find_ticket(manager, ticket);

    convoy_daemon1_complete_notify_port(skeleton, invocation);
    if (migration == NULL || !migration_is_active(migration) ||
        migration->machine.role != MIGRATION_ROLE_SOURCE || !migration->peer_to_peer ||
        planner_has_other_ports(migration) || port < manager->config->migration_port_first ||
        port > manager->config->migration_port_last)
        return;
    migration->port_first = migration->port_last = port;
    migration_note(migration, "port", "number: %u", port);
    /* Until now its filter took the packets of all peer-to-peer migrations to that host. */
    if (migration->leaf != 0)
        manager_reshape(manager, SHAPING_EGRESS, NULL, NULL);
}
