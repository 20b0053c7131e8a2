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
from .experiment import taps_of
from .guest import DOMAIN_NAMESPACE
from .processors import ProcessorWatch
from .util import LabError, wait_until

HOSTS = ("host-a", "host-b")
FLOOR = 0.2                 # of the link, SLA lower limit of each neighbour
NEIGHBOUR = 0.4             # of the link, what it offers
STREAMS = 4                 # connections of a neighbour's traffic
NEIGHBOUR_NICE = -5         # more, and what starts for the gang takes seconds
SETTLE_SECONDS = 3.0        # what the daemon needs to know the traffic
FLOWING = 0.75              # of the rate that a workload was started with
STANDING_SECONDS = 1.0      # from typing until the classes stand: no limit is judged before
NEIGHBOURS = {"host-a": "near-a", "host-b": "near-b"}


@dataclasses.dataclass(frozen=True)
class Member:
    """One guest of a gang; MiB and MiB/s."""
    name: str
    priority: str
    memory: int = 96
    dirty_rate: int = 0
    working_set: int = 0
    technique: str | None = None        # the only one allowed

    def metadata(self):
        technique = f'<convoy:technique allow="{self.technique}"/>' if self.technique else ""
        return (f'<convoy:domain xmlns:convoy="{DOMAIN_NAMESPACE}">'
                f"<convoy:priority>{self.priority}</convoy:priority>{technique}</convoy:domain>")


# Mixed on purpose: the order of typing is neither that of priority nor of size.
GANG = (
    Member("low-big", "low", 144),
    Member("medium-small", "medium"),
    Member("low-small", "low"),
    Member("high-big", "high", 144, 1, 8),
    Member("medium-busy", "medium", 112, 1, 8),
    Member("low-busy", "low", 112, 1, 8),
    Member("high-small", "high"),
    Member("medium-big", "medium", 144),
)

GANGS = {
    "mixed": GANG,
    # More than two of high priority: they run side by side whatever the link.
    "high": tuple(dataclasses.replace(member, priority="low" if member.priority == "low" else "high")
                  for member in GANG),
    "post-copy": tuple(dataclasses.replace(member, priority="low", technique="post-copy")
                       for member in GANG),
    "hybrid": tuple(dataclasses.replace(member, technique="hybrid") for member in GANG),
    # Pre-copy would not end: the rule itself has to leave it.
    "busy": tuple(dataclasses.replace(member, dirty_rate=40, working_set=40, memory=160)
                  for member in GANG),
}

# Who has traffic beside the gang, and which way: (at the source, at the destination).
# A neighbour offers NEIGHBOUR each way; "full" is all that it can.
CELLS = {
    "idle": ("", ""),
    "source-out": ("out", ""),
    "source-in": ("in", ""),
    "destination-in": ("", "in"),
    "destination-out": ("", "out"),
    "out-in": ("out", "in"),
    "out-out": ("out", "out"),
    "in-in": ("in", "in"),
    "in-out": ("in", "out"),
    "mixed": ("in out", "in out"),
    "full-out": ("out full", ""),
    "full-in": ("", "in full"),
}


DIRECT, PEER_TO_PEER = ("--live",), ("--live", "--p2p")    # what is typed


def other(host):
    return HOSTS[1 - HOSTS.index(host)]


# What the kernel freed moves as zero pages: the benchmark is to measure order, not size.
ZERO_FREED = "init_on_free=1"


def start_guests(lab, members, host="host-a", neighbours=False):
    """All guests, booted side by side; waits until each answers.

    Neighbours, and who they talk to, get processors before the gang: an emulated guest that
    starves for a second while another QEMU starts sends nothing then, and that is no matter
    of bandwidth.
    """
    for member in members:
        lab.guests.start(member.name, host, wait=False, memory=member.memory,
                         dirty_rate=member.dirty_rate, working_set=member.working_set,
                         metadata=member.metadata(), kernel_arguments=ZERO_FREED)
    names = [member.name for member in members]
    if neighbours:
        for where, name in NEIGHBOURS.items():
            lab.guests.start(name, where, wait=False, memory=160, fill=8,
                             sla_lower=FLOOR * lab.rate)
            names.append(name)
    for name in names:
        lab.guests.wait_ready(name, timeout=180)
    for where, name in NEIGHBOURS.items():
        if neighbours:
            lab.guests.renice(name, where, NEIGHBOUR_NICE)


class Typed:
    """One `virsh migrate` that somebody typed."""

    def __init__(self, lab, name, source, flags=DIRECT):
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


def migrate(lab, members, source, timeout=300, interval=0.02, flags=DIRECT):
    """Type all of MEMBERS' migrations at once and wait; {name: Typed}."""
    typed = {member.name: Typed(lab, member.name, source, flags) for member in members}
    try:
        wait_until("end of the gang", lambda: all([one.poll() for one in typed.values()]),
                   timeout=timeout, interval=interval)
    finally:
        for one in typed.values():
            one.end()
    return typed


def start_traffic(lab, cell, source):
    """The cell's traffic; [(host, whether it goes out, id of the workload)]."""
    flows = []
    for host, words in zip((source, other(source)), CELLS[cell]):
        rate = None if "full" in words.split() else NEIGHBOUR * lab.rate
        for way in set(words.split()) - {"full"}:
            flows.append((host, way == "out", lab.workloads.start(
                f"iperf-{way}", NEIGHBOURS[host], rate=rate, streams=STREAMS)))
            lab.workloads.renice(flows[-1][2], NEIGHBOUR_NICE)
    return flows


def wait_flowing(lab, flows, cell):
    """Until the neighbours' traffic is there, and has been for SETTLE_SECONDS."""
    least = FLOOR if "full" in "".join(CELLS[cell]) else NEIGHBOUR * FLOWING
    for _, _, identity in flows:
        lab.workloads.wait_flowing(identity, least * lab.rate, SETTLE_SECONDS)


def floor_seconds(lab, rows, taps, source, flows, begin, end):
    """Seconds in which a neighbour had less than it was promised, the worst second, all seconds.

    The first are told one by one: [neighbour and way, seconds since BEGIN, Mbit/s], the last
    by neighbour and way. Whole seconds: neither the first STANDING_SECONDS after
    BEGIN nor what is left of a second before END is looked at. TAPS are the neighbours'.
    """
    below, worst, each = [], None, {}
    for host, outgoing, _ in flows:
        flow = f"{NEIGHBOURS[host]} {'out' if outgoing else 'in'}"
        # Where it is the client's only traffic, the client's link tells it in one. Else what
        # comes in is what its tap delivers, and what goes out is what is not the migrations'
        # on its link: those are counted before the switch's queue, which the host leaves
        # empty. In front of the destination it need not be.
        if len(flows) == 1:
            seen = series.from_rows(rows, lambda row, o=outgoing: (
                row["link"]["client"]["down" if o else "up"]))
        elif outgoing:
            seen = series.from_rows(rows, lambda row, h=host: (
                row["link"][h]["up"] - (row["migration"][source] if h == source else 0)))
        else:
            seen = series.from_rows(rows, lambda row, h=host: sum(
                row["taps"][h].get(tap, {}).get("in", 0)
                for where, tap in taps if where == h))
        samples = series.samples(seen, begin + STANDING_SECONDS, end)
        below += [[flow, round(moment - begin, 2), round(value, 1)]
                  for moment, value in samples if value < FLOOR * lab.rate]
        each[flow] = [round(value, 1) for _, value in samples]
        worst = min(each[flow] + ([worst] if worst is not None else []), default=None)
    return below, worst, each


def mean_of(lists):
    """Of all their values; None where there is none."""
    values = [value for one in lists for value in one]
    return round(sum(values) / len(values), 1) if values else None


def run_cell(lab, members, cell, source, flags=DIRECT):
    """One gang beside CELL's traffic. Figures of the run."""
    flows = start_traffic(lab, cell, source)
    try:
        wait_flowing(lab, flows, cell)
        if not flows:
            time.sleep(SETTLE_SECONDS)
        taps = {tap for host, _, _ in flows for tap in taps_of(lab, NEIGHBOURS[host])}
        with lab.link_sampler() as sampler:
            processors = ProcessorWatch()
            begin = time.time()
            typed = migrate(lab, members, source, flags=flags)
            end = time.time()
            idle = processors.idle()
        below, worst, each = floor_seconds(lab, sampler.rows, taps, source, flows, begin, end)
    finally:
        for _, _, identity in flows:
            lab.workloads.stop(identity)
    failed = {name: one.stderr for name, one in typed.items() if one.process.returncode != 0}
    if failed:
        raise LabError(f"migrations failed: {failed}")
    seconds = {name: round(one.seconds, 2) for name, one in typed.items()}
    moved = series.from_rows(sampler.rows, lambda row: row["migration"][source])
    return {"source": source, "makespan_s": max(seconds.values()),
            "completions_s": round(sum(seconds.values()), 2),
            "order": sorted(seconds, key=seconds.get), "seconds": seconds,
            "cpu_idle": round(idle, 2), "below_floor_s": float(len(below)), "below_floor": below,
            "worst_second_mbit_s": worst, "neighbour_mbit_s": mean_of(each.values()),
            "neighbours_mbit_s": each,
            "moved_mib": round(series.amount(moved, begin, end) * 1e6 / 8 / (1 << 20), 1),
            "seconds_mbit_s": [round(value) for _, value in series.samples(moved, begin, end)]}


def order_kept(members, order):
    """Every high-priority guest arrived before every other one."""
    high = [member.name for member in members if member.priority == "high"]
    return sorted(order[:len(high)]) == sorted(high)
