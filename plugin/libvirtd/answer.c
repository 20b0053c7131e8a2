/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Between a Call and the dictionaries of EnterCall; see answer.h.
 */
#include "libvirtd/answer.h"

#include <string.h>

#include "common/ipc.h"
#include "libvirtd/cookie.h"

#define SHORT_TEXT_MAXIMUM 4096u

void
answer_clear(Answer *answer)
{
    g_free(answer->cookie_element);
    g_free(answer->domain_xml);
    memset(answer, 0, sizeof(*answer));
}

static char *
lookup_text(GVariant *dictionary, const char *key)
{
    char *text = NULL;

    if (!g_variant_lookup(dictionary, key, "s", &text))
        return NULL;
    if (text[0] == '\0')
        g_clear_pointer(&text, g_free);
    return text;
}

void
answer_parse(GVariant *reply, Answer *ret_answer)
{
    g_autoptr(GVariant) parameters = NULL;
    gboolean wait = FALSE;
    uint64_t connections;

    memset(ret_answer, 0, sizeof(*ret_answer));
    if (reply == NULL)
        return;
    ret_answer->given = true;
    ret_answer->ticket = ipc_lookup_number(reply, "ticket");
    g_variant_lookup(reply, "wait", "b", &wait);
    ret_answer->wait = wait != FALSE && ret_answer->ticket != 0;
    ret_answer->wanted.flags = ipc_lookup_number(reply, "flags");
    ret_answer->cookie_element = lookup_text(reply, "cookie-element");
    ret_answer->domain_xml = lookup_text(reply, "domain-xml");

    parameters = g_variant_lookup_value(reply, "parameters", G_VARIANT_TYPE_VARDICT);
    if (parameters == NULL)
        return;
    ret_answer->wanted.bandwidth = ipc_lookup_number(parameters, VIR_MIGRATE_PARAM_BANDWIDTH);
    ret_answer->wanted.bandwidth_post_copy =
        ipc_lookup_number(parameters, VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY);
    ret_answer->wanted.bandwidth_switchover = ipc_lookup_number(parameters, RULES_PARAM_SWITCHOVER);
    connections = ipc_lookup_number(parameters, VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS);
    ret_answer->wanted.connections = (unsigned)MIN(connections, UINT_MAX);
}

void
answer_add_text(GVariantBuilder *builder, const char *key, const char *text, size_t maximum)
{
    if (text == NULL)
        return;
    if (strnlen(text, maximum + 1) > maximum || !g_utf8_validate(text, -1, NULL))
        return;
    g_variant_builder_add(builder, "{sv}", key, g_variant_new_string(text));
}

static void
add_number(GVariantBuilder *builder, const char *key, uint64_t number)
{
    if (number != 0)
        g_variant_builder_add(builder, "{sv}", key, g_variant_new_uint64(number));
}

static void
add_typed_parameter(GVariantBuilder *builder, const virTypedParameter *parameter)
{
    GVariant *value = NULL;

    if (!g_utf8_validate(parameter->field, -1, NULL))
        return;
    switch ((virTypedParameterType)parameter->type) {
    case VIR_TYPED_PARAM_INT:
        value = g_variant_new_int32(parameter->value.i);
        break;
    case VIR_TYPED_PARAM_UINT:
        value = g_variant_new_uint32(parameter->value.ui);
        break;
    case VIR_TYPED_PARAM_LLONG:
        value = g_variant_new_int64(parameter->value.l);
        break;
    case VIR_TYPED_PARAM_ULLONG:
        value = g_variant_new_uint64(parameter->value.ul);
        break;
    case VIR_TYPED_PARAM_DOUBLE:
        value = g_variant_new_double(parameter->value.d);
        break;
    case VIR_TYPED_PARAM_BOOLEAN:
        value = g_variant_new_boolean(parameter->value.b != 0);
        break;
    case VIR_TYPED_PARAM_STRING:
        answer_add_text(builder, parameter->field, parameter->value.s, SHORT_TEXT_MAXIMUM);
        return;
    }
    if (value != NULL)
        g_variant_builder_add(builder, "{sv}", parameter->field, value);
}

/* Whole domain XMLs have their own key; of a repeated name the first is told. */
static bool
is_told_as_parameter(const Call *call, int index)
{
    const virTypedParameter *parameters = call->asked.parameters;
    const char *field = parameters[index].field;

    if (strcmp(field, VIR_MIGRATE_PARAM_DEST_XML) == 0 ||
        strcmp(field, VIR_MIGRATE_PARAM_PERSIST_XML) == 0)
        return false;
    for (int i = 0; i < index; i++) {
        if (strcmp(parameters[i].field, field) == 0)
            return false;
    }
    return true;
}

static GVariant *
describe_parameters(const Call *call)
{
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    if (call->typed_parameters) {
        for (int i = 0; i < call->asked.n_parameters; i++) {
            if (is_told_as_parameter(call, i))
                add_typed_parameter(&builder, &call->asked.parameters[i]);
        }
    } else {
        add_number(&builder, VIR_MIGRATE_PARAM_BANDWIDTH, call->asked.bandwidth);
        answer_add_text(&builder, VIR_MIGRATE_PARAM_URI, call->uri, SHORT_TEXT_MAXIMUM);
        answer_add_text(&builder, VIR_MIGRATE_PARAM_DEST_NAME, call->name, SHORT_TEXT_MAXIMUM);
    }
    return g_variant_builder_end(&builder);
}

GVariant *
answer_describe_call(const Call *call, const CallFacts *facts)
{
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    answer_add_text(&builder, "uuid", facts->uuid, SHORT_TEXT_MAXIMUM);
    answer_add_text(&builder, "name", facts->name, SHORT_TEXT_MAXIMUM);
    answer_add_text(&builder, "domain-xml", facts->domain_xml, COOKIE_DOMAIN_MAXIMUM);
    g_variant_builder_add(&builder, "{sv}", "flags",
                          g_variant_new_uint64(call->asked.flags | facts->implied_flags));
    g_variant_builder_add(&builder, "{sv}", "parameters", describe_parameters(call));
    add_number(&builder, "standing-bandwidth", facts->standing_bandwidth);
    add_number(&builder, "held", facts->held_ms);
    g_variant_builder_add(
        &builder, "{sv}", "tells-port",
        g_variant_new_boolean(call->domain != NULL && (call->asked.flags & VIR_MIGRATE_PEER2PEER)));
    answer_add_text(&builder, "destination-uri", call->destination_uri, SHORT_TEXT_MAXIMUM);
    if (call->cookie_in != NULL && call->cookie_in_length > 0 &&
        (size_t)call->cookie_in_length <= COOKIE_MAXIMUM) {
        /* The other end's bytes: a missing NUL must not make us read on. */
        g_autofree char *cookie = g_strndup(call->cookie_in, (gsize)call->cookie_in_length);

        answer_add_text(&builder, "cookie-in", cookie, COOKIE_MAXIMUM);
    }
    return g_variant_builder_end(&builder);
}
