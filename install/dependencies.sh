#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Installs what is missing on Debian or Ubuntu, and nothing else:
#   dependencies.sh build|test|fuzz|lab|demo [...]
# Starts no service: packages that want to are told not to, and what they
# enable stays as the package leaves it. Quiet when nothing is missing.
set -eu

usage() {
    echo "usage: $0 build|test|fuzz|lab|demo [...]" >&2
    exit 2
}

build="gcc libc6-dev make pkg-config libglib2.0-dev libglib2.0-dev-bin libvirt-dev
 libvirt-glib-1.0-dev libxml2-dev libjson-glib-dev libnl-3-dev libnl-route-3-dev libdbus-1-dev"
test="$build perl libxml2-utils python3 iproute2 apparmor"
lab="$build libvirt-daemon-system libvirt-clients libvirt-daemon-driver-qemu qemu-system-x86
 qemu-utils iproute2 iperf3 iputils-ping memcached busybox-static cpio kmod dpkg-dev procps
 python3 python3-libvirt libfaketime"
demo="$lab gnuplot-nox"

# The sanitizer runtime has the version of the clang that is or will be there.
fuzz_packages() {
    version=$(clang --version 2>/dev/null | sed -n 's/.*clang version \([0-9]*\).*/\1/p')
    if [ -z "$version" ]; then
        version=$(apt-cache depends clang 2>/dev/null |
                  sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -n 1)
    fi
    echo "$build clang${version:+ libclang-rt-$version-dev}"
}

# A package counts when it is installed, or another one provides its name.
is_installed() {
    state=$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) || return 1
    [ "$state" = installed ]
}

# With an index that was never fetched every package looks unknown.
index_present() {
    for list in /var/lib/apt/lists/*_Packages*; do
        [ -e "$list" ] && return 0
    done
    return 1
}

updated=no
index_update() {
    if [ "$updated" = no ]; then
        "$@" apt-get -qq update || {
            echo "$0: apt-get update failed; is a package mirror reachable?" >&2
            exit 1
        }
        updated=yes
    fi
}

policy=/usr/sbin/policy-rc.d
policy_made=no
policy_remove() {
    [ "$policy_made" = no ] || $root rm -f "$policy"
}

[ $# -gt 0 ] || usage
for kind in "$@"; do
    case $kind in
    build | test | fuzz | lab | demo) ;;
    *) usage ;;
    esac
done
if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "$0: needs apt (Debian, Ubuntu). Install by hand:" $build >&2
    exit 1
fi

root=
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null; then
        root=sudo
    else
        root=false
    fi
fi

wanted=
for kind in "$@"; do
    case $kind in
    build) wanted="$wanted $build" ;;
    test) wanted="$wanted $test" ;;
    lab) wanted="$wanted $lab" ;;
    demo) wanted="$wanted $demo" ;;
    fuzz)
        if ! command -v clang >/dev/null && ! index_present; then
            index_update $root
        fi
        wanted="$wanted $(fuzz_packages)"
        ;;
    esac
done

missing=
for package in $wanted; do
    case " $missing " in
    *" $package "*) continue ;;
    esac
    is_installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$root" = false ]; then
    echo "$0: must be root to install:$missing" >&2
    exit 1
fi
index_present || index_update $root

# Somebody else's policy stays; without one, ours forbids starting services.
trap policy_remove EXIT
trap 'exit 1' HUP INT TERM
if [ ! -e "$policy" ]; then
    policy_made=yes
    printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null
    $root chmod 755 "$policy"
fi

echo "$0: installing:$missing" >&2
log=$(mktemp)
install_missing() {
    $root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
        install $missing >"$log" 2>&1 &
    installer=$!
    seconds=0
    while kill -0 "$installer" 2>/dev/null; do
        sleep 1
        seconds=$((seconds + 1))
        [ $((seconds % 10)) -ne 0 ] || echo "$0: installing, $seconds s" >&2
    done
    wait "$installer"
}
# A stale index names files the mirror no longer has: fetch it and try once more.
if ! install_missing; then
    index_update $root
    if ! install_missing; then
        echo "$0: cannot install:$missing" >&2
        tail -n 20 "$log" >&2
        rm -f "$log"
        exit 1
    fi
fi
rm -f "$log"
