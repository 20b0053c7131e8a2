/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which waiting migrations may start. It orders and admits; it holds no queue
 * and does not know what it said before.
 */
#include "decision/schedule.h"

#include "decision/allocate.h"

#include <math.h>

/* What is known of one link while verdicts are given. */
typedef struct {
    bool in_use;
    uint32_t id;
    uint32_t running;
    uint64_t used; /* bytes/s its streams can take, saturating */
    bool high_running;
    bool post_copy_running;
    Priority priority; /* the highest of those that run */
    bool shares;       /* one of them does not take turns */
    bool fills;        /* a stream on it fills any link */
    bool settled;      /* one that waits for it is not new any more */
    /* Of a plan: those that take turns, and whose turn it is. */
    uint32_t in_turn;
    uint16_t turn;
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
        .low_contention = 0.0,
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

/* The order index (w + relief) / T; -1e300 when the time is not known. */
static double
order_index(const ScheduleItem *item, const ScheduleParams *params)
{
    double relief = isfinite(item->relief) ? item->relief : 0.0;

    if (!(item->seconds > 0.0) || !isfinite(item->seconds))
        return -1e300;
    return (params->weight[priority_checked(item->priority)] + relief) / item->seconds;
}

/* The items may be members of larger structs: `stride` bytes from one to the next. */
typedef struct {
    const void *items;
    size_t stride;
    const ScheduleParams *params;
} OrderContext;

static const ScheduleItem *
order_item(const OrderContext *context, size_t index)
{
    return (const ScheduleItem *)((const char *)context->items + index * context->stride);
}

static bool
comes_before(const OrderContext *context, uint16_t left, uint16_t right)
{
    const ScheduleItem *a = order_item(context, left);
    const ScheduleItem *b = order_item(context, right);
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
    if (item->technique == TECHNIQUE_POST_COPY)
        link->post_copy_running = true;
    if (link->running == 1 || item->priority > link->priority)
        link->priority = item->priority;
    link->shares = link->shares || !item->takes_turns;
}

/*
 * Is there room on the link for a useful part of one more stream? One that is unknown
 * reaches what the others do.
 */
static bool
stream_leaves_room(const Link *link, const ScheduleItem *item, const ScheduleParams *params)
{
    double stream =
        item->stream_rate != 0 ? (double)item->stream_rate : (double)link->used / link->running;

    if (link->fills || !item->available_known || item->available <= link->used)
        return false;
    return (double)(item->available - link->used) >= stream * params->useful_stream;
}

/* Does the workload use little of the link? Unknown is not little. */
static bool
contention_is_low(const ScheduleItem *item, const ScheduleParams *params)
{
    if (!item->available_known || item->link_rate == 0)
        return false;
    return (double)item->available >= (double)item->link_rate * (1.0 - params->low_contention);
}

/*
 * One, beside the first: what a third one sent would mostly be dirtied again. And one
 * that is more urgent than all: it goes first.
 */
static bool
may_stand_by(const Link *link, const ScheduleItem *item)
{
    return (link->running == 1 || item->priority > link->priority) && !link->shares &&
           item->takes_turns && !link->post_copy_running && item->technique != TECHNIQUE_POST_COPY;
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
        return item->gathering && !link->settled ? SCHEDULE_WAIT_GATHERING
                                                 : SCHEDULE_START_LINK_FREE;
    if (stream_leaves_room(link, item, params))
        return SCHEDULE_START_STREAM_LEAVES_ROOM;
    if (link->high_running)
        return SCHEDULE_WAIT_HIGH_PRIORITY;
    if (may_stand_by(link, item))
        return SCHEDULE_START_STAND_BY;
    if (item->technique != TECHNIQUE_POST_COPY || !(params->low_contention > 0.0))
        return SCHEDULE_WAIT_LINK_BUSY;
    return contention_is_low(item, params) ? SCHEDULE_START_POST_COPY : SCHEDULE_WAIT_CONTENTION;
}

bool
schedule_reason_is_start(ScheduleReason reason)
{
    switch (reason) {
    case SCHEDULE_START_HIGH_PRIORITY:
    case SCHEDULE_START_LINK_FREE:
    case SCHEDULE_START_STREAM_LEAVES_ROOM:
    case SCHEDULE_START_POST_COPY:
    case SCHEDULE_START_PARALLEL:
    case SCHEDULE_START_STAND_BY:
        return true;
    case SCHEDULE_WAIT_LINK_BUSY:
    case SCHEDULE_WAIT_CONTENTION:
    case SCHEDULE_WAIT_HIGH_PRIORITY:
    case SCHEDULE_WAIT_TURN:
    case SCHEDULE_WAIT_SERIAL:
    case SCHEDULE_WAIT_MAXIMUM:
    case SCHEDULE_WAIT_GATHERING:
        return false;
    }
    return false;
}

static uint64_t
less(uint64_t from, uint64_t amount)
{
    return from > amount ? from - amount : 0;
}

double
schedule_relief(const ScheduleReliefInput *input)
{
    uint64_t out = input->source_link != 0 ? input->source_free : UINT64_MAX;
    uint64_t in = input->destination_link != 0 ? input->destination_free : UINT64_MAX;
    uint64_t link = input->source_link;
    uint64_t before = out < in ? out : in;
    uint64_t after;
    double relief;

    if (link == 0 || (input->destination_link != 0 && input->destination_link < link))
        link = input->destination_link;
    if (link == 0 || !input->vm.valid)
        return 0.0;
    if (input->source_link != 0)
        out = out > UINT64_MAX - input->vm.out ? UINT64_MAX : out + input->vm.out;
    if (input->destination_link != 0)
        in = less(in, input->vm.in);
    after = out < in ? out : in;
    relief = after >= before ? (double)(after - before) : -(double)(before - after);
    relief /= (double)link;
    return relief > 1.0 ? 1.0 : relief < -1.0 ? -1.0 : relief;
}

double
schedule_seconds_left(uint64_t remaining, uint64_t rate, uint64_t dirty_rate)
{
    if (rate <= dirty_rate)
        return -1.0;
    return (double)remaining / (double)(rate - dirty_rate);
}

bool
schedule_decide(const ScheduleItem *waiting, size_t waiting_count, const ScheduleItem *running,
                size_t running_count, const ScheduleParams *params, ScheduleVerdict *ret_verdicts)
{
    ScheduleParams used = params_or_default(params);
    OrderContext context = { .items = waiting, .stride = sizeof(*waiting), .params = &used };
    uint16_t order[SCHEDULE_ITEMS_MAX];
    uint64_t running_total = running_count;
    LinkTable table = { 0 };

    if (waiting_count > SCHEDULE_ITEMS_MAX || running_count > SCHEDULE_ITEMS_MAX)
        return false;

    for (size_t i = 0; i < running_count; i++)
        if (!running[i].ending)
            link_occupy(link_find(&table, running[i].link), &running[i]);
    for (size_t i = 0; i < waiting_count; i++)
        if (!waiting[i].gathering)
            link_find(&table, waiting[i].link)->settled = true;

    order_sort(&context, order, waiting_count);
    for (size_t rank = 0; rank < waiting_count; rank++) {
        const ScheduleItem *item = &waiting[order[rank]];
        Link *link = link_find(&table, item->link);
        ScheduleReason reason = judge(link, item, running_total, &used);
        bool start = schedule_reason_is_start(reason);

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

static bool
sources_differ(const ScheduleIncoming *one, const ScheduleIncoming *other)
{
    return one->source != 0 && other->source != 0 && one->source != other->source;
}

ScheduleReason
schedule_admit(const ScheduleIncoming *candidate, const ScheduleIncoming *running,
               size_t running_count, const ScheduleIncoming *ahead, size_t ahead_count,
               const ScheduleParams *params)
{
    ScheduleParams used = params_or_default(params);
    ScheduleItem item = candidate->item;
    uint64_t others = 0;
    Link link = { 0 };

    used.maximum_running = 0;
    item.takes_turns = false;
    for (size_t i = 0; i < running_count; i++) {
        if (!sources_differ(candidate, &running[i]) || running[i].item.ending)
            continue;
        link_occupy(&link, &running[i].item);
        others++;
    }
    for (size_t i = 0; i < ahead_count && running_count != 0; i++)
        link.somebody_waits |=
            sources_differ(candidate, &ahead[i]) &&
            priority_checked(ahead[i].item.priority) >= priority_checked(item.priority);
    return judge(&link, &item, others, &used);
}

/* ---- a whole gang ------------------------------------------------------ */

typedef enum {
    PLAN_WAITING,
    PLAN_RUNNING,
    PLAN_ENDED,
} PlanState;

typedef struct {
    const SchedulePlanItem *items;
    size_t item_count;
    const SchedulePlanLink *table;
    size_t link_count;
    ScheduleParams params;
    Link links[SCHEDULE_PLAN_LINKS_MAX];
    uint16_t order[SCHEDULE_ITEMS_MAX];
    PlanState states[SCHEDULE_ITEMS_MAX];
    double left[SCHEDULE_ITEMS_MAX];   /* bytes, or seconds alone on its links */
    int64_t place[SCHEDULE_ITEMS_MAX]; /* the order in which they began */
    uint64_t running_total;
    int64_t started;
} Plan;

static const SchedulePlanLink *
plan_table_link(const Plan *plan, uint32_t index)
{
    return index < plan->link_count ? &plan->table[index] : NULL;
}

/* Bytes are known, and so is every link that it has: else its own prediction counts. */
static bool
plan_counts_bytes(const Plan *plan, const SchedulePlanItem *item)
{
    const SchedulePlanLink *source = plan_table_link(plan, item->item.link);
    const SchedulePlanLink *destination = plan_table_link(plan, item->destination);

    if (item->bytes == 0 || (source == NULL && destination == NULL))
        return false;
    return (source == NULL || source->known) && (destination == NULL || destination->known);
}

static bool
plan_takes_turns(const Plan *plan, const SchedulePlanItem *item)
{
    return plan->params.scheduling == SCHEDULING_AUTOMATIC && item->item.takes_turns &&
           plan_counts_bytes(plan, item) && item->item.technique != TECHNIQUE_POST_COPY;
}

/* Who has what the others hand over: see ScheduleItem.takes_turns. */
static bool
plan_is_before(const Plan *plan, size_t index, size_t other)
{
    unsigned int priority = priority_checked(plan->items[index].item.priority);
    unsigned int other_priority = priority_checked(plan->items[other].item.priority);

    if (priority != other_priority)
        return priority > other_priority;
    return priority == PRIORITY_HIGH ? plan->left[index] < plan->left[other]
                                     : plan->place[index] < plan->place[other];
}

static void
plan_occupy_on(Plan *plan, size_t index, uint32_t link_index)
{
    const SchedulePlanItem *item = &plan->items[index];
    Link *link;

    if (link_index >= plan->link_count)
        return;
    link = &plan->links[link_index];
    link_occupy(link, &item->item);
    if (!plan_takes_turns(plan, item))
        return;
    if (link->in_turn++ == 0 || plan_is_before(plan, index, link->turn))
        link->turn = (uint16_t)index;
}

static void
plan_occupy(Plan *plan, size_t index)
{
    const SchedulePlanItem *item = &plan->items[index];

    plan_occupy_on(plan, index, item->item.link);
    if (item->destination != item->item.link)
        plan_occupy_on(plan, index, item->destination);
    plan->running_total++;
}

static bool
plan_judge_on(const Plan *plan, const SchedulePlanItem *item, uint32_t index)
{
    static const Link nobody = { 0 };
    const SchedulePlanLink *entry = plan_table_link(plan, index);
    ScheduleItem seen = item->item;

    seen.available_known = entry != NULL && entry->known;
    seen.available = seen.available_known ? entry->rate : 0;
    seen.link_rate = entry != NULL ? entry->link_rate : 0;
    return schedule_reason_is_start(judge(entry != NULL ? &plan->links[index] : &nobody, &seen,
                                          plan->running_total, &plan->params));
}

static void
plan_somebody_waits(Plan *plan, uint32_t index)
{
    if (index < plan->link_count)
        plan->links[index].somebody_waits = true;
}

/* Starts, in order, all that may start now. */
static void
plan_admit(Plan *plan, size_t waiting_count, double now, SchedulePlanned *ret_planned)
{
    for (size_t i = 0; i < plan->link_count; i++)
        plan->links[i] = (Link){ 0 };
    plan->running_total = 0;
    for (size_t i = 0; i < plan->item_count; i++) {
        if (plan->states[i] == PLAN_RUNNING)
            plan_occupy(plan, i);
    }
    for (size_t rank = 0; rank < waiting_count; rank++) {
        size_t index = plan->order[rank];
        const SchedulePlanItem *item = &plan->items[index];

        if (plan->states[index] != PLAN_WAITING)
            continue;
        if (plan_judge_on(plan, item, item->item.link) &&
            plan_judge_on(plan, item, item->destination)) {
            plan->states[index] = PLAN_RUNNING;
            plan->place[index] = INT64_MAX - SCHEDULE_ITEMS_MAX + plan->started++;
            ret_planned[index].start_known = true;
            ret_planned[index].start = now;
            plan_occupy(plan, index);
        } else {
            plan_somebody_waits(plan, item->item.link);
            plan_somebody_waits(plan, item->destination);
        }
    }
}

static double
share_of_link(const Plan *plan, size_t index, uint32_t link_index, double rate)
{
    const SchedulePlanItem *item = &plan->items[index];
    const Link *link;
    double share;

    if (link_index >= plan->link_count)
        return rate;
    link = &plan->links[link_index];
    share = (double)plan->table[link_index].rate / link->running;
    if (plan_takes_turns(plan, item) && link->turn == index)
        share += (link->in_turn - 1.0) * (share - allocate_kept(share));
    else if (plan_takes_turns(plan, item))
        share = allocate_kept(share);
    return share < rate ? share : rate;
}

/* What it gets done in a second now, in the unit of `left`; 0: nothing. */
static double
plan_speed(const Plan *plan, size_t index)
{
    const SchedulePlanItem *item = &plan->items[index];
    uint32_t beside = 1;
    double rate = item->item.stream_rate != 0 ? (double)item->item.stream_rate : (double)UINT64_MAX;

    if (plan_counts_bytes(plan, item)) {
        rate = share_of_link(plan, index, item->item.link, rate);
        rate = share_of_link(plan, index, item->destination, rate);
        /* One that is dirtied faster ends by post-copy, at the full rate. */
        if (item->item.technique == TECHNIQUE_PRE_COPY && rate > (double)item->dirty_rate)
            rate -= (double)item->dirty_rate;
        return rate;
    }
    if (item->item.link < plan->link_count && plan->links[item->item.link].running > beside)
        beside = plan->links[item->item.link].running;
    if (item->destination < plan->link_count && plan->links[item->destination].running > beside)
        beside = plan->links[item->destination].running;
    return 1.0 / beside;
}

/* Lets time pass until the next one ends; negative: none will. */
static double
plan_advance(Plan *plan, double now, SchedulePlanned *ret_planned)
{
    double speeds[SCHEDULE_ITEMS_MAX];
    double step = INFINITY;

    for (size_t i = 0; i < plan->item_count; i++) {
        if (plan->states[i] != PLAN_RUNNING)
            continue;
        speeds[i] = plan_speed(plan, i);
        if (speeds[i] > 0.0 && plan->left[i] / speeds[i] < step)
            step = plan->left[i] / speeds[i];
    }
    if (!isfinite(step))
        return -1.0;
    for (size_t i = 0; i < plan->item_count; i++) {
        if (plan->states[i] != PLAN_RUNNING)
            continue;
        /* Compared before subtracting: rounding must not keep the first one alive. */
        if (speeds[i] > 0.0 && plan->left[i] / speeds[i] <= step) {
            plan->states[i] = PLAN_ENDED;
            ret_planned[i].end_known = true;
            ret_planned[i].end = now + step;
        } else {
            plan->left[i] -= speeds[i] * step;
        }
    }
    return now + step;
}

bool
schedule_plan(const SchedulePlanItem *items, size_t item_count, const SchedulePlanLink *links,
              size_t link_count, const ScheduleParams *params, SchedulePlanned *ret_planned)
{
    Plan plan;
    OrderContext context = { .items = items, .stride = sizeof(*items), .params = &plan.params };
    size_t waiting_count = 0;
    double now = 0.0;

    if (item_count > SCHEDULE_ITEMS_MAX || link_count > SCHEDULE_PLAN_LINKS_MAX)
        return false;
    plan.items = items;
    plan.item_count = item_count;
    plan.table = links;
    plan.link_count = link_count;
    plan.params = params_or_default(params);
    plan.started = 0;
    order_sort(&context, plan.order, item_count);
    for (size_t rank = 0; rank < item_count; rank++) {
        uint16_t index = plan.order[rank];
        const SchedulePlanItem *item = &items[index];
        bool timed = item->item.seconds > 0.0 && isfinite(item->item.seconds);

        ret_planned[index] = (SchedulePlanned){ 0 };
        plan.states[index] = item->running ? PLAN_RUNNING : PLAN_WAITING;
        plan.left[index] = plan_counts_bytes(&plan, item) ? (double)item->bytes
                           : timed                        ? item->item.seconds
                                                          : INFINITY;
        plan.place[index] = item->item.enqueued_us;
        if (item->running) {
            ret_planned[index].start_known = true;
            continue;
        }
        ret_planned[index].rank = (uint32_t)waiting_count;
        plan.order[waiting_count++] = index;
    }
    while (now >= 0.0) {
        plan_admit(&plan, waiting_count, now, ret_planned);
        now = plan_advance(&plan, now, ret_planned);
    }
    return true;
}

double
schedule_turn(double start, double prepare_seconds, const ScheduleParams *params)
{
    if (params->scheduling != SCHEDULING_AUTOMATIC || params->maximum_running != 0 ||
        !(prepare_seconds > 0.0))
        return start;
    return start > prepare_seconds ? start - prepare_seconds : 0.0;
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
    case SCHEDULE_START_STAND_BY:
        return "next in the order: takes what the one before it leaves";
    case SCHEDULE_WAIT_GATHERING:
        return "others may come in this moment";
    case SCHEDULE_WAIT_MAXIMUM:
        return "as many migrations run as may at a time";
    }
    return "unknown";
}
