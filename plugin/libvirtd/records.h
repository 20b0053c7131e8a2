/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What this process remembers of a migration between two of its phases.
 *
 * The caller repeats its original flags in every phase; what was added in an
 * earlier one must be added again, also when the daemon has died meanwhile. A
 * bounded table in memory: the oldest record gives way. Thread-safe; the lock
 * is never held across anything but a table look-up.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define RECORDS_MAXIMUM 256u

typedef enum {
    RECORD_SOURCE,      /* key: the domain's UUID */
    RECORD_DESTINATION, /* key: the name of the incoming domain */
} RecordEnd;

/* Plain data. */
typedef struct {
    uint64_t ticket;      /* the daemon's name for the migration; 0 not followed */
    uint64_t follows;     /* source: flags promised to be taken over from Prepare */
    uint64_t added_flags; /* what Perform or Prepare had on top */
    gint64 budget;        /* microseconds the daemon may still cost */
    bool given_up;        /* the daemon failed to answer: do not ask again */
    uint64_t serial;      /* of the store; records_put sets its own */
} Record;

/* Stores a copy under (end, key); replaces an older one. */
void records_put(RecordEnd end, const char *key, const Record *record);

/* Copies out; false (ret_record untouched) when there is none. */
bool records_get(RecordEnd end, const char *key, Record *ret_record);

/*
 * Absent is fine. read: what the caller got from records_get, so that what another
 * thread has stored meanwhile for the next migration stays; NULL: whatever is there.
 */
void records_drop(RecordEnd end, const char *key, const Record *read);

/*
 * A call that is under way in some thread, so that an abort can find it. The
 * node lives on the stack of that thread between enter and leave.
 */
typedef struct RunningCall RunningCall;
struct RunningCall {
    char uuid[64];
    const void *connection; /* the client's, only compared; NULL: none to compare */
    bool held;              /* the real function has not been called yet */
    bool aborted;           /* the user asked for its end */
    RunningCall *next;
};

/* From here on the call is held. */
void running_call_enter(RunningCall *call, const char *uuid, const void *connection);
/* The real function comes next; false when the call was aborted before. */
bool running_call_start(RunningCall *call);
bool running_call_is_aborted(RunningCall *call);
void running_call_leave(RunningCall *call);

/* Whether a call for the domain is under way, or even held. */
bool running_calls_any(const char *uuid, bool held_only);
/* Whether this client's own call for the domain is held. */
bool running_calls_held_by(const char *uuid, const void *connection);
/* Marks them as aborted; false when there is none. */
bool running_calls_abort(const char *uuid, bool held_only);
