#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shaping on real interfaces, in throw-away network namespaces. TAP output.

Two namespaces joined by a veth pair; shape-once (built from shape-once.c) puts
plans up, moves them and takes them off; iperf3 measures what is kept. Needs
root. The program is build/shape-once, or what SHAPE_ONCE names.
"""

import json
import os
import re
import select
import shutil
import statistics
import subprocess
import sys
import tempfile

from support.tap import Tap, skip_all

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.abspath(
    os.environ.get("SHAPE_ONCE", os.path.join(ROOT, "build", "shape-once"))
)
SOURCE = f"convoy-shape-{os.getpid()}-a"
DESTINATION = f"convoy-shape-{os.getpid()}-b"
SOURCE_ADDRESS, DESTINATION_ADDRESS = "10.91.0.1", "10.91.0.2"
SOURCE_ADDRESS6, DESTINATION_ADDRESS6 = "fd91::1", "fd91::2"
MIGRATION_PORT, WORKLOAD_PORT = 49152, 5201
MEGABYTE = 1000 * 1000
LINK = 25 * MEGABYTE  # 200 Mbit/s: far below what a veth pair carries
REFUSED, UNSUPPORTED, FAILED, CHANGED = 1, 2, 3, 5  # of ShapingError

TAP = Tap()
check, note = TAP.ok, TAP.note


def run(*words, namespace=None, may_fail=False):
    prefix = ["ip", "netns", "exec", namespace] if namespace else []
    done = subprocess.run(
        prefix + list(words), capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0 and not may_fail:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class Shaper:
    """One shape-once process: command in, answer out."""

    def __init__(self, namespace, state, interface, direction, environment=None):
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, PROGRAM, state, interface, direction],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            text=True,
            bufsize=1,
        )

    def send(self, command):
        self.process.stdin.write(command + "\n")

    def ask(self, command):
        self.send(command)
        ready, _, _ = select.select([self.process.stdout], [], [], 30)
        return self.process.stdout.readline().strip() if ready else "no answer"

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=10)
        self.process.stdout.close()

    def kill(self):
        # "ip netns exec" has become the program itself: this is its kill -9.
        self.process.kill()
        self.process.wait(timeout=10)
        self.process.stdin.close()
        self.process.stdout.close()


def state_of(namespace, interface):
    """All that tc and ip tell, to be compared byte by byte."""
    return "".join(
        run(*words, namespace=namespace)
        for words in (
            ("tc", "qdisc", "show"),
            ("tc", "class", "show", "dev", interface),
            ("tc", "filter", "show", "dev", interface),
            ("tc", "filter", "show", "dev", interface, "ingress"),
            ("ip", "link"),
        )
    )


def steps(answer):
    found = re.match(r"ok steps=(\d+) us=(\d+)$", answer)
    return (int(found[1]), int(found[2])) if found else (None, None)


def plan(workload, migration, ceil, *peers, link=LINK):
    return " ".join(map(str, ("apply", link, workload, migration, ceil) + peers))


class Server:
    """One iperf3 server. Between two tests it listens nowhere for a moment."""

    running = []

    def __init__(self, port, namespace=DESTINATION):
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, "iperf3", "-s", "-p", str(port)]
            + ["--forceflush"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.seen = b""
        self.running.append(self)
        self.wait_listening()

    def wait_listening(self):
        """Read all that it says until it has listened once more than it was called."""
        # Unbuffered, so that select and read see the same bytes.
        descriptor = self.process.stdout.fileno()
        while True:
            listens = self.seen.count(b"listening") > self.seen.count(b"Accepted")
            ready, _, _ = select.select([descriptor], [], [], 0 if listens else 10)
            if listens and not ready:
                return
            chunk = os.read(descriptor, 4096) if ready else b""
            if not chunk:
                raise RuntimeError("iperf3 does not listen: "
                                   + self.seen[-500:].decode(errors="replace"))
            self.seen += chunk

    def close(self):
        self.running.remove(self)
        self.process.kill()
        self.process.wait(timeout=10)
        self.process.stdout.close()


def measure(*flows):
    """Bytes per second that each (address, port) received, all at once.

    A flow may go on with the sender's namespace and more words for iperf3.
    """
    clients = [
        subprocess.Popen(
            ["ip", "netns", "exec", rest[0] if rest else SOURCE]
            + ["iperf3", "-c", address, "-p", str(port)]
            + ["-t", "3", "-O", "1", "-J", "-C", "cubic", *rest[1:]],
            stdout=subprocess.PIPE,
            text=True,
        )
        for address, port, *rest in flows
    ]
    rates = []
    for client in clients:
        report = json.loads(client.communicate(timeout=60)[0])
        if "error" in report:
            raise RuntimeError(f"iperf3: {report['error']}")
        rates.append(report["end"]["sum_received"]["bits_per_second"] / 8)
    for server in Server.running:
        server.wait_listening()
    return rates


def near(rate, expected):
    """Payload is 95 % of what HTB counts; the rest is for a busy machine."""
    return 0.80 * expected <= rate <= 1.05 * expected


def megabytes(*rates):
    return ", ".join(f"{rate / MEGABYTE:.1f} MB/s" for rate in rates)


def test_life(state, namespace, interface, direction, peers):
    before = state_of(namespace, interface)
    shaper = Shaper(namespace, state, interface, direction)
    note(f"{direction}: kernel features: {shaper.ask('features')}")
    check(state_of(namespace, interface) == before, f"{direction}: probing leaves nothing")

    answer = shaper.ask(plan(15 * MEGABYTE, 10 * MEGABYTE, LINK, *peers))
    check((steps(answer)[0] or 0) > 0, f"{direction}: applied", answer)
    note(f"{direction}: first apply took {steps(answer)[1]} us")
    check(state_of(namespace, interface) != before, f"{direction}: something stands")
    answer = shaper.ask(plan(15 * MEGABYTE, 10 * MEGABYTE, LINK, *peers))
    check(steps(answer)[0] == 0, f"{direction}: applying twice changes nothing", answer)

    both = measure(
        (DESTINATION_ADDRESS, MIGRATION_PORT), (DESTINATION_ADDRESS, WORKLOAD_PORT)
    )
    note(f"{direction}: 10 and 15 MB/s guaranteed, measured {megabytes(*both)}")
    check(near(both[0], 10 * MEGABYTE), f"{direction}: migration class is kept", both)
    check(near(both[1], 15 * MEGABYTE), f"{direction}: workload class is kept", both)

    answer = shaper.ask(plan(20 * MEGABYTE, 5 * MEGABYTE, LINK, *peers))
    changed, duration = steps(answer)
    check(changed is not None and 0 < changed <= 5, f"{direction}: reshaped", answer)
    both = measure(
        (DESTINATION_ADDRESS6, MIGRATION_PORT), (DESTINATION_ADDRESS, WORKLOAD_PORT)
    )
    note(f"{direction}: 5 and 20 MB/s guaranteed, IPv6, measured {megabytes(*both)}")
    check(near(both[0], 5 * MEGABYTE), f"{direction}: IPv6 migration is kept", both)
    check(near(both[1], 20 * MEGABYTE), f"{direction}: workload class follows", both)

    alone = measure((DESTINATION_ADDRESS, MIGRATION_PORT))
    note(f"{direction}: alone, borrowing up to 25 MB/s: {megabytes(*alone)}")
    check(near(alone[0], LINK), f"{direction}: an idle workload's rate is lent", alone)

    shaper.ask(plan(20 * MEGABYTE, 4 * MEGABYTE, 6 * MEGABYTE, *peers))
    alone = measure((DESTINATION_ADDRESS, MIGRATION_PORT))
    note(f"{direction}: alone, ceil 6 MB/s: {megabytes(*alone)}")
    check(near(alone[0], 6 * MEGABYTE), f"{direction}: the ceil holds", alone)

    counters = re.match(
        r"ok workload=(\d+) migrations=(\d+)$", shaper.ask("counters")
    )
    check(
        counters is not None
        and int(counters[1]) > 80 * MEGABYTE
        and int(counters[2]) > 80 * MEGABYTE,
        f"{direction}: class counters tell both apart",
        counters and counters[0],
    )

    durations = []
    for i in range(20):
        answer = shaper.ask(plan((10 + i % 2) * MEGABYTE, 10 * MEGABYTE, LINK, *peers))
        durations.append(steps(answer)[1])
    note(
        f"{direction}: reshape: median {statistics.median(durations)} us, "
        f"worst {max(durations)} us of {len(durations)}"
    )

    large = plan(5 * 10**9, 2**32, 8 * 10**9, *peers, link=8 * 10**9)
    check((steps(shaper.ask(large))[0] or 0) > 0, f"{direction}: rates of 2^32 bytes/s")
    check(steps(shaper.ask(large))[0] == 0, f"{direction}: and the kernel keeps them")

    answer = shaper.ask(plan(15 * MEGABYTE, 10 * MEGABYTE, LINK, peers[0]))
    check((steps(answer)[0] or 0) > 0, f"{direction}: a migration ended", answer)
    answer = shaper.ask("remove")
    after = state_of(namespace, interface)
    check(steps(answer)[0] is not None and after == before,
          f"{direction}: removed, byte-identical to before", f"{answer}\n{before}---\n{after}")
    check(steps(shaper.ask("remove"))[0] == 0, f"{direction}: removing twice does nothing")
    shaper.close()
    check(
        os.path.getsize(os.path.join(state, "shaping.journal")) == 0,
        f"{direction}: the journal is empty",
    )


SEND_TAGGED = """
import socket, struct
frame = bytes.fromhex("ffffffffffff020000000001810000050800")
frame += struct.pack("!BBHHHBBH4s4s", 0x45, 0, 1040, 0, 0, 64, 6, 0,
                     socket.inet_aton("10.91.0.1"), socket.inet_aton("10.91.0.2"))
frame += struct.pack("!HHIIBBHHH", 40000, 49200, 0, 0, 0x50, 0x10, 0, 0, 0) + bytes(1000)
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sender.bind(("up0", 0))
for _ in range(100):
    sender.send(frame)
"""


def test_vlan(state):
    """A tagged frame arrives with its tag beside it: offsets are the same."""
    shaper = Shaper(DESTINATION, state, "up0", "ingress")
    shaper.ask(plan(15 * MEGABYTE, 10 * MEGABYTE, LINK, SOURCE_ADDRESS))
    run(sys.executable, "-c", SEND_TAGGED, namespace=SOURCE)
    # The receiving side runs in a softirq of its own: ask until it has.
    for _ in range(200):
        answer = shaper.ask("counters")
        counters = re.match(r"ok workload=(\d+) migrations=(\d+)$", answer)
        if counters is None or int(counters[2]) >= 100 * 1040:
            break
    check(
        counters is not None and int(counters[2]) >= 100 * 1040,
        "ingress: a migration inside a VLAN is selected",
        answer,
    )
    shaper.ask("remove")
    shaper.close()


def test_foreign(state, direction, name, *qdisc):
    run("tc", "qdisc", "add", "dev", "up0", *qdisc, namespace=SOURCE)
    before = state_of(SOURCE, "up0")
    shaper = Shaper(SOURCE, state, "up0", direction)
    answer = shaper.ask(plan(MEGABYTE, MEGABYTE, LINK, DESTINATION_ADDRESS))
    check(
        answer.startswith(f"error {REFUSED} up0:") and answer.endswith("[refused]"),
        f"{direction}: an administrator's {name} is refused",
        answer,
    )
    shaper.ask("remove")
    check(state_of(SOURCE, "up0") == before, f"{direction}: and stays as it was")
    shaper.close()
    run("tc", "qdisc", "del", "dev", "up0", qdisc[0], namespace=SOURCE)


# What somebody else does to our tree: (title, direction, commands, words of what is told).
CHANGES = (
    ("the root deleted", "egress", ("tc qdisc del dev up0 root",), "htb c0b0: is gone from up0"),
    ("a root of his own", "egress",
     ("tc qdisc replace dev up0 root handle 77: pfifo",), "a qdisc pfifo 77: that is not ours"),
    ("a class changed", "egress",
     ("tc class change dev up0 parent c0b0:1 classid c0b0:20 htb rate 1mbit ceil 2mbit",),
     "class change dev up0 parent c0b0:1 classid c0b0:20"),
    ("a filter deleted", "egress",
     ("tc filter del dev up0 parent c0b0: protocol ip prio 4100",), "filter add dev up0"),
    ("the ifb deleted", "ingress", ("ip link del {ifb}",), "our device {ifb} is gone"),
    ("the ifb replaced", "ingress", ("ip link del {ifb}", "ip link add {ifb} up type ifb"),
     "htb c0b0: is gone from {ifb}"),
    ("the ifb down", "ingress", ("ip link set {ifb} down",), "ip link set dev {ifb} up"),
    ("the ifb's root deleted", "ingress", ("tc qdisc del dev {ifb} root",),
     "htb c0b0: is gone from {ifb}"),
    ("the ingress qdisc deleted", "ingress", ("tc qdisc del dev up0 ingress",), "not redirected"),
    ("the redirection deleted", "ingress", ("tc filter del dev up0 ingress",), "not redirected"),
    ("a clsact of his own", "ingress",
     ("tc qdisc del dev up0 ingress", "tc qdisc add dev up0 clsact"), "a qdisc clsact ffff:"),
)


def test_changed(state, title, direction, commands, found, by_apply):
    """Somebody else changes what stands: told, given up, and not put up before a remove."""
    title = f"{direction}: {title}, seen by {'the next apply' if by_apply else 'a look'}"
    before = state_of(SOURCE, "up0")
    shaper = Shaper(SOURCE, state, "up0", direction)
    first = plan(MEGABYTE, MEGABYTE, LINK, DESTINATION_ADDRESS)
    second = plan(2 * MEGABYTE, MEGABYTE, LINK, DESTINATION_ADDRESS)
    check(shaper.ask("check") == "ok", f"{title}: nothing is missed before anything stands")
    shaper.ask(first)
    shaper.ask(second)
    check(shaper.ask("check") == "ok", f"{title}: what stands is as it was put up")
    ifb = ifb_of(SOURCE) if direction == "ingress" else None
    # What is his stands after it as well.
    foreign = "handle 77:" in commands[-1] or "clsact" in commands[-1]
    for command in commands:
        run(*command.format(ifb=ifb).split(), namespace=SOURCE)
    answer = shaper.ask(first if by_apply else "check")
    check(answer.startswith(f"error {CHANGED} ") and found.format(ifb=ifb) in answer,
          f"{title}: told", answer)
    after = state_of(SOURCE, "up0")
    check(not re.search(r"c0b0|convoy\d", after) and (foreign or after == before),
          f"{title}: nothing of ours is left", f"{before}---\n{after}")
    if foreign:
        check(commands[-1].split()[-1] in after, f"{title}: what is his stays", after)
    answer = shaper.ask(second)
    check(answer.startswith(f"error {CHANGED} ") and state_of(SOURCE, "up0") == after,
          f"{title}: not put up again", answer)
    check(shaper.ask("check") == "ok" and os.path.getsize(
        os.path.join(state, "shaping.journal")) == 0, f"{title}: nothing is open")
    shaper.ask("remove")
    answer = shaper.ask(second)
    if foreign:
        check(answer.startswith(f"error {REFUSED} "), f"{title}: refused at the next time", answer)
        run("tc", "qdisc", "del", "dev", "up0", "root" if direction == "egress" else "clsact",
            namespace=SOURCE)
    else:
        check(steps(answer)[0], f"{title}: put up after a remove", answer)
    shaper.ask("remove")
    check(state_of(SOURCE, "up0") == before, f"{title}: byte-identical to before")
    shaper.close()


def test_gone(state, direction):
    """The device goes with all that stood on it: that is no change of our tree."""
    run("ip", "link", "add", "away0", "type", "veth", "peer", "name", "away1", namespace=SOURCE)
    run("ip", "link", "set", "away0", "up", namespace=SOURCE)
    shaper = Shaper(SOURCE, state, "away0", direction)
    shaper.ask(plan(MEGABYTE, MEGABYTE, LINK, DESTINATION_ADDRESS))
    run("ip", "link", "del", "away0", namespace=SOURCE)
    answer = shaper.ask("check")
    check(answer == "ok", f"{direction}: a device that went is not judged", answer)
    shaper.ask("remove")
    check(not re.search(r"convoy\d", state_of(SOURCE, "up0")),
          f"{direction}: and nothing of ours is left")
    shaper.close()


def test_kill(state, direction):
    before = state_of(SOURCE, "up0")
    shaper = Shaper(SOURCE, state, "up0", direction)
    shaper.ask(plan(MEGABYTE, MEGABYTE, LINK, DESTINATION_ADDRESS))
    shaper.kill()
    check(state_of(SOURCE, "up0") != before, f"{direction}: kill -9 leaves shaping")
    with open(os.path.join(state, "shaping.journal"), "a", encoding="utf-8") as journal:
        journal.write('garbage\n{"op":"root","device":"lo"}\n{"op":"ro')
    shaper = Shaper(SOURCE, state, "up0", direction)
    answer = shaper.ask("restore")
    undone = {"egress": 1, "ingress": 2}[direction]
    check(answer == f"ok undone={undone}", f"{direction}: the journal is restored", answer)
    after = state_of(SOURCE, "up0")
    check(after == before, f"{direction}: byte-identical after kill -9", f"{before}---\n{after}")
    check(shaper.ask("restore") == "ok undone=0", f"{direction}: restoring twice does nothing")
    shaper.close()


def rename(old, new):
    for change in (("down",), ("name", new)):
        run("ip", "link", "set", old, *change, namespace=SOURCE)
    run("ip", "link", "set", new, "up", namespace=SOURCE)
    # The kernel tells of the carrier a moment later.
    for _ in range(200):
        if "NO-CARRIER" not in run("ip", "link", "show", new, namespace=SOURCE):
            break


def test_renamed(state, direction, killed):
    """The device gets another name under the tree: it is found by its index."""
    before = state_of(SOURCE, "up0")
    shaper = Shaper(SOURCE, state, "up0", direction)
    shaper.ask(plan(MEGABYTE, MEGABYTE, LINK, DESTINATION_ADDRESS))
    title = f"{direction}: renamed"
    if killed:
        title += " and kill -9"
        shaper.kill()
        rename("up0", "away0")
        shaper = Shaper(SOURCE, state, "up0", direction)
        answer = shaper.ask("restore")
    else:
        rename("up0", "away0")
        answer = shaper.ask(plan(2 * MEGABYTE, MEGABYTE, LINK, DESTINATION_ADDRESS))
    check(answer.startswith("ok" if killed else f"error {FAILED} "), f"{title}: noticed", answer)
    check(state_of(SOURCE, "away0") == before.replace("up0", "away0"),
          f"{title}: nothing of ours stands", state_of(SOURCE, "away0"))
    rename("away0", "up0")
    check(state_of(SOURCE, "up0") == before, f"{title}: byte-identical when it is back",
          f"{before}---\n{state_of(SOURCE, 'up0')}")
    shaper.close()


def write_program(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as program:
        program.write(text)
    os.chmod(path, 0o700)
    return path


def test_kill_inside_apply(state, folder):
    """Killed while tc runs: the ifb stands, nothing behind it does."""
    before = state_of(SOURCE, "up0")
    started = os.path.join(folder, "started")
    os.mkfifo(started)
    # Short batches (the probe) pass; the tree's batch reports and hangs.
    program = write_program(
        folder,
        "tc-hangs",
        f"#!/bin/sh\ncat > {folder}/batch\n"
        f"[ $(wc -l < {folder}/batch) -gt 3 ] || exec {shutil.which('tc')} -batch {folder}/batch\n"
        f"echo > {started}\nexec sleep 1.9\n",
    )
    shaper = Shaper(SOURCE, state, "up0", "ingress", {"VIRT_CONVOY_TC": program})
    shaper.send(plan(MEGABYTE, MEGABYTE, LINK, DESTINATION_ADDRESS))
    with open(started, encoding="utf-8") as fifo:
        fifo.read()
    shaper.kill()
    check("convoy" in state_of(SOURCE, "up0"), "killed inside an apply: the ifb stands")
    shaper = Shaper(SOURCE, state, "up0", "ingress")
    answer = shaper.ask("restore")
    check(answer == "ok undone=1", "killed inside an apply: restored", answer)
    check(state_of(SOURCE, "up0") == before, "killed inside an apply: byte-identical")
    shaper.close()


def test_failing_tc(state, folder, direction, lines):
    """tc stops after some lines: what it made comes off again."""
    before = state_of(SOURCE, "up0")
    program = write_program(
        folder,
        "tc-fails",
        f"#!/bin/sh\ncat > {folder}/batch\n"
        f"[ $(wc -l < {folder}/batch) -gt {lines} ] || "
        f"exec {shutil.which('tc')} -batch {folder}/batch\n"
        f"head -n {lines} {folder}/batch | {shutil.which('tc')} -batch -\n"
        f"echo 'Command failed -:{lines + 1}' >&2\nexit 1\n",
    )
    shaper = Shaper(SOURCE, state, "up0", direction, {"VIRT_CONVOY_TC": program})
    answer = shaper.ask(plan(MEGABYTE, MEGABYTE, LINK, DESTINATION_ADDRESS))
    failed = answer.startswith(f"error {FAILED} ")
    check(failed, f"{direction}: failure after {lines} lines", answer)
    after = state_of(SOURCE, "up0")
    check(after == before, f"{direction}: and nothing is left", f"{answer}\n{before}---\n{after}")
    shaper.close()
    check(
        os.path.getsize(os.path.join(state, "shaping.journal")) == 0,
        f"{direction}: and the journal is empty",
    )


def redirect_of(namespace):
    """Our redirect as tc tells it; empty: none stands."""
    return re.findall(r"Redirect to device [^)]*",
                      run("tc", "filter", "show", "dev", "up0", "ingress", namespace=namespace))


def test_stuck_redirect(state, folder):
    """tc cannot take the redirect off: its ifb stays, or all that comes in would be dropped."""
    before = state_of(SOURCE, "up0")
    broken = os.path.join(folder, "broken")
    program = write_program(
        folder, "tc-stuck",
        f"#!/bin/sh\ncat > {folder}/batch\n"
        f"if [ -e {broken} ] && grep -q 'ingress$' {folder}/batch; then exit 1; fi\n"
        f"exec {shutil.which('tc')} -batch {folder}/batch\n")
    environment = {"VIRT_CONVOY_TC": program}
    shaper = Shaper(SOURCE, state, "up0", "ingress", environment)
    shaper.ask(plan(MEGABYTE, MEGABYTE, LINK, DESTINATION_ADDRESS))
    stands = redirect_of(SOURCE)
    with open(broken, "w", encoding="ascii"):
        answer = shaper.ask("remove")
    check(answer.startswith(f"error {FAILED} ") and stands
          and redirect_of(SOURCE) == stands == [f"Redirect to device {ifb_of(SOURCE)}"],
          "a redirect that cannot be taken off keeps its ifb", f"{answer}\n{redirect_of(SOURCE)}")
    shaper.kill()
    shaper = Shaper(SOURCE, state, "up0", "ingress", environment)
    answer = shaper.ask("restore")
    check(answer.startswith(f"error {FAILED} ") and redirect_of(SOURCE) == stands,
          "and at the next start, too", f"{answer}\n{redirect_of(SOURCE)}")
    os.unlink(broken)
    answer = shaper.ask("restore")
    check(answer == "ok undone=2" and state_of(SOURCE, "up0") == before,
          "then it can: byte-identical", answer)
    shaper.close()


def test_shared_ingress(state):
    """After a kill -9 somebody adds a filter beside our redirect: his stays, ours goes."""
    shaper = Shaper(SOURCE, state, "up0", "ingress")
    shaper.ask(plan(MEGABYTE, MEGABYTE, LINK, DESTINATION_ADDRESS))
    shaper.kill()
    run("tc", "filter", "add", "dev", "up0", "parent", "ffff:", "protocol", "ip", "prio", "10",
        "u32", "match", "ip", "dport", "9999", "0xffff", "flowid", "1:1", namespace=SOURCE)
    shaper = Shaper(SOURCE, state, "up0", "ingress")
    answer = shaper.ask("restore")
    left = state_of(SOURCE, "up0")
    check(answer == "ok undone=2" and not redirect_of(SOURCE) and not re.search(r"convoy\d", left),
          "beside somebody else's filter: redirect and ifb go", f"{answer}\n{left}")
    check("pref 10 " in left, "and his filter stays", left)
    check(os.path.getsize(os.path.join(state, "shaping.journal")) == 0, "and nothing is open")
    shaper.close()
    run("tc", "qdisc", "del", "dev", "up0", "ingress", namespace=SOURCE)


def test_lock(state):
    """A second daemon must not take off what the first one put up."""
    shaper = Shaper(SOURCE, state, "up0", "egress")
    shaper.ask(plan(MEGABYTE, MEGABYTE, LINK, DESTINATION_ADDRESS))
    stands = state_of(SOURCE, "up0")
    second = subprocess.run(["ip", "netns", "exec", SOURCE, PROGRAM, state, "up0", "egress"],
                            input="restore\n", capture_output=True, text=True, timeout=10,
                            check=False)
    check(second.returncode != 0 and "another process has it" in second.stderr
          and state_of(SOURCE, "up0") == stands,
          "a second process gets no journal and changes nothing",
          f"{second.returncode} {second.stdout}{second.stderr}")
    shaper.ask("remove")
    shaper.close()


def test_lying_tc(state, folder):
    """tc says success and did nothing: the kernel's answer counts."""
    before = state_of(SOURCE, "up0")
    program = write_program(
        folder,
        "tc-lies",
        f"#!/bin/sh\ncat > {folder}/batch\n"
        f"[ $(wc -l < {folder}/batch) -gt 3 ] || exec {shutil.which('tc')} -batch {folder}/batch\n",
    )
    shaper = Shaper(SOURCE, state, "up0", "egress", {"VIRT_CONVOY_TC": program})
    answer = shaper.ask(plan(MEGABYTE, MEGABYTE, LINK, DESTINATION_ADDRESS))
    check(answer.startswith(f"error {FAILED} "), "an exit code of 0 alone is not believed", answer)
    check(state_of(SOURCE, "up0") == before, "and nothing is left of it")
    shaper.close()


def test_probing_again(state, folder, direction):
    """tc fails while the kernel is probed: a minute later that is asked again."""
    broken = os.path.join(folder, "broken")
    program = write_program(folder, "tc-broken", f"#!/bin/sh\n[ ! -e {broken} ] || exit 1\n"
                                                 f"exec {shutil.which('tc')} \"$@\"\n")
    with open(broken, "w", encoding="ascii"):
        shaper = Shaper(SOURCE, state, "up0", direction, {"VIRT_CONVOY_TC": program})
    wanted = plan(MEGABYTE, MEGABYTE, LINK, DESTINATION_ADDRESS)
    answer = shaper.ask(wanted)
    check(answer.startswith(f"error {UNSUPPORTED} "), f"{direction}: tc fails, so no feature is known",
          answer)
    os.unlink(broken)
    shaper.ask("age 55")
    answer = shaper.ask(wanted)
    check(answer.startswith(f"error {UNSUPPORTED} "), f"{direction}: within a minute that is kept",
          answer)
    shaper.ask("age 10")
    answer = shaper.ask(wanted)
    check((steps(answer)[0] or 0) > 0, f"{direction}: then it is probed again and applied", answer)
    shaper.ask("remove")
    shaper.close()


VM_HOST = f"convoy-shape-{os.getpid()}-c"
FAR_HOST = f"convoy-shape-{os.getpid()}-d"
VMS = [f"convoy-shape-{os.getpid()}-vm{number}" for number in (1, 2)]
VM_MACS = ["52:54:00:a1:b2:c3", "52:54:00:a1:b2:c4"]  # differ in the last byte
HOST_IP, FAR_IP, VM_IPS = "10.92.0.1", "10.92.0.2", ["10.92.0.11", "10.92.0.12"]


def set_up_vms():
    """Two "VMs" behind the bridge of a host whose uplink leads to another one."""
    for namespace in (VM_HOST, FAR_HOST, *VMS):
        run("ip", "netns", "add", namespace)
    run("ip", "link", "add", "up0", "netns", VM_HOST, "type", "veth", "peer", "name", "up0",
        "netns", FAR_HOST)
    run("ip", "addr", "add", f"{FAR_IP}/24", "dev", "up0", namespace=FAR_HOST)
    run("ip", "link", "set", "up0", "up", namespace=FAR_HOST)
    run("ip", "link", "add", "br0", "type", "bridge", namespace=VM_HOST)
    run("ip", "link", "set", "br0", "up", namespace=VM_HOST)
    run("ip", "link", "set", "up0", "master", "br0", "up", namespace=VM_HOST)
    run("ip", "addr", "add", f"{HOST_IP}/24", "dev", "br0", namespace=VM_HOST)
    for namespace, mac, address in zip(VMS, VM_MACS, VM_IPS):
        tap = f"tap{VMS.index(namespace)}"
        run("ip", "link", "add", "eth0", "address", mac, "netns", namespace, "type", "veth",
            "peer", "name", tap, "netns", VM_HOST)
        run("ip", "addr", "add", f"{address}/24", "dev", "eth0", namespace=namespace)
        run("ip", "link", "set", "eth0", "up", namespace=namespace)
        run("ip", "link", "set", tap, "master", "br0", "up", namespace=VM_HOST)
    for namespace in VMS:
        # Until every link and bridge port is up, states differ by themselves.
        run("ping", "-c", "1", "-w", "10", FAR_IP, namespace=namespace)


def test_floors(state, direction):
    """Each VM keeps its floor while the other VM and a migration want everything."""
    before = state_of(VM_HOST, "up0")
    first, second = 8 * MEGABYTE, 4 * MEGABYTE
    vms = [f"vm={mac},{rate}" for mac, rate in zip(VM_MACS, (first, second))]
    shaper = Shaper(VM_HOST, state, "up0", direction)
    if direction == "egress":
        servers = [Server(port, FAR_HOST) for port in (MIGRATION_PORT, 5201, 5202)]
        migration = (FAR_IP, MIGRATION_PORT, VM_HOST)
        flows = [(FAR_IP, 5201 + number, vm) for number, vm in enumerate(VMS)]
        peer = FAR_IP
    else:
        servers = [Server(MIGRATION_PORT, VM_HOST)] + [Server(5201, vm) for vm in VMS]
        migration = (HOST_IP, MIGRATION_PORT, FAR_HOST)
        flows = [(address, 5201, FAR_HOST) for address in VM_IPS]
        peer = FAR_IP
    # Datagrams do not give way, so that without floors the outcome is no lottery: in a fifo they
    # take nearly all, and where the leaves are fair to each flow eight of nine shares.
    flood = ("-u", "-P", "8", "-b", "24M")
    try:
        shaper.ask(plan(15 * MEGABYTE, 10 * MEGABYTE, LINK, peer))
        one = measure(migration, flows[0], (*flows[1], *flood))
        note(f"{direction}: without floors, 1 connection and a flood: {megabytes(*one)}")
        check(one[1] < 0.5 * first, f"{direction}: a flood pushes one connection aside", one)

        answer = shaper.ask(plan(15 * MEGABYTE, 10 * MEGABYTE, LINK, peer, *vms))
        check((steps(answer)[0] or 0) > 0, f"{direction}: floors are added", answer)
        answer = shaper.ask(plan(15 * MEGABYTE, 10 * MEGABYTE, LINK, peer, *vms))
        check(steps(answer)[0] == 0, f"{direction}: adding them twice changes nothing", answer)
        for number in (0, 1):
            loads = [(*flow, *flood) if i != number else flow for i, flow in enumerate(flows)]
            got = measure(migration, *loads)
            floors = (first, second)
            note(f"{direction}: VM {number + 1} beside a flood: {megabytes(*got)}")
            check(all(rate > 0.90 * floor for rate, floor in zip(got[1:], floors)),
                  f"{direction}: each VM keeps its floor, VM {number + 1} beside a flood",
                  got)
            check(near(got[0], 10 * MEGABYTE) and near(got[1] + got[2], 15 * MEGABYTE),
                  f"{direction}: migration and workload keep theirs", got)
        got = measure(migration, (*flows[0], "-b", "24M"), (*flows[1], "-P", "8"))
        note(f"{direction}: VM 1 wants 3 MB/s: {megabytes(*got)}")
        check(near(got[1], 3 * MEGABYTE), f"{direction}: a VM below its floor gets all it wants",
              got)
        check(got[2] > 0.9 * 11 * MEGABYTE, f"{direction}: and lends the rest to the other", got)
        got = measure((*flows[1], "-P", "8"))
        check(near(got[0], LINK), f"{direction}: alone, a VM may borrow the link", got)

        counters = re.match(r"ok workload=(\d+) migrations=(\d+)$", shaper.ask("counters"))
        classes = run("tc", "-s", "class", "show", "dev",
                      "up0" if direction == "egress" else ifb_of(VM_HOST), namespace=VM_HOST)
        leaves = sum(sent_of(classes, name) for name in ("c0b0:11", "c0b0:201", "c0b0:202"))
        check(counters is not None and abs(int(counters[1]) - leaves) < 0.01 * leaves,
              f"{direction}: the workload's counter is the sum of its classes",
              f"{counters and counters[0]} leaves={leaves}")

        durations = []
        for i in range(20):
            answer = shaper.ask(plan((14 + i % 2) * MEGABYTE, 10 * MEGABYTE, LINK, peer, *vms))
            durations.append(steps(answer)[1])
        note(f"{direction}: reshape with floors: median {statistics.median(durations)} us, "
             f"worst {max(durations)} us of {len(durations)}")
        answer = shaper.ask(plan(15 * MEGABYTE, 10 * MEGABYTE, LINK, peer, vms[0]))
        check((steps(answer)[0] or 0) > 0, f"{direction}: a VM went", answer)
        full = [f"vm=52:54:00:00:01:{number:02x},20000" for number in range(64)]
        answer = shaper.ask(plan(15 * MEGABYTE, 10 * MEGABYTE, LINK, peer, *full))
        check((steps(answer)[0] or 0) >= 3 * 64, f"{direction}: 64 VMs", answer)
        durations = []
        for i in range(10):
            answer = shaper.ask(plan((14 + i % 2) * MEGABYTE, 10 * MEGABYTE, LINK, peer, *full))
            durations.append(steps(answer)[1])
        note(f"{direction}: reshape beside 64 floors: median {statistics.median(durations)} us")
        shaper.ask("remove")
        after = state_of(VM_HOST, "up0")
        check(after == before, f"{direction}: floors removed, byte-identical to before",
              f"{before}---\n{after}")
    finally:
        for server in servers:
            server.close()
        shaper.close()


def ifb_of(namespace):
    return re.search(r"(convoy\d+):", run("ip", "link", namespace=namespace))[1]


def sent_of(classes, name):
    return int(re.search(rf"class htb {name} .*\n Sent (\d+) bytes", classes)[1])


def test_uplink(state):
    """Through a bridge: by kind, and by the forwarding database."""
    shaper = Shaper(SOURCE, state, "up0", "egress")
    answer = shaper.ask(f"uplink {DESTINATION_ADDRESS}")
    check(answer == "ok up0 rate=unknown path=up0", "uplink: route look-up", answer)
    answer = shaper.ask("uplink default")
    check(answer.startswith("error "), "uplink: no default route is an error", answer)

    run("ip", "link", "add", "br0", "type", "bridge", namespace=SOURCE)
    run("ip", "link", "set", "br0", "up", namespace=SOURCE)
    run("ip", "addr", "flush", "dev", "up0", namespace=SOURCE)
    run("ip", "link", "set", "up0", "master", "br0", namespace=SOURCE)
    run("ip", "addr", "add", f"{SOURCE_ADDRESS}/24", "dev", "br0", namespace=SOURCE)
    run("ip", "route", "add", "default", "via", DESTINATION_ADDRESS, namespace=SOURCE)
    run("ip", "tuntap", "add", "vnet0", "mode", "tap", namespace=SOURCE)
    run("ip", "link", "set", "vnet0", "master", "br0", namespace=SOURCE)
    answer = shaper.ask("uplink 10.91.0.77")
    check(
        answer == "ok up0 rate=unknown path=br0 > up0", "uplink: past a guest's tap", answer
    )
    for name in ("pod0", "pod1"):
        run("ip", "link", "add", name, "type", "veth", "peer", f"{name}p", namespace=SOURCE)
        run("ip", "link", "set", name, "master", "br0", namespace=SOURCE)
    answer = shaper.ask("uplink 10.91.0.77")
    check(
        answer.startswith("error 2 ") and "up0" in answer and "[network] uplink" in answer,
        "uplink: several candidates ask for the configuration",
        answer,
    )
    run("ping", "-c", "1", "-W", "5", DESTINATION_ADDRESS, namespace=SOURCE)
    answer = shaper.ask(f"uplink {DESTINATION_ADDRESS}")
    check(
        answer == "ok up0 rate=unknown path=br0 > up0",
        "uplink: the forwarding database knows",
        answer,
    )
    answer = shaper.ask("uplink default")
    check(
        answer == "ok up0 rate=unknown path=br0 > up0",
        "uplink: the default route's gateway is learnt too",
        answer,
    )
    answer = shaper.ask("uplink 203.0.113.9")
    check(answer.startswith("ok up0 "), "uplink: beyond the gateway", answer)
    run("ip", "route", "add", "unreachable", "198.51.100.0/24", namespace=SOURCE)
    answer = shaper.ask("uplink 198.51.100.1")
    check(answer.startswith("error 1 "), "uplink: an unreachable route is an error", answer)
    shaper.close()


def set_up():
    for namespace in (SOURCE, DESTINATION):
        run("ip", "netns", "add", namespace)
        run("ip", "link", "set", "lo", "up", namespace=namespace)
    run("ip", "link", "add", "up0", "netns", SOURCE, "type", "veth", "peer", "name", "up0",
        "netns", DESTINATION)
    for namespace, addresses in (
        (SOURCE, (f"{SOURCE_ADDRESS}/24", f"{SOURCE_ADDRESS6}/64")),
        (DESTINATION, (f"{DESTINATION_ADDRESS}/24", f"{DESTINATION_ADDRESS6}/64")),
    ):
        for address in addresses:
            words = ["nodad"] if ":" in address else []
            run("ip", "addr", "add", address, "dev", "up0", *words, namespace=namespace)
        run("ip", "link", "set", "up0", "up", namespace=namespace)


def main():
    if os.geteuid() != 0:
        skip_all("needs root for network namespaces")
    for program in ("ip", "tc", "iperf3", "ping"):
        if shutil.which(program) is None:
            skip_all(f"{program} is not installed")
    if not os.path.exists(PROGRAM):
        print(f"Bail out! {PROGRAM} is not built")
        return 1
    servers = []
    with tempfile.TemporaryDirectory(prefix="convoy-") as folder:
        state = os.path.join(folder, "state")
        os.mkdir(state)
        try:
            set_up()
            servers = [Server(MIGRATION_PORT), Server(WORKLOAD_PORT)]
            test_life(state, SOURCE, "up0", "egress", (DESTINATION_ADDRESS, DESTINATION_ADDRESS6))
            test_life(state, DESTINATION, "up0", "ingress", (SOURCE_ADDRESS, SOURCE_ADDRESS6))
            test_vlan(state)
            test_foreign(state, "egress", "tbf", "root", "handle", "1:", "tbf", "rate", "1gbit",
                         "burst", "100k", "latency", "50ms")
            test_foreign(state, "egress", "htb", "root", "handle", "1:", "htb")
            test_foreign(state, "ingress", "ingress qdisc", "ingress")
            test_foreign(state, "ingress", "clsact qdisc", "clsact")
            for change in CHANGES:
                test_changed(state, *change, by_apply=False)
                test_changed(state, *change, by_apply=True)
            for direction in ("egress", "ingress"):
                test_gone(state, direction)
            test_kill(state, "egress")
            test_kill(state, "ingress")
            for direction in ("egress", "ingress"):
                test_renamed(state, direction, killed=False)
                test_renamed(state, direction, killed=True)
            test_kill_inside_apply(state, folder)
            for lines in (3, 5, 8):
                test_failing_tc(state, folder, "egress", lines)
                test_failing_tc(state, folder, "ingress", lines)
            test_stuck_redirect(state, folder)
            test_shared_ingress(state)
            test_lock(state)
            test_lying_tc(state, folder)
            for direction in ("egress", "ingress"):
                test_probing_again(state, folder, direction)
            set_up_vms()
            test_floors(state, "egress")
            test_floors(state, "ingress")
            test_uplink(state)
        finally:
            for server in servers:
                server.close()
            for namespace in (SOURCE, DESTINATION, VM_HOST, FAR_HOST, *VMS):
                run("ip", "netns", "del", namespace, may_fail=True)
    return TAP.finish()


if __name__ == "__main__":
    sys.exit(main())
