# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the machine's processors have left, and how much of them others take.

A virtual machine is told nothing of the time that its own host gives to others, but a task
that comes before all others notices: it wakes late. In a test that measures what a guest
sends, a machine that stands still looks like a product that lets it starve.
"""

import contextlib
import json
import os
import random
import subprocess
import sys
import time

from .util import LAB_DIR, LabError, wait_until

PERIOD = 0.005          # s between two wake-ups, on average
LATE = 0.001            # s: later than softirqs of a busy network make it
ROW_SECONDS = 0.5
FIT_SECONDS = 2.0
# Of the time. What is measured with more than that taken away is measured once more.
TAKEN_LIMIT = 0.1
FIT_TIMEOUT = 60        # s: a machine that is never fit still ends its tests


class ProcessorWatch:
    """Idle share of the machine's processors."""

    def __init__(self):
        self.start = self.read()

    @staticmethod
    def read():
        with open("/proc/stat", encoding="ascii") as file:
            fields = [int(word) for word in file.readline().split()[1:9]]
        return fields[3], sum(fields)       # idle; waiting for a disk is not idle

    def idle(self):
        idle, total = self.read()
        return (idle - self.start[0]) / max(total - self.start[1], 1)


def wake_up_often(processor):
    """The watching process of one processor: a row of JSON for each ROW_SECONDS on stdout."""
    os.sched_setaffinity(0, {processor})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    parent = os.getppid()
    while os.getppid() == parent:
        begin = now = time.monotonic()
        taken = 0.0
        while now - begin < ROW_SECONDS:
            # Not in step with what takes the processor.
            pause = random.uniform(0.2, 1.8) * PERIOD
            due = now + pause
            time.sleep(pause)
            now = time.monotonic()
            taken += now - due if now - due > LATE else 0.0
        print(json.dumps({"time": time.time(), "taken": taken / (now - begin)}), flush=True)


class TakenWatch:
    """The share of the processors that others take, while it is entered."""

    def __init__(self, directory):
        self.paths = [directory / "processors" / f"{number}.jsonl"
                      for number in sorted(os.sched_getaffinity(0))]
        self.processes = []

    def __enter__(self):
        for path in self.paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as record:
                self.processes.append(subprocess.Popen(
                    [sys.executable, "-S", "-m", "convoylab.processors", path.stem], cwd=LAB_DIR,
                    stdin=subprocess.DEVNULL, stdout=record))
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes = []

    def rows(self):
        for path in self.paths:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            yield [json.loads(line) for line in lines if line.endswith("\n")]

    def taken(self, since, until):
        """The share in the worst FIT_SECONDS between two times; 0 when unknown."""
        worst, count = 0.0, round(FIT_SECONDS / ROW_SECONDS)
        for rows in self.rows():
            values = [row["taken"] for row in rows
                      if since < row["time"] <= until + ROW_SECONDS]
            for first in range(max(len(values) - count + 1, min(len(values), 1))):
                window = values[first:first + count]
                worst = max(worst, sum(window) / len(window))
        return worst

    def wait_fit(self):
        """Wait until little is taken; gives up on that without an error, and says so."""
        def fit():
            now = time.time()
            if any(process.poll() is not None for process in self.processes):
                raise LabError("the processors cannot be watched: is real-time priority allowed?")
            return all(rows and rows[0]["time"] <= now - FIT_SECONDS for rows in self.rows()) \
                and self.taken(now - FIT_SECONDS, now) < TAKEN_LIMIT / 2
        try:
            wait_until("processors of this machine's own", fit, timeout=FIT_TIMEOUT,
                       interval=ROW_SECONDS)
        except LabError as error:
            print(f"lab: {error}", file=sys.stderr, flush=True)


def measured(lab, what, run, is_broken=lambda result: False, attempts=3):
    """RUN()'s result; once more, up to ATTEMPTS in all, when others took the processors.

    That is judged by late wake-ups alone, never by what was measured. A result that
    IS_BROKEN, however fast the machine is, stands.
    """
    for left in reversed(range(attempts)):
        with TakenWatch(lab.directory) as watch:
            watch.wait_fit()
            begin = time.time()
            result = run()
            taken = watch.taken(begin, time.time())
        if taken <= TAKEN_LIMIT or is_broken(result):
            break
        print(f"lab: {what}: for {FIT_SECONDS:g} s others took {taken:.0%} of a processor"
              f"{', measured again' if left else ''}", file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        wake_up_often(int(sys.argv[1]))
