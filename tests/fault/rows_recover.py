# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rows of the fault suite: paths and guests that are hard on a migration.

What is asked for here is not only that nothing is lost but that virt-convoy finds out
and does what it promises. QEMU's monitor tells what was really done.
"""

import contextlib
import time

from ground import GUEST, KINDS, OTHER, wait_until
from convoylab import network
from support import witness
from support.stage import log_text

HISTORY = ("/var/lib/virt-convoy/history.jsonl", "/var/lib/virt-convoy/history.jsonl.1")
UNFINISHED = "/run/virt-convoy/post-copy"
RECOVER_CONFIG = {"policy": {"destination-uri": "qemu+tcp://%s/system"}}
LINK, STREAM = 200, 50          # Mbit/s: a port of the switch, one flow of it
FLOWS = 8                       # classes that flows are put into by their port


def events(record):
    return [entry["event"] for entry in record.get("log", [])]


def forget(ground):
    """Both daemons start anew and know of no earlier migration."""
    for host in ("host-a", "host-b"):
        node = ground.host(host)
        node.daemon_stop()
        node.run("rm", "-f", *HISTORY)
        ground.daemon_ensure(host)


def guest(ground, technique, host="host-a", **options):
    """A new guest in place of the row's, with one technique allowed."""
    with contextlib.suppress(Exception):
        ground.lab.guests.stop(GUEST)
    ground.uptime.pop(GUEST, None)
    ground.lab.guests.start(GUEST, host, **options)
    ground.command(host, "set", GUEST, "--technique", technique)
    ground.source = host


@contextlib.contextmanager
def slow_flows(ground, host):
    """Each flow to HOST's migration ports gets a part of its link only, as on many paths."""
    device = f"sw-{host[-1]}"
    switch = network.namespace(ground.lab.name, "switch")
    lines = [f"qdisc replace dev {device} root handle 1: htb default 99 r2q 100",
             f"class add dev {device} parent 1: classid 1:1 htb rate {LINK}mbit",
             f"class add dev {device} parent 1:1 classid 1:99 htb rate {LINK}mbit",
             f"qdisc add dev {device} parent 1:99 pfifo limit 100"]
    for flow in range(FLOWS):
        # Linux gives connections even ports first: the lowest bit says nothing.
        lines += [f"class add dev {device} parent 1:1 classid 1:{10 + flow} htb"
                  f" rate 10mbit ceil {STREAM}mbit",
                  f"qdisc add dev {device} parent 1:{10 + flow} pfifo limit 50",
                  f"filter add dev {device} parent 1: protocol ip prio 1 u32"
                  f" match ip protocol 6 0xff match ip dport {network.MIGRATION_PORT}"
                  f" {network.MIGRATION_PORT_MASK:#x} match ip sport {2 * flow} 0x000e"
                  f" flowid 1:{10 + flow}"]
    network.batch(switch, "tc", lines)
    try:
        yield
    finally:
        network.batch(switch, "tc", [f"qdisc replace dev {device} root {network.tbf(LINK)}"])


def slow_stream(ground, times):
    """One stream cannot fill the path: the first migration finds out, the next uses several."""
    for number in range(times):
        flags = KINDS[number % len(KINDS)]
        title = f"slow flows, {flags[-1]}"
        forget(ground)
        seconds = []
        ground.account.faults += 1
        with slow_flows(ground, "host-b"):
            for parallel in (False, True):
                guest(ground, "pre-copy", memory=144, fill=100, working_set=4, dirty_rate=1)
                ground.account.migrations += 1
                outcome = ground.migrate(GUEST, "host-a", flags)
                seconds.append(outcome.seconds)
                ground.account.check(outcome.returncode == 0, f"{title}: {outcome.stderr}")
                used = [end.ever_on("multifd") for end in (outcome.source, outcome.destination)]
                ground.account.check(used == [parallel] * 2,
                                     f"{title}: multifd {used}, wanted {parallel}: "
                                     f"{log_text(ground.explain('host-a', GUEST))}")
                if not parallel:
                    wait_until("what was learnt", lambda: "streams" in events(
                        ground.explain("host-a", GUEST)), timeout=10)
                ground.settle(title, "host-b")
        ground.tap.note(f"{title}: {seconds[0]:.1f} s by one connection, {seconds[1]:.1f} s by "
                        f"{outcome.source.parameters.get('multifd-channels')}")
        ground.account.check(seconds[1] < 0.7 * seconds[0], f"{title}: took {seconds}")
        forget(ground)


@contextlib.contextmanager
def cable_pulled(ground, host):
    """HOST's link is down; the caller may plug it in earlier."""
    port = f"sw-{host[-1]}"

    def plug(state="up"):
        ground.lab.execute("switch", "ip", "link", "set", port, state)
    plug("down")
    try:
        yield plug
    finally:
        plug()


def has(ground, source, event):
    record = ground.explain(source, GUEST)
    return record if event in events(record) else None


def ended(ground, source):
    record = ground.explain(source, GUEST)
    return record if record.get("outcome") not in (None, "none") else None


def broken_then_restarted(ground, times):
    """kill -9 of the source's daemon around a broken post-copy: the next daemon resumes it."""
    ground.set_modes("full", "full", config=RECOVER_CONFIG)
    ground.before = ground.networks()
    for number in range(times):
        flags = KINDS[number % len(KINDS)]
        early = number // len(KINDS) % 2 == 1
        title = f"broken, {flags[-1]}, killed {'before' if early else 'after'}"
        guest(ground, "post-copy", memory=200, fill=72, working_set=30, dirty_rate=4)
        source = ground.source
        ground.account.migrations += 1
        ground.account.faults += 2
        argv = (*flags, "--postcopy", "--postcopy-bandwidth", "6")
        with ground.migrating(GUEST, source, argv, timeout=60) as running:
            running.wait_for("post-copy", lambda: "postcopy-active" in running.account().statuses)
            # Before the guest runs there its QEMU would give up, and all is still at the source.
            running.wait_for("the guest at the destination", lambda: ground.lab.guests.ask(GUEST))
            with cable_pulled(ground, OTHER[source]) as plug:
                if early:
                    ground.daemon_kill(source)
                # QEMU itself would notice only when TCP gives up.
                ground.host(source).virsh("domjobabort", GUEST, "--postcopy")
                if not early:
                    wait_until("the failure", lambda: has(ground, source, "post-copy-failed"),
                               timeout=20, interval=0.2)
                    ground.daemon_kill(source)
                running.wait(60)
                ground.daemon_ensure(source)
                wait_until("the next daemon's try", lambda: has(ground, source, "resume"),
                           timeout=20, interval=0.2)
                plug()
            wait_until("the end", lambda: ended(ground, source), timeout=90, interval=0.2)
        record = ground.explain(source, GUEST)
        ground.outcome_is(running, False, title)
        ground.account.check(record.get("outcome") == "succeeded" and
                             {"taken-up", "post-copy-failed"} <= set(events(record)),
                             f"{title}: {log_text(record)}")
        ground.account.check("postcopy-recover" in running.account().statuses,
                             f"{title}: {running.account().statuses}")
        left = ground.host(source).run("ls", UNFINISHED, check=False).stdout
        ground.account.check(not left.strip(), f"{title}: left in {UNFINISHED}: {left}")
        ground.settle(title, OTHER[source])
    ground.set_modes("full", "full")


def remaining(ground, source):
    """MiB that QEMU has yet to move, by libvirt; None while there is no job."""
    text = ground.host(source).virsh("domjobinfo", GUEST, "--rawstats", check=False).stdout
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "memory_remaining" and value.strip().isdigit():
            return int(value) / 2**20
    return None


def remaining_below(ground, source, limit):
    left = remaining(ground, source)
    return left if left and left < limit else None


def path_collapses(ground, times):
    """Somebody else takes nine tenths of the path as the first pass ends: no switch into that."""
    for number in range(times):
        flags = KINDS[number % len(KINDS)]
        title = f"collapse at the switch, {flags[-1]}"
        guest(ground, "hybrid", memory=144, fill=100, working_set=8, dirty_rate=1)
        ground.account.migrations += 1
        ground.account.faults += 1
        with ground.migrating(GUEST, "host-a", flags) as running:
            running.wait_active()
            left = running.wait_for("the end of the first pass",
                                    lambda: remaining_below(ground, "host-a", 16))
            # It takes less than ten seconds then: after that the lower rate counts as the path's.
            network.set_rate(ground.lab.name, "host-b", LINK // 10)
            try:
                running.wait_for("the second pass", lambda: running.account().passes >= 2)
                begun = time.monotonic()
                # It is due now; while nothing changes it must not come.
                wait_until("two seconds of the second pass",
                           lambda: time.monotonic() - begun > 2, timeout=5)
                early = "postcopy-active" in running.account().statuses
            finally:
                network.set_rate(ground.lab.name, "host-b", LINK)
            running.wait(60)
        record = ground.explain("host-a", GUEST)
        ground.tap.note(f"{title}: {left:.0f} MiB left when it collapsed, switched into it: {early}, "
                        f"{running.outcome.seconds:.1f} s in all, {running.outcome.technique}")
        ground.outcome_is(running, True, title)
        ground.account.check(not early and "post-copy-waits" in events(record),
                             f"{title}: switched early {early}: {log_text(record)}")
        ground.settle(title, "host-b")


def throttles(running):
    """What QEMU said of its throttling, in order, in percent of the processors' time."""
    said = []
    for _, sent, message in witness.messages(running.stage.host(running.source),
                                             running.begin[running.source]):
        answer = message.get("return")
        if not sent and isinstance(answer, dict) and answer.get("cpu-throttle-percentage"):
            if answer["cpu-throttle-percentage"] not in said[-1:]:
                said.append(answer["cpu-throttle-percentage"])
    return said


def dirties_faster(ground, times):
    """Post-copy is excluded and the guest faster than the link: auto-converge ends it."""
    ground.set_modes("full", "full", config={"policy": {"auto-converge": "auto"}})
    ground.before = ground.networks()
    for number in range(times):
        flags = KINDS[number % len(KINDS)]
        title = f"auto-converge, {flags[-1]}"
        guest(ground, "pre-copy", memory=144, fill=8, working_set=40, dirty_rate=60)
        ground.account.migrations += 1
        ground.account.faults += 1
        with ground.migrating(GUEST, ground.source, flags, timeout=240) as running:
            running.wait(240)
        record = ground.explain("host-a", GUEST)
        percent = throttles(running)
        ground.tap.note(f"{title}: {running.outcome.seconds:.1f} s, throttled {percent} %, "
                        f"{running.outcome.source.passes} passes")
        ground.outcome_is(running, True, title)
        ground.account.check(running.outcome.source.ever_on("auto-converge") and percent and
                             "auto-converge" in events(record),
                             f"{title}: throttled {percent}, {log_text(record)}")
        ground.account.check(running.outcome.technique == "pre-copy",
                             f"{title}: {running.outcome.describe()}")
        ground.settle(title, "host-b")
    ground.set_modes("full", "full")


# name: (row, times in the whole suite, times in make test)
ROWS = {
    "flows are slow": (slow_stream, 2, 0),
    "path collapses at the switch": (path_collapses, 4, 1),
    "dirties faster than the link": (dirties_faster, 2, 0),
    "killed when broken": (broken_then_restarted, 8, 0),
}
