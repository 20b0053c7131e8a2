/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Makes one end of a migration speak another version of virt-convoy's report.
 *
 * Loaded into libvirtd beside the plugin, in front of it and once more (as a
 * copy) behind it, it rewrites what the plugin adds on its way out: <peer> in
 * cookies and <offer> in the incoming domain's XML. OTHER_VERSION says how:
 *
 *   newer   version 7, attributes and children of tomorrow, an element of
 *           another namespace in front, fields of today that are gone
 *   older   the first fields only
 */
#include <dlfcn.h>
#include <libvirt/libvirt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *virDomainMigrateBegin3Params(virDomainPtr domain, virTypedParameterPtr params, int nparams,
                                   char **cookieout, int *cookieoutlen, unsigned int flags);
int virDomainMigratePrepare3Params(virConnectPtr dconn, virTypedParameterPtr params, int nparams,
                                   const char *cookiein, int cookieinlen, char **cookieout,
                                   int *cookieoutlen, char **uri_out, unsigned int flags);

static const char *const kept_by_older[] = { "xmlns:convoy", "version", "role",
                                             "link-rate",    "host-in", "host-out",
                                             "vm-in",        "vm-out",  "post-copy" };
static const char *const dropped_by_newer[] = { "memory", "priority", "sla-lower", "sla-upper",
                                                "qemu-version" };

/* QEMU is a child of libvirtd, too, and no business of ours. */
__attribute__((constructor)) static void
leave_environment(void)
{
    unsetenv("LD_PRELOAD");
}

static int
is_newer(void)
{
    const char *text = getenv("OTHER_VERSION");

    return text == NULL || strcmp(text, "older") != 0;
}

static int
is_listed(const char *const *list, size_t length, const char *name, size_t name_length)
{
    for (size_t i = 0; i < length; i++) {
        if (strlen(list[i]) == name_length && strncmp(list[i], name, name_length) == 0)
            return 1;
    }
    return 0;
}

static int
is_kept(const char *name, size_t length)
{
    if (!is_newer())
        return is_listed(kept_by_older, sizeof(kept_by_older) / sizeof(*kept_by_older), name,
                         length);
    return !is_listed(dropped_by_newer, sizeof(dropped_by_newer) / sizeof(*dropped_by_newer), name,
                      length);
}

/* The plugin's own form: name="value" with one space before each, then "/>". */
static void
write_attributes(FILE *out, const char *attributes, const char *end)
{
    while (attributes < end && *attributes == ' ') {
        const char *name = attributes + 1;
        const char *equal = strchr(name, '=');
        const char *close = equal != NULL && equal < end ? strchr(equal + 2, '"') : NULL;

        if (close == NULL || close > end)
            return;
        if (is_newer() && strncmp(name, "version=", 8) == 0)
            fputs(" version=\"7\"", out);
        else if (is_kept(name, (size_t)(equal - name)))
            fprintf(out, "%.*s", (int)(close + 1 - attributes), attributes);
        attributes = close + 1;
    }
}

/* text with the element <convoy:NAME .../> rewritten; NULL when it has none. */
static char *
rewrite(const char *text, const char *name)
{
    char start[32];
    const char *element, *end;
    char *result = NULL;
    size_t size;
    FILE *out;

    snprintf(start, sizeof(start), "<convoy:%s ", name);
    element = text != NULL ? strstr(text, start) : NULL;
    end = element != NULL ? strstr(element, "/>") : NULL;
    if (end == NULL)
        return NULL;
    out = open_memstream(&result, &size);
    if (out == NULL)
        abort();
    fprintf(out, "%.*s", (int)(element - text), text);
    /* A domain's metadata takes one element of a namespace; a cookie any number. */
    if (is_newer() && strcmp(name, "peer") == 0)
        fputs("<convoy:peer xmlns:convoy=\"urn:virt-convoy:peer:2\" mood=\"good\"/>", out);
    fprintf(out, "<convoy:%s", name);
    write_attributes(out, element + strlen(start) - 1, end);
    if (is_newer())
        fprintf(out,
                " altitude=\"12\"><convoy:forecast hours=\"3\">&lt;rain&gt;</convoy:forecast>"
                "</convoy:%s>",
                name);
    else
        fputs("/>", out);
    fputs(end + 2, out);
    fclose(out);
    fprintf(stderr, "other-version: <%s> rewritten\n", name);
    return result;
}

static void
rewrite_cookie(char **cookie, int *length)
{
    char *other = cookie != NULL ? rewrite(*cookie, "peer") : NULL;

    if (other == NULL)
        return;
    free(*cookie);
    *cookie = other;
    *length = (int)strlen(other) + 1;
}

char *
virDomainMigrateBegin3Params(virDomainPtr domain, virTypedParameterPtr params, int nparams,
                             char **cookieout, int *cookieoutlen, unsigned int flags)
{
    char *(*next)(virDomainPtr, virTypedParameterPtr, int, char **, int *, unsigned int);
    char *xml;

    *(void **)&next = dlsym(RTLD_NEXT, __func__);
    xml = next(domain, params, nparams, cookieout, cookieoutlen, flags);
    if (xml != NULL)
        rewrite_cookie(cookieout, cookieoutlen);
    return xml;
}

int
virDomainMigratePrepare3Params(virConnectPtr dconn, virTypedParameterPtr params, int nparams,
                               const char *cookiein, int cookieinlen, char **cookieout,
                               int *cookieoutlen, char **uri_out, unsigned int flags)
{
    int (*next)(virConnectPtr, virTypedParameterPtr, int, const char *, int, char **, int *,
                char **, unsigned int);
    char *mine = NULL, **place = NULL, *theirs = NULL;
    int status;

    *(void **)&next = dlsym(RTLD_NEXT, __func__);
    for (int i = 0; i < nparams && mine == NULL; i++) {
        if (strcmp(params[i].field, VIR_MIGRATE_PARAM_DEST_XML) != 0)
            continue;
        place = &params[i].value.s;
        theirs = *place;
        mine = rewrite(theirs, "offer");
        if (mine != NULL)
            *place = mine;
    }
    status = next(dconn, params, nparams, cookiein, cookieinlen, cookieout, cookieoutlen, uri_out,
                  flags);
    if (mine != NULL)
        *place = theirs;
    free(mine);
    if (status == 0)
        rewrite_cookie(cookieout, cookieoutlen);
    return status;
}
