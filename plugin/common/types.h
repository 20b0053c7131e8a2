/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The vocabulary that every layer shares: priority, technique and rates.
 *
 * Plain C without GLib so that the pure layer (decision/) can use it. Rates
 * are bytes per second in 64 bits everywhere inside the program; only parsing
 * and printing know other units.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* How urgent a migration is; from domain metadata, else the configuration. */
typedef enum {
    PRIORITY_LOW = 0,
    PRIORITY_MEDIUM = 1,
    PRIORITY_HIGH = 2,
} Priority;

/* How memory moves. Hybrid is one pass of pre-copy followed by post-copy. */
typedef enum {
    TECHNIQUE_PRE_COPY = 0,
    TECHNIQUE_POST_COPY = 1,
    TECHNIQUE_HYBRID = 2,
} Technique;

/* The set of techniques that somebody allows. */
typedef enum {
    TECHNIQUE_ALLOW_PRE_COPY = 1u << TECHNIQUE_PRE_COPY,
    TECHNIQUE_ALLOW_POST_COPY = 1u << TECHNIQUE_POST_COPY,
    TECHNIQUE_ALLOW_HYBRID = 1u << TECHNIQUE_HYBRID,
    TECHNIQUE_ALLOW_ALL = 7u,
} TechniqueSet;

/* Who may run beside whom; automatic is step 3 of the algorithm. */
typedef enum {
    SCHEDULING_AUTOMATIC = 0,
    SCHEDULING_SERIAL = 1,   /* one at a time, whatever its priority */
    SCHEDULING_PARALLEL = 2, /* nobody waits */
} Scheduling;

/*
 * Traffic of a host's uplink or of one VM, seen from the host or VM that owns
 * it: `in` is what it receives, `out` what it sends, in bytes per second.
 * With valid == false the numbers mean nothing: unknown is not zero.
 */
typedef struct {
    bool valid;
    uint64_t in;
    uint64_t out;
} TrafficRates;

/* Names as users write and read them: "low", "pre-copy", ... */
const char *priority_to_string(Priority priority);
bool priority_from_string(const char *text, Priority *ret_priority);
const char *technique_to_string(Technique technique);
bool technique_from_string(const char *text, Technique *ret_technique);
const char *scheduling_to_string(Scheduling scheduling);
bool scheduling_from_string(const char *text, Scheduling *ret_scheduling);
