/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Text of LD_PRELOAD and of the program's name; see environment.h.
 *
 * Runs in a constructor, before main: libc only, no GLib.
 */
#include "libvirtd/environment.h"

#include <stdlib.h>
#include <string.h>

static const char *
file_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

static bool
entry_names_object(const char *entry, size_t length, const char *path)
{
    const char *name = file_name(path);
    size_t name_length = strlen(name);

    if (length == strlen(path) && memcmp(entry, path, length) == 0)
        return true;
    if (name_length == 0 || length < name_length)
        return false;
    if (memcmp(entry + length - name_length, name, name_length) != 0)
        return false;
    return length == name_length || entry[length - name_length - 1] == '/';
}

char *
environment_without_object(const char *list, const char *path)
{
    char *kept;
    size_t used = 0;

    if (list == NULL || path == NULL)
        return NULL;
    kept = malloc(strlen(list) + 1);
    if (kept == NULL)
        return NULL;

    while (*list != '\0') {
        size_t length = strcspn(list, ": "); /* ld.so splits at both */

        if (length > 0 && !entry_names_object(list, length, path)) {
            if (used > 0)
                kept[used++] = ':';
            memcpy(kept + used, list, length);
            used += length;
        }
        list += length;
        if (*list != '\0')
            list++;
    }
    kept[used] = '\0';
    return kept;
}

bool
environment_is_driver_daemon(const char *program)
{
    if (program == NULL)
        return false;
    program = file_name(program);
    return strcmp(program, "libvirtd") == 0 || strcmp(program, "virtqemud") == 0;
}
