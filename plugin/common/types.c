/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of the shared enumerations; no parsing of anything larger. */
#include "common/types.h"

#include <stddef.h>
#include <string.h>

static const char *const priority_names[] = {
    [PRIORITY_LOW] = "low",
    [PRIORITY_MEDIUM] = "medium",
    [PRIORITY_HIGH] = "high",
};

static const char *const technique_names[] = {
    [TECHNIQUE_PRE_COPY] = "pre-copy",
    [TECHNIQUE_POST_COPY] = "post-copy",
    [TECHNIQUE_HYBRID] = "hybrid",
};

static const char *const scheduling_names[] = {
    [SCHEDULING_AUTOMATIC] = "automatic",
    [SCHEDULING_SERIAL] = "serial",
    [SCHEDULING_PARALLEL] = "parallel",
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool
name_find(const char *const *names, size_t count, const char *text, size_t *ret_index)
{
    if (text == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], text) == 0) {
            *ret_index = i;
            return true;
        }
    }
    return false;
}

const char *
priority_to_string(Priority priority)
{
    return (size_t)priority < COUNT(priority_names) ? priority_names[priority] : "unknown";
}

bool
priority_from_string(const char *text, Priority *ret_priority)
{
    size_t index;

    if (!name_find(priority_names, COUNT(priority_names), text, &index))
        return false;
    *ret_priority = (Priority)index;
    return true;
}

const char *
technique_to_string(Technique technique)
{
    return (size_t)technique < COUNT(technique_names) ? technique_names[technique] : "unknown";
}

bool
technique_from_string(const char *text, Technique *ret_technique)
{
    size_t index;

    if (!name_find(technique_names, COUNT(technique_names), text, &index))
        return false;
    *ret_technique = (Technique)index;
    return true;
}

const char *
scheduling_to_string(Scheduling scheduling)
{
    return (size_t)scheduling < COUNT(scheduling_names) ? scheduling_names[scheduling] : "unknown";
}

bool
scheduling_from_string(const char *text, Scheduling *ret_scheduling)
{
    size_t index;

    if (!name_find(scheduling_names, COUNT(scheduling_names), text, &index))
        return false;
    *ret_scheduling = (Scheduling)index;
    return true;
}
