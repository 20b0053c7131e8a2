/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The manager's records as JSON for `virt-convoy status` and `explain`, and
 * one history line per finished migration. Rates bytes/s, times seconds.
 */
#pragma once

#include "daemon/manager.h"

/* Free with g_free. */
char *report_status(const Manager *manager);

/* One migration with its log, on one line. Free with g_free. */
char *report_migration(const Migration *migration);

/* domain: name or UUID; "" means all that are remembered. */
char *report_explain(const Manager *manager, const char *domain);
