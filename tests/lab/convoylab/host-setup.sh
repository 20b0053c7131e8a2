#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# First process of a lab host: gives the host its own mounts, then holds its
# namespaces. Arguments: the host's folder, its name, and "kvm" where that works.

set -e
mount --make-rprivate /
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs "$1/dev"
mkdir "$1/dev/shm" "$1/dev/pts" "$1/dev/net"
for node in null zero full random urandom tty ptmx net/tun userfaultfd $3; do
    [ -e "/dev/$node" ] || continue
    : > "$1/dev/$node"
    mount --bind "/dev/$node" "$1/dev/$node"
done
mount --bind /dev/pts "$1/dev/pts"
mount -t tmpfs tmpfs "$1/dev/shm"
ln -s /proc/self/fd "$1/dev/fd"
mount --move "$1/dev" /dev
mount -t overlay -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/etc.work" overlay /etc
mount -t overlay -o "lowerdir=/var,upperdir=$1/var,workdir=$1/var.work" overlay /var
for directory in etc/libvirt etc/virt-convoy var/lib/libvirt var/log/libvirt var/cache/libvirt \
                 var/lib/virt-convoy var/log/virt-convoy; do
    mkdir -p "/$directory"
    mount --bind "$1/$directory.private" "/$directory"
done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/libvirt /run/virt-convoy-lab
hostname "$2"
echo "$2" > /etc/hostname
: > "$1/ready"
# This shell is the namespace's init: while it waits, it also reaps orphans.
sleep infinity &
wait
