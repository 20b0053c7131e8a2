/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is asked about domains and left in them: memory, XML, offers, dirty rate; see hypervisor.h.
 */
#include "daemon/hypervisor-private.h"

#include "common/peer.h"

#define DIRTY_RATE_POLL_US (100 * 1000)
#define DIRTY_RATE_POLLS 40

static bool
run_query_memory(Request *request, virDomainPtr domain, GError **error)
{
    virDomainMemoryStatStruct statistics[VIR_DOMAIN_MEMORY_STAT_NR];
    int count = virDomainMemoryStats(domain, statistics, VIR_DOMAIN_MEMORY_STAT_NR, 0);

    if (count < 0) {
        hypervisor_error_set(error, "reading the memory statistics");
        return false;
    }
    for (int i = 0; i < count; i++) {
        if (statistics[i].tag == VIR_DOMAIN_MEMORY_STAT_RSS && statistics[i].val > 0 &&
            statistics[i].val <= UINT64_MAX / 1024) {
            request->number = (uint64_t)statistics[i].val * 1024; /* KiB */
            return true;
        }
    }
    g_set_error_literal(error, hypervisor_error_quark(), VIR_ERR_OPERATION_INVALID,
                        "libvirt states no resident memory");
    return false;
}

void
hypervisor_query_memory(Hypervisor *hypervisor, const char *uuid, HypervisorNumberDone done,
                        gpointer user_data)
{
    hypervisor_request_start(hypervisor, hypervisor_request_new(hypervisor, uuid, run_query_memory,
                                                                hypervisor_finish_number,
                                                                G_CALLBACK(done), user_data));
}

static void
texts_append_xml(GPtrArray *texts, virDomainPtr domain)
{
    /* One that is merely defined has no traffic and claims no bandwidth. */
    char *xml = virDomainIsActive(domain) == 1 ? virDomainGetXMLDesc(domain, 0) : NULL;

    if (xml != NULL) {
        g_ptr_array_add(texts, g_strdup(xml));
        free(xml);
    } else {
        virResetLastError(); /* it went away since it was listed */
    }
}

static bool
run_list_domains(Request *request, virDomainPtr domain, GError **error)
{
    virDomainPtr *domains = NULL;
    int count;

    request->texts = g_ptr_array_new_with_free_func(g_free);
    if (domain != NULL) {
        texts_append_xml(request->texts, domain);
        return true;
    }
    count =
        virConnectListAllDomains(request->connection, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    if (count < 0) {
        hypervisor_error_set(error, "listing the domains");
        return false;
    }
    for (int i = 0; i < count; i++) {
        texts_append_xml(request->texts, domains[i]);
        virDomainFree(domains[i]);
    }
    free(domains);
    /* Else those that are missing would seem to have gone. */
    if (virConnectIsAlive(request->connection) != 1) {
        hypervisor_error_set(error, "the connection broke while the domains were read");
        return false;
    }
    return true;
}

void
hypervisor_list_domains(Hypervisor *hypervisor, const char *uuid, HypervisorTextsDone done,
                        gpointer user_data)
{
    hypervisor_request_start(hypervisor, hypervisor_request_new(hypervisor, uuid, run_list_domains,
                                                                hypervisor_finish_texts,
                                                                G_CALLBACK(done), user_data));
}

static bool
run_read_offer(Request *request, virDomainPtr unused G_GNUC_UNUSED, GError **error)
{
    virConnectPtr connection = hypervisor_open_destination(request->destination_uri);
    virDomainPtr domain = NULL;
    char *text = NULL;

    if (connection != NULL)
        domain = virDomainLookupByUUIDString(connection, request->text);
    if (domain != NULL)
        text = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, PEER_OFFER_NAMESPACE,
                                    VIR_DOMAIN_AFFECT_LIVE);
    g_clear_pointer(&request->text, g_free);
    if (text == NULL)
        hypervisor_error_set(error, "reading the destination's offer");
    else
        request->text = g_strdup(text);
    free(text);
    if (domain != NULL)
        virDomainFree(domain);
    if (connection != NULL)
        virConnectClose(connection);
    return request->text != NULL;
}

void
hypervisor_read_offer(Hypervisor *hypervisor, const char *destination_uri, const char *uuid,
                      HypervisorTextDone done, gpointer user_data)
{
    Request *request = hypervisor_request_new(hypervisor, NULL, run_read_offer,
                                              hypervisor_finish_text, G_CALLBACK(done), user_data);

    request->destination_uri = g_strdup(destination_uri);
    request->text = g_strdup(uuid);
    hypervisor_request_start_in(hypervisor, hypervisor->foreign_workers, request);
}

static bool
run_remove_offer(Request *request G_GNUC_UNUSED, virDomainPtr domain, GError **error)
{
    unsigned flags = VIR_DOMAIN_AFFECT_LIVE;
    char *text = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, PEER_OFFER_NAMESPACE,
                                      VIR_DOMAIN_AFFECT_LIVE);

    if (text != NULL && virDomainIsPersistent(domain) == 1)
        flags |= VIR_DOMAIN_AFFECT_CONFIG;
    virResetLastError();
    if (text == NULL)
        return true;
    free(text);
    if (virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, NULL, NULL, PEER_OFFER_NAMESPACE,
                             flags) == 0)
        return true;
    hypervisor_error_set(error, "removing the offer from the domain's metadata");
    return false;
}

void
hypervisor_remove_offer(Hypervisor *hypervisor, const char *uuid, HypervisorDone done,
                        gpointer user_data)
{
    hypervisor_request_start(hypervisor, hypervisor_request_new(hypervisor, uuid, run_remove_offer,
                                                                hypervisor_finish_plain,
                                                                G_CALLBACK(done), user_data));
}

static bool
run_measure_dirty_rate(Request *request, virDomainPtr domain, GError **error)
{
    if (virDomainStartDirtyRateCalc(domain, HYPERVISOR_DIRTY_RATE_SECONDS,
                                    VIR_DOMAIN_DIRTYRATE_MODE_PAGE_SAMPLING) < 0) {
        hypervisor_error_set(error, "starting the dirty rate calculation");
        return false;
    }
    for (unsigned poll = 0; poll < DIRTY_RATE_POLLS; poll++) {
        virDomainPtr domains[] = { domain, NULL };
        virDomainStatsRecordPtr *records = NULL;
        int status = -1;
        long long mib = 0;

        g_usleep(DIRTY_RATE_POLL_US);
        if (virDomainListGetStats(domains, VIR_DOMAIN_STATS_DIRTYRATE, &records, 0) < 1) {
            hypervisor_error_set(error, "reading the dirty rate");
            return false;
        }
        virTypedParamsGetInt(records[0]->params, records[0]->nparams, "dirtyrate.calc_status",
                             &status);
        virTypedParamsGetLLong(records[0]->params, records[0]->nparams,
                               "dirtyrate.megabytes_per_second", &mib);
        virDomainStatsRecordListFree(records);
        if (status != VIR_DOMAIN_DIRTYRATE_MEASURED)
            continue;
        if (mib <= 0 || mib > (1LL << 30))
            break;
        request->number = (uint64_t)mib << 20;
        return true;
    }
    g_set_error_literal(error, hypervisor_error_quark(), VIR_ERR_OPERATION_INVALID,
                        "libvirt measured no dirty rate");
    return false;
}

void
hypervisor_measure_dirty_rate(Hypervisor *hypervisor, const char *uuid, HypervisorNumberDone done,
                              gpointer user_data)
{
    hypervisor_request_start_in(hypervisor, hypervisor->measure_workers,
                                hypervisor_request_new(hypervisor, uuid, run_measure_dirty_rate,
                                                       hypervisor_finish_number, G_CALLBACK(done),
                                                       user_data));
}
