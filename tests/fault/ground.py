# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every row of the fault suite stands on: a guest, faults, and the final account.

A row injects faults into real migrations and says after each what must hold. What
must always hold is asked here: the guest lives on exactly one host and was not
restarted, libvirt answers, tc and links are as before, nothing of ours is left.
"""

import contextlib
import json
import pathlib
import random
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from support.stage import (DAEMON_PID, LIBVIRTD_PID, OTHER, LabError, Stage,  # noqa: E402
                           component, run, wait_until)
from convoylab import network  # noqa: E402  found by stage

__all__ = ["CONFIG", "DAEMON_LOG", "DAEMON_PID", "GUEST", "KINDS", "LIBVIRTD_PID", "OTHER",
           "SIGCONT", "SIGKILL", "SIGSTOP", "SPEED_UNLIMITED", "STATE", "TECHNIQUES", "Account", "Ground",
           "LabError", "component", "run", "wait_until"]

GUEST = "web"
GUEST_OPTIONS = {"memory": 144, "fill": 24, "working_set": 8, "dirty_rate": 1}
# The lab's libvirtd listen to TCP; through it a broken post-copy is resumed.
CONFIG = {"policy": {"destination-uri": "qemu+tcp://%s/system"}}
SIGKILL, SIGSTOP, SIGCONT = 9, 19, 18
TECHNIQUES = ("pre-copy", "post-copy", "hybrid")
KINDS = (("--live",), ("--live", "--p2p"))
SETTLE_SECONDS = 20
SLOW_RATE = 40                  # Mbit/s
BOOT_SECONDS = 300              # 4 s on an idle machine
DAEMON_LOG = "/var/log/virt-convoy/virt-convoyd.log"
SPEED_UNLIMITED = str((2**63 - 1) >> 20)    # MiB/s, as virsh migrate-getspeed says it
STATE = "/run/virt-convoy"
JOURNAL = f"{STATE}/shaping.journal"
# What is in a daemon's folder between migrations. Workers, speeds and post-copies that are
# written down there are to be put back, lifted and resumed. The filler is of a row.
KEPT = {"socket", "shaping.journal", "post-copy", "filler"}


class Account:
    """What one row did and found."""

    def __init__(self, name):
        self.name = name
        self.faults = self.migrations = self.lost = self.leaks = 0
        self.problems = []
        self.notes = []
        self.begun = time.monotonic()
        self.seconds = 0.0      # of the shares that were added

    def check(self, passed, problem):
        if not passed:
            self.problems.append(f"migration {self.migrations}, fault {self.faults}: {problem}")
        return bool(passed)

    def tally(self):
        return {"faults": self.faults, "migrations": self.migrations, "lost": self.lost,
                "leaks": self.leaks, "problems": self.problems, "notes": self.notes,
                "seconds": time.monotonic() - self.begun}

    def add(self, tally):
        """Take what another account of the same row counted."""
        for name, value in tally.items():
            if hasattr(self, name):
                setattr(self, name, getattr(self, name) + value)

    def line(self):
        return (f"{self.name:32} faults {self.faults:4}  migrations {self.migrations:4}  "
                f"guests lost {self.lost}  leaks {self.leaks}  {self.seconds:5.0f} s  "
                f"{'FAILED' if self.problems else 'passed'}")


class Quiet:
    """Takes Stage's results and keeps what went wrong for the account."""

    def __init__(self):
        self.account = None

    def ok(self, passed, what, detail=""):
        return self.account.check(passed, f"{what}: {detail}" if detail else what)

    def equal(self, got, wanted, what, detail=""):
        return self.ok(got == wanted, what, f"got {got!r}, wanted {wanted!r} {detail}")

    def note(self, text):
        self.account.notes.extend(str(text).splitlines())


class Ground(Stage):
    """A lab with one guest, both hosts in full mode."""

    def __init__(self, lab):
        super().__init__(lab, Quiet())
        self.random = random.Random()
        self.before = None
        self.pools = {}
        self.source = "host-a"

    @property
    def account(self):
        return self.tap.account

    # Setting up

    def begin_row(self, account, seed):
        self.tap.account = account
        self.random.seed(seed)
        if any(host.mode()["mode"] != "full" or not host.service_pid(DAEMON_PID)
               or not host.service_pid(LIBVIRTD_PID) for host in self.lab.hosts.values()):
            self.set_modes("full", "full", config=CONFIG)
        if not self.lab.guests.where(GUEST):
            self.fresh_guest()
        self.before = self.networks()
        self.pools = {host: self.pool(host) for host in self.lab.hosts}

    def fresh_guest(self, **options):
        with contextlib.suppress(LabError):
            self.lab.guests.stop(GUEST)
        self.uptime.pop(GUEST, None)
        self.lab.guests.start(GUEST, "host-a", timeout=BOOT_SECONDS,
                              **{**GUEST_OPTIONS, **options})
        self.source = "host-a"

    def choose(self, techniques=TECHNIQUES, kinds=KINDS):
        """Set the guest's technique at random; (technique, flags)."""
        technique = self.random.choice(techniques)
        self.host(self.source).run(component("virt-convoy"), "set", GUEST, "--technique",
                                   technique)
        return technique, self.random.choice(kinds)

    # Faults

    @contextlib.contextmanager
    def under_way(self, flags, latest, timeout=120):
        """A migration that has run for a random time of at most LATEST seconds."""
        self.account.migrations += 1
        with self.migrating(GUEST, self.source, flags, timeout) as running:
            due = time.monotonic() + self.random.uniform(0, latest)
            # A point in time is what is asked for here, not an event.
            wait_until("the point in time", lambda: time.monotonic() >= due or running.ended(),
                       timeout=latest + 5)
            self.account.faults += 1
            yield running

    def daemon_signal(self, host, number):
        """Send a signal and do not wait."""
        pid = self.host(host).service_pid(DAEMON_PID)
        if pid:
            self.host(host).run("kill", f"-{number}", pid, check=False)
        return pid

    def daemon_kill(self, host):
        self.host(host).daemon_stop(SIGKILL)

    def daemon_ensure(self, host):
        """A daemon runs and has its connection; a new one restores by itself."""
        if not self.host(host).service_pid(DAEMON_PID):
            self.host(host).daemon_start()
        self.wait_status(host, "connection to libvirt", lambda status: status["libvirt_connected"])

    # What the daemon says

    def log_position(self, host):
        path = self.host(host).path(DAEMON_LOG)
        return path.stat().st_size if path.exists() else 0

    def logged(self, host, since, event):
        """The lines about EVENT in the daemon's log after the position SINCE."""
        path = self.host(host).path(DAEMON_LOG)
        if not path.exists():
            return []
        with open(path, "rb") as file:
            file.seek(since)
            return [line for line in file.read().decode(errors="replace").splitlines()
                    if re.search(rf"event: {re.escape(event)}(,|$)", line)]

    def check_logged(self, host, since, event, title, timeout=5):
        with contextlib.suppress(LabError):
            wait_until(event, lambda: self.logged(host, since, event), timeout=timeout)
        return self.account.check(self.logged(host, since, event),
                                  f"{title}: no event {event} in the daemon's log of {host}")

    def check_explained(self, host, event, words, title):
        """The last migration's own log on HOST has EVENT, and WORDS in its text."""
        log = self.explain(host, GUEST).get("log", [])
        return self.account.check(
            any(entry["event"] == event and words in entry["text"] for entry in log),
            f"{title}: explain on {host} has no {event} with '{words}': {json.dumps(log)}")

    # What stands of ours

    def standing(self, host):
        """Lines of tc and ip about what is ours on HOST."""
        node = self.host(host)
        text = node.run("tc", "qdisc", "show").stdout + node.run("ip", "-o", "link").stdout
        return [line for line in text.splitlines() if re.search(r"\bc0b0:|\bconvoy\d", line)]

    def wait_shaped(self, running):
        """Until classes stand for the migration at both ends."""
        running.wait_for("classes on both hosts",
                         lambda: all(self.standing(host) for host in self.lab.hosts))

    def direction_status(self, host, direction):
        return self.status(host)["uplinks"][0][direction]

    @contextlib.contextmanager
    def slow_link(self):
        """Migrations that last long enough to look at what the daemons do meanwhile."""
        try:
            for host in self.lab.hosts:
                network.set_rate(self.lab.name, host, SLOW_RATE)
            yield
        finally:
            for host in self.lab.hosts:
                network.set_rate(self.lab.name, host, self.lab.rate)

    # The account at the end

    def running_on(self):
        return [row["host"] for row in self.lab.guests.list()
                if row["name"] == GUEST and row["state"] not in ("shut off", "")]

    def outcome_is(self, running, succeeds, title):
        """The command ended as expected; None: both are right."""
        outcome = running.outcome
        if succeeds is None:
            return True
        return self.account.check((outcome.returncode == 0) == succeeds,
                                  f"{title}: virsh exit {outcome.returncode}: {outcome.stderr}")

    def settle(self, title, expected=None):
        """Everything that holds after any fault. EXPECTED: the host of the guest, if known."""
        where = self.running_on()
        alive = self.account.check(len(where) == 1, f"{title}: the guest runs on {where}")
        if alive and expected:
            self.account.check(where == [expected], f"{title}: on {where}, not {expected}")
        alive = alive and self.alive(GUEST, where[0], f"{title}: the guest goes on")
        if alive:
            self.unlimited(where[0], title)
        for host in self.lab.hosts:
            self.clean(host, title)
        self.restored(self.before, f"{title}: tc and links as before", SETTLE_SECONDS)
        if alive:
            self.source = where[0]
            for host in self.lab.hosts:
                self.clean_xml(GUEST, host, f"{title}: XML on {host} without our elements")
        else:
            self.account.lost += 1
            self.fresh_guest()

    def unlimited(self, host, title):
        """No speed of ours stays with the domain for its next migration."""
        told = None

        def lifted():
            nonlocal told
            told = self.host(host).virsh("migrate-getspeed", GUEST, check=False).stdout.strip()
            return told == SPEED_UNLIMITED
        with contextlib.suppress(LabError):
            wait_until(f"no speed limit on {host}", lifted, timeout=SETTLE_SECONDS, interval=0.2)
        if told != SPEED_UNLIMITED:
            self.leak(f"{title}: the guest's migration speed stays at {told} MiB/s")

    def clean(self, host, title):
        """No open migration, no busy worker, nothing to be undone on HOST."""
        node = self.host(host)
        answer = node.virsh("list", "--all", check=False, timeout=30)
        self.account.check(answer.returncode == 0, f"{title}: virsh on {host}: {answer.stderr}")
        try:
            self.wait_status(host, "end of all migrations", lambda status:
                             not status["migrations"] and not status["waiting"],
                             timeout=SETTLE_SECONDS)
        except LabError as error:
            left = (self.status(host) or {}).get("migrations")
            self.leak(f"{title}: {error}: {json.dumps(left)}")
        busy = None

        def idle():
            nonlocal busy
            busy = self.busy_workers(host)
            return busy == 0
        try:
            wait_until(f"idle workers on {host}", idle, timeout=SETTLE_SECONDS, interval=0.2)
        except LabError:
            self.leak(f"{title}: {busy} workers of libvirtd on {host} are busy")
        with contextlib.suppress(LabError):
            wait_until(f"nothing to undo on {host}", lambda: not self.undone(host),
                       timeout=SETTLE_SECONDS, interval=0.2)
        for left in self.undone(host):
            self.leak(f"{title}: on {host}: {left}")

    def undone(self, host):
        """What the daemon of HOST has yet to put back, and what it wrote down of that."""
        node = self.host(host)
        left = []
        journal = node.run("cat", JOURNAL, check=False)
        if journal.returncode != 0 or journal.stdout.strip():
            left.append(f"journal: {journal.stdout.strip() or journal.stderr.strip()}")
        # Nothing can be removed from a disk that turned read-only; its row asks again later.
        if node.run("test", "-w", STATE, check=False).returncode == 0:
            names = node.run("find", STATE, "-mindepth", "1", "-printf", "%P\\n").stdout
            left += [f"{STATE}/{name}" for name in names.splitlines() if name not in KEPT]
        try:
            pool = self.pool(host)
        except LabError as error:
            pool = error
        if pool != self.pools[host]:
            left.append(f"libvirtd's workers: {pool}, before {self.pools[host]}")
        return left

    def leak(self, problem):
        self.account.leaks += 1
        self.account.check(False, problem)

    def busy_workers(self, host):
        with contextlib.suppress(LabError):
            there, free = self.pool(host, "nWorkers", "freeWorkers")
            return there - free
        return None
