/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libvirt's events as the manager wants them; see hypervisor-private.h. */
#include "daemon/hypervisor-private.h"

void
hypervisor_emit(Hypervisor *hypervisor, virDomainPtr domain, HypervisorEvent *event)
{
    char uuid[VIR_UUID_STRING_BUFLEN];

    if (domain != NULL) {
        if (virDomainGetUUIDString(domain, uuid) < 0)
            return;
        event->uuid = uuid;
        event->name = virDomainGetName(domain);
    }
    hypervisor->func(event, hypervisor->user_data);
}

static int
on_lifecycle(virConnectPtr connection G_GNUC_UNUSED, virDomainPtr domain, int type, int detail,
             void *data)
{
    HypervisorEvent event = { 0 };

    if (type == VIR_DOMAIN_EVENT_STARTED) {
        event.type = HYPERVISOR_DOMAIN_STARTED;
    } else if (type == VIR_DOMAIN_EVENT_STOPPED) {
        event.type = HYPERVISOR_DOMAIN_STOPPED;
        event.migrated = detail == VIR_DOMAIN_EVENT_STOPPED_MIGRATED;
    } else if (type == VIR_DOMAIN_EVENT_SUSPENDED &&
               detail == VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY) {
        event.type = HYPERVISOR_POST_COPY_ENTERED;
    } else if (type == VIR_DOMAIN_EVENT_RESUMED && detail == VIR_DOMAIN_EVENT_RESUMED_POSTCOPY) {
        event.type = HYPERVISOR_POST_COPY_ENTERED;
    } else if (type == VIR_DOMAIN_EVENT_RESUMED && detail == VIR_DOMAIN_EVENT_RESUMED_MIGRATED) {
        event.type = HYPERVISOR_DOMAIN_ARRIVED;
    } else if (type == VIR_DOMAIN_EVENT_SUSPENDED &&
               detail == VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED) {
        event.type = HYPERVISOR_POST_COPY_FAILED;
    } else if (type == VIR_DOMAIN_EVENT_DEFINED) {
        event.type = HYPERVISOR_DOMAIN_CHANGED;
    } else {
        return 0;
    }
    hypervisor_emit(data, domain, &event);
    return 0;
}

static void
on_iteration(virConnectPtr connection G_GNUC_UNUSED, virDomainPtr domain, int iteration, void *data)
{
    HypervisorEvent event = {
        .type = HYPERVISOR_MIGRATION_ITERATION,
        .iteration = iteration > 0 ? (unsigned)iteration : 0,
    };

    hypervisor_emit(data, domain, &event);
}

static void
on_job_completed(virConnectPtr connection G_GNUC_UNUSED, virDomainPtr domain,
                 virTypedParameterPtr parameters, int n_parameters, void *data)
{
    JobStatistics statistics;
    HypervisorEvent event = { .type = HYPERVISOR_JOB_COMPLETED, .statistics = &statistics };

    hypervisor_read_statistics(&statistics, VIR_DOMAIN_JOB_COMPLETED, parameters, n_parameters);
    hypervisor_emit(data, domain, &event);
}

static void
on_metadata_change(virConnectPtr connection G_GNUC_UNUSED, virDomainPtr domain,
                   int type G_GNUC_UNUSED, const char *uri G_GNUC_UNUSED, void *data)
{
    HypervisorEvent event = { .type = HYPERVISOR_DOMAIN_CHANGED };

    hypervisor_emit(data, domain, &event);
}

static void
on_device_added(virConnectPtr connection G_GNUC_UNUSED, virDomainPtr domain,
                const char *alias G_GNUC_UNUSED, void *data)
{
    HypervisorEvent event = { .type = HYPERVISOR_DOMAIN_CHANGED };

    hypervisor_emit(data, domain, &event);
}

bool
hypervisor_register_events(virConnectPtr connection, Hypervisor *hypervisor,
                           int callbacks[HYPERVISOR_CALLBACKS_MAX], guint *n_callbacks,
                           GError **error)
{
    static const struct {
        int id;
        virConnectDomainEventGenericCallback callback;
    } events[] = {
        { VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle) },
        { VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, VIR_DOMAIN_EVENT_CALLBACK(on_iteration) },
        { VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, VIR_DOMAIN_EVENT_CALLBACK(on_job_completed) },
        { VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, VIR_DOMAIN_EVENT_CALLBACK(on_metadata_change) },
        { VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, VIR_DOMAIN_EVENT_CALLBACK(on_device_added) },
        { VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(on_device_added) },
    };

    G_STATIC_ASSERT(G_N_ELEMENTS(events) <= HYPERVISOR_CALLBACKS_MAX);
    for (size_t i = 0; i < G_N_ELEMENTS(events); i++) {
        int id = virConnectDomainEventRegisterAny(connection, NULL, events[i].id,
                                                  events[i].callback, hypervisor, NULL);
        if (id < 0) {
            hypervisor_error_set(error, "registering for libvirt's events");
            return false;
        }
        callbacks[(*n_callbacks)++] = id;
    }
    return true;
}
