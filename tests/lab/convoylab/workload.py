# SPDX-License-Identifier: LGPL-2.1-or-later
"""Starting and stopping traffic from the client namespace, and reading its record.

Each workload is a process of its own (recorder.py), so it also runs on between
two calls of the `lab` command. Its record is a file of JSON lines.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import time

from .util import (LAB_DIR, LabError, process_start_time, read_json, renice_argv, run, wait_until,
                   write_json)

KINDS = ("iperf-out", "iperf-in", "memcached", "probe")


class Workloads:
    """The workloads of one lab."""

    def __init__(self, lab):
        self.lab = lab
        self.directory = lab.directory / "workloads"

    def start(self, kind, vm, rate=None, udp=False, identity=None, streams=1):
        """Start KIND towards guest VM; RATE in Mbit/s (memcached: requests/s).

        STREAMS connections share the RATE (iperf only).
        """
        if kind not in KINDS:
            raise LabError(f"workload '{kind}': one of {', '.join(KINDS)}")
        ip = self.lab.guests.record(vm)["ip"]
        identity = identity or f"{kind}-{vm}"
        if self.running(identity):
            raise LabError(f"workload {identity} runs already")
        self.directory.mkdir(parents=True, exist_ok=True)
        record = self.directory / f"{identity}.jsonl"
        record.unlink(missing_ok=True)
        argv = self.lab.client_argv(sys.executable, "-m", "convoylab.recorder", kind, ip,
                                    str(record))
        if rate is not None:
            argv += ["--rate", str(rate)]
        if udp:
            argv += ["--udp"]
        if streams > 1:
            argv += ["--streams", str(streams)]
        errors = self.directory / f"{identity}.err"
        with open(errors, "wb") as error_file:
            process = subprocess.Popen(argv, cwd=LAB_DIR, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=error_file,
                                       start_new_session=True)
        write_json(self.directory / f"{identity}.json",
                   {"id": identity, "kind": kind, "vm": vm, "rate": rate, "pid": process.pid,
                    "start": process_start_time(process.pid)})

        def begun():
            if process.poll() is not None:
                return "ended"
            # An error is no sample: the guest's server may still be busy with a lost client.
            return "begun" if record.exists() and any(
                row["row"] != "error" for row in self.rows(identity)) else None
        try:
            how = wait_until(f"first sample of {identity}", begun, timeout=20)
        except LabError as error:
            raise LabError(f"{error}\n{self.account(identity)}") from error
        if how == "ended":
            raise LabError(f"workload {identity} ended: {errors.read_text(errors='replace')}")
        return identity

    def renice(self, identity, nice):
        """Scheduling priority of the client's side of the workload."""
        run(renice_argv(self.running(identity)["pid"], nice))

    def running(self, identity):
        state = read_json(self.directory / f"{identity}.json")
        if not state or process_start_time(state["pid"]) != state["start"]:
            return None
        return state

    def rows(self, identity):
        """All rows recorded so far."""
        path = self.directory / f"{identity}.jsonl"
        if not path.exists():
            raise LabError(f"no workload '{identity}'")
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                rows.append(json.loads(line))
        return rows

    def account(self, identity, rows=12):
        """What can be known of a workload that does not do what it should, as text."""
        record = self.rows(identity) if (self.directory / f"{identity}.jsonl").exists() else []
        state = read_json(self.directory / f"{identity}.json", {})
        vm = state.get("vm")
        process = "runs" if self.running(identity) else "has ended"
        lines = [f"workload {identity}: its process {process}; its last rows at {time.time():.1f}:",
                 *(f"  {row}" for row in record[-rows:]),
                 *(f"  {row}" for row in record[:-rows] if row["row"] == "error"),
                 f"guest {vm}: {self.lab.guests.where(vm)}, answers {self.lab.guests.ask(vm, 2)}",
                 self.lab.guests.console(vm)[-1000:],
                 run(self.lab.client_argv("ss", "--tcp", "--numeric", "--info", "--memory",
                                          "--options"), check=False).stdout]
        return "\n".join(lines)

    def wait_flowing(self, identity, mbit, seconds=1.0, timeout=30):
        """Wait until iperf's traffic has been at least MBIT for SECONDS; LabError with all known."""
        def steady():
            rows = [row for row in self.rows(identity) if row["row"] == "interval"]
            covered = 0.0
            while rows and covered < seconds and rows[-1]["mbit"] >= mbit:
                covered += rows.pop()["seconds"]
            return covered >= seconds
        try:
            wait_until(f"{mbit:g} Mbit/s of {identity}", steady, timeout=timeout)
        except LabError as error:
            raise LabError(f"{error}\n{self.account(identity)}") from error

    def check_flows(self, identity, silence=2.0):
        """LabError with all that is known if iperf's traffic has been away for SILENCE s."""
        now = time.time()
        if not any(row["row"] == "interval" and row["mbit"] > 0 and row["time"] > now - silence
                   for row in self.rows(identity)):
            raise LabError(f"no traffic for {silence:g} s\n{self.account(identity)}")

    def stop(self, identity):
        """Stop the workload and return its summary."""
        state = self.running(identity)
        if state:
            os.kill(state["pid"], signal.SIGTERM)
            wait_until(f"end of workload {identity}", lambda: self.ended(state), timeout=15)
        return self.summary(identity)

    @staticmethod
    def ended(state):
        try:
            os.waitpid(state["pid"], os.WNOHANG)
        except ChildProcessError:
            pass                    # started by an earlier command: not our child
        return process_start_time(state["pid"]) != state["start"]

    def summary(self, identity, since=None, until=None):
        """The prober's own summary, or figures of the rows between two times."""
        rows = self.rows(identity)
        for row in reversed(rows):
            if row.get("row") == "summary" and since is None and until is None:
                return row
        chosen = [row for row in rows if row.get("row") == "interval"
                  and (since is None or row["time"] >= since)
                  and (until is None or row["time"] <= until)]
        gaps = [row for row in rows if row.get("row") == "gap"
                and (since is None or row["time"] >= since)
                and (until is None or row["time"] <= until)]
        result = {"id": identity, "intervals": len(chosen)}
        for key in ("mbit", "requests", "latency_p99_ms", "rtt_ms"):
            values = [row[key] for row in chosen if row.get(key) is not None]
            if values:
                result[key] = {"mean": round(statistics.fmean(values), 2),
                               "minimum": min(values), "maximum": max(values)}
        if gaps:
            result["gaps"] = [gap["ms"] for gap in gaps]
            result["longest_gap_ms"] = max(result["gaps"])
        return result

    def list(self):
        found = []
        for path in sorted(self.directory.glob("*.json")) if self.directory.exists() else []:
            if self.running(path.stem):
                found.append(path.stem)
        return found

    def stop_all(self):
        return {identity: self.stop(identity) for identity in self.list()}
