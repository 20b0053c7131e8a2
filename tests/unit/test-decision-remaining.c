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

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/decision/remaining/bytes", test_bytes);
    return g_test_run();
}
