#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests that dirty memory faster than the link, and a post-copy that breaks. TAP, root.

The same command each time; what the domain's metadata allows decides how it ends.
QEMU's monitor tells what was really done.
"""

import sys
import time

from support.stage import OTHER, LabError, log_text, main, wait_until
from support.witness import HYBRID, POST_COPY, PRE_COPY

GUEST = "web"
RATE = 200                      # Mbit/s of the links, 24 MiB/s
DIRECT, P2P = ("--live",), ("--live", "--p2p")
MAXIMUM_DOWNTIME = 1400         # ms
CONFIG = {"policy": {"destination-uri": "qemu+tcp://%s/system"}}


def events(record):
    return [entry["event"] for entry in record.get("log", [])]


def texts(record, event):
    return [entry["text"] for entry in record.get("log", []) if entry["event"] == event]


def start(stage, working_set, dirty_rate, host="host-a", **metadata):
    if stage.lab.guests.where(GUEST):
        stage.lab.guests.stop(GUEST)
    stage.uptime.clear()
    stage.lab.guests.start(GUEST, host=host, memory=200, fill=72, working_set=working_set,
                           dirty_rate=dirty_rate, **metadata)


def metadata(stage, host, *options):
    stage.command(host, "set", GUEST, *options)


def explain_has(stage, host, *wanted):
    record = stage.explain(host, GUEST)
    return record if any(event in events(record) for event in wanted) else None


def check_hybrid(stage):
    """Post-copy is allowed, pre-copy was chosen: it ends by a switch after one pass."""
    tap, title = stage.tap, "post-copy allowed"
    start(stage, working_set=60, dirty_rate=50)
    metadata(stage, "host-a", "--priority", "low", "--technique", "pre-copy,hybrid")
    outcome = stage.migrate(GUEST, "host-a", DIRECT)
    record = stage.explain("host-a", GUEST)
    tap.note(f"{title}: {outcome.seconds:.1f} s, {outcome.technique}, passes before post-copy "
             f"{outcome.source.passes_before_post_copy}")
    tap.ok(outcome.returncode == 0, f"{title}: succeeds", outcome.describe())
    tap.equal(outcome.technique, HYBRID, f"{title}: by hybrid", log_text(record))
    tap.ok("decision-changed" in events(record), f"{title}: explained", log_text(record))
    stage.alive(GUEST, "host-b", f"{title}: the guest goes on")


def check_ramp(stage):
    """Pre-copy only, but more downtime is allowed than libvirt would take."""
    tap, title = stage.tap, "pre-copy and a maximum downtime"
    start(stage, working_set=14, dirty_rate=50)
    metadata(stage, "host-a", "--technique", "pre-copy", "--max-downtime",
             f"{MAXIMUM_DOWNTIME}ms")
    outcome = stage.migrate(GUEST, "host-a", P2P)
    record = stage.explain("host-a", GUEST)
    # libvirt puts QEMU's default of 300 back after the end.
    limits = [value for value in outcome.source.parameters.get("downtime-limit", [])
              if value != 300]
    tap.note(f"{title}: {outcome.seconds:.1f} s, limits {limits}, downtime "
             f"{record.get('numbers', {}).get('downtime_ms')} ms")
    tap.ok(outcome.returncode == 0, f"{title}: succeeds", outcome.describe())
    tap.equal(outcome.technique, PRE_COPY, f"{title}: by pre-copy", log_text(record))
    tap.ok(len(limits) >= 2 and limits == sorted(limits) and limits[-1] <= MAXIMUM_DOWNTIME,
           f"{title}: the limit rose, and not above the maximum", f"{limits}\n{log_text(record)}")
    tap.ok("downtime-raised" in events(record), f"{title}: explained", log_text(record))
    stage.alive(GUEST, "host-b", f"{title}: the guest goes on")


def check_no_way(stage):
    """Pre-copy only and no downtime: told clearly, and the user can end it."""
    tap, title = stage.tap, "pre-copy only"
    start(stage, working_set=60, dirty_rate=50)
    metadata(stage, "host-a", "--technique", "pre-copy")
    with stage.migrating(GUEST, "host-a", DIRECT) as running:
        try:
            record = running.wait_for("the report", lambda: explain_has(
                stage, "host-a", "does-not-converge"), timeout=60)
        except LabError as error:
            record = stage.explain("host-a", GUEST)
            tap.note(error)
        seconds = wait_seconds(running)
        told = (texts(record, "does-not-converge") or [""])[0]
        tap.ok("metadata does not allow" in told and "domjobabort" in told,
               f"{title}: explain says why it does not end and what to do", log_text(record))
        tap.note(f"{title}: told after {seconds:.1f} s: {told}")
        tap.ok(not running.ended(), f"{title}: not ended by virt-convoy")
        stage.host("host-a").virsh("domjobabort", GUEST)
        running.wait(20)
    tap.ok(running.outcome.returncode != 0, f"{title}: domjobabort ends it",
           running.outcome.describe())
    stage.alive(GUEST, "host-a", f"{title}: the guest goes on where it was")


def wait_seconds(running):
    return time.monotonic() - running.clock


def link(stage, host, state):
    """Pull the cable of HOST at the switch, or plug it in again."""
    stage.lab.execute("switch", "ip", "link", "set", f"sw-{host[-1]}", state)


def break_post_copy(stage, source, flags, title, cut):
    """In post-copy at a low rate the link is CUT for some seconds, and libvirt told so."""
    tap, destination = stage.tap, OTHER[source]
    flags = (*flags, "--postcopy", "--postcopy-bandwidth", "6")
    with stage.migrating(GUEST, source, flags, timeout=60) as running:
        running.wait_for("post-copy", lambda: "postcopy-active" in running.account().statuses)
        # Before the guest runs there its QEMU would give up, and all is still at the source.
        running.wait_for("the guest at the destination", lambda: stage.lab.guests.ask(GUEST))
        if cut:
            link(stage, destination, "down")
        try:
            # QEMU itself would notice only when TCP gives up.
            stage.host(source).virsh("domjobabort", GUEST, "--postcopy")
            wait_until("the failure in explain", lambda: explain_has(
                stage, source, "post-copy-failed"), timeout=20, interval=0.2)
            if cut:
                wait_until("a try to resume", lambda: explain_has(stage, source, "resume"),
                           timeout=20, interval=0.2)
        finally:
            link(stage, destination, "up")
        running.wait(60)
    tap.ok(running.outcome.returncode != 0, f"{title}: the caller's command fails",
           running.outcome.describe())
    try:
        record = wait_until("the end", lambda: ended(stage, source), timeout=60, interval=0.2)
    except LabError as error:
        record = stage.explain(source, GUEST)
        tap.note(error)
    statuses = running.account().statuses
    tap.note(f"{title}: {wait_seconds(running):.1f} s, {' '.join(statuses)}")
    tap.equal((record.get("outcome"), record.get("technique")), ("succeeded", POST_COPY),
              f"{title}: resumed and ended", log_text(record))
    tap.ok("postcopy-recover" in statuses and statuses[-1] == "completed",
           f"{title}: QEMU recovered", statuses)
    tap.ok({"post-copy-failed", "resume"} <= set(events(record)), f"{title}: explained",
           log_text(record))
    stage.alive(GUEST, destination, f"{title}: the guest goes on")


def ended(stage, source):
    record = stage.explain(source, GUEST)
    return record if record.get("outcome") not in (None, "none") else None


def check_resume(stage):
    start(stage, working_set=30, dirty_rate=4)
    metadata(stage, "host-a", "--technique", "post-copy")
    break_post_copy(stage, "host-a", DIRECT, "broken post-copy, direct, the link cut",
                    cut=True)
    break_post_copy(stage, "host-b", P2P, "broken post-copy, --p2p", cut=False)


def check_observed(stage):
    """Nobody announced it: what the caller's flags and the metadata allow is done, no more."""
    tap = stage.tap
    stage.set_modes("hook-only", "full", config=CONFIG)
    start(stage, working_set=60, dirty_rate=50)
    for title, flags, technique, reason in (
            ("observed, begun without post-copy", DIRECT, "pre-copy,hybrid",
             "it began without post-copy"),
            ("observed, post-copy not in the metadata", (*DIRECT, "--postcopy"), "pre-copy",
             "the domain's metadata does not allow it")):
        metadata(stage, "host-a", "--priority", "low", "--technique", technique)
        with stage.migrating(GUEST, "host-a", flags) as running:
            try:
                # The one before has a report as well.
                record = running.wait_for("the report", lambda: not ended(stage, "host-a")
                                          and explain_has(stage, "host-a", "does-not-converge"),
                                          timeout=60)
            except LabError as error:
                record = stage.explain("host-a", GUEST)
                tap.note(error)
            told = (texts(record, "does-not-converge") or [""])[0]
            tap.ok(reason in told, f"{title}: told why it does not end", log_text(record))
            tap.ok("observed" in events(record)
                   and "post-copy-requested" not in events(record),
                   f"{title}: no switch is asked for", log_text(record))
            stage.host("host-a").virsh("domjobabort", GUEST)
            running.wait(20)
        wait_until("the end", lambda: ended(stage, "host-a"), timeout=20, interval=0.2)
    title = "observed, post-copy allowed"
    metadata(stage, "host-a", "--priority", "low", "--technique", "pre-copy,hybrid")
    outcome = stage.migrate(GUEST, "host-a", (*DIRECT, "--postcopy"))
    record = stage.explain("host-a", GUEST)
    tap.equal((outcome.returncode, outcome.technique), (0, HYBRID), f"{title}: by hybrid",
              outcome.describe() + log_text(record))
    tap.ok("observed" in events(record), f"{title}: by the daemon", log_text(record))
    stage.alive(GUEST, "host-b", f"{title}: the guest goes on")
    stage.set_modes("full", "full", config=CONFIG)


CHECKS = {"hybrid": check_hybrid, "ramp": check_ramp, "no-way": check_no_way,
          "observed": check_observed, "resume": check_resume}


def check(stage):
    stage.set_modes("full", "full", config=CONFIG)
    for name, function in CHECKS.items():
        if len(sys.argv) < 2 or name in sys.argv[1:]:
            function(stage)


if __name__ == "__main__":
    sys.exit(main("convergence", check, rate=RATE))
