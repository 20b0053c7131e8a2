# SPDX-License-Identifier: LGPL-2.1-or-later
"""Migrations by the very command a user types, and QEMU's own account of them."""

import json
import os
import select
import subprocess
import time

from .background import Background
from .util import LabError, run

ANSWER_SECONDS = 30


class VirshSession:
    """One virsh process inside a host that answers many commands.

    Starting virsh for each sample would cost more than the migration watched.
    """

    def __init__(self, host):
        self.count = 0
        self.process = subprocess.Popen(
            host.argv("virsh", "-q", "-c", "qemu:///system"), cwd="/", bufsize=0,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def ask(self, command):
        """Everything virsh prints on COMMAND; LabError when virsh is gone."""
        self.count += 1
        # virsh echoes its input: only the answer has the words without quotes.
        mark = f"end of answer {self.count} lab".encode()
        try:
            self.process.stdin.write(f"{command}\necho 'end of' 'answer {self.count}' lab\n".encode())
        except (BrokenPipeError, ValueError) as error:
            raise LabError("virsh session ended") from error
        answer = b""
        while mark not in answer:
            if not select.select([self.process.stdout], [], [], ANSWER_SECONDS)[0]:
                raise LabError(f"virsh session: no answer to '{command}'")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise LabError("virsh session ended")
            answer += data
        return answer.split(mark)[0].decode(errors="replace")

    def close(self):
        """virsh ends by itself when its input ends."""
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class StatisticsSampler(Background):
    """Polls query-migrate on the source; keeps the last answer, maxima and history."""

    def __init__(self, host, name, interval=0.1):
        self.host, self.name, self.interval = host, name, interval
        self.last = {}
        self.maxima = {}
        self.statuses = []          # [(time, status)], one entry per change
        self.series = []            # [(time, transferred, remaining, iteration, dirty rate)]
        super().__init__()

    def __enter__(self):
        self.session = VirshSession(self.host)
        return super().__enter__()

    def __exit__(self, *unused):
        super().__exit__()
        self.session.close()

    def loop(self):
        command = f"qemu-monitor-command {self.name} '{{\"execute\":\"query-migrate\"}}'"
        while not self.stopping.wait(self.interval):
            try:
                text = self.session.ask(command)
            except LabError:
                return
            # The echoed command comes first; the answer starts its own line.
            start = text.find('\n{') + 1
            if start < 1:           # the domain is gone, or not there yet
                continue
            try:
                answer, _ = json.JSONDecoder().raw_decode(text[start:])
            except ValueError:
                continue
            self.record(time.time(), answer.get("return") or {})

    def record(self, now, answer):
        if not answer:
            return
        self.last = answer
        status = answer.get("status")
        if not self.statuses or self.statuses[-1][1] != status:
            self.statuses.append((now, status))
        ram = answer.get("ram", {})
        numbers = {**{key: value for key, value in answer.items()
                      if isinstance(value, (int, float))}, **ram}
        for key, value in numbers.items():
            if isinstance(value, (int, float)):
                self.maxima[key] = max(value, self.maxima.get(key, value))
        if ram:
            self.series.append((now, ram.get("transferred"), ram.get("remaining"),
                                ram.get("dirty-sync-count"), ram.get("dirty-pages-rate")))

    def result(self):
        return {"last": self.last, "maxima": self.maxima, "statuses": self.statuses,
                "series": self.series}


class Migrations:
    """Migrations between the hosts of one lab."""

    def __init__(self, lab):
        self.lab = lab

    def argv(self, name, src="host-a", dst="host-b", flags=("--live",), uri=None):
        return self.lab.host(src).argv("virsh", "-c", "qemu:///system", "migrate", *flags, name,
                                       uri or f"qemu+tcp://{dst}/system")

    def start(self, name, src="host-a", dst="host-b", flags=("--live",), uri=None):
        """Start a migration and return its process (for queues and aborts)."""
        return subprocess.Popen(self.argv(name, src, dst, flags, uri), cwd="/", text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def migrate(self, name, src="host-a", dst="host-b", flags=("--live",), uri=None,
                statistics=False, timeout=600):
        """Migrate and wait. {returncode, seconds, started, ended, stderr[, statistics]}."""
        sampler = StatisticsSampler(self.lab.host(src), name) if statistics else None
        if sampler:
            sampler.__enter__()
        started = time.time()
        clock = time.monotonic()
        try:
            done = run(self.argv(name, src, dst, flags, uri), check=False, timeout=timeout)
        finally:
            seconds = time.monotonic() - clock
            if sampler:
                sampler.__exit__()
        result = {"returncode": done.returncode, "seconds": seconds, "started": started,
                  "ended": started + seconds, "stderr": done.stderr.strip(),
                  "stdout": done.stdout.strip()}
        if sampler:
            result["statistics"] = sampler.result()
        return result

    def query(self, host, name):
        """QEMU's own answer to query-migrate (the domain must be on HOST)."""
        text = self.lab.host(host).virsh("qemu-monitor-command", name,
                                         '{"execute":"query-migrate"}').stdout
        return json.loads(text).get("return", {})

    def completed(self, host, name):
        """`virsh domjobinfo --completed --rawstats` as a dictionary of numbers and text."""
        text = self.lab.host(host).virsh("domjobinfo", name, "--completed", "--rawstats",
                                         check=False).stdout
        pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
        return {key.strip(): int(value) if value.strip().isdigit() else value.strip()
                for key, value in pairs}
