/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What tests that make a Manager or a Server begin with. */
#pragma once

#include "common/log.h"

#include <glib.h>
#include <libvirt-glib/libvirt-glib.h>
#include <libvirt/virterror.h>

/* What libvirt's test driver refuses is expected: nothing is printed of it. */
static inline void
daemon_test_silent(void *data G_GNUC_UNUSED, virErrorPtr error G_GNUC_UNUSED)
{
}

static inline void
daemon_test_init(int *argc, char ***argv)
{
    g_test_init(argc, argv, NULL);
    virSetErrorFunc(NULL, daemon_test_silent);
    gvir_event_register();
    log_open(CONFIG_LOG_ERROR, NULL, NULL);
}
