# SPDX-License-Identifier: LGPL-2.1-or-later
"""Downtime as a client of the guest sees it.

A datagram every 5 ms to the guest's echo server. An outage is the time between
two answers that follow each other; the longest one is the downtime. The
answers also carry the guest's own counter, so a guest that was restarted
during the migration does not pass for one that went on.
"""

import os
import select
import socket
import time

from .guest import ECHO_PORT

PERIOD = 0.005
INTERVAL = 0.5
GAP = 0.050             # shorter gaps are the emulation's own noise


class Prober:
    """Sends, listens and writes rows: interval, gap, and summary at the end."""

    def __init__(self, address, record, port=ECHO_PORT):
        self.target = (address, port)
        self.record = record
        self.sent = self.received = 0
        self.longest = self.outage = 0.0
        self.last_answer = None
        self.counter = self.first_counter = self.dirtied = self.uptime = None
        self.newest = -1            # request that an answer was seen to
        self.backward = 0
        self.round_trips = []

    def run(self):
        os.nice(-10)            # the prober must not lose to the load it watches
        channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        channel.setblocking(False)
        due = interval_end = time.monotonic()
        interval_end += INTERVAL
        while True:
            now = time.monotonic()
            if now >= due:
                self.send(channel, now)
                due = max(due + PERIOD, now - PERIOD)
            if now >= interval_end:
                self.interval()
                interval_end = now + INTERVAL
            if select.select([channel], [], [], max(due - time.monotonic(), 0))[0]:
                self.receive(channel)

    def send(self, channel, now):
        try:
            channel.sendto(f"{self.sent} {now:.6f}".encode(), self.target)
        except OSError:
            pass                # no neighbour entry during the outage: the gap shows it
        self.sent += 1

    def receive(self, channel):
        try:
            words = channel.recv(256).split()
        except OSError:
            return
        now = time.monotonic()
        if len(words) != 5:
            return
        self.received += 1
        self.round_trips.append((now - float(words[1])) * 1000)
        request, counter, uptime = int(words[0]), int(words[2]), int(words[3])
        # The old host's queue may deliver an early answer after the new host's first:
        # only a later request that is answered with an earlier time went back.
        if request > self.newest:
            self.backward += self.uptime is not None and uptime < self.uptime
            self.newest, self.uptime = request, uptime
        if self.first_counter is None:
            self.first_counter = counter
        self.counter = max(counter, self.counter or 0)
        self.dirtied = int(words[4])
        self.gap(now)
        self.last_answer = now

    def gap(self, now):
        if self.last_answer is None:
            return
        length = now - self.last_answer
        self.longest = max(self.longest, length)
        if length > GAP:
            self.outage += length
            self.record.write("gap", time=time.time(), ms=round(length * 1000, 1))

    def interval(self):
        trips, self.round_trips = self.round_trips, []
        self.record.write("interval", time=time.time(), answers=len(trips),
                          rtt_ms=round(sum(trips) / len(trips), 2) if trips else None,
                          rtt_max_ms=round(max(trips), 2) if trips else None,
                          counter=self.counter, uptime_ms=self.uptime,
                          pages_dirtied=self.dirtied)

    def finish(self):
        now = time.monotonic()
        # An outage that still lasts counts for what it is so far.
        if self.last_answer is not None and now - self.last_answer > GAP:
            self.gap(now)
        self.record.write("summary", time=time.time(), sent=self.sent, received=self.received,
                          downtime_ms=round(self.longest * 1000, 1),
                          outage_ms=round(self.outage * 1000, 1),
                          counter_first=self.first_counter, counter_last=self.counter,
                          uptime_went_back=self.backward, pages_dirtied=self.dirtied)
