/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A shaper on a pipe, for shaping-netns.py: reads one command a line, answers
 * one line. It lives in the test's network namespace and dies when told to,
 * which is how a killed daemon is played.
 *
 *   shape-once STATE-DIRECTORY INTERFACE egress|ingress
 *     apply LINK WORKLOAD MIGRATION CEIL PEER|vm=MAC,RATE ...   rates in bytes/s
 *     check | remove | restore | counters | features | uplink PEER|default
 */
#include "shaping/features.h"
#include "shaping/shaper.h"
#include "traffic/class_counters.h"
#include "traffic/uplink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    ShapingJournal *journal;
    Shaper *shaper;
    ShapingFeatures features;
    const char *interface;
    ShapingDirection direction;
} Program;

static void
answer(const Program *self, const GError *error)
{
    if (error != NULL) {
        const char *reason = shaper_refused_reason(self->shaper);

        printf("error %d %s%s\n", error->code, error->message, reason == NULL ? "" : " [refused]");
    } else {
        printf("ok steps=%u us=%" G_GINT64_FORMAT "\n", shaper_last_steps(self->shaper),
               shaper_last_duration_us(self->shaper));
    }
}

static bool
plan_add_vm(ShapingPlan *plan, const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", 2);
    ShapingVm *vm = &plan->vm[plan->vm_count];

    if (g_strv_length(parts) != 2 || plan->vm_count >= SHAPING_VMS_MAX ||
        !shaping_mac_parse(parts[0], vm->macs[0]))
        return false;
    vm->id = ++plan->vm_count;
    vm->mac_count = 1;
    vm->rate = g_ascii_strtoull(parts[1], NULL, 10);
    vm->ceil = plan->workload.ceil;
    return true;
}

static void
command_apply(Program *self, char **words)
{
    g_autofree ShapingPlan *plan = g_new0(ShapingPlan, 1);
    g_autoptr(GError) error = NULL;

    g_strlcpy(plan->interface, self->interface, sizeof plan->interface);
    plan->direction = self->direction;
    plan->vlan_tagged = true;
    plan->link_rate = g_ascii_strtoull(words[1], NULL, 10);
    plan->workload = (ShapingClass){ g_ascii_strtoull(words[2], NULL, 10), plan->link_rate, 1 };
    plan->migrations = (ShapingClass){ g_ascii_strtoull(words[3], NULL, 10),
                                       g_ascii_strtoull(words[4], NULL, 10), 0 };
    for (unsigned i = 0; words[5 + i] != NULL; i++) {
        ShapingMigration *migration;
        FlowAddress any = { 0 }, peer;

        if (g_str_has_prefix(words[5 + i], "vm=")) {
            if (!plan_add_vm(plan, words[5 + i] + strlen("vm="))) {
                printf("error 0 not MAC,RATE: %s\n", words[5 + i]);
                return;
            }
            continue;
        }
        migration = &plan->migration[plan->migration_count++];
        if (!flow_address_parse(words[5 + i], &peer)) {
            printf("error 0 not an address: %s\n", words[5 + i]);
            return;
        }
        migration->id = i + 1;
        migration->rate = plan->migrations.rate;
        migration->ceil = plan->migrations.ceil;
        migration->matches[0] = self->direction == SHAPING_EGRESS ? flow_match_default(any, peer)
                                                                  : flow_match_default(peer, any);
        /* As for a tunnelled migration: several filters of one preference. */
        migration->match_count = 2;
        migration->matches[1] = migration->matches[0];
        migration->matches[1].port_low = 16509;
        migration->matches[1].port_high = 16514;
    }
    shaper_apply(self->shaper, plan, &error);
    answer(self, error);
}

static void
command_counters(const Program *self)
{
    g_autoptr(ClassCounters) counters = class_counters_new(NULL);
    g_autoptr(GArray) classes = NULL;
    g_autoptr(GError) error = NULL;
    uint64_t workload, migrations;
    int ifindex = (int)if_nametoindex(shaper_class_interface(self->shaper));

    if (!class_counters_read(counters, ifindex, &classes, &error))
        printf("error 0 %s\n", error->message);
    else if (!class_counters_find(classes, SHAPING_CLASS_ID(SHAPING_CLASS_WORKLOAD), &workload) ||
             !class_counters_find(classes, SHAPING_CLASS_ID(SHAPING_CLASS_MIGRATIONS), &migrations))
        printf("error 0 classes are missing\n");
    else
        printf("ok workload=%" G_GUINT64_FORMAT " migrations=%" G_GUINT64_FORMAT "\n", workload,
               migrations);
}

static void
command_uplink(const char *peer)
{
    g_autoptr(GError) error = NULL;
    Uplink uplink;

    if (uplink_find(strcmp(peer, "default") == 0 ? NULL : peer, NULL, &uplink, &error))
        printf("ok %s rate=%s path=%s\n", uplink.name, uplink.rate_valid ? "known" : "unknown",
               uplink.path);
    else
        printf("error %d %s\n", error->code, error->message);
}

static void
command_run(Program *self, char **words)
{
    guint count = g_strv_length(words);
    g_autoptr(GError) error = NULL;
    unsigned undone = 0;

    if (count >= 5 && strcmp(words[0], "apply") == 0) {
        command_apply(self, words);
    } else if (count == 1 && strcmp(words[0], "remove") == 0) {
        shaper_remove(self->shaper, &error);
        answer(self, error);
    } else if (count == 1 && strcmp(words[0], "check") == 0) {
        if (shaper_check(self->shaper, &error))
            printf("ok\n");
        else
            answer(self, error);
    } else if (count == 1 && strcmp(words[0], "restore") == 0) {
        if (shaping_journal_restore(self->journal, &undone, &error))
            printf("ok undone=%u\n", undone);
        else
            printf("error %d %s\n", error->code, error->message);
    } else if (count == 1 && strcmp(words[0], "counters") == 0) {
        command_counters(self);
    } else if (count == 1 && strcmp(words[0], "features") == 0) {
        printf("ok htb=%d u32=%d fq_codel=%d ifb=%d ingress=%d mirred=%d assumed=%d\n",
               self->features.htb, self->features.u32, self->features.fq_codel, self->features.ifb,
               self->features.ingress, self->features.mirred, self->features.assumed);
    } else if (count == 2 && strcmp(words[0], "age") == 0) {
        self->features.probed_us -= g_ascii_strtoll(words[1], NULL, 10) * G_USEC_PER_SEC;
        printf("ok\n");
    } else if (count == 2 && strcmp(words[0], "uplink") == 0) {
        command_uplink(words[1]);
    } else {
        printf("error 0 unknown command\n");
    }
}

int
main(int argc, char **argv)
{
    Program self = { 0 };
    g_autoptr(GError) error = NULL;
    char line[4096];

    if (argc != 4) {
        fprintf(stderr, "usage: shape-once STATE-DIRECTORY INTERFACE egress|ingress\n");
        return EXIT_FAILURE;
    }
    self.interface = argv[2];
    self.direction = strcmp(argv[3], "ingress") == 0 ? SHAPING_INGRESS : SHAPING_EGRESS;
    self.journal = shaping_journal_open(argv[1], &error);
    if (self.journal == NULL) {
        fprintf(stderr, "%s\n", error->message);
        return EXIT_FAILURE;
    }
    shaping_features_probe(self.journal, &self.features);
    self.shaper = shaper_new(self.interface, self.direction, self.journal, &self.features);
    while (fgets(line, sizeof line, stdin) != NULL) {
        g_auto(GStrv) words = g_strsplit(g_strstrip(line), " ", -1);

        command_run(&self, words);
        fflush(stdout);
    }
    shaper_free(self.shaper);
    shaping_journal_close(self.journal);
    return EXIT_SUCCESS;
}
