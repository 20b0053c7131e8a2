/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From plan and observation to tc and ip commands (pure), and running them.
 *
 * Rendering gives argument vectors, never a line for a shell. Steps in a row
 * for one program become one `-batch -` process, so a change of rates is one
 * fork. VIRT_CONVOY_TC and VIRT_CONVOY_IP name other programs, for tests.
 */
#pragma once

#include "shaping/features.h"
#include "shaping/observe.h"
#include "shaping/plan.h"

typedef enum {
    SHAPING_TOOL_TC,
    SHAPING_TOOL_IP,
} ShapingTool;

/*
 * What a step leaves standing that needs an undo of its own. Classes, leaf
 * qdiscs and filters need none: they go with their root.
 */
typedef enum {
    SHAPING_LEAVES_NOTHING = 0,
    SHAPING_LEAVES_ROOT,    /* htb c0b0: on a device */
    SHAPING_LEAVES_INGRESS, /* ingress qdisc on a device */
    SHAPING_LEAVES_IFB,     /* the ifb device */
} ShapingLeaves;

typedef struct {
    ShapingTool tool;
    char **arguments; /* after the program's name */
    ShapingLeaves leaves;
    char device[IF_NAMESIZE];
    char **undo; /* arguments of the same program; NULL when it needs none */
} ShapingStep;

/* `line` is split at its spaces: it may hold checked names only. */
ShapingStep *shaping_step_new(ShapingTool tool, ShapingLeaves leaves, const char *device,
                              const char *line);
void shaping_step_free(ShapingStep *step);

/* "tc class add dev eth0 ..." for logs and golden files. */
char *shaping_step_to_string(const ShapingStep *step);

/*
 * The steps from what stands to what `plan` wants; none when it stands
 * already. For ingress, `uplink` is the real interface and `ifb` its ifb; for
 * egress `ifb` is NULL. The plan must be valid and normalised. Pure: element
 * type ShapingStep, free with g_ptr_array_unref.
 */
GPtrArray *shaping_difference(const ShapingPlan *plan, const Observed *uplink, const Observed *ifb,
                              const ShapingFeatures *features);

/*
 * The steps that take off everything of ours in that direction. An ingress
 * qdisc without filters is taken off only with `empty_ingress_is_ours`.
 */
GPtrArray *shaping_difference_remove(const char *interface, ShapingDirection direction,
                                     const Observed *uplink, const Observed *ifb,
                                     bool empty_ingress_is_ours);

/* The step that takes one such thing off: shared by steps and journal. */
ShapingStep *shaping_step_undo(ShapingLeaves leaves, const char *device);

enum { SHAPING_STEP_TIMEOUT_MS = 2000 };

/*
 * Runs the steps in order, a batch bounded by SHAPING_STEP_TIMEOUT_MS. Stops
 * at the first failure, whose message quotes the step and the program's first
 * words. Undoes nothing: the shaper does. Blocks; any thread.
 */
gboolean shaping_run(GPtrArray *steps, GError **error);
