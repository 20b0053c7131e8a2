/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every cell of the algorithm's table must give the table's answer; outside of
 * it the gates and the cost must give the outcomes an operator expects.
 */
#include "decision/technique.h"

#include <glib.h>
#include <math.h>
#include <string.h>

#define MB UINT64_C(1000000)
#define LINK (125 * MB)
#define IN TRAFFIC_CLASS_INBOUND
#define OUT TRAFFIC_CLASS_OUTBOUND
#define PRE TECHNIQUE_PRE_COPY
#define POST TECHNIQUE_POST_COPY
#define HYBRID TECHNIQUE_HYBRID

static const struct {
    TrafficClass source, destination, vm;
    Technique expected[3]; /* low, medium, high */
} table[] = {
    { IN, IN, IN, { HYBRID, HYBRID, HYBRID } }, { IN, IN, OUT, { POST, POST, POST } },
    { OUT, OUT, IN, { POST, POST, POST } },     { OUT, OUT, OUT, { POST, POST, POST } },
    { IN, OUT, IN, { POST, POST, POST } },      { IN, OUT, OUT, { POST, POST, POST } },
    { OUT, IN, IN, { PRE, HYBRID, HYBRID } }, /* medium is ours */
    { OUT, IN, OUT, { POST, POST, POST } },
};

static TrafficRates
rates_towards(TrafficClass direction, uint64_t rate)
{
    return (TrafficRates){
        .valid = true,
        .in = direction == IN ? rate : rate / 20,
        .out = direction == OUT ? rate : rate / 20,
    };
}

/* An idle gigabit network and a quiet 512 MiB guest. */
static TechniqueInput
idle_input(Priority priority)
{
    return (TechniqueInput){
        .priority = priority,
        .allowed = TECHNIQUE_ALLOW_ALL,
        .source_class = TRAFFIC_CLASS_IDLE,
        .destination_class = TRAFFIC_CLASS_IDLE,
        .vm_class = TRAFFIC_CLASS_IDLE,
        .source = { .valid = true },
        .destination = { .valid = true },
        .vm = { .valid = true },
        .source_link = LINK,
        .destination_link = LINK,
        .memory = UINT64_C(512) << 20,
        .dirty = dirty_curve_from_rate(MB / 2, 20 * MB, UINT64_C(512) << 20),
        .predict = predict_params_default(),
    };
}

/* Sets rates and classes, the classes by the real classifier. */
static void
set_traffic(TechniqueInput *input, TrafficRates source, TrafficRates destination, TrafficRates vm)
{
    input->source = source;
    input->destination = destination;
    input->vm = vm;
    input->source_class =
        classify_traffic(&source, input->source_link, TRAFFIC_CLASS_UNKNOWN, NULL);
    input->destination_class =
        classify_traffic(&destination, input->destination_link, TRAFFIC_CLASS_UNKNOWN, NULL);
    input->vm_class = classify_traffic(&vm, input->source_link, TRAFFIC_CLASS_UNKNOWN, NULL);
}

static TechniqueDecision
decide(const TechniqueInput *input)
{
    TechniqueDecision decision;
    TechniqueDecision again;

    technique_decide(input, &decision);
    g_test_message("%s", decision.reason);
    technique_decide(input, &again);
    g_assert_cmpint(decision.technique, ==, again.technique);
    g_assert_cmpstr(decision.reason, ==, again.reason);
    return decision;
}

static void
test_table(void)
{
    unsigned int by_cost = 0;
    unsigned int cells = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        for (unsigned int p = PRIORITY_LOW; p <= PRIORITY_HIGH; p++) {
            /* From a third of the link to nearly all of it. */
            for (uint64_t load = 40; load <= 110; load += 35) {
                TechniqueInput input = idle_input((Priority)p);
                TechniqueDecision decision;

                set_traffic(&input, rates_towards(table[i].source, load * MB),
                            rates_towards(table[i].destination, load * MB),
                            rates_towards(table[i].vm, 10 * MB));
                input.guaranteed = LINK / 20;
                g_assert_cmpint(input.source_class, ==, table[i].source);
                g_assert_cmpint(input.destination_class, ==, table[i].destination);
                g_assert_cmpint(input.vm_class, ==, table[i].vm);
                decision = decide(&input);
                g_assert_cmpint(decision.technique, ==, table[i].expected[p]);
                g_assert_cmpint(decision.rule, ==, TECHNIQUE_RULE_TABLE);
                g_assert_nonnull(strstr(decision.reason, "by table"));

                /* For the record: what would the cost alone have said? */
                cells++;
                by_cost += decision.cost[table[i].expected[p]] <=
                           MIN(decision.cost[PRE], MIN(decision.cost[POST], decision.cost[HYBRID]));
            }
        }
    }
    g_assert_cmpuint(cells, ==, 72);
    g_test_message("the cost model alone agrees in %u of %u", by_cost, cells);
}

static TrafficRates
rates_of_class(TrafficClass traffic_class, uint64_t rate)
{
    switch (traffic_class) {
    case TRAFFIC_CLASS_UNKNOWN:
        return (TrafficRates){ .valid = false };
    case TRAFFIC_CLASS_IDLE:
        return (TrafficRates){ .valid = true };
    case TRAFFIC_CLASS_INBOUND:
    case TRAFFIC_CLASS_OUTBOUND:
        return rates_towards(traffic_class, rate);
    case TRAFFIC_CLASS_MIXED:
        return (TrafficRates){ .valid = true, .in = rate, .out = rate };
    }
    g_assert_not_reached();
}

/* The table's answer for these classes, from the rows above and not from the code. */
static bool
table_expects(TrafficClass source, TrafficClass destination, TrafficClass vm, unsigned int priority,
              Technique *ret_expected)
{
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        if (table[i].source != source || table[i].vm != vm)
            continue;
        /* A VM that sends: the row is the same whatever the destination does. */
        if (table[i].destination == destination ||
            (destination == TRAFFIC_CLASS_UNKNOWN && vm == OUT)) {
            *ret_expected = table[i].expected[priority];
            return true;
        }
    }
    return false;
}

/* All 375 of 5 source x 5 destination x 5 VM classes x 3 priorities. */
static void
check_cell(TrafficClass source, TrafficClass destination, TrafficClass vm, Priority priority,
           unsigned int count[6])
{
    TechniqueInput input = idle_input(priority);
    TechniqueDecision decision;
    Technique expected;

    set_traffic(&input, rates_of_class(source, 60 * MB), rates_of_class(destination, 60 * MB),
                rates_of_class(vm, 10 * MB));
    g_assert_cmpint(input.source_class, ==, source);
    g_assert_cmpint(input.destination_class, ==, destination);
    g_assert_cmpint(input.vm_class, ==, vm);
    decision = decide(&input);
    count[decision.rule]++;
    if (table_expects(source, destination, vm, priority, &expected)) {
        g_assert_cmpint(decision.rule, ==, TECHNIQUE_RULE_TABLE);
        g_assert_cmpint(decision.technique, ==, expected);
        return;
    }
    /* No gate applies to this guest on this link: the cost alone, for mixed and idle too. */
    g_assert_cmpint(decision.rule, ==, TECHNIQUE_RULE_COST);
    for (unsigned int i = 0; i < TECHNIQUE_COUNT; i++)
        g_assert_cmpfloat(decision.cost[decision.technique], <=, decision.cost[i]);
}

static void
test_every_combination(void)
{
    unsigned int count[6] = { 0 };

    for (unsigned int i = 0; i < 5 * 5 * 5 * 3; i++)
        check_cell((TrafficClass)(i / 75), (TrafficClass)(i / 15 % 5), (TrafficClass)(i / 3 % 5),
                   (Priority)(i % 3), count);
    /* 8 cells, and 2 more of an unknown destination, at 3 priorities. */
    g_assert_cmpuint(count[TECHNIQUE_RULE_TABLE], ==, 30);
    g_assert_cmpuint(count[TECHNIQUE_RULE_COST], ==, 345);
}

/* ---- hysteresis -------------------------------------------------------- */

/* One input that depends on one number, which flickers. */
typedef struct {
    const char *name;
    void (*set)(TechniqueInput *input, double value);
    Priority priority;
    double low;   /* another choice here ... */
    double high;  /* ... than here */
    bool returns; /* from high to low the other is cheaper by more than the margin */
} Flicker;

static void
set_dirty_rate(TechniqueInput *input, double value)
{
    input->dirty = dirty_curve_from_rate((uint64_t)value, 0, input->memory);
}

static void
set_free(TechniqueInput *input, double value)
{
    input->dirty = dirty_curve_from_rate(20 * MB, 0, input->memory);
    input->source.out = LINK - (uint64_t)value;
}

static void
set_floor_dirty_rate(TechniqueInput *input, double value)
{
    set_dirty_rate(input, value);
    input->guaranteed = 8 * MB;
    input->source.out = 112 * MB;
}

static void
set_egress(TechniqueInput *input, double value)
{
    input->source.out = (uint64_t)value;
    input->guaranteed = LINK / 2;
}

/* Fetching the working set: between hybrid and post-copy, with pre-copy excluded. */
static void
set_working_set(TechniqueInput *input, double value)
{
    input->allowed = TECHNIQUE_ALLOW_POST_COPY | TECHNIQUE_ALLOW_HYBRID;
    input->dirty = dirty_curve_from_rate(400 * MB, (uint64_t)value, input->memory);
}

static const Flicker flickers[] = {
    { "dirty-rate", set_dirty_rate, PRIORITY_LOW, 1e6, 300e6, true },
    { "dirty-rate", set_dirty_rate, PRIORITY_MEDIUM, 1e6, 300e6, true },
    { "dirty-rate", set_dirty_rate, PRIORITY_HIGH, 1e6, 300e6, true },
    { "free", set_free, PRIORITY_LOW, 1e6, 125e6, true },
    { "free", set_free, PRIORITY_MEDIUM, 1e6, 125e6, true },
    { "floor", set_floor_dirty_rate, PRIORITY_LOW, 1e6, 12e6, true },
    { "egress", set_egress, PRIORITY_HIGH, 60e6, 124e6, false },
    { "working-set", set_working_set, PRIORITY_MEDIUM, 10e6, 500e6, true },
};

static Technique
decide_at(const Flicker *flicker, double value, const Technique *previous)
{
    TechniqueInput input = idle_input(flicker->priority);
    TechniqueDecision decision;

    flicker->set(&input, value);
    if (previous != NULL) {
        input.has_previous = true;
        input.previous = *previous;
    }
    technique_decide(&input, &decision);
    return decision.technique;
}

/* Where the choice changes, to a millionth. */
static double
find_tie(const Flicker *flicker)
{
    double low = flicker->low;
    double high = flicker->high;
    Technique at_low = decide_at(flicker, low, NULL);

    g_assert_cmpint(decide_at(flicker, high, NULL), !=, at_low);
    while (high - low > high * 1e-6) {
        double middle = (low + high) / 2;

        if (decide_at(flicker, middle, NULL) == at_low)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

static void
test_flicker(gconstpointer data)
{
    const Flicker *flicker = data;
    double tie = find_tie(flicker);
    Technique before = decide_at(flicker, tie * 0.98, NULL);
    Technique kept = before;
    unsigned int without = 0;
    unsigned int with = 0;

    for (unsigned int i = 0; i < 100; i++) {
        double value = tie * (i % 2 ? 0.98 : 1.02);
        Technique now = decide_at(flicker, value, NULL);
        Technique held = decide_at(flicker, value, &kept);

        without += now != before;
        with += held != kept;
        before = now;
        kept = held;
    }
    g_test_message("tie at %.0f: %u flips without the previous choice, %u with it", tie, without,
                   with);
    g_assert_cmpuint(without, ==, 100);
    g_assert_cmpuint(with, <=, 1);
    /* A clear change is followed at once, both ways. */
    for (unsigned int i = flicker->returns ? 0 : 1; i < 2; i++) {
        double end = i ? flicker->high : flicker->low;

        kept = decide_at(flicker, i ? flicker->low : flicker->high, NULL);
        g_assert_cmpint(decide_at(flicker, end, &kept), ==, decide_at(flicker, end, NULL));
    }
}

static void
test_previous(void)
{
    TechniqueInput input = idle_input(PRIORITY_MEDIUM);
    TechniqueDecision decision;

    /* Not allowed any more: left at once. Senseless: not looked at. */
    input.has_previous = true;
    input.previous = HYBRID;
    input.allowed = TECHNIQUE_ALLOW_PRE_COPY | TECHNIQUE_ALLOW_POST_COPY;
    g_assert_cmpint(decide(&input).technique, ==, PRE);
    input.previous = (Technique)77;
    g_assert_cmpint(decide(&input).technique, ==, PRE);
    /* The table does not look at it. */
    input = idle_input(PRIORITY_MEDIUM);
    input.has_previous = true;
    input.previous = HYBRID;
    set_traffic(&input, rates_towards(IN, 60 * MB), rates_towards(OUT, 60 * MB),
                rates_towards(IN, 10 * MB));
    g_assert_cmpint(decide(&input).technique, ==, POST);
    /* Kept is said. */
    input = idle_input(PRIORITY_MEDIUM);
    input.has_previous = true;
    for (double value = 1e6; value < 300e6; value *= 1.01) {
        set_dirty_rate(&input, value);
        input.previous = PRE;
        technique_decide(&input, &decision);
        g_assert_cmpint(decision.kept, ==, strstr(decision.reason, "kept") != NULL);
        if (decision.kept) {
            g_assert_cmpint(decision.technique, ==, PRE);
            g_assert_cmpfloat(decision.cost[PRE], >,
                              MIN(decision.cost[POST], decision.cost[HYBRID]));
        }
    }
}

static void
test_excluded_all_named(void)
{
    TechniqueInput input = idle_input(PRIORITY_MEDIUM);
    TechniqueDecision decision;

    input.allowed = (TechniqueSet)0;
    input.excluded[PRE] = "first";
    input.excluded[POST] = "second; third";
    input.excluded[HYBRID] = "second; third";
    decision = decide(&input);
    g_assert_true(g_str_has_suffix(
        decision.reason, "; excluded: pre-copy (first), post-copy, hybrid (second; third)"));
    /* Only of what is excluded. */
    input.allowed = TECHNIQUE_ALLOW_PRE_COPY;
    decision = decide(&input);
    g_assert_true(
        g_str_has_suffix(decision.reason, "; excluded: post-copy, hybrid (second; third)"));
    input.allowed = TECHNIQUE_ALLOW_ALL;
    decision = decide(&input);
    g_assert_null(strstr(decision.reason, "excluded"));
}

/* With the destination unknown, the table answers where its row does not depend on it. */
static void
test_table_unknown_destination(void)
{
    Technique technique;

    static const struct {
        TrafficClass source, destination, vm;
        bool answers;
    } rows[] = {
        { IN, TRAFFIC_CLASS_UNKNOWN, OUT, true }, { OUT, TRAFFIC_CLASS_UNKNOWN, OUT, true },
        { IN, TRAFFIC_CLASS_UNKNOWN, IN, false }, { OUT, TRAFFIC_CLASS_UNKNOWN, IN, false },
        { TRAFFIC_CLASS_MIXED, IN, IN, false },   { TRAFFIC_CLASS_UNKNOWN, IN, OUT, false },
        { IN, TRAFFIC_CLASS_IDLE, IN, false },    { IN, IN, TRAFFIC_CLASS_UNKNOWN, false },
    };

    for (unsigned int p = PRIORITY_LOW; p <= PRIORITY_HIGH; p++) {
        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
            technique = PRE;
            g_assert_cmpint(technique_from_table(rows[i].source, rows[i].destination, rows[i].vm,
                                                 (Priority)p, &technique),
                            ==, rows[i].answers);
            g_assert_cmpint(technique, ==, rows[i].answers ? POST : PRE);
        }
    }
}

static void
test_available(void)
{
    TechniqueInput input = idle_input(PRIORITY_LOW);
    TechniqueDecision decision;

    set_traffic(&input, (TrafficRates){ .valid = true, .in = 1 * MB, .out = 30 * MB },
                (TrafficRates){ .valid = true, .in = 50 * MB, .out = 3 * MB },
                (TrafficRates){ .valid = true, .in = 20 * MB, .out = 60 * MB });
    decision = decide(&input);
    g_assert_cmpuint(decision.available_pre, ==, 35 * MB);  /* 125 - 30 - 60; 125 - 50 */
    g_assert_cmpuint(decision.available_post, ==, 55 * MB); /* 125 - 30; 125 - 50 - 20 */
    g_assert_false(decision.available_assumed);

    /* The destination is not known: its terms are left out. */
    input.destination_link = 0;
    input.destination = (TrafficRates){ 0 };
    input.destination_class = TRAFFIC_CLASS_UNKNOWN;
    decision = decide(&input);
    g_assert_cmpuint(decision.available_pre, ==, 35 * MB);
    g_assert_cmpuint(decision.available_post, ==, 95 * MB);
    g_assert_false(decision.available_assumed);

    /* Not measured is not idle. */
    input.source.valid = false;
    decision = decide(&input);
    g_assert_true(decision.available_assumed);
    g_assert_cmpuint(decision.available_post, <=, LINK / 2 + 1);

    /* What is guaranteed counts where less is free, but never above a link. */
    input = idle_input(PRIORITY_HIGH);
    input.source.out = LINK;
    input.guaranteed = 100 * MB;
    input.destination_link = 50 * MB;
    decision = decide(&input);
    g_assert_cmpuint(decision.available_pre, ==, 0);
    g_assert_cmpuint(decision.rate_pre, ==, 50 * MB);
}

static void
test_idle_guest(void)
{
    for (unsigned int p = PRIORITY_LOW; p <= PRIORITY_MEDIUM; p++) {
        TechniqueInput input = idle_input((Priority)p);
        TechniqueDecision decision = decide(&input);

        g_assert_cmpint(decision.technique, ==, PRE);
        g_assert_cmpint(decision.rule, ==, TECHNIQUE_RULE_COST);
        input.guaranteed = LINK / 20;
        decision = decide(&input);
        g_assert_cmpint(decision.technique, ==, PRE);
        /* Without a destination too. */
        input.destination_link = 0;
        input.destination.valid = false;
        input.destination_class = TRAFFIC_CLASS_UNKNOWN;
        decision = decide(&input);
        g_assert_cmpint(decision.technique, ==, PRE);
    }
}

static void
test_dirties_faster_than_available(void)
{
    for (unsigned int p = PRIORITY_LOW; p <= PRIORITY_HIGH; p++) {
        for (uint64_t dirty = 130; dirty <= 2000; dirty *= 3) {
            TechniqueInput input = idle_input((Priority)p);
            TechniqueDecision decision;

            input.dirty = dirty_curve_from_rate(dirty * MB, 0, input.memory);
            decision = decide(&input);
            g_assert_cmpint(decision.technique, !=, PRE);
            g_assert_cmpint(decision.rule, ==, TECHNIQUE_RULE_GATE_CONVERGENCE);
            g_assert_false(decision.prediction[PRE].converges);

            input.allowed = TECHNIQUE_ALLOW_PRE_COPY | TECHNIQUE_ALLOW_HYBRID;
            decision = decide(&input);
            g_assert_cmpint(decision.technique, ==, HYBRID);

            /* Also where the table says pre-copy. */
            set_traffic(&input, rates_towards(OUT, 60 * MB), rates_towards(IN, 60 * MB),
                        rates_towards(IN, 10 * MB));
            decision = decide(&input);
            g_assert_cmpint(decision.technique, ==, HYBRID);

            input.allowed = TECHNIQUE_ALLOW_PRE_COPY;
            input.excluded[POST] = "huge pages";
            decision = decide(&input);
            g_assert_cmpint(decision.technique, ==, PRE);
            g_assert_cmpint(decision.rule, ==, TECHNIQUE_RULE_GATE_ALLOWED);
            g_assert_nonnull(strstr(decision.reason, "huge pages"));
            g_assert_nonnull(strstr(decision.reason, "does not converge"));
        }
    }
}

/* A working set only just too large: never ending still costs more than any risk. */
static void
test_hardly_not_converging(void)
{
    TechniqueInput input = idle_input(PRIORITY_LOW);
    TechniqueDecision decision;

    input.dirty = dirty_curve_from_rate(500 * MB, 50 * MB, input.memory);
    decision = decide(&input);
    g_assert_cmpint(decision.technique, ==, HYBRID);
    g_assert_cmpint(decision.rule, ==, TECHNIQUE_RULE_GATE_CONVERGENCE);
    g_assert_cmpfloat(decision.cost[PRE], >, decision.cost[HYBRID]);
    g_assert_cmpfloat(decision.cost[PRE], >, decision.cost[POST]);
    input.predict.downtime_limit_ms = 500;
    decision = decide(&input);
    g_assert_cmpint(decision.technique, ==, PRE);
}

static void
test_high_priority_saturated_egress(void)
{
    static const TrafficClass vm_classes[] = { IN, OUT, TRAFFIC_CLASS_IDLE };

    for (size_t i = 0; i < G_N_ELEMENTS(vm_classes); i++) {
        for (unsigned int known = 0; known < 2; known++) {
            TechniqueInput input = idle_input(PRIORITY_HIGH);
            TechniqueDecision decision;
            TrafficRates vm = { .valid = true };

            if (vm_classes[i] != TRAFFIC_CLASS_IDLE)
                vm = rates_towards(vm_classes[i], 10 * MB);
            set_traffic(&input, rates_towards(OUT, LINK * 95 / 100),
                        (TrafficRates){ .valid = true }, vm);
            input.guaranteed = known ? LINK * 9 / 10 : 0;
            decision = decide(&input);
            g_assert_cmpint(decision.technique, !=, PRE);
            g_assert_cmpint(decision.rule, !=, TECHNIQUE_RULE_GATE_ALLOWED);
        }
    }
}

static void
test_low_priority_above_floor(void)
{
    TechniqueInput input = idle_input(PRIORITY_LOW);
    TechniqueDecision decision;

    /* A neighbour leaves 10 MB/s, the floor is 6.25 MB/s, the guest dirties 8. */
    set_traffic(&input, (TrafficRates){ .valid = true, .in = 100 * MB, .out = 115 * MB },
                (TrafficRates){ .valid = true }, (TrafficRates){ .valid = true });
    input.guaranteed = LINK / 20;
    input.dirty = dirty_curve_from_rate(8 * MB, 0, input.memory);
    decision = decide(&input);
    g_assert_cmpint(decision.technique, ==, HYBRID);
    g_assert_cmpint(decision.rule, ==, TECHNIQUE_RULE_GATE_FLOOR);
    /* The table's pre-copy gives way, too. */
    set_traffic(&input, rates_towards(OUT, 110 * MB), rates_towards(IN, 110 * MB),
                rates_towards(IN, 10 * MB));
    decision = decide(&input);
    g_assert_cmpint(decision.technique, ==, HYBRID);
    /* Without hybrid it may still not go on for ever. */
    input.allowed = TECHNIQUE_ALLOW_PRE_COPY | TECHNIQUE_ALLOW_POST_COPY;
    decision = decide(&input);
    g_assert_cmpint(decision.technique, ==, POST);
    /* Raising the floor above the dirty rate makes it pre-copy again. */
    input.allowed = TECHNIQUE_ALLOW_ALL;
    input.guaranteed = 12 * MB;
    decision = decide(&input);
    g_assert_cmpint(decision.technique, ==, PRE);
    /* The floor does not matter while plenty is free. */
    input = idle_input(PRIORITY_LOW);
    input.guaranteed = LINK / 20;
    input.dirty = dirty_curve_from_rate(8 * MB, 0, input.memory);
    decision = decide(&input);
    g_assert_cmpint(decision.technique, ==, PRE);
}

static void
test_allowed(void)
{
    TechniqueInput input = idle_input(PRIORITY_HIGH);
    TechniqueDecision decision;

    input.allowed = (TechniqueSet)0;
    decision = decide(&input);
    g_assert_cmpint(decision.technique, ==, PRE);
    g_assert_cmpint(decision.rule, ==, TECHNIQUE_RULE_GATE_ALLOWED);

    for (unsigned int set = 1; set <= TECHNIQUE_ALLOW_ALL; set++) {
        for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
            for (unsigned int p = PRIORITY_LOW; p <= PRIORITY_HIGH; p++) {
                input = idle_input((Priority)p);
                input.allowed = (TechniqueSet)set;
                set_traffic(&input, rates_towards(table[i].source, 60 * MB),
                            rates_towards(table[i].destination, 60 * MB),
                            rates_towards(table[i].vm, 10 * MB));
                decision = decide(&input);
                g_assert_true(set & (1u << decision.technique));
            }
        }
    }
}

static void
test_unknown(void)
{
    TechniqueInput input = idle_input(PRIORITY_MEDIUM);
    TechniqueDecision decision;

    /* Nothing known at all: an answer, marked as assumed. */
    input.source = input.destination = input.vm = (TrafficRates){ 0 };
    input.source_class = input.destination_class = input.vm_class = TRAFFIC_CLASS_UNKNOWN;
    input.source_link = input.destination_link = 0;
    input.dirty = (DirtyCurve){ 0 };
    decision = decide(&input);
    g_assert_true(decision.available_assumed);
    g_assert_true(decision.prediction[PRE].dirty_assumed);
    g_assert_cmpuint(decision.available_pre, >, 0);
    g_assert_cmpfloat(decision.dirty_rate, >, 0.0);
    g_assert_nonnull(strstr(decision.reason, "(assumed)"));

    /* A large guest whose dirty rate is unknown is not trusted to converge. */
    input = idle_input(PRIORITY_MEDIUM);
    input.memory = UINT64_C(64) << 30;
    input.dirty = (DirtyCurve){ 0 };
    decision = decide(&input);
    g_assert_cmpint(decision.technique, !=, PRE);
}

static void
test_hostile(void)
{
    static const uint64_t values[] = { 0, 1, UINT64_C(1) << 32, UINT64_MAX };
    char long_text[2000];
    TechniqueWeights weights = { (double)NAN, (double)INFINITY, -1e300, 0.0 };

    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    for (unsigned int i = 0; i < 1u << 16; i++) {
        TechniqueInput input = idle_input((Priority)(i % 4));
        TechniqueDecision decision;

        input.allowed = (TechniqueSet)(i % 17);
        input.source_class = (TrafficClass)(i % 7);
        input.destination_class = (TrafficClass)(i / 7 % 7);
        input.vm_class = (TrafficClass)(i / 49 % 7);
        input.source_link = values[i & 3];
        input.destination_link = values[i >> 2 & 3];
        input.source.out = values[i >> 4 & 3];
        input.destination.in = values[i >> 6 & 3];
        input.vm.in = input.vm.out = values[i >> 8 & 3];
        input.memory = values[i >> 10 & 3];
        input.guaranteed = values[i >> 12 & 3];
        input.dirty = dirty_curve_from_rate(values[i >> 14 & 3], 0, input.memory);
        input.predict = (PredictParams){ 0 };
        input.excluded[i % 3] = i % 5 == 0 ? long_text : NULL;
        input.weights = i % 3 == 0 ? &weights : NULL;
        input.has_previous = i % 2;
        input.previous = (Technique)(i % 11 - 3);
        technique_decide(&input, &decision);
        g_assert_cmpuint(decision.technique, <, TECHNIQUE_COUNT);
        g_assert_cmpuint(strnlen(decision.reason, TECHNIQUE_REASON_SIZE), <, TECHNIQUE_REASON_SIZE);
        for (unsigned int t = 0; t < TECHNIQUE_COUNT; t++) {
            g_assert_true(isfinite(decision.cost[t]));
            g_assert_true(isfinite(decision.prediction[t].total_seconds));
        }
        if ((input.allowed & TECHNIQUE_ALLOW_ALL) != 0)
            g_assert_true((unsigned int)input.allowed & (1u << decision.technique));
    }
}

/* The choice and the forecast of the same migration say the same. */
static void
test_calibrated(void)
{
    TechniqueInput input = idle_input(PRIORITY_MEDIUM);
    TechniqueDecision plain = decide(&input);
    RateProfile rate = rate_profile_constant((double)plain.rate_pre);

    /* Nothing is learnt yet: nothing changes, and what is not valid is not looked at. */
    for (unsigned i = 0; i < TECHNIQUE_COUNT; i++)
        input.correction[i] = calibration_none();
    input.calibrated = true;
    for (unsigned i = 0; i < TECHNIQUE_COUNT; i++)
        g_assert_cmpfloat(decide(&input).prediction[i].total_seconds, ==,
                          plain.prediction[i].total_seconds);
    g_assert_cmpint(decide(&input).technique, ==, plain.technique);
    input.correction[PRE].memory = (double)NAN;
    input.calibrated = false;
    g_assert_cmpfloat(decide(&input).prediction[PRE].total_seconds, ==,
                      plain.prediction[PRE].total_seconds);

    input.calibrated = true;
    for (unsigned i = 0; i < TECHNIQUE_COUNT; i++) {
        CalibrationCorrection correction = { .memory = 1.5,
                                             .further = 0.5,
                                             .reverse_full = 2.0,
                                             .overhead = 3.0,
                                             .error_low = -0.1,
                                             .error_high = 0.2 };

        input.correction[i] = correction;
        for (unsigned full = 0; full < 2; full++) {
            Prediction forecast;

            input.reverse_full = full == 1;
            rate.segment[0].reverse_full = input.reverse_full;
            forecast = calibration_predict(&correction, (Technique)i, input.memory, &rate, &rate,
                                           &input.dirty, &input.predict, NULL);
            g_assert_cmpfloat(decide(&input).prediction[i].total_seconds, ==,
                              forecast.total_seconds);
            g_assert_cmpfloat(decide(&input).prediction[i].total_seconds_high, ==,
                              forecast.total_seconds_high);
        }
        input.reverse_full = false;
    }

    /* What taught that pre-copy takes longer here than it should changes the choice. */
    g_assert_cmpint(plain.technique, ==, PRE);
    for (unsigned i = 0; i < TECHNIQUE_COUNT; i++)
        input.correction[i] = calibration_none();
    input.correction[PRE].memory = 4.0;
    g_assert_cmpint(decide(&input).technique, !=, PRE);
    g_assert_cmpint(decide(&input).rule, ==, TECHNIQUE_RULE_COST);

    /* Hostile numbers give an answer that is finite. */
    input.correction[PRE].memory = 1e308;
    input.correction[HYBRID].overhead = -1e308;
    input.correction[POST].further = (double)NAN;
    input.reverse_full = true;
    for (unsigned i = 0; i < TECHNIQUE_COUNT; i++)
        g_assert_true(isfinite(decide(&input).cost[i]));
}

static void
test_limits(void)
{
    TechniqueInput input = idle_input(PRIORITY_MEDIUM);
    TechniqueDecision plain = decide(&input);
    TechniqueDecision limited;

    for (unsigned i = 0; i < TECHNIQUE_COUNT; i++)
        input.limit_pre[i] = UINT64_MAX;
    input.limit_post = UINT64_C(1) << 32;
    limited = decide(&input);
    for (unsigned i = 0; i < TECHNIQUE_COUNT; i++)
        g_assert_cmpfloat(limited.cost[i], ==, plain.cost[i]);

    /* One connection carries a tenth; only pre-copy may have several. */
    for (unsigned i = 0; i < TECHNIQUE_COUNT; i++)
        input.limit_pre[i] = i == PRE ? 0 : LINK / 10;
    input.limit_post = LINK / 10;
    limited = decide(&input);
    g_assert_cmpfloat(limited.prediction[PRE].total_seconds, ==,
                      plain.prediction[PRE].total_seconds);
    g_assert_cmpfloat(limited.prediction[HYBRID].total_seconds, >,
                      5 * plain.prediction[HYBRID].total_seconds);
    g_assert_cmpfloat(limited.prediction[POST].total_seconds, >,
                      5 * plain.prediction[POST].total_seconds);
    g_assert_cmpuint(limited.rate_pre, ==, plain.rate_pre);

    /* Below what is free nothing is taken from the workload. */
    input.limit_pre[PRE] = 1;
    limited = decide(&input);
    for (unsigned i = 0; i < TECHNIQUE_COUNT; i++)
        g_assert_true(isfinite(limited.cost[i]));
    g_assert_false(limited.prediction[PRE].converges);
    g_assert_cmpint(limited.technique, !=, PRE);
}

/* ---- the terms of the cost ---------------------------------------------- */

/* A busy guest on a link that a neighbour leaves a quarter of. */
static TechniqueInput
costly_input(const TechniqueWeights *weights)
{
    TechniqueInput input = idle_input(PRIORITY_MEDIUM);

    input.dirty = dirty_curve_from_rate(8 * MB, 100 * MB, input.memory);
    input.source.out = LINK * 3 / 4;
    input.weights = weights;
    return input;
}

/* Each term alone, which costs exactly what it is said to, and more where there is more of it. */
static void
test_cost_time(void)
{
    static const TechniqueWeights weights = { .time = 2.0 };
    TechniqueInput input = costly_input(&weights);
    TechniqueDecision decision = decide(&input);
    double shortest = INFINITY;

    for (unsigned i = 0; i < TECHNIQUE_COUNT; i++)
        shortest = MIN(shortest, decision.prediction[i].total_seconds);
    for (unsigned i = 0; i < TECHNIQUE_COUNT; i++)
        g_assert_cmpfloat_with_epsilon(decision.cost[i],
                                       2.0 * decision.prediction[i].total_seconds / shortest, 1e-9);
    g_assert_cmpfloat(decision.prediction[PRE].total_seconds, >,
                      decision.prediction[POST].total_seconds);
    g_assert_cmpint(decision.technique, ==, POST);
}

static void
test_cost_downtime(void)
{
    static const TechniqueWeights weights = { .downtime = 1.0 };
    TechniqueInput input = costly_input(&weights);
    TechniqueDecision decision = decide(&input);
    TechniqueDecision patient;

    for (unsigned i = 0; i < TECHNIQUE_COUNT; i++) {
        double felt = decision.prediction[i].downtime_ms + decision.prediction[i].stall_ms;

        g_assert_cmpfloat_with_epsilon(
            decision.cost[i], MIN(felt / (double)input.predict.downtime_limit_ms, 50.0), 1e-9);
    }
    /* Waiting for pages is felt as well: post-copy is not the one without downtime. */
    g_assert_cmpfloat(decision.prediction[POST].stall_ms, >, decision.prediction[PRE].stall_ms);
    g_assert_cmpint(decision.technique, ==, PRE);
    input.predict.downtime_limit_ms *= 2;
    patient = decide(&input);
    g_assert_cmpfloat(patient.cost[POST], <, decision.cost[POST]);
}

static void
test_cost_sla(void)
{
    static const TechniqueWeights weights = { .sla = 1.0 };
    TechniqueInput input = costly_input(&weights);
    double before = 0.0;

    /* What is free takes nothing from anybody. */
    for (unsigned i = 0; i < TECHNIQUE_COUNT; i++)
        g_assert_cmpfloat(decide(&input).cost[i], ==, 0.0);
    for (uint64_t guaranteed = LINK / 3; guaranteed <= LINK; guaranteed += LINK / 3) {
        TechniqueDecision decision;

        input.guaranteed = guaranteed;
        decision = decide(&input);
        g_assert_cmpfloat(decision.cost[POST], >, before);
        /* What is sent again is taken again. */
        g_assert_cmpfloat(decision.cost[PRE], >, decision.cost[POST]);
        before = decision.cost[POST];
    }
}

static void
test_cost_risk(void)
{
    static const TechniqueWeights weights = { .risk = 1.0 };
    TechniqueInput input = costly_input(&weights);
    TechniqueDecision decision = decide(&input);

    /* None of pre-copy; of the others for having it, and for what is fetched. */
    g_assert_cmpfloat(decision.cost[PRE], ==, 0.0);
    g_assert_cmpfloat(decision.cost[HYBRID], >, 0.25);
    g_assert_cmpfloat(decision.cost[POST], >, decision.cost[HYBRID]);
    g_assert_cmpfloat(decision.cost[POST], <=, 1.25);
    g_assert_cmpint(decision.technique, ==, PRE);
}

/* The weights differ as the priorities do: the same busy guest, all links idle or mixed. */
static void
test_cost_outcomes(void)
{
    static const struct {
        const char *name;
        Priority priority;
        uint64_t dirty; /* bytes/s */
        uint64_t set;   /* bytes; 0 all memory */
        uint64_t busy;  /* bytes/s, both ways at both ends; 0 idle */
        Technique expected;
    } rows[] = {
        { "idle, quiet guest", PRIORITY_LOW, MB, 20 * MB, 0, PRE },
        { "idle, quiet guest", PRIORITY_MEDIUM, MB, 20 * MB, 0, PRE },
        { "idle, quiet guest", PRIORITY_HIGH, MB, 20 * MB, 0, PRE },
        { "mixed, quiet guest", PRIORITY_LOW, MB, 20 * MB, 60 * MB, PRE },
        { "mixed, quiet guest", PRIORITY_MEDIUM, MB, 20 * MB, 60 * MB, PRE },
        { "mixed, quiet guest", PRIORITY_HIGH, MB, 20 * MB, 60 * MB, PRE },
        { "mixed, busy guest", PRIORITY_LOW, 50 * MB, 0, 60 * MB, PRE },
        { "mixed, busy guest", PRIORITY_MEDIUM, 50 * MB, 0, 60 * MB, POST },
        { "mixed, busy guest", PRIORITY_HIGH, 50 * MB, 0, 60 * MB, POST },
        { "mixed, dirties faster", PRIORITY_LOW, 100 * MB, 0, 60 * MB, POST },
        { "mixed, small set", PRIORITY_LOW, 100 * MB, 100 * MB, 60 * MB, HYBRID },
        { "mixed, dirties faster", PRIORITY_MEDIUM, 100 * MB, 0, 60 * MB, POST },
        { "mixed, small set", PRIORITY_MEDIUM, 100 * MB, 100 * MB, 60 * MB, HYBRID },
        { "mixed, dirties faster", PRIORITY_HIGH, 100 * MB, 0, 60 * MB, POST },
        { "mixed, small set", PRIORITY_HIGH, 100 * MB, 100 * MB, 60 * MB, HYBRID },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        TrafficRates both = { .valid = true, .in = rows[i].busy, .out = rows[i].busy };
        TechniqueInput input = idle_input(rows[i].priority);
        TechniqueDecision decision;

        set_traffic(&input, both, both, (TrafficRates){ .valid = true });
        input.dirty = dirty_curve_from_rate(rows[i].dirty, rows[i].set, input.memory);
        g_assert_cmpint(input.source_class, ==,
                        rows[i].busy != 0 ? TRAFFIC_CLASS_MIXED : TRAFFIC_CLASS_IDLE);
        decision = decide(&input);
        g_test_message("%s, %s: %s", rows[i].name, priority_to_string(rows[i].priority),
                       technique_to_string(decision.technique));
        g_assert_cmpint(decision.technique, ==, rows[i].expected);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/decision/technique/table", test_table);
    g_test_add_func("/decision/technique/table-unknown-destination",
                    test_table_unknown_destination);
    g_test_add_func("/decision/technique/every-combination", test_every_combination);
    g_test_add_func("/decision/technique/previous", test_previous);
    g_test_add_func("/decision/technique/excluded", test_excluded_all_named);
    for (size_t i = 0; i < G_N_ELEMENTS(flickers); i++) {
        g_autofree char *path =
            g_strdup_printf("/decision/technique/flicker/%s-%s", flickers[i].name,
                            priority_to_string(flickers[i].priority));

        g_test_add_data_func(path, &flickers[i], test_flicker);
    }
    g_test_add_func("/decision/technique/available", test_available);
    g_test_add_func("/decision/technique/idle-guest", test_idle_guest);
    g_test_add_func("/decision/technique/dirties-faster", test_dirties_faster_than_available);
    g_test_add_func("/decision/technique/hardly-not-converging", test_hardly_not_converging);
    g_test_add_func("/decision/technique/saturated-egress", test_high_priority_saturated_egress);
    g_test_add_func("/decision/technique/above-floor", test_low_priority_above_floor);
    g_test_add_func("/decision/technique/allowed", test_allowed);
    g_test_add_func("/decision/technique/unknown", test_unknown);
    g_test_add_func("/decision/technique/hostile", test_hostile);
    g_test_add_func("/decision/technique/calibrated", test_calibrated);
    g_test_add_func("/decision/technique/limits", test_limits);
    g_test_add_func("/decision/technique/cost/time", test_cost_time);
    g_test_add_func("/decision/technique/cost/downtime", test_cost_downtime);
    g_test_add_func("/decision/technique/cost/sla", test_cost_sla);
    g_test_add_func("/decision/technique/cost/risk", test_cost_risk);
    g_test_add_func("/decision/technique/cost/outcomes", test_cost_outcomes);
    return g_test_run();
}
