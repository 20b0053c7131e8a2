/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every hard gate, from where it comes in to the decision: what a VM, its
 * metadata, the configuration or the caller excludes is not in the set that is
 * decided from, the rule says so, and the reason names all of it.
 */
#include "daemon/gates.h"
#include "daemon/manager.h"
#include "daemon-test.h"

#include <glib/gstdio.h>
#include <libvirt/libvirt.h>
#include <string.h>

#define HEAD "<domain><name>web</name><memory unit='MiB'>512</memory>"
#define METADATA(inner)                                                                            \
    "<metadata><c:domain xmlns:c='urn:virt-convoy:domain:1'>" inner "</c:domain></metadata>"

typedef struct {
    const char *configuration; /* of [policy] */
    const char *inside;        /* of the domain XML */
    uint64_t flags;
    unsigned expected; /* TechniqueSet that is left */
    const char *named[4];
} Row;

#define LIVE VIR_MIGRATE_LIVE
#define BOTH (LIVE | VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_PARALLEL)
#define ALL TECHNIQUE_ALLOW_ALL
#define PRE TECHNIQUE_ALLOW_PRE_COPY

static const Row rows[] = {
    { "", "", LIVE, ALL, { NULL } },
    /* Metadata. */
    { "", METADATA("<c:technique allow='pre-copy'/>"), LIVE, PRE, { "the domain's metadata" } },
    { "",
      METADATA("<c:technique allow='pre-copy hybrid'/>"),
      LIVE,
      PRE | TECHNIQUE_ALLOW_HYBRID,
      { "excluded: post-copy (the domain's metadata" } },
    /* Configuration. */
    { "allow-post-copy=no\n", "", LIVE, PRE, { "the configuration does not allow it" } },
    { "allow-techniques=pre-copy\n", "", LIVE, PRE, { "the configuration does not allow it" } },
    /* The caller's flags. */
    { "", "", 0, PRE, { "not live" } },
    { "", "", LIVE | VIR_MIGRATE_TUNNELLED, PRE, { "tunnelled" } },
    { "", "", LIVE | VIR_MIGRATE_PAUSED, PRE, { "stays paused" } },
    { "", "", LIVE | VIR_MIGRATE_PARALLEL, PRE, { "parallel connections were asked for" } },
    { "", "", LIVE | VIR_MIGRATE_NON_SHARED_INC, PRE, { "storage is copied" } },
    /* The caller's --postcopy lifts parallel alone: that is judged when versions are known. */
    { "", "", LIVE | VIR_MIGRATE_POSTCOPY, ALL, { NULL } },
    { "", "", BOTH, ALL, { NULL } },
    { "",
      "",
      LIVE | VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_NON_SHARED_DISK,
      PRE,
      { "storage is copied" } },
    { "", "", LIVE | VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_PAUSED, PRE, { "stays paused" } },
    /* Memory. */
    { "", "<memoryBacking><hugepages/></memoryBacking>", LIVE, PRE, { "huge pages" } },
    { "",
      "<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>",
      LIVE,
      PRE,
      { "backed by a file", "memory is shared" } },
    { "", "<memoryBacking><locked/></memoryBacking>", LIVE, PRE, { "memory is locked" } },
    /* Devices. */
    { "", "<devices><hostdev type='pci'/></devices>", LIVE, PRE, { "hostdev" } },
    { "", "<devices><interface type='vhostuser'/></devices>", LIVE, PRE, { "vhost-user" } },
    /* Everything at once: everything is named, with the techniques it excludes. */
    { "allow-post-copy=no\n",
      METADATA("<c:technique allow='pre-copy'/>") "<memoryBacking><hugepages/></memoryBacking>",
      LIVE | VIR_MIGRATE_TUNNELLED,
      PRE,
      { "excluded: post-copy, hybrid (", "the configuration", "the domain's metadata",
        "tunnelled" } },
};

static void
check_row(Manager *manager, const Row *row)
{
    g_autofree char *xml = g_strconcat(HEAD, row->inside, "</domain>", NULL);
    g_autoptr(GError) error = NULL;
    DomainDescription *description = domain_description_parse(xml, -1, &error);
    Migration *migration = manager_add(manager, MIGRATION_ROLE_SOURCE, "web", NULL);

    g_assert_no_error(error);
    g_test_message("%s%s 0x%" G_GINT64_MODIFIER "x", row->configuration, xml, row->flags);
    /* The configuration's word holds where the description cannot be had. */
    if (g_str_has_prefix(row->configuration, "allow-post-copy=no"))
        g_assert_cmpuint(migration->allowed, ==, PRE);
    manager_describe(manager, migration, description);
    manager_exclude_post_copy(migration, gate_post_copy_flags(row->flags, NULL));
    g_assert_cmpuint(migration->allowed, ==, row->expected);
    manager_decide(manager, migration);
    g_test_message("%s", migration->decision.reason);
    g_assert_true(row->expected & (1u << migration->decision.technique));
    for (size_t i = 0; i < G_N_ELEMENTS(row->named) && row->named[i] != NULL; i++)
        g_assert_nonnull(strstr(migration->decision.reason, row->named[i]));
    if (row->expected == ALL)
        g_assert_null(strstr(migration->decision.reason, "excluded"));
    if (row->expected == PRE)
        g_assert_cmpint(migration->decision.rule, ==, TECHNIQUE_RULE_GATE_ALLOWED);
}

/*
 * Post-copy alone is wanted, and libvirt would switch: what stands against that is found when
 * the technique becomes final. No version of QEMU is known at libvirt's test driver.
 */
static void
check_settled(Manager *manager, const Row *row G_GNUC_UNUSED)
{
    static const struct {
        uint64_t flags;
        bool unknown;
        uint32_t destination; /* 0: it did not say */
        const char *named;    /* NULL: post-copy is started */
    } settled[] = {
        { LIVE | VIR_MIGRATE_POSTCOPY, false, 0, NULL },
        { LIVE | VIR_MIGRATE_POSTCOPY, false, 7002022, NULL },
        { BOTH, false, 0, "with parallel connections" },
        { BOTH, false, 7002022, "with parallel connections" },
        { BOTH, false, 10001000, "with parallel connections" },
        { 0, true, 0, "flags are not known" },
    };
    static const MigrationInput pass = { .type = MIGRATION_INPUT_ITERATION, .iteration = 1 };
    static const char xml[] = HEAD METADATA("<c:technique allow='post-copy'/>") "</domain>";

    /* Each with a decision that is made anew, and with the one that was there. */
    for (size_t i = 0; i < 2 * G_N_ELEMENTS(settled); i++) {
        g_autofree char *name = g_strdup_printf("vm%zu", i);
        Migration *migration = manager_add(manager, MIGRATION_ROLE_SOURCE, name, NULL);
        const char *named = settled[i / 2].named;
        unsigned actions;

        manager_describe(manager, migration, domain_description_parse(xml, -1, NULL));
        migration->user_flags = settled[i / 2].flags;
        migration->flags = settled[i / 2].flags;
        migration->flags_unknown = settled[i / 2].unknown;
        migration->machine.post_copy_possible = true;
        manager_decide(manager, migration);
        g_assert_cmpint(migration->decision.technique, ==, TECHNIQUE_POST_COPY);
        migration->peer_known = settled[i / 2].destination != 0;
        migration->peer.qemu_version = settled[i / 2].destination;
        manager_settle(manager, migration, i % 2 != 0);
        g_test_message("row %zu: %s", i / 2, migration->decision.reason);
        actions = migration_machine_step(&migration->machine, &pass);
        g_assert_cmpint((actions & MIGRATION_ACTION_START_POST_COPY) != 0, ==, named == NULL);
        g_assert_cmphex(migration->flags, ==, settled[i / 2].flags);
        if (named != NULL)
            g_assert_nonnull(strstr(migration->decision.reason, named));
    }
}

/* configuration: of [policy]. */
static void
with_manager(const char *configuration, void (*check)(Manager *, const Row *), const Row *row)
{
    g_autofree char *directory = g_dir_make_tmp("convoy-exclusions-XXXXXX", NULL);
    g_autofree char *decisions = g_build_filename(directory, "decisions.jsonl", NULL);
    g_autofree char *shaping = g_build_filename(directory, "shaping.journal", NULL);
    g_autofree char *text =
        g_strconcat("[network]\nuplink=lo\nshape=no\n[daemon]\nlibvirt-uri=test:///default\n"
                    "log-level=error\ndata-directory=",
                    directory, "\n[policy]\n", configuration, NULL);
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(Config) config = config_parse(text, strlen(text), "test", warnings);
    g_autoptr(GError) error = NULL;
    Manager *manager = manager_new(config, directory, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(warnings->len, ==, 0);
    check(manager, row);
    manager_free(manager);
    while (hypervisor_threads_left())
        g_usleep(1000);
    /* And it was written down. */
    g_assert_true(g_file_test(decisions, G_FILE_TEST_IS_REGULAR));
    g_assert_cmpint(g_remove(decisions), ==, 0);
    g_assert_cmpint(g_remove(shaping), ==, 0);
    g_assert_cmpint(g_rmdir(directory), ==, 0);
}

static void
test_rows(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        with_manager(rows[i].configuration, check_row, &rows[i]);
}

static void
test_settled(void)
{
    with_manager("", check_settled, NULL);
}

int
main(int argc, char **argv)
{
    daemon_test_init(&argc, &argv);
    g_test_add_func("/exclusions/rows", test_rows);
    g_test_add_func("/exclusions/settled", test_settled);
    return g_test_run();
}
