# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rows of the fault suite: migrations that fail by themselves, or would with what we add.

Each cause is real, and is tried first on hosts without virt-convoy: how virsh ends and
where the guest then runs is what must come out with virt-convoy, too.
"""

import collections
import contextlib
import dataclasses
import json
import pathlib
import re
import shutil
from collections.abc import Callable

from ground import (DAEMON_PID, GUEST, KINDS, LIBVIRTD_PID, OTHER, SIGCONT, SIGKILL, SIGSTOP,
                    TECHNIQUES, LabError, component, wait_until)

HOOKS = "/etc/libvirt/hooks/qemu.d"
REFUSE = "/run/virt-convoy-lab/refuse"
REFUSING_HOOK = f"""#!/bin/sh
# Refuses incoming migrations while a file is there.
[ "$2" != migrate ] || [ ! -e {REFUSE} ]
"""
CONSOLE = f"/var/log/libvirt/qemu/{GUEST}-console.log"
STRANGER = f"<domain type='qemu'><name>{GUEST}</name><memory>1024</memory>" \
           "<os><type>hvm</type></os></domain>\n"
LIBVIRTD_LOG = "/var/log/libvirt/libvirtd.out"
# libvirtd fits, the translation buffer of an emulating QEMU (1 GiB) does not.
ADDRESS_SPACE = 1 << 30


# Causes: what is done to the destination before, and while the migration runs

@contextlib.contextmanager
def name_taken(node):
    """Another domain of that name is defined there."""
    path = node.path("/var/lib/libvirt") / "stranger.xml"
    path.write_text(STRANGER, encoding="ascii")
    node.virsh("define", "/var/lib/libvirt/stranger.xml")
    try:
        yield
    finally:
        node.virsh("undefine", GUEST)


@contextlib.contextmanager
def hook_refuses(node):
    """An administrator's hook script says no."""
    node.run("touch", REFUSE)
    try:
        yield
    finally:
        node.run("rm", REFUSE)


@contextlib.contextmanager
def qemu_cannot_start(node):
    """A folder stands where QEMU is to write the guest's console."""
    console = node.path(CONSOLE)
    if console.exists():
        console.rename(f"{console}.away")
    console.mkdir()
    try:
        yield
    finally:
        console.rmdir()


@contextlib.contextmanager
def libvirtd_under(node, *launcher):
    """libvirtd, and with it every QEMU that it starts, runs below LAUNCHER."""
    preload = component("virt-convoy-libvirtd.so") if node.mode()["mode"] == "full" else None
    # The plugin takes itself out of the environment of whatever it is loaded into.
    environment = [f"LD_PRELOAD={preload}"] if preload else []
    node.libvirtd_stop()
    node.service_start(LIBVIRTD_PID, LIBVIRTD_LOG,
                       [*launcher, "env", *environment, "libvirtd", "--listen"])
    node.wait_socket("/run/libvirt/libvirt-sock", LIBVIRTD_PID, LIBVIRTD_LOG, "libvirtd")
    try:
        yield
    finally:
        node.libvirtd_stop()
        node.libvirtd_start(preload)


def no_memory(node):
    """QEMU cannot allocate what it needs."""
    return libvirtd_under(node, "prlimit", f"--as={ADDRESS_SPACE}", f"--stack={1 << 20}", "env",
                          "MALLOC_ARENA_MAX=1")


def no_user_faults(node):
    """The kernel cannot do what post-copy needs."""
    return libvirtd_under(node, component("tests/fault/without-userfaultfd"))


def kill_qemu(ground, running):
    """The incoming QEMU dies while memory moves."""
    running.wait_active()
    kill_incoming(ground, running)


def kill_qemu_at_end(ground, running):
    """The incoming QEMU has everything and dies before Finish can let it run."""
    node = ground.host(OTHER[running.source])
    running.wait_active()
    pid = node.service_pid(LIBVIRTD_PID)
    node.run("kill", f"-{SIGSTOP}", pid)
    try:
        running.wait_for("all memory at the destination",
                         lambda: "completed" in running.account().statuses, timeout=60)
        kill_incoming(ground, running)
    finally:
        node.run("kill", f"-{SIGCONT}", pid)


def kill_incoming(ground, running):
    node = ground.host(OTHER[running.source])
    pid = node.run("cat", f"/run/libvirt/qemu/{GUEST}.pid").stdout.strip()
    node.run("kill", f"-{SIGKILL}", pid)


@dataclasses.dataclass(frozen=True)
class Cause:
    """How a migration is broken; FAILS says whether plain libvirt's then fails."""
    fails: bool = True
    before: Callable = lambda node: contextlib.nullcontext()
    during: Callable = None
    flags: tuple = ()
    techniques: tuple = TECHNIQUES


# After the switch to post-copy no end has the whole guest: whoever kills QEMU then kills
# the guest, with and without virt-convoy.
CAUSES = {
    "refused": Cause(before=name_taken),
    "Prepare fails: a hook says no": Cause(before=hook_refuses),
    "Prepare fails: QEMU cannot start": Cause(before=qemu_cannot_start),
    "destination out of memory": Cause(before=no_memory),
    "Perform fails: nobody listens": Cause(flags=("--migrateuri", "tcp://10.77.0.3:49160")),
    "Perform fails: QEMU dies": Cause(during=kill_qemu, techniques=("pre-copy",)),
    "Finish fails": Cause(during=kill_qemu_at_end, techniques=("pre-copy",)),
    "no user faults": Cause(before=no_user_faults, fails=False),
}


def run_broken(ground, cause, flags):
    """One migration with its cause: exit status, where the guest is, outcome, retried."""
    source = ground.source
    ground.account.migrations += 1
    with cause.before(ground.host(OTHER[source])):
        for host in ground.lab.hosts if ground.host(source).mode()["mode"] == "full" else ():
            ground.daemon_ensure(host)
        with ground.migrating(GUEST, source, (*flags, *cause.flags), timeout=120) as running:
            if cause.during:
                cause.during(ground, running)
        ground.account.faults += 1
        outcome = running.outcome
        where = ["moved" if host == OTHER[source] else "stayed" for host in ground.running_on()]
        retried = any("done again as asked" in node_log(node)
                      for node in ground.lab.hosts.values())
    return outcome.returncode, where, outcome, retried


def as_plain(ground, times):
    """A migration that plain libvirt fails: the same exit status, the guest where it was."""
    for host in ground.lab.hosts.values():
        hook = host.path(HOOKS) / "administrator"
        hook.write_text(REFUSING_HOOK, encoding="ascii")
        hook.chmod(0o755)
    cases = [(name, kind) for name in CAUSES for kind in KINDS]
    ground.random.shuffle(cases)
    cases = [cases[number % len(cases)] for number in range(times)]
    plain = {}
    ground.set_modes("none", "none")
    for name, kind in cases:
        if (name, kind) in plain:
            continue
        cause = CAUSES[name]
        plain[name, kind] = run_broken(ground, cause, kind)
        code, where, outcome, _ = plain[name, kind]
        title = f"{name}, {kind[-1]}, without virt-convoy"
        ground.account.check((code != 0) == cause.fails and len(where) == 1,
                             f"{title}: exit {code}, the guest {where}: {outcome.stderr}")
        wherever(ground)
    ground.set_modes("full", "full")
    for name, kind in cases:
        compare(ground, name, kind, plain[name, kind])
    for host in ground.lab.hosts.values():
        (host.path(HOOKS) / "administrator").unlink()


def wherever(ground):
    """Go on from the host that has the guest; libvirt has resumed it by now."""
    where = ground.running_on()
    if len(where) == 1:
        ground.source = where[0]
    else:
        ground.fresh_guest()


def compare(ground, name, kind, plain):
    cause = CAUSES[name]
    technique, _ = ground.choose(cause.techniques)
    title = f"{name}, {kind[-1]}, {technique}"
    source = ground.source
    code, where, outcome, retried = run_broken(ground, cause, kind)
    ground.account.check((code, where) == plain[:2],
                         f"{title}: exit {code}, the guest {where}; without virt-convoy: exit "
                         f"{plain[0]}, {plain[1]}: {outcome.stderr} | {plain[2].stderr}")
    if cause.before is no_user_faults and technique != "pre-copy":
        ground.account.check(retried and outcome.technique == "pre-copy",
                             f"{title}: nothing was tried again as asked: {outcome.describe()}")
    wait_until("an end of the job", lambda: len(ground.running_on()) == 1, timeout=30)
    ground.settle(title, OTHER[source] if where == ["moved"] else source)


def node_log(node):
    path = node.path(LIBVIRTD_LOG)
    return path.read_text(errors="replace") if path.exists() else ""


# Folders that cannot be written

STATE, DATA, LOGS = "/run/virt-convoy", "/var/lib/virt-convoy", "/var/log/virt-convoy"
TOLD_AT_MOST = 2                # the egress and the ingress may each have a problem


APPENDED = {LOGS: ("virt-convoyd.log",), DATA: ("history.jsonl", "decisions.jsonl")}


@contextlib.contextmanager
def small_disk(ground, host, folder, early):
    """A disk of 64 KiB is FOLDER of the daemon. Yields what fills it."""
    node = ground.host(host)

    def fill():
        node.run("sh", "-c", f"cat /dev/zero > {folder}/filler", check=False)
        for file in APPENDED.get(folder, ()):   # the last page of a file has room even then
            node.run("sh", "-c", f"yes >> {folder}/{file}", check=False)
    with mounted(ground, host, folder, "mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs"):
        if early:
            fill()
        yield lambda: None if early else fill()


@contextlib.contextmanager
def read_only_disk(ground, host, folder, early):
    """FOLDER of the daemon turns read-only; what it has open already stays as it is."""
    node = ground.host(host)

    def turn():
        # On top of it: a mount with files open for writing cannot be changed.
        node.run("mount", "--bind", folder, folder)
        node.run("mount", "-o", "remount,bind,ro", folder)
    # Without its socket there would be no daemon: its folder turns after the start.
    before = turn if early and folder == LOGS else None
    with mounted(ground, host, folder, "mount", "--bind", folder, before=before):
        if early and folder != LOGS:
            turn()
        yield lambda: None if early else turn()


def mounts_on(node, folder):
    """How many mounts lie one upon the other on FOLDER."""
    text = node.run("cat", "/proc/self/mountinfo").stdout
    return sum(line.split()[4] == folder for line in text.splitlines())


@contextlib.contextmanager
def mounted(ground, host, folder, *command, before=None):
    """The daemon of HOST runs with mounts of its own on FOLDER."""
    node = ground.host(host)
    node.daemon_stop()
    # The lowest may be the lab's own, which has the host's folder apart from the machine's.
    standing = mounts_on(node, folder)
    node.run(*command, folder)
    try:
        if before:
            before()
        node.service_start(DAEMON_PID, DAEMON_OUT, [
            component("virt-convoyd"), "--config", "/etc/virt-convoy/virt-convoy.conf",
            "--log-file", f"{LOGS}/virt-convoyd.log"])
        ground.daemon_ensure(host)
        yield
    finally:
        node.daemon_stop()
        for _ in range(mounts_on(node, folder) - standing):
            node.run("umount", folder)
        # Log and journal are the machine's own again, and so is a socket file in them.
        node.daemon_start()
        ground.daemon_ensure(host)


DAEMON_OUT = "/run/virt-convoy-lab/virt-convoyd.out"
DISKS = [(what, folder, early) for folder in (STATE, DATA, LOGS)
         for what in (small_disk, read_only_disk) for early in (True, False)]


def told(node):
    """How often the daemon told each problem: {event: lines}, from its log and its output."""
    text = node.run("sh", "-c", f"cat {LOGS}/virt-convoyd.log {DAEMON_OUT}", check=False).stdout
    counts = collections.Counter()
    for line in text.splitlines():
        match = re.search(r"event: ([a-z-]+)(?=.*(?:No space left|Read-only file system))", line)
        if match:
            counts[match[1]] += 1
    return counts


def notices(what, folder, early):
    """The daemon must see it. What is open when a disk turns read-only, journal and log, goes on;
    the journal may have room in the page it has."""
    if folder == STATE:
        return early and what is small_disk
    return folder == DATA or early or what is small_disk


def disk_full(ground, times):
    """Journal, history, decisions or log cannot be written: told once, the migration goes on."""
    for number in range(times):
        what, folder, early = DISKS[number % len(DISKS)] if times >= len(DISKS) else \
            ground.random.choice(DISKS)
        host = ground.random.choice(("host-a", "host-b"))
        technique, flags = ground.choose()
        title = (f"{technique} {flags[-1]}, {what.__name__.replace('_', ' ')} at {folder} of "
                 f"{host}, {'before' if early else 'in the middle'}")
        ground.host(host).run("sh", "-c", f": > {LOGS}/virt-convoyd.log")
        with what(ground, host, folder, early) as strike:
            with ground.under_way(flags, 3.0) as running:
                strike()
            ground.outcome_is(running, True, title)
            ground.settle(title, OTHER[running.source])
            if notices(what, folder, early):
                with contextlib.suppress(LabError):
                    wait_until("word of it", lambda: told(ground.host(host)), timeout=20,
                               interval=0.5)
                ground.account.check(told(ground.host(host)), f"{title}: told nowhere")
            counts = told(ground.host(host))
            ground.account.check(all(count <= TOLD_AT_MOST for count in counts.values()),
                                 f"{title}: told again and again: {dict(counts)}")
        ground.settle(f"{title}, and then as before", OTHER[running.source])


# Two versions

@contextlib.contextmanager
def other_version(ground, host, kind):
    """The plugin and the daemon of HOST speak another version of the reports."""
    node = ground.host(host)
    folder = node.path("/var/lib/virt-convoy")
    for copy in ("front", "behind"):
        shutil.copy2(component("tests/fault/other-version.so"), folder / f"{copy}.so")
    preload = ":".join(["/var/lib/virt-convoy/front.so", component("virt-convoy-libvirtd.so"),
                        "/var/lib/virt-convoy/behind.so"])
    node.libvirtd_stop()
    node.service_start(LIBVIRTD_PID, LIBVIRTD_LOG, ["libvirtd", "--listen"],
                       [f"LD_PRELOAD={preload}", f"OTHER_VERSION={kind}"])
    node.wait_socket("/run/libvirt/libvirt-sock", LIBVIRTD_PID, LIBVIRTD_LOG, "libvirtd")
    ground.daemon_ensure(host)
    try:
        yield
    finally:
        node.libvirtd_stop()
        node.libvirtd_start(component("virt-convoy-libvirtd.so"))
        ground.daemon_ensure(host)


def two_versions(ground, times):
    """One end speaks an older or a newer version: what both know is used."""
    cases = [(kind, place, flags) for kind in ("newer", "older")
             for place in ("source", "destination") for flags in KINDS]
    if times < len(cases):
        ground.random.shuffle(cases)
    for number in range(times):
        kind, place, flags = cases[number % len(cases)]
        technique, _ = ground.choose(("post-copy", "hybrid"))
        title = f"{technique} {flags[-1]}, the {place} is {kind}"
        source = ground.source
        host = source if place == "source" else OTHER[source]
        ground.account.faults += 1
        ground.account.migrations += 1
        with other_version(ground, host, kind):
            outcome = ground.migrate(GUEST, source, flags)
            written = node_log(ground.host(host))
        ground.account.check(outcome.returncode == 0, f"{title}: {outcome.stderr}")
        ground.account.check(outcome.technique == technique, f"{title}: {outcome.describe()}")
        # A peer-to-peer migration's destination hears nothing of the source.
        if flags == KINDS[0] or place == "destination":
            ground.account.check("rewritten" in written,
                                 f"{title}: the report was not rewritten; libvirtd wrote: {written}")
        direct = flags == KINDS[0]
        log = ground.explain(OTHER[source] if direct else source, GUEST).get("log", [])
        said = [f"{entry['event']}: {entry['text']}" for entry in log]
        ground.account.check(any("source_known: yes" in line if direct
                                 else line.startswith("offer: ") for line in said),
                             f"{title}: the other end's report was not used: {said}")
        ground.settle(title, OTHER[source])


# Names

# What a shell, a path, an option parser, printf, XML or JSON would take for more than a name.
# libvirt allows no slash; tests/integration/access-test gives the daemon such names.
HOSTILE_NAMES = (
    '"; touch {mark}; "', "$(touch {mark})", "`touch {mark}`", "';touch {mark};'", "..",
    "-batch", "--json", "%s%n%s%n", "<name>x<name>", "a&b,c=d", "\\", "\u202eoffer",
    " blanks ",
)


def move(ground, source, name, new_name, kind):
    """Migrate NAME to the other host, where it is NEW_NAME."""
    ground.account.migrations += 1
    return ground.host(source).virsh(
        "migrate", *kind, f"--domain={name}", f"--desturi=qemu+tcp://{OTHER[source]}/system",
        f"--dname={new_name}", check=False)


def json_lines(node, file):
    answer = node.run("cat", f"{DATA}/{file}", check=False)
    return [json.loads(line) for line in answer.stdout.splitlines()]


def hostile_names(ground, times):
    """A domain's name is data, whatever it looks like."""
    mark = f"owned-{ground.lab.name}"
    for number in range(times):
        pattern = HOSTILE_NAMES[number % len(HOSTILE_NAMES)] if times >= len(HOSTILE_NAMES) else \
            ground.random.choice(HOSTILE_NAMES)
        name = pattern.format(mark=mark)
        technique, kind = ground.choose()
        title = f"{technique} {kind[-1]}, {name!r}"
        source, destination = ground.source, OTHER[ground.source]
        there = ground.host(destination)
        ground.account.faults += 1
        outcome = move(ground, source, GUEST, name, kind)
        if ground.account.check(outcome.returncode == 0, f"{title}: {outcome.stderr}"):
            # The end may be known a little later than virsh returns.
            with contextlib.suppress(LabError):
                ground.wait_status(destination, "end", lambda status: not status["migrations"])
            said = there.run(component("virt-convoy"), "explain", "--json", "--", name, check=False)
            try:
                records = [record["domain"] for record in json.loads(said.stdout)["migrations"]]
            except (ValueError, KeyError):
                records = []
            ground.account.check(name in records, f"{title}: explain: {said.stdout}{said.stderr}")
            back = move(ground, destination, name, GUEST, kind)
            ground.account.check(back.returncode == 0, f"{title}, back: {back.stderr}")
        for node in ground.lab.hosts.values():
            for file in ("history.jsonl", "decisions.jsonl"):
                try:
                    json_lines(node, file)
                except ValueError as error:
                    ground.account.check(False, f"{title}: {file} on {node.name}: {error}")
            found = node.run("find", "/run", "/var/lib", "/var/log", "/etc/libvirt", "-name",
                             f"{mark}*", "!", "-path", "*/qemu/*").stdout.strip()
            ground.account.check(not found and not pathlib.Path("/", mark).exists(),
                                 f"{title}: it was run: {found}")
        ground.settle(title, source)


# name: (row, times in the whole suite, times in make test)
ROWS = {
    "fails as plain": (as_plain, 3 * len(CAUSES) * len(KINDS), 2),
    "disk full or read-only": (disk_full, 2 * len(DISKS), 1),
    "two versions": (two_versions, 16, 1),
    "hostile names": (hostile_names, len(HOSTILE_NAMES), 1),
}
