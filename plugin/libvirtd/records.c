/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table of migrations and the list of calls under way; see records.h.
 */
#include "libvirtd/records.h"

#include <pthread.h>
#include <string.h>

typedef struct {
    char *key; /* NULL: free */
    RecordEnd end;
    Record record; /* the smallest serial is replaced first */
} Slot;

/* POSIX locks here: thread checkers understand them. */
static pthread_mutex_t records_lock = PTHREAD_MUTEX_INITIALIZER;
static Slot slots[RECORDS_MAXIMUM];
static uint64_t stores;
static RunningCall *running;

static Slot *
find_slot(RecordEnd end, const char *key)
{
    for (size_t i = 0; i < RECORDS_MAXIMUM; i++) {
        if (slots[i].key != NULL && slots[i].end == end && strcmp(slots[i].key, key) == 0)
            return &slots[i];
    }
    return NULL;
}

static Slot *
free_or_oldest_slot(void)
{
    Slot *oldest = &slots[0];

    for (size_t i = 0; i < RECORDS_MAXIMUM; i++) {
        if (slots[i].key == NULL)
            return &slots[i];
        if (slots[i].record.serial < oldest->record.serial)
            oldest = &slots[i];
    }
    return oldest;
}

void
records_put(RecordEnd end, const char *key, const Record *record)
{
    g_autofree char *copy = g_strdup(key);
    Slot *slot;

    if (key == NULL)
        return;
    pthread_mutex_lock(&records_lock);
    slot = find_slot(end, key);
    if (slot == NULL) {
        slot = free_or_oldest_slot();
        g_free(slot->key);
        slot->key = g_steal_pointer(&copy);
        slot->end = end;
    }
    slot->record = *record;
    slot->record.serial = ++stores;
    pthread_mutex_unlock(&records_lock);
}

bool
records_get(RecordEnd end, const char *key, Record *ret_record)
{
    const Slot *slot;

    if (key == NULL)
        return false;
    pthread_mutex_lock(&records_lock);
    slot = find_slot(end, key);
    if (slot != NULL)
        *ret_record = slot->record;
    pthread_mutex_unlock(&records_lock);
    return slot != NULL;
}

void
records_drop(RecordEnd end, const char *key, const Record *read)
{
    Slot *slot;

    if (key == NULL)
        return;
    pthread_mutex_lock(&records_lock);
    slot = find_slot(end, key);
    if (slot != NULL && (read == NULL || read->serial == slot->record.serial))
        g_clear_pointer(&slot->key, g_free);
    pthread_mutex_unlock(&records_lock);
}

void
running_call_enter(RunningCall *call, const char *uuid, const void *connection)
{
    memset(call, 0, sizeof(*call));
    call->held = true;
    call->connection = connection;
    g_strlcpy(call->uuid, uuid != NULL ? uuid : "", sizeof(call->uuid));
    pthread_mutex_lock(&records_lock);
    call->next = running;
    running = call;
    pthread_mutex_unlock(&records_lock);
}

void
running_call_leave(RunningCall *call)
{
    pthread_mutex_lock(&records_lock);
    for (RunningCall **link = &running; *link != NULL; link = &(*link)->next) {
        if (*link == call) {
            *link = call->next;
            break;
        }
    }
    pthread_mutex_unlock(&records_lock);
}

bool
running_call_start(RunningCall *call)
{
    bool aborted;

    pthread_mutex_lock(&records_lock);
    call->held = false;
    aborted = call->aborted;
    pthread_mutex_unlock(&records_lock);
    return !aborted;
}

bool
running_call_is_aborted(RunningCall *call)
{
    bool aborted;

    pthread_mutex_lock(&records_lock);
    aborted = call->aborted;
    pthread_mutex_unlock(&records_lock);
    return aborted;
}

/* All walks; connection NULL: anybody's; with mark, found calls are marked as aborted. */
static bool
walk_running(const char *uuid, const void *connection, bool held_only, bool mark)
{
    bool found = false;

    if (uuid == NULL || uuid[0] == '\0')
        return false;
    pthread_mutex_lock(&records_lock);
    for (RunningCall *call = running; call != NULL; call = call->next) {
        if (strcmp(call->uuid, uuid) != 0 || (held_only && !call->held) ||
            (connection != NULL && call->connection != connection))
            continue;
        found = true;
        if (mark)
            call->aborted = true;
    }
    pthread_mutex_unlock(&records_lock);
    return found;
}

bool
running_calls_any(const char *uuid, bool held_only)
{
    return walk_running(uuid, NULL, held_only, false);
}

bool
running_calls_held_by(const char *uuid, const void *connection)
{
    return connection != NULL && walk_running(uuid, connection, true, false);
}

bool
running_calls_abort(const char *uuid, bool held_only)
{
    return walk_running(uuid, NULL, held_only, true);
}
