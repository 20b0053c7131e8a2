/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The option table and everything that is derived from it.
 *
 * A new option is one row below and one field in Config. Validation happens in
 * config_set alone, whether the text comes from a file, a test or the default
 * column, so that no default can be out of its own range.
 */
#include "common/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/units.h"

#ifndef CONVOY_SYSCONFDIR
#define CONVOY_SYSCONFDIR "/etc"
#endif

#define TEXT_MAXIMUM 256u /* bytes of a text option */
#define WARNINGS_MAXIMUM 100u

#define MINUTE UINT64_C(60000)               /* ms */
#define RATE_MAXIMUM UINT64_C(1250000000000) /* 10 Tbit/s */

#define FIELD(name) offsetof(Config, name)

static const ConfigOption options[] = {
    { "network", "uplink", CONFIG_TYPE_TEXT, "", 0, 15, "",
      "Network interface that migrations leave and enter by. Empty: found by a route "
      "look-up towards the other host.",
      FIELD(uplink) },
    { "network", "link-rate", CONFIG_TYPE_RATE, "bit/s", 0, RATE_MAXIMUM, "0B/s",
      "Rate of that link, for example 10Gbit/s. 0B/s: what the driver says; set it where "
      "the driver cannot know (virtual interfaces, a provider's limit).",
      FIELD(link_rate) },
    { "network", "usable-link-percent", CONFIG_TYPE_PERCENT, "%", 50, 100, "99",
      "Part of the link rate that is handed out, so that packets queue on this host and not "
      "in the switch.",
      FIELD(usable_link_percent) },
    { "network", "migration-ports", CONFIG_TYPE_PORT_RANGE, "", 1, 65535, "49152-49215",
      "TCP ports of incoming migrations, as migration_port_min and migration_port_max in "
      "libvirt's qemu.conf.",
      FIELD(migration_port_first) },
    { "network", "shape", CONFIG_TYPE_BOOLEAN, "", 0, 0, "yes",
      "Reshape the uplink with tc while a migration runs. no: only QEMU's own bandwidth "
      "limits are used.",
      FIELD(shape) },
    { "policy", "default-priority", CONFIG_TYPE_PRIORITY, "", 0, 0, "medium",
      "Priority of domains whose metadata states none: low, medium or high.",
      FIELD(default_priority) },
    { "policy", "allow-techniques", CONFIG_TYPE_TECHNIQUES, "", 0, 0, "pre-copy post-copy hybrid",
      "Techniques that may be chosen on this host: pre-copy, post-copy, hybrid.",
      FIELD(allow_techniques) },
    { "policy", "allow-post-copy", CONFIG_TYPE_BOOLEAN, "", 0, 0, "yes",
      "no: never add post-copy or hybrid to a migration, whatever allow-techniques says. A "
      "domain in its post-copy phase is lost when the network or either host fails.",
      FIELD(allow_post_copy) },
    { "policy", "maximum-downtime", CONFIG_TYPE_DURATION, "ms", 0, MINUTE, "0s",
      "Downtime up to which the limit may be raised for domains whose metadata states no "
      "maximum, when a migration would not end otherwise. 0s: libvirt's own limit (300 ms) "
      "stays.",
      FIELD(maximum_downtime) },
    { "policy", "auto-converge", CONFIG_TYPE_MEASURE, "", 0, 0, "never",
      "auto: add auto-converge, which throttles the guest's processors step by step, where "
      "post-copy is excluded and the dirty rate is not known, or known to be too high to end "
      "otherwise; QEMU throttles only when passes do not shrink. never: only where the caller "
      "asks for it.",
      FIELD(auto_converge) },
    { "policy", "resume-post-copy", CONFIG_TYPE_BOOLEAN, "", 0, 0, "yes",
      "Resume a post-copy that broke, and left its domain paused, when the other host can be "
      "reached again. no: leave that to virsh migrate --postcopy-resume.",
      FIELD(resume_post_copy) },
    { "policy", "destination-uri", CONFIG_TYPE_TEXT, "", 0, TEXT_MAXIMUM, "qemu://%s/system",
      "Connection URI of the other host, named by %s, for resuming a migration whose caller "
      "connected there himself (without --p2p). Empty: such a migration is not resumed.",
      FIELD(destination_uri) },
    { "policy", "low-priority-floor-percent", CONFIG_TYPE_PERCENT, "%", 1, 90, "5",
      "Part of the link that migrations of low priority are guaranteed.",
      FIELD(low_priority_floor_percent) },
    { "policy", "minimum-workload-percent", CONFIG_TYPE_PERCENT, "%", 0, 90, "10",
      "Part of the link that is kept for the workload when no domain declares an SLA.",
      FIELD(minimum_workload_percent) },
    { "policy", "parallel-connections", CONFIG_TYPE_PARALLEL, "", 1, 255, "auto",
      "Connections of one migration (multifd): auto, never or a number. auto: only when one "
      "stream cannot fill what is free.",
      FIELD(parallel_connections) },
    { "policy", "one-stream-rate", CONFIG_TYPE_RATE, "bit/s", 1000000, RATE_MAXIMUM, "1.1GB/s",
      "What one migration connection can carry on these hosts; less where finished migrations to "
      "the same host reached less.",
      FIELD(one_stream_rate) },
    { "policy", "scheduling", CONFIG_TYPE_SCHEDULING, "", 0, 0, "automatic",
      "Which migrations run at the same time. automatic: by priority and traffic. serial: one "
      "after the other. parallel: all at once.",
      FIELD(scheduling) },
    { "policy", "maximum-running", CONFIG_TYPE_NUMBER, "migrations", 0, 1024, "0",
      "Most migrations that run at a time. 0: decided by priority and traffic.",
      FIELD(maximum_running) },
    { "policy", "gathering-time", CONFIG_TYPE_DURATION, "ms", 0, MINUTE, "200ms",
      "Time for which a migration that could start waits for others that are typed together with "
      "it, so that the most urgent one starts first. Where others came, twice as long after the "
      "last of them, at most five times in all. High priority does not wait. 0: nobody does.",
      FIELD(gathering_time) },
    { "daemon", "call-timeout", CONFIG_TYPE_DURATION, "ms", 50, MINUTE, "2s",
      "Longest time in all that asking the daemon may delay one migration, on each of its two "
      "hosts. When it has passed, libvirt goes on as if virt-convoy were not there.",
      FIELD(call_timeout) },
    { "daemon", "sample-interval", CONFIG_TYPE_DURATION, "ms", 50, MINUTE, "250ms",
      "Time between two readings of the traffic counters.", FIELD(sample_interval) },
    { "daemon", "reshape-interval", CONFIG_TYPE_DURATION, "ms", 100, MINUTE, "500ms",
      "Time between two adjustments of the guaranteed rates.", FIELD(reshape_interval) },
    { "daemon", "held-calls-maximum", CONFIG_TYPE_NUMBER, "calls", 0, 1000, "64",
      "Most migrations that wait in libvirtd at a time; further ones start at once. Each "
      "occupies one of its workers, so more are started meanwhile; where libvirtd's admin "
      "socket is absent no more than 8 wait. 0: none waits.",
      FIELD(held_calls_maximum) },
    { "daemon", "libvirt-uri", CONFIG_TYPE_TEXT, "", 1, TEXT_MAXIMUM, "qemu:///system",
      "Connection URI of the hypervisor on this host.", FIELD(libvirt_uri) },
    { "daemon", "dirty-rate-measurement", CONFIG_TYPE_MEASURE, "", 0, 0, "auto",
      "auto: measure how fast a domain dirties memory before it moves, by page sampling. "
      "never: wait for what the migration itself reports.",
      FIELD(dirty_rate_measurement) },
    { "daemon", "log-level", CONFIG_TYPE_LOG_LEVEL, "", 0, 0, "info",
      "error, warning, info or debug.", FIELD(log_level) },
    { "daemon", "history-limit", CONFIG_TYPE_NUMBER, "migrations", 0, 100000, "200",
      "Finished migrations that explain and status remember.", FIELD(history_limit) },
    { "daemon", "data-directory", CONFIG_TYPE_TEXT, "", 0, TEXT_MAXIMUM, "/var/lib/virt-convoy",
      "Where finished migrations, from which predictions learn, and decisions are recorded: "
      "history.jsonl and decisions.jsonl, at most 4 MiB in all. Where it cannot be written "
      "nothing is. The unit of virt-convoyd must allow another one (ReadWritePaths=). Empty: "
      "nowhere.",
      FIELD(data_directory) },
};

static const char *const log_levels[] = { "error", "warning", "info", "debug" };

const ConfigOption *
config_options(size_t *ret_count)
{
    *ret_count = G_N_ELEMENTS(options);
    return options;
}

static bool
config_fail(GError **error, const char *text, const char *why)
{
    g_set_error(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_INVALID_VALUE, "\"%.*s\" %s",
                (int)UNITS_TEXT_MAXIMUM, text, why);
    return false;
}

static bool
range_check(const ConfigOption *option, const char *text, uint64_t number, GError **error)
{
    g_autofree char *minimum = NULL;
    g_autofree char *maximum = NULL;

    if (number >= option->minimum && number <= option->maximum)
        return true;
    if (option->type == CONFIG_TYPE_RATE) {
        minimum = units_format_rate(option->minimum);
        maximum = units_format_rate(option->maximum);
    } else {
        minimum = units_format_duration(option->minimum);
        maximum = units_format_duration(option->maximum);
    }
    g_set_error(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_INVALID_VALUE,
                "\"%s\" is not between %s and %s", text, minimum, maximum);
    return false;
}

static bool
boolean_parse(const char *text, const char *yes, const char *no, bool *ret, GError **error)
{
    g_autofree char *why = NULL;

    if (strcmp(text, yes) == 0 || (strcmp(yes, "yes") == 0 && strcmp(text, "true") == 0)) {
        *ret = true;
        return true;
    }
    if (strcmp(text, no) == 0 || (strcmp(no, "no") == 0 && strcmp(text, "false") == 0)) {
        *ret = false;
        return true;
    }
    why = g_strdup_printf("is neither %s nor %s", yes, no);
    return config_fail(error, text, why);
}

static bool
port_range_parse(const ConfigOption *option, const char *text, unsigned *ret_ports, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, "-", 3);
    uint64_t first;
    uint64_t last;

    if (g_strv_length(parts) != 2)
        return config_fail(error, text, "is not first-last");
    g_strstrip(parts[0]);
    g_strstrip(parts[1]);
    if (!units_parse_number(parts[0], option->minimum, option->maximum, &first, error) ||
        !units_parse_number(parts[1], option->minimum, option->maximum, &last, error))
        return false;
    if (first > last)
        return config_fail(error, text, "ends before it starts");
    ret_ports[0] = (unsigned)first;
    ret_ports[1] = (unsigned)last;
    return true;
}

static bool
techniques_parse(const char *text, TechniqueSet *ret_set, GError **error)
{
    g_auto(GStrv) names = g_strsplit_set(text, " ,\t", 64);
    unsigned set = 0;

    for (size_t i = 0; names[i] != NULL; i++) {
        Technique technique;

        if (*names[i] == '\0')
            continue;
        if (!technique_from_string(names[i], &technique))
            return config_fail(error, names[i], "is not pre-copy, post-copy or hybrid");
        set |= 1u << technique;
    }
    if (set == 0)
        return config_fail(error, text, "names no technique");
    *ret_set = (TechniqueSet)set;
    return true;
}

static bool
level_parse(const char *text, ConfigLogLevel *ret_level, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(log_levels); i++) {
        if (strcmp(text, log_levels[i]) == 0) {
            *ret_level = (ConfigLogLevel)i;
            return true;
        }
    }
    return config_fail(error, text, "is not error, warning, info or debug");
}

static bool
text_parse(const ConfigOption *option, const char *text, char **field, GError **error)
{
    size_t length = strlen(text);

    if (length < option->minimum || length > option->maximum)
        return config_fail(error, text, length == 0 ? "must not be empty" : "is too long");
    for (size_t i = 0; i < length; i++) {
        if (!g_ascii_isgraph(text[i]))
            return config_fail(error, text, "has blanks or special characters");
    }
    if (option->offset == FIELD(uplink) && strchr(text, '/') != NULL)
        return config_fail(error, text, "is not an interface name");
    if (option->offset == FIELD(data_directory) && length != 0 && text[0] != '/')
        return config_fail(error, text, "is not an absolute path");
    g_free(*field);
    *field = g_strdup(text);
    return true;
}

bool
config_set(Config *config, const ConfigOption *option, const char *text, GError **error)
{
    void *field = (char *)config + option->offset;
    uint64_t number;

    switch (option->type) {
    case CONFIG_TYPE_TEXT:
        return text_parse(option, text, field, error);
    case CONFIG_TYPE_BOOLEAN:
        return boolean_parse(text, "yes", "no", field, error);
    case CONFIG_TYPE_MEASURE:
        return boolean_parse(text, "auto", "never", field, error);
    case CONFIG_TYPE_NUMBER:
    case CONFIG_TYPE_PERCENT:
        if (!units_parse_number(text, option->minimum, option->maximum, &number, error))
            return false;
        *(unsigned *)field = (unsigned)number;
        return true;
    case CONFIG_TYPE_RATE:
        if (!units_parse_rate(text, &number, error) || !range_check(option, text, number, error))
            return false;
        *(uint64_t *)field = number;
        return true;
    case CONFIG_TYPE_DURATION:
        if (!units_parse_duration(text, &number, error) ||
            !range_check(option, text, number, error))
            return false;
        *(unsigned *)field = (unsigned)number;
        return true;
    case CONFIG_TYPE_PORT_RANGE:
        return port_range_parse(option, text, field, error);
    case CONFIG_TYPE_PRIORITY:
        if (!priority_from_string(text, field))
            return config_fail(error, text, "is not low, medium or high");
        return true;
    case CONFIG_TYPE_SCHEDULING:
        if (!scheduling_from_string(text, field))
            return config_fail(error, text, "is not automatic, serial or parallel");
        return true;
    case CONFIG_TYPE_TECHNIQUES:
        return techniques_parse(text, field, error);
    case CONFIG_TYPE_PARALLEL:
        if (strcmp(text, "auto") == 0) {
            *(int *)field = CONFIG_PARALLEL_AUTO;
        } else if (strcmp(text, "never") == 0) {
            *(int *)field = 0;
        } else {
            if (!units_parse_number(text, option->minimum, option->maximum, &number, error))
                return false;
            *(int *)field = (int)number;
        }
        return true;
    case CONFIG_TYPE_LOG_LEVEL:
        return level_parse(text, field, error);
    }
    return config_fail(error, text, "has no known type");
}

static char *
techniques_format(TechniqueSet set)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (Technique i = TECHNIQUE_PRE_COPY; i <= TECHNIQUE_HYBRID; i++) {
        if ((set & (1u << i)) == 0)
            continue;
        if (names->len > 0)
            g_string_append_c(names, ' ');
        g_string_append(names, technique_to_string(i));
    }
    return g_string_free(g_steal_pointer(&names), FALSE);
}

char *
config_get_text(const Config *config, const ConfigOption *option)
{
    const void *field = (const char *)config + option->offset;
    int connections;

    switch (option->type) {
    case CONFIG_TYPE_TEXT:
        return g_strdup(*(char *const *)field);
    case CONFIG_TYPE_BOOLEAN:
        return g_strdup(*(const bool *)field ? "yes" : "no");
    case CONFIG_TYPE_MEASURE:
        return g_strdup(*(const bool *)field ? "auto" : "never");
    case CONFIG_TYPE_NUMBER:
    case CONFIG_TYPE_PERCENT:
        return g_strdup_printf("%u", *(const unsigned *)field);
    case CONFIG_TYPE_RATE:
        return units_format_rate(*(const uint64_t *)field);
    case CONFIG_TYPE_DURATION:
        return units_format_duration(*(const unsigned *)field);
    case CONFIG_TYPE_PORT_RANGE:
        return g_strdup_printf("%u-%u", ((const unsigned *)field)[0], ((const unsigned *)field)[1]);
    case CONFIG_TYPE_PRIORITY:
        return g_strdup(priority_to_string(*(const Priority *)field));
    case CONFIG_TYPE_SCHEDULING:
        return g_strdup(scheduling_to_string(*(const Scheduling *)field));
    case CONFIG_TYPE_TECHNIQUES:
        return techniques_format(*(const TechniqueSet *)field);
    case CONFIG_TYPE_PARALLEL:
        connections = *(const int *)field;
        if (connections == CONFIG_PARALLEL_AUTO)
            return g_strdup("auto");
        if (connections == 0)
            return g_strdup("never");
        return g_strdup_printf("%d", connections);
    case CONFIG_TYPE_LOG_LEVEL:
        return g_strdup(log_levels[*(const ConfigLogLevel *)field]);
    }
    return g_strdup("");
}

Config *
config_new(void)
{
    Config *config = g_new0(Config, 1);

    /* A default that the validator refuses is a mistake in the table: the unit
     * test sets each one and fails there, not here in somebody's process. */
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++)
        config_set(config, &options[i], options[i].default_value, NULL);
    return config;
}

void
config_free(Config *config)
{
    if (config == NULL)
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        if (options[i].type == CONFIG_TYPE_TEXT)
            g_free(*(char **)(void *)((char *)config + options[i].offset));
    }
    g_free(config);
}

const char *
config_default_path(void)
{
    const char *path = getenv("VIRT_CONVOY_CONFIG");

    return path != NULL && *path != '\0' ? path : CONVOY_SYSCONFDIR "/virt-convoy/virt-convoy.conf";
}

static void G_GNUC_PRINTF(4, 5)
    warn(GPtrArray *warnings, const char *name, unsigned line, const char *format, ...)
{
    g_autofree char *text = NULL;
    g_autofree char *valid = NULL;
    va_list arguments;

    if (warnings == NULL || warnings->len >= WARNINGS_MAXIMUM)
        return;
    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    valid = g_utf8_make_valid(text, -1);
    if (line == 0)
        g_ptr_array_add(warnings, g_strdup_printf("%s: %s", name, valid));
    else
        g_ptr_array_add(warnings, g_strdup_printf("%s:%u: %s", name, line, valid));
}

static bool
group_known(const char *group)
{
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        if (strcmp(options[i].group, group) == 0)
            return true;
    }
    return false;
}

static const ConfigOption *
option_find(const char *group, const char *key)
{
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        if (strcmp(options[i].group, group) == 0 && strcmp(options[i].key, key) == 0)
            return &options[i];
    }
    return NULL;
}

/* One line of "key=value"; group is NULL in front of the first [group]. */
static void
line_apply(Config *config, const char *group, char *line, const char *name, unsigned number,
           GPtrArray *warnings)
{
    g_autoptr(GError) error = NULL;
    char *equals = strchr(line, '=');
    const ConfigOption *option;

    if (equals == NULL) {
        warn(warnings, name, number, "\"%.40s\" is not key=value; line ignored", line);
        return;
    }
    *equals = '\0';
    g_strchomp(line);
    if (group == NULL) {
        warn(warnings, name, number, "%.40s: stands before the first [group]; line ignored", line);
        return;
    }
    option = option_find(group, line);
    if (option == NULL) {
        warn(warnings, name, number, "[%s] %.40s: no such option; line ignored", group, line);
        return;
    }
    if (!config_set(config, option, g_strstrip(equals + 1), &error))
        warn(warnings, name, number, "[%s] %s: %s; keeping the value before", group, option->key,
             error->message);
}

Config *
config_parse(const char *text, size_t length, const char *name, GPtrArray *warnings)
{
    Config *config = config_new();
    g_autofree char *copy = NULL;
    g_auto(GStrv) lines = NULL;
    g_autofree char *group = NULL;
    bool skip = false;

    if (length > CONFIG_FILE_MAXIMUM || memchr(text, '\0', length) != NULL) {
        warn(warnings, name, 0, "longer than %u bytes or not a text; using the defaults",
             CONFIG_FILE_MAXIMUM);
        return config;
    }
    copy = g_strndup(text, length);
    lines = g_strsplit(copy, "\n", -1);
    for (unsigned i = 0; lines[i] != NULL; i++) {
        char *line = g_strstrip(lines[i]);
        size_t size = strlen(line);

        if (size == 0 || *line == '#' || *line == ';')
            continue;
        if (*line == '[' && line[size - 1] == ']') {
            line[size - 1] = '\0';
            g_free(group);
            group = g_strdup(line + 1);
            skip = !group_known(group);
            if (skip)
                warn(warnings, name, i + 1, "[%.40s]: no such group; group ignored", group);
            continue;
        }
        if (!skip)
            line_apply(config, group, line, name, i + 1, warnings);
    }
    return config;
}

/*
 * Reads at most CONFIG_FILE_MAXIMUM bytes and one more, without blocking on a
 * FIFO that somebody put there. NULL with errno in *ret_errno.
 */
static char *
file_read_bounded(const char *path, size_t *ret_length, int *ret_errno)
{
    g_autofree char *text = g_malloc(CONFIG_FILE_MAXIMUM + 2u);
    size_t length = 0;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (descriptor < 0) {
        *ret_errno = errno;
        return NULL;
    }
    while (length <= CONFIG_FILE_MAXIMUM) {
        ssize_t count = read(descriptor, text + length, CONFIG_FILE_MAXIMUM + 1 - length);

        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0) {
            *ret_errno = errno;
            close(descriptor);
            return NULL;
        }
        if (count == 0)
            break;
        length += (size_t)count;
    }
    close(descriptor);
    text[length] = '\0';
    *ret_length = length;
    return g_steal_pointer(&text);
}

Config *
config_load(const char *path, GPtrArray *warnings)
{
    g_autofree char *text = NULL;
    size_t length = 0;
    int code = 0;

    if (path == NULL)
        path = config_default_path();
    text = file_read_bounded(path, &length, &code);
    if (text == NULL) {
        if (code != ENOENT)
            warn(warnings, path, 0, "cannot be read: %s; using the defaults", g_strerror(code));
        return config_new();
    }
    return config_parse(text, length, path, warnings);
}

/* Wraps help at 76 columns behind "# ". */
static void
comment_append(GString *out, const char *help)
{
    g_auto(GStrv) words = g_strsplit(help, " ", -1);
    size_t column = 0;

    for (size_t i = 0; words[i] != NULL; i++) {
        size_t size = strlen(words[i]);

        if (column == 0 || column + 1 + size > 76) {
            g_string_append(out, column == 0 ? "#" : "\n#");
            column = 1;
        }
        g_string_append_printf(out, " %s", words[i]);
        column += 1 + size;
    }
    g_string_append_c(out, '\n');
}

/* "50 to 100", "50ms to 60s"; NULL where a range says nothing. */
static char *
option_describe_range(const ConfigOption *option)
{
    g_autofree char *minimum = NULL;
    g_autofree char *maximum = NULL;

    switch (option->type) {
    case CONFIG_TYPE_NUMBER:
    case CONFIG_TYPE_PERCENT:
    case CONFIG_TYPE_PARALLEL:
    case CONFIG_TYPE_PORT_RANGE:
        return g_strdup_printf("%" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT "%s%s",
                               option->minimum, option->maximum, *option->unit != '\0' ? " " : "",
                               option->unit);
    case CONFIG_TYPE_RATE:
        minimum = units_format_rate(option->minimum);
        maximum = units_format_rate(option->maximum);
        return g_strdup_printf("%s to %s", minimum, maximum);
    case CONFIG_TYPE_DURATION:
        minimum = units_format_duration(option->minimum);
        maximum = units_format_duration(option->maximum);
        return g_strdup_printf("%s to %s", minimum, maximum);
    case CONFIG_TYPE_TEXT:
    case CONFIG_TYPE_BOOLEAN:
    case CONFIG_TYPE_PRIORITY:
    case CONFIG_TYPE_SCHEDULING:
    case CONFIG_TYPE_TECHNIQUES:
    case CONFIG_TYPE_MEASURE:
    case CONFIG_TYPE_LOG_LEVEL:
        return NULL;
    }
    return NULL;
}

char *
config_to_text(const Config *config, bool with_help)
{
    g_autoptr(GString) out = g_string_new(NULL);
    const char *group = "";

    if (with_help)
        g_string_append(out, "# Configuration of virt-convoy; see virt-convoy.conf(5).\n"
                             "# Every value below is the one in use when the line is "
                             "missing.\n");
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        g_autofree char *value = config_get_text(config, &options[i]);
        g_autofree char *range = option_describe_range(&options[i]);

        if (strcmp(group, options[i].group) != 0) {
            group = options[i].group;
            g_string_append_printf(out, "%s[%s]\n", out->len > 0 ? "\n" : "", group);
        }
        if (with_help) {
            g_string_append_c(out, '\n');
            comment_append(out, options[i].help);
            if (range != NULL)
                g_string_append_printf(out, "# Range: %s.\n", range);
        }
        g_string_append_printf(out, "%s=%s\n", options[i].key, value);
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

/* A minus sign in man(7) must be \- to be copied as one. */
static void
man_append(GString *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '-' || *text == '\\')
            g_string_append_c(out, '\\');
        g_string_append_c(out, *text);
    }
}

char *
config_to_man(void)
{
    g_autoptr(GString) out = g_string_new(NULL);
    const char *group = "";

    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        g_autofree char *range = option_describe_range(&options[i]);

        if (strcmp(group, options[i].group) != 0) {
            group = options[i].group;
            g_string_append_printf(out, ".SS [%s]\n", group);
        }
        g_string_append(out, ".TP\n.B ");
        man_append(out, options[i].key);
        g_string_append_c(out, '\n');
        man_append(out, options[i].help);
        g_string_append(out, "\nDefault: ");
        man_append(out, *options[i].default_value != '\0' ? options[i].default_value : "empty");
        if (range != NULL) {
            g_string_append(out, ". Range: ");
            man_append(out, range);
        }
        g_string_append(out, ".\n");
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

TechniqueSet
config_techniques(const Config *config)
{
    unsigned set = config->allow_techniques;

    if (!config->allow_post_copy)
        set &= ~(unsigned)(TECHNIQUE_ALLOW_POST_COPY | TECHNIQUE_ALLOW_HYBRID);
    /* Pre-copy is what libvirt does when nobody decides: always possible. */
    return set == 0 ? TECHNIQUE_ALLOW_PRE_COPY : (TechniqueSet)set;
}
