/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any bytes as domain XML, as metadata, and as a place for an offer. */
#include <stdlib.h>
#include <string.h>

#include "common/domain.h"
#include "common/domain_offer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char offer[] =
    "<convoy:offer xmlns:convoy=\"urn:virt-convoy:offer:1\" version=\"1\" post-copy=\"no\"/>";

/* What goes in must come out, and leave what was there. */
static void
offer_check(const char *xml)
{
    g_autofree char *with = domain_offer_insert(xml, offer, NULL);
    g_autofree char *without = NULL;
    g_autofree char *clean = NULL;

    if (with == NULL)
        return;
    if (strstr(with, offer) == NULL)
        abort();
    without = domain_offer_remove(with, NULL);
    clean = domain_offer_remove(xml, NULL);
    if (without == NULL || clean == NULL)
        abort();
    /* Only an empty <metadata> may be gone. */
    if (strcmp(without, clean) != 0 && strstr(clean, "<metadata") == NULL)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(DomainDescription) description =
        domain_description_parse((const char *)data, (gssize)size, NULL);
    DomainMetadata metadata;

    if (domain_metadata_parse((const char *)data, (gssize)size, &metadata, warnings, NULL)) {
        g_autofree char *xml = domain_metadata_to_xml(&metadata, true);
        DomainMetadata back;

        if (!domain_metadata_parse(xml, -1, &back, NULL, NULL) ||
            back.sla_lower != metadata.sla_lower || back.deadline != metadata.deadline)
            abort();
    }
    offer_check(text);
    return 0;
}
