#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several `virsh migrate` at once: order, aborts of those that wait, workers. TAP, root.

The commands are typed so fast that all are there before the first has moved a
byte. A wait ends at once by `virsh domjobabort` and by Ctrl-C, with an error that
says why, and the place goes to the next one; libvirtd's workers are raised while
calls wait and put back afterwards, also by a daemon that was killed meanwhile.
"""

import re
import signal
import sys
import time

from support.stage import DAEMON_PID, main, wait_until
from convoylab import gang  # found by support.stage

RATE = 200
PRIORITIES = ("high", "medium", "low")
AT_ONCE = 3.0               # seconds; the calls come back within a tick of the daemon
MEMBERS = (
    gang.Member("low-first", "low"),
    gang.Member("low-next", "low"),
    gang.Member("medium", "medium"),
    gang.Member("high", "high"),
)


def raised(stage, host, before):
    """Both limits are higher than BEFORE, and the workers are there."""
    now = stage.pool(host)
    count, = stage.pool(host, "nWorkers")
    return all(new > old for new, old in zip(now, before)) and count >= now[1]


def waiting(stage, host):
    status = stage.status(host)
    return {row["domain"] for row in status["waiting"]} if status else set()


def wait_waiting(stage, host, names):
    stage.wait_status(host, f"{names} waiting",
                      lambda status: names <= {row["domain"] for row in status["waiting"]})


def check_order(stage):
    """All arrive, high priority first, however long a busy machine takes to start the commands."""
    stage.set_modes("full", "full", config={"policy": {"gathering-time": "3s"}})
    typed = gang.migrate(stage.lab, MEMBERS, "host-a", timeout=90)
    logs = {name: stage.explain("host-a", name).get("log", []) for name in typed}
    waited = {name for name, log in logs.items() if any(entry["event"] == "waiting" for entry in log)}
    failed = {name: one.stderr for name, one in typed.items() if one.process.returncode != 0}
    stage.tap.ok(not failed, "all four arrive", failed)
    order = sorted(typed, key=lambda name: typed[name].seconds)
    stage.tap.ok(order[0] == "high", "high priority arrives first", order)
    rank = {member.name: PRIORITIES.index(member.priority) for member in MEMBERS}
    stage.tap.ok(order == sorted(order, key=rank.get), "the others in the order of priority", order)
    stage.tap.equal(waited, set(typed) - {"high"}, "also the first one there waits for the others")
    beside = [entry["text"] for name in ("low-first", "low-next") for entry in logs[name]
              if entry["event"] == "admitted" and ("next in the order" in entry["text"]
                                                   or "cannot fill the link" in entry["text"])]
    stage.tap.equal(len(beside), 2, "each of the last two runs beside the one before it", logs)
    check_held_there(stage, logs)
    for member in MEMBERS:
        stage.alive(member.name, "host-b", f"{member.name} goes on at the destination")
    stage.set_modes("full", "full")


def seconds_after(log, event, key):
    """The number after KEY in what LOG says of EVENT; 0 where it says nothing."""
    texts = [entry["text"] for entry in log if entry["event"] == event]
    found = re.search(rf"{key}: ([0-9.]+) s", texts[0]) if texts else None
    return float(found[1]) if found else 0.0


def check_held_there(stage, logs):
    """The destination knows what the wait took of a deadline."""
    for name in ("low-first", "low-next"):
        waited = seconds_after(logs[name], "admitted", "waited")
        told = seconds_after(stage.explain("host-b", name).get("log", []), "prepare", "held_there")
        stage.tap.ok(waited > 0 and abs(told - waited) < 1,
                     f"{name}: the destination is told how long it was held", (waited, told))


def ended_at_once(stage, one, since, what):
    try:
        wait_until(f"end of {one.name}", one.poll, timeout=10)
    except Exception as error:  # noqa: BLE001: reported below
        stage.tap.note(error)
    seconds = time.monotonic() - since
    stage.tap.ok(one.poll() and seconds < AT_ONCE and one.process.returncode != 0
                 and "aborted" in one.stderr and "waited for its turn" in one.stderr,
                 what, f"{seconds:.1f} s, exit {one.process.returncode}: {one.stderr}")


def check_aborts(stage):
    source = "host-b"
    before = stage.pool(source)
    typed = {}
    try:
        type_high(stage, source, typed)
        for name in ("low-first", "low-next"):
            typed[name] = gang.Typed(stage.lab, name, source)
        wait_waiting(stage, source, {"low-first", "low-next"})
        wait_until("more workers", lambda: raised(stage, source, before), timeout=5)
        stage.tap.ok(True, "libvirtd has more workers while calls wait")
        rows = {row["domain"]: row for row in stage.status(source)["waiting"]}
        estimates = [row.get("starts_in_s") for row in rows.values()]
        stage.tap.ok(all(value is not None and 0 <= value < 120 for value in estimates),
                     "status says when they will start", estimates)

        since = time.monotonic()
        stage.host(source).virsh("domjobabort", "low-first")
        ended_at_once(stage, typed["low-first"], since, "domjobabort ends a wait at once")
        typed["low-next"].press_ctrl_c()
        since = time.monotonic()
        ended_at_once(stage, typed["low-next"], since, "Ctrl-C ends a wait at once")
        stage.tap.equal(waiting(stage, source), set(), "their places are free")
        wait_until("end of the first", typed["high"].poll, timeout=60)
        stage.tap.equal(typed["high"].process.returncode, 0, "the running one is not disturbed")
    finally:
        for one in typed.values():
            one.end()
    for name in ("low-first", "low-next"):
        stage.alive(name, source, f"{name} stays where it was")
    go_back(stage, ["high"])
    restored(stage, source, before, "the workers are as before")


def restored(stage, host, before, what):
    try:
        wait_until("workers as before", lambda: stage.pool(host) == before, timeout=8)
    except Exception as error:  # noqa: BLE001: reported below
        stage.tap.note(error)
    stage.tap.equal(stage.pool(host), before, what)


def type_high(stage, source, typed):
    """Into TYPED: high's migration, which runs for longer than what others do beside it."""
    typed["high"] = gang.Typed(stage.lab, "high", source, ("--live", "--bandwidth", "8"))
    wait_until("its turn", lambda: any(
        row["domain"] == "high" and row["state"] == "running"
        for row in (stage.status(source) or {"migrations": []})["migrations"]), timeout=20)


def go_back(stage, names, flags=gang.DIRECT):
    """All of NAMES at once, from host-a."""
    for one in [gang.Typed(stage.lab, name, "host-a", flags) for name in names]:
        try:
            wait_until("the way back", one.poll, timeout=60)
        finally:
            one.end()
        stage.tap.equal(one.process.returncode, 0, f"{one.name} goes back")


def check_ports(stage, names):
    """Of each peer-to-peer migration its own port was seen, so that it has a filter of its own."""
    logs = [stage.explain("host-a", name).get("log", []) for name in names]
    ports = [re.fullmatch(r"number: (\d+)", entry["text"])[1]
             for log in logs for entry in log if entry["event"] == "port"]
    stage.tap.ok(len(ports) == len(set(ports)) == len(names),
                 "the port of each peer-to-peer migration is known", logs)


def type_two(stage, source, typed, second, flags=("--live",)):
    """Into TYPED: high's migration, which runs, and as SECOND low-next's, which waits."""
    type_high(stage, source, typed)
    typed[second] = gang.Typed(stage.lab, "low-next", source, flags)
    wait_waiting(stage, source, {"low-next"})


def check_timeout(stage):
    """A --timeout that passes while its call waits: as if it had passed in the migration."""
    source = "host-b"
    typed = {}
    try:
        type_two(stage, source, typed, "low-next", ("--live", "--timeout", "2"))
        wait_until("its end", typed["low-next"].poll, timeout=60)
        stage.tap.equal((typed["low-next"].process.returncode, typed["low-next"].stderr), (0, ""),
                        "one whose --timeout passes while it waits arrives")
        wait_until("end of the first", typed["high"].poll, timeout=60)
    finally:
        for one in typed.values():
            one.end()
    log = stage.explain(source, "low-next").get("log", [])
    stage.tap.ok(any(entry["event"] == "admitted" and "--timeout" in entry["text"]
                     for entry in log), "it did not wait for its turn", log)
    state = stage.host("host-a").virsh("domstate", "low-next", check=False).stdout.strip()
    stage.tap.equal(state, "running", "it was suspended for its migration only")
    for name in typed:
        stage.alive(name, "host-a", f"{name} goes on")
    go_back(stage, typed, gang.PEER_TO_PEER)
    check_ports(stage, typed)


def check_client_killed(stage):
    """A virsh that is killed while it waits does not keep the others waiting."""
    source = "host-b"
    typed = {}
    try:
        type_two(stage, source, typed, "killed")
        typed["killed"].kill()
        wait_until("end of virsh", typed["killed"].poll, timeout=5)
        wait_until("end of the first", typed["high"].poll, timeout=60)
        stage.tap.equal(typed["high"].process.returncode, 0, "the running one arrives")
        stage.wait_status(source, "no migration", lambda status: not status["migrations"],
                          timeout=25)
        stage.tap.ok(True, "the killed one's place is free")
    finally:
        for one in typed.values():
            one.end()
    stage.alive("low-next", source, "its guest stays where it was")
    go_back(stage, ["high"])


def check_killed(stage):
    """A caller and a daemon are killed; neither leaves a place or a worker taken."""
    source = "host-b"
    before = stage.pool(source)
    typed = {}
    try:
        type_two(stage, source, typed, "low-next")
        wait_until("more workers", lambda: raised(stage, source, before), timeout=5)
        stage.host(source).daemon_stop(signal.SIGKILL)
        for name, one in typed.items():
            wait_until(f"end of {name}", one.poll, timeout=60)
            stage.tap.equal(one.process.returncode, 0, f"{name} arrives without the daemon")
        stage.tap.ok(stage.pool(source) > before, "a killed daemon cannot put back")
        stage.host(source).daemon_start()
        restored(stage, source, before, "the next daemon puts the workers back")
    finally:
        for one in typed.values():
            one.end()
    stage.tap.ok(stage.host(source).service_pid(DAEMON_PID), "the daemon runs")


def check(stage):
    stage.set_modes("full", "full")
    gang.start_guests(stage.lab, MEMBERS)
    before = stage.networks()
    check_order(stage)
    check_aborts(stage)
    check_timeout(stage)
    check_client_killed(stage)
    check_killed(stage)
    stage.restored(before, "the network is as before")


if __name__ == "__main__":
    sys.exit(main("gang", check, rate=RATE))
