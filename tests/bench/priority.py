#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Does priority mean what it says? Needs root and the lab.

Three situations on one emulated link, each several times:

  high        beside a neighbour that sends all it can: total time against plain
              libvirt in pairs that alternate which comes first, and the floor
  low-half    beside a neighbour that offers half of the link: what the neighbour
              loses against its own throughput just before
  low-full    beside a neighbour that sends all it can: likewise; the migration
              must still end

Prints medians and writes build/bench/priority.json with every run. The exit
status says whether the medians keep the promises; a single slow run does not
break one. Builds nothing.
"""

import argparse
import os
import pathlib
import signal
import sys

TREE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "tests" / "lab"))
from convoylab import Lab, LabError  # noqa: E402
from convoylab import experiment, series, util  # noqa: E402

LINK = 200                          # Mbit/s
FLOOR = 40.0                        # Mbit/s, of the neighbour
STREAMS = 4
LOW_FLOOR = 0.05                    # of the link, what low priority is guaranteed
LOSS = 0.03                         # of its throughput, all a neighbour may lose besides
TIME_RATIO = 0.4
SITUATIONS = {
    "high": {"priority": "high", "memory": 256, "dirty_rate": 1, "working_set": 24},
    "low-half": {"priority": "low", "memory": 192, "dirty_rate": 1, "working_set": 16,
                 "neighbour_rate": LINK / 2},
    # At 5 % of the link every MiB takes most of a second: a small guest, and idle.
    "low-full": {"priority": "low", "memory": 160, "dirty_rate": 0, "working_set": 0},
}
KEYS = ("total_migration_time_s", "downtime_ms", "workload_before_mbit_s",
        "workload_during_mbit_s", "below_floor_s", "worst_second_mbit_s", "moved_mib",
        "workload_loss", "ratio")


def measure(lab, mode, situation):
    options = {"floor": FLOOR, "neighbour_streams": STREAMS, **situation}
    result = experiment.contended_migration(lab, mode, **options)
    figures = result.figures()
    figures["workload_loss"] = round(result.workload_loss(), 4)
    faults = [text for wrong, text in (
        (result.returncode != 0, f"virsh: exit {result.returncode}: {result.stderr}"),
        (result.vm_host != experiment.DESTINATION, f"the VM is on {result.vm_host}"),
        (not result.counter_went_on, f"the VM's counter did not go on: {result.counter_note}"),
        (not all(result.network_restored.values()), result.network_difference)) if wrong]
    figures["faults"] = faults
    return figures


def measure_pair(lab, number, situation):
    """Plain and aware, the order changing from pair to pair."""
    pair = {}
    for mode in ("none", "full") if number % 2 == 0 else ("full", "none"):
        pair[mode] = measure(lab, mode, situation)
    pair["full"]["ratio"] = round(pair["full"]["total_migration_time_s"]
                                  / pair["none"]["total_migration_time_s"], 3)
    return pair


def promises(medians, runs):
    """{promise: (kept, measured)} of the situations that ran."""
    kept = {}
    for name in medians:
        faults = [text for run in runs[name]["full"] for text in run["faults"]]
        kept[f"{name}: every migration ends, the network is as before"] = (
            not faults, "; ".join(faults) or "yes")
    if "high" in medians:
        kept[f"high: total time at most {TIME_RATIO:g} of plain libvirt's"] = (
            medians["high"]["ratio"] <= TIME_RATIO, medians["high"]["ratio"])
        below = max(run["below_floor_s"] for run in runs["high"]["full"])
        kept["high: the neighbour's floor holds in every second"] = (below == 0, f"{below:g} s")
    for name, limit in (("low-half", LOSS), ("low-full", LOSS + LOW_FLOOR)):
        if name in medians:
            loss = medians[name]["workload_loss"]
            kept[f"{name}: the neighbour loses at most {limit:.0%}"] = (
                loss <= limit, f"{loss:.1%}")
    return kept


def write(path, runs):
    """The file as far as the runs went; (medians, promises kept)."""
    medians = {name: series.medians(modes["full"], KEYS) for name, modes in runs.items()
               if modes["full"]}
    kept = promises(medians, runs)
    util.write_json(path, {
        "link_mbit_s": LINK, "floor_mbit_s": FLOOR, "processors": os.cpu_count(),
        "runs": {name: len(modes["full"]) for name, modes in runs.items()},
        "situations": SITUATIONS, "medians": medians,
        "plain_medians": {name: series.medians(modes["none"], KEYS)
                          for name, modes in runs.items() if modes["none"]},
        "each": runs,
        "promises": {name: bool(passed) for name, (passed, _) in kept.items()}})
    return medians, kept


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("situations", nargs="*", metavar="SITUATION",
                        help=f"{', '.join(SITUATIONS)} (default: all)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--name", default=f"priority-{os.getpid()}", help="name of the lab")
    parser.add_argument("--output", type=pathlib.Path,
                        default=TREE / "build" / "bench" / "priority.json")
    arguments = parser.parse_args()
    chosen = arguments.situations or list(SITUATIONS)
    unknown = [name for name in chosen if name not in SITUATIONS]
    if unknown or arguments.runs < 1:
        parser.error(f"'{unknown[0]}' is no situation" if unknown else "--runs: at least 1")
    if os.geteuid() != 0:
        print("1..0 # SKIP the lab needs root")
        return 0
    # Stopped from outside, the lab still goes down, and what was measured stays.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    runs = {name: {"none": [], "full": []} for name in chosen}
    lab = Lab(arguments.name)
    try:
        lab.up(rate=LINK)
        # Interleaved: a machine that is slow for a while is slow for all of them.
        for number in range(arguments.runs):
            for name in chosen:
                print(f"bench: {name}, run {number + 1} of {arguments.runs}", file=sys.stderr,
                      flush=True)
                if name == "high":
                    for mode, figures in measure_pair(lab, number, SITUATIONS[name]).items():
                        runs[name][mode].append(figures)
                else:
                    runs[name]["full"].append(measure(lab, "full", SITUATIONS[name]))
                medians, kept = write(arguments.output, runs)
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        lab.down()
    for name in chosen:
        print(f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in medians[name].items()
                                      if value is not None))
    for name, (passed, measured) in kept.items():
        print(f"{'kept  ' if passed else 'BROKEN'} {name}: {measured}")
    print(f"bench: {arguments.output}")
    return 0 if all(passed for passed, _ in kept.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
