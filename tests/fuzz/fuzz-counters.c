/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any bytes as the kernel's answers about links, classes, routes, neighbours and
 * forwarding (kinds 0 to 5), and the way from a link down to the uplink.
 */
#include <stdlib.h>

#include "message.h"

/* Three sources as one: each has its own. */
#define DUMP_ATTEMPTS LINK_DUMP_ATTEMPTS
#include "traffic/link_counters.c"
#undef DUMP_ATTEMPTS
#define DUMP_ATTEMPTS CLASS_DUMP_ATTEMPTS
#include "traffic/class_counters.c"
#undef DUMP_ATTEMPTS
#include "traffic/uplink.c"

#define IFINDEX 7

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    GArray *links;
    ClassDump classes;
    Route route;
    Route default_route;
    Neighbour neighbour;
    Neighbour forwarding;
} Answers;

static void
message_read(unsigned kind, struct nl_msg *message, size_t length, void *data)
{
    static int (*const receivers[])(struct nl_msg *, void *) = {
        link_received,          class_received,     route_received,
        default_route_received, neighbour_received, forwarding_received,
    };
    Answers *answers = data;
    void *const into[] = { answers->links,          &answers->classes,   &answers->route,
                           &answers->default_route, &answers->neighbour, &answers->forwarding };

    (void)length;
    G_STATIC_ASSERT(G_N_ELEMENTS(receivers) == G_N_ELEMENTS(into));
    if (receivers[kind](message, into[kind]) != NL_OK)
        abort();
}

static void
check_text(const char *text, size_t size)
{
    if (memchr(text, '\0', size) == NULL)
        abort();
}

static void
check_route(const Route *route)
{
    if (!route->found && (route->ifindex != 0 || route->has_gateway))
        abort();
}

/* No answer about the way: without a next hop nobody is asked about a bridge. */
static void
check_way_down(const GArray *links)
{
    for (guint i = 0; i < links->len; i++) {
        const LinkCounter *link = &g_array_index(links, LinkCounter, i);
        g_autoptr(GError) error = NULL;
        const Address nobody = { 0 };
        Uplink uplink = { 0 };
        const LinkCounter *end;

        check_text(link->name, sizeof link->name);
        check_text(link->kind, sizeof link->kind);
        end = uplink_descend(NULL, links, link, &nobody, &uplink, &error);
        check_text(uplink.path, sizeof uplink.path);
        if ((end == NULL) != (error != NULL))
            abort();
        if (end != NULL && strcmp(end->kind, "bridge") == 0)
            abort();
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GArray) links = g_array_new(FALSE, TRUE, sizeof(LinkCounter));
    g_autoptr(GArray) classes = g_array_new(FALSE, TRUE, sizeof(ClassCounter));
    Answers answers = {
        .links = links,
        .classes = { .ifindex = IFINDEX, .classes = classes },
        .neighbour = { .address = { .family = AF_INET, .bytes = { 10, 0, 0, 2 } },
                       .ifindex = IFINDEX },
        .forwarding = { .ifindex = IFINDEX, .mac = { 0x52, 0x54, 0, 0x11, 0x22, 0x33 } },
    };

    messages_feed(data, size, 6, RTM_NEWROUTE, message_read, &answers);
    check_route(&answers.route);
    check_route(&answers.default_route);
    if (answers.default_route.found && answers.default_route.ifindex == 0)
        abort();
    check_way_down(links);
    return 0;
}
