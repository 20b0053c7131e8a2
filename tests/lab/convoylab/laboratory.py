# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab as a whole: up, down, status, and the way to all its parts."""

import os
import re
import shutil

from . import image, network
from .guest import Guests
from .host import Host
from .migration import Migrations
from .sampler import LinkSampler
from .util import LabError, STATE, progress, read_json, remove_locks, run, write_json
from .workload import Workloads

DEFAULT_RATE = 400
CLIENT_RATE_FACTOR = 4


class Lab:
    """One lab by its name. Objects are cheap; the state is on disk and in the kernel."""

    def __init__(self, name="lab"):
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name):
            raise LabError(f"'{name}' is not a lab name")
        self.name = name
        self.directory = STATE / name
        self.holders = {}
        self.hosts = {host: Host(self, host) for host in ("host-a", "host-b")}
        self.guests = Guests(self)
        self.workloads = Workloads(self)
        self.migrations = Migrations(self)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.down()

    @property
    def rate(self):
        """Emulated link rate in Mbit/s."""
        return (read_json(self.directory / "lab.json") or {}).get("rate", DEFAULT_RATE)

    def up(self, rate=DEFAULT_RATE, mode="none", client_rate=None, config=None):
        """Build the lab; what an earlier lab of this name left is removed first."""
        self.down(quiet=True)
        image.ensure()
        image.accelerator()
        self.directory.mkdir(parents=True)
        write_json(self.directory / "lab.json", {"rate": rate})
        with progress(f"starting lab {self.name}"):
            network.create(self.name, rate, client_rate or rate * CLIENT_RATE_FACTOR)
            for node in ("switch", "client"):
                self.holders[node] = network.hold(self.name, node)
            for host in self.hosts.values():
                host.create()
            for host in self.hosts.values():
                host.set_mode(mode, config=config)
            # The first answer probes QEMU; the next lab is spared that.
            for host in self.hosts.values():
                host.virsh("domcapabilities", "--virttype", image.accelerator())
            self.hosts["host-a"].save_capabilities()
        return self

    def down(self, quiet=False):
        """Remove everything. Works on half-built labs and may be repeated."""
        existed = self.directory.exists()
        if existed or not quiet:
            with progress(f"stopping lab {self.name}"):
                network.destroy(self.name)
        else:
            network.destroy(self.name)
        self.holders.clear()
        shutil.rmtree(self.directory, ignore_errors=True)
        network.restore_congestion_control(lambda: [name for name in lab_names()
                                                    if name != self.name])
        remove_state_folder()

    def is_up(self):
        return all(host.holder() for host in self.hosts.values())

    def status(self):
        if not self.is_up():
            return {"name": self.name, "up": False}
        return {"name": self.name, "up": True, "rate": self.rate,
                "accelerator": image.accelerator(),
                "hosts": {host.name: {**host.mode(),
                                      "libvirtd": host.connectable("/run/libvirt/libvirt-sock"),
                                      "virt-convoyd": host.connectable("/run/virt-convoy/socket")}
                          for host in self.hosts.values()},
                "guests": self.guests.list(), "workloads": self.workloads.list()}

    def host(self, name):
        if name not in self.hosts:
            raise LabError(f"'{name}' is not a host: host-a or host-b")
        return self.hosts[name]

    def holder(self, node):
        """A process that lives in NODE's network namespace."""
        if node in self.hosts:
            self.hosts[node].argv()
        elif not self.holders.get(node):
            found = network.pids(network.namespace(self.name, node))
            if not found:
                raise LabError(f"{node} of lab {self.name} is not up")
            self.holders[node] = found[0]
        return self.holders[node]

    def client_argv(self, *argv):
        return network.in_namespace(network.namespace(self.name, "client"), *argv)

    def node_argv(self, node, *argv):
        """Argument vector that runs ARGV on any node of the lab."""
        if node in self.hosts:
            return self.hosts[node].argv(*argv)
        if node not in network.NAMESPACES:
            raise LabError(f"'{node}': one of {', '.join(network.NAMESPACES)}")
        if not network.namespace_exists(network.namespace(self.name, node)):
            raise LabError(f"lab {self.name} is not up")
        return network.in_namespace(network.namespace(self.name, node), *argv)

    def execute(self, node, *argv, **options):
        return run(self.node_argv(node, *argv), **options)

    def hosts_file(self):
        lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
        for node, (_, ip4, ip6) in network.NODES.items():
            lines += [f"{ip4} {node}", f"{ip6} {node}-v6"]
        return "\n".join(lines) + "\n"

    def set_rate(self, node, rate):
        network.set_rate(self.name, node, rate)

    def network_snapshot(self, host, taps=False):
        return self.host(host).network_snapshot(taps)

    def link_sampler(self, interval=0.25):
        return LinkSampler(self, interval)

    def save_decisions(self, title, folder):
        """What both daemons decided, as FOLDER/TITLE-HOST.jsonl: input for virt-convoy replay."""
        for host in self.hosts.values():
            answer = host.run("cat", "/var/lib/virt-convoy/decisions.jsonl", check=False)
            if answer.returncode == 0:
                with open(os.path.join(folder, f"{title}-{host.name}.jsonl"), "w",
                          encoding="utf-8") as file:
                    file.write(answer.stdout)

    def leftovers(self):
        """Whatever of this lab still exists, as a list of texts."""
        left = [f"namespace {network.namespace(self.name, node)}" for node in network.NAMESPACES
                if network.namespace_exists(network.namespace(self.name, node))]
        if self.directory.exists():
            left.append(f"folder {self.directory}")
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            left += [f"mount {line.split()[4]}" for line in mounts
                     if str(self.directory) in line or f"/netns/{self.name}-" in line]
        mark = str(self.directory)
        for line in run(["ps", "-eww", "-o", "pid=,args="]).stdout.splitlines():
            if mark in line:
                left.append(f"process {line.strip()}")
        return left


def lab_names():
    if not STATE.exists():
        return []
    return sorted(path.name for path in STATE.iterdir() if path.is_dir())


def remove_state_folder():
    """Remove the common folder after the last lab; never another lab's."""
    if not STATE.exists() or lab_names():
        return
    remove_locks()
    try:
        STATE.rmdir()
    except OSError:
        return                      # another lab has just begun
