# SPDX-License-Identifier: LGPL-2.1-or-later
"""Throughput over time, read from counters without disturbing the links."""

import os
import threading
import time

from . import network
from .background import Background


class LinkSampler(Background):
    """Samples the switch ports, the VM taps and the migration ports.

    Use as a context; `rows` then holds one dictionary per interval, in Mbit/s:
      time; link: {node: {up, down}}; migration: {node: sent}; taps: {host: {vnetN: {in, out}}}
    where in and out are seen from the VM. All count as a wire does: taps what QEMU handed
    over or took, links what left the switch's queue, migrations what entered it.
    """

    def __init__(self, lab, interval=0.25):
        self.lab, self.interval = lab, interval
        self.rows = []
        super().__init__()

    def __enter__(self):
        self.previous = self.read()
        return super().__enter__()

    def read(self):
        taps = {}
        for host in self.lab.hosts:
            counters = network.device_bytes(self.lab.holder(host))
            taps[host] = {device: values for device, values in counters.items()
                          if device.startswith("vnet")}
        # A command takes a while to start where processors are busy: it read in between.
        begin, offset = time.monotonic(), time.time() - time.monotonic()
        switch, migration = network.switch_bytes(self.lab.name)
        clock = (begin + time.monotonic()) / 2
        return {"time": clock + offset, "clock": clock, "switch": switch,
                "migration": migration, "taps": taps}

    def loop(self):
        # Where processors are full a late reading looks like a second without traffic. Linux
        # takes a thread's number, and what the thread starts inherits it.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -10)
        while not self.stopping.wait(self.interval):
            current = self.read()
            self.rows.append(self.difference(self.previous, current))
            self.previous = current

    @staticmethod
    def difference(old, new):
        seconds = new["clock"] - old["clock"]

        def mbit(after, before):
            return round(max(after - before, 0) * 8 / seconds / 1e6, 2)

        link = {}
        for node, (letter, _, _) in network.NODES.items():
            after, before = new["switch"][f"sw-{letter}"], old["switch"][f"sw-{letter}"]
            # The ifb has sent what its tbf let pass: that is what the link carried.
            ifb_after, ifb_before = new["switch"][f"ifb-{letter}"], old["switch"][f"ifb-{letter}"]
            link[node] = {"up": mbit(ifb_after, ifb_before), "down": mbit(after, before)}
        taps = {}
        for host, devices in new["taps"].items():
            taps[host] = {}
            for device, (received, sent) in devices.items():
                before = old["taps"][host].get(device, (received, sent))
                # What the tap receives is what the VM sends.
                taps[host][device] = {"in": mbit(sent, before[1]), "out": mbit(received, before[0])}
        return {"time": new["time"], "link": link, "taps": taps,
                "migration": {node: mbit(value, old["migration"][node])
                              for node, value in new["migration"].items()}}
