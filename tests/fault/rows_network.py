# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rows about what lies around the daemon: NICs, links, clocks, whole hosts, crowds."""

import contextlib
import datetime
import functools
import glob
import re
import time

from ground import (CONFIG, DAEMON_LOG, GUEST, OTHER, SIGKILL, TECHNIQUES, LabError, component,
                    run, wait_until)
from rows import LATEST, SLACK_SECONDS, Cut
from convoylab import gang, network  # found by ground
from support.witness import QMP_LOG, account, messages

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
        ground.account.check(not ground.logged(host, log, "tree-changed"),
                             f"{title}: taken for somebody who changed our tree")
        ground.outcome_is(running, True, title)
        ground.settle(title, OTHER[running.source])


# ---- the link ------------------------------------------------------------------

PRE_COPY, SWITCH, POST_COPY = "pre-copy", "switch", "post-copy"
DIRECT, P2P = ("--live",), ("--live", "--p2p")
SLOW_POST_COPY = ("--postcopy", "--postcopy-bandwidth", "6")
STOPPED = b'"event": "STOP"'
RESUMED_SECONDS = 180.0         # after the link is back


def wait_phase(ground, running, phase):
    """Until the migration is in PHASE, by what its QEMUs say."""
    if phase == PRE_COPY:
        running.wait_active()
    elif phase == SWITCH:
        # The guest stands still at the source, and its last pages are on the way.
        path = ground.host(running.source).path(QMP_LOG)
        with open(path, "rb") as file:
            file.seek(running.begin[running.source])
            text = b""

            def stopped():
                nonlocal text
                text = text[-len(STOPPED):] + file.read()
                return STOPPED in text
            running.wait_for("the switch", stopped, timeout=60, interval=0.002)
    else:
        running.wait_for("post-copy", lambda: "postcopy-active" in running.account().statuses)
        # Before the guest runs there its QEMU would give up, and all is still at the source.
        destination = OTHER[running.source]
        running.wait_for("the guest at the destination", lambda: "RESUME" in events_of(
            ground, destination, running.begin[destination]))


def cut_once(ground, phase, seconds, flags, title):
    """One migration whose link is cut in PHASE for SECONDS; where the guest is at the end."""
    ground.account.migrations += 1
    source = ground.source
    with ground.migrating(GUEST, source, flags, timeout=seconds + 120) as running:
        wait_phase(ground, running, phase)
        with Cut(ground, OTHER[source]):
            begun = time.monotonic()
            ground.account.faults += 1
            before = running.account().statuses
            wait_until(f"{seconds} s", lambda: time.monotonic() - begun >= seconds,
                       timeout=seconds + 5, interval=0.1)
        back = time.monotonic()
    outcome = running.outcome
    ground.tap.note(f"{title}: when cut {' '.join(before)}, virsh exit {outcome.returncode} "
                    f"{time.monotonic() - back:.1f} s after: {outcome.stderr}")
    try:
        wait_until("one running guest", lambda: running_states(ground) == ["running"],
                   timeout=RESUMED_SECONDS, interval=0.5)
    except LabError as error:
        ground.tap.note(error)
    ground.tap.note(f"{title}: {time.monotonic() - back:.1f} s after: {states(ground)}; "
                    f"{' '.join(running.account().statuses)}")
    where = list(states(ground))
    return outcome.returncode == 0, where[0] if len(where) == 1 else where


def states(ground):
    return {row["host"]: row["state"] for row in ground.lab.guests.list()
            if row["name"] == GUEST and row["state"] not in ("shut off", "")}


def running_states(ground):
    return list(states(ground).values())


def prepare_cut(ground, phase, mode):
    """A guest whose last pass is long enough to be hit, at host-a in MODE; flags to add."""
    if any(host.mode()["mode"] != mode for host in ground.lab.hosts.values()):
        ground.set_modes(mode, mode, config=CONFIG)
    ground.fresh_guest(working_set=24, dirty_rate=12)
    more = SLOW_POST_COPY if phase == POST_COPY else ()
    if mode == "none":
        return more + (("--postcopy-after-precopy",) if more else ())
    ground.command("host-a", "set", GUEST, "--max-downtime", "1500ms", "--technique",
                   "post-copy" if phase == POST_COPY else "pre-copy")
    ground.before = ground.networks()
    return more


def link_cut(ground, times, phase, seconds):
    """The destination cannot be reached for SECONDS in PHASE, placed by QEMU's events.

    5 s: TCP repeats what was lost, nobody notices, the migration arrives. 60 s: libvirt's
    keepalive closes the connection between the libvirtd (peer-to-peer: 30 s) or that of
    virsh (35 s) and the command fails. QEMU itself notices nothing: its TCP sends again
    with growing pauses, 51 s after the beginning and then 102 s, and gives up after
    15 minutes. Before the switch the guest then stays at the source, as in a plain run,
    which the row makes for comparison. In post-copy nothing is lost: the guest waits
    for its pages, and goes on when they come or when virt-convoy has resumed it.
    """
    for number in range(times):
        kind = (DIRECT, P2P)[number % 2]
        plain = None
        title = f"{kind[-1]}, link cut for {seconds} s in {phase}"
        if seconds > 5 and phase != POST_COPY:
            plain = cut_once(ground, phase, seconds, kind + prepare_cut(ground, phase, "none"),
                             f"plain {title}")
        ours = cut_once(ground, phase, seconds, kind + prepare_cut(ground, phase, "full"), title)
        if plain:
            ground.account.check(ours == plain, f"{title}: {ours}, plain libvirt: {plain}")
        elif seconds <= 5:
            ground.account.check(ours == (True, "host-b"), f"{title}: {ours}")
        else:
            ground.account.check(ours[1] == "host-b", f"{title}: {ours}")
        ground.settle(title)
    ground.fresh_guest()


# ---- the clock -----------------------------------------------------------------

CLOCK = "/var/lib/virt-convoy/clock"
JUMPS = {"an hour ahead": 3600, "an hour back": -3600, "ten years ahead": 315360000}
SANE_SECONDS = 120.0            # no migration here takes longer


def faketime_library():
    found = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not found:
        raise LabError("libfaketime is missing: install/dependencies.sh lab")
    return found[0]


def set_clock(ground, host, offset):
    path = ground.host(host).path(CLOCK)
    path.with_suffix(".new").write_text(f"{offset:+d}\n", encoding="ascii")
    path.with_suffix(".new").rename(path)


def start_with_clock(ground, host):
    """The daemon with a wall clock that follows a file; its monotonic clock is the kernel's."""
    node = ground.host(host)
    set_clock(ground, host, 0)
    node.daemon_stop()
    node.daemon_start(environment=[
        f"LD_PRELOAD={faketime_library()}", f"FAKETIME_TIMESTAMP_FILE={CLOCK}",
        "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"])
    ground.daemon_ensure(host)


def log_ahead(ground, host):
    """Seconds by which the daemon's newest log line is ahead of this machine's clock."""
    text = ground.host(host).path(DAEMON_LOG).read_text(errors="replace").splitlines()[-1]
    told = datetime.datetime.fromisoformat(text.split()[0].replace("Z", "+00:00"))
    return (told - datetime.datetime.now(datetime.timezone.utc)).total_seconds()


def check_times(ground, source, running, title):
    """Where a time is told it is a wall time; what lasted is not."""
    record = ground.explain(source, GUEST)
    begun, ended = (datetime.datetime.fromisoformat(record[key]) if record.get(key) else None
                    for key in ("started", "ended"))
    lasted = (ended - begun).total_seconds() if begun and ended else None
    limit = running.outcome.seconds + SLACK_SECONDS
    ground.account.check(lasted is not None and 0 < lasted < limit,
                         f"{title}: explain says from {begun} to {ended}, virsh took "
                         f"{running.outcome.seconds:.1f} s")
    predicted = record.get("numbers", {}).get("predicted_total_s")
    ground.account.check(predicted is None or 0 < predicted < SANE_SECONDS,
                         f"{title}: predicted {predicted} s")


def clock_jumps(ground, times):
    """The wall clock jumps in the middle: times in texts follow it, nothing else does."""
    for number in range(times):
        name, offset = list(JUMPS.items())[number % len(JUMPS)]
        technique, flags = ground.choose()
        title = f"{technique} {flags[-1]}, the clock jumps {name}"
        for host in ground.lab.hosts:
            start_with_clock(ground, host)
        source = ground.source
        with ground.under_way(flags, LATEST) as running:
            for host in ground.lab.hosts:
                set_clock(ground, host, offset)
        ground.outcome_is(running, True, title)
        ground.settle(title, OTHER[source])
        check_times(ground, source, running, title)
        for host in ground.lab.hosts:
            # Its last word, since the migration may have ended before the jump.
            ground.host(host).daemon_stop()
            ahead = log_ahead(ground, host)
            ground.account.check(abs(ahead - offset) < SANE_SECONDS, f"{title}: the fault is none: "
                                 f"{host}'s daemon is {ahead:.0f} s ahead")
            ground.host(host).daemon_start()
            ground.daemon_ensure(host)


# ---- whole hosts ---------------------------------------------------------------

def kill_everything(node):
    """All processes of a host at once, but those that hold its namespaces."""
    rows = [line.split(None, 2) for line in
            node.run("ps", "-e", "-o", "pid=,ppid=,comm=").stdout.splitlines()]
    pids = [pid for pid, parent, command in rows
            if pid != "1" and (parent, command.strip()) != ("1", "sleep") and command != "ps"]
    node.run("kill", f"-{SIGKILL}", *pids, check=False)


def events_of(ground, host, begin):
    """Names of QEMU's events on HOST since BEGIN, in order."""
    return [message["event"] for _, sent, message in messages(ground.host(host), begin)
            if not sent and "event" in message]


@contextlib.contextmanager
def under_way_in(ground, phase, flags):
    """A migration broken at a random point, or at one after PHASE began."""
    if phase is None:
        with ground.under_way(flags, LATEST) as running:
            yield running
        return
    ground.account.migrations += 1
    if phase == POST_COPY:
        flags = (*flags, *SLOW_POST_COPY)
    with ground.migrating(GUEST, ground.source, flags, timeout=150) as running:
        wait_phase(ground, running, phase)
        due = time.monotonic() + ground.random.uniform(0, 1)
        wait_until("the point in time", lambda: time.monotonic() >= due or running.ended())
        ground.account.faults += 1
        yield running


def source_reboots(ground, times):
    """Everything on the source is killed, its namespaces stay.

    A guest that ran at the destination by then goes on there. One whose memory
    was still needed dies with its host, as without us; nothing of it stays.
    """
    for number in range(times):
        phase = (None, POST_COPY)[number % 2]
        technique, flags = ground.choose(TECHNIQUES if phase is None else ("post-copy", "hybrid"))
        source, destination = ground.source, OTHER[ground.source]
        title = f"{technique} {flags[-1]}, the source reboots in {phase or 'any phase'}"
        with under_way_in(ground, phase, flags) as running:
            node = ground.host(source)
            kill_everything(node)
        moved = wait_moved(ground, running)
        node.libvirtd_start(component("virt-convoy-libvirtd.so"))
        ground.daemon_ensure(source)
        ground.tap.note(f"{title}: {'moved' if moved else 'not moved'}, {states(ground)} "
                        f"{running.outcome.destination.statuses}")
        if moved:
            ground.settle(title, destination)
            continue
        # A post-copy that lost its source is for an administrator to end.
        if states(ground):
            ground.lab.guests.stop(GUEST)
        for host in ground.lab.hosts:
            ground.clean(host, title)
        ground.restored(ground.before, f"{title}: tc and links as before")
        ground.fresh_guest()
        ground.before = ground.networks()


def wait_moved(ground, running):
    """Whether all of the guest had reached the destination, and ran there."""
    host = ground.host(OTHER[running.source])
    begin = running.begin[host.name]

    def moved():
        return ("completed" in account(host, begin).statuses
                and "RESUME" in events_of(ground, host.name, begin))
    # What is on the way still arrives.
    with contextlib.suppress(LabError):
        wait_until("the rest", moved, timeout=3)
    return moved()


def libvirtd_killed(ground, times):
    """libvirtd killed and started while memory moves in post-copy, on either host.

    Without virt-convoy as with it: QEMU goes on by itself, the command fails, and
    the new libvirtd takes note of how it ended.
    """
    for number in range(times):
        technique, flags = ground.choose(("post-copy", "hybrid"))
        source = ground.source
        host = (source, OTHER[source])[number % 2]
        title = f"{technique} {flags[-1]}, libvirtd killed on the " + (
            "source" if host == source else "destination")
        with under_way_in(ground, POST_COPY, flags) as running:
            node = ground.host(host)
            at = running.account().statuses
            node.libvirtd_stop(SIGKILL)
            node.libvirtd_start(component("virt-convoy-libvirtd.so"))
        for each in ground.lab.hosts:
            ground.daemon_ensure(each)
        try:
            wait_until("one running guest", lambda: running_states(ground) == ["running"],
                       timeout=30, interval=0.5)
        except LabError as error:
            ground.tap.note(error)
        ground.tap.note(f"{title}: killed at {at}, virsh {running.outcome.returncode} "
                        f"{running.outcome.stderr}; {states(ground)} {running.account().statuses}")
        ground.settle(title)


# ---- a crowd -------------------------------------------------------------------

CROWD = 20
BOOT_AT_ONCE = 4
CROWD_FLAGS = (("--live",), ("--live", "--p2p"), ("--live", "--p2p", "--postcopy"), (),
               ("--live", "--bandwidth", "20"), ("--live", "--parallel"),
               ("--live", "--postcopy"), ("--live", "--auto-converge"))


def crowd_names():
    return [f"crowd-{number:02}" for number in range(1, CROWD + 1)]


def start_crowd(ground, host):
    guests = ground.lab.guests
    names = crowd_names()
    # A few at a time: emulated guests boot no faster side by side.
    for begin in range(0, CROWD, BOOT_AT_ONCE):
        few = names[begin:begin + BOOT_AT_ONCE]
        for name in few:
            guests.start(name, host, wait=False, memory=96, fill=4, working_set=2, dirty_rate=1)
        for name in few:
            guests.wait_ready(name, timeout=240)


def where_all(ground):
    """{name: hosts on which it is not off}."""
    found = {}
    for row in ground.lab.guests.list():
        if row["state"] not in ("shut off", ""):
            found.setdefault(row["name"], []).append((row["host"], row["state"]))
    return found


def check_crowd(ground, destination, uptimes, title):
    found = where_all(ground)
    for name in crowd_names():
        answer = ground.lab.guests.ask(name, wait_seconds=5)
        alive = ground.account.check(
            found.get(name) == [(destination, "running")] and answer is not None
            and answer["uptime_ms"] > uptimes.get(name, 0),
            f"{title}: {name}: {found.get(name)} {answer}, uptime before {uptimes.get(name)} ms")
        if answer:
            uptimes[name] = answer["uptime_ms"]
        if not alive:
            ground.account.lost += 1
        for host in ground.lab.hosts:
            ground.clean_xml(name, host, f"{title}: {name}: XML on {host} without our elements")


def crowd(ground, times):
    """Twenty migrations at once, of several flags; every other time a daemon is killed."""
    source = "host-a"
    start_crowd(ground, source)
    uptimes = {}
    try:
        for number in range(times):
            flags = [CROWD_FLAGS[(number + index) % len(CROWD_FLAGS)] for index in range(CROWD)]
            killed = ground.random.choice(("host-a", "host-b")) if number % 2 else None
            title = "twenty at once" + (f", the daemon of {killed} killed" if killed else "")
            ground.account.migrations += CROWD
            begun = time.monotonic()
            typed = [gang.Typed(ground.lab, name, source, flags[index])
                     for index, name in enumerate(crowd_names())]
            try:
                if killed:
                    half = ground.random.randrange(1, CROWD)
                    wait_until(f"{half} ends", lambda typed=typed, half=half:
                               sum(one.poll() for one in typed) >= half, timeout=240)
                    ground.account.faults += 1
                    ground.daemon_kill(killed)
                    ground.host(killed).daemon_start()
                    ground.daemon_ensure(killed)
                wait_until("all ends", lambda typed=typed: all([one.poll() for one in typed]),
                           timeout=300)
            finally:
                for one in typed:
                    one.end()
            ground.tap.note(f"{title}: {time.monotonic() - begun:.1f} s")
            for index, one in enumerate(typed):
                ground.account.check(one.process.returncode == 0, f"{title}: {one.name} "
                              f"{' '.join(flags[index])}: {one.stderr}")
            source = OTHER[source]
            check_crowd(ground, source, uptimes, title)
            for host in ground.lab.hosts:
                ground.clean(host, title)
            ground.restored(ground.before, f"{title}: tc and links as before")
    finally:
        for name in crowd_names():
            with contextlib.suppress(LabError):
                ground.lab.guests.stop(name)


# name: (row, times in the whole suite, times in make test[, times in a share])
ROWS = {
    **{f"cut for {seconds} s in {phase}": (
           functools.partial(link_cut, phase=phase, seconds=seconds), 4, 0, 2)
       for seconds in (5, 60) for phase in (PRE_COPY, SWITCH, POST_COPY)},
    "clock jumps": (clock_jumps, 9, 1, 3),
    "source reboots": (source_reboots, 12, 0, 6),
    "libvirtd killed in post-copy": (libvirtd_killed, 12, 0, 6),
    "twenty at once": (crowd, 4, 0, 2),
    "NIC vanishes": (nic_vanishes, 16, 1, 4),
}
