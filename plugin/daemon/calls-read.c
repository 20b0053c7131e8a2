/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a call says, read from its dictionary and put into the record; see calls-private.h. */
#include "daemon/calls-private.h"

#include "common/ipc.h"
#include "daemon/gates.h"

#include <libvirt/libvirt.h>
#include <string.h>

#define URI_MAXIMUM 4096u

static const char *
text_within(const char *text, size_t maximum)
{
    return text != NULL && strnlen(text, maximum + 1) <= maximum ? text : NULL;
}

void
calls_call_clear(Call *call)
{
    g_clear_pointer(&call->parameters, g_variant_unref);
}

void
calls_read(GVariant *dictionary, Call *ret_call)
{
    GVariant *parameters = g_variant_lookup_value(dictionary, "parameters", G_VARIANT_TYPE_VARDICT);
    gint64 deadline = G_MAXINT64;
    gboolean tells_port = FALSE;

    memset(ret_call, 0, sizeof(*ret_call));
    ret_call->parameters = parameters;
    g_variant_lookup(dictionary, "uuid", "&s", &ret_call->uuid);
    g_variant_lookup(dictionary, "name", "&s", &ret_call->name);
    g_variant_lookup(dictionary, "domain-xml", "&s", &ret_call->domain_xml);
    g_variant_lookup(dictionary, "cookie-in", "&s", &ret_call->cookie);
    g_variant_lookup(dictionary, "destination-uri", "&s", &ret_call->destination_uri);
    g_variant_lookup(dictionary, "deadline", "x", &deadline);
    g_variant_lookup(dictionary, "tells-port", "b", &tells_port);
    ret_call->tells_port = tells_port;
    ret_call->late = g_get_monotonic_time() >= deadline;
    if (ret_call->uuid != NULL && !g_uuid_string_is_valid(ret_call->uuid))
        ret_call->uuid = NULL;
    ret_call->destination_uri = text_within(ret_call->destination_uri, URI_MAXIMUM);
    ret_call->flags = ipc_lookup_number(dictionary, "flags");
    ret_call->standing_bandwidth_mib = ipc_lookup_number(dictionary, "standing-bandwidth");
    ret_call->held_ms = MIN(ipc_lookup_number(dictionary, "held"), UINT32_MAX);
    if (parameters == NULL)
        return;
    g_variant_lookup(parameters, VIR_MIGRATE_PARAM_URI, "&s", &ret_call->migrate_uri);
    ret_call->migrate_uri = text_within(ret_call->migrate_uri, URI_MAXIMUM);
    g_variant_lookup(parameters, VIR_MIGRATE_PARAM_DEST_NAME, "&s", &ret_call->destination_name);
    ret_call->destination_name = text_within(ret_call->destination_name, NAME_MAXIMUM);
    ret_call->bandwidth_mib = ipc_lookup_number(parameters, VIR_MIGRATE_PARAM_BANDWIDTH);
    ret_call->post_copy_bandwidth_mib =
        ipc_lookup_number(parameters, VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY);
}

bool
calls_apply(Manager *manager, Migration *migration, const Call *call, GError **error)
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
    migration->tells_port = call->tells_port;
    migration->tunnelled = call->flags & VIR_MIGRATE_TUNNELLED;
    migration->post_copy_by_user = call->flags & VIR_MIGRATE_POSTCOPY;
    g_free(migration->recovery.destination_name);
    migration->recovery.destination_name = g_strdup(call->destination_name);
    migration->user_bandwidth_mib =
        call->bandwidth_mib != 0 ? call->bandwidth_mib : call->standing_bandwidth_mib;
    migration->user_post_copy_bandwidth_mib = call->post_copy_bandwidth_mib;
    manager_exclude_post_copy(migration, gate_post_copy_flags(call->flags, call->migrate_uri));
    return true;
}
