/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any dictionary as the daemon's answer, read in libvirtd's own process: texts
 * in GVariant's notation, or else its bytes as they are. Whatever it says, the
 * rules let through only what may be added to the caller's own flags.
 */
#include <libvirt/libvirt.h>
#include <stdlib.h>
#include <string.h>

#include "dictionary.h"
#include "libvirtd/answer.h"

#define LIMIT_MAXIMUM (UINT64_C(0x7fffffffffffffff) >> 20) /* MiB/s, libvirt's */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint64_t asked_flags[] = {
    VIR_MIGRATE_LIVE,
    VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER,
    VIR_MIGRATE_LIVE | VIR_MIGRATE_POSTCOPY,
    VIR_MIGRATE_LIVE | VIR_MIGRATE_PARALLEL,
    VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_TUNNELLED,
    VIR_MIGRATE_OFFLINE,
    VIR_MIGRATE_LIVE | VIR_MIGRATE_PAUSED,
    0,
};

static void
check_rules(const Answer *answer, uint64_t flags, bool typed_parameters)
{
    const uint64_t permitted =
        VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_PARALLEL | VIR_MIGRATE_AUTO_CONVERGE;
    Asked asked = { .flags = flags, .typed_parameters = typed_parameters };
    Additions additions = rules_reduce(&asked, permitted, &answer->wanted);
    uint64_t all = flags | additions.flags;

    if ((additions.flags & ~permitted) != 0 || (additions.flags & flags) != 0)
        abort();
    if ((additions.flags & VIR_MIGRATE_POSTCOPY) &&
        ((all & (VIR_MIGRATE_PARALLEL | VIR_MIGRATE_TUNNELLED | VIR_MIGRATE_PAUSED |
                 VIR_MIGRATE_OFFLINE)) ||
         !(flags & VIR_MIGRATE_LIVE)))
        abort();
    if ((additions.flags & VIR_MIGRATE_PARALLEL) && (all & VIR_MIGRATE_POSTCOPY))
        abort();
    if (additions.bandwidth > LIMIT_MAXIMUM || additions.bandwidth_post_copy > LIMIT_MAXIMUM ||
        additions.bandwidth_switchover > LIMIT_MAXIMUM || additions.connections > 255)
        abort();
    if (additions.connections != 0 && !(additions.flags & VIR_MIGRATE_PARALLEL))
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GVariant) dictionary = dictionary_of(data, size);
    Answer answer;

    answer_parse(dictionary, &answer);
    if (!answer.given || (answer.wait && answer.ticket == 0))
        abort();
    for (size_t i = 0; i < G_N_ELEMENTS(asked_flags); i++) {
        check_rules(&answer, asked_flags[i], false);
        check_rules(&answer, asked_flags[i], true);
    }
    answer_clear(&answer);
    return 0;
}
