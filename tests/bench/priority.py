#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Does priority mean what it says? Needs root and the lab.

Measures each situation of convoylab/situations.py several times, the pairs with
plain libvirt alternating which comes first. Prints medians and writes
build/bench/priority.json with every run. The exit status says whether the medians
keep the promises; a single slow run does not break one. Builds nothing.
"""

import os
import pathlib
import sys

TREE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "tests" / "lab"))
from convoylab import bench, series, situations, util  # noqa: E402

KEYS = ("total_migration_time_s", "downtime_ms", "workload_before_mbit_s",
        "workload_during_mbit_s", "below_floor_s", "worst_second_mbit_s", "moved_mib",
        "workload_loss", "ratio")


def write(path, runs):
    """The file as far as the runs went; (medians, promises kept)."""
    medians = {name: series.medians(modes["full"], KEYS) for name, modes in runs.items()
               if modes["full"]}
    kept = situations.promises(medians, {name: runs[name]["full"] for name in medians})
    util.write_json(path, {
        "link_mbit_s": situations.LINK, "floor_mbit_s": situations.FLOOR,
        "processors": os.cpu_count(),
        "runs": {name: len(modes["full"]) for name, modes in runs.items()},
        "situations": situations.SITUATIONS, "medians": medians,
        "plain_medians": {name: series.medians(modes["none"], KEYS)
                          for name, modes in runs.items() if modes["none"]},
        "each": runs,
        "promises": {name: bool(passed) for name, (passed, _) in kept.items()}})
    return medians, kept


def measure(lab, chosen, count, output):
    """The last answer of write(): what was measured stays, wherever it is stopped."""
    runs = {name: {"none": [], "full": []} for name in chosen}
    # Interleaved: a machine that is slow for a while is slow for all of them.
    for number in range(count):
        for name in chosen:
            print(f"bench: {name}, run {number + 1} of {count}", file=sys.stderr, flush=True)
            if name == "high":
                pair = situations.measure_pair(lab, name, plain_first=number % 2 == 0)
                for mode, figures in pair.items():
                    runs[name][mode].append(figures)
            else:
                runs[name]["full"].append(situations.measure(lab, "full", name))
            answer = write(output, runs)
    return answer


def main():
    parser = bench.parser("priority", __doc__, runs=(3, "runs of each"))
    parser.add_argument("situations", nargs="*", metavar="SITUATION",
                        help=f"{', '.join(situations.SITUATIONS)} (default: all)")
    arguments = parser.parse_args()
    chosen = arguments.situations or list(situations.SITUATIONS)
    unknown = [name for name in chosen if name not in situations.SITUATIONS]
    if unknown:
        parser.error(f"'{unknown[0]}' is no situation")
    medians, kept = bench.in_lab(
        arguments, lambda lab: measure(lab, chosen, arguments.runs, arguments.output),
        rate=situations.LINK)
    for name in chosen:
        print(f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in medians[name].items()
                                      if value is not None))
    for name, (passed, measured) in kept.items():
        bench.verdict(passed, f"{name}: {measured}")
    print(f"bench: {arguments.output}")
    return 0 if all(passed for passed, _ in kept.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
