#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The same `virsh migrate --live`, once without and once with virt-convoy. Needs root.

A VM of high priority leaves host-a beside a neighbour that sends all it can. Both
runs are measured from outside; the exit status says whether the second one kept
what virt-convoy promises. Installs nothing and builds nothing: `make demo` does.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

TREE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "tests" / "lab"))
from convoylab import Lab, LabError  # noqa: E402
from convoylab import experiment, util  # noqa: E402

# 400 Mbit/s would make the emulated guests' processors the bottleneck on two
# cores, not the link; at half of it they have time to spare.
LINK = 200                          # Mbit/s
FLOOR = 40.0                        # Mbit/s, SLA lower limit of the neighbour
SITUATION = {"priority": "high", "memory": 192, "dirty_rate": 1, "working_set": 24,
             "floor": FLOOR, "neighbour_streams": 4, "before_seconds": 6.0,
             "neighbour_seconds": 120.0}
TIME_RATIO = 0.4                    # aware to plain, at most
MODES = {"plain": "none", "aware": "full"}
ROWS = (("technique", "technique", "{}"),
        ("total migration time", "total_migration_time_s", "{:.1f} s"),
        ("downtime, from outside", "downtime_ms", "{:.0f} ms"),
        ("workload before", "workload_before_mbit_s", "{:.0f} Mbit/s"),
        ("workload during", "workload_during_mbit_s", "{:.0f} Mbit/s"),
        ("below the SLA floor", "below_floor_s", "{:.0f} s"),
        ("worst second", "worst_second_mbit_s", "{:.1f} Mbit/s"),
        ("bytes moved", "moved_mib", "{:.0f} MiB"))
EXPLAIN_LINES = 6                   # what comes first is the short form


def table(results):
    names = list(results)
    lines = [f"{'':24}" + "".join(f"{name:>16}" for name in names)]
    for title, key, form in ROWS:
        cells = []
        for name in names:
            value = results[name].figures()[key]
            cells.append("-" if value is None else form.format(value))
        lines.append(f"{title:24}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def promises(plain, aware):
    """{promise: (kept, what was measured)}"""
    ratio = aware.total_migration_time_s / plain.total_migration_time_s
    both = {"without": plain, "with": aware}
    kept = {}
    for name, run in both.items():
        kept[f"virsh succeeds, {name} virt-convoy"] = (
            run.returncode == 0, f"exit status {run.returncode} {run.stderr}".strip())
        kept[f"the VM goes on where it was, {name} virt-convoy"] = (
            run.vm_host == experiment.DESTINATION and run.counter_went_on,
            f"on {run.vm_host}, its counter went on" if run.counter_went_on
            else f"on {run.vm_host}; {run.counter_note}")
    kept["the link is shaped while memory moves"] = (
        aware.at_shaped is not None and aware.at_shaped < aware.at_end,
        "tc was never seen on the uplink" if aware.at_shaped is None
        else f"{aware.shaped_after_s:+.2f} s after the first byte")
    kept[f"the neighbour keeps its {FLOOR:g} Mbit/s in every second"] = (
        aware.below_floor_s == 0, f"{aware.below_floor_s:g} s below, "
        f"worst {aware.worst_second_mbit_s or 0:.1f} Mbit/s")
    kept[f"total time at most {TIME_RATIO:g} of plain libvirt's"] = (
        ratio <= TIME_RATIO, f"{ratio:.2f}")
    kept["tc and links are as before on both hosts"] = (
        all(aware.network_restored.values()), aware.network_difference.strip() or "identical")
    return kept


def write_result(folder, results, kept):
    answer = {"link_mbit_s": LINK, "floor_mbit_s": FLOOR, "command": experiment.COMMAND,
              "situation": {**SITUATION, "neighbour_rate": "unlimited"},
              "link_note": "200 Mbit/s, so that emulated guests on 2 cores are not the bottleneck",
              "processors": os.cpu_count(),
              **{name: result.figures() for name, result in results.items()},
              "promises": {name: bool(passed) for name, (passed, _) in kept.items()}}
    util.write_json(folder / "result.json", answer)


def draw(folder, results):
    """timeline.svg: throughput of workload and migration over time, one panel a run."""
    if not shutil.which("gnuplot"):
        print("demo: gnuplot is missing, no timeline", flush=True)
        return None
    longest = max(run.at_end - run.at_command for run in results.values()) + 6
    script = [f"set terminal svg size 900,{330 * len(results)} dynamic background 'white'",
              f"set output '{folder / 'timeline.svg'}'",
              f"set multiplot layout {len(results)},1", "set grid", "set key top right opaque",
              f"set xrange [-6:{longest:.0f}]", f"set yrange [0:{LINK * 1.2:.0f}]",
              "set xlabel 'seconds after the command'", "set ylabel 'Mbit/s'"]
    titles = {"plain": "plain libvirt", "aware": "with virt-convoy"}
    for name, run in results.items():
        data = folder / f"{name}.dat"
        moving = {at: value for at, _, value in run.migration}
        data.write_text("".join(
            f"{at - run.at_command:.3f} {value:.2f} {moving.get(at, 0):.2f}\n"
            for at, _, value in run.workload), encoding="ascii")
        script += [f"set title '{titles[name]}: {run.technique}, "
                   f"{run.total_migration_time_s:.1f} s'",
                   f"plot '{data}' using 1:2 with lines lw 2 title 'workload (neighbour)', "
                   f"'{data}' using 1:3 with lines lw 2 title 'migration', "
                   f"{FLOOR:g} with lines dt 2 lc rgb 'red' title 'SLA floor'"]
    done = subprocess.run(["gnuplot", "-"], input="\n".join(script) + "\n", text=True,
                          capture_output=True, check=False, timeout=60)
    if done.returncode != 0:
        print(f"demo: gnuplot: {done.stderr.strip()}", flush=True)
        return None
    return folder / "timeline.svg"


def show_explain(text):
    print("\n$ virt-convoy explain web     (on host-a, first lines)")
    for line in text.splitlines()[:EXPLAIN_LINES]:
        print(f"  {line}")


def run_both(lab):
    results = {}
    for name, mode in MODES.items():
        words = "without virt-convoy" if name == "plain" else "with virt-convoy on both hosts"
        print(f"\ndemo: {words}", flush=True)
        results[name] = experiment.contended_migration(lab, mode, **SITUATION)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default=f"demo-{os.getpid()}", help="name of the lab")
    parser.add_argument("--output", type=pathlib.Path, default=TREE / "build" / "demo")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("demo: the lab needs root: sudo make demo", file=sys.stderr)
        return 2
    # Stopped from outside, the lab still goes down.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    begun = time.monotonic()
    folder = arguments.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    print(f"demo: VM web (high priority, {SITUATION['memory']} MiB) leaves host-a for host-b over "
          f"{LINK} Mbit/s.\ndemo: VM db stays on host-a, sends all it can; its SLA lower limit is "
          f"{FLOOR:g} Mbit/s.\ndemo: the command, both times:\n\n  $ {experiment.COMMAND}",
          flush=True)
    lab = Lab(arguments.name)
    try:
        lab.up(rate=LINK)
        results = run_both(lab)
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        lab.down()
    kept = promises(results["plain"], results["aware"])
    left = lab.leftovers()
    kept["the lab leaves nothing behind"] = (not left, "; ".join(left) or "nothing left")
    write_result(folder, results, kept)
    picture = draw(folder, results)
    print("\n" + table(results))
    show_explain(results["aware"].explain)
    print()
    for name, (passed, measured) in kept.items():
        print(f"{'kept  ' if passed else 'BROKEN'} {name}: {measured}")
    print(f"\ndemo: {folder / 'result.json'}" + (f", {picture}" if picture else "")
          + f"; {time.monotonic() - begun:.0f} s")
    broken = [name for name, (passed, _) in kept.items() if not passed]
    for name in broken:
        print(f"demo: broken promise: {name}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
