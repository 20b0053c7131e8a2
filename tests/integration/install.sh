#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# `make install` below a DESTDIR: what the unit, the drop-ins and the hook name is there;
# `make uninstall` leaves the configuration and what is not ours. TAP.
set -eu

cd "$(dirname "$0")/../.."
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
number=0

ok() { # what, status
    number=$((number + 1))
    if [ "$2" = 0 ]; then echo "ok $number - $1"; else
        echo "not ok $number - $1"
    fi
}

check() { # what, command
    local status=0
    "${@:2}" || status=$?
    ok "$1" "$status"
}

files() { (cd "$root" && find . ! -type d | sort); }
# A systemd setting's program or the library that is preloaded.
setting() { sed -n "s|^$1=-\\?\\([^ ]*\\).*|\\1|p" "$root$2"; }
equal() { [ "$1" = "$2" ] || { echo "# '$1', wanted '$2'"; return 1; }; }

mkdir -p "$root/etc/systemd/system/libvirtd.service.d" "$root/etc/libvirt/hooks/qemu.d"
touch "$root/etc/systemd/system/libvirtd.service.d/other.conf" "$root/etc/libvirt/hooks/qemu.d/other"
make -s install "DESTDIR=$root" PREFIX=/opt/convoy

unit=/opt/convoy/lib/systemd/system/virt-convoyd.service
for program in $(setting ExecStart $unit) $(setting ExecStopPost $unit); do
    check "the unit's $program is installed" test -x "$root$program"
done
for service in libvirtd virtqemud; do
    drop_in=/etc/systemd/system/$service.service.d/virt-convoy.conf
    check "$service's preloaded library is installed" \
        test -f "$root$(setting Environment=LD_PRELOAD $drop_in)"
done
check "the hook is a program" test -x "$root$(readlink "$root/etc/libvirt/hooks/qemu.d/virt-convoy")"
check "the daemon starts" "$root/opt/convoy/sbin/virt-convoyd" --version
check "no place holder is left" equal "$(grep -rl '@[A-Z]*@' "$root/etc" "$root/opt/convoy/lib/systemd" || test $? = 1)" ""

echo '# mine' >> "$root/etc/virt-convoy/virt-convoy.conf"
before=$(files)
make -s install "DESTDIR=$root" PREFIX=/opt/convoy
check "installed again: the same files" equal "$(files)" "$before"
check "installed again: a changed configuration stays" \
    grep -q '# mine' "$root/etc/virt-convoy/virt-convoy.conf"

make -s uninstall "DESTDIR=$root" PREFIX=/opt/convoy
check "uninstalled: the configuration and what others put there stay" equal "$(files)" \
    "./etc/libvirt/hooks/qemu.d/other
./etc/systemd/system/libvirtd.service.d/other.conf
./etc/virt-convoy/virt-convoy.conf"
check "uninstalled: no empty folder of ours" \
    test ! -e "$root/opt/convoy/lib/virt-convoy" -a ! -e "$root/etc/systemd/system/virtqemud.service.d"
check "uninstalled twice: nothing to do" make -s uninstall "DESTDIR=$root" PREFIX=/opt/convoy

echo "1..$number"
