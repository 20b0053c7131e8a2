/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any bytes as the state that libvirtd keeps of a domain. */
#include <stdlib.h>

#include "daemon/job-flags.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t flags = UINT64_MAX;
    g_autoptr(GError) error = NULL;
    bool known = job_flags_parse((const char *)data, (gssize)size,
                                 "67286e90-b71e-4306-a5da-dc93eb954b0d", &flags, &error);

    if (known != (error == NULL) || (known && flags > UINT32_MAX) ||
        (!known && flags != UINT64_MAX))
        abort();
    return 0;
}
