/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which source to believe when; it keeps nothing of what it said before. */
#include "decision/remaining.h"

#include "decision/schedule.h"

#include <math.h>

static uint64_t
lesser(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* 0: no prediction, or not one that a number could hold. */
static uint64_t
bytes_predicted(const RemainingInput *input)
{
    uint64_t rate = input->streams != 0 ? lesser(input->rate, input->streams) : input->rate;
    double bytes = input->predicted ? input->seconds * (double)rate : 0;

    return bytes > 0 && bytes < 0x1p62 ? (uint64_t)bytes : 0;
}

uint64_t
remaining_bytes(const RemainingInput *input, bool *ret_again)
{
    uint64_t predicted = bytes_predicted(input);

    *ret_again = false;
    if (input->post_copy && input->left != 0)
        return input->unscanned && predicted != 0 ? lesser(predicted, input->left) : input->left;
    if (predicted != 0)
        return predicted;
    *ret_again = !input->post_copy;
    if (input->left != 0)
        return input->left;
    if (input->moves && input->predicted && input->seconds <= 0)
        return 1;
    return input->memory;
}

/* `left` falls to nothing at the end of every pass, however fast the guest dirties. */
static uint64_t
bytes_dirtied(const RemainingEndingInput *input)
{
    DirtyCurve assumed = dirty_curve_assumed(input->memory, NULL);
    double bytes =
        dirty_curve_at(input->dirty.valid ? &input->dirty : &assumed, input->pass_seconds);

    if (!input->dirty.valid && input->early_is_cheap)
        bytes = fmin(bytes, (double)input->dirty_rate * fmax(input->pass_seconds, 0));
    return bytes < 0x1p62 ? (uint64_t)bytes : UINT64_C(1) << 62;
}

bool
remaining_is_ending(const RemainingEndingInput *input)
{
    uint64_t dirtied = input->post_copy ? 0 : bytes_dirtied(input);
    uint64_t bytes = input->left > UINT64_MAX - dirtied ? UINT64_MAX : input->left + dirtied;
    double seconds =
        schedule_seconds_left(bytes, input->rate, input->post_copy ? 0 : input->dirty_rate);

    return seconds >= 0 && seconds < input->age + input->prepare_seconds;
}
