/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The phases of a migration with the daemon asked before and told after.
 *
 *              direct                                peer-to-peer
 *   source       begin -> [wait] -> real               -
 *   destination  prepare -> real (again plain)         the same, XML only
 *   source       perform -> real                       perform -> [wait] -> real (again plain)
 *   destination  real finish -> told                   the same
 *   source       real confirm -> told                  -
 *
 * In a direct migration each end must know what the other added: the note in
 * the cookie (cookie.h) says so, so a flag is added at Prepare only if the
 * source promised to follow, and at Perform only if Prepare had it too. In a
 * peer-to-peer migration the source's flags travel by themselves and Prepare
 * may not add any. Finish is never held up by a question: the guest is paused.
 *
 * The hook that libvirtd runs within a call knows nothing of all this: a claim tells it not
 * to ask again, at Prepare in any case, at the guest's end where the daemon was given up.
 *
 * libvirt's error of this thread is that of the real function in the end; calls
 * into libvirt of our own come before it, or save and restore the error.
 */
#include "libvirtd/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/ipc_claim.h"
#include "libvirtd/answer.h"
#include "libvirtd/arguments.h"
#include "libvirtd/client.h"
#include "libvirtd/connect.h"
#include "libvirtd/cookie.h"
#include "libvirtd/real.h"
#include "libvirtd/records.h"
#include "libvirtd/rules.h"

#define MATCHING_FLAGS ((uint64_t)VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_PARALLEL)
/* What the source may switch on by itself when it performs. */
#define SOURCE_FLAGS ((uint64_t)VIR_MIGRATE_AUTO_CONVERGE)

/* What one phase carries from its question to its report. */
typedef struct {
    const char *entry;
    ClientBudget budget;
    Answer answer;
    Additions additions;         /* as finally used */
    uint64_t standing_bandwidth; /* MiB/s that the domain was limited to before; 0: not */
    uint64_t held_ms; /* that the call of this end, or at Prepare of the source, waited */
    bool retried;
} Phase;

/*
 * A read-only client may not migrate, and so may not make the daemon act or
 * hold a worker; but only the real function would find out. Ask libvirt the
 * same about a domain that cannot exist: a read-only connection is refused
 * before the driver looks for it, and "no such domain" is not logged.
 */
static bool
connection_may_change(virConnectPtr connection)
{
    static const unsigned char nobody[16] = "virt-convoy-none";
    const Real *real = real_functions();
    virDomainPtr domain;
    virErrorPtr error;
    bool refused;

    if (connection == NULL || real->get_domain == NULL || real->free_domain == NULL ||
        real->abort_job == NULL || real->get_last_error == NULL)
        return false;
    domain = real->get_domain(connection, "virt-convoy-none", nobody, -1);
    if (domain == NULL)
        return false;
    refused = real->abort_job(domain) >= 0;
    error = real->get_last_error();
    refused = refused || error == NULL || error->code != VIR_ERR_NO_DOMAIN;
    real->free_domain(domain);
    return !refused;
}

/* Whether the daemon has a say in this call at all. */
static bool
call_concerns_us(const Call *call, virConnectPtr connection)
{
    /* No memory moves over the network, or it is already being shaped. */
    if (call->asked.flags & (VIR_MIGRATE_OFFLINE | VIR_MIGRATE_POSTCOPY_RESUME))
        return false;
    return connection_may_change(connection);
}

/*
 * A peer-to-peer migration of a paused guest becomes one with VIR_MIGRATE_PAUSED inside
 * libvirt, which then refuses post-copy. In a direct one the client sets that flag itself.
 */
static uint64_t
implied_flags(const Call *call)
{
    const Real *real = real_functions();
    int state, reason;

    if (!(call->asked.flags & VIR_MIGRATE_PEER2PEER) || call->domain == NULL ||
        real->get_state == NULL || real->get_state(call->domain, &state, &reason, 0) < 0)
        return 0;
    return state == VIR_DOMAIN_PAUSED ? VIR_MIGRATE_PAUSED : 0;
}

/* What somebody gave `virsh migrate-setspeed`, MiB/s; 0: nothing. It counts as the caller's. */
static uint64_t
standing_bandwidth(virDomainPtr domain)
{
    const Real *real = real_functions();
    unsigned long mib = 0;

    if (real->get_max_speed == NULL || real->get_max_speed(domain, &mib, 0) < 0 ||
        mib >= RULES_BANDWIDTH_MAXIMUM)
        return 0;
    return mib;
}

static const char *
domain_name(virDomainPtr domain)
{
    const Real *real = real_functions();

    return real->get_name != NULL ? real->get_name(domain) : NULL;
}

static void
ask_daemon(Phase *phase, const Call *call, const char *uuid, const char *name, const char *xml)
{
    const Real *real = real_functions();
    CallFacts facts = { .uuid = uuid, .name = name, .domain_xml = xml, .held_ms = phase->held_ms };
    g_autofree char *live = NULL;
    g_autoptr(GVariant) reply = NULL;

    if (phase->budget.given_up || phase->budget.left <= 0) {
        phase->budget.given_up = true;
        return;
    }
    if (call->domain != NULL) {
        facts.name = domain_name(call->domain);
        if (real->get_xml != NULL)
            live = real->get_xml(call->domain, 0);
        facts.domain_xml = live;
        facts.implied_flags = implied_flags(call);
        phase->standing_bandwidth = standing_bandwidth(call->domain);
        facts.standing_bandwidth = phase->standing_bandwidth;
    }
    reply = client_enter_call(&phase->budget, phase->entry, answer_describe_call(call, &facts));
    answer_parse(reply, &phase->answer);
}

static void
raise_aborted(const char *message)
{
    const Real *real = real_functions();

    if (message == NULL || message[0] == '\0')
        message = "the migration was aborted while it waited for its turn";
    real->raise_error(__FILE__, __func__, __LINE__, VIR_FROM_QEMU, VIR_ERR_OPERATION_ABORTED,
                      VIR_ERR_ERROR, "operation aborted: %s", message, NULL, -1, -1,
                      "operation aborted: %s", message);
}

/*
 * Waits while the daemon says so. False: the call is to fail, the error is
 * raised. When the daemon stops answering its answer no longer counts.
 */
static bool
wait_for_turn(Phase *phase, RunningCall *running)
{
    g_autofree char *message = NULL;
    ClientTurn turn = phase->answer.wait ? CLIENT_TURN_WAITING : CLIENT_TURN_GO;
    gint64 start = g_get_monotonic_time();

    while (turn == CLIENT_TURN_WAITING && !running_call_is_aborted(running))
        turn = client_wait_turn(&phase->budget, phase->answer.ticket, &message);
    phase->held_ms = (uint64_t)(g_get_monotonic_time() - start) / 1000;
    if (turn == CLIENT_TURN_FAILED)
        answer_clear(&phase->answer);
    if ((!running_call_start(running) || turn == CLIENT_TURN_ABORTED) &&
        real_functions()->raise_error != NULL) {
        raise_aborted(message);
        return false;
    }
    return true;
}

static bool
call_succeeded(const Call *call)
{
    return call->xml_result != NULL || call->domain_result != NULL || call->status == 0;
}

/* libvirt did not let this client in: the migration is somebody else's, and goes on. */
static bool
call_was_denied(const Call *call)
{
    int code = real_last_error_code();

    return !call_succeeded(call) &&
           (code == VIR_ERR_OPERATION_DENIED || code == VIR_ERR_ACCESS_DENIED);
}

/* NULL: none. libvirt's, until the next call into it. */
static const char *
last_error_message(void)
{
    const Real *real = real_functions();
    virErrorPtr error = real->get_last_error != NULL ? real->get_last_error() : NULL;

    return error != NULL ? error->message : NULL;
}

/* Outputs as before the call, for a second one. */
static void
reset_outputs(Call *call)
{
    const Real *real = real_functions();

    if (call->cookie_out != NULL) {
        free(*call->cookie_out);
        *call->cookie_out = NULL;
    }
    if (call->cookie_out_length != NULL)
        *call->cookie_out_length = 0;
    if (call->uri_out != NULL) {
        free(*call->uri_out);
        *call->uri_out = NULL;
    }
    if (real->reset_last_error != NULL)
        real->reset_last_error();
}

static void
run_as_asked_again(Phase *phase, Call *call)
{
    const Real *real = real_functions();
    virErrorPtr error = real->get_last_error != NULL ? real->get_last_error() : NULL;

    fprintf(stderr, "virt-convoy: %s failed with what was added, done again as asked: %s\n",
            phase->entry, error != NULL && error->message != NULL ? error->message : "?");
    reset_outputs(call);
    memset(&phase->additions, 0, sizeof(phase->additions));
    phase->retried = true;
    call->run(call, &call->asked);
}

static void
run_with_additions(Phase *phase, Call *call, const char *xml)
{
    CallArguments arguments;

    if (!rules_adds_anything(&phase->additions) && xml == NULL) {
        call->run(call, &call->asked);
        return;
    }
    arguments = arguments_extend(call, &phase->additions, xml);
    call->run(call, &arguments);
    arguments_clear(call, &arguments);
}

/* Sent, not waited for. */
static void
tell_daemon(const Phase *phase, const Call *call, uint64_t ticket, bool success)
{
    const Real *real = real_functions();
    virErrorPtr error = !success && real->get_last_error != NULL ? real->get_last_error() : NULL;
    GVariantBuilder builder;

    if (ticket == 0)
        return;
    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&builder, "{sv}", "success", g_variant_new_boolean(success));
    if (error != NULL)
        answer_add_text(&builder, "error-message", error->message, 4096);
    g_variant_builder_add(&builder, "{sv}", "retried", g_variant_new_boolean(phase->retried));
    if (success && call->uri_out != NULL)
        answer_add_text(&builder, "uri-out", *call->uri_out, 4096);
    client_leave_call(&phase->budget, phase->entry, ticket, g_variant_builder_end(&builder));
}

/*
 * For ipc_claim_drop. The guest's end at the source is in the call that comes next: when the
 * daemon hangs, the hook is not to wait for it again.
 */
static int
claim_release(const Phase *phase, virDomainPtr domain)
{
    const char *name = phase->budget.given_up ? domain_name(domain) : NULL;

    return name != NULL ? ipc_claim_make(IPC_CLAIM_RELEASE, name) : -1;
}

/* What the next phase of this end has to know. */
static Record
record_of(const Phase *phase)
{
    return (Record){
        .ticket = phase->answer.ticket,
        .budget = phase->budget.left,
        .given_up = phase->budget.given_up,
    };
}

static Phase
phase_after(const char *entry, const Record *record)
{
    return (Phase){
        .entry = entry,
        .budget = { .left = record->budget, .given_up = record->given_up },
    };
}

static void
append_to_cookie(const Call *call, const char *element, const CookieNote *note)
{
    g_autofree char *note_element = NULL;

    if (element != NULL)
        cookie_append(call->cookie_out, call->cookie_out_length, element);
    if (note == NULL)
        return;
    note_element = cookie_note_to_element(note);
    cookie_append(call->cookie_out, call->cookie_out_length, note_element);
}

static void
begin_with_daemon(Phase *phase, Call *call, const char *uuid, RunningCall *running)
{
    Asked asked = arguments_asked(call);
    Record record;
    CookieNote note;

    ask_daemon(phase, call, uuid, NULL, NULL);
    if (!wait_for_turn(phase, running)) {
        tell_daemon(phase, call, phase->answer.ticket, false);
        return;
    }
    /* The parameters belong to Perform, where the destination has answered. */
    phase->answer.wanted.bandwidth = 0;
    phase->answer.wanted.bandwidth_post_copy = 0;
    phase->answer.wanted.bandwidth_switchover = 0;
    phase->answer.wanted.connections = 0;
    phase->additions = rules_reduce(&asked, VIR_MIGRATE_POSTCOPY, &phase->answer.wanted);
    run_with_additions(phase, call, NULL);
    if (!call_succeeded(call) && rules_adds_anything(&phase->additions) &&
        !running_call_is_aborted(running) &&
        rules_setup_error_is_repeatable(real_last_error_code()))
        run_as_asked_again(phase, call);

    if (call_succeeded(call)) {
        record = record_of(phase);
        if (phase->answer.given && phase->answer.ticket != 0) {
            note.flags = phase->additions.flags;
            note.follows = (rules_addable_flags(&asked) & VIR_MIGRATE_PARALLEL) |
                           (phase->additions.flags & VIR_MIGRATE_POSTCOPY);
            note.connections = 0;
            note.held_ms = phase->held_ms;
            record.follows = note.follows;
            append_to_cookie(call, phase->answer.cookie_element, &note);
        }
        records_put(RECORD_SOURCE, uuid, &record);
    }
    tell_daemon(phase, call, phase->answer.ticket, call_succeeded(call));
}

void
call_begin(Call *call)
{
    const Real *real = real_functions();
    Phase phase = { .entry = "begin", .budget = client_budget_new() };
    char uuid[VIR_UUID_STRING_BUFLEN];
    virConnectPtr connection = NULL;
    RunningCall running;

    if (call->domain != NULL && real->get_connect != NULL)
        connection = real->get_connect(call->domain);
    call->status = -1;
    if (!call_concerns_us(call, connection) || !real_domain_uuid(call->domain, uuid)) {
        call->run(call, &call->asked);
        return;
    }
    running_call_enter(&running, uuid, connection);
    begin_with_daemon(&phase, call, uuid, &running);
    running_call_leave(&running);
    answer_clear(&phase.answer);
}

/* Its name at this end: given by the caller, else that in the XML. */
static char *
incoming_name(const Call *call, const char *xml)
{
    const char *name = arguments_text(call, VIR_MIGRATE_PARAM_DEST_NAME, call->name);

    return name != NULL ? g_strdup(name) : cookie_domain_name(xml);
}

static void
prepare_with_daemon(Phase *phase, Call *call, bool tunnel, const char *name, const char *xml)
{
    const bool direct = !tunnel && !(call->asked.flags & VIR_MIGRATE_PEER2PEER);
    Asked asked = arguments_asked(call);
    CookieNote peer = { 0 }, note = { 0 };
    const char *new_xml = NULL;
    Record record;
    RunningCall running;
    int claim;

    if (direct)
        cookie_note_from_cookie(call->cookie_in, call->cookie_in_length, &peer);
    phase->held_ms = peer.held_ms;
    running_call_enter(&running, NULL, NULL);
    ask_daemon(phase, call, NULL, name, xml);
    if (!wait_for_turn(phase, &running)) {
        running_call_leave(&running);
        tell_daemon(phase, call, phase->answer.ticket, false);
        return;
    }
    running_call_leave(&running);

    phase->additions = rules_reduce(&asked, peer.follows & MATCHING_FLAGS, &phase->answer.wanted);
    /* Limits of the stream are the source's to set. */
    phase->additions.bandwidth = 0;
    phase->additions.bandwidth_post_copy = 0;
    phase->additions.bandwidth_switchover = 0;
    if (cookie_domain_is_extension(xml, phase->answer.domain_xml))
        new_xml = phase->answer.domain_xml;
    claim = ipc_claim_make(IPC_CLAIM_MIGRATE, name);
    run_with_additions(phase, call, new_xml);
    /* A tunnel's stream is used up by the first try. */
    if (!call_succeeded(call) && !tunnel &&
        (rules_adds_anything(&phase->additions) || new_xml != NULL) &&
        rules_setup_error_is_repeatable(real_last_error_code()))
        run_as_asked_again(phase, call);
    ipc_claim_drop(claim);

    if (call_succeeded(call)) {
        record = record_of(phase);
        record.added_flags = phase->additions.flags;
        note.flags = phase->additions.flags;
        note.connections = phase->additions.connections;
        if (phase->answer.given && !phase->retried)
            append_to_cookie(call, phase->answer.cookie_element, note.flags != 0 ? &note : NULL);
        records_put(RECORD_DESTINATION, name, &record);
    }
    tell_daemon(phase, call, phase->answer.ticket, call_succeeded(call));
}

void
call_prepare(Call *call, bool tunnel)
{
    Phase phase = {
        .entry = tunnel ? "prepare-tunnel" : "prepare",
        .budget = client_budget_new(),
    };
    const char *xml = arguments_text(call, VIR_MIGRATE_PARAM_DEST_XML, call->asked.xml);
    g_autofree char *name = incoming_name(call, xml);

    /* Without a name Finish could not be given what Prepare had. */
    if (name == NULL || !call_concerns_us(call, call->connection)) {
        call->run(call, &call->asked);
        if (call_succeeded(call))
            records_drop(RECORD_DESTINATION, name, NULL);
        return;
    }
    prepare_with_daemon(&phase, call, tunnel, name, xml);
    answer_clear(&phase.answer);
}

/* It runs as before; or the user, and not a migration, has paused it. */
static bool
guest_is_untouched(virDomainPtr domain)
{
    const Real *real = real_functions();
    int state, reason;

    if (real->get_state == NULL || real->get_state(domain, &state, &reason, 0) < 0)
        return false;
    if (state == VIR_DOMAIN_PAUSED)
        return reason == VIR_DOMAIN_PAUSED_USER;
    return state == VIR_DOMAIN_RUNNING && reason != VIR_DOMAIN_RUNNING_POSTCOPY &&
           reason != VIR_DOMAIN_RUNNING_POSTCOPY_FAILED;
}

static void
connection_made(unsigned port, void *data)
{
    const Phase *phase = data;

    client_notify_port(&phase->budget, phase->answer.ticket, port);
}

/* Peer-to-peer: this call is the whole migration, so it may be done again. */
static void
perform_peer_to_peer(Phase *phase, Call *call, RunningCall *running)
{
    const Real *real = real_functions();
    Asked asked = arguments_asked(call);
    virErrorPtr error;
    bool repeat;
    int claim;

    /* Asked once more: it may have been paused while the call was held. */
    asked.flags |= implied_flags(call);
    asked.bandwidth |= phase->standing_bandwidth != 0;
    phase->additions = rules_reduce(&asked, MATCHING_FLAGS | SOURCE_FLAGS, &phase->answer.wanted);
    claim = claim_release(phase, call->domain);
    run_with_additions(phase, call, NULL);
    ipc_claim_drop(claim);
    if (call_succeeded(call) || !rules_adds_anything(&phase->additions) ||
        running_call_is_aborted(running) || real->set_error == NULL ||
        real->save_last_error == NULL || real->free_error == NULL ||
        !rules_perform_error_is_repeatable(real_last_error_code(), last_error_message()))
        return;
    error = real->save_last_error();
    repeat = guest_is_untouched(call->domain);
    if (error != NULL) {
        real->set_error(error);
        real->free_error(error);
    }
    if (repeat)
        run_as_asked_again(phase, call);
}

/*
 * Direct: once begun it cannot be repeated, so only what both ends prepared
 * for is added. What the destination has switched on must be followed, even if
 * the daemon is gone by now: multifd at one end only fails.
 */
static void
perform_direct(Phase *phase, Call *call, const Record *record)
{
    Asked asked = arguments_asked(call);
    Additions wanted = phase->answer.wanted;
    uint64_t permitted = 0;
    CookieNote note = { 0 };

    asked.bandwidth |= phase->standing_bandwidth != 0;
    if (cookie_note_from_cookie(call->cookie_in, call->cookie_in_length, &note))
        permitted = note.flags & record->follows & MATCHING_FLAGS;
    if (permitted & VIR_MIGRATE_PARALLEL) {
        permitted = VIR_MIGRATE_PARALLEL;
        wanted.flags |= VIR_MIGRATE_PARALLEL;
        wanted.connections = note.connections;
    }
    phase->additions = rules_reduce(&asked, permitted | SOURCE_FLAGS, &wanted);
    run_with_additions(phase, call, NULL);
}

void
call_perform(Call *call)
{
    const bool direct = !(call->asked.flags & VIR_MIGRATE_PEER2PEER);
    /* Begin has left a job on the domain that only the real Perform ends when it fails. */
    const bool has_job = direct && (call->asked.flags & VIR_MIGRATE_CHANGE_PROTECTION);
    const Real *real = real_functions();
    char uuid[VIR_UUID_STRING_BUFLEN];
    virConnectPtr connection = NULL;
    Record record = { 0 };
    RunningCall running;
    Phase phase = { .entry = "perform", .budget = client_budget_new() };

    if (call->domain != NULL && real->get_connect != NULL)
        connection = real->get_connect(call->domain);
    if (!call_concerns_us(call, connection) || !real_domain_uuid(call->domain, uuid)) {
        call->run(call, &call->asked);
        return;
    }
    if (direct && records_get(RECORD_SOURCE, uuid, &record)) {
        phase.budget.left = record.budget;
        phase.budget.given_up = record.given_up;
    }
    running_call_enter(&running, uuid, connection);
    ask_daemon(&phase, call, uuid, NULL, NULL);
    /* Where there is a job libvirt knows of the abort, too, and Perform fails of it. */
    if (wait_for_turn(&phase, &running) || has_job) {
        if (direct) {
            perform_direct(&phase, call, &record);
        } else {
            connect_watch(connection_made, &phase);
            perform_peer_to_peer(&phase, call, &running);
            connect_watch(NULL, NULL);
        }
    }
    if (direct && !call_succeeded(call)) {
        /* No Confirm follows. */
        records_drop(RECORD_SOURCE, uuid, NULL);
    } else if (direct) {
        record.added_flags = phase.additions.flags;
        record.budget = phase.budget.left;
        record.given_up = phase.budget.given_up;
        if (phase.answer.ticket != 0)
            record.ticket = phase.answer.ticket;
        records_put(RECORD_SOURCE, uuid, &record);
    }
    running_call_leave(&running);
    tell_daemon(&phase, call, phase.answer.ticket, call_succeeded(call));
    answer_clear(&phase.answer);
}

void
call_finish(Call *call)
{
    const char *name = arguments_text(call, VIR_MIGRATE_PARAM_DEST_NAME, call->name);
    CallArguments arguments = call->asked;
    Record record;
    Phase phase;

    call->status = -1;
    if (name == NULL || !records_get(RECORD_DESTINATION, name, &record)) {
        call->run(call, &call->asked);
        return;
    }
    arguments.flags |= record.added_flags;
    call->run(call, &arguments);
    if (call_was_denied(call))
        return;
    records_drop(RECORD_DESTINATION, name, &record);
    phase = phase_after("finish", &record);
    tell_daemon(&phase, call, record.ticket, call_succeeded(call) && !call->cancelled);
}

void
call_confirm(Call *call)
{
    CallArguments arguments = call->asked;
    char uuid[VIR_UUID_STRING_BUFLEN];
    Record record;
    Phase phase;
    int claim;

    if (!real_domain_uuid(call->domain, uuid) || !records_get(RECORD_SOURCE, uuid, &record)) {
        call->run(call, &call->asked);
        return;
    }
    arguments.flags |= record.added_flags;
    phase = phase_after("confirm", &record);
    claim = claim_release(&phase, call->domain);
    call->run(call, &arguments);
    ipc_claim_drop(claim);
    if (call_was_denied(call))
        return;
    records_drop(RECORD_SOURCE, uuid, &record);
    /* It succeeds at resuming the guest: the migration has failed all the same. */
    tell_daemon(&phase, call, record.ticket, call_succeeded(call) && !call->cancelled);
}
