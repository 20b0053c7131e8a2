/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What libvirtd keeps of a running migration: its flags, or nothing at all. */
#include "daemon/job-flags.h"

#include <glib/gstdio.h>
#include <string.h>

#define UUID "67286e90-b71e-4306-a5da-dc93eb954b0d"
#define OTHER "67286e90-b71e-4306-a5da-dc93eb954b0e"
#define HEAD                                                                                       \
    "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\n<domstatus state='running' pid='1'>"
#define DOMAIN "<domain type='kvm' id='1'><name>web</name><uuid>" UUID "</uuid></domain>"
#define JOB(attributes) HEAD "<job type='none' " attributes "/>" DOMAIN "</domstatus>"

typedef struct {
    const char *text;
    uint64_t flags; /* 0: refused */
} Row;

static const Row rows[] = {
    /* As libvirt 9.0 and 11.3 write it. */
    { HEAD "<monitor path='/m' type='unix'/>"
           "<job type='none' async='migration out' phase='perform3' flags='0x28003' "
           "asyncStarted='1795703788153'><migParams><cap name='x'/></migParams></job>" DOMAIN
           "</domstatus>\n",
      0x28003 },
    { JOB("async='migration out' flags='0x8101'"), 0x8101 },
    { JOB("async='migration out' flags='0xffffffff'"), 0xffffffff },
    /* Another job, or none. */
    { JOB("async='none'"), 0 },
    { JOB("async='none' flags='0x8101'"), 0 },
    { JOB("async='migration in' flags='0x8101'"), 0 },
    { JOB("async='save' flags='0x8101'"), 0 },
    { JOB("flags='0x8101'"), 0 },
    { HEAD DOMAIN "</domstatus>", 0 },
    /* The flags are no flags. */
    { JOB("async='migration out'"), 0 },
    { JOB("async='migration out' flags=''"), 0 },
    { JOB("async='migration out' flags='0x'"), 0 },
    { JOB("async='migration out' flags='8101'"), 0 },
    { JOB("async='migration out' flags='0x-1'"), 0 },
    { JOB("async='migration out' flags='0x0x1'"), 0 },
    { JOB("async='migration out' flags='0x8101 '"), 0 },
    { JOB("async='migration out' flags='0x100000000'"), 0 },
    /* Another place, another domain, another file. */
    { HEAD "<x><job async='migration out' flags='0x8101'/></x>" DOMAIN "</domstatus>", 0 },
    { HEAD "<job async='migration out' flags='0x8101'/></domstatus>", 0 },
    { HEAD "<job async='migration out' flags='0x8101'/><domain><uuid>" OTHER
           "</uuid></domain></domstatus>",
      0 },
    { "<domain><job async='migration out' flags='0x8101'/>" DOMAIN "</domain>", 0 },
    { DOMAIN, 0 },
    { "", 0 },
    { "<domstatus", 0 },
    { "<!DOCTYPE domstatus><domstatus><job async='migration out' flags='0x8101'/>" DOMAIN
      "</domstatus>",
      0 },
};

static void
test_rows(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        uint64_t flags = 0;
        bool known = job_flags_parse(rows[i].text, -1, UUID, &flags, &error);

        g_test_message("row %zu: %s", i, error != NULL ? error->message : "known");
        g_assert_cmpint(known, ==, rows[i].flags != 0);
        g_assert_cmpint(error == NULL, ==, known);
        g_assert_cmphex(flags, ==, rows[i].flags);
    }
}

/* A name is data: it leads to no other folder. */
static void
test_files(void)
{
    static const char *const bad[] = { "none", "../web", "sub/web", "/web", "folder", "" };
    g_autofree char *directory = g_dir_make_tmp("convoy-job-flags-XXXXXX", NULL);
    g_autofree char *inner = g_build_filename(directory, "sub", NULL);
    g_autofree char *folder = g_build_filename(inner, "folder.xml", NULL);
    g_autofree char *path = g_build_filename(inner, "web.xml", NULL);
    g_autofree char *outer = g_build_filename(directory, "web.xml", NULL);
    const char *text = rows[0].text;
    uint64_t flags = 0;

    g_assert_cmpint(g_mkdir(inner, 0700), ==, 0);
    g_assert_cmpint(g_mkdir(folder, 0700), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    g_assert_true(g_file_set_contents(outer, text, -1, NULL));
    g_assert_true(job_flags_read(inner, "web", UUID, &flags, NULL));
    g_assert_cmphex(flags, ==, rows[0].flags);
    g_assert_false(job_flags_read(inner, "web", OTHER, &flags, NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(
            job_flags_read(*bad[i] == 's' ? directory : inner, bad[i], UUID, &flags, &error));
        g_assert_nonnull(error);
    }
    g_assert_cmpint(g_remove(path), ==, 0);
    g_assert_cmpint(g_remove(outer), ==, 0);
    g_assert_cmpint(g_rmdir(folder), ==, 0);
    g_assert_cmpint(g_rmdir(inner), ==, 0);
    g_assert_cmpint(g_rmdir(directory), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/job-flags/rows", test_rows);
    g_test_add_func("/daemon/job-flags/files", test_files);
    return g_test_run();
}
