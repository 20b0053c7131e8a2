# SPDX-License-Identifier: LGPL-2.1-or-later
"""The situations in which a priority must mean what it says, and what it promises.

The benchmark measures each several times and judges medians, the test once.

  high        beside a neighbour that sends all it can: total time against plain
              libvirt's, and the neighbour's floor in every second
  low-half    beside a neighbour that offers half of the link: what the neighbour
              loses against its own throughput just before
  low-full    beside a neighbour that sends all it can: likewise; the migration
              must still end
"""

from . import experiment, processors

LINK = 200                          # Mbit/s
FLOOR = 40.0                        # Mbit/s, SLA lower limit of the neighbour
STREAMS = 4                         # connections of the neighbour
PATIENCE = 120.0                    # s, then the neighbour lets plain libvirt's migration end
LOW_FLOOR = 0.05                    # of the link, what low priority is guaranteed
LOSS = 0.03                         # of its throughput, all a neighbour may lose besides
TIME_RATIO = 0.4
SITUATIONS = {
    "high": {"priority": "high", "memory": 256, "dirty_rate": 1, "working_set": 24,
             "neighbour_seconds": PATIENCE},
    "low-half": {"priority": "low", "memory": 192, "dirty_rate": 1, "working_set": 16,
                 "neighbour_rate": LINK / 2},
    # At 5 % of the link every MiB takes most of a second: a small guest, and idle.
    "low-full": {"priority": "low", "memory": 160, "dirty_rate": 0, "working_set": 0},
}


def faults(result):
    """What must hold whatever the priority; a text for each thing that does not."""
    return [text for wrong, text in (
        (result.returncode != 0, f"virsh: exit {result.returncode}: {result.stderr}"),
        (result.vm_host != experiment.DESTINATION, f"the VM is on {result.vm_host}"),
        (not result.counter_went_on, f"the VM's counter did not go on: {result.counter_note}"),
        (not all(result.network_restored.values()), result.network_difference)) if wrong]


def measure(lab, mode, name, **options):
    """Figures of one migration in situation NAME, `workload_loss` and `faults` with them.

    OPTIONS of experiment.Setup stand above the situation's.
    """
    setup = {"floor": FLOOR, "neighbour_streams": STREAMS, **SITUATIONS[name], **options}
    result = processors.measured(lab, f"{name}, {mode}",
                                 lambda: experiment.contended_migration(lab, mode, **setup),
                                 faults)
    return {**result.figures(), "workload_loss": round(result.workload_loss(), 4),
            "faults": faults(result)}


def measure_pair(lab, name, plain_first=True, **options):
    """{mode: figures} without and with virt-convoy; the latter has their `ratio`."""
    modes = ("none", "full") if plain_first else ("full", "none")
    pair = {mode: measure(lab, mode, name, **options) for mode in modes}
    pair["full"]["ratio"] = round(pair["full"]["total_migration_time_s"]
                                  / pair["none"]["total_migration_time_s"], 3)
    return pair


def promises(figures, runs):
    """{promise: (kept, measured)}.

    FIGURES: {situation: its figures, one run's or medians}; RUNS: {situation: every
    run with virt-convoy}, for what must hold in each of them.
    """
    kept = {}
    for name in figures:
        found = [text for run in runs[name] for text in run["faults"]]
        kept[f"{name}: every migration ends, the network is as before"] = (
            not found, "; ".join(found) or "yes")
    if "high" in figures:
        ratio = figures["high"]["ratio"]
        kept[f"high: total time at most {TIME_RATIO:g} of plain libvirt's"] = (
            ratio <= TIME_RATIO, f"{ratio:g}")
        below = max(run["below_floor_s"] for run in runs["high"])
        worst = min(run["worst_second_mbit_s"] for run in runs["high"])
        kept[f"high: the neighbour keeps its {FLOOR:g} Mbit/s in every second"] = (
            below == 0, f"{below:g} s below, worst {worst:g} Mbit/s")
    for name, limit in (("low-half", LOSS), ("low-full", LOSS + LOW_FLOOR)):
        if name in figures:
            loss = figures[name]["workload_loss"]
            kept[f"{name}: the neighbour loses at most {limit:.0%}"] = (
                loss <= limit, f"{loss:.1%}")
    return kept
