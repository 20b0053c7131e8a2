/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which source to believe when; it keeps nothing of what it said before. */
#include "decision/remaining.h"

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
