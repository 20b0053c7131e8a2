/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virt-convoy: what the daemon does, told to people, and a domain's metadata.
 * A table of subcommands; each parses its own arguments, does one thing and
 * returns the exit status: 0 done, 1 failed, 2 wrong arguments (replay: or an
 * unreadable file).
 */
#include <locale.h>
#include <string.h>

#include "cli/check.h"
#include "cli/guest.h"
#include "cli/render.h"
#include "cli/replay.h"
#include "common/config.h"
#include "common/domain.h"
#include "common/ipc.h"
#include "common/units.h"
#include "common/version.h"
#include "shaping/journal.h"

#define REPLY_TIMEOUT_MS 10000u
#define RATE_MAXIMUM UINT64_C(1250000000000) /* 10 Tbit/s, as the metadata's */

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

typedef struct {
    const char *name;
    const char *arguments;
    const char *help;
    int (*run)(int argc, char **argv);
} Command;

static int
fail(const GError *error)
{
    g_printerr("virt-convoy: %s\n", error != NULL ? error->message : "unknown error");
    return EXIT_FAILED;
}

static int
fail_usage(const char *text, const char *why)
{
    g_printerr("virt-convoy: \"%s\" %s\nSee virt-convoy help.\n", text, why);
    return EXIT_USAGE;
}

/* GOption leaves "--" where it stands when a word with a dash follows, such as a domain's name. */
static void
drop_separator(int *argc, char **argv)
{
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], "--") != 0)
            continue;
        memmove(&argv[i], &argv[i + 1], (size_t)(*argc - i) * sizeof(*argv));
        (*argc)--;
        return;
    }
}

/*
 * Reads entries and at most positional_maximum further words. False after
 * having said what is wrong.
 */
static bool
arguments_parse(int *argc, char ***argv, const GOptionEntry *entries, int positional_minimum,
                int positional_maximum)
{
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    if (entries != NULL)
        g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_set_help_enabled(context, FALSE);
    if (!g_option_context_parse(context, argc, argv, &error)) {
        g_printerr("virt-convoy: %s\nSee virt-convoy help.\n", error->message);
        return false;
    }
    drop_separator(argc, *argv);
    if (*argc - 1 < positional_minimum) {
        g_printerr("virt-convoy %s: an argument is missing\nSee virt-convoy help.\n", (*argv)[0]);
        return false;
    }
    if (*argc - 1 > positional_maximum) {
        fail_usage((*argv)[positional_maximum + 1], "is one argument too many");
        return false;
    }
    return true;
}

static Config *
config_open(void)
{
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    Config *config = config_load(NULL, warnings);

    for (unsigned i = 0; i < warnings->len; i++)
        g_printerr("virt-convoy: %s\n", (const char *)warnings->pdata[i]);
    return config;
}

/* Asks the daemon for a JSON text; g_free. The error's message says what to do. */
static char *
daemon_ask(const char *method, GVariant *parameters, GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(GVariant) reply =
        ipc_call_once(NULL, method, parameters, "(s)", ipc_deadline(REPLY_TIMEOUT_MS), &problem);
    const char *format = "virt-convoyd: %s";
    char *text = NULL;

    if (reply != NULL) {
        g_variant_get(reply, "(s)", &text);
        return text;
    }
    g_dbus_error_strip_remote_error(problem);
    if (g_error_matches(problem, G_IO_ERROR, G_IO_ERROR_NOT_FOUND))
        format = "virt-convoyd does not run here (%s).\nStart it: systemctl start virt-convoyd";
    else if (g_error_matches(problem, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED))
        format = "%s\nOnly root and the group " IPC_GROUP " may ask.";
    *error = g_error_new(problem->domain, problem->code, format, problem->message);
    return NULL;
}

static int
answer_print(const char *json, bool raw, char *(*render)(const char *, GError **))
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = raw ? g_strconcat(json, "\n", NULL) : render(json, &error);

    if (text == NULL)
        return fail(error);
    g_print("%s", text);
    return EXIT_DONE;
}

static int
run_status(int argc, char **argv)
{
    gboolean json = FALSE;
    const GOptionEntry entries[] = {
        { "json", 0, 0, G_OPTION_ARG_NONE, &json, NULL, NULL },
        G_OPTION_ENTRY_NULL,
    };
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    if (!arguments_parse(&argc, &argv, entries, 0, 0))
        return EXIT_USAGE;
    text = daemon_ask("GetStatus", NULL, &error);
    return text != NULL ? answer_print(text, json, render_status) : fail(error);
}

static int
run_explain(int argc, char **argv)
{
    gboolean json = FALSE;
    const GOptionEntry entries[] = {
        { "json", 0, 0, G_OPTION_ARG_NONE, &json, NULL, NULL },
        G_OPTION_ENTRY_NULL,
    };
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    const char *domain;

    if (!arguments_parse(&argc, &argv, entries, 0, 1))
        return EXIT_USAGE;
    domain = argc > 1 ? argv[1] : "";
    if (!g_utf8_validate(domain, -1, NULL))
        return fail_usage("DOMAIN", "is not UTF-8");
    text = daemon_ask("Explain", g_variant_new("(s)", domain), &error);
    return text != NULL ? answer_print(text, json, render_explanation) : fail(error);
}

static int
run_check(int argc, char **argv)
{
    gboolean json = FALSE;
    const GOptionEntry entries[] = {
        { "json", 0, 0, G_OPTION_ARG_NONE, &json, NULL, NULL },
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) findings = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *status = NULL;
    g_autofree char *text = NULL;

    if (!arguments_parse(&argc, &argv, entries, 0, 0))
        return EXIT_USAGE;
    config_free(config_load(NULL, warnings)); /* the warnings are what is asked for */
    status = daemon_ask("GetStatus", NULL, &error);
    findings = check_findings(&(CheckInput){
        .status = status,
        .status_problem = error != NULL ? error->message : NULL,
        .warnings = warnings,
        .processes = "/proc",
        .hook = CONVOY_SYSCONFDIR "/libvirt/hooks/qemu.d/virt-convoy",
        .drop_ins = CONVOY_SYSCONFDIR "/systemd/system",
    });
    text = json ? check_to_json(findings) : check_to_text(findings);
    g_print("%s%s", text, json ? "\n" : "");
    return check_worst(findings) == CHECK_FAILED ? EXIT_FAILED : EXIT_DONE;
}

/* "none" clears; false after having said what is wrong. */
static bool
rate_option(const char *name, const char *text, uint64_t *ret_rate)
{
    g_autoptr(GError) error = NULL;
    uint64_t rate = 0;

    if (text == NULL)
        return true;
    if (strcmp(text, "none") != 0 && !units_parse_rate(text, &rate, &error)) {
        g_printerr("virt-convoy: --%s: %s, for example 100Mbit/s\n", name, error->message);
        return false;
    }
    if (rate > RATE_MAXIMUM) {
        g_printerr("virt-convoy: --%s: \"%s\" is above 10 Tbit/s\n", name, text);
        return false;
    }
    *ret_rate = rate;
    return true;
}

static bool
duration_option(const char *name, const char *text, uint64_t minimum, uint64_t maximum,
                uint64_t *ret_duration)
{
    g_autoptr(GError) error = NULL;
    uint64_t duration = 0;

    if (text == NULL)
        return true;
    if (strcmp(text, "none") == 0) {
        *ret_duration = 0;
        return true;
    }
    if (!units_parse_duration(text, &duration, &error)) {
        g_printerr("virt-convoy: --%s: %s, for example 300ms\n", name, error->message);
        return false;
    }
    if (duration < minimum || duration > maximum) {
        g_printerr("virt-convoy: --%s: \"%s\" is out of range\n", name, text);
        return false;
    }
    *ret_duration = duration;
    return true;
}

static bool
technique_option(const char *text, DomainMetadata *metadata)
{
    g_auto(GStrv) names = text != NULL ? g_strsplit_set(text, " ,", 64) : NULL;
    unsigned set = 0;

    if (text == NULL)
        return true;
    if (strcmp(text, "none") == 0) {
        metadata->techniques_set = false;
        return true;
    }
    for (unsigned i = 0; names[i] != NULL; i++) {
        Technique technique;

        if (!technique_from_string(names[i], &technique)) {
            g_printerr("virt-convoy: --technique: \"%s\" is not pre-copy, post-copy or "
                       "hybrid\n",
                       names[i]);
            return false;
        }
        set |= 1u << technique;
    }
    metadata->techniques = (TechniqueSet)set;
    metadata->techniques_set = true;
    return true;
}

static bool
priority_option(const char *text, DomainMetadata *metadata)
{
    if (text == NULL)
        return true;
    metadata->priority_set = strcmp(text, "none") != 0;
    if (!metadata->priority_set || priority_from_string(text, &metadata->priority))
        return true;
    g_printerr("virt-convoy: --priority: \"%s\" is not low, medium or high\n", text);
    return false;
}

static int
run_set(int argc, char **argv)
{
    g_autofree char *priority = NULL;
    g_autofree char *lower = NULL;
    g_autofree char *upper = NULL;
    g_autofree char *downtime = NULL;
    g_autofree char *technique = NULL;
    g_autofree char *deadline = NULL;
    gboolean clear = FALSE;
    const GOptionEntry entries[] = {
        { "priority", 0, 0, G_OPTION_ARG_STRING, &priority, NULL, NULL },
        { "sla-lower", 0, 0, G_OPTION_ARG_STRING, &lower, NULL, NULL },
        { "sla-upper", 0, 0, G_OPTION_ARG_STRING, &upper, NULL, NULL },
        { "max-downtime", 0, 0, G_OPTION_ARG_STRING, &downtime, NULL, NULL },
        { "technique", 0, 0, G_OPTION_ARG_STRING, &technique, NULL, NULL },
        { "deadline", 0, 0, G_OPTION_ARG_STRING, &deadline, NULL, NULL },
        { "clear", 0, 0, G_OPTION_ARG_NONE, &clear, NULL, NULL },
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(Config) config = NULL;
    g_autoptr(GError) error = NULL;
    DomainMetadata metadata;
    bool present;
    bool any;

    if (!arguments_parse(&argc, &argv, entries, 1, 1))
        return EXIT_USAGE;
    any = priority || lower || upper || downtime || technique || deadline;
    if (!clear && !any)
        return fail_usage("set", "needs at least one option");
    config = config_open();
    if (!guest_metadata_get(config->libvirt_uri, argv[1], &metadata, &present, NULL, &error))
        return fail(error);
    if (clear)
        domain_metadata_init(&metadata);
    if (!priority_option(priority, &metadata) ||
        !rate_option("sla-lower", lower, &metadata.sla_lower) ||
        !rate_option("sla-upper", upper, &metadata.sla_upper) ||
        !duration_option("max-downtime", downtime, 1, 2000000, &metadata.maximum_downtime) ||
        !technique_option(technique, &metadata) ||
        !duration_option("deadline", deadline, 1000, 604800000, &metadata.deadline))
        return EXIT_USAGE;
    if (metadata.sla_upper != 0 && metadata.sla_upper < metadata.sla_lower)
        return fail_usage("--sla-upper", "is below the lower limit");
    if (!guest_metadata_set(config->libvirt_uri, argv[1], any ? &metadata : NULL, &error))
        return fail(error);
    return EXIT_DONE;
}

static void
metadata_print(const DomainMetadata *metadata, const Config *config)
{
    g_autofree char *lower = units_describe_rate(metadata->sla_lower);
    g_autofree char *upper = units_describe_rate(metadata->sla_upper);
    g_autofree char *downtime = units_describe_duration(metadata->maximum_downtime);
    g_autofree char *deadline = units_describe_duration(metadata->deadline);

    g_print("priority      %s\n", metadata->priority_set ? priority_to_string(metadata->priority)
                                  : config != NULL ? priority_to_string(config->default_priority)
                                                   : "not set");
    g_print("sla-lower     %s\n", metadata->sla_lower != 0 ? lower : "not set");
    g_print("sla-upper     %s\n", metadata->sla_upper != 0 ? upper : "not set");
    g_print("max-downtime  %s\n", metadata->maximum_downtime != 0 ? downtime : "not set");
    g_print("deadline      %s\n", metadata->deadline != 0 ? deadline : "not set");
    g_print("technique    ");
    for (Technique i = TECHNIQUE_PRE_COPY; i <= TECHNIQUE_HYBRID; i++) {
        if ((metadata->techniques & (1u << i)) != 0)
            g_print(" %s", technique_to_string(i));
    }
    g_print("\n");
}

static int
warnings_print(const char *name, const GPtrArray *warnings)
{
    for (unsigned i = 0; i < warnings->len; i++)
        g_printerr("%s: %s\n", name, (const char *)warnings->pdata[i]);
    return warnings->len == 0 ? EXIT_DONE : EXIT_FAILED;
}

static int
run_show(int argc, char **argv)
{
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(Config) config = NULL;
    g_autoptr(GError) error = NULL;
    DomainMetadata metadata;
    bool present;

    if (!arguments_parse(&argc, &argv, NULL, 1, 1))
        return EXIT_USAGE;
    config = config_open();
    if (!guest_metadata_get(config->libvirt_uri, argv[1], &metadata, &present, warnings, &error))
        return fail(error);
    metadata_print(&metadata, config);
    if (!present)
        g_print("(no metadata of virt-convoy; set some with virt-convoy set)\n");
    return warnings_print(argv[1], warnings);
}

/* A whole domain XML or our element alone. */
static int
run_validate(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) error_alone = NULL;
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(DomainDescription) description = NULL;
    g_autofree char *text = NULL;
    DomainMetadata metadata;
    gsize length;
    const char *path;

    if (!arguments_parse(&argc, &argv, NULL, 1, 1))
        return EXIT_USAGE;
    path = strcmp(argv[1], "-") == 0 ? "/dev/stdin" : argv[1];
    if (!g_file_get_contents(path, &text, &length, &error))
        return fail(error);
    if (length > DOMAIN_XML_MAXIMUM)
        return fail_usage(argv[1], "is longer than any domain XML");
    description = domain_description_parse(text, (gssize)length, &error);
    if (description == NULL) {
        if (!domain_metadata_parse(text, (gssize)length, &metadata, warnings, &error_alone))
            return fail(error);
        metadata_print(&metadata, NULL);
        return warnings_print(argv[1], warnings);
    }
    if (!description->has_metadata)
        g_print("(no metadata of virt-convoy in it)\n");
    metadata_print(&description->metadata, NULL);
    if (description->post_copy_obstacle != NULL)
        g_print("post-copy     never: %s\n", description->post_copy_obstacle);
    return warnings_print(argv[1], description->warnings);
}

static int
run_config(int argc, char **argv)
{
    gboolean sample = FALSE;
    gboolean man = FALSE;
    const GOptionEntry entries[] = {
        { "sample", 0, 0, G_OPTION_ARG_NONE, &sample, NULL, NULL },
        { "man", 0, 0, G_OPTION_ARG_NONE, &man, NULL, NULL },
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(Config) config = NULL;
    g_autofree char *text = NULL;

    if (!arguments_parse(&argc, &argv, entries, 0, 0))
        return EXIT_USAGE;
    config = sample ? config_new() : config_open();
    text = man ? config_to_man() : config_to_text(config, sample);
    g_print("%s", text);
    return EXIT_DONE;
}

/*
 * For when the daemon is gone and will not come back. A running one holds the
 * journal and puts everything back itself.
 */
static int
run_restore(int argc, char **argv)
{
    g_autofree char *directory = NULL;
    const GOptionEntry entries[] = {
        { "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &directory, NULL, NULL },
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GError) error = NULL;
    g_autoptr(GDBusConnection) connection = NULL;
    g_autoptr(ShapingJournal) journal = NULL;
    unsigned undone = 0;

    if (!arguments_parse(&argc, &argv, entries, 0, 0))
        return EXIT_USAGE;
    connection = ipc_connect(NULL, ipc_deadline(REPLY_TIMEOUT_MS), NULL);
    if (connection != NULL) {
        g_printerr("virt-convoy: virt-convoyd runs and restores by itself. To restore by "
                   "hand:\nsystemctl stop virt-convoyd && virt-convoy restore\n");
        return EXIT_FAILED;
    }
    if (directory == NULL)
        directory = g_strdup(IPC_STATE_DIRECTORY_DEFAULT);
    if (!g_file_test(directory, G_FILE_TEST_IS_DIR)) {
        g_print("nothing to restore: %s does not exist\n", directory);
        return EXIT_DONE;
    }
    journal = shaping_journal_open(directory, &error);
    if (journal == NULL || !shaping_journal_restore(journal, &undone, &error))
        return fail(error);
    g_print("restored: %u\n", undone);
    return EXIT_DONE;
}

/* Its exit status is its own: 0 the same, 1 differences, 2 unreadable. */
static int
run_replay(int argc, char **argv)
{
    gboolean json = FALSE;
    gboolean exact = FALSE;
    gboolean update = FALSE;
    double percent = REPLAY_TOLERANCE_DEFAULT * 100.0;
    const GOptionEntry entries[] = {
        { "json", 0, 0, G_OPTION_ARG_NONE, &json, NULL, NULL },
        { "exact", 0, 0, G_OPTION_ARG_NONE, &exact, NULL, NULL },
        { "tolerance", 0, 0, G_OPTION_ARG_DOUBLE, &percent, NULL, NULL },
        { "update", 0, 0, G_OPTION_ARG_NONE, &update, NULL, NULL },
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) out = g_string_new(NULL);
    g_autoptr(GString) problems = g_string_new(NULL);
    g_autofree char *text = NULL;
    ReplayOptions options;
    ReplayResult result;
    gsize length;

    if (!arguments_parse(&argc, &argv, entries, 1, 1))
        return EXIT_USAGE;
    if (!(percent >= 0.0 && percent <= 100.0))
        return fail_usage("--tolerance", "takes a percentage, 0 to 100");
    if (!g_file_get_contents(strcmp(argv[1], "-") == 0 ? "/dev/stdin" : argv[1], &text, &length,
                             &error)) {
        fail(error);
        return REPLAY_UNREADABLE;
    }
    if (length > REPLAY_FILE_MAX)
        return fail_usage(argv[1], "is longer than any recording");
    options = (ReplayOptions){
        .tolerance = exact ? -1.0 : percent / 100.0,
        .json = json,
        .update = update,
    };
    result = replay_text(argv[1], text, length, &options, out, problems);
    g_print("%s", out->str);
    g_printerr("%s", problems->str);
    return (int)result;
}

static int
run_version(int argc, char **argv)
{
    if (!arguments_parse(&argc, &argv, NULL, 0, 0))
        return EXIT_USAGE;
    g_print("virt-convoy %s\n", CONVOY_VERSION);
    return EXIT_DONE;
}

static int run_help(int argc, char **argv);

static const Command commands[] = {
    { "status", "[--json]", "what is measured, shaped and migrated now", run_status },
    { "explain", "[DOMAIN] [--json]", "why a migration was done as it was", run_explain },
    { "check", "[--json]", "is everything in place? What is not says what to do", run_check },
    { "show", "DOMAIN", "a domain's priority and SLA", run_show },
    { "set",
      "DOMAIN [--priority P] [--sla-lower R] [--sla-upper R]\n"
      "          [--max-downtime D] [--technique LIST] [--deadline D] [--clear]",
      "change them, in the running domain and its definition; \"none\" takes a value back",
      run_set },
    { "validate", "FILE", "check the metadata in a domain XML (\"-\": standard input)",
      run_validate },
    { "config", "[--sample | --man]", "the configuration in effect", run_config },
    { "restore", "[--state-dir DIR]", "take off what a dead daemon left on interfaces",
      run_restore },
    { "replay", "FILE [--exact | --tolerance PERCENT] [--json | --update]",
      "make recorded decisions again and show what would differ (\"-\": standard input)",
      run_replay },
    { "version", "", "the version", run_version },
    { "help", "", "this text", run_help },
};

static int
run_help(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    g_print("Usage: virt-convoy COMMAND [ARGUMENTS]\n\n");
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
        g_print("  %s %s\n      %s\n", commands[i].name, commands[i].arguments, commands[i].help);
    return EXIT_DONE;
}

int
main(int argc, char **argv)
{
    const char *name;

    setlocale(LC_ALL, "");
    setlocale(LC_NUMERIC, "C");
    if (argc < 2) {
        run_help(0, NULL);
        return EXIT_USAGE;
    }
    name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    if (strcmp(name, "--version") == 0)
        name = "version";
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    }
    return fail_usage(name, "is not a command");
}
