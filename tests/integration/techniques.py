#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Traffic alone chooses the technique, and QEMU then does it. TAP, root.

Every cell of the table of design step 2 is made of real traffic: a neighbour
guest on each host and the guest itself receive or send. The commands are the
same each time; only the traffic differs, and in two cells the priority.
"""

import sys

from support.stage import OTHER, log_text, main
from support.witness import HYBRID, POST_COPY, PRE_COPY

GUEST = "web"
RATE = 200                      # Mbit/s of the links
NEIGHBOUR_RATE, GUEST_RATE = 30, 20
CLEARLY = 2.3                   # times the other direction: more than virt-convoy asks for
BUSY = 0.07 * RATE * 1e6 / 8    # bytes/s: not idle by any hysteresis
IN, OUT = "in", "out"
NEIGHBOURS = {"host-a": "near-a", "host-b": "near-b"}
DIRECT, P2P = ("--live",), ("--live", "--p2p")
# traffic of host-a's and host-b's neighbour, of the guest; priority; flags; result.
# The guest goes there and back, so that few flows change between two cells.
CELLS = (
    (IN, IN, IN, "medium", DIRECT, HYBRID),
    (IN, IN, OUT, "medium", P2P, POST_COPY),
    (IN, OUT, IN, "medium", P2P, POST_COPY),
    (IN, OUT, IN, "low", DIRECT, PRE_COPY),         # from host-b: (out, in)
    (IN, OUT, OUT, "low", DIRECT, POST_COPY),
    (IN, OUT, OUT, "low", P2P, POST_COPY),          # from host-b: (out, in)
    (OUT, OUT, OUT, "high", DIRECT, POST_COPY),
    (OUT, OUT, IN, "high", DIRECT, POST_COPY),
    (OUT, IN, IN, "high", P2P, HYBRID),
)


class Flows:
    """One flow per guest, changed only when its direction changes."""

    def __init__(self, workloads):
        self.workloads = workloads
        self.running = {}       # guest: (direction, id)

    def set(self, guest, direction, rate):
        current = self.running.get(guest)
        if current and current[0] == direction:
            return
        if current:
            self.workloads.stop(current[1])
        self.running[guest] = (direction, self.workloads.start(f"iperf-{direction}", guest,
                                                               rate=rate))


def direction_of(rates):
    """in, out, or None while neither is clear."""
    inbound, outbound = max(rates["in"], 0), max(rates["out"], 0)
    if max(inbound, outbound) < BUSY:
        return None
    if inbound >= outbound * CLEARLY:
        return IN
    return OUT if outbound >= inbound * CLEARLY else None


def uplink(status):
    return status["uplinks"][0] if status["uplinks"] else {}


def guest_rates(status):
    for domain in status["domains"]:
        if domain["name"] == GUEST:
            return domain["traffic"]
    return None


def source_shows(status, host, guest):
    link, own = uplink(status), guest_rates(status)
    if "in" not in link or own is None:
        return False
    rest = {key: link[key] - own[key] for key in (IN, OUT)}
    return direction_of(rest) == host and direction_of(own) == guest


def check_cell(stage, flows, source, cell):
    near_a, near_b, own, priority, flags, wanted = cell
    tap = stage.tap
    traffic = {"host-a": near_a, "host-b": near_b}
    for host, guest in NEIGHBOURS.items():
        flows.set(guest, traffic[host], NEIGHBOUR_RATE)
    flows.set(GUEST, own, GUEST_RATE)
    stage.command(source, "set", GUEST, "--priority", priority)
    here, there = traffic[source], traffic[OTHER[source]]
    title = f"({here},{there}), VM {own}, {priority}"
    stage.wait_status(source, f"{title}: the source's traffic",
                      lambda status: source_shows(status, here, own), timeout=30)
    stage.wait_status(OTHER[source], f"{title}: the destination's traffic",
                      lambda status: "in" in uplink(status)
                      and direction_of(uplink(status)) == there, timeout=30)
    outcome = stage.migrate(GUEST, source, flags)
    record = stage.explain(source, GUEST)
    tap.note(f"{title}, {flags[-1]}: {outcome.seconds:.1f} s, {outcome.technique}, passes before "
             f"post-copy {outcome.source.passes_before_post_copy}, requests "
             f"{outcome.source.requests}")
    if not tap.ok(outcome.returncode == 0, f"{title}: succeeds", outcome.describe()):
        return stage.lab.guests.where(GUEST)
    tap.equal(outcome.technique, wanted, f"{title}: QEMU did {wanted}",
              f"{outcome.describe()}\n{record.get('reason')}\n{log_text(record)}")
    tap.equal((record.get("technique"), record.get("rule")), (wanted, "table"),
              f"{title}: {wanted} was chosen from the traffic",
              f"{record.get('reason')}\n{log_text(record)}")
    tap.ok(stage.never_both(outcome), f"{title}: multifd and post-copy never together",
           outcome.describe())
    stage.alive(GUEST, OTHER[source], f"{title}: the guest goes on")
    return OTHER[source]


def check(stage):
    stage.set_modes("full", "full")
    for host, guest in NEIGHBOURS.items():
        stage.lab.guests.start(guest, host=host, memory=136, fill=0, working_set=0, wait=False)
    # What it dirties is more than QEMU sends in libvirt's own downtime, so that no second pass
    # ends before post-copy was asked for; where pre-copy is to end it may be down for longer.
    stage.lab.guests.start(GUEST, memory=152, fill=24, working_set=12, dirty_rate=3,
                           max_downtime=1000)
    for guest in NEIGHBOURS.values():
        stage.lab.guests.wait_ready(guest)
    flows, source = Flows(stage.lab.workloads), "host-a"
    for cell in CELLS:
        source = check_cell(stage, flows, source, cell)
    stage.lab.workloads.stop_all()


if __name__ == "__main__":
    sys.exit(main("techniques", check, rate=RATE))
