/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The texts of EnterCall: a Call as the daemon reads it, its answer as we do.
 *
 * The contract is xml-schemas/org.virtconvoy.Daemon1.xml. A value of another
 * type or out of range is as if it were not there.
 */
#pragma once

#include <glib.h>

#include "libvirtd/call.h"
#include "libvirtd/rules.h"

typedef struct {
    bool given; /* false: the daemon did not answer, all else is empty */
    uint64_t ticket;
    bool wait;
    Additions wanted;     /* not yet reduced by the rules */
    char *cookie_element; /* NULL: none */
    char *domain_xml;     /* NULL: unchanged */
} Answer;

void answer_clear(Answer *answer);

/* reply: a{sv}; NULL gives the empty answer. */
void answer_parse(GVariant *reply, Answer *ret_answer);

/* What the daemon is told beside the call itself; NULL and 0 leave out. */
typedef struct {
    const char *uuid;
    const char *name;
    const char *domain_xml;
    uint64_t standing_bandwidth; /* MiB/s, of `virsh migrate-setspeed` */
    uint64_t implied_flags;      /* VIR_MIGRATE_*, which libvirt will set by itself */
    uint64_t held_ms;            /* prepare: that the source's call waited for its turn */
} CallFacts;

/* The call dictionary of EnterCall, floating. */
GVariant *answer_describe_call(const Call *call, const CallFacts *facts);

/* Adds a string if it is valid UTF-8 of at most maximum bytes. */
void answer_add_text(GVariantBuilder *builder, const char *key, const char *text, size_t maximum);
