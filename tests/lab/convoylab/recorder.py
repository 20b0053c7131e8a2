# SPDX-License-Identifier: LGPL-2.1-or-later
"""The process behind a workload: makes traffic, writes one JSON line per interval.

Runs in the client's network namespace; ends on SIGTERM.
"""

import argparse
import json
import random
import re
import signal
import socket
import subprocess
import time

from . import probe

INTERVAL = 0.5
# Where connections share a rate: iperf3's blocks of 128 KiB from all of them at once are
# more than a switch's port can hold, and its timer of 1 ms wakes for each connection: half
# of what an emulated guest spends on sending. Microseconds.
PACED_BLOCK = "16K"
PACING_TIMER = 5000
MEMCACHED_PORT = 11211
PORTS = {"iperf-out": 5201, "iperf-in": 5202}
IPERF_LINE = re.compile(r"\[ *(\d+|SUM)\]\s+(\d+\.\d+)-(\d+\.\d+)\s+sec\s+\S+ \S+\s+"
                        r"([\d.]+) Kbits/sec")


class Stop(Exception):
    """SIGTERM came."""


class Record:
    """Append-only JSON lines."""

    def __init__(self, path):
        self.file = open(path, "a", encoding="utf-8", buffering=1)

    def write(self, row, **values):
        self.file.write(json.dumps({"row": row, **values}) + "\n")


def iperf(kind, address, record, rate, udp, streams):
    argv = ["iperf3", "-c", address, "-p", str(PORTS[kind]), "-t", "0", "-i", str(INTERVAL),
            "--forceflush", "-f", "k"]
    if kind == "iperf-out":
        argv.append("-R")
    if udp:
        argv.append("-u")
    if streams > 1:
        argv += ["-P", str(streams)]
    if rate:
        argv += ["-b", f"{rate / streams:g}M"]      # iperf3 means each stream
        if streams > 1:
            argv += ["--length", PACED_BLOCK, "--pacing-timer", str(PACING_TIMER)]
    elif udp:
        argv += ["-b", "0"]
    while True:
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, text=True) as client:
            try:
                for line in client.stdout:
                    match = IPERF_LINE.search(line)
                    if match and (streams == 1 or match[1] == "SUM"):
                        record.write("interval", time=time.time(),
                                     seconds=float(match[3]) - float(match[2]),
                                     mbit=float(match[4]) / 1000)
                    elif match is None and "error" in line:
                        record.write("error", time=time.time(), text=line.strip())
            except Stop:
                client.kill()
                raise
        # A server still busy with a lost client answers again a little later.
        time.sleep(0.2)


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def memcached(address, record, rate):
    """Get and set 1 KiB to 8 KiB values, 9 to 1, at RATE requests/s."""
    connection = socket.create_connection((address, MEMCACHED_PORT), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = connection.makefile("rb")
    noise = random.Random(1)
    data = noise.randbytes(8192)
    keys = [f"key-{number}" for number in range(256)]
    for key in keys:
        connection.sendall(f"set {key} 0 0 8192\r\n".encode() + data + b"\r\n")
        stream.readline()
    begin = next_due = time.monotonic()
    latencies, moved = [], 0
    while True:
        key = noise.choice(keys)
        sent = time.monotonic()
        if noise.random() < 0.1:
            size = noise.randrange(1024, 8193)
            connection.sendall(f"set {key} 0 0 {size}\r\n".encode() + data[:size] + b"\r\n")
            stream.readline()
            moved += size
        else:
            connection.sendall(f"get {key}\r\n".encode())
            header = stream.readline().split()
            if header and header[0] == b"VALUE":
                moved += len(stream.read(int(header[3]) + 2))
                stream.readline()
        now = time.monotonic()
        latencies.append((now - sent) * 1000)
        if now - begin >= INTERVAL:
            record.write("interval", time=time.time(), seconds=now - begin,
                         requests=round(len(latencies) / (now - begin), 1),
                         mbit=round(moved * 8 / 1e6 / (now - begin), 3),
                         latency_p50_ms=round(percentile(latencies, 0.5), 3),
                         latency_p99_ms=round(percentile(latencies, 0.99), 3),
                         latency_max_ms=round(max(latencies), 3))
            begin, latencies, moved = now, [], 0
        next_due = max(next_due + 1 / rate, now - INTERVAL)
        if next_due > now:
            time.sleep(next_due - now)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["iperf-out", "iperf-in", "memcached", "probe"])
    parser.add_argument("address")
    parser.add_argument("record")
    parser.add_argument("--rate", type=float)
    parser.add_argument("--udp", action="store_true")
    parser.add_argument("--streams", type=int, default=1)
    arguments = parser.parse_args()

    def stop(*unused):
        raise Stop
    signal.signal(signal.SIGTERM, stop)
    record = Record(arguments.record)
    prober = probe.Prober(arguments.address, record)
    try:
        if arguments.kind == "probe":
            prober.run()
        elif arguments.kind == "memcached":
            memcached(arguments.address, record, arguments.rate or 500)
        else:
            iperf(arguments.kind, arguments.address, record, arguments.rate, arguments.udp,
                  arguments.streams)
    except Stop:
        if arguments.kind == "probe":
            prober.finish()


if __name__ == "__main__":
    main()
