/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Preloaded into libvirtd beside the address sanitizer: libvirt would pass
 * LD_PRELOAD on to QEMU, which has no business with it.
 */
#include <stdlib.h>

__attribute__((constructor)) static void
leave_environment(void)
{
    unsetenv("LD_PRELOAD");
}
