/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is left to move: which source counts, and nonsense. */
#include "decision/remaining.h"

#include <glib.h>
#include <math.h>

#define MB UINT64_C(1000000)

static const struct {
    const char *name;
    RemainingInput input;
    uint64_t bytes;
    bool again;
} rows[] = {
    { "nothing is known", { .memory = 0 }, 0, true },
    { "waits, not predicted", { .memory = 900 * MB }, 900 * MB, true },
    { "waits, predicted",
      { .predicted = true, .seconds = 10, .rate = 20 * MB, .memory = 900 * MB },
      200 * MB,
      false },
    { "waits: a prediction of nothing is none",
      { .predicted = true, .rate = 20 * MB, .memory = 900 * MB },
      900 * MB,
      true },
    { "the streams carry less than the link",
      { .predicted = true, .seconds = 10, .rate = 100 * MB, .streams = 20 * MB },
      200 * MB,
      false },
    { "the streams carry more",
      { .predicted = true, .seconds = 10, .rate = 20 * MB, .streams = 100 * MB },
      200 * MB,
      false },
    { "moves: zero pages are among what QEMU has left",
      { .moves = true, .predicted = true, .seconds = 5, .rate = 20 * MB, .left = 800 * MB },
      100 * MB,
      false },
    { "moves, the streams carry less",
      { .moves = true, .predicted = true, .seconds = 5, .rate = 100 * MB, .streams = 20 * MB },
      100 * MB,
      false },
    { "moves, not predicted",
      { .moves = true, .left = 30 * MB, .memory = 900 * MB },
      30 * MB,
      true },
    { "late: what QEMU has left",
      { .moves = true,
        .predicted = true,
        .seconds = -1,
        .rate = 20 * MB,
        .left = 30 * MB,
        .memory = 900 * MB },
      30 * MB,
      true },
    { "late, and QEMU says nothing: not all of it again",
      { .moves = true, .predicted = true, .seconds = -1, .rate = 20 * MB, .memory = 900 * MB },
      1,
      true },
    { "late to the microsecond",
      { .moves = true, .predicted = true, .seconds = 0, .rate = 20 * MB, .memory = 900 * MB },
      1,
      true },
    { "post-copy after a pass: QEMU's word",
      { .moves = true,
        .predicted = true,
        .seconds = 9,
        .rate = 20 * MB,
        .left = 30 * MB,
        .post_copy = true },
      30 * MB,
      false },
    { "post-copy at once: zero pages are among them",
      { .moves = true,
        .predicted = true,
        .seconds = 5,
        .rate = 20 * MB,
        .left = 800 * MB,
        .unscanned = true,
        .post_copy = true },
      100 * MB,
      false },
    { "post-copy at once, nearly through",
      { .moves = true,
        .predicted = true,
        .seconds = 5,
        .rate = 20 * MB,
        .left = 10 * MB,
        .unscanned = true,
        .post_copy = true },
      10 * MB,
      false },
    { "post-copy at once, late",
      { .moves = true,
        .predicted = true,
        .seconds = -5,
        .rate = 20 * MB,
        .left = 10 * MB,
        .unscanned = true,
        .post_copy = true },
      10 * MB,
      false },
    { "post-copy, late, and QEMU says nothing",
      { .moves = true,
        .predicted = true,
        .seconds = -5,
        .rate = 20 * MB,
        .post_copy = true,
        .memory = 900 * MB },
      1,
      false },
    { "no rate",
      { .moves = true, .predicted = true, .seconds = 5, .left = 10 * MB, .memory = 900 * MB },
      10 * MB,
      true },
    { "more than fits",
      { .predicted = true, .seconds = 1e9, .rate = UINT64_MAX, .memory = 900 * MB },
      900 * MB,
      true },
    { "not a number",
      { .moves = true, .predicted = true, .seconds = NAN, .rate = 20 * MB, .memory = 900 * MB },
      900 * MB,
      true },
};

static void
test_bytes(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        bool again;

        g_test_message("%s", rows[i].name);
        g_assert_cmpuint(remaining_bytes(&rows[i].input, &again), ==, rows[i].bytes);
        g_assert_cmpint(again, ==, rows[i].again);
    }
}

#define CURVE(s, b)                                                                                \
    {                                                                                              \
        .valid = true, .count = 1, .point = { { (s), (b)*1e6 } }                                   \
    }

/* At 24 MB/s; another one takes 0.7 s to prepare. */
static const struct {
    const char *name;
    RemainingEndingInput input;
    bool ending;
} endings[] = {
    { "idle, 96 MiB, never measured: 6 MB come again",
      { .left = 8 * MB, .pass_seconds = 2.5, .memory = 100 * MB },
      true },
    { "the same, too early for it",
      { .left = 12 * MB, .pass_seconds = 2.5, .memory = 100 * MB },
      false },
    { "the same, asked a while ago",
      { .left = 12 * MB, .age = 0.2, .pass_seconds = 2.5, .memory = 100 * MB },
      true },
    { "4 GB, never measured: a quarter of it may come again",
      { .left = 1, .pass_seconds = 60, .memory = 4000 * MB },
      false },
    { "4 GB, known to dirty little",
      { .left = 1, .pass_seconds = 60, .dirty = CURVE(60, 5), .memory = 4000 * MB },
      true },
    { "4 GB, never measured, but the next one would wait for its turn",
      { .left = 1, .pass_seconds = 60, .memory = 4000 * MB, .early_is_cheap = true },
      true },
    { "the same, and QEMU says that it dirties 2 MB/s: 120 MB come again",
      { .left = 1,
        .dirty_rate = 2 * MB,
        .pass_seconds = 60,
        .memory = 4000 * MB,
        .early_is_cheap = true },
      false },
    { "the same, of 40 MB: no more than it has",
      { .left = 1,
        .dirty_rate = 2 * MB,
        .pass_seconds = 60,
        .memory = 40 * MB,
        .early_is_cheap = true },
      true },
    { "4 GB, measured: what is known counts",
      { .left = 1,
        .pass_seconds = 60,
        .dirty = CURVE(60, 900),
        .memory = 4000 * MB,
        .early_is_cheap = true },
      false },
    { "the end of a pass of one that dirties much",
      { .left = 1, .dirty_rate = 15 * MB, .pass_seconds = 3, .dirty = CURVE(4, 60) },
      false },
    { "the same, its last pass was short",
      { .left = 1, .dirty_rate = 15 * MB, .pass_seconds = 0.3, .dirty = CURVE(4, 60) },
      true },
    { "the same in post-copy",
      { .left = 1,
        .dirty_rate = 15 * MB,
        .pass_seconds = 3,
        .dirty = CURVE(4, 60),
        .post_copy = true },
      true },
    { "dirtied faster than it moves",
      { .left = 1, .dirty_rate = 24 * MB, .dirty = CURVE(4, 96) },
      false },
    { "faster, in post-copy", { .left = 1, .dirty_rate = 24 * MB, .post_copy = true }, true },
    { "no time and no memory", { .left = 1 }, true },
    { "nonsense: a pass that began later", { .left = 1, .pass_seconds = -5, .memory = MB }, true },
    { "nonsense: greatest numbers",
      { .left = UINT64_MAX, .pass_seconds = 1e30, .memory = UINT64_MAX },
      false },
    { "nonsense: not a time", { .left = 1, .age = NAN }, false },
};

static void
test_ending(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(endings); i++) {
        RemainingEndingInput input = endings[i].input;

        g_test_message("%s", endings[i].name);
        input.rate = 24 * MB;
        input.prepare_seconds = 0.7;
        g_assert_cmpint(remaining_is_ending(&input), ==, endings[i].ending);
        input.rate = 0;
        g_assert_false(remaining_is_ending(&input));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/decision/remaining/bytes", test_bytes);
    g_test_add_func("/decision/remaining/ending", test_ending);
    return g_test_run();
}
