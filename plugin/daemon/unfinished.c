/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Post-copies under way, as files; see unfinished.h. */
#include "daemon/unfinished.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#define FOLDER "post-copy"
#define GROUP "migration"
#define FILE_BYTES_MAX (8u * UNFINISHED_TEXT_MAX)

void
unfinished_free(Unfinished *unfinished)
{
    if (unfinished == NULL)
        return;
    g_free(unfinished->uuid);
    g_free(unfinished->name);
    g_free(unfinished->destination_uri);
    g_free(unfinished->migrate_uri);
    g_free(unfinished->destination_name);
    g_free(unfinished);
}

static char *
path_of(const char *directory, const char *uuid)
{
    g_autofree char *name = g_ascii_strdown(uuid, -1);

    return g_build_filename(directory, FOLDER, name, NULL);
}

static void
set_text(GKeyFile *file, const char *key, const char *text)
{
    if (text != NULL)
        g_key_file_set_string(file, GROUP, key, text);
}

bool
unfinished_write(const char *directory, const Unfinished *unfinished, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autofree char *folder = g_build_filename(directory, FOLDER, NULL);
    g_autofree char *path = NULL;
    g_autofree char *text = NULL;
    gsize length = 0;

    if (unfinished->uuid == NULL || !g_uuid_string_is_valid(unfinished->uuid)) {
        g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "the UUID is none");
        return false;
    }
    if (g_mkdir_with_parents(folder, 0700) != 0) {
        g_set_error(error, G_FILE_ERROR, (int)g_file_error_from_errno(errno), "%s: %s", folder,
                    g_strerror(errno));
        return false;
    }
    set_text(file, "name", unfinished->name);
    set_text(file, "destination-uri", unfinished->destination_uri);
    set_text(file, "migrate-uri", unfinished->migrate_uri);
    set_text(file, "destination-name", unfinished->destination_name);
    g_key_file_set_uint64(file, GROUP, "flags", unfinished->flags);
    g_key_file_set_boolean(file, GROUP, "peer-to-peer", unfinished->peer_to_peer);
    path = path_of(directory, unfinished->uuid);
    text = g_key_file_to_data(file, &length, NULL);
    return g_file_set_contents_full(path, text, (gssize)length, G_FILE_SET_CONTENTS_CONSISTENT,
                                    0600, error);
}

void
unfinished_remove(const char *directory, const char *uuid)
{
    g_autofree char *path = NULL;

    if (uuid == NULL || !g_uuid_string_is_valid(uuid))
        return;
    path = path_of(directory, uuid);
    g_unlink(path);
}

/* False when it is there and cannot be used. */
static bool
get_text(GKeyFile *file, const char *key, char **ret_text, GError **error)
{
    g_autofree char *text = NULL;

    *ret_text = NULL;
    if (!g_key_file_has_key(file, GROUP, key, NULL))
        return true;
    text = g_key_file_get_string(file, GROUP, key, error);
    if (text == NULL)
        return false;
    if (*text == '\0' || strlen(text) > UNFINISHED_TEXT_MAX) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s has %zu bytes, not 1 to %u", key,
                    strlen(text), UNFINISHED_TEXT_MAX);
        return false;
    }
    *ret_text = g_steal_pointer(&text);
    return true;
}

static Unfinished *
unfinished_read(const char *path, const char *uuid, GError **error)
{
    g_autoptr(Unfinished) unfinished = g_new0(Unfinished, 1);
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autofree char *flags = NULL;
    g_autoptr(GError) local = NULL;
    GStatBuf status;

    if (!g_uuid_string_is_valid(uuid) || g_stat(path, &status) != 0 || !S_ISREG(status.st_mode) ||
        status.st_size > FILE_BYTES_MAX) {
        g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                            "no regular file of that size named by a UUID");
        return NULL;
    }
    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, error))
        return NULL;
    unfinished->uuid = g_strdup(uuid);
    if (!get_text(file, "name", &unfinished->name, error) ||
        !get_text(file, "destination-uri", &unfinished->destination_uri, error) ||
        !get_text(file, "migrate-uri", &unfinished->migrate_uri, error) ||
        !get_text(file, "destination-name", &unfinished->destination_name, error))
        return NULL;
    /* g_key_file_get_uint64() takes what is too large. */
    flags = g_key_file_get_string(file, GROUP, "flags", &local);
    if (local == NULL)
        g_ascii_string_to_unsigned(flags, 10, 0, G_MAXUINT64, &unfinished->flags, &local);
    if (local == NULL)
        unfinished->peer_to_peer = g_key_file_get_boolean(file, GROUP, "peer-to-peer", &local);
    if (local == NULL && unfinished->name == NULL)
        g_set_error_literal(&local, G_FILE_ERROR, G_FILE_ERROR_INVAL, "it has no name");
    if (local != NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    return g_steal_pointer(&unfinished);
}

GPtrArray *
unfinished_list(const char *directory, GPtrArray *problems)
{
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)unfinished_free);
    g_autofree char *folder = g_build_filename(directory, FOLDER, NULL);
    g_autoptr(GDir) names = g_dir_open(folder, 0, NULL);
    const char *name;

    while (names != NULL && list->len < UNFINISHED_MAX && (name = g_dir_read_name(names))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autoptr(GError) error = NULL;
        Unfinished *unfinished = unfinished_read(path, name, &error);

        if (unfinished != NULL)
            g_ptr_array_add(list, unfinished);
        else
            g_ptr_array_add(problems, g_strdup_printf("%s: %s", path, error->message));
    }
    return list;
}
