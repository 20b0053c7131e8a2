/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by domain.c and domain_metadata.c only: keeps libxml2 out of domain.h. */
#pragma once

#include <libxml/tree.h>

#include "common/domain.h"

/* Reads our element, which node is, in either spelling. */
void domain_metadata_read(const xmlNode *node, DomainMetadata *ret_metadata, GPtrArray *warnings);
