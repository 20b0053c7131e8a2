#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What confines us: the daemon's unit by systemd's own exposure level, offline, and the
# rules for libvirtd's AppArmor profile by AppArmor's own compiler. TAP.
set -eu
install=$(dirname "$0")/../../install
limit=25 # tenths
failed=0
PATH=$PATH:/sbin:/usr/sbin

# What is said about a result, as TAP wants it.
comment() {
    printf '%s\n' "$1" | sed 's/^/# /'
}

echo 1..3
if command -v systemd-analyze >/dev/null; then
    report=$(systemd-analyze security --offline=true --no-pager \
             "$install/systemd/virt-convoyd.service" 2>&1)
    level=$(printf '%s\n' "$report" |
            sed -n 's/.*Overall exposure level[^:]*: \([0-9]*\)\.\([0-9]\).*/\1\2/p')
    if [ -n "$level" ] && [ "$level" -le "$limit" ]; then
        echo "ok 1 - exposure level $(printf '%s' "$level" | sed 's/.$/.&/') of at most 2.5"
    else
        echo "not ok 1 - exposure level '${level}' in tenths, at most $limit"
        comment "$report"
        failed=1
    fi
else
    echo 'ok 1 # SKIP no systemd-analyze (package systemd)'
fi

# Only rules, as they stand inside libvirtd's profile; nothing is loaded.
profile() {
    echo 'profile libvirtd /usr/sbin/libvirtd {'
    sed 's|@LIBDIR@|/usr/lib/virt-convoy|g' "$install/apparmor/local-libvirtd"
    printf '%s\n}\n' "$1"
}

if command -v apparmor_parser >/dev/null; then
    if report=$(profile '' | apparmor_parser --skip-kernel-load --skip-cache 2>&1); then
        echo 'ok 2 - AppArmor compiles the rules for libvirtd'
    else
        echo 'not ok 2 - AppArmor compiles the rules for libvirtd'
        comment "$report"
        failed=1
    fi
    if profile '/x nonsense,' | apparmor_parser --skip-kernel-load --skip-cache >/dev/null 2>&1; then
        echo 'not ok 3 - and refuses nonsense'
        failed=1
    else
        echo 'ok 3 - and refuses nonsense'
    fi
else
    echo 'ok 2 # SKIP no apparmor_parser (package apparmor)'
    echo 'ok 3 # SKIP no apparmor_parser (package apparmor)'
fi
exit $failed
