/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libvirt's metadata calls, with errors that say what to do. */
#include "cli/guest.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdlib.h>

static void
connection_drop(virConnect *connection)
{
    virConnectClose(connection);
}

static void
domain_drop(virDomain *domain)
{
    virDomainFree(domain);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virConnect, connection_drop)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, domain_drop)

/* libvirt prints errors itself unless told otherwise. */
static void
error_ignore(void *data, virErrorPtr error)
{
    (void)data;
    (void)error;
}

static bool
fail_libvirt(GError **error, const char *what, const char *hint)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s: %s%s%s", what, virGetLastErrorMessage(),
                hint != NULL ? "\n" : "", hint != NULL ? hint : "");
    return false;
}

static virConnect *
connection_open(const char *uri, GError **error)
{
    virConnect *connection;

    virSetErrorFunc(NULL, error_ignore);
    connection = virConnectOpen(uri);
    if (connection == NULL)
        fail_libvirt(error, uri,
                     "Is libvirtd or virtqemud running, and may this user use it? "
                     "See [daemon] libvirt-uri.");
    return connection;
}

static virDomain *
domain_find(virConnect *connection, const char *name, GError **error)
{
    virDomain *domain = virDomainLookupByName(connection, name);

    if (domain == NULL)
        domain = virDomainLookupByUUIDString(connection, name);
    if (domain == NULL)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    "%s: no domain of that name or UUID; see virsh list --all", name);
    return domain;
}

bool
guest_metadata_get(const char *uri, const char *name, DomainMetadata *ret_metadata,
                   bool *ret_present, GPtrArray *warnings, GError **error)
{
    g_autoptr(virConnect) connection = connection_open(uri, error);
    g_autoptr(virDomain) domain = NULL;
    char *element;
    bool good;

    if (connection == NULL)
        return false;
    domain = domain_find(connection, name, error);
    if (domain == NULL)
        return false;
    domain_metadata_init(ret_metadata);
    element = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, DOMAIN_NAMESPACE,
                                   VIR_DOMAIN_AFFECT_CURRENT);
    *ret_present = element != NULL;
    if (element == NULL) {
        if (virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_METADATA)
            return true;
        return fail_libvirt(error, name, NULL);
    }
    good = domain_metadata_parse(element, -1, ret_metadata, warnings, error);
    free(element);
    return good;
}

bool
guest_metadata_set(const char *uri, const char *name, const DomainMetadata *metadata,
                   GError **error)
{
    g_autoptr(virConnect) connection = connection_open(uri, error);
    g_autoptr(virDomain) domain = NULL;
    g_autofree char *element = NULL;
    unsigned flags = 0;

    if (connection == NULL)
        return false;
    domain = domain_find(connection, name, error);
    if (domain == NULL)
        return false;
    if (virDomainIsActive(domain) == 1)
        flags |= VIR_DOMAIN_AFFECT_LIVE;
    if (virDomainIsPersistent(domain) == 1)
        flags |= VIR_DOMAIN_AFFECT_CONFIG;
    if (metadata != NULL)
        element = domain_metadata_to_xml(metadata, true);
    if (virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, element, DOMAIN_METADATA_KEY,
                             DOMAIN_NAMESPACE, flags) < 0)
        return fail_libvirt(error, name,
                            "A domain in the middle of a job cannot be changed; "
                            "try again when it has ended.");
    return true;
}
