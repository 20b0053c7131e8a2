# SPDX-License-Identifier: LGPL-2.1-or-later
"""A gang: several `virsh migrate` typed at once, from one host to the other.

What the benchmark and the test share. The guests stay where a run left them, and
the next run goes back: a neighbour on each host makes either direction the same
situation. Everything is seen from outside: the ends of the commands, the switch's
counters and the client's own record. Judges nothing.
"""

import dataclasses
import os
import pathlib
import signal
import subprocess
import termios
import time

from . import series
from .util import LabError, wait_until

HOSTS = ("host-a", "host-b")
FLOOR = 40.0                # Mbit/s, SLA lower limit of each neighbour
NEIGHBOUR_RATE = 80.0       # Mbit/s that it offers
STREAMS = 4                 # connections of a neighbour's traffic
SETTLE_SECONDS = 3.0        # what the daemon needs to know the traffic
NEIGHBOURS = {"host-a": "near-a", "host-b": "near-b"}


@dataclasses.dataclass(frozen=True)
class Member:
    """One guest of a gang; MiB and MiB/s."""
    name: str
    priority: str
    memory: int = 128
    dirty_rate: int = 0
    working_set: int = 0


# Mixed on purpose: the order of typing is neither that of priority nor of size.
GANG = (
    Member("low-big", "low", 160),
    Member("medium-small", "medium", 128),
    Member("low-small", "low", 128),
    Member("high-big", "high", 160, 1, 8),
    Member("medium-busy", "medium", 144, 1, 8),
    Member("low-busy", "low", 144, 1, 8),
    Member("high-small", "high", 128),
    Member("medium-big", "medium", 160),
)

# Who has traffic beside the gang, and which way: (at the source, at the destination).
CELLS = {
    "idle": (None, None),
    "source-out": ("iperf-out", None),
    "source-in": ("iperf-in", None),
    "destination-in": (None, "iperf-in"),
    "destination-out": (None, "iperf-out"),
    "out-in": ("iperf-out", "iperf-in"),
    "out-out": ("iperf-out", "iperf-out"),
    "in-in": ("iperf-in", "iperf-in"),
    "in-out": ("iperf-in", "iperf-out"),
}


def other(host):
    return HOSTS[1 - HOSTS.index(host)]


def start_guests(lab, members, host="host-a", neighbours=False):
    """All guests, booted side by side; waits until each answers."""
    for member in members:
        lab.guests.start(member.name, host, wait=False, memory=member.memory,
                         dirty_rate=member.dirty_rate, working_set=member.working_set,
                         priority=member.priority)
    names = [member.name for member in members]
    if neighbours:
        for where, name in NEIGHBOURS.items():
            lab.guests.start(name, where, wait=False, memory=160, fill=8, sla_lower=FLOOR)
            names.append(name)
    for name in names:
        lab.guests.wait_ready(name, timeout=180)


class Typed:
    """One `virsh migrate` that somebody typed."""

    def __init__(self, lab, name, source, flags=("--live",)):
        self.name = name
        self.clock = time.monotonic()
        # virsh takes Ctrl-C from its terminal as a character.
        self.keyboard, terminal = os.openpty()
        self.process = subprocess.Popen(
            lab.migrations.argv(name, source, other(source), flags), cwd="/", text=True,
            stdin=terminal, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        os.close(terminal)
        self.seconds = None
        self.stderr = ""

    def poll(self):
        """Whether it has ended; notes when."""
        if self.seconds is None and self.process.poll() is not None:
            self.seconds = time.monotonic() - self.clock
            self.stderr = self.process.stderr.read().strip()
        return self.seconds is not None

    def virsh_pid(self):
        """virsh itself: nsenter in front of it passes no signal on."""
        path = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        children = path.read_text(encoding="ascii").split()
        return int(children[0]) if children else self.process.pid

    def press_ctrl_c(self):
        """virsh reads it as a character from when it has seen a job of the domain."""
        def listening():
            characters = termios.tcgetattr(self.keyboard)[6]
            return characters[termios.VINTR] == b"\0"
        wait_until(f"virsh of {self.name} to read the terminal", listening, timeout=10)
        os.write(self.keyboard, b"\x03")

    def kill(self):
        os.kill(self.virsh_pid(), signal.SIGKILL)

    def end(self):
        if not self.poll():
            self.process.kill()
            self.process.wait()
        if self.keyboard is not None:
            os.close(self.keyboard)
            self.keyboard = None


def migrate(lab, members, source, timeout=300, interval=0.02):
    """Type all of MEMBERS' migrations at once and wait; {name: Typed}."""
    typed = {member.name: Typed(lab, member.name, source) for member in members}
    try:
        wait_until("end of the gang", lambda: all([one.poll() for one in typed.values()]),
                   timeout=timeout, interval=interval)
    finally:
        for one in typed.values():
            one.end()
    return typed


def start_traffic(lab, cell, source):
    """The cell's traffic; {host: id of its workload}."""
    flows = {}
    for host, kind in zip((source, other(source)), CELLS[cell]):
        if kind:
            flows[host] = lab.workloads.start(kind, NEIGHBOURS[host], rate=NEIGHBOUR_RATE,
                                             streams=STREAMS)
    return flows


def floor_seconds(lab, rows, source, flows, begin, end):
    """Seconds in which a neighbour had less than it was promised, and the worst second."""
    below, worst = 0.0, None
    for host, identity in flows.items():
        outgoing = identity.startswith("iperf-out")
        # The migrations' part of that link and direction is not the neighbour's.
        migrating = (host == source) == outgoing
        seen = series.from_rows(rows, lambda row, h=host, o=outgoing, m=migrating: (
            row["link"][h]["up" if o else "down"] - (row["migration"][source] if m else 0)))
        # A second after the start the classes stand.
        samples = series.samples(seen, begin + 1, end)
        below += sum(1.0 for _, value in samples if value < FLOOR)
        values = [value for _, value in samples] + ([worst] if worst is not None else [])
        worst = min(values) if values else worst
    return below, worst


def run_cell(lab, members, cell, source):
    """One gang beside CELL's traffic. Figures of the run."""
    flows = start_traffic(lab, cell, source)
    try:
        time.sleep(SETTLE_SECONDS)
        with lab.link_sampler() as sampler:
            begin = time.time()
            typed = migrate(lab, members, source)
            end = time.time()
        below, worst = floor_seconds(lab, sampler.rows, source, flows, begin, end)
    finally:
        for identity in flows.values():
            lab.workloads.stop(identity)
    failed = {name: one.stderr for name, one in typed.items() if one.process.returncode != 0}
    if failed:
        raise LabError(f"migrations failed: {failed}")
    seconds = {name: round(one.seconds, 2) for name, one in typed.items()}
    moved = series.from_rows(sampler.rows, lambda row: row["migration"][source])
    return {"source": source, "makespan_s": max(seconds.values()),
            "completions_s": round(sum(seconds.values()), 2),
            "order": sorted(seconds, key=seconds.get), "seconds": seconds,
            "below_floor_s": below,
            "worst_second_mbit_s": None if worst is None else round(worst, 1),
            "moved_mib": round(series.amount(moved, begin, end) * 1e6 / 8 / (1 << 20), 1)}


def order_kept(members, order):
    """Every high-priority guest arrived before every other one."""
    high = [member.name for member in members if member.priority == "high"]
    return sorted(order[:len(high)]) == sorted(high)
