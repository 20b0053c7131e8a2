#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What confines us: the daemon's unit by systemd's own exposure level, offline, with a
# reason in the unit for what counts against it, and the rules for libvirtd's AppArmor
# profile by AppArmor's own compiler. TAP.
set -eu
install=$(dirname "$0")/../../install
unit=$install/systemd/virt-convoyd.service
limit=25 # tenths
failed=0
PATH=$PATH:/sbin:/usr/sbin

# What is said about a result, as TAP wants it.
comment() {
    printf '%s\n' "$1" | sed 's/^/# /'
}

# What systemd counts against the unit: NAME of "User=/DynamicUser=", "AF_(INET|INET6)", ...
exposed() {
    printf '%s\n' "$1" | sed -n 's/^[^ ]* *\([^ ]*\) .* [0-9]\.[0-9] *$/\1/p' |
        sed -e 's/.*~//' -e 's/(//' -e 's/[|)].*//' -e 's/=.*//'
}

echo 1..5
if command -v systemd-analyze >/dev/null; then
    report=$(systemd-analyze security --offline=true --no-pager "$unit" 2>&1)
    level=$(printf '%s\n' "$report" |
            sed -n 's/.*Overall exposure level[^:]*: \([0-9]*\)\.\([0-9]\).*/\1\2/p')
    if [ -n "$level" ] && [ "$level" -le "$limit" ]; then
        echo "ok 1 - exposure level $(printf '%s' "$level" | sed 's/.$/.&/') of at most 2.5"
    else
        echo "not ok 1 - exposure level '${level}' in tenths, at most $limit"
        comment "$report"
        failed=1
    fi
    names=$(exposed "$report")
    silent=
    for name in $names; do
        grep -q "^#.*$name\>" "$unit" || silent="$silent $name"
    done
    if [ -n "$names" ] && [ -z "$silent" ]; then
        echo 'ok 2 - the unit says why, whatever counts against it'
    else
        echo 'not ok 2 - the unit says why, whatever counts against it'
        comment "no comment in $unit:$silent"
        failed=1
    fi
else
    echo 'ok 1 # SKIP no systemd-analyze (package systemd)'
    echo 'ok 2 # SKIP no systemd-analyze (package systemd)'
fi

# Only rules, as they stand inside libvirtd's profile; nothing is loaded.
profile() {
    echo 'profile libvirtd /usr/sbin/libvirtd {'
    sed "s|@LIBDIR@|$library|g" "$install/apparmor/local-libvirtd"
    printf '%s\n}\n' "$1"
}

# Whether the rules give a FILE all of these PERMISSIONS, one letter each.
gives() {
    given=$(profile '' | sed -n -e 's|{,var/}||' -e "s|^ *$1 \([a-z]*\),\$|\1|p")
    for letter in $(printf '%s' "$2" | sed 's/./& /g'); do
        case $given in *"$letter"*) ;; *) return 1 ;; esac
    done
}

library=/usr/lib/virt-convoy
plugin=$(sed -n "s|@LIBDIR@|$library|; s/^Environment=LD_PRELOAD=//p" \
         "$install/systemd/libvirtd.service.conf")
socket=$(sed -n 's/^#define IPC_SOCKET_DEFAULT "\(.*\)"$/\1/p' \
         "$install/../plugin/common/ipc_socket.h")
missing=
gives "$plugin" rm || missing="$missing $plugin"
gives "$socket" rw || missing="$missing $socket"
gives "$library/virt-convoy-hook" rx || missing="$missing $library/virt-convoy-hook"
if [ -n "$plugin" ] && [ -n "$socket" ] && [ -z "$missing" ]; then
    echo 'ok 3 - AppArmor rules let libvirtd load the plugin, reach the daemon and run the hook'
else
    echo 'not ok 3 - AppArmor rules let libvirtd load the plugin, reach the daemon and run the hook'
    comment "no rule, or one that gives too little:$missing"
    failed=1
fi

if command -v apparmor_parser >/dev/null; then
    if report=$(profile '' | apparmor_parser --skip-kernel-load --skip-cache 2>&1); then
        echo 'ok 4 - AppArmor compiles the rules for libvirtd'
    else
        echo 'not ok 4 - AppArmor compiles the rules for libvirtd'
        comment "$report"
        failed=1
    fi
    if profile '/x nonsense,' | apparmor_parser --skip-kernel-load --skip-cache >/dev/null 2>&1; then
        echo 'not ok 5 - and refuses nonsense'
        failed=1
    else
        echo 'ok 5 - and refuses nonsense'
    fi
else
    echo 'ok 4 # SKIP no apparmor_parser (package apparmor)'
    echo 'ok 5 # SKIP no apparmor_parser (package apparmor)'
fi
exit $failed
