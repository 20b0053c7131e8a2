# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rows of the fault suite: what is broken, and what must come of it.

Each takes the ground and how often; ground.settle() adds what always holds.
"""

import contextlib
import pathlib
import re
import shlex
import time

from ground import (CONFIG, DAEMON_PID, GUEST, KINDS, LIBVIRTD_PID, OTHER, SIGCONT, SIGKILL,
                    SIGSTOP, SPEED_UNLIMITED, STATE, LabError, component, wait_until)

UNIT = pathlib.Path(__file__).resolve().parents[2] / "install/systemd/virt-convoyd.service"

LATEST = 5.0                    # s into a migration that takes about that long
SOCKET = "/run/virt-convoy/socket"
TIMEOUT_SECONDS = 2.0           # the one timeout of a migration, as configured by default
SLACK_SECONDS = 1.5             # of the machine, not of virt-convoy
NOISE_SECONDS = 0.5             # by which migrations of the same kind differed
WATCHED_SECONDS = 2.0           # some reshape intervals
# What only a daemon with a connection to libvirt can take back or go on with.
NEXT_DAEMON = (f"{STATE}/speeds", f"{STATE}/post-copy/")


def stop_post(ground, host):
    """What systemd does when the daemon of HOST has ended: the unit's ExecStopPost."""
    lines = [line.partition("=")[2] for line in UNIT.read_text(encoding="utf-8").splitlines()
             if line.startswith("ExecStopPost=")]
    ground.account.check(lines, f"no ExecStopPost in {UNIT}")
    for line in lines:
        program, *arguments = shlex.split(line)
        ground.host(host).run(component(pathlib.PurePath(program).name), *arguments,
                              check=not program.startswith("-"))


def daemon_killed(ground, times):
    """kill -9 at a random point, on either host or both, started again or not: no difference."""
    for _ in range(times):
        technique, flags = ground.choose()
        victims = ground.random.choice((("host-a",), ("host-b",), ("host-a", "host-b")))
        again = ground.random.choice((True, False))
        title = f"{technique} {flags[-1]}, killed on {'+'.join(victims)}" + (
            ", started again" if again else "")
        with ground.under_way(flags, LATEST) as running:
            for host in victims:
                ground.daemon_kill(host)
            for host in victims if again else ():
                ground.host(host).daemon_start()
        ground.outcome_is(running, True, title)
        for host in victims if not again else ():
            stop_post(ground, host)
            left = [what for what in ground.undone(host) if not what.startswith(NEXT_DAEMON)]
            ground.account.check(not left, f"{title}: after ExecStopPost: {left}")
        if not again:
            ground.restored(ground.before, f"{title}: restored without a daemon")
        for host in victims:
            ground.daemon_ensure(host)
        ground.settle(title, OTHER[running.source])


def timed(ground, title, flags):
    """A migration that must succeed, however broken the daemons are; its seconds."""
    ground.account.migrations += 1
    outcome = ground.migrate(GUEST, ground.source, flags)
    ground.account.check(outcome.returncode == 0, f"{title}: {outcome.stderr}")
    ground.account.notes.append(f"{title}: {outcome.seconds:.2f} s")
    return outcome.seconds


def there_and_back(ground, title):
    """The seconds of four migrations, of each kind in each direction."""
    seconds = []
    for flags in (kind for kind in KINDS for _ in OTHER):
        source = ground.source
        seconds.append(timed(ground, title, flags))
        ground.source = OTHER[source]
    return seconds


def unbroken_seconds(ground):
    """The longest that this guest's migration takes without us, and with us in addition."""
    ground.set_modes("none", "none")
    plain = max(there_and_back(ground, "plain"))
    ground.set_modes("full", "full", config=CONFIG)
    ours = max(there_and_back(ground, "unbroken"))
    ground.settle("unbroken", ground.source)
    return plain, max(ours - plain, 0)


@contextlib.contextmanager
def stopped(ground, host):
    ground.daemon_signal(host, SIGSTOP)
    try:
        yield
    finally:
        ground.daemon_signal(host, SIGCONT)


@contextlib.contextmanager
def canned(ground, host, mode):
    """A daemon that answers as MODE says in place of ours."""
    node = ground.host(host)
    node.daemon_stop()
    node.service_start("/run/virt-convoy-lab/canned.pid", "/var/log/virt-convoy/canned.out",
                       [component("tests/plugin-stub/canned-daemon"), SOCKET, mode,
                        "/var/log/virt-convoy/canned.log"])
    wait_until("the canned daemon", lambda: node.connectable(SOCKET), timeout=10)
    try:
        yield
    finally:
        node.service_stop("/run/virt-convoy-lab/canned.pid")
        ground.daemon_ensure(host)


@contextlib.contextmanager
def socket_moved(ground, host):
    node = ground.host(host)
    node.run("mv", SOCKET, SOCKET + ".away")
    try:
        yield
    finally:
        node.run("mv", SOCKET + ".away", SOCKET)


@contextlib.contextmanager
def socket_foreign(ground, host):
    node = ground.host(host)
    node.run("chown", "64000", SOCKET)
    try:
        yield
    finally:
        node.run("chown", "0", SOCKET)


BROKEN_DAEMONS = {
    "stopped": stopped,
    "hung": lambda ground, host: canned(ground, host, "hung"),
    "garbage": lambda ground, host: canned(ground, host, "garbage"),
    "late": lambda ground, host: canned(ground, host, "late"),
    "hung in a turn": lambda ground, host: canned(ground, host, "hung-turn"),
    "socket missing": socket_moved,
    "socket of another user": socket_foreign,
}


def daemon_broken(ground, times):
    """Hung, garbage, late, no socket, wrong owner: one timeout on each host, then plain libvirt."""
    ground.choose(("pre-copy",))
    plain, ours = unbroken_seconds(ground)
    for number in range(times):
        name = list(BROKEN_DAEMONS)[number % len(BROKEN_DAEMONS)]
        flags = KINDS[number // len(BROKEN_DAEMONS) % len(KINDS)]
        for where in ("source", "destination", "both"):
            ground.account.faults += 1
            source = ground.source
            ends = {"source": [source], "destination": [OTHER[source]], "both": OTHER}[where]
            title = f"{name} on {where}, {flags[-1]}"
            with contextlib.ExitStack() as broken:
                for host in ends:
                    broken.enter_context(BROKEN_DAEMONS[name](ground, host))
                seconds = timed(ground, title, flags)
            limit = plain + len(ends) * TIMEOUT_SECONDS + min(ours + NOISE_SECONDS, SLACK_SECONDS)
            ground.account.check(seconds <= limit, f"{title}: {seconds:.1f} s, plain {plain:.1f}, "
                                 f"at most {limit:.1f}")
            ground.settle(title, OTHER[source])


def libvirtd_restarted(ground, times):
    """libvirtd killed and started in the middle: as without us, then cleaned."""
    for _ in range(times):
        technique, flags = ground.choose(("pre-copy",))
        host = ground.random.choice(("host-a", "host-b"))
        title = f"{technique} {flags[-1]}, libvirtd killed on {host}"
        with ground.under_way(flags, LATEST) as running:
            node = ground.host(host)
            node.libvirtd_stop(SIGKILL)
            node.libvirtd_start(component("virt-convoy-libvirtd.so"))
        for each in ground.lab.hosts:
            ground.daemon_ensure(each)
        resume_if_paused(ground)
        ground.settle(title)


def resume_if_paused(ground):
    """libvirtd that finds a migration it cannot go on with may leave the guest paused."""
    for host in ground.running_on():
        node = ground.host(host)
        state = node.virsh("domstate", GUEST, check=False).stdout.strip()
        if state == "paused" and len(ground.running_on()) == 1:
            node.virsh("resume", GUEST, check=False)


def destination_reboots(ground, times):
    """Everything on the destination is killed, its namespaces stay: the guest stays."""
    for _ in range(times):
        technique, flags = ground.choose(("pre-copy",))
        title = f"{technique} {flags[-1]}, the destination reboots"
        with ground.under_way(flags, 2.0) as running:
            node = ground.host(OTHER[running.source])
            node.daemon_stop(SIGKILL)
            qemu = node.run("cat", f"/run/libvirt/qemu/{GUEST}.pid", check=False).stdout.strip()
            if qemu.isdigit():
                node.run("kill", f"-{SIGKILL}", qemu, check=False)
            node.libvirtd_stop(SIGKILL)
        node.libvirtd_start(component("virt-convoy-libvirtd.so"))
        ground.daemon_ensure(OTHER[running.source])
        resume_if_paused(ground)
        ground.settle(title)


TC_WRAPPER = """#!/bin/sh
# Counts the calls; of the one to fail it keeps the commands.
cd {folder}
count=$(($(cat count 2>/dev/null || echo 0) + 1))
echo $count > count
[ "$count" -ne {fails} ] ||
    {{ cat > failing; mv failing failed; echo 'lab: this call fails' >&2; exit 1; }}
exec {tool} "$@"
"""


def tc_fails(ground, times):
    """Every n-th call of tc or ip fails: undone, unshaped, the migration goes on.

    Only calls after the daemon's start count: those before are its probing.
    """
    for number in range(times):
        technique, flags = ground.choose()
        tool = ("tc", "ip")[number % 2]
        # ip makes the ifb and takes it off, both at the destination; how often tc runs
        # depends on what is reshaped.
        fails = number // 2 % (6 if tool == "tc" else 2) + 1
        source = ground.source
        host = ground.random.choice(list(ground.lab.hosts)) if tool == "tc" else OTHER[source]
        node = ground.host(host)
        folder = node.path("/var/lib/virt-convoy")
        wrapper, counter, failed = (folder / name for name in ("wrapper", "count", "failed"))
        wrapper.write_text(TC_WRAPPER.format(folder="/var/lib/virt-convoy", fails=fails,
                                             tool=f"/usr/sbin/{tool}"), encoding="ascii")
        wrapper.chmod(0o755)
        title = f"{technique} {flags[-1]}, call {fails} of {tool} fails on {host}"
        node.daemon_stop()
        counter.write_text("1000", encoding="ascii")    # none of the probing's fails
        node.daemon_start(environment=[f"VIRT_CONVOY_{tool.upper()}=/var/lib/virt-convoy/wrapper"])
        ground.daemon_ensure(host)
        for path in (counter, failed):
            path.unlink(missing_ok=True)
        ground.account.migrations += 1
        with ground.slow_link(), ground.migrating(GUEST, source, flags, 120) as running:
            wait_until("the failure or the end", lambda: failed.exists() or running.ended(),
                       timeout=120)
            commands = failed.read_text(encoding="ascii") if failed.exists() else ""
            # What fails to take all off is tried again, and has ended long before settle() does.
            if commands and not re.match("(qdisc|link) del", commands):
                unshaped(ground, host, source, commands, title)
        ground.outcome_is(running, True, title)
        ground.settle(title, OTHER[source])
        fired = counter.exists() and int(counter.read_text(encoding="ascii")) >= fails
        ground.account.faults += fired
        # Fewer calls than that may be all there are, but not fewer than one to put up and
        # one to take off.
        ground.account.check(fired or fails > 2, f"{title}: the fault is none")
        node.daemon_stop()
        node.daemon_start()
        ground.daemon_ensure(host)


def unshaped(ground, host, source, commands, title):
    """After a call with COMMANDS failed: said so, and all that was to stand is off.

    What is reshaped next for another reason may put it up, and says so too.
    """
    direction = "egress" if host == source else "ingress"
    found = None

    def kept():
        nonlocal found
        shown = ground.direction_status(host, direction)
        left = ground.standing(host)
        events = [entry["event"] for entry in ground.explain(host, GUEST).get("log", [])
                  if entry["event"] == "shaped" or "lab: this call fails" in entry["text"]]
        found = {"explain": events, "status": shown, "left of ours": left}
        return events[:1] == ["unshaped"] and (
            events[-1] == "shaped" or (not shown["shaped"] and shown["problem"] and not left))
    # Once is enough: asked again, it may find the next reshape half done.
    try:
        wait_until("unshaped", kept, timeout=TIMEOUT_SECONDS, interval=0.1)
        shown_off = True
    except LabError:
        shown_off = False
    ground.account.check(shown_off, f"{title}: {found} after: {commands}")


# title: (at which end, what somebody runs, what is said to be found)
CHANGES = {
    "our root deleted": ("source", ("tc qdisc del dev eth0 root",), "htb c0b0: is gone"),
    "our ifb deleted": ("destination", ("ip link del {ifb}",), "our device {ifb} is gone"),
    "our class changed": (
        "source", ("tc class change dev eth0 parent c0b0:1 classid c0b0:20 htb rate 1mbit",),
        "class change dev eth0 parent c0b0:1 classid c0b0:20"),
    "our redirection deleted": ("destination", ("tc filter del dev eth0 ingress",),
                                "not redirected to {ifb}"),
}
NOTICED_SECONDS = 2.0


def change(ground, running, host, commands, found, title):
    """Somebody runs COMMANDS: noticed and told once, and not put back while it runs."""
    node = ground.host(host)
    direction = "egress" if host == running.source else "ingress"
    index = node.run("cat", "/sys/class/net/eth0/ifindex").stdout.strip()
    commands, found = ([text.format(ifb=f"convoy{index}") for text in texts]
                       for texts in (commands, (found,)))
    log = ground.log_position(host)
    for command in commands:
        node.run(*command.split())
    ground.account.faults += 1
    ground.check_logged(host, log, "tree-changed", title, NOTICED_SECONDS + SLACK_SECONDS)
    with contextlib.suppress(LabError):
        running.wait_for("its migration's log", lambda: ground.explain(host, GUEST)["log"][-1][
            "event"] == "unshaped", timeout=SLACK_SECONDS, interval=0.1)
    ground.check_explained(host, "unshaped", found[0], title)
    shown = ground.direction_status(host, direction)
    ground.account.check(not shown["shaped"] and found[0] in (shown["problem"] or ""),
                         f"{title}: status has {shown}")
    return lambda: ground.account.check(
        len(ground.logged(host, log, "tree-changed")) == 1,
        f"{title}: told {len(ground.logged(host, log, 'tree-changed'))} times on {host}")


def stays_off(ground, running, hosts, title):
    """Nothing of ours stands on HOSTS until the migration has ended."""
    begun = time.monotonic()
    seen = set()

    def look():
        for host in hosts:
            seen.update(f"{host}: {line}" for line in ground.standing(host))
        return running.ended()
    wait_until("the end of the migration", look, timeout=120, interval=0.1)
    seconds = time.monotonic() - begun
    ground.account.check(not seen, f"{title}: put up again: {seen}")
    ground.account.check(seconds >= WATCHED_SECONDS,
                         f"{title}: looked for {seconds:.1f} s only")


def limit_of(ground, running, technique):
    """What QEMU may send a second, in MiB, once it is told; None in post-copy, which may
    begin before a limit of pre-copy is told."""
    if technique != "pre-copy":
        return None
    running.wait_for("a limit", lambda: speed_of(ground, running.source) != SPEED_UNLIMITED)
    return int(speed_of(ground, running.source))


def limit_tightens(ground, running, before, title):
    """Without classes only the guarantee is left to QEMU."""
    with contextlib.suppress(LabError):
        running.wait_for("a tighter limit", lambda: int(speed_of(ground, running.source)) < before,
                         timeout=SLACK_SECONDS)
    after = int(speed_of(ground, running.source))
    ground.account.check(after < before, f"{title}: QEMU's limit was {before} MiB/s, is {after}")


def qdisc_changed(ground, times):
    """Somebody changes what is ours: noticed, told, never fought over."""
    for number in range(times):
        technique, flags = ground.choose()
        what, (end, commands, found) = list(CHANGES.items())[number % len(CHANGES)]
        title = f"{technique} {flags[-1]}, {what}"
        source = ground.source
        host = source if end == "source" else OTHER[source]
        ground.account.migrations += 1
        with ground.slow_link(), ground.migrating(GUEST, source, flags, 120) as running:
            ground.wait_shaped(running)
            before = limit_of(ground, running, technique)
            once = change(ground, running, host, commands, found, title)
            if end == "source" and before is not None:
                limit_tightens(ground, running, before, title)
            if what == "our root deleted":
                again = ground.host(host).run(*commands[0].split(), check=False)
                ground.account.check(again.returncode != 0,
                                     f"{title}: there was a root to delete once more")
            stays_off(ground, running, (host,), title)
            once()
        ground.outcome_is(running, True, title)
        ground.settle(title, OTHER[source])


def speed_of(ground, host):
    return ground.host(host).virsh("migrate-getspeed", GUEST).stdout.strip()


# An administrator's: what leaves, and what comes in.
FOREIGN_ROOT = ("tc qdisc replace dev eth0 root handle 77: htb default 1",
                "tc class add dev eth0 parent 77: classid 77:1 htb rate 1gbit")
FOREIGN_INGRESS = ("tc qdisc add dev eth0 clsact",)
FOREIGN = ("a qdisc htb 77: that is not ours", "a qdisc clsact ffff: that is not ours")


def foreign_taken_off(ground, title):
    """Nobody else did."""
    for host in ground.lab.hosts.values():
        for place, kind in (("root", "htb 77:"), ("clsact", "clsact ffff:")):
            shown = host.run("tc", "qdisc", "show", "dev", "eth0").stdout
            if ground.account.check(kind in shown, f"{title}: no {kind} on {host.name}: {shown}"):
                host.run("tc", "qdisc", "del", "dev", "eth0", place)


def foreign_appears(ground):
    """Trees of an administrator take the place of ours at both ends."""
    technique, flags = ground.choose()
    title = f"{technique} {flags[-1]}, foreign trees in the middle"
    source = ground.source
    ground.account.migrations += 1
    with ground.slow_link(), ground.migrating(GUEST, source, flags, 120) as running:
        ground.wait_shaped(running)
        once = (change(ground, running, source, FOREIGN_ROOT, FOREIGN[0], title),
                change(ground, running, OTHER[source],
                       ("tc qdisc del dev eth0 ingress", *FOREIGN_INGRESS),
                       "not redirected to {ifb}", title))
        stays_off(ground, running, ground.lab.hosts, title)
        for told in once:
            told()
    ground.outcome_is(running, True, title)
    for host, commands in ((source, FOREIGN_INGRESS), (OTHER[source], FOREIGN_ROOT)):
        for command in commands:
            ground.host(host).run(*command.split())
    foreign_taken_off(ground, title)
    ground.settle(title, OTHER[source])


def stopped_lifts(ground, running, title):
    """A daemon that stops leaves no limit of its own to a migration that goes on."""
    host = ground.host(running.source)
    ground.account.faults += 1
    host.daemon_stop()
    told = speed_of(ground, running.source)
    left = host.run("ls", STATE).stdout.split()
    ground.account.check(not running.ended(), f"{title}: it ended before the daemon stopped")
    ground.account.check(told == SPEED_UNLIMITED,
                         f"{title}: {told} MiB/s stand when the daemon has stopped")
    ground.account.check("speeds" not in left, f"{title}: {STATE} has {left}")


def foreign_tree(ground, times):
    """An administrator's tree comes, or stands before: refused, the migration goes on."""
    for number in range(times):
        foreign_appears(ground)
        technique, flags = ground.choose()
        title = f"{technique} {flags[-1]}, a foreign tree from the start"
        source = ground.source
        for host in ground.lab.hosts.values():
            for command in FOREIGN_ROOT + FOREIGN_INGRESS:
                host.run(*command.split())
        standing, ground.before = ground.before, ground.networks()
        ground.account.faults += 1
        ground.account.migrations += 1
        outcome = ground.migrate(GUEST, source, flags)
        ground.account.check(outcome.returncode == 0, f"{title}: {outcome.stderr}")
        for host, found in zip((source, OTHER[source]), FOREIGN):
            ground.check_explained(host, "unshaped", found, title)
        ground.settle(title, OTHER[source])
        # QEMU's own limits are all there is now: what libvirt keeps of them is taken back.
        ground.choose(("pre-copy",))
        source = ground.source
        ground.account.migrations += 1
        with ground.migrating(GUEST, source, flags, 120) as running:
            running.wait_for("a limit", lambda: speed_of(ground, source) != SPEED_UNLIMITED)
            if number % 3 == 0:
                stopped_lifts(ground, running, title)
            elif number % 3 == 1:
                ground.daemon_kill(source)
                ground.daemon_ensure(source)
            ground.host(source).virsh("domjobabort", GUEST)
        ground.daemon_ensure(source)
        ground.outcome_is(running, False, f"{title}, aborted")
        ground.settle(f"{title}, aborted", source)
        foreign_taken_off(ground, title)
        ground.before = standing
        ground.restored(ground.before, f"{title}: as before when it is gone")


def aborted(ground, times):
    """domjobabort at a random point: the guest stays, whatever the technique."""
    for _ in range(times):
        technique, flags = ground.choose(("pre-copy",))
        title = f"{technique} {flags[-1]}, aborted"
        with ground.under_way(flags, LATEST) as running:
            ground.host(running.source).virsh("domjobabort", GUEST, check=False)
        # Too early or too late it has no effect, as without us.
        ground.settle(title, OTHER[running.source] if running.outcome.returncode == 0
                      else running.source)


def client_killed(ground, times):
    """virsh gets SIGINT or SIGKILL at a random point."""
    for number in range(times):
        technique, flags = ground.choose(("pre-copy",))
        signal_number = (2, SIGKILL)[number % 2]
        title = f"{technique} {flags[-1]}, virsh gets signal {signal_number}"
        with ground.under_way(flags, LATEST) as running:
            running.process.send_signal(signal_number)
        # A peer-to-peer migration goes on without its client.
        wait_until("the end of the job", lambda: len(ground.running_on()) == 1, timeout=60)
        resume_if_paused(ground)
        ground.settle(title)


class Cut:
    """The destination's port out of the switch's bridge: no carrier is lost, nothing arrives."""

    def __init__(self, ground, host):
        self.lab, self.port = ground.lab, f"sw-{host[-1]}"

    def __enter__(self):
        self.lab.execute("switch", "ip", "link", "set", self.port, "nomaster")

    def __exit__(self, *unused):
        self.lab.execute("switch", "ip", "link", "set", self.port, "master", "br0")


def link_cut(ground, times):
    """The path is gone for 5 s in the middle: pre-copy as plain, post-copy never lost."""
    for _ in range(times):
        technique, flags = ground.choose()
        title = f"{technique} {flags[-1]}, link cut for 5 s"
        with ground.under_way(flags, LATEST) as running:
            begun = time.monotonic()
            with Cut(ground, OTHER[running.source]):
                wait_until("five seconds", lambda: time.monotonic() - begun >= 5, timeout=8)
        ground.outcome_is(running, True, title)
        ground.settle(title, OTHER[running.source])


# Until as many migrations have ended the daemon grows: it remembers them.
REMEMBERED = 10
WARM = 40                       # aborts until nothing is allocated for the first time
GROWTH_KIB = 512                # of the allocator, whatever happens; seen: 36 after 79 more
GROWTH_KIB_EACH = 2             # an abort that leaks 10 KiB is found after 65 more


def sizes(ground):
    """{(host, program): (KiB of memory of its own, descriptors, threads)}."""
    answer = {}
    for host in ground.lab.hosts:
        node = ground.host(host)
        for name, file in (("virt-convoyd", DAEMON_PID), ("libvirtd", LIBVIRTD_PID)):
            pid = node.service_pid(file)
            text = node.run("cat", f"/proc/{pid}/status").stdout
            answer[host, name] = (int(text.split("RssAnon:")[1].split()[0]),
                                  len(node.run("ls", f"/proc/{pid}/fd").stdout.split()),
                                  int(text.split("Threads:")[1].split()[0]))
    return answer


def start_frugal(ground, host):
    """Daemon and libvirtd with one arena for all threads: what grows then is kept by somebody."""
    node, environment = ground.host(host), ("MALLOC_ARENA_MAX=1",)
    node.daemon_stop()
    node.libvirtd_stop()
    node.libvirtd_start(component("virt-convoy-libvirtd.so"), environment)
    node.daemon_start(environment)
    ground.daemon_ensure(host)


def many_aborts(ground, times):
    """Aborts in a row: the guest stays, neither daemon nor libvirtd grows, no descriptor is left."""
    ground.set_modes("full", "full",
                     config={**CONFIG, "daemon": {"history-limit": str(REMEMBERED)}})
    for host in ground.lab.hosts:
        start_frugal(ground, host)
    ground.choose(("pre-copy",))
    early = None
    first = min(times // 3, WARM)
    for number in range(times):
        title = f"abort {number + 1}"
        with ground.under_way(("--live",), 1.5) as running:
            ground.host(running.source).virsh("domjobabort", GUEST, check=False)
        where = ground.running_on()
        if not ground.account.check(len(where) == 1, f"{title}: the guest runs on {where}") or \
                not ground.alive(GUEST, where[0], f"{title}: the guest goes on"):
            ground.account.lost += 1
            ground.fresh_guest()
            ground.choose(("pre-copy",))
        else:
            ground.source = where[0]
        if number == first:
            early = sizes(ground)
    ground.settle("after all aborts")
    late = sizes(ground)
    more = times - 1 - first
    for key, (memory, files, threads) in late.items():
        before = early[key]
        title = f"{key[1]} on {key[0]}, {more} aborts later"
        ground.tap.note(f"{title}: {before[0]} to {memory} KiB, {before[1]} to {files} descriptors, "
                        f"{before[2]} to {threads} threads")
        if memory > before[0] + GROWTH_KIB + GROWTH_KIB_EACH * more:
            ground.leak(f"{title}: {before[0]} KiB grew to {memory} KiB")
        if files > before[1] + 8:
            ground.leak(f"{title}: {before[1]} descriptors grew to {files}")
        if threads > before[2] + 8:
            ground.leak(f"{title}: {before[2]} threads grew to {threads}")
    ground.set_modes("full", "full", config=CONFIG)


# name: (row, times in the whole suite, times in make test[, times in a share])
ROWS = {
    "daemon killed": (daemon_killed, 200, 4, 25),
    "daemon broken": (daemon_broken, 14, 1),
    "libvirtd killed": (libvirtd_restarted, 10, 1),
    "destination reboots": (destination_reboots, 10, 1),
    "tc or ip fails": (tc_fails, 24, 2),
    "qdisc changed": (qdisc_changed, 12, 1),
    "foreign tree": (foreign_tree, 4, 1),
    "aborted": (aborted, 20, 2),
    "client killed": (client_killed, 10, 2),
    "link cut for 5 s": (link_cut, 12, 1),
    "aborts in a row": (many_aborts, 500, 0),
}
