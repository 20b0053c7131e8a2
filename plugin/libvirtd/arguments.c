/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Looks into a Call's arguments and extends them; see arguments.h.
 */
#include "libvirtd/arguments.h"

#include <glib.h>
#include <string.h>

static const virTypedParameter *
find_parameter(const Call *call, const char *name)
{
    for (int i = 0; call->typed_parameters && i < call->asked.n_parameters; i++) {
        if (strcmp(call->asked.parameters[i].field, name) == 0)
            return &call->asked.parameters[i];
    }
    return NULL;
}

const char *
arguments_text(const Call *call, const char *name, const char *otherwise)
{
    const virTypedParameter *parameter = find_parameter(call, name);

    if (!call->typed_parameters)
        return otherwise;
    return parameter != NULL && parameter->type == VIR_TYPED_PARAM_STRING ? parameter->value.s
                                                                          : NULL;
}

Asked
arguments_asked(const Call *call)
{
    const char *uri = arguments_text(call, VIR_MIGRATE_PARAM_URI, call->uri);

    return (Asked){
        .flags = call->asked.flags,
        .typed_parameters = call->typed_parameters,
        .bandwidth =
            call->asked.bandwidth != 0 || find_parameter(call, VIR_MIGRATE_PARAM_BANDWIDTH) != NULL,
        .bandwidth_post_copy = find_parameter(call, VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY) != NULL,
        .bandwidth_switchover = find_parameter(call, RULES_PARAM_SWITCHOVER) != NULL,
        .connections = find_parameter(call, VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS) != NULL,
        .rdma = uri != NULL && g_str_has_prefix(uri, "rdma"),
    };
}

static void
set_number_parameter(virTypedParameterPtr parameter, const char *name, uint64_t number, bool is_int)
{
    memset(parameter, 0, sizeof(*parameter));
    g_strlcpy(parameter->field, name, sizeof(parameter->field));
    if (is_int) {
        parameter->type = VIR_TYPED_PARAM_INT;
        parameter->value.i = (int)number;
    } else {
        parameter->type = VIR_TYPED_PARAM_ULLONG;
        parameter->value.ul = number;
    }
}

CallArguments
arguments_extend(const Call *call, const Additions *additions, const char *xml)
{
    CallArguments arguments = call->asked;
    size_t count = (size_t)MAX(call->asked.n_parameters, 0);

    arguments.flags |= additions->flags;
    if (!call->typed_parameters) {
        if (additions->bandwidth != 0)
            arguments.bandwidth = (unsigned long)additions->bandwidth;
        if (xml != NULL)
            arguments.xml = xml;
        return arguments;
    }
    arguments.parameters = g_new0(virTypedParameter, count + 4);
    if (count > 0)
        memcpy(arguments.parameters, call->asked.parameters, count * sizeof(*arguments.parameters));
    for (size_t i = 0; xml != NULL && i < count; i++) {
        /* Only ever read: the cast does not let anybody write to it. */
        if (strcmp(arguments.parameters[i].field, VIR_MIGRATE_PARAM_DEST_XML) == 0)
            arguments.parameters[i].value.s = (char *)xml;
    }
    if (additions->bandwidth != 0)
        set_number_parameter(&arguments.parameters[count++], VIR_MIGRATE_PARAM_BANDWIDTH,
                             additions->bandwidth, false);
    if (additions->bandwidth_post_copy != 0)
        set_number_parameter(&arguments.parameters[count++], VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY,
                             additions->bandwidth_post_copy, false);
    if (additions->bandwidth_switchover != 0)
        set_number_parameter(&arguments.parameters[count++], RULES_PARAM_SWITCHOVER,
                             additions->bandwidth_switchover, false);
    if (additions->connections != 0)
        set_number_parameter(&arguments.parameters[count++], VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS,
                             additions->connections, true);
    arguments.n_parameters = (int)count;
    return arguments;
}

void
arguments_clear(const Call *call, CallArguments *arguments)
{
    if (arguments->parameters != call->asked.parameters)
        g_free(arguments->parameters);
    memset(arguments, 0, sizeof(*arguments));
}
