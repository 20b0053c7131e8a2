/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Preloaded as a control: a program that leaks, which the sanitizer must tell. The line
 * below makes it code of the plugin for whoever reads the report: in libvirtd only that counts.
 */
#include <stdlib.h>

#define BLOCKS 16 /* one may still be found on the stack */

static void *volatile lost;

#line 1 "plugin/leaking.c"
__attribute__((constructor)) static void
leak_on_purpose(void)
{
    for (int i = 0; i < BLOCKS; i++)
        lost = malloc(4711);
    lost = NULL;
}
