# SPDX-License-Identifier: LGPL-2.1-or-later
"""A measured migration beside a neighbour that uses the same link.

What the demonstration, the benchmarks and the tests share: put the guests in
place, let the neighbour settle, run the very command a user types, and turn what
was seen from outside (switch counters, the client, QEMU, the kernel's tc) into
figures. virt-convoy's own log is never a source of a figure. Judges nothing.

Rates are bits on the link, headers included, as tc and the SLA limits count them.
"""

import dataclasses
import shlex
import sys
import threading
import time

from . import series
from .background import Background
from .host import component
from .processors import ProcessorWatch
from .util import LabError, progress, wait_until

SOURCE, DESTINATION = "host-a", "host-b"
VM, NEIGHBOUR = "web", "db"
MIB = 1 << 20
COMMAND = f"virsh migrate --live {VM} qemu+tcp://{DESTINATION}/system"
RESTORE_SECONDS = 15


@dataclasses.dataclass
class Setup:
    """One situation; sizes in MiB, rates in Mbit/s unless the name says otherwise."""
    mode: str = "none"                  # of both hosts: none, full, hook-only
    priority: str | None = "high"       # of the VM that migrates
    memory: int = 384
    dirty_rate: int = 2                 # MiB/s
    working_set: int = 32
    max_downtime: int | None = None     # ms, in the VM's metadata
    neighbour: bool = True
    neighbour_rate: float | None = None     # None: all it can get
    neighbour_streams: int = 4
    neighbour_memory: int = 192
    # After this long the neighbour falls silent, so that a starved migration ends
    # at last. Its time is then less than it would have been; None: never silent.
    neighbour_seconds: float | None = None
    floor: float | None = 40.0          # SLA lower limit of the neighbour
    flags: tuple = ("--live",)
    before_seconds: float = 8.0
    after_seconds: float = 3.0
    config: dict | None = None          # extra sections of virt-convoy.conf


@dataclasses.dataclass
class Result:
    """What was measured. Times are seconds, `at_` ones on the wall clock."""
    setup: Setup
    returncode: int
    stderr: str
    technique: str                      # by QEMU's own statistics
    total_migration_time_s: float       # of the virsh command
    downtime_ms: float                  # longest silence towards the client
    workload_before_mbit_s: float | None
    workload_during_mbit_s: float | None    # while memory moves
    floor_mbit_s: float | None
    below_floor_s: float | None         # 1 s samples, from 1 s after the start (below)
    worst_second_mbit_s: float | None
    moved_mib: float                    # bytes to the migration ports
    at_before: float
    at_command: float
    at_transfer: float                  # first bytes on the migration ports
    at_shaped: float | None             # tc stands on the source; None: never
    at_end: float
    shaped_after_s: float | None        # at_shaped - at_transfer
    vm_host: str | None                 # where the VM answers afterwards
    counter_went_on: bool
    network_restored: dict              # host: bool
    iterations: int
    cpu_idle_before: float              # share of the machine's processors, 0 to 1
    cpu_idle_during: float
    at_silent: float | None = None      # the neighbour gave up waiting (neighbour_seconds)
    workload: list = dataclasses.field(repr=False, default_factory=list)
    migration: list = dataclasses.field(repr=False, default_factory=list)
    network_difference: str = ""
    counter_note: str = ""              # the VM's answers before, during and after
    explain: str = ""

    def figures(self):
        """The figures alone, rounded, as the demonstration reports them."""
        def short(value, digits):
            return None if value is None else round(value, digits)
        return {"technique": self.technique,
                "total_migration_time_s": short(self.total_migration_time_s, 2),
                "downtime_ms": short(self.downtime_ms, 1),
                "workload_before_mbit_s": short(self.workload_before_mbit_s, 1),
                "workload_during_mbit_s": short(self.workload_during_mbit_s, 1),
                "below_floor_s": self.below_floor_s,
                "worst_second_mbit_s": short(self.worst_second_mbit_s, 1),
                "moved_mib": short(self.moved_mib, 1),
                "iterations": self.iterations,
                "shaped_after_s": short(self.shaped_after_s, 2),
                "neighbour_silent_after_s": None if self.at_silent is None
                else short(self.at_silent - self.at_command, 1),
                "cpu_idle_before": short(self.cpu_idle_before, 2),
                "cpu_idle_during": short(self.cpu_idle_during, 2)}

    def workload_loss(self):
        """Part of its throughput that the workload lost, 0 to 1."""
        return 1 - self.workload_during_mbit_s / self.workload_before_mbit_s


class ShapingWatch(Background):
    """Notes when the kernel shows an HTB on the host's uplink, and when no longer."""

    def __init__(self, lab, host=SOURCE, device="eth0", interval=0.1):
        self.lab, self.host, self.device, self.interval = lab, host, device, interval
        self.first = None
        super().__init__()

    def loop(self):
        argv = ("tc", "filter", "show", "dev", self.device)
        # A filter is the last step: with it the classes hold.
        while self.first is None and not self.stopping.wait(self.interval):
            if "flowid" in self.lab.execute(self.host, *argv, check=False).stdout:
                self.first = time.time()


class Ticker(Background):
    """Says every few seconds how far a long migration is."""

    EVERY = 5.0

    def __init__(self, rows):
        self.rows = rows
        super().__init__()

    def loop(self):
        started = time.time()
        while not self.stopping.wait(self.EVERY):
            now = time.time()
            moved = series.from_rows(list(self.rows), lambda row: row["migration"][SOURCE])
            mib = series.amount(moved, started, now) * 1e6 / 8 / MIB
            print(f"lab:   {now - started:.0f} s, {mib:.0f} MiB moved", file=sys.stderr,
                  flush=True)


class Silencer:
    """Stops the neighbour's traffic when the migration takes longer than SECONDS."""

    def __init__(self, lab, workload, seconds):
        self.lab, self.workload, self.at = lab, workload, None
        self.timer = threading.Timer(seconds or 0, self.stop)
        self.wanted = bool(workload and seconds)

    def __enter__(self):
        if self.wanted:
            self.timer.start()
        return self

    def __exit__(self, *unused):
        self.timer.cancel()
        if self.wanted:
            self.timer.join()

    def stop(self):
        self.at = time.time()
        print("lab:   not ended yet: the neighbour falls silent", file=sys.stderr, flush=True)
        self.lab.workloads.stop(self.workload)


def technique_of(statistics):
    """What QEMU did, from its own statistics only.

    QEMU counts a synchronisation of the dirty bitmap at the start, after each pass
    and at the switch: 2 in all when post-copy began at once, more after a pass.
    """
    maxima = statistics["maxima"]
    switched = any(status == "postcopy-active" for _, status in statistics["statuses"])
    if not switched and not maxima.get("postcopy-bytes"):
        name = "pre-copy"
    else:
        name = "hybrid" if maxima.get("dirty-sync-count", 0) > 2 else "post-copy"
    return name + (" parallel" if maxima.get("multifd-bytes") else "")


def taps_of(lab, vm):
    """{(host, name of the VM's tap there)} of the hosts that have it."""
    taps = set()
    for host in lab.hosts.values():
        text = host.virsh("domiflist", vm, check=False).stdout
        for line in text.splitlines():
            words = line.split()
            if words and words[0].startswith("vnet"):
                taps.add((host.name, words[0]))
    return taps


def set_mode(lab, mode, config=None):
    """Both hosts in MODE; a daemon is always a new one, without history."""
    for host in lab.hosts.values():
        if mode != "none" or host.mode()["mode"] != mode:
            host.set_mode(mode, config=config)


def place_guests(lab, setup):
    """A fresh VM on the source, and its neighbour if there is to be one."""
    names = {row["name"] for row in lab.guests.list()}
    if VM in names:
        lab.guests.stop(VM)
    if setup.neighbour and NEIGHBOUR not in names:
        with progress(f"starting guest {NEIGHBOUR} on {SOURCE}"):
            lab.guests.start(NEIGHBOUR, SOURCE, memory=setup.neighbour_memory, fill=8,
                             sla_lower=setup.floor)
    with progress(f"starting guest {VM} ({setup.memory} MiB) on {SOURCE}"):
        lab.guests.start(VM, SOURCE, memory=setup.memory, dirty_rate=setup.dirty_rate,
                         working_set=setup.working_set, priority=setup.priority,
                         max_downtime=setup.max_downtime)


def wait_restored(lab, before):
    """{host: is its network as BEFORE}, and the difference as text."""
    after = {}

    def same():
        for name in before:
            after[name] = lab.network_snapshot(name)
        return after == before
    try:
        wait_until("restored network", same, timeout=RESTORE_SECONDS, interval=0.2)
    except LabError:
        pass                # the caller judges: it is told
    difference = ""
    for name, text in before.items():
        old, new = text.splitlines(), after[name].splitlines()
        difference += "".join(f"{name}: - {line}\n" for line in old if line not in new)
        difference += "".join(f"{name}: + {line}\n" for line in new if line not in old)
    return {name: after[name] == before[name] for name in before}, difference


def workload_series(rows, taps):
    """Rate towards the client less the prober's answers, which are the VM's own."""
    def pick(row):
        probe = sum(row["taps"].get(host, {}).get(tap, {}).get("out", 0) for host, tap in taps)
        return max(row["link"]["client"]["down"] - probe, 0)
    return series.from_rows(rows, pick)


def run_migration(lab, setup, workload):
    """The command itself, with everything that watches it."""
    before_s = setup.before_seconds
    with lab.link_sampler() as sampler, ShapingWatch(lab) as shaping:
        processors = ProcessorWatch()
        at_before = time.time()
        # Not an event but a length: the baseline is a mean over this long.
        with progress(f"measuring the workload alone ({before_s:g} s)"):
            wait_until("baseline", lambda: time.time() >= at_before + before_s,
                       timeout=before_s + 5)
        if workload:
            lab.workloads.check_flows(workload)
        idle_before = processors.idle()
        processors = ProcessorWatch()
        taps = taps_of(lab, VM)
        probe = lab.workloads.start("probe", VM)
        with progress(f"{COMMAND if setup.flags == ('--live',) else shlex.join(setup.flags)}"
                      f" [virt-convoy: {setup.mode}]"), Ticker(sampler.rows), \
                Silencer(lab, workload, setup.neighbour_seconds) as silencer:
            migration = lab.migrations.migrate(VM, SOURCE, DESTINATION, setup.flags,
                                               statistics=True)
        idle_during = processors.idle()
        end = time.time()
        wait_until("what follows", lambda: time.time() >= end + setup.after_seconds,
                   timeout=setup.after_seconds + 5)
        outage = lab.workloads.stop(probe)
    seen = {"rows": sampler.rows, "shaped": shaping.first, "at_before": at_before,
            "taps": taps | taps_of(lab, VM), "idle_before": idle_before,
            "idle_during": idle_during, "silent": silencer.at}
    return migration, outage, seen


def contended_migration(lab, mode="none", priority="high", neighbour_rate=None, **options):
    """Migrate `web` from host-a to host-b beside `db`; return the Result.

    The lab must be up. The neighbour is started if it is not there, and stays; the
    migrating VM is always a new one. Further options are those of Setup.
    """
    setup = Setup(mode=mode, priority=priority, neighbour_rate=neighbour_rate, **options)
    set_mode(lab, mode, setup.config)
    place_guests(lab, setup)
    first = lab.guests.ask(VM)
    network_before = {name: lab.network_snapshot(name) for name in lab.hosts}
    neighbour = None
    if setup.neighbour:
        neighbour = lab.workloads.start("iperf-out", NEIGHBOUR, rate=neighbour_rate,
                                        streams=setup.neighbour_streams)
    try:
        migration, outage, seen = run_migration(lab, setup, neighbour)
    finally:
        lab.workloads.stop_all()
    restored, difference = wait_restored(lab, network_before)
    last = lab.guests.ask(VM)
    # The prober asked too: its last counter must be below the one now.
    went_on = bool(first and last and last["counter"] > (outage["counter_last"] or 0) > 0
                   and last["uptime_ms"] > first["uptime_ms"]
                   and outage["uptime_went_back"] == 0)
    note = (f"before {first}, prober's last counter {outage['counter_last']}, uptime went back "
            f"{outage['uptime_went_back']} times, after {last}")
    statistics = migration["statistics"]

    workload = workload_series(seen["rows"], seen["taps"])
    moving = series.from_rows(seen["rows"], lambda row: row["migration"][SOURCE])
    started, ended = migration["started"], migration["ended"]
    contended = min(seen["silent"] or ended, ended)
    at_transfer = next((at - seconds for at, seconds, value in moving
                        if at > started and value > 1), started)
    at_shaped = seen["shaped"]
    # A migration that nobody shapes is judged from its first byte.
    judged = max(at_shaped or at_transfer, at_transfer) + 1
    below = worst = None
    if setup.floor and setup.neighbour:
        below = series.seconds_below(workload, setup.floor, judged, contended)
        worst = min((value for _, value in series.samples(workload, judged, contended)),
                    default=None)
    explain = ""
    if mode != "none":
        explain = lab.host(SOURCE).run(component("virt-convoy"), "explain", VM,
                                       check=False).stdout
    return Result(
        setup=setup, returncode=migration["returncode"], stderr=migration["stderr"],
        technique=technique_of(statistics), total_migration_time_s=migration["seconds"],
        downtime_ms=outage["downtime_ms"],
        workload_before_mbit_s=series.mean(workload, seen["at_before"], started),
        workload_during_mbit_s=series.mean(workload, at_transfer, contended),
        floor_mbit_s=setup.floor, below_floor_s=below, worst_second_mbit_s=worst,
        moved_mib=series.amount(moving, started, ended + 1) * 1e6 / 8 / MIB,
        at_before=seen["at_before"], at_command=started, at_transfer=at_transfer,
        at_shaped=at_shaped, at_end=ended,
        shaped_after_s=at_shaped - at_transfer if at_shaped else None,
        vm_host=lab.guests.where(VM), counter_went_on=went_on,
        network_restored=restored, network_difference=difference,
        counter_note=note,
        iterations=statistics["maxima"].get("dirty-sync-count", 0),
        cpu_idle_before=seen["idle_before"], cpu_idle_during=seen["idle_during"],
        at_silent=seen["silent"],
        workload=workload, migration=moving, explain=explain)
