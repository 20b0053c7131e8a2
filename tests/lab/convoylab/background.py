# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is watched from a thread while a `with` block runs."""

import threading


class Background:
    """Runs loop() in a thread for the time of a `with` block.

    loop() returns soon after `stopping` is set; `stopping.wait(seconds)` is its sleep.
    """

    def __init__(self):
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.loop, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *unused):
        self.stopping.set()
        self.thread.join()

    def loop(self):
        raise NotImplementedError
