#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Deadlines, and what migrations get of one uplink with and without classes. TAP, root.

A neighbour that sends all it can is beside every migration; its lower limit must hold
whatever a deadline needs, and that of an idle one at the destination has a class too.
Times are those of the command a user types.
"""

import re
import sys

from support.stage import LabError, main, measured, wait_until

# Mbit/s. A machine that lends most of its processors to others can still send and receive
# this much in emulated guests: what is measured is the link then, not the processors.
LINK, FLOOR = 100, 20.0
NEIGHBOUR, NEIGHBOUR_NICE = "db", -5
FLOWING = 0.7                   # of the link, what the neighbour has while nothing else is there
OTHER_NEIGHBOUR, OTHER_FLOOR = "near-b", 10.0
HEADERS = 1.10                  # what a class has of a lower limit
# The first VM's, below the workload's; see plugin/shaping/plan.h.
VM_CLASS = re.compile(r"^class htb c0b0:201 parent c0b0:10 .*\brate ([0-9.]+)([KM])bit ", re.MULTILINE)
POSSIBLE, IMPOSSIBLE = 30, 2    # s, for about 120 MiB beside a full link


def metadata(priority, deadline, technique):
    return ('<convoy:domain xmlns:convoy="urn:virt-convoy:domain:1">'
            f"<convoy:priority>{priority}</convoy:priority>{technique}"
            f'<convoy:deadline unit="s">{deadline}</convoy:deadline></convoy:domain>')


def words_of_deadline(record):
    return [entry["text"] for entry in record.get("log", []) if entry["event"] == "deadline"]


def slowest(stage, seconds):
    """The neighbour's worst half second in the last SECONDS, as its client saw it."""
    rows = [row["mbit"] for row in stage.lab.workloads.rows(f"iperf-out-{NEIGHBOUR}")
            if row["row"] == "interval"]
    # The class stands about a second after the command; the end lends again.
    return min(rows[-int(seconds / 0.5) + 4:-1])


def start_neighbour(stage, rate=None):
    """The neighbour sends, with processors before all others, as a VM has its own."""
    flow = stage.lab.workloads.start("iperf-out", NEIGHBOUR, streams=4, rate=rate)
    stage.lab.workloads.renice(flow, NEIGHBOUR_NICE)
    return flow


def check_deadline(stage, name, deadline, technique=""):
    """One low-priority migration with a deadline; returns its record and its time."""
    flow = f"iperf-out-{NEIGHBOUR}"

    def migrate():
        stage.lab.guests.start(name, memory=136, fill=20,
                               metadata=metadata("low", deadline, technique))
        # A neighbour that lost its connections before would look like one that starves.
        stage.lab.workloads.wait_flowing(flow, FLOWING * LINK)
        outcome = stage.migrate(name, "host-a", timeout=150)
        worst = slowest(stage, outcome.seconds)
        record = stage.explain("host-a", name)
        stage.lab.guests.stop(name)
        return outcome, worst, record

    outcome, worst, record = measured(stage.lab, name, migrate,
                                      lambda result: result[0].returncode != 0)
    stage.tap.ok(outcome.returncode == 0, f"{name}: succeeds", outcome.describe())
    stage.tap.note(f"{name}: deadline {deadline} s, took {outcome.seconds:.1f} s; the neighbour's "
                   f"worst half second {worst:.1f} Mbit/s; {words_of_deadline(record)}")
    kept = worst >= FLOOR
    stage.tap.ok(kept, f"{name}: the neighbour keeps its lower limit",
                 kept or f"{worst:.1f} Mbit/s\n{stage.lab.workloads.account(flow, 30)}")
    return record, outcome.seconds


def vm_classes(stage):
    """Mbit/s of the first VM's class at each host, where a filter leads into it."""
    texts = [stage.network(host) for host in ("host-a", "host-b")]
    return [[round(float(number) / (1000 if unit == "K" else 1), 3)
             for number, unit in VM_CLASS.findall(text)] if "flowid c0b0:201" in text else []
            for text in texts]


def check_vm_classes(stage, title):
    wanted = [[round(floor * HEADERS, 3)] for floor in (FLOOR, OTHER_FLOOR)]
    try:
        wait_until("the neighbours' classes", lambda: vm_classes(stage) == wanted, timeout=5)
    except LabError as error:
        stage.tap.note(error)
    stage.tap.equal(vm_classes(stage), wanted,
                    f"{title}: each neighbour's lower limit has a class at its host")


def check_shares(stage, scheduling):
    """Two of one priority at a time: together they get no more than there is.

    They take turns, the one with less to move first. Where the configuration wants them
    side by side each has its share, by the root of what it has to move.
    """
    title = f"two migrations, {scheduling}"
    stage.set_modes("full", "full", config={"policy": {"scheduling": scheduling}})
    sizes = {"small": 136, "large": 320}
    for name, memory in sizes.items():
        stage.uptime.pop(name, None)
        stage.lab.guests.start(name, memory=memory, priority="high")
    running = [stage.lab.migrations.start(name) for name in sizes]

    def shares():
        status = stage.status("host-a") or {}
        rates = {row["domain"]: row["numbers"].get("guaranteed_rate") for row in status["migrations"]}
        if all(rates.get(name) for name in sizes):
            classes = status["uplinks"][0]["egress"].get("classes", {})
            # Both are in the plan that stands when the sum is the class.
            total = classes.get("migration_rate", 0)
            if 0.95 * total <= sum(rates.values()) <= 1.01 * total:
                return rates
        return None
    try:
        rates = wait_until("shares of both migrations", shares, timeout=30, interval=0.2)
        stage.tap.note(f"{title}: {rates} B/s")
        check_vm_classes(stage, title)
        ratio = rates["large"] / rates["small"]
        if scheduling == "parallel":
            # About 1 : 2.4 in memory, hence 1 : 1.5 in rates; zero pages and progress blur it.
            stage.tap.ok(1.2 < ratio < 2.4, f"{title}: the larger one gets more", rates)
        else:
            stage.tap.ok(0 < ratio < 0.25, f"{title}: the smaller one comes first", rates)
    finally:
        ends = [process.wait(timeout=120) for process in running]
        for process in running:
            process.communicate()
    stage.tap.equal(ends, [0, 0], f"{title}: both succeed")
    for name in sizes:
        stage.alive(name, "host-b", f"{title}: {name} goes on")
        stage.lab.guests.stop(name)


def follow_unshaped(stage, name):
    """MiB/s of QEMU's limit beside the neighbour, without it, beside it again; the outcome."""
    stage.lab.guests.start(name, memory=384, fill=280, priority="low")

    def limit():
        rows = [row for row in (stage.status("host-a") or {}).get("migrations", [])
                if row["domain"] == name]
        return rows[0]["numbers"].get("limit_pre_copy_mib_s") if rows else None

    def reaches(what, condition):
        try:
            running.wait_for(what, lambda: condition(limit() or 0), timeout=20, interval=0.1)
        except LabError as error:
            stage.tap.note(error)
        return limit() or 0
    # Not all of the link: a migration without classes would starve in the neighbour's queue.
    flow = start_neighbour(stage, 0.8 * LINK)
    stage.lab.workloads.wait_flowing(flow, FLOWING * LINK)
    stage.wait_status("host-a", "the neighbour's traffic", lambda status: (
        status["uplinks"][0].get("out", 0) >= 0.7 * LINK * 1e6 / 8))
    with stage.migrating(name, "host-a") as running:
        running.wait_active()
        first = reaches("a limit", lambda mib: mib > 0)
        stage.lab.workloads.stop(flow)
        freed = reaches("the freed bandwidth", lambda mib: mib >= 0.7 * LINK / 8.4)
        start_neighbour(stage, 0.8 * LINK)
        back = reaches("the neighbour's return", lambda mib: mib <= 0.35 * LINK / 8.4)
        stage.lab.workloads.stop_all()
    stage.lab.guests.stop(name)
    return first, freed, back, running.outcome


def check_unshaped(stage):
    """Without classes QEMU's own limit goes with what the neighbour leaves, both ways."""
    title = "without classes"
    stage.set_modes("full", "full", config={"network": {"shape": "no"}})
    first, freed, back, outcome = measured(stage.lab, title, lambda: follow_unshaped(stage, "calm"),
                                           lambda result: result[3].returncode != 0)
    stage.tap.note(f"{title}: {first}, then {freed}, then {back} MiB/s; {outcome.seconds:.1f} s")
    few, many = 0.35 * LINK / 8.4, 0.7 * LINK / 8.4
    stage.tap.ok(0 < first <= few, f"{title}: little beside a busy neighbour", first)
    stage.tap.ok(freed >= many, f"{title}: more when that falls", freed)
    stage.tap.ok(0 < back <= few, f"{title}: less when it returns", back)
    stage.tap.ok(outcome.returncode == 0, f"{title}: succeeds", outcome.describe())


def check(stage):
    tap = stage.tap
    stage.set_modes("full", "full")
    stage.lab.guests.start(NEIGHBOUR, memory=192, fill=8, sla_lower=FLOOR, wait=False)
    stage.lab.guests.start(OTHER_NEIGHBOUR, "host-b", memory=136, fill=0, working_set=0,
                           sla_lower=OTHER_FLOOR)
    stage.lab.guests.wait_ready(NEIGHBOUR)
    stage.lab.guests.renice(NEIGHBOUR, "host-a", NEIGHBOUR_NICE)
    start_neighbour(stage)
    record, seconds = check_deadline(stage, "possible", POSSIBLE)
    tap.ok(seconds <= POSSIBLE, "possible: ends in time", f"{seconds:.1f} s")
    # At the floor of 5 % it would take minutes; with all there is, less than half of the time.
    tap.ok(seconds >= 0.7 * POSSIBLE, "possible: with no more than it needs", f"{seconds:.1f} s")
    tap.ok(any("raised guarantee" in text for text in words_of_deadline(record)),
           "possible: explain tells of the raised guarantee", record.get("log"))
    tap.ok(not any("could not be kept otherwise" in entry["text"] for entry in record.get("log", [])),
           "possible: no post-copy for the deadline's sake", record.get("log"))
    record, _ = check_deadline(stage, "impossible", IMPOSSIBLE, '<convoy:technique allow="pre-copy"/>')
    tap.ok(any("cannot be kept" in text for text in words_of_deadline(record)),
           "impossible: explain says so", record.get("log"))
    guaranteed = record["numbers"].get("guaranteed_rate", 0)
    tap.ok(guaranteed >= 0.9 * (0.95 * LINK - HEADERS * FLOOR) * 1e6 / 8,
           "impossible: all that the lower limits leave is guaranteed", guaranteed)
    check_shares(stage, "automatic")
    check_shares(stage, "parallel")
    stage.lab.workloads.stop_all()
    check_unshaped(stage)
    stage.lab.workloads.stop_all()


if __name__ == "__main__":
    sys.exit(main("deadline", check, rate=LINK))
