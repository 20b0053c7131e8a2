/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any bytes as the kernel's answers about links, qdiscs, classes and filters,
 * and what is concluded from them: each message is a kind (0 to 3), its length
 * (two bytes, little-endian) and what follows the netlink header. The corpus
 * has what a kernel said about trees of ours and of others.
 */
#include <stdlib.h>

#include "shaping/observe.c"
#include "shaping/tc.h"

#define IFINDEX 7
#define MESSAGE_MAXIMUM 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
message_feed(Dump *dump, unsigned kind, const uint8_t *payload, size_t length)
{
    static int (*const receivers[])(struct nl_msg *, void *) = { link_received, qdisc_received,
                                                                 class_received, filter_received };
    /* No byte more than the message has: who reads on is found. */
    struct nl_msg *message = nlmsg_alloc_size(NLMSG_HDRLEN + NLMSG_ALIGN(length));
    struct nlmsghdr *header = nlmsg_put(message, 0, 0, RTM_NEWQDISC, (int)length, 0);
    struct tcmsg tc;

    memcpy(nlmsg_data(header), payload, length);
    if (kind != 0 && length >= sizeof tc) {
        memcpy(&tc, payload, sizeof tc);
        tc.tcm_ifindex = IFINDEX;
        memcpy(nlmsg_data(header), &tc, sizeof tc);
    }
    if (receivers[kind](message, dump) != NL_OK)
        abort();
    dump->observed->ifindex = IFINDEX;
    nlmsg_free(message);
}

static void
check_steps(GPtrArray *steps)
{
    for (guint i = 0; i < steps->len; i++) {
        g_autofree char *text = shaping_step_to_string(g_ptr_array_index(steps, i));

        if (text == NULL || strchr(text, '\n') != NULL)
            abort();
    }
    g_ptr_array_unref(steps);
}

static ShapingPlan *
plan_new(ShapingDirection direction)
{
    ShapingPlan *plan = g_new0(ShapingPlan, 1);
    FlowAddress any = { 0 }, peer;

    flow_address_parse("10.0.0.2", &peer);
    g_strlcpy(plan->interface, "eth0", sizeof plan->interface);
    plan->direction = direction;
    plan->link_rate = 25000000;
    plan->workload = (ShapingClass){ .rate = 5000000, .ceil = 25000000, .prio = 1 };
    plan->migrations = (ShapingClass){ .rate = 20000000, .ceil = 25000000 };
    plan->migration_count = 1;
    plan->migration[0] =
        (ShapingMigration){ .id = 1, .rate = 20000000, .ceil = 25000000, .match_count = 1 };
    plan->migration[0].matches[0] =
        direction == SHAPING_EGRESS ? flow_match_default(any, peer) : flow_match_default(peer, any);
    shaping_plan_normalise(plan);
    return plan;
}

static void
check_conclusions(const Observed *observed)
{
    const ShapingFeatures features = {
        .htb = true, .u32 = true, .fq_codel = true, .ifb = true, .ingress = true, .mirred = true
    };
    bool redirects = false;

    observed_has_our_ingress(observed, IFINDEX + 1, &redirects);
    for (ShapingDirection direction = SHAPING_EGRESS; direction <= SHAPING_INGRESS; direction++) {
        const Observed *ifb = direction == SHAPING_INGRESS ? observed : NULL;
        g_autofree char *reason = observed_foreign_reason(observed, direction, IFINDEX + 1);
        g_autofree ShapingPlan *plan = plan_new(direction);

        check_steps(shaping_difference(plan, observed, ifb, &features));
        check_steps(shaping_difference_remove("eth0", direction, observed, ifb, true));
        if (direction == SHAPING_EGRESS && reason != NULL && observed_has_our_root(observed))
            abort();
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(Observed) observed = observed_new_empty();
    Dump dump = { .observed = observed };
    size_t at = 0;

    observed->ifindex = IFINDEX;
    while (at + 3 <= size) {
        size_t length = data[at + 1] | (size_t)data[at + 2] << 8;

        length = MIN(MIN(length, MESSAGE_MAXIMUM), size - at - 3);
        message_feed(&dump, data[at] % 4, data + at + 3, length);
        at += 3 + length;
    }
    check_conclusions(observed);
    return 0;
}
