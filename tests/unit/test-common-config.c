/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The option table agrees with itself, with the parser and with the files in
 * install/ that are made from it.
 */
#include "common/config.h"

#include <string.h>

static GPtrArray *
warnings_new(void)
{
    return g_ptr_array_new_with_free_func(g_free);
}

static Config *
parse(const char *text, GPtrArray *warnings)
{
    return config_parse(text, strlen(text), "test.conf", warnings);
}

/* Each default passes the validator and comes back as it is written. */
static void
test_defaults(void)
{
    g_autoptr(Config) config = config_new();
    size_t count = 0;
    const ConfigOption *options = config_options(&count);

    g_assert_cmpuint(count, >, 15);
    for (size_t i = 0; i < count; i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *text = NULL;

        g_test_message("[%s] %s", options[i].group, options[i].key);
        g_assert_true(config_set(config, &options[i], options[i].default_value, &error));
        g_assert_no_error(error);
        text = config_get_text(config, &options[i]);
        if (options[i].type != CONFIG_TYPE_RATE)
            g_assert_cmpstr(text, ==, options[i].default_value);
        g_assert_true(g_str_has_suffix(options[i].help, "."));
    }
    g_assert_cmpuint(config->one_stream_rate, ==, 1100000000);
    g_assert_cmpuint(config->call_timeout, ==, 2000);
    g_assert_cmpuint(config->migration_port_first, ==, 49152);
    g_assert_cmpuint(config->migration_port_last, ==, 49215);
    g_assert_cmpint(config->parallel_connections, ==, CONFIG_PARALLEL_AUTO);
    g_assert_cmpint(config->default_priority, ==, PRIORITY_MEDIUM);
    g_assert_cmpstr(config->libvirt_uri, ==, "qemu:///system");
    g_assert_cmpstr(config->uplink, ==, "");
}

static void
test_every_kind(void)
{
    g_autoptr(GPtrArray) warnings = warnings_new();
    g_autoptr(Config) config = parse("# comment\n; comment\n\n[network]\nuplink = eth0\n"
                                     "link-rate=400Mbit/s\r\nmigration-ports=5000 - 5009\n"
                                     "shape=no\n[policy]\ndefault-priority=high\n"
                                     "allow-techniques=pre-copy, hybrid\n"
                                     "parallel-connections=4\n[daemon]\ncall-timeout=1s\n"
                                     "log-level=debug\ndirty-rate-measurement=never\n",
                                     warnings);

    g_assert_cmpuint(warnings->len, ==, 0);
    g_assert_cmpstr(config->uplink, ==, "eth0");
    g_assert_cmpuint(config->link_rate, ==, 50000000);
    g_assert_cmpuint(config->migration_port_first, ==, 5000);
    g_assert_cmpuint(config->migration_port_last, ==, 5009);
    g_assert_false(config->shape);
    g_assert_cmpint(config->default_priority, ==, PRIORITY_HIGH);
    g_assert_cmpuint(config->allow_techniques, ==,
                     TECHNIQUE_ALLOW_PRE_COPY | TECHNIQUE_ALLOW_HYBRID);
    g_assert_cmpint(config->parallel_connections, ==, 4);
    g_assert_cmpuint(config->call_timeout, ==, 1000);
    g_assert_cmpint(config->log_level, ==, CONFIG_LOG_DEBUG);
    g_assert_false(config->dirty_rate_measurement);
}

/* One bad line costs one warning with its line, and nothing else. */
static void
test_bad_lines(void)
{
    static const struct {
        const char *line;
        const char *expected;
    } rows[] = {
        { "[network]\nlink-rate=fast", "test.conf:2: [network] link-rate:" },
        { "[network]\nlink-rate=-1Mbit/s", "test.conf:2: [network] link-rate:" },
        { "[network]\nlink-rate=99999Tbit/s", "test.conf:2: [network] link-rate:" },
        { "[network]\nlink-rate", "test.conf:2: \"link-rate\" is not key=value" },
        { "[network]\nlinkrate=1Gbit/s", "test.conf:2: [network] linkrate: no such option" },
        { "[network]\nuplink=../../etc", "test.conf:2: [network] uplink:" },
        { "[network]\nuplink=averylonginterface", "test.conf:2: [network] uplink:" },
        { "[network]\nmigration-ports=9-5", "test.conf:2: [network] migration-ports:" },
        { "[network]\nmigration-ports=0-5", "test.conf:2: [network] migration-ports:" },
        { "[network]\nmigration-ports=1-2-3", "test.conf:2: [network] migration-ports:" },
        { "[network]\nmigration-ports=", "test.conf:2: [network] migration-ports:" },
        { "[network]\nshape=maybe", "test.conf:2: [network] shape:" },
        { "[network]\nusable-link-percent=101", "test.conf:2: [network] usable-link" },
        { "[policy]\nallow-techniques=", "test.conf:2: [policy] allow-techniques:" },
        { "[policy]\nallow-techniques=magic", "test.conf:2: [policy] allow-techniques:" },
        { "[policy]\nparallel-connections=256", "test.conf:2: [policy] parallel-conn" },
        { "[daemon]\ncall-timeout=2", "test.conf:2: [daemon] call-timeout:" },
        { "[daemon]\ncall-timeout=1ms", "test.conf:2: [daemon] call-timeout:" },
        { "[daemon]\nlibvirt-uri=", "test.conf:2: [daemon] libvirt-uri:" },
        { "[daemon]\ndata-directory=var/lib", "test.conf:2: [daemon] data-directory:" },
        { "[daemon]\nlog-level=loud", "test.conf:2: [daemon] log-level:" },
        { "[nowhere]\na=b\nc=d", "test.conf:1: [nowhere]: no such group" },
        { "shape=no", "test.conf:1: shape: stands before the first [group]" },
    };
    g_autoptr(Config) defaults = config_new();
    g_autofree char *expected = config_to_text(defaults, false);

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GPtrArray) warnings = warnings_new();
        g_autofree char *text = g_strconcat(rows[i].line, "\n[policy]\n", NULL);
        g_autoptr(Config) config = parse(text, warnings);
        g_autofree char *result = config_to_text(config, false);

        g_test_message("%s", rows[i].line);
        g_assert_cmpuint(warnings->len, ==, 1);
        g_assert_true(g_str_has_prefix(warnings->pdata[0], rows[i].expected));
        g_assert_cmpstr(result, ==, expected);
    }
}

/* A good value stands although its neighbours are rubbish. */
static void
test_good_among_bad(void)
{
    g_autoptr(GPtrArray) warnings = warnings_new();
    g_autoptr(Config) config = parse("rubbish\n[network]\n\xff\xfe=1\nlink-rate=1Gbit/s\n"
                                     "link-rate=1Gbot/s\n[[\nshape=no\n",
                                     warnings);

    g_assert_cmpuint(config->link_rate, ==, 125000000);
    g_assert_false(config->shape);
    g_assert_cmpuint(warnings->len, ==, 4);
    for (unsigned i = 0; i < warnings->len; i++)
        g_assert_true(g_utf8_validate(warnings->pdata[i], -1, NULL));
}

static void
test_files(void)
{
    g_autoptr(GPtrArray) warnings = warnings_new();
    g_autoptr(Config) absent = config_load("/nonexistent/virt-convoy.conf", warnings);
    g_autoptr(Config) folder = NULL;
    g_autofree char *big = g_strnfill(CONFIG_FILE_MAXIMUM + 1, 'x');
    g_autoptr(Config) oversize = NULL;

    g_assert_nonnull(absent);
    g_assert_cmpuint(warnings->len, ==, 0);
    folder = config_load("/", warnings);
    g_assert_nonnull(folder);
    g_assert_cmpuint(warnings->len, ==, 1);
    oversize = parse(big, warnings);
    g_assert_nonnull(oversize);
    g_assert_cmpuint(warnings->len, ==, 2);
    g_setenv("VIRT_CONVOY_CONFIG", "/tmp/elsewhere.conf", TRUE);
    g_assert_cmpstr(config_default_path(), ==, "/tmp/elsewhere.conf");
}

/* The sample reads back to the defaults without a warning. */
static void
test_sample(void)
{
    g_autoptr(GPtrArray) warnings = warnings_new();
    g_autoptr(Config) defaults = config_new();
    g_autofree char *sample = config_to_text(defaults, true);
    g_autoptr(Config) back = parse(sample, warnings);
    g_autofree char *plain = config_to_text(defaults, false);
    g_autofree char *back_plain = config_to_text(back, false);

    g_assert_cmpuint(warnings->len, ==, 0);
    g_assert_cmpstr(plain, ==, back_plain);
}

static char *
tree_read(const char *path)
{
    const char *tree = g_getenv("CONVOY_TREE");
    g_autofree char *full = g_build_filename(tree != NULL ? tree : ".", path, NULL);
    g_autoptr(GError) error = NULL;
    char *text = NULL;

    g_file_get_contents(full, &text, NULL, &error);
    g_assert_no_error(error);
    return text;
}

static void
test_installed_files(void)
{
    g_autoptr(Config) defaults = config_new();
    g_autofree char *sample = config_to_text(defaults, true);
    g_autofree char *man = config_to_man();
    g_autofree char *sample_file = tree_read("install/virt-convoy.conf");
    g_autofree char *man_file = tree_read("install/man/virt-convoy.conf.5");

    /* When this fails: virt-convoy config --sample, virt-convoy config --man. */
    g_assert_cmpstr(sample_file, ==, sample);
    g_assert_nonnull(strstr(man_file, man));
}

static void
test_techniques(void)
{
    g_autoptr(Config) config = config_new();

    g_assert_cmpuint(config_techniques(config), ==, TECHNIQUE_ALLOW_ALL);
    config->allow_post_copy = false;
    g_assert_cmpuint(config_techniques(config), ==, TECHNIQUE_ALLOW_PRE_COPY);
    config->allow_techniques = TECHNIQUE_ALLOW_POST_COPY;
    g_assert_cmpuint(config_techniques(config), ==, TECHNIQUE_ALLOW_PRE_COPY);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/config/defaults", test_defaults);
    g_test_add_func("/config/every-kind", test_every_kind);
    g_test_add_func("/config/bad-lines", test_bad_lines);
    g_test_add_func("/config/good-among-bad", test_good_among_bad);
    g_test_add_func("/config/files", test_files);
    g_test_add_func("/config/sample", test_sample);
    g_test_add_func("/config/installed-files", test_installed_files);
    g_test_add_func("/config/techniques", test_techniques);
    return g_test_run();
}
