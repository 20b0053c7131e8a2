/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Plans and their rendering: what is refused, how ports are cut into masks,
 * and the literal tc lines of tests/golden/shaping-*.txt. A small model of the
 * kernel takes the rendered commands, so that "applying twice changes nothing"
 * is proven without one.
 *
 * VIRT_CONVOY_GOLDEN names the folder of golden files (default tests/golden);
 * VIRT_CONVOY_GOLDEN_WRITE=1 writes them instead of comparing.
 */
#include "shaping/tc.h"

#include <linux/pkt_sched.h>
#include <stdlib.h>
#include <string.h>

static const ShapingFeatures features_small = {
    .htb = true, .u32 = true, .ifb = true, .ingress = true, .mirred = true
};
static const ShapingFeatures features_full = {
    .htb = true, .u32 = true, .fq_codel = true, .ifb = true, .ingress = true, .mirred = true
};

/* -- plans --------------------------------------------------------------------- */

static FlowAddress
address(const char *text)
{
    FlowAddress result;

    g_assert_true(flow_address_parse(text, &result));
    return result;
}

static void
plan_add(ShapingPlan *plan, unsigned id, uint64_t rate, FlowMatch match)
{
    ShapingMigration *migration = &plan->migration[plan->migration_count++];

    migration->id = id;
    migration->rate = rate;
    migration->ceil = plan->migrations.ceil;
    migration->match_count = 1;
    migration->matches[0] = match;
}

static void
plan_add_vm(ShapingPlan *plan, unsigned id, uint64_t rate, const char *mac, const char *second)
{
    ShapingVm *vm = &plan->vm[plan->vm_count++];

    vm->id = id;
    vm->rate = rate;
    vm->ceil = plan->workload.ceil;
    g_assert_true(shaping_mac_parse(mac, vm->macs[vm->mac_count++]));
    if (second != NULL)
        g_assert_true(shaping_mac_parse(second, vm->macs[vm->mac_count++]));
}

/* 400 Mbit/s are 50 MB/s; the workload keeps 30, migrations get 20. */
static ShapingPlan *
plan_new(ShapingDirection direction)
{
    ShapingPlan *plan = g_new0(ShapingPlan, 1);

    g_strlcpy(plan->interface, "eth0", sizeof plan->interface);
    plan->direction = direction;
    plan->link_rate = 50000000;
    plan->workload = (ShapingClass){ 30000000, 50000000, 1 };
    plan->migrations = (ShapingClass){ 20000000, 50000000, 0 };
    return plan;
}

static ShapingPlan *
plan_new_two(ShapingDirection direction)
{
    ShapingPlan *plan = plan_new(direction);

    if (direction == SHAPING_EGRESS) {
        plan_add(plan, 1, 12000000, flow_match_default(address(NULL), address("10.0.0.2")));
        plan_add(plan, 2, 8000000, flow_match_default(address(NULL), address("fd00::2")));
    } else {
        plan_add(plan, 1, 12000000, flow_match_default(address("10.0.0.1"), address("10.0.0.2")));
        plan_add(plan, 2, 8000000, flow_match_default(address(NULL), address(NULL)));
    }
    return plan;
}

/* -- a model of the kernel ------------------------------------------------------ */

static uint32_t
handle_parse(const char *text)
{
    const char *colon = strchr(text, ':');
    uint32_t major, minor = 0;

    if (strcmp(text, "root") == 0)
        return TC_H_ROOT;
    g_assert_nonnull(colon);
    major = (uint32_t)strtoul(text, NULL, 16);
    if (colon[1] != '\0')
        minor = (uint32_t)strtoul(colon + 1, NULL, 16);
    return major << 16 | minor;
}

static const char *
word_after(char **words, const char *name)
{
    for (gsize i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], name) == 0)
            return words[i + 1];
    }
    return NULL;
}

static void
model_class(Observed *model, char **words)
{
    uint32_t id = handle_parse(word_after(words, "classid"));
    ObservedClass class = { .id = id };
    guint i = 0;

    while (i < model->classes->len && g_array_index(model->classes, ObservedClass, i).id != id)
        i++;
    if (strcmp(words[1], "add") == 0)
        g_assert_cmpuint(i, ==, model->classes->len);
    else
        g_assert_cmpuint(i, <, model->classes->len);
    if (i < model->classes->len)
        g_array_remove_index(model->classes, i);
    if (strcmp(words[1], "del") == 0) {
        for (guint j = model->qdiscs->len; j > 0; j--) {
            if (g_array_index(model->qdiscs, ObservedQdisc, j - 1).parent == id)
                g_array_remove_index(model->qdiscs, j - 1);
        }
        for (guint j = 0; j < model->filters->len; j++)
            g_assert_cmpuint(g_array_index(model->filters, ObservedFilter, j).class_id, !=, id);
        return;
    }
    class.parent = handle_parse(word_after(words, "parent"));
    class.rate = g_ascii_strtoull(word_after(words, "rate"), NULL, 10) / 8;
    class.ceil = g_ascii_strtoull(word_after(words, "ceil"), NULL, 10) / 8;
    class.prio = (uint32_t)atoi(word_after(words, "prio"));
    class.quantum = (uint32_t)atoi(word_after(words, "quantum"));
    g_array_append_val(model->classes, class);
}

static void
model_qdisc(Observed *model, char **words)
{
    const char *limit = word_after(words, "limit");
    ObservedQdisc qdisc = { .handle = handle_parse(word_after(words, "handle")) };
    gsize kind = 0;

    if (word_after(words, "parent") != NULL)
        qdisc.parent = handle_parse(word_after(words, "parent"));
    else
        qdisc.parent = qdisc.handle == 0xffff0000 ? TC_H_INGRESS : TC_H_ROOT;
    while (strcmp(words[kind], "handle") != 0)
        kind++;
    g_strlcpy(qdisc.kind, words[kind + 2], sizeof qdisc.kind);
    qdisc.limit = limit == NULL ? 0 : (uint32_t)atoi(limit);
    for (guint j = model->qdiscs->len; j > 0; j--) {
        if (g_array_index(model->qdiscs, ObservedQdisc, j - 1).parent == qdisc.parent) {
            g_assert_cmpstr(words[1], !=, "add");
            g_array_remove_index(model->qdiscs, j - 1);
        }
    }
    g_array_append_val(model->qdiscs, qdisc);
}

static void
model_filter(Observed *model, char **words, int ifb_ifindex)
{
    ObservedFilter filter = { .parent = handle_parse(word_after(words, "parent")) };
    const char *protocol = word_after(words, "protocol");

    filter.preference = (uint16_t)atoi(word_after(words, "prio"));
    filter.protocol = strcmp(protocol, "ip") == 0       ? 0x0800
                      : strcmp(protocol, "ipv6") == 0   ? 0x86dd
                      : strcmp(protocol, "802.1Q") == 0 ? 0x8100
                                                        : 0x0003;
    if (strcmp(words[1], "del") == 0) {
        for (guint j = model->filters->len; j > 0; j--) {
            if (g_array_index(model->filters, ObservedFilter, j - 1).preference ==
                filter.preference)
                g_array_remove_index(model->filters, j - 1);
        }
        return;
    }
    if (word_after(words, "flowid") != NULL)
        filter.class_id = handle_parse(word_after(words, "flowid"));
    if (word_after(words, "redirect") != NULL)
        filter.redirect_ifindex = ifb_ifindex;
    for (gsize i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], "match") != 0)
            continue;
        filter.keys[filter.key_count++] = (U32Key){
            .value = (uint32_t)strtoul(words[i + 2], NULL, 16),
            .mask = (uint32_t)strtoul(words[i + 3], NULL, 16),
            .offset =
                words[i + 4] != NULL && strcmp(words[i + 4], "at") == 0 ? atoi(words[i + 5]) : 0,
        };
    }
    g_array_append_val(model->filters, filter);
}

typedef struct {
    Observed *uplink;
    Observed *ifb;
} Model;

static void
model_init(Model *model)
{
    ObservedQdisc standard = { .parent = TC_H_ROOT, .kind = "mq" };

    model->uplink = observed_new_empty();
    model->uplink->exists = true;
    model->uplink->ifindex = 3;
    g_array_append_val(model->uplink->qdiscs, standard);
    model->ifb = observed_new_empty();
    g_strlcpy(model->ifb->name, "convoy3", sizeof model->ifb->name);
}

static void
model_clear(Model *model)
{
    observed_free(model->uplink);
    observed_free(model->ifb);
}

static void
model_run(Model *model, const GPtrArray *steps)
{
    for (guint i = 0; i < steps->len; i++) {
        const ShapingStep *step = g_ptr_array_index(steps, i);
        const char *device = word_after(step->arguments, "dev");
        Observed *target = g_strcmp0(device, "convoy3") == 0 ? model->ifb : model->uplink;

        /* The redirect's line has two: the first is where it stands. */
        if (step->tool == SHAPING_TOOL_IP) {
            g_assert_cmpstr(step->arguments[1], ==, "add");
            model->ifb->exists = model->ifb->up = true;
            model->ifb->ifindex = 9;
            g_strlcpy(model->ifb->link_kind, "ifb", sizeof model->ifb->link_kind);
        } else if (strcmp(step->arguments[0], "class") == 0) {
            model_class(target, step->arguments);
        } else if (strcmp(step->arguments[0], "qdisc") == 0) {
            if (strcmp(step->arguments[4], "root") == 0)
                g_array_set_size(target->qdiscs, 0);
            model_qdisc(target, step->arguments);
        } else {
            model_filter(target, step->arguments, model->ifb->ifindex);
        }
    }
}

static GPtrArray *
model_difference(const Model *model, const ShapingPlan *plan, const ShapingFeatures *features)
{
    g_autofree ShapingPlan *normal = g_memdup2(plan, sizeof *plan);

    shaping_plan_normalise(normal);
    return shaping_difference(normal, model->uplink, model->ifb, features);
}

/* -- golden files ----------------------------------------------------------------- */

static void
golden_check(const char *name, const GPtrArray *steps)
{
    const char *folder = g_getenv("VIRT_CONVOY_GOLDEN");
    g_autofree char *file = g_strconcat("shaping-", name, ".txt", NULL);
    g_autofree char *path = g_build_filename(folder == NULL ? "tests/golden" : folder, file, NULL);
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *expected = NULL;
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < steps->len; i++) {
        const ShapingStep *step = g_ptr_array_index(steps, i);
        g_autofree char *line = shaping_step_to_string(step);

        g_string_append_printf(text, "%s\n", line);
        if (step->undo != NULL) {
            g_autofree char *undo = g_strjoinv(" ", step->undo);

            g_string_append_printf(text, "    undo: %s\n", undo);
        }
    }
    if (g_getenv("VIRT_CONVOY_GOLDEN_WRITE") != NULL) {
        g_assert_true(g_file_set_contents(path, text->str, -1, NULL));
        return;
    }
    g_file_get_contents(path, &expected, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(text->str, ==, expected);
}

/* Builds, compares with the golden file, and builds again: nothing to do. */
static void
golden_build(Model *model, const char *name, const ShapingPlan *plan,
             const ShapingFeatures *features)
{
    g_autoptr(GPtrArray) steps = NULL;
    g_autoptr(GPtrArray) again = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(shaping_plan_validate(plan, &error));
    g_assert_no_error(error);
    steps = model_difference(model, plan, features);
    golden_check(name, steps);
    model_run(model, steps);
    again = model_difference(model, plan, features);
    g_assert_cmpuint(again->len, ==, 0);
}

static void
test_egress(void)
{
    g_autofree ShapingPlan *plan = plan_new_two(SHAPING_EGRESS);
    g_autoptr(GPtrArray) removal = NULL;
    Model model;

    model_init(&model);
    golden_build(&model, "egress", plan, &features_small);

    /* Rates only: nothing but changes of the classes concerned. */
    plan->workload.rate = 25000000;
    plan->migrations.rate = 25000000;
    plan->migration[0].rate = 17000000;
    golden_build(&model, "egress-reshape", plan, &features_small);

    /* The second ends, a third comes with libvirtd's port. */
    plan->migration_count = 1;
    plan_add(plan, 3, 8000000, flow_match_default(address(NULL), address("10.0.0.3")));
    plan->migration[1].matches[0].port_low = plan->migration[1].matches[0].port_high = 16509;
    golden_build(&model, "egress-next-migration", plan, &features_small);

    /* The address of a running one was learnt better: its filters only. */
    plan->migration[0].matches[0].destination = address("10.0.0.7");
    golden_build(&model, "egress-other-peer", plan, &features_small);

    /* Its port became known, before the ranges of others; a lighter one borrows later. */
    plan->migration[0].matches[0].port_low = plan->migration[0].matches[0].port_high = 49153;
    plan->migration[0].prio = 2;
    plan->migration_count = 1;
    golden_build(&model, "egress-port-known", plan, &features_small);

    /* Its turn came: more at a time. */
    plan->migration[0].goes_first = true;
    golden_build(&model, "egress-goes-first", plan, &features_small);

    /* It goes on in post-copy: a short queue. */
    plan->migration[0].post_copy = true;
    golden_build(&model, "egress-post-copy", plan, &features_small);

    removal = shaping_difference_remove("eth0", SHAPING_EGRESS, model.uplink, model.ifb, false);
    golden_check("egress-remove", removal);
    model_clear(&model);
}

static void
test_ingress(void)
{
    g_autofree ShapingPlan *plan = plan_new_two(SHAPING_INGRESS);
    g_autoptr(GPtrArray) removal = NULL;
    Model model;

    model_init(&model);
    golden_build(&model, "ingress", plan, &features_small);
    removal = shaping_difference_remove("eth0", SHAPING_INGRESS, model.uplink, model.ifb, false);
    golden_check("ingress-remove", removal);
    model_clear(&model);
}

/* A VM with a floor has a class under the workload's, by its MACs. */
static void
test_vms(void)
{
    static const char *const names[][4] = {
        { "egress-vms", "egress-vms-reshape", "egress-vms-mac", "egress-vms-gone" },
        { "ingress-vms", "ingress-vms-reshape", "ingress-vms-mac", "ingress-vms-gone" },
    };

    for (int direction = 0; direction < 2; direction++) {
        g_autofree ShapingPlan *plan = plan_new((ShapingDirection)direction);
        Model model;

        plan_add(plan, 1, 20000000, flow_match_default(address(NULL), address(NULL)));
        plan_add_vm(plan, 1, 5000000, "52:54:00:ab:cd:ef", NULL);
        plan_add_vm(plan, 64, 8000000, "52:54:00:00:00:02", "52:54:00:00:00:03");
        model_init(&model);
        golden_build(&model, names[direction][0], plan, &features_small);

        /* The workload's share alone moves: two classes of it, and the migrations'. */
        plan->workload.rate = 25000000;
        plan->migrations.rate = 25000000;
        golden_build(&model, names[direction][1], plan, &features_small);

        /* Another NIC of the same VM: its filters only. */
        g_assert_true(shaping_mac_parse("52:54:00:00:00:04", plan->vm[1].macs[1]));
        golden_build(&model, names[direction][2], plan, &features_small);

        /* It went: filters first, then the class. */
        plan->vm_count = 1;
        golden_build(&model, names[direction][3], plan, &features_small);
        model_clear(&model);
    }
}

static void
test_vlan_and_odd_ports(void)
{
    g_autofree ShapingPlan *plan = plan_new(SHAPING_EGRESS);
    FlowMatch match = flow_match_default(address("fd00::1"), address(NULL));
    Model model;

    match.port_side = FLOW_PORT_SOURCE;
    match.port_low = 49152;
    match.port_high = 49160; /* 49152-49159 and 49160 */
    plan_add(plan, 64, 20000000, match);
    plan->migration[0].match_count = 2;
    plan->migration[0].matches[1] = flow_match_default(address(NULL), address("10.0.0.2"));
    plan->vlan_tagged = true;
    model_init(&model);
    golden_build(&model, "egress-vlan", plan, &features_full);
    model_clear(&model);
}

/* 40 and 100 Gbit/s: on both sides of 2^32 bytes/s (34.4 Gbit/s). */
static void
test_rates_above_32_bits(void)
{
    g_autofree ShapingPlan *plan = plan_new(SHAPING_EGRESS);
    Model model;

    plan->link_rate = UINT64_C(12500000000);
    plan->workload = (ShapingClass){ (UINT64_C(1) << 32) - 1, plan->link_rate, 1 };
    plan->migrations = (ShapingClass){ UINT64_C(1) << 32, plan->link_rate, 0 };
    plan_add(plan, 1, UINT64_C(5000000000), flow_match_default(address(NULL), address("10.0.0.2")));
    model_init(&model);
    golden_build(&model, "egress-100-gigabit", plan, &features_small);
    model_clear(&model);
}

static void
test_no_migration(void)
{
    g_autofree ShapingPlan *plan = plan_new(SHAPING_EGRESS);
    g_autoptr(GPtrArray) steps = NULL;
    Model model;

    model_init(&model);
    steps = model_difference(&model, plan, &features_full);
    g_assert_cmpuint(steps->len, ==, 6); /* root, four classes, one leaf qdisc */
    model_clear(&model);
}

/* Everything at its limit must still render, run and be recognised. */
static void
test_full_plan(void)
{
    g_autofree ShapingPlan *plan = plan_new(SHAPING_EGRESS);
    g_autoptr(GPtrArray) steps = NULL;
    g_autoptr(GPtrArray) again = NULL;
    Model model;

    for (unsigned id = 1; id <= SHAPING_MIGRATIONS_MAX; id++)
        plan_add(plan, id, 0, flow_match_default(address(NULL), address(NULL)));
    for (unsigned id = 1; id <= SHAPING_VMS_MAX; id++) {
        g_autofree char *mac = g_strdup_printf("52:54:00:00:00:%02x", id);

        plan_add_vm(plan, id, SHAPING_RATE_MAX, mac, NULL);
    }
    model_init(&model);
    steps = model_difference(&model, plan, &features_small);
    g_assert_cmpuint(steps->len, ==, 6 + 64 * 4 + 64 * 3);
    model_run(&model, steps);
    again = model_difference(&model, plan, &features_small);
    g_assert_cmpuint(again->len, ==, 0);
    model_clear(&model);
}

/* -- whose qdisc is it ---------------------------------------------------------------- */

static void
test_foreign(void)
{
    static const struct {
        const char *name;
        ObservedQdisc qdiscs[2];
        bool egress_foreign, ingress_foreign;
    } rows[] = {
        { "kernel default", { { .parent = TC_H_ROOT, .kind = "noqueue" } }, false, false },
        { "mq with default children",
          { { .parent = TC_H_ROOT, .kind = "mq" }, { .parent = 1, .kind = "fq_codel" } },
          false,
          false },
        { "somebody's htb", { { 0x10000, TC_H_ROOT, "htb", 0 } }, true, false },
        { "our handle on another kind", { { 0xc0b00000, TC_H_ROOT, "hfsc", 0 } }, true, false },
        { "our kind and handle below another root",
          { { .parent = TC_H_ROOT, .kind = "mq" }, { 0xc0b00000, 1, "htb", 0 } },
          true,
          false },
        { "ours",
          { { 0xc0b00000, TC_H_ROOT, "htb", 0 }, { 0xc0b10000, 0xc0b00010, "bfifo", 9 } },
          false,
          false },
        { "child of mq replaced",
          { { .parent = TC_H_ROOT, .kind = "mq" }, { 0x80010000, 1, "fq", 0 } },
          true,
          false },
        { "ingress in use", { { 0xffff0000, TC_H_INGRESS, "ingress", 0 } }, false, true },
        { "clsact", { { 0xffff0000, TC_H_INGRESS, "clsact", 0 } }, false, true },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Observed) observed = observed_new_empty();
        g_autofree char *egress = NULL;
        g_autofree char *ingress = NULL;

        for (gsize j = 0; j < 2 && rows[i].qdiscs[j].kind[0] != '\0'; j++)
            g_array_append_val(observed->qdiscs, rows[i].qdiscs[j]);
        g_test_message("%s", rows[i].name);
        egress = observed_foreign_reason(observed, SHAPING_EGRESS, 0);
        ingress = observed_foreign_reason(observed, SHAPING_INGRESS, 0);
        g_assert_cmpint(egress != NULL, ==, rows[i].egress_foreign);
        g_assert_cmpint(ingress != NULL, ==, rows[i].ingress_foreign);
    }
}

/* An ingress qdisc is ours by its only filter: to our ifb, at our preference. */
static void
test_ingress_is_ours(void)
{
    ObservedQdisc ingress = { 0xffff0000, TC_H_INGRESS, "ingress", 0 };
    ObservedFilter redirect = { .parent = 0xffff0000,
                                .preference = SHAPING_REDIRECT_PREFERENCE,
                                .redirect_ifindex = 9 };
    ObservedFilter other = { .parent = 0xffff0000, .preference = 1 };
    g_autoptr(Observed) uplink = observed_new_empty();
    g_autoptr(Observed) ifb = observed_new_empty();
    g_autofree char *reason = NULL;
    g_autoptr(GPtrArray) steps = NULL;
    bool redirects = true;

    g_assert_false(observed_has_our_ingress(uplink, 9, NULL));
    g_array_append_val(uplink->qdiscs, ingress);
    g_assert_true(observed_has_our_ingress(uplink, 9, &redirects));
    g_assert_false(redirects);
    /* Empty: it could be anybody's, so it is not taken off unasked. */
    steps = shaping_difference_remove("eth0", SHAPING_INGRESS, uplink, ifb, false);
    g_assert_cmpuint(steps->len, ==, 0);

    g_array_append_val(uplink->filters, redirect);
    g_assert_true(observed_has_our_ingress(uplink, 9, &redirects));
    g_assert_true(redirects);
    g_assert_false(observed_has_our_ingress(uplink, 8, &redirects));
    g_assert_null(observed_foreign_reason(uplink, SHAPING_INGRESS, 9));

    /* Somebody joined in: our filter goes, the qdisc stays. */
    g_array_append_val(uplink->filters, other);
    g_assert_false(observed_has_our_ingress(uplink, 9, &redirects));
    reason = observed_foreign_reason(uplink, SHAPING_INGRESS, 9);
    g_assert_nonnull(reason);
    ifb->ifindex = 9;
    g_clear_pointer(&steps, g_ptr_array_unref);
    steps = shaping_difference_remove("eth0", SHAPING_INGRESS, uplink, ifb, false);
    golden_check("ingress-remove-shared", steps);
}

/* Its ifb was deleted: what comes in is dropped, so it must be known and taken off. */
static void
test_ingress_without_ifb(void)
{
    ObservedQdisc ingress = { 0xffff0000, TC_H_INGRESS, "ingress", 0 };
    ObservedFilter redirect = { .parent = 0xffff0000,
                                .preference = SHAPING_REDIRECT_PREFERENCE,
                                .redirect_ifindex = OBSERVED_DEVICE_GONE };
    ObservedFilter other = { .parent = 0xffff0000, .preference = 1 };

    /* Without an ifb, and beside another one of its name. */
    for (int ifb_ifindex = 0; ifb_ifindex <= 9; ifb_ifindex += 9) {
        g_autoptr(Observed) uplink = observed_new_empty();
        g_autoptr(Observed) ifb = observed_new_empty();
        g_autoptr(GPtrArray) steps = NULL;
        g_autofree char *step = NULL;
        bool redirects = true;

        ifb->ifindex = ifb_ifindex;
        g_array_append_val(uplink->qdiscs, ingress);
        g_array_append_val(uplink->filters, redirect);
        g_assert_true(observed_has_our_ingress(uplink, ifb_ifindex, &redirects));
        g_assert_false(redirects);
        steps = shaping_difference_remove("eth0", SHAPING_INGRESS, uplink, ifb, false);
        g_assert_cmpuint(steps->len, ==, 1);
        step = shaping_step_to_string(g_ptr_array_index(steps, 0));
        g_assert_cmpstr(step, ==, "tc qdisc del dev eth0 ingress");

        g_array_append_val(uplink->filters, other);
        g_clear_pointer(&steps, g_ptr_array_unref);
        g_clear_pointer(&step, g_free);
        steps = shaping_difference_remove("eth0", SHAPING_INGRESS, uplink, ifb, false);
        g_assert_cmpuint(steps->len, ==, 1);
        step = shaping_step_to_string(g_ptr_array_index(steps, 0));
        g_assert_cmpstr(step, ==, "tc filter del dev eth0 parent ffff: protocol all prio 49328");
    }
}

/* -- checks and arithmetic --------------------------------------------------------------- */

static void
test_validate(void)
{
    static const struct {
        const char *interface;
        uint64_t link_rate, workload_rate;
        unsigned prio, id, second_id, match_count;
        uint16_t low, high;
        const char *source, *destination;
        const char *text; /* in the message; NULL: valid */
    } rows[] = {
        { "eth0", 1, 0, 0, 1, 2, 1, 1, 65535, NULL, NULL, NULL },
        { "eth0.100", 1, 0, 7, 64, 2, 8, 1, 1, "10.0.0.1", "10.0.0.2", NULL },
        { "", 1, 0, 0, 1, 2, 1, 1, 1, NULL, NULL, "\"\"" },
        { "a b", 1, 0, 0, 1, 2, 1, 1, 1, NULL, NULL, "a b" },
        { "-batch", 1, 0, 0, 1, 2, 1, 1, 1, NULL, NULL, "-batch" },
        { "x\ny", 1, 0, 0, 1, 2, 1, 1, 1, NULL, NULL, "x\\ny" },
        { "x#y", 1, 0, 0, 1, 2, 1, 1, 1, NULL, NULL, "x#y" },
        { "..", 1, 0, 0, 1, 2, 1, 1, 1, NULL, NULL, "\"..\"" },
        { "eth0", 0, 0, 0, 1, 2, 1, 1, 1, NULL, NULL, "link rate" },
        { "eth0", SHAPING_RATE_MAX + 1, 0, 0, 1, 2, 1, 1, 1, NULL, NULL, "link rate" },
        { "eth0", 1, UINT64_MAX, 0, 1, 2, 1, 1, 1, NULL, NULL, "workload" },
        { "eth0", 1, 0, 8, 1, 2, 1, 1, 1, NULL, NULL, "8 is no priority" },
        { "eth0", 1, 0, 0, 0, 2, 1, 1, 1, NULL, NULL, "migration id 0" },
        { "eth0", 1, 0, 0, 65, 2, 1, 1, 1, NULL, NULL, "migration id 65" },
        { "eth0", 1, 0, 0, 2, 2, 1, 1, 1, NULL, NULL, "migration id 2 occurs twice" },
        { "eth0", 1, 0, 0, 1, 2, 0, 1, 1, NULL, NULL, "number of matches 0" },
        { "eth0", 1, 0, 0, 1, 2, 9, 1, 1, NULL, NULL, "number of matches 9" },
        { "eth0", 1, 0, 0, 1, 2, 1, 0, 1, NULL, NULL, "port 0" },
        { "eth0", 1, 0, 0, 1, 2, 1, 9, 8, NULL, NULL, "port 9" },
        { "eth0", 1, 0, 0, 1, 2, 1, 1, 1, "10.0.0.1", "fd00::1", "differs" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree ShapingPlan *plan = plan_new(SHAPING_EGRESS);
        FlowMatch match = flow_match_default(address(rows[i].source), address(rows[i].destination));
        g_autoptr(GError) error = NULL;
        gboolean valid;

        g_strlcpy(plan->interface, rows[i].interface, sizeof plan->interface);
        plan->link_rate = rows[i].link_rate;
        plan->workload.rate = rows[i].workload_rate;
        plan->workload.prio = rows[i].prio;
        match.port_low = rows[i].low;
        match.port_high = rows[i].high;
        plan_add(plan, rows[i].id, 1, match);
        plan->migration[0].match_count = rows[i].match_count;
        for (unsigned j = 1; j < MIN(rows[i].match_count, SHAPING_MATCHES_MAX); j++)
            plan->migration[0].matches[j] = match;
        plan_add(plan, rows[i].second_id, 1, flow_match_default(address(NULL), address(NULL)));
        valid = shaping_plan_validate(plan, &error);
        g_test_message("row %" G_GSIZE_FORMAT ": %s", i, valid ? "valid" : error->message);
        g_assert_cmpint(valid, ==, rows[i].text == NULL);
        if (!valid) {
            g_assert_error(error, SHAPING_ERROR, SHAPING_ERROR_INVALID);
            g_assert_nonnull(strstr(error->message, rows[i].text));
        }
    }
}

static void
test_validate_vms(void)
{
    static const struct {
        unsigned id, second_id, mac_count;
        uint64_t rate, ceil;
        const char *second_mac;
        const char *text; /* NULL: valid */
    } rows[] = {
        { 1, 64, 1, 0, 0, "52:54:00:00:00:02", NULL },
        { 1, 2, 1, SHAPING_RATE_MAX, SHAPING_RATE_MAX, "52:54:00:00:00:02", NULL },
        { 0, 2, 1, 0, 0, "52:54:00:00:00:02", "VM id 0" },
        { 65, 2, 1, 0, 0, "52:54:00:00:00:02", "VM id 65" },
        { UINT32_MAX, 2, 1, 0, 0, "52:54:00:00:00:02", "VM id 4294967295" },
        { 2, 2, 1, 0, 0, "52:54:00:00:00:02", "VM id 2 occurs twice" },
        { 1, 2, 0, 0, 0, "52:54:00:00:00:02", "MACs of a VM 0" },
        { 1, 2, 9, 0, 0, "52:54:00:00:00:02", "MACs of a VM 9" },
        { 1, 2, 2, 0, 0, "52:54:00:00:00:02", NULL },
        { 1, 2, 1, UINT64_MAX, 0, "52:54:00:00:00:02", "rate of a VM" },
        { 1, 2, 1, 0, UINT64_MAX, "52:54:00:00:00:02", "ceil of a VM" },
        { 1, 2, 1, 0, 0, "52:54:00:00:00:01", "MAC of VM 2 occurs twice" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree ShapingPlan *plan = plan_new(SHAPING_EGRESS);
        g_autoptr(GError) error = NULL;
        gboolean valid;

        plan_add_vm(plan, rows[i].id, rows[i].rate, "52:54:00:00:00:01", "52:54:00:00:00:07");
        plan->vm[0].ceil = rows[i].ceil;
        plan->vm[0].mac_count = rows[i].mac_count;
        plan_add_vm(plan, rows[i].second_id, 1, rows[i].second_mac, NULL);
        valid = shaping_plan_validate(plan, &error);
        g_test_message("row %" G_GSIZE_FORMAT ": %s", i, valid ? "valid" : error->message);
        g_assert_cmpint(valid, ==, rows[i].text == NULL);
        if (!valid) {
            g_assert_error(error, SHAPING_ERROR, SHAPING_ERROR_INVALID);
            g_assert_nonnull(strstr(error->message, rows[i].text));
        }
    }
}

/* The floors never take more than the workload has, and what they leave is the rest's. */
static void
test_normalise_vms(void)
{
    static const struct {
        uint64_t workload, first, second;         /* wanted */
        uint64_t first_rate, second_rate, others; /* given */
    } rows[] = {
        { 30000000, 5000000, 8000000, 5000000, 8000000, 17000000 },
        { 30000000, 10000000, 20000000, 10000000, 20000000, SHAPING_RATE_MIN },
        { 30000000, 30000000, 60000000, 12857142, 17142857, SHAPING_RATE_MIN }, /* ceil first */
        { 30000000, 0, 0, SHAPING_RATE_MIN, SHAPING_RATE_MIN, 29975000 },
        { 30000000, UINT64_MAX, 0, 29990627, SHAPING_RATE_MIN, SHAPING_RATE_MIN },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree ShapingPlan *plan = plan_new(SHAPING_EGRESS);
        ShapingClass others;

        plan->workload.rate = rows[i].workload;
        plan->workload.ceil = 40000000;
        plan_add_vm(plan, 1, rows[i].first, "52:54:00:00:00:01", NULL);
        plan_add_vm(plan, 2, rows[i].second, "52:54:00:00:00:02", NULL);
        shaping_plan_normalise(plan);
        others = shaping_plan_default_class(plan);
        g_test_message("row %" G_GSIZE_FORMAT, i);
        g_assert_cmpuint(plan->vm[0].rate, ==, rows[i].first_rate);
        g_assert_cmpuint(plan->vm[1].rate, ==, rows[i].second_rate);
        g_assert_cmpuint(others.rate, ==, rows[i].others);
        g_assert_cmpuint(others.ceil, ==, 40000000);
        g_assert_cmpuint(others.prio, ==, plan->workload.prio);
    }
}

static void
test_macs(void)
{
    static const struct {
        const char *text;
        bool valid;
    } rows[] = {
        { "52:54:00:AB:cd:eF", true },
        { "52:54:00:ab:cd", false },
        { "52:54:00:ab:cd:ef:", false },
        { "52-54-00-ab-cd-ef", false },
        { "52:54:00:ab:cd:eg", false },
        { "00:00:00:00:00:00", false },
        { "ff:ff:ff:ff:ff:ff", false },
        { "01:00:5e:00:00:01", false },
        { "", false },
        { NULL, false },
        { "52:54:00:ab:cd:ef ", false },
        { "5:54:00:ab:cd:ef:0", false },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        uint8_t mac[SHAPING_MAC_BYTES] = { 9, 9, 9, 9, 9, 9 };

        g_test_message("row %" G_GSIZE_FORMAT, i);
        g_assert_cmpint(shaping_mac_parse(rows[i].text, mac), ==, rows[i].valid);
        g_assert_cmpuint(mac[5], ==, rows[i].valid ? 0xef : 9);
        g_assert_cmpuint(mac[0], ==, rows[i].valid ? 0x52 : 9);
    }
}

/* A full-length name without a terminator must not be read past its end. */
static void
test_unterminated_name(void)
{
    g_autofree ShapingPlan *plan = plan_new(SHAPING_EGRESS);
    g_autoptr(GError) error = NULL;

    memset(plan->interface, 'a', sizeof plan->interface);
    g_assert_false(shaping_plan_validate(plan, &error));
    g_assert_error(error, SHAPING_ERROR, SHAPING_ERROR_INVALID);
    g_assert_nonnull(strstr(error->message, "\"aaaaaaaaaaaaaaaa\""));
    plan->migration_count = SHAPING_MIGRATIONS_MAX + 1;
    g_strlcpy(plan->interface, "eth0", sizeof plan->interface);
    g_clear_error(&error);
    g_assert_false(shaping_plan_validate(plan, &error));
    g_assert_nonnull(strstr(error->message, "65"));
}

static void
test_normalise(void)
{
    g_autofree ShapingPlan *plan = plan_new_two(SHAPING_EGRESS);

    plan->link_rate = 1000000;
    plan->workload = (ShapingClass){ 2000000, 3000000, 0 };
    plan->migrations = (ShapingClass){ 0, 500000, 0 };
    plan->migration[0].rate = 700000;
    plan->migration[0].ceil = 0;
    shaping_plan_normalise(plan);
    g_assert_cmpuint(plan->workload.ceil, ==, 1000000);
    g_assert_cmpuint(plan->workload.rate, ==, 1000000);
    g_assert_cmpuint(plan->migrations.rate, ==, SHAPING_RATE_MIN);
    g_assert_cmpuint(plan->migrations.ceil, ==, 500000);
    g_assert_cmpuint(plan->migration[0].ceil, ==, SHAPING_RATE_MIN);
    g_assert_cmpuint(plan->migration[0].rate, ==, SHAPING_RATE_MIN);
    g_assert_cmpuint(plan->migration[1].ceil, ==, 500000);
}

/* Every port of the range in exactly one pair, no other port in any. */
static void
test_port_split(void)
{
    static const struct {
        uint16_t low, high;
        unsigned count;
    } rows[] = {
        { 49152, 49215, 1 }, { 0, 65535, 1 },     { 1, 65535, 16 },    { 1, 65534, 30 },
        { 5900, 5900, 1 },   { 49152, 49160, 2 }, { 65535, 65535, 1 }, { 3, 4, 2 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        PortMask masks[PORT_MASKS_MAX];
        unsigned count = port_range_split(rows[i].low, rows[i].high, masks);

        g_assert_cmpuint(count, ==, rows[i].count);
        for (uint32_t port = 0; port <= 65535; port++) {
            unsigned hits = 0;

            for (unsigned j = 0; j < count; j++)
                hits += (port & masks[j].mask) == masks[j].port;
            if (hits != (port >= rows[i].low && port <= rows[i].high))
                g_error("port %u of %u-%u is in %u pairs", port, rows[i].low, rows[i].high, hits);
        }
    }
}

static void
test_addresses(void)
{
    FlowAddress result = { .family = 77 };

    g_assert_false(flow_address_parse("host.example", &result));
    g_assert_false(flow_address_parse("10.0.0.2/24", &result));
    g_assert_false(flow_address_parse("10.0.0", &result));
    g_assert_cmpint(result.family, ==, 77);
    g_assert_true(flow_address_parse("", &result));
    g_assert_cmpint(result.family, ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/shaping/render/egress", test_egress);
    g_test_add_func("/shaping/render/ingress", test_ingress);
    g_test_add_func("/shaping/render/vms", test_vms);
    g_test_add_func("/shaping/render/vlan", test_vlan_and_odd_ports);
    g_test_add_func("/shaping/render/above-32-bits", test_rates_above_32_bits);
    g_test_add_func("/shaping/render/no-migration", test_no_migration);
    g_test_add_func("/shaping/render/full", test_full_plan);
    g_test_add_func("/shaping/foreign/root", test_foreign);
    g_test_add_func("/shaping/foreign/ingress", test_ingress_is_ours);
    g_test_add_func("/shaping/foreign/ingress-without-ifb", test_ingress_without_ifb);
    g_test_add_func("/shaping/plan/validate", test_validate);
    g_test_add_func("/shaping/plan/validate-vms", test_validate_vms);
    g_test_add_func("/shaping/plan/normalise-vms", test_normalise_vms);
    g_test_add_func("/shaping/plan/macs", test_macs);
    g_test_add_func("/shaping/plan/unterminated-name", test_unterminated_name);
    g_test_add_func("/shaping/plan/normalise", test_normalise);
    g_test_add_func("/shaping/plan/port-split", test_port_split);
    g_test_add_func("/shaping/plan/addresses", test_addresses);
    return g_test_run();
}
