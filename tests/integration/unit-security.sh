#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The daemon's unit confines it: systemd's own exposure level, offline. TAP.
set -eu
unit=$(dirname "$0")/../../install/systemd/virt-convoyd.service
limit=25 # tenths

if ! command -v systemd-analyze >/dev/null; then
    echo "1..0 # SKIP no systemd-analyze (package systemd)"
    exit 0
fi
echo 1..1
report=$(systemd-analyze security --offline=true --no-pager "$unit" 2>&1)
level=$(printf '%s\n' "$report" | sed -n 's/.*Overall exposure level[^:]*: \([0-9]*\)\.\([0-9]\).*/\1\2/p')
if [ -n "$level" ] && [ "$level" -le "$limit" ]; then
    echo "ok 1 - exposure level $(printf '%s' "$level" | sed 's/.$/.&/') of at most 2.5"
else
    echo "not ok 1 - exposure level '${level}' in tenths, at most $limit"
    printf '%s\n' "$report" | sed 's/^/# /'
    exit 1
fi
