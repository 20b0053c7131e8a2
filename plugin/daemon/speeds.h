/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Limits of ours that libvirt keeps beyond the migration that they were for.
 *
 * virDomainMigrateSetMaxSpeed() stays with the domain, as `virsh migrate-setspeed` does, and
 * would slow its next migration down, also one without virt-convoy. What was told is kept
 * in DIRECTORY/speeds until it is taken back, so that a daemon that starts again can.
 * Only domains without a limit of somebody else's get one, so taking back is lifting it.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

typedef struct Speeds Speeds;

/* Reads what an earlier daemon left; a file that cannot be believed counts as none. */
Speeds *speeds_new(const char *directory);
void speeds_free(Speeds *speeds);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Speeds, speeds_free)

/* MiB/s; 0: none of ours stands. */
uint64_t speeds_told(const Speeds *speeds, const char *uuid);

/* To be called before libvirt is told. What is no UUID or no speed is passed over. */
void speeds_tell(Speeds *speeds, const char *uuid, uint64_t mib);

/* It is taken back, or not ours any more. Absent is fine. */
void speeds_forget(Speeds *speeds, const char *uuid);

/* The UUIDs that have one; g_strfreev. */
char **speeds_list(const Speeds *speeds);
