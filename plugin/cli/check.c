/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a host needs for virt-convoy to work; see check.h. */
#include "cli/check.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cli/answer.h"
#include "common/units.h"
#include "common/version.h"

#define PLUGIN_FILE "/virt-convoy-libvirtd.so"
#define DELETED " (deleted)" /* how the kernel marks a file that was replaced */

static const char *const libvirt_daemons[] = { "libvirtd", "virtqemud" };

static void
finding_free(gpointer data)
{
    CheckFinding *finding = data;

    g_free(finding->text);
    g_free(finding);
}

G_GNUC_PRINTF(4, 5)
static void
add(GPtrArray *findings, const char *what, CheckLevel level, const char *format, ...)
{
    CheckFinding *finding = g_new0(CheckFinding, 1);
    va_list arguments;

    finding->what = what;
    finding->level = level;
    va_start(arguments, format);
    finding->text = g_strdelimit(g_strdup_vprintf(format, arguments), "\r\n", ' ');
    va_end(arguments);
    g_ptr_array_add(findings, finding);
}

static void
check_directions(GPtrArray *findings, JsonObject *uplink)
{
    static const char *const directions[] = { "egress", "ingress" };

    for (size_t i = 0; i < G_N_ELEMENTS(directions); i++) {
        JsonObject *direction = answer_object(uplink, directions[i]);
        g_autofree char *problem = direction != NULL ? answer_text(direction, "problem") : NULL;

        if (problem != NULL && *problem != '\0')
            add(findings, "shaping", CHECK_NOTE, "%s: %s", directions[i], problem);
    }
}

static void
check_uplinks(GPtrArray *findings, JsonObject *root)
{
    JsonArray *uplinks = answer_array(root, "uplinks");
    g_autofree char *problem = answer_text(root, "uplink_problem");
    bool any = false;

    for (unsigned i = 0; i < answer_length(uplinks); i++) {
        JsonObject *uplink = answer_element(uplinks, i);
        g_autofree char *name = uplink != NULL ? answer_text(uplink, "name") : NULL;
        double number = 0;

        if (name == NULL)
            continue;
        any = true;
        if (answer_number(uplink, "link_rate", &number) && number > 0) {
            g_autofree char *rate = units_describe_rate(answer_clamp(number));

            add(findings, "uplink", CHECK_OK, "%s, %s", name, rate);
        } else {
            add(findings, "uplink", CHECK_FAILED,
                "%s: its rate is not known: link-rate= in the configuration tells it", name);
        }
        check_directions(findings, uplink);
    }
    if (!any)
        add(findings, "uplink", CHECK_FAILED, "%s",
            problem != NULL ? problem : "the daemon knows none");
}

static void
check_daemon(GPtrArray *findings, const CheckInput *input)
{
    g_autoptr(JsonParser) parser = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *version = NULL;
    JsonObject *root = NULL;
    double number = 0;
    uint64_t qemu = 0;

    if (input->status != NULL)
        parser = answer_read(input->status, &root, &error);
    if (parser == NULL) {
        add(findings, "daemon", CHECK_FAILED, "%s",
            error != NULL                   ? error->message
            : input->status_problem != NULL ? input->status_problem
                                            : "no answer");
        return;
    }
    version = answer_text(root, "version");
    if (g_strcmp0(version, CONVOY_VERSION) == 0)
        add(findings, "daemon", CHECK_OK, "virt-convoyd %s answers", version);
    else
        add(findings, "daemon", CHECK_NOTE,
            "virt-convoyd is %s, this command %s: systemctl restart virt-convoyd",
            version != NULL ? version : "of an unknown version", CONVOY_VERSION);
    if (answer_number(root, "qemu_version", &number))
        qemu = answer_clamp(number);
    if (!json_object_get_boolean_member_with_default(root, "libvirt_connected", FALSE))
        add(findings, "libvirt", CHECK_FAILED,
            "virt-convoyd is not connected to it: journalctl -u virt-convoyd says why");
    else if (qemu >= 1000000)
        add(findings, "libvirt", CHECK_OK,
            "connected, QEMU %" G_GUINT64_FORMAT ".%" G_GUINT64_FORMAT ".%" G_GUINT64_FORMAT,
            qemu / 1000000, qemu / 1000 % 1000, qemu % 1000);
    else
        add(findings, "libvirt", CHECK_OK, "connected");
    check_uplinks(findings, root);
}

/* Other containers, and hosts that are only namespaces, have a libvirtd of their own. */
static bool
same_network(const char *processes, const char *pid)
{
    g_autofree char *ours = g_build_filename(processes, "self", "ns", "net", NULL);
    g_autofree char *theirs = g_build_filename(processes, pid, "ns", "net", NULL);
    g_autofree char *here = g_file_read_link(ours, NULL);
    g_autofree char *there = g_file_read_link(theirs, NULL);

    /* Not told: it is the more likely one. */
    return here == NULL || there == NULL || strcmp(here, there) == 0;
}

/* The name of a libvirt daemon with the QEMU driver; NULL when pid is none. */
static const char *
libvirt_daemon(const char *processes, const char *pid)
{
    g_autofree char *path = g_build_filename(processes, pid, "comm", NULL);
    g_autofree char *name = NULL;

    if (!g_ascii_isdigit(pid[0]) || !g_file_get_contents(path, &name, NULL, NULL))
        return NULL;
    g_strchomp(name);
    for (size_t i = 0; i < G_N_ELEMENTS(libvirt_daemons); i++) {
        if (strcmp(name, libvirt_daemons[i]) == 0)
            return libvirt_daemons[i];
    }
    return NULL;
}

static void
check_preloaded(GPtrArray *findings, const CheckInput *input, const char *name, const char *pid)
{
    g_autofree char *path = g_build_filename(input->processes, pid, "maps", NULL);
    g_autofree char *unit = g_strconcat(name, ".service.d", NULL);
    g_autofree char *drop_in = g_build_filename(input->drop_ins, unit, "virt-convoy.conf", NULL);
    g_autofree char *maps = NULL;
    g_autoptr(GError) error = NULL;
    const char *found;

    if (!g_file_get_contents(path, &maps, NULL, &error)) {
        if (!g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            add(findings, "plugin", CHECK_NOTE, "%s (pid %s): only root can see what it loaded",
                name, pid);
        return;
    }
    found = strstr(maps, PLUGIN_FILE);
    if (found != NULL && g_str_has_prefix(found + strlen(PLUGIN_FILE), DELETED))
        add(findings, "plugin", CHECK_NOTE,
            "%s (pid %s) has an earlier one loaded: systemctl restart %s", name, pid, name);
    else if (found != NULL)
        add(findings, "plugin", CHECK_OK, "loaded by %s (pid %s)", name, pid);
    else if (g_file_test(drop_in, G_FILE_TEST_EXISTS))
        add(findings, "plugin", CHECK_FAILED,
            "not loaded by %s (pid %s), though %s is there: systemctl daemon-reload, systemctl "
            "restart %s; where AppArmor confines it, its local rules must allow the plugin",
            name, pid, drop_in, name);
    else
        add(findings, "plugin", CHECK_NOTE,
            "not loaded by %s (pid %s), and %s is not there: the hook works alone", name, pid,
            drop_in);
}

static void
check_plugin(GPtrArray *findings, const CheckInput *input)
{
    g_autoptr(GDir) processes = g_dir_open(input->processes, 0, NULL);
    bool any = false;
    const char *pid;

    while (processes != NULL && (pid = g_dir_read_name(processes)) != NULL) {
        const char *name = libvirt_daemon(input->processes, pid);

        if (name == NULL || !same_network(input->processes, pid))
            continue;
        any = true;
        check_preloaded(findings, input, name, pid);
    }
    if (!any)
        add(findings, "plugin", CHECK_NOTE,
            "neither libvirtd nor virtqemud runs now (its socket may start it): it is loaded then");
}

static void
check_hook(GPtrArray *findings, const char *path)
{
    if (access(path, X_OK) == 0)
        add(findings, "hook", CHECK_OK, "%s", path);
    else
        add(findings, "hook", CHECK_FAILED, "%s: %s: make install puts it there", path,
            g_strerror(errno));
}

static void
check_configuration(GPtrArray *findings, const GPtrArray *warnings)
{
    for (guint i = 0; warnings != NULL && i < warnings->len; i++)
        add(findings, "settings", CHECK_NOTE, "%s: the default is used",
            (const char *)g_ptr_array_index(warnings, i));
    if (warnings == NULL || warnings->len == 0)
        add(findings, "settings", CHECK_OK, "read without a warning");
}

GPtrArray *
check_findings(const CheckInput *input)
{
    GPtrArray *findings = g_ptr_array_new_with_free_func(finding_free);

    check_daemon(findings, input);
    check_plugin(findings, input);
    check_hook(findings, input->hook);
    check_configuration(findings, input->warnings);
    return findings;
}

CheckLevel
check_worst(const GPtrArray *findings)
{
    CheckLevel worst = CHECK_OK;

    for (guint i = 0; i < findings->len; i++)
        worst = MAX(worst, ((const CheckFinding *)g_ptr_array_index(findings, i))->level);
    return worst;
}

static const char *
level_to_string(CheckLevel level)
{
    return level == CHECK_OK ? "ok" : level == CHECK_NOTE ? "note" : "FAILED";
}

char *
check_to_text(const GPtrArray *findings)
{
    g_autoptr(GString) out = g_string_new(NULL);

    for (guint i = 0; i < findings->len; i++) {
        const CheckFinding *finding = g_ptr_array_index(findings, i);

        g_string_append_printf(out, "%-9s %-7s %s\n", finding->what,
                               level_to_string(finding->level), finding->text);
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

char *
check_to_json(const GPtrArray *findings)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();
    g_autoptr(JsonNode) root = NULL;

    json_builder_begin_array(builder);
    for (guint i = 0; i < findings->len; i++) {
        const CheckFinding *finding = g_ptr_array_index(findings, i);
        g_autofree char *level = g_ascii_strdown(level_to_string(finding->level), -1);

        json_builder_begin_object(builder);
        json_builder_set_member_name(builder, "check");
        json_builder_add_string_value(builder, finding->what);
        json_builder_set_member_name(builder, "level");
        json_builder_add_string_value(builder, level);
        json_builder_set_member_name(builder, "text");
        json_builder_add_string_value(builder, finding->text);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    root = json_builder_get_root(builder);
    return json_to_string(root, FALSE);
}
