/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Number of multifd connections. It only counts; flags are for the caller. */
#include "decision/parallel.h"

#define PARALLEL_QEMU_MIN 4000000u

bool
technique_gate_versions(Technique technique, uint32_t source_qemu, uint32_t destination_qemu)
{
    uint32_t lowest = source_qemu < destination_qemu ? source_qemu : destination_qemu;

    switch (technique) {
    case TECHNIQUE_PRE_COPY:
        return lowest >= PARALLEL_QEMU_MIN;
    case TECHNIQUE_POST_COPY:
    case TECHNIQUE_HYBRID:
        return lowest >= PARALLEL_POST_COPY_QEMU;
    }
    return false;
}

static bool
parallel_is_possible(const ParallelInput *input)
{
    /* With the flag the capability is on, even if post-copy never starts. */
    Technique technique = input->post_copy_flag ? TECHNIQUE_POST_COPY : input->technique;

    return input->both_ends_agree && !input->tunnelled &&
           technique_gate_versions(technique, input->source_qemu, input->destination_qemu);
}

unsigned int
parallel_connections(const ParallelInput *input)
{
    uint64_t stream = input->one_stream_rate;
    uint64_t count;

    if (input->setting == PARALLEL_NEVER || !parallel_is_possible(input))
        return 0;
    if (input->setting > 0) {
        if (input->setting == 1)
            return 0;
        return (unsigned int)input->setting < PARALLEL_CONNECTIONS_MAX
                   ? (unsigned int)input->setting
                   : PARALLEL_CONNECTIONS_MAX;
    }
    if (stream == 0)
        stream = PARALLEL_ONE_STREAM_RATE;
    if (!input->available_known || input->available <= stream)
        return 0;
    count = input->available / stream + (input->available % stream != 0);
    return count < PARALLEL_CONNECTIONS_MAX ? (unsigned int)count : PARALLEL_CONNECTIONS_MAX;
}
