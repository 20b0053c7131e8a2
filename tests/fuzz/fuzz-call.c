/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any dictionary as the call that EnterCall brings from libvirtd: texts in
 * GVariant's own notation, or else its bytes as they are. What is read keeps
 * the limits that the rest of the daemon relies on.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/calls-private.h"
#include "dictionary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The manager's part is not what is tried here. */
void
manager_describe(Manager *manager, Migration *migration, DomainDescription *description)
{
    (void)manager;
    (void)migration;
    domain_description_free(description);
}

void
manager_exclude_post_copy(Migration *migration, const char *reason)
{
    (void)migration;
    if (reason != NULL && *reason == '\0')
        abort();
}

static void
check_text(const char *text, size_t maximum)
{
    if (text != NULL && (strlen(text) > maximum || !g_utf8_validate(text, -1, NULL)))
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GVariant) dictionary = dictionary_of(data, size);
    Migration *migration = g_new0(Migration, 1);
    g_auto(Call) call = { 0 };

    calls_read(dictionary, &call);
    if (call.uuid != NULL && !g_uuid_string_is_valid(call.uuid))
        abort();
    check_text(call.destination_uri, 4096);
    check_text(call.migrate_uri, 4096);
    if (calls_apply(NULL, migration, &call, NULL) && migration->flags != call.flags)
        abort();
    g_free(migration->recovery.destination_name);
    g_free(migration);
    return 0;
}
