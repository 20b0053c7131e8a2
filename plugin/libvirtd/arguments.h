/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The arguments of a Call: one view of both families of entry points.
 */
#pragma once

#include "libvirtd/call.h"
#include "libvirtd/rules.h"

/* A text parameter by its name; for the family without a list: otherwise. */
const char *arguments_text(const Call *call, const char *name, const char *otherwise);

/* What the rules want to know of the caller's choice. */
Asked arguments_asked(const Call *call);

/*
 * The caller's arguments with the additions and, unless xml is NULL, another
 * domain XML. A list is a new array whose strings stay the caller's (and xml
 * the owner's of xml): arguments_clear frees the array only.
 */
CallArguments arguments_extend(const Call *call, const Additions *additions, const char *xml);
void arguments_clear(const Call *call, CallArguments *arguments);
