#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Eight `virsh migrate` at once: is virt-convoy's order as good as the better simple one?

In each traffic cell the same guests move by `scheduling=automatic`, `serial` and
`parallel`, interleaved, everything else equal. Measured from outside: when each
command ended. Writes build/bench/gang.json with one record per cell: the makespan
and the sum of completion times against the better of serial and parallel, whether
the neighbours kept their floor and whether high priority arrived first. In a "full"
cell a neighbour takes all it can; there, what low priority gets beside it decides, not
the order. Needs root and the lab; builds nothing.
"""

import os
import pathlib
import sys

TREE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "tests" / "lab"))
from convoylab import LabError  # noqa: E402
from convoylab import bench, gang, processors, series, util  # noqa: E402

LINK = 200                  # Mbit/s, unless asked for another
# Traffic beside the gang at LINK takes all of two processors while the next QEMU starts: what
# starves then is no measure of the order.
LINKS = {cell: 100 for cell, ways in gang.CELLS.items() if any(ways)}
LIMIT = 1.05
DEFAULT_CELLS = tuple(cell for cell in gang.CELLS if not cell.startswith("full"))
MODES = ("automatic", "serial", "parallel")


def median_known(values):
    """None where there was no neighbour."""
    known = [value for value in values if value is not None]
    return round(series.median(known), 1) if known else None


def record_of(cell, runs, link, members):
    """The record of one CELL from {mode: [figures]}, None while a mode is missing."""
    if not all(runs[mode] for mode in MODES):
        return None
    record = {"cell": cell, "link_mbit_s": link, "floor_mbit_s": gang.FLOOR * link,
              "offered_mbit_s": gang.NEIGHBOUR * link,
              "runs": min(len(runs[mode]) for mode in MODES)}
    for key, name in (("makespan_s", "makespan_ratio"), ("completions_s", "completion_ratio")):
        medians = {mode: series.median([run[key] for run in runs[mode]]) for mode in MODES}
        record[name] = round(medians["automatic"] / min(medians["serial"], medians["parallel"]), 3)
        record[key] = {mode: round(value, 2) for mode, value in medians.items()}
        record[f"each_{key}"] = {mode: [run[key] for run in runs[mode]] for mode in MODES}
    own = runs["automatic"]
    worst = [run["worst_second_mbit_s"] for run in own if run["worst_second_mbit_s"] is not None]
    record.update(
        below_floor_s=max(run["below_floor_s"] for run in own),
        worst_second_mbit_s=min(worst, default=None),
        floor_kept=all(run["below_floor_s"] == 0 for run in own),
        # What a mode is faster by may be what it took from the neighbours.
        floor_kept_by={mode: all(run["below_floor_s"] == 0 for run in runs[mode]) for mode in MODES},
        neighbour_mbit_s={mode: median_known([run["neighbour_mbit_s"] for run in runs[mode]])
                          for mode in MODES},
        order_kept=all(gang.order_kept(members, run["order"]) for run in own))
    record["kept"] = (record["makespan_ratio"] <= LIMIT and record["completion_ratio"] <= LIMIT
                      and record["floor_kept"] and record["order_kept"])
    return record


def write(path, runs, links, members):
    """The file as far as the runs went; the records. LINKS are the cells'."""
    records = [record for record in (record_of(cell, modes, links[cell], members)
                                     for cell, modes in runs.items()) if record]
    util.write_json(path, {
        "limit": LIMIT,
        "floor_judged": f"whole seconds from {gang.STANDING_SECONDS:g} s after the commands were "
                        "typed, when the classes stand, to the end of the last one",
        "neighbour_connections": gang.STREAMS, "processors": os.cpu_count(),
        "gang": [vars(member) for member in members], "cells": records, "each": runs})
    return records


def measure(lab, cell, mode, source, members, flags):
    """The figures of a run, and where it left the guests."""
    where = source

    def run():
        nonlocal where
        for host in lab.hosts.values():
            host.set_mode("full", config={"policy": {"scheduling": mode}})
        figures = gang.run_cell(lab, members, cell, where, flags)
        where = gang.other(where)
        there = lab.host(where).virsh("list", "--name").stdout.split()
        missing = [member.name for member in members if member.name not in there]
        if missing:
            raise LabError(f"not at the destination: {missing}")
        return figures
    # One that was measured again went the other way, which is the same situation.
    return processors.measured(lab, f"{cell}, {mode}", run), where


def measure_all(lab, arguments, links, runs):
    """Adds to RUNS those of the cells whose link is LAB's.

    Returns the last answer of write(): what was measured stays, wherever it is stopped.
    """
    members = gang.GANGS[arguments.gang]
    cells = [cell for cell in runs if links[cell] == lab.rate]
    source = gang.HOSTS[0]
    with util.progress(f"starting {len(members)} guests and their neighbours"):
        gang.start_guests(lab, members, neighbours=cells != ["idle"])
    for number in range(arguments.runs):
        for cell in cells:
            # Another one is first each time: a slow minute is slow for all of them.
            first = number % len(MODES)
            for mode in MODES[first:] + MODES[:first]:
                print(f"bench: {cell}, {mode}, run {number + 1} of {arguments.runs}",
                      file=sys.stderr, flush=True)
                figures, source = measure(lab, cell, mode, source, members, arguments.flags)
                runs[cell][mode].append(figures)
                records = write(arguments.output, runs, links, members)
    return records


def main():
    parser = bench.parser("gang", __doc__, runs=(2, "runs of each"))
    parser.add_argument("--cells", default=",".join(DEFAULT_CELLS), metavar="CELL,...",
                        help=f"of {', '.join(gang.CELLS)} (default: %(default)s)")
    parser.add_argument("--gang", choices=gang.GANGS, default="mixed",
                        help="which eight (default: %(default)s)")
    parser.add_argument("--link", type=bench.at_least_one,
                        help=f"Mbit/s (default {LINK}, for "
                             f"{', '.join(f'{cell} {link}' for cell, link in LINKS.items())})")
    parser.add_argument("--p2p", action="store_const", dest="flags", const=gang.PEER_TO_PEER,
                        default=gang.DIRECT, help="peer-to-peer, as cloud managers migrate")
    arguments = parser.parse_args()
    cells = arguments.cells.split(",")
    unknown = [cell for cell in cells if cell not in gang.CELLS]
    if unknown:
        parser.error(f"'{unknown[0]}' is no cell")
    links = {cell: arguments.link or LINKS.get(cell, LINK) for cell in cells}
    runs = {cell: {mode: [] for mode in MODES} for cell in cells}
    records = []
    for link in sorted(set(links.values()), reverse=True):
        records = bench.in_lab(arguments, lambda lab: measure_all(lab, arguments, links, runs),
                               adds=bool(records), rate=link)
    for record in records:
        bench.verdict(record["kept"], f"{record['cell']}: makespan "
                      f"{record['makespan_ratio']:g}, completion times "
                      f"{record['completion_ratio']:g} of the better one; worst second "
                      f"{record['worst_second_mbit_s']} of {record['floor_mbit_s']:g} Mbit/s, "
                      "neighbours "
                      f"{'/'.join(str(record['neighbour_mbit_s'][mode]) for mode in MODES)}, "
                      f"high first: {'yes' if record['order_kept'] else 'no'}")
        for key in ("makespan_s", "completions_s"):
            print(f"       {key}, medians {record[key]}, each {record['each_' + key]}")
    print(f"bench: {arguments.output}")
    return 0 if all(record["kept"] for record in records) else 1


if __name__ == "__main__":
    sys.exit(main())
