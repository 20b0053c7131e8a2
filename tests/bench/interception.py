#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What does interception cost? Needs root and the lab.

Added latency: one small idle guest in each of two labs that are up at once, one
without and one with virt-convoy. The same `virsh migrate` runs in one lab, then
at once in the other, there and back; which lab begins changes from pair to
pair. The figure is the median of the differences within the pairs. The guests
are alike, nothing else runs, and the daemon may choose pre-copy only: what
differs is interception, shaping and the limits, not the technique.

The hook: run as libvirt runs it, beside a process that does nothing and is
started the same way. Its own time is the difference.

One reshape: the shaper's own measurement of one change of rates.

It compares; it does not judge: a slow machine is no failure.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import select
import signal
import statistics
import subprocess
import sys
import threading
import time
import uuid

TREE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "tests" / "lab"))
from convoylab import Lab, LabError  # noqa: E402
from convoylab import image, util  # noqa: E402

GUEST = "idle"
GUEST_MEMORY = 128                  # MiB: the smallest in which the lab's guest boots
RATE = 400                          # Mbit/s
CONFIGURATION = {"policy": {"allow-techniques": "pre-copy"}}
TRIVIAL = "/bin/true"
HOOK_PACE = 0.1                     # s from one call to the next: tc of the last one is done
ANSWER_SECONDS = 30
MEGABYTE = 1000 * 1000


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def summary(values, digits=3):
    """{n, minimum, quartile_1, median, quartile_3, maximum} of VALUES."""
    if not values:
        raise LabError("no run gave a value")
    low, middle, high = (statistics.quantiles(values, n=4, method="inclusive")
                         if len(values) > 1 else [values[0]] * 3)
    figures = {"minimum": min(values), "quartile_1": low, "median": middle,
               "quartile_3": high, "maximum": max(values)}
    return {"n": len(values), **{key: round(value, digits) for key, value in figures.items()}}


# Added latency

def migrate(lab, src, dst):
    result = lab.migrations.migrate(GUEST, src, dst)
    if result["returncode"] != 0:
        raise LabError(f"virsh migrate in lab {lab.name}: {result['stderr']}")
    return result


def daemon_account(lab, host):
    """What the daemon on HOST remembers of the last migration out of there."""
    text = lab.host(host).run(util.BUILD / "virt-convoy", "explain", GUEST, "--json").stdout
    outgoing = [one for one in json.loads(text)["migrations"] if one.get("role") == "source"]
    if not outgoing:
        raise LabError(f"the daemon on {host} of lab {lab.name} saw no migration:"
                       " the plugin was not asked")
    return outgoing[-1]


class EventWatch:
    """libvirt's own events on one host, each with virsh's time stamp. Ends with its lab."""

    def __init__(self, host):
        self.events = []            # [(time, text)]
        self.process = subprocess.Popen(
            host.argv("virsh", "-c", "qemu:///system", "event", "--all", "--loop", "--timestamp"),
            cwd="/", text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def loop(self):
        for line in self.process.stdout:
            stamp, _, text = line.rstrip().partition(": ")
            if text.startswith("event "):
                when = datetime.datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S.%f%z").timestamp()
                self.events.append((when, text))

    def first(self, pattern, since):
        def search():
            found = [when for when, text in self.events if when >= since and pattern in text]
            return found[0] if found else None
        return util.wait_until(f"event '{pattern}'", search, timeout=5)


def split(result, source, destination):
    """Milliseconds from one step of a migration to the next, as libvirt tells them."""
    since = result["started"] - 0.001
    times = [result["started"], destination.first("Started Migrated", since),
             source.first("iteration: '1'", since), destination.first("Resumed Migrated", since),
             result["ended"]]
    # begin and prepare; perform's set-up; memory and switch-over; finish and confirm
    names = ("start_to_prepared", "prepared_to_first_pass", "first_pass_to_resumed",
             "resumed_to_end")
    return {name: (end - begin) * 1000 for name, begin, end in zip(names, times, times[1:])}


def measure_latency(plain, aware, pairs, warm_ups):
    seconds = {"plain": [], "aware": []}
    splits = {"plain": [], "aware": []}
    differences = []
    watches = {(lab.name, host.name): EventWatch(host)
               for lab in (plain, aware) for host in lab.hosts.values()}
    for number in range(-warm_ups, pairs):
        src, dst = ("host-a", "host-b") if (number + warm_ups) % 2 == 0 else ("host-b", "host-a")
        # Direction and order must not go together: the order has a period of four.
        order = [("plain", plain), ("aware", aware)]
        if (number + warm_ups) // 2 % 2:
            order.reverse()
        results = {name: migrate(lab, src, dst) for name, lab in order}
        account = daemon_account(aware, src)
        if account["technique"] != "pre-copy":
            raise LabError(f"technique {account['technique']}: the runs are not alike")
        difference = (results["aware"]["seconds"] - results["plain"]["seconds"]) * 1000
        say(f"{'warm-up' if number < 0 else f'pair {number + 1}/{pairs}'}: "
            f"{src} to {dst}, {order[0][0]} first: plain {results['plain']['seconds']:.3f} s, "
            f"aware {results['aware']['seconds']:.3f} s, {difference:+.1f} ms")
        if number < 0:
            continue
        for name, lab in order:
            seconds[name].append(results[name]["seconds"] * 1000)
            splits[name].append(split(results[name], watches[lab.name, src],
                                      watches[lab.name, dst]))
        differences.append(difference)
    transfer = "first_pass_to_resumed"
    outside = [sum(with_it[step] - without[step] for step in without if step != transfer)
               for with_it, without in zip(splits["aware"], splits["plain"])]
    steps = {step: [with_it[step] - without[step]
                    for with_it, without in zip(splits["aware"], splits["plain"])]
             for step in splits["plain"][0]}
    return {"added": summary(differences), "differences": [round(d, 3) for d in differences],
            **{name: summary(values) for name, values in seconds.items()},
            "added_outside_transfer": summary(outside),
            "added_by_step": {step: summary(values) for step, values in steps.items()},
            "split_plain": {step: summary([one[step] for one in splits["plain"]])
                            for step in steps}}


# The hook

def timed_process(argv, data):
    """Milliseconds from the start of ARGV, DATA on its standard input, to its end."""
    input_end, feed = os.pipe()
    output, output_end = os.pipe()
    os.set_blocking(feed, False)
    if os.write(feed, data) != len(data):
        raise LabError("the domain XML does not fit into a pipe")
    os.close(feed)
    redirect = [(os.POSIX_SPAWN_DUP2, input_end, 0), (os.POSIX_SPAWN_DUP2, output_end, 1)]
    begin = time.monotonic()
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=redirect)
    _, status = os.waitpid(pid, 0)
    elapsed = (time.monotonic() - begin) * 1000
    for descriptor in (input_end, output, output_end):
        os.close(descriptor)
    if status != 0:
        raise LabError(f"{argv[0]}: exit {os.waitstatus_to_exitcode(status)}")
    return elapsed


def measure_hook_here(hook, runs):
    """Runs inside a lab host. Domain XML on standard input, JSON on standard output."""
    data = sys.stdin.buffer.read()
    calls = {"migrate_begin": [hook, "bench-hook", "migrate", "begin", "-"],
             "ignored": [hook, "bench-hook", "started", "begin", "-"],
             "trivial": [TRIVIAL, "bench-hook", "migrate", "begin", "-"]}
    walls = {name: [] for name in calls}
    for number in range(-3, runs):
        for name, argv in calls.items():
            due = time.monotonic() + HOOK_PACE
            wall = timed_process(argv, data)
            if number >= 0:
                walls[name].append(wall)
            time.sleep(max(due - time.monotonic(), 0))
    print(json.dumps(walls))


def measure_hook(host, runs):
    """The hook against HOST's daemon; the domain is one that libvirt does not know."""
    xml = host.virsh("dumpxml", GUEST).stdout
    xml = re.sub(r"<uuid>[^<]*</uuid>", f"<uuid>{uuid.uuid4()}</uuid>", xml, count=1)
    xml = xml.replace(f"<name>{GUEST}</name>", "<name>bench-hook</name>", 1)
    done = host.run(sys.executable, __file__, "--hook-here", util.BUILD / "virt-convoy-hook",
                    "--hook-runs", runs, text_input=xml)
    walls = json.loads(done.stdout)
    seen = json.loads(host.run(util.BUILD / "virt-convoy", "explain", "bench-hook",
                               "--json").stdout)["migrations"]
    # Otherwise the time of a hook that found no daemon would be reported.
    if len(seen) < runs:
        raise LabError(f"the daemon saw {len(seen)} of {runs} calls of the hook")

    def own(name):
        return [wall - trivial for wall, trivial in zip(walls[name], walls["trivial"])]
    return {"own": summary(own("migrate_begin")), "own_ignored": summary(own("ignored")),
            **{f"wall_{name}": summary(values) for name, values in walls.items()}}


# One reshape

class Shaper:
    """A shape-once process on HOST's uplink: command in, answer out."""

    def __init__(self, host, direction):
        state = f"/run/bench-shaper-{direction}"
        host.run("mkdir", "-p", state)
        self.process = subprocess.Popen(
            host.argv(util.BUILD / "shape-once", state, "eth0", direction), cwd="/", text=True,
            bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, command):
        """(steps, milliseconds) as the shaper counts and measures them."""
        self.process.stdin.write(command + "\n")
        if not select.select([self.process.stdout], [], [], ANSWER_SECONDS)[0]:
            raise LabError(f"shape-once: no answer to '{command}'")
        answer = self.process.stdout.readline().strip()
        found = re.fullmatch(r"ok steps=(\d+) us=(\d+)", answer)
        if not found:
            raise LabError(f"shape-once: '{command}': {answer}")
        return int(found[1]), int(found[2]) / 1000

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=ANSWER_SECONDS)
        self.process.stdout.close()


def measure_reshape(host, direction, runs):
    link = RATE * MEGABYTE // 8
    before = host.network_snapshot()
    times = {"put_up": [], "reshape": [], "unchanged": [], "take_off": []}
    shaper = Shaper(host, direction)

    def apply(workload):
        # What the workload is guaranteed the migration is not, as at work.
        return shaper.ask(f"apply {link} {workload} {link - workload} {link} 10.77.0.2")
    try:
        for number in range(runs):
            times["put_up"].append(apply(link // 4)[1])
            steps, duration = apply(link // 2 + number * link // (4 * runs))
            if steps == 0:
                raise LabError("a change of rates took no step")
            times["reshape"].append(duration)
            times["unchanged"].append(
                apply(link // 2 + number * link // (4 * runs))[1])
            times["take_off"].append(shaper.ask("remove")[1])
    finally:
        shaper.close()
    if host.network_snapshot() != before:
        raise LabError(f"{host.name}: the network is not as before the {direction} reshapes")
    return {name: summary(values) for name, values in times.items()}


# The whole

def context(host):
    versions = host.virsh("version", "--daemon").stdout

    def version(pattern):
        found = re.search(pattern, versions)
        return found[1] if found else "unknown"
    return {"kernel": platform.release(), "machine": platform.machine(),
            "processors": os.cpu_count(), "processor": image.cpu_model(),
            "libvirt": version(r"Running against daemon: (\S+)"),
            "qemu": version(r"Running hypervisor: QEMU (\S+)"),
            "accelerator": image.accelerator(), "link_mbit_s": RATE,
            "guest_memory_mib": GUEST_MEMORY,
            "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}


def print_table(rows):
    columns = ("minimum", "quartile_1", "median", "quartile_3", "maximum")
    print(f"{'ms':42} {'n':>4}" + "".join(f" {name.replace('_', ' '):>11}" for name in columns))
    for text, figures in rows:
        print(f"{text:42} {figures['n']:4}"
              + "".join(f" {figures[name]:11.2f}" for name in columns))


def report(result):
    latency, hook, reshape = result["latency_ms"], result["hook_ms"], result["reshape_ms"]
    print(f"\nkernel {result['context']['kernel']}, libvirt {result['context']['libvirt']}, "
          f"QEMU {result['context']['qemu']}, accelerator {result['context']['accelerator']}; "
          f"{GUEST_MEMORY} MiB idle guest, {RATE} Mbit/s")
    print("the daemon's configuration, where not the default: "
          + ", ".join(f"{key}={value}" for values in result["configuration"].values()
                      for key, value in values.items()) + "\n")
    print_table([
        ("virsh migrate without virt-convoy", latency["plain"]),
        ("virsh migrate with plugin and daemon", latency["aware"]),
        ("added latency (differences of the pairs)", latency["added"]),
        ("  of which not while memory moves", latency["added_outside_transfer"]),
        *((f"    {name.replace('_', ' ')}", figures)
          for name, figures in latency["added_by_step"].items()),
        ("hook, migrate begin: wall", hook["wall_migrate_begin"]),
        ("hook, ignored operation: wall", hook["wall_ignored"]),
        (f"{TRIVIAL}: wall", hook["wall_trivial"]),
        ("hook, migrate begin: its own", hook["own"]),
        ("hook, ignored operation: its own", hook["own_ignored"]),
        *((f"{direction}: {name.replace('_', ' ')}", figures)
          for direction, steps in reshape.items() for name, figures in steps.items())])


def run(args):
    names = [f"bench-{kind}-{os.getpid()}" for kind in ("plain", "aware")]
    plain, aware = (Lab(name) for name in names)
    configuration = {section: dict(values) for section, values in CONFIGURATION.items()}
    for section, key, value in args.config:
        configuration.setdefault(section, {})[key] = value
    try:
        plain.up(rate=RATE, mode="none")
        aware.up(rate=RATE, mode="full", config=configuration)
        for lab in (plain, aware):
            lab.guests.start(GUEST, memory=GUEST_MEMORY, fill=0, working_set=0, dirty_rate=0)
        latency = measure_latency(plain, aware, args.pairs, args.warm_ups)
        here = aware.host(aware.guests.where(GUEST))
        say(f"the hook, {args.hook_runs} runs of each kind")
        hook = measure_hook(here, args.hook_runs)
        say(f"the shaper, {args.reshape_runs} runs in each direction")
        reshape = {direction: measure_reshape(plain.host("host-a"), direction, args.reshape_runs)
                   for direction in ("egress", "ingress")}
        result = {
            "added_latency_ms_median": latency["added"]["median"],
            "hook_ms_median": hook["own"]["median"],
            "reshape_ms_median": reshape["egress"]["reshape"]["median"],
            "latency_ms": latency, "hook_ms": hook, "reshape_ms": reshape,
            "configuration": configuration, "warm_up_pairs_discarded": args.warm_ups,
            "context": context(here)}
    finally:
        for lab in (plain, aware):
            lab.down()
    report(result)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    util.write_json(args.output, result)
    print(f"\nwritten: {args.output}")


def setting(text):
    found = re.fullmatch(r"([a-z-]+)\.([a-z-]+)=(.*)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' is not SECTION.KEY=VALUE")
    return found.groups()


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive number")
    return number


def main():
    parser = argparse.ArgumentParser(description="added latency, the hook's time, one reshape")
    parser.add_argument("--pairs", type=positive, default=11, help="migrations of each kind")
    parser.add_argument("--warm-ups", type=positive, default=2, help="pairs that do not count")
    parser.add_argument("--hook-runs", type=positive, default=40)
    parser.add_argument("--reshape-runs", type=positive, default=20)
    parser.add_argument("--config", type=setting, action="append", default=[],
                        metavar="SECTION.KEY=VALUE",
                        help="configure the daemon otherwise than by default (and say so)")
    parser.add_argument("--output", type=pathlib.Path,
                        default=util.BUILD / "bench" / "interception.json")
    parser.add_argument("--hook-here", metavar="HOOK", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.hook_here:
        measure_hook_here(args.hook_here, args.hook_runs)
        return 0
    if os.geteuid() != 0:
        print("bench: the lab needs root", file=sys.stderr)
        return 1
    missing = [name for name in ("virt-convoyd", "virt-convoy", "virt-convoy-hook",
                                 "virt-convoy-libvirtd.so", "shape-once")
               if not (util.BUILD / name).exists()]
    if missing:
        print(f"bench: {util.BUILD} has no {', '.join(missing)}: build first", file=sys.stderr)
        return 1
    # As Ctrl-C does: the labs are taken down.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(args)
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
