# SPDX-License-Identifier: LGPL-2.1-or-later
"""A lab for one test script, and migrations with a witness at each end."""

import contextlib
import dataclasses
import difflib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)),
                                "..", "..", "lab"))
from convoylab import Lab, LabError  # noqa: E402
from convoylab.host import DAEMON_PID, LIBVIRTD_PID, component  # noqa: E402
from convoylab.processors import measured  # noqa: E402
from convoylab.util import run, wait_until  # noqa: E402

from . import witness  # noqa: E402
from .tap import Tap, skip_all  # noqa: E402

__all__ = ["Stage", "LabError", "wait_until", "measured", "run", "component", "main", "OTHER",
           "DAEMON_PID", "LIBVIRTD_PID"]

OTHER = {"host-a": "host-b", "host-b": "host-a"}
OFFER_MARK = "urn:virt-convoy:offer"
OLD_API = """
import sys, libvirt
name, uri, flags = sys.argv[1], sys.argv[2], int(sys.argv[3])
source, destination = libvirt.open("qemu:///system"), libvirt.open(uri)
sys.exit(0 if source.lookupByName(name).migrate(destination, flags, None, None, 0) else 1)
"""
VIR_MIGRATE_LIVE = 1


@dataclasses.dataclass
class Outcome:
    """One migration: how the command ended and what both QEMUs did."""
    returncode: int
    seconds: float
    stderr: str
    source: witness.Account
    destination: witness.Account

    @property
    def technique(self):
        return witness.technique(self.source)

    def describe(self):
        return (f"exit {self.returncode} after {self.seconds:.1f} s {self.stderr}\n"
                + witness.describe(self.source, self.destination))


class Stage:
    """The lab with its guest; `tap` takes the results."""

    def __init__(self, lab, tap):
        self.lab, self.tap = lab, tap
        self.uptime = {}

    def host(self, name):
        return self.lab.host(name)

    def set_modes(self, mode_a, mode_b, daemon=True, config=None):
        """Modes of host-a and host-b; both daemons have the same configuration."""
        for name, mode in (("host-a", mode_a), ("host-b", mode_b)):
            self.host(name).set_mode(mode, daemon=daemon, config=config)
            if mode != "none" and daemon:
                self.wait_status(name, "connection to libvirt",
                                 lambda status: status["libvirt_connected"])

    def command(self, host, *argv, check=True):
        return self.host(host).run(component("virt-convoy"), *argv, check=check)

    def status(self, host):
        answer = self.command(host, "status", "--json", check=False)
        try:
            return json.loads(answer.stdout)
        except ValueError:
            return None

    def explain(self, host, name):
        """The daemon's last record of the guest's migrations, {} when none."""
        answer = self.command(host, "explain", name, "--json", check=False)
        try:
            records = json.loads(answer.stdout)["migrations"]
        except (ValueError, KeyError):
            return {}
        return records[-1] if records else {}

    def wait_status(self, host, what, condition, timeout=20):
        """Wait until the daemon's status fulfils CONDITION; return the status."""
        def fulfilled():
            status = self.status(host)
            return status if status and condition(status) else None
        return wait_until(f"{what} on {host}", fulfilled, timeout=timeout, interval=0.1)

    def pool(self, host, *keys):
        """What libvirtd on HOST says of its workers, by default how many there may be."""
        text = self.host(host).run("virt-admin", "-c", "libvirtd:///system",
                                   "server-threadpool-info", "libvirtd", check=False).stdout
        found = [re.search(rf"\b{key}\s*:\s*(\d+)", text)
                 for key in keys or ("maxWorkers", "minWorkers")]
        if not all(found):
            raise LabError(f"libvirtd on {host} does not tell of its workers: {text.strip()}")
        return [int(match[1]) for match in found]

    # Migrations

    def begin(self):
        return {name: witness.position(host) for name, host in self.lab.hosts.items()}

    def outcome(self, begin, source, returncode, seconds, stderr):
        return Outcome(returncode, seconds, stderr.strip(),
                       witness.account(self.host(source), begin[source]),
                       witness.account(self.host(OTHER[source]), begin[OTHER[source]]))

    def argv(self, name, source, flags):
        """flags: those of virsh migrate, or None for the API of before typed parameters."""
        destination = OTHER[source]
        if flags is None:
            return self.host(source).argv(old_api_python(), "-c", OLD_API, name,
                                          f"qemu+tcp://{destination}/system", VIR_MIGRATE_LIVE)
        return self.lab.migrations.argv(name, source, destination, flags)

    def migrate(self, name, source, flags=("--live",), timeout=90):
        """Migrate and wait."""
        begin = self.begin()
        clock = time.monotonic()
        done = run(self.argv(name, source, flags), check=False, timeout=timeout)
        return self.outcome(begin, source, done.returncode, time.monotonic() - clock,
                            done.stderr)

    @contextlib.contextmanager
    def migrating(self, name, source, flags=("--live",), timeout=90):
        """Migrate in the background; yields a Running, whose outcome is set at the end."""
        running = Running(self, name, source, flags)
        try:
            yield running
            running.wait(timeout)
        finally:
            if running.process.poll() is None:
                # nsenter passes no signal on to virsh, which would keep our pipe.
                self.host(source).virsh("domjobabort", name, check=False)
                running.process.kill()
                running.process.communicate()

    def alive(self, name, host, what):
        """The guest runs on HOST and only there, answers, and was not restarted."""
        where = [(row["host"], row["state"]) for row in self.lab.guests.list()
                 if row["name"] == name and row["state"] != "shut off"]
        answer = None
        try:
            answer = wait_until(f"answer of {name}", lambda: self.lab.guests.ask(name),
                                timeout=15)
        except LabError as error:
            self.tap.note(error)
        before = self.uptime.get(name, 0)
        if answer:
            self.uptime[name] = answer["uptime_ms"]
        return self.tap.ok(where == [(host, "running")] and answer is not None
                           and answer["uptime_ms"] > before, what,
                           f"{where} {answer}, uptime before {before} ms")

    def never_both(self, outcome):
        """Post-copy together with multifd was never switched on at either end."""
        return not any(end.ever_on("multifd", "postcopy-ram")
                       for end in (outcome.source, outcome.destination))

    def transient_elements(self, name, host):
        """Kinds of the guest's XML on HOST ("live", "persistent") that have our offer.

        A host that does not know the guest has no XML of it.
        """
        found = []
        for kind, options in (("live", []), ("persistent", ["--inactive"])):
            answer = self.host(host).virsh("dumpxml", name, *options, check=False)
            if answer.returncode != 0 and "failed to get domain" not in answer.stderr:
                raise LabError(f"XML of {name} on {host}: {answer.stderr.strip()}")
            if OFFER_MARK in answer.stdout:
                found.append(kind)
        return found

    def clean_xml(self, name, host, what):
        """No element of ours is left; the daemon takes it out just after the end."""
        try:
            wait_until("clean XML", lambda: not self.transient_elements(name, host), timeout=5)
        except LabError:
            pass
        return self.tap.equal(self.transient_elements(name, host), [], what)

    def restored(self, before, what, timeout=8):
        """Both hosts' networks are byte for byte as BEFORE, soon after the end."""
        try:
            wait_until("restored network", lambda: self.networks() == before, timeout=timeout)
        except LabError:
            pass
        after = self.networks()
        changes = [line for name in before for line in difflib.unified_diff(
            before[name].splitlines(), after[name].splitlines(), name, name, lineterm="", n=0)]
        return self.tap.ok(before == after, what, "\n".join(changes))

    def network(self, host):
        """Exactly what ip and tc say of all devices but the guests' taps."""
        node = self.host(host)
        text = ""
        links = node.run("ip", "link").stdout
        blocks = re.split(r"^(?=\d+: )", links, flags=re.MULTILINE)
        # By name: a device that was taken away and put back has another number.
        for block in sorted(blocks, key=lambda text: text.partition(": ")[2]):
            match = re.match(r"\d+: ([^:@]+)", block)
            if match and not match[1].startswith("vnet"):
                text += block
                for kind in (["qdisc"], ["class"], ["filter"], ["filter", "ingress"]):
                    # Without an ingress qdisc tc answers that filter list with an error.
                    text += f"{' '.join(kind)} of {match[1]}:\n" + node.run(
                        "tc", kind[0], "show", "dev", match[1], *kind[1:],
                        check=len(kind) == 1).stdout
        return text

    def networks(self):
        return {name: self.network(name) for name in self.lab.hosts}


class Running:
    """A migration under way."""

    def __init__(self, stage, name, source, flags):
        self.stage, self.name, self.source = stage, name, source
        self.begin = stage.begin()
        self.clock = time.monotonic()
        self.process = subprocess.Popen(stage.argv(name, source, flags), cwd="/", text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE)
        self.outcome = None

    def account(self):
        return witness.account(self.stage.host(self.source), self.begin[self.source])

    def ended(self):
        return self.process.poll() is not None

    def wait_for(self, what, condition, timeout=30, interval=0.02):
        """Wait while it runs; LabError when it ended before CONDITION held."""
        def held():
            value = condition()
            if value:
                return value
            if self.ended():
                raise LabError(f"{what}: the migration ended before: "
                               f"{self.process.stderr.read().strip()}")
            return None
        return wait_until(what, held, timeout=timeout, interval=interval)

    def wait_active(self):
        """QEMU moves memory."""
        self.wait_for("an active migration", lambda: self.account().passes >= 1)

    def wait(self, timeout=90):
        try:
            _, stderr = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"migration of {self.name}: no end after {timeout} s") from error
        self.outcome = self.stage.outcome(self.begin, self.source, self.process.returncode,
                                          time.monotonic() - self.clock, stderr)
        return self.outcome


def log_text(record):
    """The events of what `explain` answered, a line each."""
    return "\n".join(f"{entry['event']}: {entry['text']}" for entry in record.get("log", []))


@functools.cache
def old_api_python():
    """An interpreter that has libvirt's binding, None without one."""
    for python in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([python, "-c", "import libvirt"], check=False, cwd="/",
                          stderr=subprocess.DEVNULL).returncode == 0:
            return python
    return None


def main(title, check, rate=400):
    """Run CHECK(stage) in a lab of its own and print TAP; returns the exit status."""
    if os.geteuid() != 0:
        skip_all("the lab needs root")
    # Whoever ends the test early gets a machine without its lab, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    tap = Tap()
    lab = Lab(f"{title}-{os.getpid()}")
    try:
        lab.up(rate=rate)
        for host in lab.hosts.values():
            witness.record_monitors(host)
        check(Stage(lab, tap))
    except LabError as error:
        tap.ok(False, "no error of the lab", error)
    finally:
        if tap.failed:
            show_logs(lab)
        if os.environ.get("VIRT_CONVOY_RECORD"):
            lab.save_decisions(title, os.environ["VIRT_CONVOY_RECORD"])
        lab.down()
    return tap.finish()


def show_logs(lab):
    """The daemons' last words, for whoever has to find out why."""
    for host in lab.hosts.values():
        for log in ("/var/log/virt-convoy/virt-convoyd.log",
                    "/var/log/virt-convoy/virt-convoyd.out", "/var/log/libvirt/libvirtd.out"):
            path = host.path(log)
            if path.exists():
                Tap.note(f"{host.name} {log}:")
                Tap.note("\n".join(path.read_text(errors="replace").splitlines()[-60:]))
