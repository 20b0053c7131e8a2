/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Division among migrations: the worked example, bounds, deadlines, nonsense. */
#include "decision/allocate.h"

#include <glib.h>
#include <math.h>

#define MB UINT64_C(1000000)
#define SOME UINT64_MAX /* any rate above 0 */

typedef struct {
    const char *name;
    size_t count;
    AllocateItem items[3];
    uint64_t available;
    uint64_t rates[3]; /* within 0.1 MB/s or 0.1 % */
    AllocateReason reasons[3];
} Row;

#define WEIGHT ALLOCATE_REASON_WEIGHT
#define DIRTY ALLOCATE_REASON_DIRTY_RATE
#define DEADLINE ALLOCATE_REASON_DEADLINE
#define SCALED ALLOCATE_REASON_SCALED
#define ITEM(v, d)                                                                                 \
    {                                                                                              \
        .volume = (v)*MB, .dirty_rate = (uint64_t)((d)*1e6), .weight = 1                           \
    }
#define UNTIL(v, d, ms)                                                                            \
    {                                                                                              \
        .volume = (v)*MB, .dirty_rate = (uint64_t)((d)*1e6), .weight = 1, .deadline_set = true,    \
        .time_left_ms = (ms)                                                                       \
    }

#define TURN(v, d, turned)                                                                         \
    {                                                                                              \
        .volume = (v)*MB, .dirty_rate = (uint64_t)((d)*1e6), .weight = 1, .turn = (turned)         \
    }
#define BEHIND(v, d)                                                                               \
    {                                                                                              \
        .volume = (v)*MB, .dirty_rate = (uint64_t)((d)*1e6), .weight = 1, .turn = TAKES,           \
        .may_fall_behind = true                                                                    \
    }
#define WEIGHED(w, v, d)                                                                           \
    {                                                                                              \
        .volume = (v)*MB, .dirty_rate = (uint64_t)((d)*1e6), .weight = (w)                         \
    }
#define TAKES ALLOCATE_TURN_TAKES
#define FIRST ALLOCATE_TURN_FIRST
#define ITS_TURN ALLOCATE_REASON_TURN
#define WAITS ALLOCATE_REASON_WAITS

static const Row rows[] = {
    { "worked example",
      3,
      { ITEM(1000, 10.24), ITEM(4000, 30), ITEM(2000, 5) },
      118 * MB,
      { 26900000, 62200000, 28900000 },
      { WEIGHT, WEIGHT, WEIGHT } },
    { "one alone gets all", 1, { ITEM(1000, 10) }, 118 * MB, { 118 * MB }, { WEIGHT } },
    { "equal ones share equally",
      3,
      { ITEM(500, 3), ITEM(500, 3), ITEM(500, 3) },
      90 * MB,
      { 30 * MB, 30 * MB, 30 * MB },
      { WEIGHT, WEIGHT, WEIGHT } },
    { "square roots of volumes",
      2,
      { ITEM(100, 0), ITEM(400, 0) },
      90 * MB,
      { 30 * MB, 60 * MB },
      { WEIGHT, WEIGHT } },
    { "square roots of weights",
      2,
      { { .volume = MB, .weight = 1 }, { .volume = MB, .weight = 16 } },
      50 * MB,
      { 10 * MB, 40 * MB },
      { WEIGHT, WEIGHT } },
    { "the dirty rate binds",
      2,
      { ITEM(1, 60), ITEM(100000, 0) },
      100 * MB,
      { 75 * MB, 25 * MB },
      { DIRTY, WEIGHT } },
    { "a deadline binds: V/t + D",
      2,
      { UNTIL(1000, 10, 20000), ITEM(1000, 10) },
      100 * MB,
      { 60 * MB, 40 * MB },
      { DEADLINE, WEIGHT } },
    { "a far deadline does not",
      2,
      { UNTIL(1000, 10, 2000000), ITEM(1000, 10) },
      100 * MB,
      { 50 * MB, 50 * MB },
      { WEIGHT, WEIGHT } },
    { "bounds above what there is shrink alike, none above it",
      2,
      { UNTIL(1000, 0, 10000), ITEM(1, 40) },
      75 * MB,
      { 45 * MB, 30 * MB },
      { SCALED, SCALED } },
    { "a deadline that is over takes no more than there is",
      2,
      { UNTIL(1000, 0, 0), UNTIL(1000, 0, -5) },
      80 * MB,
      { 40 * MB, 40 * MB },
      { SCALED, SCALED } },
    { "over, and alone", 1, { UNTIL(1000, 0, INT64_MIN) }, 80 * MB, { 80 * MB }, { SCALED } },
    { "unknown volumes: by weight",
      2,
      { { .weight = 1 }, { .weight = 4 } },
      30 * MB,
      { 10 * MB, 20 * MB },
      { WEIGHT, WEIGHT } },
    { "one unknown volume is the mean",
      2,
      { { .weight = 1 }, ITEM(100, 0) },
      30 * MB,
      { 15 * MB, 15 * MB },
      { WEIGHT, WEIGHT } },
    { "weights of nonsense count as 1",
      3,
      { { .volume = MB, .weight = NAN },
        { .volume = MB, .weight = -1 },
        { .volume = MB, .weight = INFINITY } },
      30 * MB,
      { 10 * MB, 10 * MB, 10 * MB },
      { WEIGHT, WEIGHT, WEIGHT } },
    { "greatest numbers",
      2,
      { { .volume = UINT64_MAX, .dirty_rate = UINT64_MAX, .weight = 1 },
        { .volume = UINT64_MAX, .dirty_rate = UINT64_MAX, .weight = 1 } },
      UINT64_MAX,
      { SOME, SOME },
      { SCALED, SCALED } },
    { "2^32 bytes/s",
      2,
      { ITEM(1000, 0), ITEM(1000, 0) },
      UINT64_C(1) << 33,
      { UINT64_C(1) << 32, UINT64_C(1) << 32 },
      { WEIGHT, WEIGHT } },
    { "in turn: the others keep a sixteenth of their share",
      3,
      { TURN(500, 0, TAKES), TURN(500, 0, TAKES), TURN(500, 0, TAKES) },
      96 * MB,
      { 92 * MB, 2 * MB, 2 * MB },
      { ITS_TURN, WAITS, WAITS } },
    { "in turn: the shortest first",
      3,
      { TURN(400, 0, TAKES), TURN(400, 0, TAKES), TURN(100, 0, TAKES) },
      80 * MB, /* 32, 32, 16 */
      { 2 * MB, 2 * MB, 76 * MB },
      { WAITS, WAITS, ITS_TURN } },
    { "in turn: by place, though another is shorter",
      2,
      { { .volume = 50 * MB, .weight = 1, .turn = TAKES, .place = 2 },
        { .volume = 200 * MB, .weight = 1, .turn = TAKES, .place = 1 } },
      24 * MB, /* 8, 16 */
      { MB / 2, 24 * MB - MB / 2 },
      { WAITS, ITS_TURN } },
    { "in turn: by volume where places are equal",
      2,
      { { .volume = 100 * MB, .weight = 1, .turn = TAKES, .place = 7 },
        { .volume = 99 * MB, .weight = 1, .turn = TAKES, .place = 7 } },
      32 * MB,
      { SOME, SOME },
      { WAITS, ITS_TURN } },
    { "in turn: a last round before all places",
      2,
      { { .volume = 100 * MB, .weight = 1, .turn = TAKES, .place = 1 },
        { .volume = 100 * MB, .weight = 1, .turn = FIRST, .place = 2 } },
      32 * MB,
      { 1 * MB, 31 * MB },
      { WAITS, ITS_TURN } },
    { "in turn: the heavier one first, though the lighter one began before it",
      2,
      { { .volume = 100 * MB, .weight = 1, .turn = TAKES, .place = 1 },
        { .volume = 100 * MB, .weight = 4, .turn = TAKES, .place = 2 } },
      96 * MB, /* 32, 64 */
      { 2 * MB, 94 * MB },
      { WAITS, ITS_TURN } },
    { "in turn: the lighter one hands over to the first of the heavier alone",
      3,
      { { .volume = 100 * MB, .weight = 1, .turn = TAKES, .place = 1 },
        { .volume = 100 * MB, .weight = 4, .turn = TAKES, .place = 3 },
        { .volume = 100 * MB, .weight = 4, .turn = TAKES, .place = 2 } },
      80 * MB, /* 16, 32, 32 */
      { 1 * MB, 2 * MB, 77 * MB },
      { WAITS, WAITS, ITS_TURN } },
    { "in turn: a last round that is lighter does not",
      2,
      { { .volume = 100 * MB, .weight = 1, .turn = FIRST, .place = 1 },
        { .volume = 100 * MB, .weight = 4, .turn = TAKES, .place = 2 } },
      96 * MB,
      { 32 * MB, 64 * MB },
      { WEIGHT, WEIGHT } },
    { "in turn: nor one that shares with others",
      2,
      { { .volume = 100 * MB, .weight = 1, .place = 1 },
        { .volume = 100 * MB, .weight = 4, .turn = TAKES, .place = 2 } },
      96 * MB,
      { 32 * MB, 64 * MB },
      { WEIGHT, WEIGHT } },
    { "in turn: the heavier one needs no place",
      2,
      { { .volume = 100 * MB, .weight = 1, .turn = TAKES, .place = 1 },
        { .volume = 100 * MB, .weight = 4, .turn = TAKES } },
      96 * MB, /* 32, 64 */
      { 2 * MB, 94 * MB },
      { WAITS, ITS_TURN } },
    { "in turn: two heavier ones at odds, without a place before with one",
      3,
      { { .volume = 100 * MB, .weight = 1, .turn = TAKES, .place = 1 },
        { .volume = 100 * MB, .weight = 4, .turn = TAKES, .place = 2 },
        { .volume = 100 * MB, .weight = 4, .turn = TAKES } },
      80 * MB, /* 16, 32, 32 */
      { 1 * MB, 2 * MB, 77 * MB },
      { WAITS, WAITS, ITS_TURN } },
    { "in turn: what is dirtied binds",
      2,
      { TURN(500, 0, TAKES), TURN(500, 8, TAKES) },
      100 * MB,
      { 90 * MB, 10 * MB },
      { ITS_TURN, WAITS } },
    { "in turn: unless it may fall behind that for a while",
      2,
      { TURN(500, 0, TAKES), BEHIND(500, 8) },
      100 * MB, /* 50, 50 */
      { 96875000, 3125000 },
      { ITS_TURN, WAITS } },
    { "in turn: the first one never falls behind",
      2,
      { BEHIND(500, 60), TURN(500000, 0, TAKES) },
      80 * MB,
      { 79550000, 450000 },
      { ITS_TURN, WAITS } },
    { "in turn: who is lighter falls behind rather than slow a heavier one down",
      2,
      { BEHIND(100, 20), { .volume = 100 * MB, .weight = 256, .turn = TAKES } },
      34 * MB, /* 2, 32 */
      { 450000, 33550000 },
      { WAITS, ITS_TURN } },
    { "in turn: nobody falls behind for one that it does not wait for",
      2,
      { BEHIND(1, 8), ITEM(5000, 0) },
      40 * MB,
      { 10 * MB, 30 * MB },
      { DIRTY, WEIGHT } },
    { "in turn: behind post-copy always, its guest waits for pages",
      2,
      { TURN(100, 60, TAKES), TURN(100, 0, FIRST) },
      59 * MB,
      { 1843750, 57156250 },
      { WAITS, ITS_TURN } },
    { "a lighter one in post-copy has its part beside a heavier one that needs all",
      2,
      { { .volume = 100 * MB, .weight = 1, .turn = FIRST },
        { .volume = 1000 * MB, .dirty_rate = 90 * MB, .weight = 256, .turn = TAKES } },
      85 * MB, /* 5 and 85: each 85/90 of it */
      { 4722222, 80277777 },
      { SCALED, SCALED } },
    { "in turn: two that need more than there is do not share, if one may fall behind",
      2,
      { TURN(100, 60, TAKES), BEHIND(200, 60) },
      100 * MB,
      { SOME, SOME },
      { ITS_TURN, WAITS } },
    { "in turn: but what a deadline needs it keeps",
      2,
      { TURN(100, 0, TAKES),
        { .volume = 1000 * MB,
          .weight = 1,
          .deadline_set = true,
          .time_left_ms = 25000,
          .turn = TAKES,
          .may_fall_behind = true } },
      100 * MB,
      { 60 * MB, 40 * MB },
      { ITS_TURN, WAITS } },
    { "in turn: who keeps exactly its bound waits as well",
      2,
      { TURN(500000, 0, TAKES),
        { .volume = 1, .dirty_rate = 8 * MB, .weight = 1, .turn = TAKES, .place = 1 } },
      100 * MB,
      { 90 * MB, 10 * MB },
      { ITS_TURN, WAITS } },
    { "in turn: on a slow link the others keep what TCP needs to go on at once",
      2,
      { TURN(100, 0, TAKES), TURN(200, 0, TAKES) },
      1500000, /* 0.62, 0.88 */
      { 1050000, 450000 },
      { ITS_TURN, WAITS } },
    { "in turn: and no more than they have, but what is lent goes to the first",
      2,
      { TURN(100, 0, TAKES), TURN(100, 0, TAKES) },
      600000,
      { 300000, 300000 },
      { ITS_TURN, WAITS } },
    { "in turn: post-copy first",
      3,
      { TURN(100, 0, TAKES), TURN(100, 0, FIRST), TURN(100, 0, FIRST) },
      96 * MB,
      { 2 * MB, 47 * MB, 47 * MB },
      { WAITS, ITS_TURN, ITS_TURN } },
    { "in turn: who keeps its share gives and gets nothing",
      3,
      { TURN(100, 0, TAKES), ITEM(100, 0), TURN(100, 0, TAKES) },
      96 * MB,
      { 62 * MB, 32 * MB, 2 * MB },
      { ITS_TURN, WEIGHT, WAITS } },
    { "in turn: a lighter one hands over to the first of two equal ones",
      3,
      { TURN(100, 0, TAKES),
        { .volume = 100 * MB, .weight = 16, .turn = TAKES },
        { .volume = 100 * MB, .weight = 16, .turn = TAKES } },
      90 * MB,
      { 625000, 86875000, 2500000 },
      { WAITS, ITS_TURN, WAITS } },
    { "in turn: one of unknown volume comes last",
      2,
      { { .weight = 1, .turn = TAKES }, TURN(100, 0, TAKES) },
      32 * MB,
      { MB, 31 * MB },
      { WAITS, ITS_TURN } },
    { "in turn: weights of nonsense are one weight",
      2,
      { { .volume = MB, .weight = NAN, .turn = TAKES },
        { .volume = MB, .weight = -1, .turn = TAKES } },
      32 * MB,
      { 31 * MB, MB },
      { ITS_TURN, WAITS } },
    { "in turn: where the bounds exceed what there is, who waits gives up",
      2,
      { TURN(100, 60, TAKES), TURN(100, 60, TAKES) },
      100 * MB,
      { 98437500, 1562500 },
      { ITS_TURN, WAITS } },
    { "in turn: but not what a deadline needs",
      2,
      { TURN(100, 60, TAKES),
        { .volume = 1000 * MB,
          .weight = 1,
          .deadline_set = true,
          .time_left_ms = 20000,
          .turn = TAKES } },
      100 * MB, /* 75 and 50 */
      { 60 * MB, 40 * MB },
      { ITS_TURN, WAITS } },
    { "in turn: a deadline holds",
      2,
      { TURN(100, 0, TAKES),
        { .volume = 1000 * MB,
          .weight = 1,
          .deadline_set = true,
          .time_left_ms = 25000,
          .turn = TAKES } },
      100 * MB,
      { 60 * MB, 40 * MB },
      { ITS_TURN, WAITS } },
    { "who is lighter gives its bound up, and what it dirties counts no more",
      2,
      { WEIGHED(1, 1000, 40), WEIGHED(16, 1000, 1) },
      19350000,
      { 3670000, 15680000 },
      { SCALED, WEIGHT } },
    { "late and lighter: it keeps what its dirty rate needs",
      2,
      { UNTIL(1000, 8, 0), WEIGHED(256, 1000, 1) },
      20 * MB,
      { 10 * MB, 10 * MB },
      { SCALED, WEIGHT } },
    { "late and lighter, and the heavier one's bound is unknown",
      2,
      { WEIGHED(16, 1000, 0), UNTIL(1000, 0, -1) },
      20 * MB,
      { 16 * MB, 4 * MB },
      { WEIGHT, SCALED } },
    { "only the lightest gives up where that is enough",
      3,
      { WEIGHED(256, 1, 4), WEIGHED(16, 1, 8), WEIGHED(1, 100000, 12) },
      20 * MB,
      { 5 * MB, 10 * MB, 5 * MB },
      { DIRTY, DIRTY, SCALED } },
    { "the heaviest alone are scaled, and alike",
      3,
      { WEIGHED(1, 1000, 40), WEIGHED(16, 1000, 16), WEIGHED(16, 1000, 8) },
      15 * MB,
      { 1, 9 * MB, 6 * MB },
      { SCALED, SCALED, SCALED } },
    { "of the heaviest one without a bound goes on as well",
      2,
      { TURN(1000, 48, TAKES), TURN(1000, 0, TAKES) },
      59 * MB,
      { 58553406, 446593 },
      { ITS_TURN, WAITS } },
    { "of equals the one whose turn comes last gives up",
      3,
      { TURN(100000, 8, TAKES), TURN(200000, 8, TAKES), WEIGHED(256, 1, 4) },
      20 * MB,
      { 14550000, 450000, 5 * MB },
      { ITS_TURN, WAITS, DIRTY } },
    { "of equals without turns the last one gives up",
      3,
      { WEIGHED(1, 1, 8), WEIGHED(1, 1, 8), WEIGHED(256, 1000, 4) },
      20 * MB,
      { 10 * MB, SOME, SOME },
      { DIRTY, SCALED, WEIGHT } },
    { "hardly anything", 2, { ITEM(1000, 0), ITEM(4000, 50) }, 2, { 1, 1 }, { SCALED, SCALED } },
};

static void
test_rows(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        const Row *row = &rows[i];
        AllocateShare shares[3];
        uint64_t sum = 0;

        g_test_message("%s", row->name);
        g_assert_true(allocate_rates(row->items, row->count, row->available, shares));
        for (size_t j = 0; j < row->count; j++) {
            g_test_message("  %" G_GUINT64_FORMAT " %s", shares[j].rate,
                           allocate_reason_to_string(shares[j].reason));
            g_assert_cmpuint(shares[j].rate, >, 0);
            if (row->rates[j] != SOME)
                g_assert_cmpfloat(fabs((double)shares[j].rate - (double)row->rates[j]), <=,
                                  fmin(0.1e6, 0.002 * (double)row->rates[j]) + 1);
            g_assert_cmpint(shares[j].reason, ==, row->reasons[j]);
            g_assert_cmpuint(shares[j].rate, <=, row->available - sum);
            sum += shares[j].rate;
        }
    }
}

/* Their parts are all that there is, and no more: nobody is short of his by rounding. */
static void
test_many_in_post_copy(void)
{
    AllocateItem items[7];
    AllocateShare shares[7];

    for (size_t i = 0; i < G_N_ELEMENTS(items); i++)
        items[i] = (AllocateItem)TURN(100, 0, FIRST);
    g_assert_true(allocate_rates(items, G_N_ELEMENTS(items), 49999990, shares));
    for (size_t i = 0; i < G_N_ELEMENTS(items); i++)
        g_assert_cmpint(shares[i].reason, ==, WEIGHT);
}

/* The published figure: 264 s in sum, where equal shares take 410 s. */
static void
test_worked_example_sum(void)
{
    AllocateShare shares[3];
    double sum = 0;

    g_assert_true(allocate_rates(rows[0].items, 3, rows[0].available, shares));
    for (size_t j = 0; j < 3; j++) {
        double round = (double)rows[0].items[j].volume / (double)shares[j].rate;

        for (int i = 0; i < ALLOCATE_ROUNDS; i++) {
            sum += round;
            round *= (double)rows[0].items[j].dirty_rate / (double)shares[j].rate;
        }
    }
    g_assert_cmpfloat(fabs(sum - 264.2), <, 0.2);
}

/*
 * Sum of the completion times of a gang of `all` equal ones, in the time that one takes
 * alone: `together` side by side, divided again whenever one ends, then the others one
 * by one.
 */
static double
completion_sum(size_t together, size_t all, AllocateTurn turn)
{
    double left[8];
    double sum = 0;
    double now = 0;

    for (size_t i = 0; i < together; i++)
        left[i] = 1000;
    for (size_t ended = 0; ended < together; ended++) {
        AllocateItem items[8];
        AllocateShare shares[8];
        size_t number[8];
        size_t count = 0;
        double step = INFINITY;

        for (size_t i = 0; i < together; i++) {
            if (left[i] <= 0)
                continue;
            number[count] = i;
            items[count++] = (AllocateItem){ .volume = (uint64_t)(left[i] * 1e6) + 1,
                                             .weight = 256,
                                             .turn = turn };
        }
        if (count == 0)
            break;
        g_assert_true(allocate_rates(items, count, 100 * MB, shares));
        for (size_t i = 0; i < count; i++)
            step = fmin(step, left[number[i]] / ((double)shares[i].rate / 1e6));
        now += step;
        for (size_t i = 0; i < count; i++) {
            left[number[i]] -= step * (double)shares[i].rate / 1e6;
            if (left[number[i]] < 0.01) {
                left[number[i]] = 0;
                sum += now / 10;
            }
        }
    }
    for (size_t i = together; i < all; i++)
        sum += (double)i + 1;
    return sum;
}

/* Eight one after the other are 36; what is side by side may cost a twentieth. */
static void
test_completion_sum(void)
{
    static const struct {
        size_t together;
        double even;
    } cases[] = { { 1, 36 }, { 2, 37 }, { 3, 39 }, { 5, 46 }, { 8, 64 } };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        double even = completion_sum(cases[i].together, 8, ALLOCATE_TURN_NONE);
        double turns = completion_sum(cases[i].together, 8, ALLOCATE_TURN_TAKES);

        g_test_message("%" G_GSIZE_FORMAT " together: %.2f evenly, %.2f in turn", cases[i].together,
                       even, turns);
        g_assert_cmpfloat(fabs(even - cases[i].even), <, 0.1);
        g_assert_cmpfloat(turns, <, 36 * 1.05);
    }
}

/* No neighbour of the answer is better: rates moved from one to another. */
static double
cost(const AllocateItem *items, const double *rates)
{
    double sum = 0;

    for (size_t j = 0; j < 3; j++) {
        double round = items[j].weight * (double)items[j].volume / rates[j];

        for (int i = 0; i < ALLOCATE_ROUNDS; i++) {
            sum += round;
            round *= (double)items[j].dirty_rate / rates[j];
        }
    }
    return sum;
}

static void
test_is_the_least(void)
{
    for (int number = 0; number < 500; number++) {
        AllocateItem items[3] = { { 0 } };
        AllocateShare shares[3];
        double rates[3];

        for (int j = 0; j < 3; j++) {
            items[j].volume = MB * (uint64_t)g_test_rand_int_range(1, 9000);
            items[j].dirty_rate = MB * (uint64_t)g_test_rand_int_range(0, 20);
            items[j].weight = g_test_rand_int_range(1, 300);
        }
        g_assert_true(allocate_rates(items, 3, 100 * MB, shares));
        for (int j = 0; j < 3; j++)
            rates[j] = (double)shares[j].rate;
        for (int from = 0; from < 3; from++) {
            for (int to = 0; to < 3; to++) {
                double moved[3] = { rates[0], rates[1], rates[2] };

                moved[from] -= 0.2e6;
                moved[to] += 0.2e6;
                if (from == to || moved[from] < (double)shares[from].least)
                    continue;
                g_assert_cmpfloat(cost(items, moved), >=, cost(items, rates) * (1 - 1e-9));
            }
        }
    }
}

/* Whoever waits, somebody is first: what is handed over is all taken. */
static void
test_turns_lose_nothing(void)
{
    for (int number = 0; number < 2000; number++) {
        AllocateItem items[6] = { { 0 } };
        AllocateShare shares[6];
        uint64_t sum = 0;

        for (int j = 0; j < 6; j++) {
            items[j].volume = MB * (uint64_t)g_test_rand_int_range(0, 4);
            items[j].weight = 1 << 4 * g_test_rand_int_range(0, 3);
            items[j].turn = (AllocateTurn)g_test_rand_int_range(ALLOCATE_TURN_NONE, FIRST + 1);
            items[j].place = (uint64_t)g_test_rand_int_range(0, 3);
        }
        g_assert_true(allocate_rates(items, 6, 100 * MB, shares));
        for (int j = 0; j < 6; j++)
            sum += shares[j].rate;
        g_assert_cmpuint(sum, >, 100 * MB / 100 * 99);
        g_assert_cmpuint(sum, <=, 100 * MB);
    }
}

static void
test_least(void)
{
    static const struct {
        AllocateItem item;
        uint64_t least;
        AllocateReason reason;
    } cases[] = {
        { { .volume = 0 }, 0, DIRTY },
        { ITEM(1000, 8), 10 * MB, DIRTY },
        { UNTIL(1000, 8, 100000), 18 * MB, DEADLINE },
        { UNTIL(1000, 8, 1000000000), 10 * MB, DIRTY }, /* rho D is more */
        { UNTIL(0, 0, 5000), 0, DEADLINE },
        { UNTIL(1, 0, 0), UINT64_MAX, DEADLINE },
        { { .volume = UINT64_MAX, .deadline_set = true, .time_left_ms = 1 }, UINT64_MAX, DEADLINE },
        { { .volume = UINT64_MAX, .deadline_set = true, .time_left_ms = INT64_MAX },
          2001,
          DEADLINE },
        { { .dirty_rate = UINT64_MAX }, UINT64_MAX, DIRTY },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        AllocateReason reason;

        g_test_message("row %" G_GSIZE_FORMAT, i);
        g_assert_cmpuint(allocate_least(&cases[i].item, &reason), ==, cases[i].least);
        g_assert_cmpint(reason, ==, cases[i].reason);
    }
}

static void
test_waits_for(void)
{
    static const struct {
        AllocateItem item;
        AllocateItem other;
        bool waits;
        bool other_waits;
    } cases[] = {
        { TURN(2, 0, TAKES), TURN(1, 0, TAKES), true, false },
        { TURN(1, 0, TAKES), TURN(1, 0, TAKES), false, false },
        { TURN(1, 0, TAKES), TURN(2, 0, FIRST), true, false },
        { TURN(1, 0, FIRST), TURN(2, 0, FIRST), false, false },
        { TURN(0, 0, TAKES), TURN(2, 0, TAKES), true, false },
        { TURN(0, 0, TAKES), TURN(0, 0, TAKES), false, false },
        { ITEM(2, 0), ITEM(1, 0), false, false },
        { ITEM(1, 0), TURN(2, 0, TAKES), false, false },
        { TURN(2, 0, TAKES), { .volume = MB, .weight = 16, .turn = TAKES }, true, false },
        { { .volume = MB, .weight = 1, .turn = TAKES, .place = 1 },
          { .volume = MB, .weight = 16, .turn = TAKES, .place = 2 },
          true,
          false },
        { { .volume = MB, .weight = 1, .turn = FIRST, .place = 1 },
          { .volume = MB, .weight = 16, .turn = FIRST, .place = 2 },
          false,
          false },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("row %" G_GSIZE_FORMAT, i);
        g_assert_cmpint(allocate_waits_for(&cases[i].item, &cases[i].other), ==, cases[i].waits);
        g_assert_cmpint(allocate_waits_for(&cases[i].other, &cases[i].item), ==,
                        cases[i].other_waits);
    }
}

static void
test_refused(void)
{
    AllocateItem items[ALLOCATE_MAX + 1] = { { 0 } };
    AllocateShare shares[ALLOCATE_MAX + 1] = { { .rate = 7 } };

    g_assert_false(allocate_rates(items, 0, MB, shares));
    g_assert_false(allocate_rates(items, ALLOCATE_MAX + 1, MB, shares));
    g_assert_false(allocate_rates(items, 2, 1, shares));
    g_assert_false(allocate_rates(items, 1, 0, shares));
    g_assert_cmpuint(shares[0].rate, ==, 7);
    g_assert_true(allocate_rates(items, ALLOCATE_MAX, MB, shares));
    g_assert_cmpuint(shares[63].rate, >=, MB / 64 - 1); /* rounded down */
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/allocate/rows", test_rows);
    g_test_add_func("/allocate/many-in-post-copy", test_many_in_post_copy);
    g_test_add_func("/allocate/worked-example-sum", test_worked_example_sum);
    g_test_add_func("/allocate/completion-sum", test_completion_sum);
    g_test_add_func("/allocate/is-the-least", test_is_the_least);
    g_test_add_func("/allocate/turns-lose-nothing", test_turns_lose_nothing);
    g_test_add_func("/allocate/least", test_least);
    g_test_add_func("/allocate/waits-for", test_waits_for);
    g_test_add_func("/allocate/refused", test_refused);
    return g_test_run();
}
