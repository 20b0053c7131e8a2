/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Flags of a running migration, from libvirtd's own file; see job-flags.h. */
#include "daemon/job-flags.h"

#include "common/xml.h"

#include <glib/gstdio.h>
#include <string.h>

/* A domain's XML and what libvirtd notes beside it. */
#define FILE_BYTES_MAX (4u * 1024u * 1024u)
#define DEPTH_MAX 64u

static bool
refuse(GError **error, const char *what)
{
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, what);
    return false;
}

/* As libvirt prints it, "0x8003"; it has no more than 32 bits. */
static bool
flags_from_text(const char *text, uint64_t *ret_flags)
{
    guint64 flags;

    if (text == NULL || !g_str_has_prefix(text, "0x") ||
        !g_ascii_string_to_unsigned(text + 2, 16, 0, G_MAXUINT32, &flags, NULL))
        return false;
    *ret_flags = flags;
    return true;
}

bool
job_flags_parse(const char *text, gssize length, const char *uuid, uint64_t *ret_flags,
                GError **error)
{
    g_autoptr(xmlDoc) document = xml_document_read(text, length, FILE_BYTES_MAX, DEPTH_MAX, error);
    const xmlNode *root = document != NULL ? xmlDocGetRootElement(document) : NULL;
    g_autofree char *its_uuid = NULL;
    g_autofree char *kind = NULL;
    g_autofree char *flags = NULL;

    if (document == NULL)
        return false;
    if (!xml_is_element(root, "", "domstatus"))
        return refuse(error, "it is no domain's state");
    its_uuid = xml_content(xml_child(xml_child(root, "domain"), "uuid"));
    if (its_uuid == NULL || g_ascii_strcasecmp(its_uuid, uuid) != 0)
        return refuse(error, "it is another domain's");
    kind = xml_attribute(xml_child(root, "job"), "async");
    if (g_strcmp0(kind, "migration out") != 0)
        return refuse(error, "it has no outgoing migration");
    flags = xml_attribute(xml_child(root, "job"), "flags");
    if (!flags_from_text(flags, ret_flags))
        return refuse(error, "its migration has no flags");
    return true;
}

bool
job_flags_read(const char *directory, const char *name, const char *uuid, uint64_t *ret_flags,
               GError **error)
{
    g_autofree char *file = g_strconcat(name, ".xml", NULL);
    g_autofree char *path = g_build_filename(directory, file, NULL);
    g_autofree char *text = NULL;
    GStatBuf status;
    gsize length;

    if (strchr(name, '/') != NULL || g_stat(path, &status) != 0 || !S_ISREG(status.st_mode) ||
        status.st_size > FILE_BYTES_MAX) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "%s: no regular file of that size",
                    path);
        return false;
    }
    return g_file_get_contents(path, &text, &length, error) &&
           job_flags_parse(text, (gssize)length, uuid, ret_flags, error);
}
