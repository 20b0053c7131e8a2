# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rows about what lies around the daemon: NICs, links, clocks, whole hosts, crowds."""

import re
import time

from ground import OTHER, run, wait_until
from rows import LATEST
from convoylab import network  # found by ground

AWAY_SECONDS = 4.0              # well below what libvirt's keepalive allows (30 s)

# ---- the NIC ------------------------------------------------------------------


class Nic:
    """A host's uplink eth0: a port of its bridge br0, and one end of a veth.

    Each way of losing it gives back a function that undoes it.
    """

    def __init__(self, ground, host):
        self.ground, self.host, self.lab = ground, host, ground.lab
        self.node = ground.host(host)
        self.port = f"sw-{host[-1]}"

    def ip(self, *argv):
        return self.node.run("ip", *argv).stdout

    def ip_outside(self, node, *argv):
        """Like ip, but the lab's namespaces have names there."""
        return run(network.in_namespace(network.namespace(self.lab.name, node), "ip", *argv))

    def down(self):
        self.ip("link", "set", "eth0", "down")
        return lambda: self.ip("link", "set", "eth0", "up")

    def renamed(self):
        """It stays the bridge's port and carries traffic, under another name."""
        self.change_name("eth0", "away0")
        return lambda: self.change_name("away0", "eth0")

    def change_name(self, old, new):
        self.ip("link", "set", old, "down")
        self.ip("link", "set", old, "name", new)
        self.ip("link", "set", new, "up")

    def moved(self):
        """Into another namespace; the kernel takes its qdiscs off on the way."""
        away = f"away-{self.host[-1]}"
        self.ip_outside(self.host, "link", "set", "eth0", "netns",
                        network.namespace(self.lab.name, "client"), "name", away)

        def undo():
            self.ip_outside("client", "link", "set", away, "netns",
                            network.namespace(self.lab.name, self.host), "name", "eth0")
            self.ip("link", "set", "eth0", "master", "br0", "up")
            self.rebase()
        return undo

    def deleted(self):
        """The device is destroyed; what comes back is another one of the same name."""
        mac = re.search(r"link/ether (\S+)", self.ip("link", "show", "eth0"))[1]
        self.ip("link", "del", "eth0")

        def undo():
            letter = self.host[-1]
            # A device of another index in between, as after hot-plugging.
            self.lab.execute("switch", "ip", "link", "del", f"ifb-{letter}")
            network.create_port(self.lab.name, self.host, letter, self.lab.rate)
            self.ip("link", "set", "eth0", "address", mac, "master", "br0", "up")
            self.rebase()
        return undo

    def rebase(self):
        """The text to compare with names the index of the device; it has another one now."""
        head = re.search(r"^\d+: (eth0@if\d+):", self.ip("link", "show", "eth0"), re.MULTILINE)
        before = self.ground.before[self.host]
        number = head[0].split(":")[0]
        before = re.sub(r"^\d+: eth0@if\d+:", f"{number}: {head[1]}:", before, flags=re.MULTILINE)
        self.ground.before[self.host] = before


NIC_WAYS = ("down", "renamed", "moved", "deleted")


def nic_vanishes(ground, times):
    """The uplink is lost in the middle and put back: noticed, told, not fought over."""
    for number in range(times):
        technique, flags = ground.choose()
        way = NIC_WAYS[number % len(NIC_WAYS)]
        host = ground.random.choice(("host-a", "host-b"))
        title = f"{technique} {flags[-1]}, eth0 of {host} {way}"
        nic = Nic(ground, host)
        log = ground.log_position(host)
        with ground.under_way(flags, LATEST) as running:
            undo = getattr(nic, way)()
            try:
                ground.check_logged(host, log, "uplink-gone" if way != "down" else "uplink-down",
                                    title)
                begun = time.monotonic()
                wait_until("some time without it",
                           lambda: time.monotonic() - begun > AWAY_SECONDS)
            finally:
                undo()
            ground.check_logged(host, log, "uplink-back", title)
        ground.outcome_is(running, True, title)
        ground.settle(title, OTHER[running.source])


# name: (row, times in the whole suite, times in make test[, times in a share])
ROWS = {
    "NIC vanishes": (nic_vanishes, 16, 1, 4),
}
