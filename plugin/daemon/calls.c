/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls of the plugin and the hook; see calls.h. */
#include "daemon/calls.h"

#include "common/domain_offer.h"
#include "common/ipc.h"
#include "common/log.h"
#include "daemon/gates.h"
#include "daemon/peer-address.h"
#include "daemon/planner.h"
#include "decision/parallel.h"

#include <errno.h>
#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ANSWER_MAXIMUM_MS 1000
#define TURN_MAXIMUM_MS 900
#define NAME_MAXIMUM 4096u
#define URI_MAXIMUM 4096u
#define MESSAGE_MAXIMUM 1024u
/* VIR_MIGRATE_PARAM_BANDWIDTH_AVAIL_SWITCHOVER, which headers before 11.1 do not have. */
#define PARAM_SWITCHOVER "bandwidth.avail.switchover"
#define SWITCHOVER_LIBVIRT 11001000u
#define SWITCHOVER_QEMU 8002000u
#define HOOK_FOLLOWS_PLUGIN_US (60 * G_USEC_PER_SEC)

/* ---- reading a call ---------------------------------------------------- */

typedef struct {
    GVariant *parameters; /* owns what migrate_uri points to */
    const char *uuid;
    const char *name;
    const char *domain_xml;
    const char *cookie;
    const char *destination_uri;
    const char *migrate_uri;
    uint64_t flags;
    uint64_t bandwidth_mib;
    uint64_t post_copy_bandwidth_mib;
    bool has_connections;
    bool renamed;
    bool cancelled;
    bool late; /* its caller has gone on without us */
} Call;

static const char *
text_within(const char *text, size_t maximum)
{
    return text != NULL && strnlen(text, maximum + 1) <= maximum ? text : NULL;
}

static void
call_clear(Call *call)
{
    g_clear_pointer(&call->parameters, g_variant_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Call, call_clear)

/* The texts live as long as dictionary and the call. */
static void
call_read(GVariant *dictionary, Call *ret_call)
{
    const char *other_name = NULL;
    GVariant *parameters = g_variant_lookup_value(dictionary, "parameters", G_VARIANT_TYPE_VARDICT);
    gboolean cancelled = FALSE;
    gint64 deadline = G_MAXINT64;

    memset(ret_call, 0, sizeof(*ret_call));
    ret_call->parameters = parameters;
    g_variant_lookup(dictionary, "uuid", "&s", &ret_call->uuid);
    g_variant_lookup(dictionary, "name", "&s", &ret_call->name);
    g_variant_lookup(dictionary, "domain-xml", "&s", &ret_call->domain_xml);
    g_variant_lookup(dictionary, "cookie-in", "&s", &ret_call->cookie);
    g_variant_lookup(dictionary, "destination-uri", "&s", &ret_call->destination_uri);
    g_variant_lookup(dictionary, "cancelled", "b", &cancelled);
    ret_call->cancelled = cancelled;
    g_variant_lookup(dictionary, "deadline", "x", &deadline);
    ret_call->late = g_get_monotonic_time() >= deadline;
    if (ret_call->uuid != NULL && !g_uuid_string_is_valid(ret_call->uuid))
        ret_call->uuid = NULL;
    ret_call->destination_uri = text_within(ret_call->destination_uri, URI_MAXIMUM);
    ret_call->flags = ipc_lookup_number(dictionary, "flags");
    if (parameters == NULL)
        return;
    g_variant_lookup(parameters, VIR_MIGRATE_PARAM_URI, "&s", &ret_call->migrate_uri);
    ret_call->migrate_uri = text_within(ret_call->migrate_uri, URI_MAXIMUM);
    ret_call->renamed =
        g_variant_lookup(parameters, VIR_MIGRATE_PARAM_DEST_NAME, "&s", &other_name);
    ret_call->bandwidth_mib = ipc_lookup_number(parameters, VIR_MIGRATE_PARAM_BANDWIDTH);
    ret_call->post_copy_bandwidth_mib =
        ipc_lookup_number(parameters, VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY);
    ret_call->has_connections =
        ipc_lookup_number(parameters, VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS) != 0;
}

/* Into the record: what the caller chose, and what it excludes. */
static bool
call_apply(Manager *manager, Migration *migration, const Call *call, GError **error)
{
    if (call->domain_xml != NULL) {
        DomainDescription *description = domain_description_parse(call->domain_xml, -1, error);

        if (description == NULL)
            return false;
        manager_describe(manager, migration, description);
    }
    migration->user_flags = call->flags;
    migration->flags = call->flags;
    migration->peer_to_peer = call->flags & VIR_MIGRATE_PEER2PEER;
    migration->tunnelled = call->flags & VIR_MIGRATE_TUNNELLED;
    migration->post_copy_by_user = call->flags & VIR_MIGRATE_POSTCOPY;
    migration->recovery.renamed = call->renamed;
    migration->user_bandwidth_mib = call->bandwidth_mib;
    migration->user_post_copy_bandwidth_mib = call->post_copy_bandwidth_mib;
    if (!migration->post_copy_by_user)
        manager_exclude_post_copy(migration, gate_post_copy_flags(call->flags, call->migrate_uri));
    return true;
}

/* ---- answering --------------------------------------------------------- */

static GVariant *
answer_new(const Migration *migration, bool with_parameters, const char *cookie_element,
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

/* An answer that waits for the network; the timer bounds it. */
typedef struct {
    int references;
    Manager *manager;
    ConvoyDaemon1 *skeleton;
    GDBusMethodInvocation *invocation; /* NULL once answered */
    uint64_t ticket;
    guint timer;
} Pending;

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

/*
 * QEMU ends pre-copy when what is left fits the downtime at the rate it measures:
 * under the caller's own limit that is less than the class really gives to the
 * switchover. Only what the class guarantees is told, so that the downtime holds.
 */
static void
find_switchover(const Manager *manager, Migration *migration)
{
    const Reservation *reservation = &manager->side[SHAPING_EGRESS].reservation;
    uint64_t guaranteed;

    migration->switchover_mib = 0;
    if (!migration->peer_to_peer || migration->user_bandwidth_mib == 0 ||
        !manager->side[SHAPING_EGRESS].has_reservation ||
        !network_is_shaped(manager->network, SHAPING_EGRESS) ||
        hypervisor_libvirt_version(manager->hypervisor) < SWITCHOVER_LIBVIRT ||
        hypervisor_qemu_version(manager->hypervisor) < SWITCHOVER_QEMU)
        return;
    guaranteed = reservation->leaf[migration->priority].rate >> 20;
    if (guaranteed > migration->user_bandwidth_mib)
        migration->switchover_mib = guaranteed;
}

static void
pending_answer(Pending *pending)
{
    Migration *migration = manager_find_ticket(pending->manager, pending->ticket);

    if (pending->invocation == NULL)
        return;
    if (migration != NULL)
        find_switchover(pending->manager, migration);
    convoy_daemon1_complete_enter_call(pending->skeleton, g_steal_pointer(&pending->invocation),
                                       answer_new(migration, true, NULL, NULL));
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
pending_shaped(const GError *error, gpointer data)
{
    Pending *pending = data;
    Migration *migration = manager_find_ticket(pending->manager, pending->ticket);

    if (migration != NULL && error != NULL)
        migration_note(migration, "unshaped", "reason: %s, instead: QEMU's own limits",
                       error->message);
    pending_answer(pending);
    if (pending->timer != 0) {
        g_source_remove(pending->timer);
        pending->timer = 0;
        pending->references--;
    }
    pending_unref(pending);
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
    migration->answer_pending = false;
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
    if (migration->machine.state == MIGRATION_WAITING)
        pending_shaped(NULL, pending); /* its turn comes later, through WaitTurn */
    else
        manager_transfer(pending->manager, migration, pending_shaped, pending);
}

/* ---- the source -------------------------------------------------------- */

static void
report_fill(const Manager *manager, const Migration *migration, PeerReport *ret_report)
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
    registry_sum_limits(manager->registry, NULL, NULL, &lower, &upper);
    ret_report->sla_lower = (PeerNumber){ true, lower };
    if (upper != 0)
        ret_report->sla_upper = (PeerNumber){ true, upper };
}

static unsigned
propose_parallel(const Manager *manager, const Migration *migration, uint32_t destination_qemu,
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
        .one_stream_rate = manager->config->one_stream_rate,
        .setting = manager->config->parallel_connections,
    };

    if (migration->decision.technique != TECHNIQUE_PRE_COPY ||
        gate_parallel_flags(migration->user_flags, migration->migrate_uri, false) != NULL)
        return 0;
    return parallel_connections(&input);
}

/* What is not forbidden may become necessary: ask for it while it can be had. */
static void
ask_for_post_copy(Migration *migration)
{
    if (migration->allowed & (TECHNIQUE_ALLOW_POST_COPY | TECHNIQUE_ALLOW_HYBRID))
        migration->flags |= VIR_MIGRATE_POSTCOPY;
    migration->machine.post_copy_possible = migration->flags & VIR_MIGRATE_POSTCOPY;
}

static void
hold_if_not_its_turn(Manager *manager, Migration *migration)
{
    unsigned held = manager_count_held(manager);
    unsigned capacity = workers_capacity(manager->workers, manager->config->held_calls_maximum);

    if (held >= capacity) {
        migration_note(migration, "not-held", "held_calls: %u, limit: %u", held, capacity);
        return;
    }
    migration->machine.state = MIGRATION_WAITING;
    migration->polled_us = g_get_monotonic_time();
    manager_schedule(manager);
    if (migration->machine.state != MIGRATION_WAITING)
        return;
    migration_note(migration, "waiting", "reason: %s",
                   migration->schedule_reason ? migration->schedule_reason : "-");
    workers_follow(manager->workers, held + 1);
    planner_estimate_starts(manager);
    manager_measure_dirty_rate(manager, migration);
}

/* Without a UUID libvirt could not be asked about it, nor its end be seen. */
static bool
call_may_be_followed(const Manager *manager, MigrationRole role, const char *uuid, const char *name)
{
    const char *reason =
        uuid != NULL ? manager_refusal(manager, role, uuid, name) : "the call carries no UUID";

    if (reason != NULL)
        log_event(CONFIG_LOG_WARNING, "call-not-followed", "domain: %s, role: %s, reason: %s", name,
                  migration_role_to_string(role), reason);
    return reason == NULL;
}

static Migration *
source_new(Manager *manager, const Call *call, GError **error)
{
    Migration *migration = manager_add(manager, MIGRATION_ROLE_SOURCE, call->name, call->uuid);

    migration->migrate_uri = g_strdup(call->migrate_uri);
    migration->destination_uri = g_strdup(call->destination_uri);
    if (call_apply(manager, migration, call, error)) {
        manager_measure_memory(manager, migration);
        return migration;
    }
    migration->failure = g_strdup((*error)->message);
    manager_input(manager, migration, &(MigrationInput){ .type = MIGRATION_INPUT_FAILED });
    return NULL;
}

static GVariant *
enter_begin(Manager *manager, const Call *call, GError **error)
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
        ask_for_post_copy(migration);
    report_fill(manager, migration, &report);
    report.vm = migration->description ? network_vm_rates(manager->network, migration->description)
                                       : (TrafficRates){ 0 };
    report.technique_set = true;
    report.technique = migration->decision.technique;
    report.parallel_connections = migration->parallel_proposed;
    if (migration->description != NULL)
        report.memory = (PeerNumber){ true, migration->description->current_memory };
    element = peer_report_to_cookie_element(&report);
    hold_if_not_its_turn(manager, migration);
    return answer_new(migration, false, element, NULL);
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
        if (migration->parallel_proposed != 0 && migration->peer.parallel_connections > 1 &&
            propose_parallel(manager, migration, migration->peer.qemu_version, true) != 0) {
            migration->parallel = migration->peer.parallel_connections;
            migration->flags |= VIR_MIGRATE_PARALLEL;
            manager_exclude_post_copy(migration, "parallel connections are used");
        } else if (migration->peer.post_copy_possible) {
            ask_for_post_copy(migration);
        } else if (migration->allowed & TECHNIQUE_ALLOW_POST_COPY) {
            manager_exclude_post_copy(migration, "the destination did not agree to post-copy");
        }
    } else if (!migration->post_copy_by_user) {
        manager_exclude_post_copy(migration, "the destination has no virt-convoy");
    }
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
    if (migration->parallel > 1) {
        migration->flags |= VIR_MIGRATE_PARALLEL;
        manager_exclude_post_copy(migration, "parallel connections are used");
    } else {
        ask_for_post_copy(migration);
    }
    /* The flag reaches the destination by itself, its offer comes back in the XML. */
    migration->offer_wanted = (migration->flags & VIR_MIGRATE_POSTCOPY) && !migration->tunnelled &&
                              migration->destination_uri != NULL;
}

/*
 * It takes processor time from the guest, which nobody agreed to: only where a
 * measured dirty rate says that nothing else can end the migration. QEMU itself
 * begins to throttle only when passes do not shrink.
 */
static void
add_auto_converge(const Manager *manager, Migration *migration)
{
    const Prediction *prediction = &migration->decision.prediction[TECHNIQUE_PRE_COPY];

    if (!manager->config->auto_converge || migration->machine.post_copy_possible ||
        !migration->has_decision || prediction->converges || prediction->dirty_assumed ||
        gate_auto_converge_flags(migration->user_flags) != NULL)
        return;
    migration->flags |= VIR_MIGRATE_AUTO_CONVERGE;
    migration_note(migration, "auto-converge",
                   "added: post-copy is excluded and pre-copy is not expected to end, dirty_rate: "
                   "%" G_GUINT64_FORMAT " B/s, rate: %" G_GUINT64_FORMAT " B/s",
                   (uint64_t)migration->decision.dirty_rate, migration->decision.rate_pre);
}

static void
enter_perform(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
              const Call *call)
{
    bool peer_to_peer = call->flags & VIR_MIGRATE_PEER2PEER;
    Migration *migration =
        peer_to_peer ? NULL : manager_find(manager, MIGRATION_ROLE_SOURCE, call->uuid, call->name);
    static const MigrationInput turn = { .type = MIGRATION_INPUT_TURN };
    MigrationInput decided = { .type = MIGRATION_INPUT_DECIDED };
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
    if (peer_to_peer) {
        perform_peer_to_peer_agree(manager, migration);
    } else {
        perform_direct_agree(manager, migration, call);
        manager_decide(manager, migration);
    }
    add_auto_converge(manager, migration);
    if (!migration->offer_wanted) {
        decided.technique = migration->decision.technique;
        manager_input(manager, migration, &decided);
    }
    if (!(call->flags & (VIR_MIGRATE_NON_SHARED_DISK | VIR_MIGRATE_NON_SHARED_INC)))
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
    pending->timer = g_timeout_add(ANSWER_MAXIMUM_MS, pending_late, pending);
    peer_address_resolve(migration->migrate_uri, migration->destination_uri, pending_resolved,
                         pending);
}

/* ---- the destination --------------------------------------------------- */

/* errno of making one, 0: it went well. */
static int
userfaultfd_try(void)
{
    long descriptor = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    if (descriptor < 0)
        return errno;
    close((int)descriptor);
    return 0;
}

static void
prepare_agree(Manager *manager, Migration *migration, const Call *call)
{
    g_autoptr(GError) error = NULL;
    uint32_t qemu = hypervisor_qemu_version(manager->hypervisor);

    migration->machine.post_copy_possible = migration->flags & VIR_MIGRATE_POSTCOPY;
    if (migration->peer_to_peer || call->cookie == NULL ||
        !peer_report_from_cookie(call->cookie, -1, &migration->peer, &error) ||
        migration->peer.role != PEER_ROLE_SOURCE)
        return;
    migration->peer_known = true;
    if (migration->peer.priority_set &&
        !(migration->description && migration->description->metadata.priority_set))
        migration->priority = migration->peer.priority;
    if (migration->peer.parallel_connections > 1) {
        if (gate_parallel_flags(migration->user_flags, call->migrate_uri, false) == NULL &&
            technique_gate_versions(TECHNIQUE_PRE_COPY, migration->peer.qemu_version, qemu)) {
            migration->parallel =
                MIN(migration->peer.parallel_connections, PARALLEL_CONNECTIONS_MAX);
            migration->flags |= VIR_MIGRATE_PARALLEL;
        }
    } else if (migration->peer.post_copy_possible) {
        manager_exclude_post_copy(migration, gate_post_copy_userfaultfd(userfaultfd_try()));
        ask_for_post_copy(migration);
    }
}

static char *
prepare_offer_xml(Manager *manager, Migration *migration, const char *domain_xml)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *element = NULL;
    PeerReport report;
    char *xml;

    report_fill(manager, migration, &report);
    element = peer_report_to_offer(&report);
    xml = domain_offer_insert(domain_xml, element, &error);
    if (xml == NULL)
        migration_note(migration, "offer-not-added", "reason: %s", error->message);
    migration->offer_added = xml != NULL;
    return xml;
}

static Migration *
destination_new(Manager *manager, const char *name, DomainDescription *description)
{
    Migration *migration =
        manager_add(manager, MIGRATION_ROLE_DESTINATION, name ? name : description->name,
                    description ? description->uuid : NULL);

    if (description != NULL)
        manager_describe(manager, migration, description);
    return migration;
}

/* Several hosts may push here, and none of them knows of the others. */
static void
hold_if_no_room(Manager *manager, Migration *migration)
{
    if (manager_count_held(manager) >=
        workers_capacity(manager->workers, manager->config->held_calls_maximum))
        return;
    migration->machine.state = MIGRATION_WAITING;
    migration->polled_us = g_get_monotonic_time();
    manager_schedule(manager);
    if (migration->machine.state != MIGRATION_WAITING)
        return;
    migration_note(migration, "waiting", "reason: %s",
                   migration->schedule_reason ? migration->schedule_reason : "-");
    workers_follow(manager->workers, manager_count_held(manager));
}

static GVariant *
enter_prepare(Manager *manager, const Call *call, GError **error)
{
    g_autoptr(DomainDescription) description =
        call->domain_xml ? domain_description_parse(call->domain_xml, -1, error) : NULL;
    g_autofree char *element = NULL;
    g_autofree char *xml = NULL;
    Migration *migration;
    PeerReport report;
    Call without_xml = *call;

    if (description == NULL)
        return NULL;
    without_xml.domain_xml = NULL;
    if (!call_may_be_followed(manager, MIGRATION_ROLE_DESTINATION, description->uuid, call->name))
        return answer_new(NULL, false, NULL, NULL);
    migration = destination_new(manager, call->name, g_steal_pointer(&description));
    if (!call_apply(manager, migration, &without_xml, error))
        return NULL;
    prepare_agree(manager, migration, call);
    report_fill(manager, migration, &report);
    report.parallel_connections = migration->parallel;
    element = peer_report_to_cookie_element(&report);
    if (migration->peer_to_peer && !migration->tunnelled &&
        (migration->flags & VIR_MIGRATE_POSTCOPY))
        xml = prepare_offer_xml(manager, migration, call->domain_xml);
    migration_note(migration, "prepare",
                   "flags_given: 0x%" G_GINT64_MODIFIER "x, flags_used: 0x%" G_GINT64_MODIFIER
                   "x, source_known: %s",
                   migration->user_flags, migration->flags, migration->peer_known ? "yes" : "no");
    migration->source_host = call->cookie != NULL ? peer_cookie_host(call->cookie, -1) : 0;
    hold_if_no_room(manager, migration);
    if (migration->machine.state != MIGRATION_WAITING)
        manager_transfer(manager, migration, NULL, NULL);
    return answer_new(migration, false, element, xml);
}

/* ---- entry points of the interface ------------------------------------- */

void
calls_enter(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
            const char *entry, GVariant *dictionary)
{
    g_autoptr(GError) error = NULL;
    GVariant *answer = NULL;
    g_auto(Call) call = { 0 };

    call_read(dictionary, &call);
    if (call.name == NULL || call.name[0] == '\0' || strlen(call.name) > NAME_MAXIMUM ||
        !gate_is_steerable(call.flags)) {
        convoy_daemon1_complete_enter_call(skeleton, invocation,
                                           answer_new(NULL, false, NULL, NULL));
        return;
    }
    /* A daemon that was stopped finds it waiting; the migration may be over by now. */
    if (call.late) {
        log_event(CONFIG_LOG_WARNING, "call-late", "domain: %s, entry: %.32s", call.name, entry);
        convoy_daemon1_complete_enter_call(skeleton, invocation,
                                           answer_new(NULL, false, NULL, NULL));
        return;
    }
    /* A direct perform goes on with the record that its begin made. */
    if ((g_str_equal(entry, "begin") ||
         (g_str_equal(entry, "perform") &&
          ((call.flags & VIR_MIGRATE_PEER2PEER) ||
           manager_find(manager, MIGRATION_ROLE_SOURCE, call.uuid, call.name) == NULL))) &&
        !call_may_be_followed(manager, MIGRATION_ROLE_SOURCE, call.uuid, call.name)) {
        convoy_daemon1_complete_enter_call(skeleton, invocation,
                                           answer_new(NULL, false, NULL, NULL));
        return;
    }
    if (g_str_equal(entry, "perform")) {
        enter_perform(manager, skeleton, invocation, &call);
        return;
    }
    if (g_str_equal(entry, "begin"))
        answer = enter_begin(manager, &call, &error);
    else if (g_str_equal(entry, "prepare") || g_str_equal(entry, "prepare-tunnel"))
        answer = enter_prepare(manager, &call, &error);
    else
        answer = answer_new(NULL, false, NULL, NULL);
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

static void
leave_source(Manager *manager, Migration *migration, const char *entry, bool success)
{
    MigrationInput input = { .type = MIGRATION_INPUT_FAILED };

    if (migration->recovery.broken)
        return; /* the caller's phases say nothing any more: libvirt's events do */
    if (success && (g_str_equal(entry, "begin") ||
                    (g_str_equal(entry, "perform") && !migration->peer_to_peer)))
        return; /* the next phase follows */
    if (success)
        input.type = MIGRATION_INPUT_SUCCEEDED;
    /* libvirt keeps such a VM on both hosts; what became of it is seen by polling. */
    if (!success && migration->machine.state == MIGRATION_POST_COPY)
        manager_post_copy_broke(manager, migration, migration->failure);
    else
        manager_input(manager, migration, &input);
}

static void
leave_destination(Manager *manager, Migration *migration, const char *entry, bool success,
                  GVariant *result)
{
    MigrationInput input = { .type = MIGRATION_INPUT_FAILED };
    const char *uri = NULL;

    if (success && g_str_has_prefix(entry, "prepare")) {
        g_variant_lookup(result, "uri-out", "&s", &uri);
        migration->job_seen = true; /* the incoming QEMU runs */
        if (!(migration->flags & (VIR_MIGRATE_NON_SHARED_DISK | VIR_MIGRATE_NON_SHARED_INC)))
            peer_port_from_uri(uri, &migration->port_first, &migration->port_last);
        return;
    }
    if (success)
        input.type = MIGRATION_INPUT_SUCCEEDED;
    manager_input(manager, migration, &input);
}

static bool
entry_fits(const Migration *migration, const char *entry)
{
    static const char *const source[] = { "begin", "perform", "confirm", NULL };
    static const char *const destination[] = { "prepare", "prepare-tunnel", "finish", NULL };

    return g_strv_contains(migration->machine.role == MIGRATION_ROLE_SOURCE ? source : destination,
                           entry);
}

void
calls_leave(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
            const char *entry, uint64_t ticket, GVariant *result)
{
    Migration *migration = manager_find_ticket(manager, ticket);
    gboolean success = FALSE;
    gboolean retried = FALSE;
    const char *message = NULL;

    convoy_daemon1_complete_leave_call(skeleton, invocation);
    if (migration == NULL || !migration_is_active(migration))
        return;
    if (!entry_fits(migration, entry)) {
        log_event(CONFIG_LOG_WARNING, "call-unusable", "domain: %s, role: %s, left: %.32s",
                  migration->name, migration_role_to_string(migration->machine.role), entry);
        return;
    }
    g_variant_lookup(result, "success", "b", &success);
    g_variant_lookup(result, "retried", "b", &retried);
    g_variant_lookup(result, "error-message", "&s", &message);
    if (retried) {
        migration->flags = migration->user_flags;
        migration->parallel = 0;
        manager_exclude_post_copy(migration, "libvirt refused what was added");
        migration->machine.post_copy_possible = migration->post_copy_by_user;
        migration_note(migration, "retried", "entry: %s, used: the caller's own flags", entry);
    }
    if (!success) {
        g_free(migration->failure);
        migration->failure =
            g_strdup_printf("%s: %.*s", entry, (int)MESSAGE_MAXIMUM, message ? message : "failed");
    }
    if (migration->machine.role == MIGRATION_ROLE_SOURCE)
        leave_source(manager, migration, entry, success);
    else
        leave_destination(manager, migration, entry, success, result);
}

void
calls_abort_waiting(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
                    const char *uuid)
{
    static const MigrationInput abort_input = { .type = MIGRATION_INPUT_ABORT };
    Migration *migration = manager_find(manager, MIGRATION_ROLE_SOURCE, uuid, NULL);
    bool waiting = migration != NULL && migration->machine.state == MIGRATION_WAITING;

    if (waiting)
        manager_input(manager, migration, &abort_input);
    convoy_daemon1_complete_abort_waiting(skeleton, invocation, waiting);
}

/* ---- the hook ---------------------------------------------------------- */

static char *
hook_incoming(Manager *manager, const char *domain, const char *xml)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDescription) parsed = domain_description_parse(xml, -1, &error);
    DomainDescription *description = parsed;
    Migration *migration;

    if (description == NULL) {
        log_event(CONFIG_LOG_WARNING, "hook-xml-unreadable", "domain: %s, reason: %s", domain,
                  error->message);
        return NULL;
    }
    migration = manager_find(manager, MIGRATION_ROLE_DESTINATION, description->uuid, domain);
    if (migration != NULL && !migration->from_hook &&
        g_get_monotonic_time() - migration->created_us < HOOK_FOLLOWS_PLUGIN_US)
        return NULL; /* the plugin announced it and carries the offer */
    if (!call_may_be_followed(manager, MIGRATION_ROLE_DESTINATION, description->uuid, domain))
        return NULL;
    migration = destination_new(manager, domain, g_steal_pointer(&parsed));
    migration->from_hook = true;
    migration_note(migration, "incoming", "announced by: the hook");
    manager_transfer(manager, migration, NULL, NULL);
    /* Printing XML taints the domain: only for VMs that virt-convoy was set up for. */
    if (!description->has_metadata)
        return NULL;
    return prepare_offer_xml(manager, migration, xml);
}

void
calls_notify_hook(Manager *manager, ConvoyDaemon1 *skeleton, GDBusMethodInvocation *invocation,
                  const char *domain, const char *operation, const char *sub_operation,
                  const char *xml)
{
    static const MigrationInput lost = { .type = MIGRATION_INPUT_LOST };
    g_autofree char *xml_out = NULL;
    Migration *migration;

    if (domain[0] == '\0' || strnlen(domain, NAME_MAXIMUM + 1) > NAME_MAXIMUM) {
        log_event(CONFIG_LOG_WARNING, "hook-unusable", "domain: %.64s", domain);
    } else if (g_str_equal(operation, "migrate") && g_str_equal(sub_operation, "begin")) {
        xml_out = hook_incoming(manager, domain, xml);
    } else if (g_str_equal(operation, "release") && !hypervisor_is_connected(manager->hypervisor)) {
        /* Without libvirt's events this is the only word of the end. */
        for (int role = MIGRATION_ROLE_SOURCE; role <= MIGRATION_ROLE_DESTINATION; role++) {
            migration = manager_find(manager, (MigrationRole)role, NULL, domain);
            if (migration != NULL && migration_is_transferring(migration))
                manager_input(manager, migration, &lost);
        }
    }
    convoy_daemon1_complete_notify_hook(skeleton, invocation, 0, FALSE, xml_out ? xml_out : "");
}
