/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The file that lets a restarted daemon take off what a killed one left. It
 * holds names of things, never commands; see journal.h for the lines.
 */
#include "shaping/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <json-glib/json-glib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    ShapingLeaves what;
    char device[IF_NAMESIZE];
    int ifindex; /* finds a device that was renamed; 0: not known */
} Standing;

struct ShapingJournal {
    GMutex mutex;
    int fd;
    char *path;
    GArray *standing; /* Standing, in the order they were made */
};

static const char *const op_names[] = {
    [SHAPING_LEAVES_NOTHING] = NULL,
    [SHAPING_LEAVES_ROOT] = "root",
    [SHAPING_LEAVES_INGRESS] = "ingress",
    [SHAPING_LEAVES_IFB] = "ifb",
};

static ShapingLeaves
op_from_string(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(op_names); i++) {
        if (op_names[i] != NULL && g_strcmp0(name, op_names[i]) == 0)
            return (ShapingLeaves)i;
    }
    return SHAPING_LEAVES_NOTHING;
}

static gboolean
journal_fail(const ShapingJournal *self, const char *doing, int code, GError **error)
{
    g_set_error(error, SHAPING_ERROR, SHAPING_ERROR_FAILED, "%s: cannot %s: %s", self->path, doing,
                g_strerror(code));
    return FALSE;
}

static gboolean
standing_find(const GArray *standing, ShapingLeaves what, const char *device, guint *ret_index)
{
    for (guint i = 0; i < standing->len; i++) {
        const Standing *entry = &g_array_index(standing, Standing, i);

        if (entry->what == what && strcmp(entry->device, device) == 0) {
            *ret_index = i;
            return TRUE;
        }
    }
    return FALSE;
}

static void
standing_note(GArray *standing, ShapingLeaves what, const char *device, int ifindex, gboolean gone)
{
    Standing entry = { .what = what, .ifindex = ifindex };
    guint i;

    g_strlcpy(entry.device, device, sizeof entry.device);
    if (standing_find(standing, what, device, &i)) {
        if (gone)
            g_array_remove_index(standing, i);
    } else if (!gone) {
        g_array_append_val(standing, entry);
    }
}

static const char *
member_read_text(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    return node != NULL && JSON_NODE_HOLDS_VALUE(node) ? json_node_get_string(node) : NULL;
}

/* 0: none, or no index. */
static int
member_read_index(JsonObject *object)
{
    JsonNode *node = json_object_get_member(object, "index");
    gint64 value = node != NULL && JSON_NODE_HOLDS_VALUE(node) ? json_node_get_int(node) : 0;

    return value > 0 && value <= G_MAXINT ? (int)value : 0;
}

/*
 * A line we cannot have written is passed over: it names nothing of ours. The
 * length also bounds how deep json-glib descends; it knows no limit itself.
 */
static void
line_read(const char *line, GArray *standing)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonNode *root, *gone_node;
    JsonObject *object;
    const char *device;
    ShapingLeaves what;
    gboolean gone;

    if (strlen(line) > SHAPING_JOURNAL_LINE_MAX || !g_utf8_validate(line, -1, NULL) ||
        !json_parser_load_from_data(parser, line, -1, NULL))
        return;
    root = json_parser_get_root(parser);
    if (root == NULL || !JSON_NODE_HOLDS_OBJECT(root))
        return;
    object = json_node_get_object(root);
    what = op_from_string(member_read_text(object, "op"));
    device = member_read_text(object, "device");
    gone_node = json_object_get_member(object, "gone");
    gone =
        gone_node != NULL && JSON_NODE_HOLDS_VALUE(gone_node) && json_node_get_boolean(gone_node);
    if (what == SHAPING_LEAVES_NOTHING || !shaping_interface_name_is_valid(device))
        return;
    standing_note(standing, what, device, member_read_index(object), gone);
}

/* All of it or nothing: half a line would swallow the next one. */
static gboolean
bytes_write(ShapingJournal *self, const char *bytes, gsize length, GError **error)
{
    struct stat before;

    if (fstat(self->fd, &before) < 0)
        return journal_fail(self, "stat", errno, error);
    while (length > 0) {
        ssize_t written = write(self->fd, bytes, length);
        int code = written < 0 ? errno : EIO;

        if (written < 0 && code == EINTR)
            continue;
        if (written <= 0) {
            /* When this fails too, the next reader passes over a line that is not whole. */
            if (ftruncate(self->fd, before.st_size) < 0)
                code = errno;
            return journal_fail(self, "write", code, error);
        }
        bytes += written;
        length -= (gsize)written;
    }
    if (fsync(self->fd) < 0)
        return journal_fail(self, "fsync", errno, error);
    return TRUE;
}

static void
line_render(GString *text, ShapingLeaves what, const char *device, int ifindex, gboolean gone)
{
    /* Op and device are of a checked alphabet: nothing to escape. */
    g_string_append_printf(text, "{\"op\":\"%s\",\"device\":\"%s\"", op_names[what], device);
    if (ifindex != 0)
        g_string_append_printf(text, ",\"index\":%d", ifindex);
    g_string_append_printf(text, "%s}\n", gone ? ",\"gone\":true" : "");
}

/* The file anew from what stands: nothing, or what could not be undone. */
static gboolean
journal_rewrite(ShapingJournal *self, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < self->standing->len; i++) {
        const Standing *entry = &g_array_index(self->standing, Standing, i);

        line_render(text, entry->what, entry->device, entry->ifindex, FALSE);
    }
    /* When the machine stops in between, the interfaces are bare too. */
    if (ftruncate(self->fd, 0) < 0)
        return journal_fail(self, "truncate", errno, error);
    return bytes_write(self, text->str, text->len, error);
}

static gboolean
journal_read(ShapingJournal *self, GError **error)
{
    g_autofree char *bytes = g_malloc(SHAPING_JOURNAL_BYTES_MAX + 1);
    g_auto(GStrv) lines = NULL;
    gsize length = 0;

    while (length < SHAPING_JOURNAL_BYTES_MAX) {
        ssize_t got =
            pread(self->fd, bytes + length, SHAPING_JOURNAL_BYTES_MAX - length, (off_t)length);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return journal_fail(self, "read", errno, error);
        if (got == 0)
            break;
        length += (gsize)got;
    }
    for (gsize i = 0; i < length; i++) {
        if (bytes[i] == '\0')
            bytes[i] = '\n';
    }
    bytes[length] = '\0';
    lines = g_strsplit(bytes, "\n", -1);
    for (gsize i = 0; lines[i] != NULL; i++)
        line_read(lines[i], self->standing);
    /* A torn last line must not swallow the next append. */
    if (length > 0 && bytes[length - 1] != '\n')
        return bytes_write(self, "\n", 1, error);
    return TRUE;
}

ShapingJournal *
shaping_journal_open(const char *directory, GError **error)
{
    g_autoptr(ShapingJournal) self = g_new0(ShapingJournal, 1);
    struct stat status;

    g_mutex_init(&self->mutex);
    self->path = g_build_filename(directory, "shaping.journal", NULL);
    self->standing = g_array_new(FALSE, TRUE, sizeof(Standing));
    self->fd =
        open(self->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (self->fd < 0) {
        journal_fail(self, "open", errno, error);
        return NULL;
    }
    if (fstat(self->fd, &status) < 0 || !S_ISREG(status.st_mode)) {
        journal_fail(self, "use anything but a regular file", EINVAL, error);
        return NULL;
    }
    /* Before anything is undone: what stands may be another one's that lives. */
    if (flock(self->fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            g_set_error(error, SHAPING_ERROR, SHAPING_ERROR_REFUSED,
                        "%s: another process has it, probably a virt-convoyd that runs",
                        self->path);
        else
            journal_fail(self, "lock", errno, error);
        return NULL;
    }
    if (!journal_read(self, error))
        return NULL;
    return g_steal_pointer(&self);
}

void
shaping_journal_close(ShapingJournal *self)
{
    if (self == NULL)
        return;
    if (self->fd >= 0)
        close(self->fd);
    g_array_unref(self->standing);
    g_mutex_clear(&self->mutex);
    g_free(self->path);
    g_free(self);
}

static gboolean
journal_append(ShapingJournal *self, ShapingLeaves what, const char *device, gboolean gone,
               GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->mutex);
    g_autoptr(GString) text = g_string_new(NULL);
    int ifindex = gone ? 0 : (int)if_nametoindex(device);
    guint i;

    if (what == SHAPING_LEAVES_NOTHING || standing_find(self->standing, what, device, &i) == !gone)
        return TRUE;
    if (gone && self->standing->len == 1) {
        g_array_set_size(self->standing, 0);
        return journal_rewrite(self, error);
    }
    line_render(text, what, device, ifindex, gone);
    if (!bytes_write(self, text->str, text->len, error))
        return FALSE;
    standing_note(self->standing, what, device, ifindex, gone);
    return TRUE;
}

gboolean
shaping_journal_about_to_make(ShapingJournal *self, ShapingLeaves what, const char *device,
                              GError **error)
{
    return journal_append(self, what, device, FALSE, error);
}

gboolean
shaping_journal_gone(ShapingJournal *self, ShapingLeaves what, const char *device, GError **error)
{
    return journal_append(self, what, device, TRUE, error);
}

gboolean
shaping_journal_is_empty(ShapingJournal *self)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->mutex);

    return self->standing->len == 0;
}

/* The uplink that an ifb was made for, by the index in its name; empty: it is gone. */
static Observed *
ifb_uplink_observe(const char *ifb_name, GError **error)
{
    guint64 ifindex;
    char name[IF_NAMESIZE];
    char expected[IF_NAMESIZE];

    if (!g_ascii_string_to_unsigned(ifb_name + strlen(SHAPING_IFB_PREFIX), 10, 1, G_MAXINT,
                                    &ifindex, NULL))
        return observed_new_empty();
    shaping_ifb_name((int)ifindex, expected);
    if (strcmp(expected, ifb_name) != 0 || if_indextoname((unsigned)ifindex, name) == NULL)
        return observed_new_empty();
    return shaping_observe(name, error);
}

/* The uplink's side goes first: without its ifb a redirect drops all that comes in. */
static void
ingress_steps_add(const Observed *uplink, const Observed *ifb, bool empty_ingress_is_ours,
                  GPtrArray *steps)
{
    g_autoptr(GPtrArray) found = shaping_difference_remove(uplink->name, SHAPING_INGRESS, uplink,
                                                           ifb, empty_ingress_is_ours);

    g_ptr_array_extend_and_steal(steps, g_steal_pointer(&found));
}

static gboolean
ifb_steps_add(const Observed *ifb, GPtrArray *steps, GError **error)
{
    g_autoptr(Observed) uplink = NULL;

    /* A dummy where the kernel has no ifb to probe with. */
    if (strcmp(ifb->link_kind, "dummy") == 0) {
        g_ptr_array_add(steps, shaping_step_undo(SHAPING_LEAVES_IFB, ifb->name));
        return TRUE;
    }
    uplink = ifb_uplink_observe(ifb->name, error);
    if (uplink != NULL)
        ingress_steps_add(uplink, ifb, false, steps);
    return uplink != NULL;
}

static gboolean
uplink_steps_add(const Observed *uplink, GPtrArray *steps, GError **error)
{
    g_autoptr(Observed) ifb = NULL;
    char ifb_name[IF_NAMESIZE];

    shaping_ifb_name(uplink->ifindex, ifb_name);
    ifb = shaping_observe(ifb_name, error);
    if (ifb != NULL)
        ingress_steps_add(uplink, ifb, true, steps);
    return ifb != NULL;
}

/* What the journal names is taken off only where the kernel says it is ours. */
static gboolean
standing_steps_add(const Standing *entry, const char *device, GPtrArray *steps, GError **error)
{
    g_autoptr(Observed) observed = shaping_observe(device, error);

    if (observed == NULL)
        return FALSE;
    if (!observed->exists)
        return TRUE;
    switch (entry->what) {
    case SHAPING_LEAVES_ROOT:
        if (observed_has_our_root(observed))
            g_ptr_array_add(steps, shaping_step_undo(SHAPING_LEAVES_ROOT, device));
        return TRUE;
    case SHAPING_LEAVES_INGRESS:
        return uplink_steps_add(observed, steps, error);
    case SHAPING_LEAVES_IFB:
        return !g_str_has_prefix(device, SHAPING_IFB_PREFIX) ||
               ifb_steps_add(observed, steps, error);
    case SHAPING_LEAVES_NOTHING:
        break;
    }
    return TRUE;
}

static gboolean
standing_undo(const Standing *entry, unsigned *undone, GError **error)
{
    g_autoptr(GPtrArray) steps = g_ptr_array_new_with_free_func((GDestroyNotify)shaping_step_free);
    char renamed[IF_NAMESIZE];

    if (!standing_steps_add(entry, entry->device, steps, error))
        return FALSE;
    if (steps->len == 0 && entry->ifindex != 0 &&
        if_indextoname((unsigned)entry->ifindex, renamed) != NULL &&
        !standing_steps_add(entry, renamed, steps, error))
        return FALSE;
    if (!shaping_run(steps, error))
        return FALSE;
    *undone += steps->len;
    return TRUE;
}

gboolean
shaping_journal_restore(ShapingJournal *self, unsigned *ret_undone, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->mutex);
    g_autoptr(GError) first = NULL;
    unsigned undone = 0;

    for (guint i = self->standing->len; i > 0; i--) {
        g_autoptr(GError) local = NULL;

        if (standing_undo(&g_array_index(self->standing, Standing, i - 1), &undone, &local))
            g_array_remove_index(self->standing, i - 1);
        else if (first == NULL)
            first = g_steal_pointer(&local);
    }
    if (!journal_rewrite(self, first == NULL ? &first : NULL) || first != NULL) {
        g_propagate_error(error, g_steal_pointer(&first));
        return FALSE;
    }
    if (ret_undone != NULL)
        *ret_undone = undone;
    return TRUE;
}
