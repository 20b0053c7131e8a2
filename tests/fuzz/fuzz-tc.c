/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any bytes as the kernel's answers about links, qdiscs, classes and filters
 * (kinds 0 to 3), and what is concluded from them. The corpus has what a kernel
 * said about trees of ours and of others.
 */
#include <stdlib.h>

#include "message.h"
#include "shaping/observe.c"
#include "shaping/tc.h"

#define IFINDEX 7

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
message_read(unsigned kind, struct nl_msg *message, size_t length, void *data)
{
    static int (*const receivers[])(struct nl_msg *, void *) = { link_received, qdisc_received,
                                                                 class_received, filter_received };
    struct nlmsghdr *header = nlmsg_hdr(message);
    Dump *dump = data;
    struct tcmsg tc;

    if (kind != 0 && length >= sizeof tc) {
        memcpy(&tc, nlmsg_data(header), sizeof tc);
        tc.tcm_ifindex = IFINDEX;
        memcpy(nlmsg_data(header), &tc, sizeof tc);
    }
    if (receivers[kind](message, dump) != NL_OK)
        abort();
    dump->observed->ifindex = IFINDEX;
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

    observed->ifindex = IFINDEX;
    messages_feed(data, size, 4, RTM_NEWQDISC, message_read, &dump);
    check_conclusions(observed);
    return 0;
}
