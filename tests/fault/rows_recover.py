# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rows of the fault suite: paths and guests that are hard on a migration.

What is asked for here is not only that nothing is lost but that virt-convoy finds out
and does what it promises. QEMU's monitor tells what was really done.
"""

import contextlib

from ground import GUEST, KINDS, OTHER, wait_until
from convoylab import network

HISTORY = ("/run/virt-convoy/history.jsonl", "/run/virt-convoy/history.jsonl.1")
LINK, STREAM = 200, 50          # Mbit/s: a port of the switch, one flow of it
FLOWS = 8                       # classes that flows are put into by their port


def events(record):
    return [entry["event"] for entry in record.get("log", [])]


def log_text(record):
    return "\n".join(f"{entry['event']}: {entry['text']}" for entry in record.get("log", []))


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


# name: (row, times in the whole suite, times in make test)
ROWS = {
    "flows are slow": (slow_stream, 2, 0),
}
