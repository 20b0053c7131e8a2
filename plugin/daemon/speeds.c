/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Limits that libvirt keeps; see speeds.h. */
#include "daemon/speeds.h"

#include <glib/gstdio.h>

#define FILE_NAME "speeds"
#define GROUP "told"
#define MIB_MAX ((guint64)INT64_MAX >> 20) /* libvirt's */
/* Of a file that is read; a host does not have that many domains. */
#define FILE_BYTES_MAX (256u * 1024u)

struct Speeds {
    char *path;
    GKeyFile *told;
};

static void
speeds_load(Speeds *speeds)
{
    g_autofree char *text = NULL;
    gsize length = 0;
    g_auto(GStrv) uuids = NULL;

    if (!g_file_get_contents(speeds->path, &text, &length, NULL) || length > FILE_BYTES_MAX ||
        !g_key_file_load_from_data(speeds->told, text, length, G_KEY_FILE_NONE, NULL))
        return;
    uuids = speeds_list(speeds);
    for (char **uuid = uuids; *uuid != NULL; uuid++) {
        if (!g_uuid_string_is_valid(*uuid) || speeds_told(speeds, *uuid) == 0)
            g_key_file_remove_key(speeds->told, GROUP, *uuid, NULL);
    }
}

Speeds *
speeds_new(const char *directory)
{
    Speeds *speeds = g_new0(Speeds, 1);

    speeds->path = g_build_filename(directory, FILE_NAME, NULL);
    speeds->told = g_key_file_new();
    speeds_load(speeds);
    return speeds;
}

void
speeds_free(Speeds *speeds)
{
    if (speeds == NULL)
        return;
    g_key_file_unref(speeds->told);
    g_free(speeds->path);
    g_free(speeds);
}

/* What cannot be written is still known to this daemon. */
static void
speeds_save(const Speeds *speeds)
{
    g_auto(GStrv) uuids = speeds_list(speeds);
    g_autofree char *text = NULL;
    gsize length = 0;

    if (uuids[0] == NULL) {
        g_unlink(speeds->path);
        return;
    }
    text = g_key_file_to_data(speeds->told, &length, NULL);
    g_file_set_contents_full(speeds->path, text, (gssize)length, G_FILE_SET_CONTENTS_CONSISTENT,
                             0600, NULL);
}

uint64_t
speeds_told(const Speeds *speeds, const char *uuid)
{
    g_autofree char *text =
        uuid != NULL ? g_key_file_get_value(speeds->told, GROUP, uuid, NULL) : NULL;
    guint64 mib = 0;

    return text != NULL && g_ascii_string_to_unsigned(text, 10, 1, MIB_MAX, &mib, NULL) ? mib : 0;
}

void
speeds_tell(Speeds *speeds, const char *uuid, uint64_t mib)
{
    if (uuid == NULL || !g_uuid_string_is_valid(uuid) || mib == 0 || mib > MIB_MAX ||
        speeds_told(speeds, uuid) == mib)
        return;
    g_key_file_set_uint64(speeds->told, GROUP, uuid, mib);
    speeds_save(speeds);
}

void
speeds_forget(Speeds *speeds, const char *uuid)
{
    if (speeds_told(speeds, uuid) == 0)
        return;
    g_key_file_remove_key(speeds->told, GROUP, uuid, NULL);
    speeds_save(speeds);
}

char **
speeds_list(const Speeds *speeds)
{
    char **uuids = g_key_file_get_keys(speeds->told, GROUP, NULL, NULL);

    return uuids != NULL ? uuids : g_new0(char *, 1);
}
