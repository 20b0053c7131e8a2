/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Number of multifd connections, and what they reach. It only counts; flags are for the caller. */
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

/* A core carries one of the fastest streams, or as many slower ones as add up to it. */
static uint64_t
connections_driven(unsigned int cores, uint64_t stream)
{
    uint64_t driven;

    if (cores == 0)
        return UINT64_MAX;
    driven = (uint64_t)cores * PARALLEL_ONE_STREAM_RATE / stream;
    return driven > cores ? driven : cores;
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
    if (count > connections_driven(input->cores, stream))
        count = connections_driven(input->cores, stream);
    if (count < 2)
        return 0;
    return count < PARALLEL_CONNECTIONS_MAX ? (unsigned int)count : PARALLEL_CONNECTIONS_MAX;
}

/* ---- what streams really reach ------------------------------------------ */

static uint64_t
percent(uint64_t rate, unsigned int part)
{
    uint64_t whole = rate / 100;

    if (whole > UINT64_MAX / part)
        return UINT64_MAX;
    /* What the division left out must not make 0 of a small rate. */
    return whole * part + rate % 100 * part / 100;
}

static void
meter_open(ParallelMeter *meter, int64_t now_us, uint64_t bytes, uint64_t room)
{
    meter->open = room != 0;
    meter->since_us = now_us;
    meter->since_bytes = bytes;
    meter->room = room;
}

void
parallel_meter_add(ParallelMeter *meter, int64_t now_us, uint64_t bytes, uint64_t room)
{
    double seconds;
    double rate;

    if (!meter->open || room == 0 || now_us < meter->since_us || bytes < meter->since_bytes ||
        now_us - meter->since_us > 2 * (int64_t)PARALLEL_WINDOW_US) {
        meter_open(meter, now_us, bytes, room);
        return;
    }
    if (room < meter->room)
        meter->room = room;
    if (now_us - meter->since_us < PARALLEL_WINDOW_US)
        return;
    seconds = (double)(now_us - meter->since_us) / 1e6;
    rate = (double)(bytes - meter->since_bytes) / seconds;
    if (rate > (double)meter->reached && rate < 0x1p63) {
        meter->reached = (uint64_t)rate;
        meter->available = meter->room;
    }
    meter->latest_us = now_us;
    meter->latest = rate < 0x1p63 ? (uint64_t)rate : UINT64_MAX;
    meter->latest_room = meter->room;
    meter_open(meter, now_us, bytes, room);
}

static bool
leaves_room(uint64_t reached, uint64_t available)
{
    return reached < percent(available, PARALLEL_FILLS_PERCENT);
}

uint64_t
parallel_meter_unfilled(const ParallelMeter *meter, int64_t now_us)
{
    bool fresh = meter->latest_us != 0 && now_us >= meter->latest_us &&
                 now_us - meter->latest_us <= 2 * (int64_t)PARALLEL_WINDOW_US;

    if (!fresh || !leaves_room(meter->latest, meter->latest_room))
        return 0;
    return meter->latest != 0 ? meter->latest : 1;
}

void
parallel_learn(ParallelExperience *experience, const ParallelObservation *observation)
{
    uint64_t *believed = observation->connections > 1 ? &experience->many : &experience->one;

    if (observation->reached == 0 || observation->available == 0)
        return;
    if (leaves_room(observation->reached, observation->available))
        *believed = observation->reached;
    else if (observation->reached > percent(*believed, 100 + PARALLEL_GAIN_PERCENT))
        *believed = 0;
}

uint64_t
parallel_stream_rate(const ParallelExperience *experience)
{
    if (experience->many != 0 &&
        experience->many < percent(experience->one, 100 + PARALLEL_GAIN_PERCENT))
        return 0;
    return experience->one;
}
