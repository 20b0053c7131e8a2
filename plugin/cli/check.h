/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Is everything in place for the next migration? For people, after an installation or
 * an upgrade. Looks only; each finding that is not as it should be says what to do.
 */
#pragma once

#include <glib.h>

typedef enum {
    CHECK_OK = 0,
    CHECK_NOTE,   /* works, with less than there could be */
    CHECK_FAILED, /* migrations run as without virt-convoy, or without a part of it */
} CheckLevel;

typedef struct {
    const char *what; /* static: "daemon", "plugin", ... */
    CheckLevel level;
    char *text; /* one line */
} CheckFinding;

/* All of it belongs to the caller. */
typedef struct {
    const char *status;         /* the daemon's GetStatus, as it came; NULL: no answer */
    const char *status_problem; /* why there is none, and what to do */
    const GPtrArray *warnings;  /* of the configuration file, char * */
    const char *processes;      /* "/proc" */
    const char *hook;           /* where libvirt looks for it */
    const char *drop_ins;       /* the folder of systemd's <daemon>.service.d */
} CheckInput;

/* Elements are CheckFinding; g_ptr_array_unref. */
GPtrArray *check_findings(const CheckInput *input);

CheckLevel check_worst(const GPtrArray *findings);

/* One line for each, or a JSON array of {"check", "level", "text"}; g_free. */
char *check_to_text(const GPtrArray *findings);
char *check_to_json(const GPtrArray *findings);
