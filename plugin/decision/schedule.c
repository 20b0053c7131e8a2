/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which waiting migrations may start. It orders and admits; it holds no queue
 * and does not know what it said before.
 */
#include "decision/schedule.h"

#include <math.h>

/* What is known of one link while verdicts are given. */
typedef struct {
    bool in_use;
    uint32_t id;
    uint32_t running;
    uint64_t used; /* bytes/s its streams can take, saturating */
    bool high_running;
    bool fills; /* a stream on it fills any link */
    bool somebody_waits;
} Link;

/* At most half full: every item may name a link of its own. */
#define LINK_SLOTS (4 * SCHEDULE_ITEMS_MAX)

typedef struct {
    Link links[LINK_SLOTS];
} LinkTable;

ScheduleParams
schedule_params_default(void)
{
    return (ScheduleParams){
        .maximum_running = 0,
        .useful_stream = 0.5,
        .low_contention = 0.5,
        .weight = { [PRIORITY_LOW] = 1.0, [PRIORITY_MEDIUM] = 2.0, [PRIORITY_HIGH] = 4.0 },
    };
}

static ScheduleParams
params_or_default(const ScheduleParams *params)
{
    ScheduleParams defaults = schedule_params_default();
    ScheduleParams result = params != NULL ? *params : defaults;

    if (!(result.useful_stream > 0.0 && result.useful_stream <= 1.0))
        result.useful_stream = defaults.useful_stream;
    if (!(result.low_contention >= 0.0 && result.low_contention <= 1.0))
        result.low_contention = defaults.low_contention;
    for (unsigned int i = 0; i < 3; i++) {
        if (!(result.weight[i] >= 0.0 && isfinite(result.weight[i])))
            result.weight[i] = defaults.weight[i];
    }
    return result;
}

static unsigned int
priority_checked(Priority priority)
{
    return (unsigned int)priority <= PRIORITY_HIGH ? (unsigned int)priority : PRIORITY_LOW;
}

/* The order index (w + relief) / T; -1 when the time is not known. */
static double
order_index(const ScheduleItem *item, const ScheduleParams *params)
{
    double relief = item->relief > 0.0 && isfinite(item->relief) ? item->relief : 0.0;

    if (!(item->seconds > 0.0) || !isfinite(item->seconds))
        return -1.0;
    return (params->weight[priority_checked(item->priority)] + relief) / item->seconds;
}

typedef struct {
    const ScheduleItem *items;
    const ScheduleParams *params;
} OrderContext;

static bool
comes_before(const OrderContext *context, uint16_t left, uint16_t right)
{
    const ScheduleItem *a = &context->items[left];
    const ScheduleItem *b = &context->items[right];
    double index_a;
    double index_b;

    if (priority_checked(a->priority) != priority_checked(b->priority))
        return priority_checked(a->priority) > priority_checked(b->priority);
    index_a = order_index(a, context->params);
    index_b = order_index(b, context->params);
    if (index_a > index_b || index_a < index_b)
        return index_a > index_b;
    if (a->enqueued_us != b->enqueued_us)
        return a->enqueued_us < b->enqueued_us;
    if (a->id != b->id)
        return a->id < b->id;
    return left < right;
}

/*
 * Heap sort: O(n log n) for every input, in place, and unlike qsort_r() it
 * never allocates.
 */
static void
order_sift_down(const OrderContext *context, uint16_t *order, size_t root, size_t count)
{
    for (;;) {
        size_t child = 2 * root + 1;
        uint16_t swapped;

        if (child >= count)
            return;
        if (child + 1 < count && comes_before(context, order[child], order[child + 1]))
            child++;
        if (!comes_before(context, order[root], order[child]))
            return;
        swapped = order[root];
        order[root] = order[child];
        order[child] = swapped;
        root = child;
    }
}

static void
order_sort(const OrderContext *context, uint16_t *order, size_t count)
{
    for (size_t i = 0; i < count; i++)
        order[i] = (uint16_t)i;
    for (size_t i = count / 2; i > 0; i--)
        order_sift_down(context, order, i - 1, count);
    for (size_t end = count; end > 1; end--) {
        uint16_t last = order[end - 1];

        order[end - 1] = order[0];
        order[0] = last;
        order_sift_down(context, order, 0, end - 1);
    }
}

/* The entry of link `id`, which is made when it is not there. Open addressing. */
static Link *
link_find(LinkTable *table, uint32_t id)
{
    /* Multiplicative hashing: neighbouring ifindexes spread over the table. */
    size_t slot = (id * UINT32_C(2654435761)) % LINK_SLOTS;

    while (table->links[slot].in_use && table->links[slot].id != id)
        slot = (slot + 1) % LINK_SLOTS;
    table->links[slot].in_use = true;
    table->links[slot].id = id;
    return &table->links[slot];
}

static void
link_occupy(Link *link, const ScheduleItem *item)
{
    link->running++;
    if (item->stream_rate == 0)
        link->fills = true;
    link->used =
        link->used > UINT64_MAX - item->stream_rate ? UINT64_MAX : link->used + item->stream_rate;
    if (item->priority == PRIORITY_HIGH)
        link->high_running = true;
}

/* Is there room on the link for a useful part of one more stream? */
static bool
stream_leaves_room(const Link *link, const ScheduleItem *item, const ScheduleParams *params)
{
    if (link->fills || !item->available_known || item->stream_rate == 0 ||
        item->available <= link->used)
        return false;
    return (double)(item->available - link->used) >=
           (double)item->stream_rate * params->useful_stream;
}

/* Does the workload use little of the link? Unknown is not little. */
static bool
contention_is_low(const ScheduleItem *item, const ScheduleParams *params)
{
    if (!item->available_known || item->link_rate == 0)
        return false;
    return (double)item->available >= (double)item->link_rate * (1.0 - params->low_contention);
}

static ScheduleReason
judge(const Link *link, const ScheduleItem *item, uint64_t running_total,
      const ScheduleParams *params)
{
    if (params->maximum_running != 0 && running_total >= params->maximum_running)
        return SCHEDULE_WAIT_MAXIMUM;
    switch (params->scheduling) {
    case SCHEDULING_AUTOMATIC:
        break;
    case SCHEDULING_SERIAL:
        return running_total == 0 ? SCHEDULE_START_LINK_FREE : SCHEDULE_WAIT_SERIAL;
    case SCHEDULING_PARALLEL:
        return SCHEDULE_START_PARALLEL;
    }
    if (item->priority == PRIORITY_HIGH)
        return SCHEDULE_START_HIGH_PRIORITY;
    if (link->somebody_waits)
        return SCHEDULE_WAIT_TURN;
    if (link->running == 0)
        return SCHEDULE_START_LINK_FREE;
    if (stream_leaves_room(link, item, params))
        return SCHEDULE_START_STREAM_LEAVES_ROOM;
    if (link->high_running)
        return SCHEDULE_WAIT_HIGH_PRIORITY;
    if (item->technique != TECHNIQUE_POST_COPY)
        return SCHEDULE_WAIT_LINK_BUSY;
    return contention_is_low(item, params) ? SCHEDULE_START_POST_COPY : SCHEDULE_WAIT_CONTENTION;
}

static bool
reason_is_start(ScheduleReason reason)
{
    switch (reason) {
    case SCHEDULE_START_HIGH_PRIORITY:
    case SCHEDULE_START_LINK_FREE:
    case SCHEDULE_START_STREAM_LEAVES_ROOM:
    case SCHEDULE_START_POST_COPY:
    case SCHEDULE_START_PARALLEL:
        return true;
    case SCHEDULE_WAIT_LINK_BUSY:
    case SCHEDULE_WAIT_CONTENTION:
    case SCHEDULE_WAIT_HIGH_PRIORITY:
    case SCHEDULE_WAIT_TURN:
    case SCHEDULE_WAIT_SERIAL:
    case SCHEDULE_WAIT_MAXIMUM:
        return false;
    }
    return false;
}

bool
schedule_decide(const ScheduleItem *waiting, size_t waiting_count, const ScheduleItem *running,
                size_t running_count, const ScheduleParams *params, ScheduleVerdict *ret_verdicts)
{
    ScheduleParams used = params_or_default(params);
    OrderContext context = { .items = waiting, .params = &used };
    uint16_t order[SCHEDULE_ITEMS_MAX];
    uint64_t running_total = running_count;
    LinkTable table = { 0 };

    if (waiting_count > SCHEDULE_ITEMS_MAX || running_count > SCHEDULE_ITEMS_MAX)
        return false;

    for (size_t i = 0; i < running_count; i++)
        link_occupy(link_find(&table, running[i].link), &running[i]);

    order_sort(&context, order, waiting_count);
    for (size_t rank = 0; rank < waiting_count; rank++) {
        const ScheduleItem *item = &waiting[order[rank]];
        Link *link = link_find(&table, item->link);
        ScheduleReason reason = judge(link, item, running_total, &used);
        bool start = reason_is_start(reason);

        if (start) {
            link_occupy(link, item);
            running_total++;
        } else {
            link->somebody_waits = true;
        }
        ret_verdicts[order[rank]] =
            (ScheduleVerdict){ .start = start, .reason = reason, .rank = (uint32_t)rank };
    }
    return true;
}

const char *
schedule_reason_to_string(ScheduleReason reason)
{
    switch (reason) {
    case SCHEDULE_START_HIGH_PRIORITY:
        return "high priority never waits";
    case SCHEDULE_START_LINK_FREE:
        return "nothing else migrates over this link";
    case SCHEDULE_START_STREAM_LEAVES_ROOM:
        return "those that run cannot fill the link";
    case SCHEDULE_START_POST_COPY:
        return "post-copy and little contention: in parallel";
    case SCHEDULE_START_PARALLEL:
        return "the configuration says parallel";
    case SCHEDULE_WAIT_SERIAL:
        return "the configuration says serial";
    case SCHEDULE_WAIT_LINK_BUSY:
        return "a running migration fills the link: one after the other";
    case SCHEDULE_WAIT_CONTENTION:
        return "the workload needs the link: one after the other";
    case SCHEDULE_WAIT_HIGH_PRIORITY:
        return "a high-priority migration has the link";
    case SCHEDULE_WAIT_TURN:
        return "others come before it on this link";
    case SCHEDULE_WAIT_MAXIMUM:
        return "as many migrations run as the configuration allows";
    }
    return "unknown";
}
