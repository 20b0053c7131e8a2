#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How well does the daemon predict its own migrations? Needs root and the lab.

Two guests of different memory and dirty rate go to and fro, alone on the link and
beside a neighbour that sends. The first migrations of each teach (`--teaching`
rounds) and are not judged. Compared is what `virt-convoy explain NAME --json` said
while the migration ran (`predicted_total_s`, never changed after the first pass)
with the time from the call that moves memory to its end as the daemon saw it
(`total_s`) and with the seconds of the virsh command. Adds its figures to
build/bench/prediction.json; exits with 1 when the median error is above 10 %.
"""

import json
import pathlib
import statistics
import sys
import time

TREE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "tests" / "lab"))
from convoylab import LabError  # noqa: E402
from convoylab import bench, util  # noqa: E402
from convoylab.host import component  # noqa: E402

LINK = 200                  # Mbit/s
TARGET = 0.10
OTHER = {"host-a": "host-b", "host-b": "host-a"}
GUESTS = {"small": {"memory": 192, "dirty_rate": 1, "working_set": 16},
          "large": {"memory": 272, "dirty_rate": 5, "working_set": 40}}
NEIGHBOUR_RATE = 60         # Mbit/s
SETTLE = 4.0                # seconds until the measured rates are those of now


def explain(lab, host, name):
    """The daemon's last record of the guest, {} when there is none."""
    answer = lab.host(host).run(component("virt-convoy"), "explain", name, "--json", check=False)
    try:
        return (json.loads(answer.stdout)["migrations"] or [{}])[-1]
    except (ValueError, KeyError):
        return {}


def settle(seconds=SETTLE):
    """A mean over some seconds has to pass, not an event."""
    end = time.monotonic() + seconds
    util.wait_until("settled rates", lambda: time.monotonic() >= end, timeout=seconds + 5)


def wait_record(lab, host, name):
    """The record of the last migration when it is whole: the lesson comes with it."""
    def whole():
        record = explain(lab, host, name)
        return record if record.get("ended") and "lesson" in record else None
    return util.wait_until(f"the record of {name} on {host}", whole, timeout=15)


def migrate(lab, name, source):
    """One migration; {predicted, low, high, measured, command, ...}."""
    process = lab.migrations.start(name, source, OTHER[source])
    seen = {}
    started = time.monotonic()
    try:
        # Said while it runs: what is asked after the end could have been written then.
        while process.poll() is None and time.monotonic() - started < 120:
            record = explain(lab, source, name)
            numbers = record.get("numbers", {})
            if record.get("ended") is None and "predicted_total_s" in numbers:
                seen = numbers
                if numbers.get("iteration", 0) >= 2:
                    break
            time.sleep(0.3)
        returncode = process.wait(timeout=180)
    finally:
        if process.poll() is None:
            process.kill()
        _, stderr = process.communicate()
    seconds = time.monotonic() - started
    if returncode != 0 or not seen:
        raise LabError(f"{name} from {source}: exit {returncode}, prediction "
                       f"{'seen' if seen else 'missing'} {stderr}")
    last = wait_record(lab, source, name)
    numbers = last["numbers"]
    return {"guest": name, "source": source, "technique": last["technique"],
            "predicted_s": seen["predicted_total_s"], "low_s": seen["predicted_total_low_s"],
            "high_s": seen["predicted_total_high_s"], "measured_s": numbers["total_s"],
            "command_s": seconds, "learnt_from": seen["learnt_from"],
            "dirty_assumed": seen["predicted_dirty_assumed"],
            "memory_predicted": seen["memory_predicted"],
            "memory_moved_once": numbers["memory_total"] - numbers["memory_constant"],
            "lesson": last.get("lesson"),
            "error": seen["predicted_total_s"] / numbers["total_s"] - 1}


def figures(rows):
    judged = [row for row in rows if row["judged"]]
    errors = [abs(row["error"]) for row in judged]
    if not errors:
        return {}
    return {"lab_migrations": len(errors), "lab_link_mbit_s": LINK,
            "lab_median_error": round(statistics.median(errors), 4),
            "lab_largest_error": round(max(errors), 4),
            "lab_mean_signed_error": round(statistics.fmean(row["error"] for row in judged), 4),
            "lab_within_band": round(statistics.fmean(
                row["low_s"] <= row["measured_s"] <= row["high_s"] for row in judged), 4),
            "lab_median_error_while_teaching": round(statistics.median(
                abs(row["error"]) for row in rows if not row["judged"]), 4)}


def write(path, rows):
    text = path.read_text(encoding="utf-8") if path.exists() else "{}"
    path.parent.mkdir(parents=True, exist_ok=True)
    util.write_json(path, {**{key: value for key, value in json.loads(text).items()
                              if not key.startswith("lab_")},
                           **figures(rows), "lab_each": rows})


def run(lab, arguments):
    """The rows; the file has them as far as it went."""
    rows = []
    for host in lab.hosts.values():
        host.set_mode("full")
    for name, options in GUESTS.items():
        lab.guests.start(name, "host-a", priority="high", **options)
    lab.guests.start("db", "host-a", memory=160, fill=8, sla_lower=40)
    source = "host-a"
    for number in range(arguments.teaching + arguments.rounds):
        # To and fro: the neighbour's host sends in one direction only.
        judged = number >= arguments.teaching
        if judged and number == arguments.teaching + arguments.rounds // 2:
            lab.workloads.start("iperf-out", "db", rate=NEIGHBOUR_RATE)
        settle()
        for name in GUESTS:
            row = migrate(lab, name, source)
            row.update(judged=judged, neighbour=bool(lab.workloads.list()))
            rows.append(row)
            print(f"bench: {name} from {source}, {'judged' if judged else 'teaching'}"
                  f"{', neighbour' if row['neighbour'] else ''}: predicted "
                  f"{row['predicted_s']:.1f} s ({row['low_s']:.1f} to {row['high_s']:.1f}), "
                  f"measured {row['measured_s']:.1f} s, {row['error']:+.1%}",
                  file=sys.stderr, flush=True)
            write(arguments.output, rows)
        source = OTHER[source]
    return rows


def main():
    arguments = bench.parser("prediction", __doc__, teaching=(4, "rounds before"),
                             rounds=(6, "rounds that count")).parse_args()
    result = figures(bench.in_lab(arguments, lambda lab: run(lab, arguments), adds=True,
                                  rate=LINK))
    print(", ".join(f"{key} {value:g}" for key, value in result.items()))
    return 0 if result["lab_median_error"] <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
