/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one place where the version stands. */
#pragma once

#define CONVOY_VERSION "0.1.0"
