/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The division itself. Each item's cost is convex in its rate, so its marginal
 * gain falls as the rate grows: for a multiplier (the gain at which everybody
 * stops) each rate follows by one bisection, and the multiplier by another, over
 * its logarithm, until the rates add up to what there is.
 */
#include "decision/allocate.h"

#include <math.h>

/* Halvings of an interval of 2000 powers of two: finer than a rate can tell. */
#define MULTIPLIER_STEPS 50
/* Halvings of a rate at most; less than a quarter of a byte/s is none. */
#define RATE_STEPS 70
#define RATE_EXACT 0.25
#define RATE_LEAST 1.0

typedef struct {
    double volume;
    double dirty_rate;
    double weight;
    double least;
    double most;
} Term;

/* Who has the turn, and who waits for one that has. */
typedef struct {
    bool first[ALLOCATE_MAX];
    bool waits[ALLOCATE_MAX];
    bool waits_for_pages[ALLOCATE_MAX]; /* for one in post-copy, or in its last round */
} Turns;

static uint64_t
add_saturating(uint64_t left, uint64_t right)
{
    return left > UINT64_MAX - right ? UINT64_MAX : left + right;
}

/* value * factor / divisor, rounded up, saturating; divisor is not 0. */
static uint64_t
scaled_up(uint64_t value, uint64_t factor, uint64_t divisor)
{
    uint64_t whole = value / divisor;
    uint64_t rest = value % divisor;

    if (factor != 0 && (whole > UINT64_MAX / factor || rest > (UINT64_MAX - divisor) / factor))
        return UINT64_MAX;
    return add_saturating(whole * factor, (rest * factor + divisor - 1) / divisor);
}

uint64_t
allocate_least(const AllocateItem *item, AllocateReason *ret_reason)
{
    uint64_t least = scaled_up(item->dirty_rate, ALLOCATE_RHO_PERCENT, 100);

    *ret_reason = ALLOCATE_REASON_DIRTY_RATE;
    if (item->deadline_set) {
        uint64_t needed = UINT64_MAX;

        if (item->time_left_ms > 0)
            needed = add_saturating(scaled_up(item->volume, 1000, (uint64_t)item->time_left_ms),
                                    item->dirty_rate);
        if (needed >= least) {
            *ret_reason = ALLOCATE_REASON_DEADLINE;
            least = needed;
        }
    }
    return least;
}

/* What one more byte/s would save: less the more it has. */
static double
marginal_gain(const Term *term, double rate)
{
    double ratio = term->dirty_rate / rate;
    double gain = 0;

    for (int i = ALLOCATE_ROUNDS; i > 0; i--)
        gain = gain * ratio + i;
    return term->weight * term->volume / rate / rate * gain;
}

/* The rate at which the gain has fallen to `multiplier`, within its bounds. */
static double
rate_at(const Term *term, double multiplier)
{
    double low = term->least;
    double high = term->most;

    if (marginal_gain(term, low) <= multiplier)
        return low;
    for (int i = 0; i < RATE_STEPS && high - low > RATE_EXACT; i++) {
        double middle = low + (high - low) / 2;

        if (marginal_gain(term, middle) > multiplier)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static double
sum_at(const Term *terms, size_t count, double multiplier)
{
    double sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += rate_at(&terms[i], multiplier);
    return sum;
}

/* The least multiplier whose rates fit into what there is. */
static double
multiplier_find(const Term *terms, size_t count, double available)
{
    double low = -1000; /* powers of two: every gain lies in between */
    double high = 1000;

    for (int i = 0; i < MULTIPLIER_STEPS; i++) {
        double middle = low + (high - low) / 2;

        if (sum_at(terms, count, exp2(middle)) > available)
            low = middle;
        else
            high = middle;
    }
    return exp2(high);
}

static double
volume_known(const AllocateItem *items, size_t count)
{
    double sum = 0;
    double known = 0;

    for (size_t i = 0; i < count; i++) {
        if (items[i].volume != 0) {
            sum += (double)items[i].volume;
            known++;
        }
    }
    return known > 0 ? sum / known : 1;
}

static double
weight_of(const AllocateItem *item)
{
    return isfinite(item->weight) && item->weight > 0 ? fmin(fmax(item->weight, 1e-6), 1e6) : 1;
}

/*
 * Its part of what there is, by the square roots of the weights: as of equal volumes. Whole
 * bytes: all parts together are never more than there is.
 */
static double
part_of(const AllocateItem *items, size_t count, size_t index, uint64_t available)
{
    double sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += sqrt(weight_of(&items[i]));
    return floor((double)available * sqrt(weight_of(&items[index])) / sum);
}

/* The bounds, none above what there is; their sum. */
static double
bounds_fill(const AllocateItem *items, const Turns *turns, size_t count, uint64_t available,
            Term *terms, AllocateShare *shares)
{
    double mean = volume_known(items, count);
    double sum = 0;

    for (size_t i = 0; i < count; i++) {
        AllocateItem item = items[i];

        if (turns->waits[i] && (item.may_fall_behind || turns->waits_for_pages[i]) &&
            !item.deadline_set)
            item.dirty_rate = 0;
        shares[i].least = allocate_least(&item, &shares[i].reason);
        terms[i] = (Term){
            .volume = items[i].volume != 0 ? (double)items[i].volume : mean,
            .dirty_rate = (double)item.dirty_rate,
            .weight = weight_of(&items[i]),
            .least = fmax(fmin((double)shares[i].least, (double)available), RATE_LEAST),
            .most = (double)available,
        };
        if (item.turn == ALLOCATE_TURN_FIRST)
            terms[i].least = fmax(terms[i].least, part_of(items, count, i, available));
        sum += terms[i].least;
    }
    return sum;
}

static bool
is_equal(double left, double right)
{
    return !(left < right) && !(left > right);
}

static bool
weighs_the_same(const AllocateItem *left, const AllocateItem *right)
{
    return is_equal(weight_of(left), weight_of(right));
}

/* Of one weight, when both take turns; unknown volumes come last. */
static bool
comes_before(const AllocateItem *other, const AllocateItem *item)
{
    uint64_t volume = item->volume != 0 ? item->volume : UINT64_MAX;

    if (other->turn != item->turn)
        return other->turn > item->turn;
    if (item->turn != ALLOCATE_TURN_TAKES)
        return false;
    if (other->place != item->place)
        return other->place < item->place;
    return other->volume != 0 && other->volume < volume;
}

bool
allocate_waits_for(const AllocateItem *item, const AllocateItem *other)
{
    double weight = weight_of(item);
    double other_weight = weight_of(other);

    if (item->turn == ALLOCATE_TURN_NONE || weight > other_weight)
        return false;
    if (is_equal(weight, other_weight))
        return comes_before(other, item);
    return item->turn == ALLOCATE_TURN_TAKES && other->turn != ALLOCATE_TURN_NONE;
}

/*
 * Who gives its bound up next: the lightest, of equals who comes last; count: nobody. Of
 * the heaviest those alone that wait, and have no deadline.
 */
static size_t
bound_find(const AllocateItem *items, const Turns *turns, const Term *terms, size_t count,
           double heaviest)
{
    size_t found = count;

    for (size_t i = 0; i < count; i++) {
        const Term *term = &terms[i];

        if (term->least <= RATE_LEAST || items[i].turn == ALLOCATE_TURN_FIRST ||
            (term->weight >= heaviest && (!turns->waits[i] || items[i].deadline_set)))
            continue;
        if (found == count || term->weight < terms[found].weight ||
            (is_equal(term->weight, terms[found].weight) &&
             !allocate_waits_for(&items[found], &items[i])))
            found = i;
    }
    return found;
}

/*
 * Bounds that cannot all be kept would turn the weights round: who dirties most, or is
 * late, would have nearly everything. So the lightest give theirs up, first what a
 * deadline needs, then what the dirty rate needs; of the heaviest those that wait. What a
 * guest dirties counts no more then: its passes do not shrink, and the more hopeless
 * it is, the more a byte/s would seem to save. Answers the sum that is left.
 */
static double
bounds_relax(const AllocateItem *items, const Turns *turns, Term *terms, size_t count,
             double available, double sum)
{
    double heaviest = 0;

    for (size_t i = 0; i < count; i++)
        heaviest = fmax(heaviest, terms[i].weight);
    while (sum > available) {
        size_t index = bound_find(items, turns, terms, count, heaviest);
        Term *term = &terms[index];
        double passes;

        if (index == count)
            break;
        passes = fmax(term->dirty_rate * ALLOCATE_RHO_PERCENT / 100, RATE_LEAST);
        if (passes >= term->least) {
            passes = RATE_LEAST;
            term->dirty_rate = 0;
        }
        term->least = passes;
        sum = 0;
        for (size_t i = 0; i < count; i++)
            sum += terms[i].least;
    }
    return sum;
}

/*
 * Where not even the heaviest can have their bounds, one of them that has none, or a low
 * one, is not scaled down to nothing. The sum of the bounds.
 */
static double
bounds_keep_alive(Term *terms, size_t count, double available)
{
    double alive = fmin(ALLOCATE_KEPT_RATE, available / (double)count);
    double heaviest = 0;
    double sum = 0;

    for (size_t i = 0; i < count; i++)
        heaviest = fmax(heaviest, terms[i].weight);
    for (size_t i = 0; i < count; i++) {
        if (terms[i].weight >= heaviest)
            terms[i].least = fmax(terms[i].least, alive);
        sum += terms[i].least;
    }
    return sum;
}

/* Does it get what others hand over? */
static bool
is_first(const AllocateItem *items, size_t count, size_t index)
{
    const AllocateItem *item = &items[index];

    for (size_t i = 0; i < count && item->turn != ALLOCATE_TURN_NONE; i++) {
        bool earlier = i < index && item->turn == ALLOCATE_TURN_TAKES &&
                       items[i].turn == item->turn && weighs_the_same(item, &items[i]) &&
                       !comes_before(item, &items[i]);

        if (i != index && (earlier || allocate_waits_for(item, &items[i])))
            return false;
    }
    return item->turn != ALLOCATE_TURN_NONE;
}

static bool
hands_over_to(const AllocateItem *item, const AllocateItem *first)
{
    return weighs_the_same(item, first) || allocate_waits_for(item, first);
}

double
allocate_kept(double share)
{
    return fmin(fmax(share / ALLOCATE_KEPT, ALLOCATE_KEPT_RATE), share);
}

static Turns
turns_find(const AllocateItem *items, size_t count)
{
    Turns turns = { 0 };

    for (size_t i = 0; i < count; i++)
        turns.first[i] = is_first(items, count, i);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            bool waits = items[i].turn == ALLOCATE_TURN_TAKES && !turns.first[i] &&
                         turns.first[j] && hands_over_to(&items[i], &items[j]);

            turns.waits[i] = turns.waits[i] || waits;
            turns.waits_for_pages[i] =
                turns.waits_for_pages[i] || (waits && items[j].turn == ALLOCATE_TURN_FIRST);
        }
    }
    return turns;
}

/* Who waits for its turn keeps its bound and a little to go on with. */
static void
take_turns(const AllocateItem *items, const Turns *turns, const Term *terms, size_t count,
           double *rates, AllocateShare *shares)
{
    for (size_t i = 0; i < count; i++) {
        double kept = fmin(fmax(terms[i].least, allocate_kept(rates[i])), rates[i]);
        double takers = 0;

        if (!turns->waits[i])
            continue;
        /* Also one that keeps all it has waits: what is lent goes to the first. */
        for (size_t j = 0; j < count; j++)
            takers += turns->first[j] && hands_over_to(&items[i], &items[j]);
        for (size_t j = 0; j < count; j++) {
            if (!turns->first[j] || !hands_over_to(&items[i], &items[j]))
                continue;
            rates[j] += (rates[i] - kept) / takers;
            shares[j].reason = ALLOCATE_REASON_TURN;
        }
        rates[i] = kept;
        shares[i].reason = ALLOCATE_REASON_WAITS;
    }
}

/* Rounding must not make the sum exceed what there is. */
static void
shares_trim(AllocateShare *shares, size_t count, uint64_t available)
{
    uint64_t left = available;

    for (size_t i = 0; i < count; i++) {
        uint64_t room = left - (count - i - 1); /* one byte/s for each of the others */

        if (shares[i].rate > room)
            shares[i].rate = room;
        left -= shares[i].rate;
    }
}

bool
allocate_rates(const AllocateItem *items, size_t count, uint64_t available,
               AllocateShare *ret_shares)
{
    AllocateShare shares[ALLOCATE_MAX];
    Term terms[ALLOCATE_MAX];
    double rates[ALLOCATE_MAX];
    double scale = 1;
    double multiplier = INFINITY;
    double bounds;
    Turns turns;

    if (count == 0 || count > ALLOCATE_MAX || available < count)
        return false;
    turns = turns_find(items, count);
    bounds = bounds_relax(items, &turns, terms, count, (double)available,
                          bounds_fill(items, &turns, count, available, terms, shares));
    if (bounds > (double)available)
        scale = (double)available / bounds_keep_alive(terms, count, (double)available);
    else if (count == 1)
        multiplier = 0; /* all of it */
    else
        multiplier = multiplier_find(terms, count, (double)available);
    for (size_t i = 0; i < count; i++) {
        rates[i] = scale < 1 ? terms[i].least * scale : rate_at(&terms[i], multiplier);
        if (rates[i] > terms[i].least || shares[i].least == 0)
            shares[i].reason = ALLOCATE_REASON_WEIGHT;
    }
    for (size_t i = 0; i < count; i++) {
        if (scale < 1 || rates[i] < (double)shares[i].least)
            shares[i].reason = ALLOCATE_REASON_SCALED;
    }
    take_turns(items, &turns, terms, count, rates, shares);
    for (size_t i = 0; i < count; i++) {
        /* From 2^64 on a double does not fit; none is above `available`. */
        shares[i].rate = rates[i] >= (double)available ? available : (uint64_t)rates[i];
        if (shares[i].rate == 0)
            shares[i].rate = 1;
    }
    shares_trim(shares, count, available);
    for (size_t i = 0; i < count; i++)
        ret_shares[i] = shares[i];
    return true;
}

const char *
allocate_reason_to_string(AllocateReason reason)
{
    switch (reason) {
    case ALLOCATE_REASON_WEIGHT:
        return "least sum of migration times";
    case ALLOCATE_REASON_DIRTY_RATE:
        return "what its dirty rate needs";
    case ALLOCATE_REASON_DEADLINE:
        return "what its deadline needs";
    case ALLOCATE_REASON_SCALED:
        return "less than it needs: there is no more";
    case ALLOCATE_REASON_TURN:
        return "its turn: it comes first";
    case ALLOCATE_REASON_WAITS:
        return "another one comes first";
    }
    return "unknown";
}
