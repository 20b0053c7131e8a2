/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* URIs to addresses; see peer-address.h. */
#include "daemon/peer-address.h"

#include <arpa/inet.h>
#include <string.h>

#define URI_MAXIMUM 4096u

/* libvirt's older form lacks the slashes: "tcp:host:port". */
static GUri *
uri_parse(const char *text)
{
    g_autofree char *fixed = NULL;

    if (text == NULL || strlen(text) > URI_MAXIMUM)
        return NULL;
    if (g_str_has_prefix(text, "tcp:") && !g_str_has_prefix(text, "tcp://"))
        fixed = g_strconcat("tcp://", text + strlen("tcp:"), NULL);
    return g_uri_parse(fixed ? fixed : text, G_URI_FLAGS_NONE, NULL);
}

/*
 * A name, an IPv4 address, or an IPv6 address with or without its zone. The other host
 * chooses the text, and GUri has decoded it: a '/', '?' or '@' in it would turn into
 * parts of the URI that it is put into.
 */
static bool
host_is_plain(const char *host)
{
    const bool address = strchr(host, ':') != NULL;

    for (const char *p = host; *p != '\0'; p++)
        if (!g_ascii_isalnum(*p) && strchr("._:-", *p) == NULL && !(address && *p == '%'))
            return false;
    return host[0] != '\0' && host[0] != '-';
}

char *
peer_host_from_uri(const char *text)
{
    g_autoptr(GUri) uri = uri_parse(text);
    const char *host = uri ? g_uri_get_host(uri) : NULL;

    return host != NULL && host_is_plain(host) ? g_strdup(host) : NULL;
}

char *
peer_uri_from_form(const char *form, const char *migrate_uri)
{
    const char *mark = strstr(form, "%s");
    g_autofree char *host = NULL;
    bool bracketed;

    if (form[0] == '\0')
        return NULL;
    if (mark == NULL)
        return g_strdup(form);
    host = peer_host_from_uri(migrate_uri);
    if (host == NULL)
        return NULL;
    bracketed = strchr(host, ':') != NULL;
    return g_strdup_printf("%.*s%s%s%s%s", (int)(mark - form), form, bracketed ? "[" : "", host,
                           bracketed ? "]" : "", mark + strlen("%s"));
}

void
peer_port_from_uri(const char *text, unsigned *ret_first, unsigned *ret_last)
{
    g_autoptr(GUri) uri = uri_parse(text);
    int port = uri ? g_uri_get_port(uri) : -1;

    if (port < 1 || port > 65535)
        return;
    *ret_first = (unsigned)port;
    *ret_last = (unsigned)port;
}

char *
flow_address_to_text(const FlowAddress *address)
{
    char text[INET6_ADDRSTRLEN];

    if (inet_ntop(address->family, address->bytes, text, sizeof(text)) == NULL)
        return g_strdup("any");
    return g_strdup(text);
}

typedef struct {
    PeerAddressFunc func;
    gpointer user_data;
} Look;

static void
resolved(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autofree Look *look = data;
    g_autoptr(GError) error = NULL;
    GList *found = g_resolver_lookup_by_name_finish(G_RESOLVER(source), result, &error);
    g_autoptr(GArray) addresses = g_array_new(FALSE, TRUE, sizeof(FlowAddress));

    for (GList *item = found; item != NULL && addresses->len < PEER_ADDRESSES_MAXIMUM;
         item = item->next) {
        g_autofree char *text = g_inet_address_to_string(item->data);
        FlowAddress address;

        if (flow_address_parse(text, &address))
            g_array_append_val(addresses, address);
    }
    g_resolver_free_addresses(found);
    if (addresses->len == 0 && error == NULL)
        g_set_error_literal(&error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "the name has no address");
    look->func(addresses, error, look->user_data);
}

void
peer_address_resolve(const char *migrate_uri, const char *destination_uri, PeerAddressFunc func,
                     gpointer user_data)
{
    g_autofree char *host = peer_host_from_uri(migrate_uri);
    g_autoptr(GResolver) resolver = NULL;
    Look *look;

    if (host == NULL)
        host = peer_host_from_uri(destination_uri);
    if (host == NULL) {
        g_autoptr(GError) error =
            g_error_new_literal(G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "the call names no peer");

        func(NULL, error, user_data);
        return;
    }
    resolver = g_resolver_get_default();
    look = g_new0(Look, 1);
    look->func = func;
    look->user_data = user_data;
    g_resolver_lookup_by_name_async(resolver, host, NULL, resolved, look);
}
