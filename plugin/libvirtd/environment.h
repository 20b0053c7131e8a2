/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where the plugin is loaded: its name in LD_PRELOAD, and the program.
 *
 * libvirt passes LD_PRELOAD on to QEMU, where the plugin has no business. Pure
 * text functions; plugin.c applies them to the real environment.
 */
#pragma once

#include <stdbool.h>

/*
 * list (the value of LD_PRELOAD) without the entries that name the object
 * called path: the same text, or the same file name. The other entries keep
 * their order and are separated by colons. Returns malloc'ed text, "" when
 * nothing is left; NULL when memory is short or an argument is NULL.
 */
char *environment_without_object(const char *list, const char *path);

/* Whether a program of that name answers libvirt's QEMU driver calls. */
bool environment_is_driver_daemon(const char *program);
