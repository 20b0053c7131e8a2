/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A domain XML as far as a migration cares. What libvirt itself would refuse
 * is not checked again: an XML that reaches this code has run as a domain.
 */
#include "common/domain.h"

#include <string.h>

#include "common/domain_private.h"
#include "common/units.h"
#include "common/xml.h"

#define INTERFACE_NAME_MAXIMUM 15u /* IFNAMSIZ - 1 */
#define TEXT_MAXIMUM 256u

static void
interface_free(gpointer data)
{
    DomainInterface *interface = data;

    g_free(interface->type);
    g_free(interface->device);
    g_free(interface->mac);
    g_free(interface->source);
    g_free(interface);
}

void
domain_description_free(DomainDescription *description)
{
    if (description == NULL)
        return;
    g_free(description->name);
    g_free(description->uuid);
    g_free(description->post_copy_obstacle);
    g_clear_pointer(&description->interfaces, g_ptr_array_unref);
    g_clear_pointer(&description->warnings, g_ptr_array_unref);
    g_free(description);
}

/* What will be compared, looked up or printed later has no strange bytes. */
static char *
text_steal_plain(char *text, size_t maximum)
{
    g_autofree char *owned = text;

    if (owned == NULL || *owned == '\0' || strlen(owned) > maximum)
        return NULL;
    for (const char *at = owned; *at != '\0'; at++) {
        if (!g_ascii_isgraph(*at) || *at == '/')
            return NULL;
    }
    return g_steal_pointer(&owned);
}

/* 8-4-4-4-12 or 32 digits, as libvirt reads them, to the former. */
static char *
uuid_normalise(const char *text)
{
    static const size_t dash_before[] = { 8, 12, 16, 20 };
    char digits[33];
    size_t count = 0;

    for (; text != NULL && *text != '\0'; text++) {
        if (*text == '-')
            continue;
        if (!g_ascii_isxdigit(*text) || count == 32)
            return NULL;
        digits[count++] = g_ascii_tolower(*text);
    }
    if (count != 32)
        return NULL;
    digits[32] = '\0';
    g_autoptr(GString) out = g_string_new(digits);
    for (size_t i = 0; i < G_N_ELEMENTS(dash_before); i++)
        g_string_insert_c(out, (gssize)(dash_before[i] + i), '-');
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static uint64_t
memory_read(const xmlNode *node)
{
    g_autofree char *value = xml_content(node);
    g_autofree char *unit = xml_attribute(node, "unit");
    uint64_t bytes = 0;

    if (value == NULL || !units_parse_size_value(value, unit, 1024, &bytes, NULL))
        return 0;
    return bytes;
}

static bool
attribute_is(const xmlNode *node, const char *name, const char *expected)
{
    g_autofree char *value = xml_attribute(node, name);

    return value != NULL && strcmp(value, expected) == 0;
}

static void
interface_add(DomainDescription *description, const xmlNode *node)
{
    const xmlNode *source = xml_child(node, "source");
    static const char *const names[] = { "bridge", "network", "dev" };
    DomainInterface *interface;

    if (description->interfaces->len >= DOMAIN_INTERFACES_MAXIMUM)
        return;
    interface = g_new0(DomainInterface, 1);
    interface->type = text_steal_plain(xml_attribute(node, "type"), TEXT_MAXIMUM);
    interface->device =
        text_steal_plain(xml_attribute(xml_child(node, "target"), "dev"), INTERFACE_NAME_MAXIMUM);
    interface->mac = text_steal_plain(xml_attribute(xml_child(node, "mac"), "address"), 17);
    for (size_t i = 0; i < G_N_ELEMENTS(names) && interface->source == NULL; i++)
        interface->source = text_steal_plain(xml_attribute(source, names[i]), TEXT_MAXIMUM);
    g_ptr_array_add(description->interfaces, interface);
}

/*
 * QEMU receives post-copy pages through userfaultfd on the guest's memory.
 * Anonymous private memory is what that is sure to work with; assigned devices
 * and vhost-user back ends write to memory behind its back. Below: what QEMU
 * refuses at the destination, or what only some versions support. Refusing too
 * much costs speed, too little costs the guest.
 */
static const char *
device_obstacle(const xmlNode *device)
{
    if (xml_is_element(device, NULL, "hostdev"))
        return "a host device is assigned (hostdev)";
    if (xml_is_element(device, NULL, "interface")) {
        if (attribute_is(device, "type", "hostdev"))
            return "a host device is assigned (interface type hostdev)";
        if (attribute_is(device, "type", "vhostuser"))
            return "an interface is served by vhost-user";
        if (attribute_is(device, "type", "vdpa"))
            return "an interface is served by vDPA";
    }
    if (xml_is_element(device, NULL, "disk") &&
        (attribute_is(device, "type", "vhostuser") || attribute_is(device, "type", "vhostvdpa")))
        return "a disk is served by vhost-user or vDPA";
    if (xml_is_element(device, NULL, "filesystem"))
        return "a file system is shared with the host";
    if (xml_is_element(device, NULL, "shmem"))
        return "memory is shared with the host (shmem)";
    if (xml_is_element(device, NULL, "video") &&
        attribute_is(xml_child(device, "driver"), "name", "vhostuser"))
        return "video is served by vhost-user";
    if (xml_is_element(device, NULL, "memory") && !attribute_is(device, "model", "dimm"))
        return "a memory device is not plain memory (nvdimm, virtio-mem, ...)";
    if (xml_is_element(device, NULL, "memory") &&
        xml_child(xml_child(device, "source"), "pagesize") != NULL)
        return "a memory device uses huge pages";
    return NULL;
}

/* Each text once, NULL is none: a guest with eight host devices has one obstacle. */
static void
obstacle_add(GPtrArray *obstacles, const char *text)
{
    if (text != NULL && !g_ptr_array_find(obstacles, text, NULL))
        g_ptr_array_add(obstacles, (gpointer)text);
}

static void
memory_obstacles(const xmlNode *domain, GPtrArray *obstacles)
{
    const xmlNode *backing = xml_child(domain, "memoryBacking");
    const xmlNode *numa = xml_child(xml_child(domain, "cpu"), "numa");

    if (xml_child(domain, "launchSecurity") != NULL)
        obstacle_add(obstacles, "guest memory is encrypted (launchSecurity)");
    if (xml_child(backing, "hugepages") != NULL)
        obstacle_add(obstacles, "memory uses huge pages");
    if (attribute_is(xml_child(backing, "source"), "type", "file"))
        obstacle_add(obstacles, "memory is backed by a file");
    if (attribute_is(xml_child(backing, "source"), "type", "memfd"))
        obstacle_add(obstacles, "memory is backed by a memfd");
    if (attribute_is(xml_child(backing, "access"), "mode", "shared"))
        obstacle_add(obstacles, "memory is shared");
    /* QEMU unlocks it until the last page has come: it is asked to be locked always. */
    if (xml_child(backing, "locked") != NULL)
        obstacle_add(obstacles, "memory is locked");
    for (const xmlNode *cell = numa != NULL ? numa->children : NULL; cell != NULL;
         cell = cell->next) {
        if (xml_is_element(cell, NULL, "cell") && attribute_is(cell, "memAccess", "shared"))
            obstacle_add(obstacles, "memory is shared (numa cell)");
    }
}

/* memory-backend-ram is what QEMU uses by itself, and "memory-backend=ID" a reference. */
static bool
memory_backend_is_special(const char *value)
{
    static const char prefix[] = "memory-backend-";
    const char *backend = strstr(value, prefix);

    return strstr(value, "share=on") != NULL ||
           (backend != NULL && !g_str_has_prefix(backend + strlen(prefix), "ram,"));
}

/* <qemu:commandline> can replace the memory behind libvirt's back. */
static const char *
commandline_obstacle(const xmlNode *domain)
{
    const xmlNode *line = xml_child(domain, "commandline");

    for (const xmlNode *arg = line != NULL ? line->children : NULL; arg != NULL; arg = arg->next) {
        g_autofree char *value = xml_attribute(arg, "value");

        if (value != NULL &&
            (strstr(value, "mem-path") != NULL || memory_backend_is_special(value) ||
             strstr(value, "vfio") != NULL || strstr(value, "vhost-user") != NULL))
            return "QEMU arguments (qemu:commandline) change memory or devices";
    }
    return NULL;
}

static void
devices_read(DomainDescription *description, const xmlNode *domain)
{
    const xmlNode *devices = xml_child(domain, "devices");
    g_autoptr(GPtrArray) obstacles = g_ptr_array_new();

    memory_obstacles(domain, obstacles);
    obstacle_add(obstacles, commandline_obstacle(domain));
    for (const xmlNode *device = devices != NULL ? devices->children : NULL; device != NULL;
         device = device->next) {
        if (xml_is_element(device, NULL, "interface"))
            interface_add(description, device);
        if (xml_is_element(device, NULL, "disk"))
            description->disks++;
        obstacle_add(obstacles, device_obstacle(device));
    }
    if (obstacles->len > 0) {
        g_ptr_array_add(obstacles, NULL);
        description->post_copy_obstacle = g_strjoinv("; ", (char **)obstacles->pdata);
    }
}

static void
metadata_read(DomainDescription *description, const xmlNode *domain)
{
    const xmlNode *metadata = xml_child(domain, "metadata");

    for (const xmlNode *node = metadata != NULL ? metadata->children : NULL; node != NULL;
         node = node->next) {
        if (node->type != XML_ELEMENT_NODE || strcmp(xml_namespace(node), DOMAIN_NAMESPACE) != 0)
            continue;
        if (!xml_is_element(node, NULL, "domain")) {
            g_ptr_array_add(description->warnings,
                            g_strdup_printf("line %ld: %.40s: unknown element; ignored",
                                            xmlGetLineNo(node), (const char *)node->name));
            return;
        }
        description->has_metadata = true;
        domain_metadata_read(node, &description->metadata, description->warnings);
        return; /* libvirt keeps one element of a namespace: the first */
    }
}

DomainDescription *
domain_description_parse(const char *xml, gssize length, GError **error)
{
    g_autoptr(DomainDescription) description = NULL;
    g_autoptr(xmlDoc) document =
        xml_document_read(xml, length, DOMAIN_XML_MAXIMUM, DOMAIN_XML_DEPTH_MAXIMUM, error);
    g_autofree char *uuid = NULL;
    const xmlNode *root;

    if (document == NULL)
        return NULL;
    root = xmlDocGetRootElement(document);
    if (!xml_is_element(root, "", "domain") || xml_child(root, "name") == NULL) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "XML is not a domain: the root element must be <domain> and have a "
                    "<name>");
        return NULL;
    }
    description = g_new0(DomainDescription, 1);
    description->interfaces = g_ptr_array_new_with_free_func(interface_free);
    description->warnings = g_ptr_array_new_with_free_func(g_free);
    domain_metadata_init(&description->metadata);
    description->name = xml_text(xml_child(root, "name"));
    uuid = xml_content(xml_child(root, "uuid"));
    description->uuid = uuid_normalise(uuid);
    description->memory = memory_read(xml_child(root, "memory"));
    description->current_memory = memory_read(xml_child(root, "currentMemory"));
    if (description->current_memory == 0)
        description->current_memory = description->memory;
    devices_read(description, root);
    metadata_read(description, root);
    return g_steal_pointer(&description);
}
