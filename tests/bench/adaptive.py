#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Does bandwidth follow the traffic? Needs root and the lab.

A VM of medium priority migrates beside a neighbour with a lower limit, whose demand
falls and returns every few seconds. Measured from outside: the migration's bytes at
the switch, the neighbour's bytes at its client. Writes build/bench/adaptive.json:

  grow_s    median time from a fall until the migration has 90 % of what became free
  shrink_s  median time from a return until the neighbour has its lower limit again
  below_floor_samples of samples: 0.5 s in which it got less than min(demand, limit),
            that is, below the limit while something it had asked for 50 ms ago was missing

Free is what the neighbour no longer uses above its lower limit: beside a declared
limit a medium migration never gets more than the rest of the link. The
exit status says whether the targets (1 s, 1 s, none) are met. Builds nothing.
"""

import json
import os
import pathlib
import select
import socket
import subprocess
import sys
import time

TREE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "tests" / "lab"))
from convoylab import LabError  # noqa: E402
from convoylab import bench, series, util  # noqa: E402
from convoylab.experiment import ShapingWatch  # noqa: E402
from convoylab.host import component  # noqa: E402
from convoylab.processors import ProcessorWatch  # noqa: E402

LINK = 200.0                    # Mbit/s
FLOOR = 40.0                    # Mbit/s, the neighbour's lower limit
LOW = 20.0                      # Mbit/s, its demand after a fall; else all it can get
PHASE = 4.0                     # s, each
MEMORY = 896                    # MiB of the VM that migrates: about a minute
WIRE = 1514 / 1448              # what a class counts of a byte that the client sees
HEADROOM = 1.06                 # of a lower limit, for those headers and for bursts
WINDOW = 0.25                   # s over which a rate counts as reached
SAMPLE = 0.5                    # s
SERVICE = 0.05                  # s that an answer may take: a queue on the way and a busy guest
TARGETS = {"grow_s": 1.0, "shrink_s": 1.0, "below_floor_samples": 0}
VM, NEIGHBOUR = "web", "db"
METADATA = ('<convoy:domain xmlns:convoy="urn:virt-convoy:domain:1">'
            '<convoy:priority>medium</convoy:priority>'
            '<convoy:technique allow="pre-copy"/></convoy:domain>')

VALUE = 64 << 10                # bytes of one answer
OUTSTANDING = 8                 # answers asked for ahead, per connection, when demand is high
CONNECTIONS = 2
PORT = 11211


# -- the neighbour's client: the demand changes at known times, without a new connection --

def client(address, record_path):
    """Fetches values from the guest's memcached; writes a JSON line every 50 ms."""
    connections = []
    for _ in range(CONNECTIONS):
        connection = socket.create_connection((address, PORT), timeout=30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connections.append(connection)
    data = os.urandom(VALUE)
    connections[0].sendall(f"set v 0 0 {VALUE}\r\n".encode() + data + b"\r\n")
    if b"STORED" not in connections[0].recv(100):
        raise SystemExit("memcached stores nothing")
    answer = len(f"VALUE v 0 {VALUE}\r\n") + VALUE + len("\r\nEND\r\n")
    asked = [0] * CONNECTIONS           # bytes
    received = [0] * CONNECTIONS
    buffer = bytearray(1 << 18)
    begin = now = time.time()
    next_line, next_low = begin, 0.0
    with open(record_path, "w", encoding="utf-8", buffering=1) as record:
        while True:
            high = int((now - begin) / PHASE) % 2 == 0
            for number, connection in enumerate(connections):
                while high and asked[number] - received[number] < OUTSTANDING * answer:
                    connection.sendall(b"get v\r\n")
                    asked[number] += answer
            if not high and now >= next_low:
                connections[0].sendall(b"get v\r\n")
                asked[0] += answer
                next_low = max(next_low, now - 0.1) + answer * 8 / (LOW * 1e6)
            if now >= next_line:
                record.write(json.dumps({"time": now, "high": high, "asked": sum(asked),
                                         "received": sum(received)}) + "\n")
                next_line += 0.05
            ends = next_line if high else min(next_line, next_low)
            ready, _, _ = select.select(connections, [], [], max(ends - time.time(), 0))
            for connection in ready:
                got = connection.recv_into(buffer)
                if got == 0:
                    raise SystemExit("memcached closed the connection")
                received[connections.index(connection)] += got
            now = time.time()


# -- figures --------------------------------------------------------------------------

def demand_series(rows, limit):
    """(received, least): series in Mbit/s; least is min(demand, LIMIT)."""
    received, least = [], []
    for before, row in zip(rows, rows[1:]):
        seconds = row["time"] - before["time"]
        got = (row["received"] - before["received"]) * 8 / 1e6 / seconds
        wanted = (row["asked"] - before["asked"]) * 8 / 1e6 / seconds
        received.append((row["time"], seconds, got))
        # With high demand there is always more to be had.
        least.append((row["time"], seconds, limit if row["high"] else min(wanted, limit)))
    return received, least


def unserved(rows, at):
    """Bytes asked for SERVICE before AT and not received by then."""
    asked = [row["asked"] for row in rows if row["time"] <= at - SERVICE]
    received = [row["received"] for row in rows if row["time"] <= at]
    return max((asked[-1] if asked else 0) - (received[-1] if received else 0), 0)


def switches(rows):
    """[(time, now high)] of each change of demand."""
    return [(row["time"], row["high"]) for before, row in zip(rows, rows[1:])
            if before["high"] != row["high"]]


def reached(rates, start, end, goal):
    """Seconds from START until a WINDOW has a mean of GOAL; END - START when none does."""
    at = start
    while at + WINDOW <= end:
        if series.amount(rates, at, at + WINDOW) / WINDOW >= goal:
            return at + WINDOW - start
        at += 0.05
    return end - start


def figures(rows, migration, start, end):
    """All figures of one run between START and END."""
    received, least = demand_series(rows, FLOOR)
    changes = [(at, high) for at, high in switches(rows)]
    grow, shrink, events = [], [], []
    for number, (at, high) in enumerate(changes[:-1]):
        until = changes[number + 1][0]
        if at - PHASE / 2 < start or until > end:
            continue
        before = at - PHASE / 2
        settled = until - PHASE / 2
        event = {"at": round(at - start, 2), "high": high,
                 "neighbour": [round(series.mean(received, *part) or 0, 1)
                               for part in ((before, at), (settled, until))],
                 "migration": [round(series.mean(migration, *part) or 0, 1)
                               for part in ((before, at), (settled, until))]}
        if high:
            event["seconds"] = round(reached(received, at, until, FLOOR), 3)
            shrink.append(event["seconds"])
        else:
            free = (event["neighbour"][0] * WIRE
                    - max(event["neighbour"][1] * WIRE, FLOOR * HEADROOM))
            goal = event["migration"][0] + 0.9 * free
            event["free"], event["goal"] = round(free, 1), round(goal, 1)
            event["seconds"] = round(reached(migration, at, until, goal), 3)
            grow.append(event["seconds"])
        events.append(event)
    if not grow or not shrink:
        raise LabError("the migration ended before the demand had changed twice")
    got = series.samples(received, start, end, SAMPLE)
    wanted = series.samples(least, start, end, SAMPLE)
    low = [(round(at - start, 2), round(value, 1), round(need, 1))
           for (at, value), (_, need) in zip(got, wanted)
           if value < need and unserved(rows, at) > 0]
    return {"grow_s": series.median(grow), "grow_worst_s": max(grow),
            "shrink_s": series.median(shrink), "shrink_worst_s": max(shrink),
            "falls": len(grow), "returns": len(shrink),
            "below_floor_samples": len(low), "samples": len(got),
            "below": low, "worst_sample_mbit_s": round(min(value for _, value in got), 1),
            "events": events}


# -- one run ----------------------------------------------------------------------------

def measure(lab, memory, record):
    """Figures of one migration; the neighbour is there."""
    if VM in {row["name"] for row in lab.guests.list()}:
        lab.guests.stop(VM)
    with util.progress(f"starting guest {VM} ({memory} MiB)"):
        lab.guests.start(VM, memory=memory, metadata=METADATA)
    record.unlink(missing_ok=True)
    address = lab.guests.record(NEIGHBOUR)["ip"]
    process = subprocess.Popen(
        lab.client_argv(sys.executable, os.path.abspath(__file__), "--client", address,
                        str(record)), cwd="/", stdin=subprocess.DEVNULL)
    try:
        util.wait_until("the neighbour's traffic",
                        lambda: process.poll() is not None
                        or record.exists() and record.read_text().count("\n") > 20, timeout=30)
        with lab.link_sampler(interval=0.1) as sampler, ShapingWatch(lab) as shaping, \
                util.progress("migrating beside a neighbour whose demand comes and goes"):
            processors = ProcessorWatch()
            result = lab.migrations.migrate(VM, timeout=300)
            idle = processors.idle()
        if process.poll() is not None:
            raise LabError("the neighbour's client ended")
    finally:
        process.terminate()
        process.wait()
    explain = lab.host("host-a").run(component("virt-convoy"), "explain", VM, check=False).stdout
    if result["returncode"] != 0:
        raise LabError(f"virsh: {result['stderr']}")
    if shaping.first is None:
        raise LabError(f"nothing was shaped: {explain}")
    migration = series.from_rows(sampler.rows, lambda row: row["migration"]["host-a"])
    rows = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()
            if line.endswith("}")]
    # The destination's QEMU may take seconds to start: until then nothing moves.
    transfer = next((at for at, _, value in migration
                     if at > result["started"] and value > 1), shaping.first)
    run = figures(rows, migration, max(shaping.first, transfer) + 1, result["ended"] - 1)
    return {"total_migration_time_s": round(result["seconds"], 2),
            "cpu_idle_during": round(idle, 2), **run, "explain": explain}


def main():
    if sys.argv[1:2] == ["--client"]:
        return client(*sys.argv[2:4])
    arguments = bench.parser("adaptive", __doc__, runs=(3, "migrations measured"),
                             memory=(MEMORY, "MiB")).parse_args()

    def measure_all(lab):
        with util.progress(f"starting guest {NEIGHBOUR}"):
            lab.guests.start(NEIGHBOUR, memory=192, fill=8, sla_lower=FLOOR)
        return [measure(lab, arguments.memory, lab.directory / "neighbour.jsonl")
                for _ in range(arguments.runs)]
    runs = bench.in_lab(arguments, measure_all, rate=LINK, mode="full")
    # Every change of demand counts once, in whichever run it was.
    events = [event for run in runs for event in run["events"]]
    summary = {
        "grow_s": series.median([event["seconds"] for event in events if not event["high"]]),
        "shrink_s": series.median([event["seconds"] for event in events if event["high"]]),
        "below_floor_samples": sum(run["below_floor_samples"] for run in runs),
        "samples": sum(run["samples"] for run in runs),
        "grow_worst_s": max(run["grow_worst_s"] for run in runs),
        "shrink_worst_s": max(run["shrink_worst_s"] for run in runs),
        "falls": sum(run["falls"] for run in runs),
        "returns": sum(run["returns"] for run in runs),
        "link_mbit_s": LINK, "floor_mbit_s": FLOOR, "processors": os.cpu_count(),
        "each": runs}
    util.write_json(arguments.output, summary)
    kept = True
    for key, target in TARGETS.items():
        kept &= bench.verdict(summary[key] <= target,
                              f"{key}: {summary[key]:g} (target {target:g})")
    for number, run in enumerate(runs, 1):
        print(f"       migration {number}, {run['total_migration_time_s']:g} s: "
              + ", ".join(f"{key} {run[key]:g}" for key in TARGETS)
              + f", worst sample {run['worst_sample_mbit_s']:g} Mbit/s")
    print(f"{summary['falls']} falls, worst {summary['grow_worst_s']:g} s; {summary['returns']} "
          f"returns, worst {summary['shrink_worst_s']:g} s; {summary['samples']} samples")
    print(f"bench: {arguments.output}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
