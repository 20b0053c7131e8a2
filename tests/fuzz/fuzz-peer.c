/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any bytes as a migration cookie and as an offer. */
#include <stdlib.h>
#include <string.h>

#include "common/peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was read is written and read back to the same. */
static void
report_check(const PeerReport *report)
{
    g_autofree char *once = peer_report_to_offer(report);
    g_autofree char *twice = NULL;
    PeerReport back;

    if (!peer_report_from_offer(once, -1, &back, NULL))
        abort();
    twice = peer_report_to_offer(&back);
    if (strcmp(once, twice) != 0)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PeerReport report;

    if (peer_report_from_cookie((const char *)data, (gssize)size, &report, NULL))
        report_check(&report);
    if (peer_report_from_offer((const char *)data, (gssize)size, &report, NULL))
        report_check(&report);
    return 0;
}
