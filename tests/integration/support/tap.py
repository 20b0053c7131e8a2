# SPDX-License-Identifier: LGPL-2.1-or-later
"""Test Anything Protocol: one line per check, the plan at the end."""

import os
import sys
import time

# Where a run of many tests gathers what failed, to say it once more as its last words.
FAILURES = "VIRT_CONVOY_FAILURES"
BRIEF_LINES, BRIEF_WIDTH = 8, 200

class Tap:
    """Counts and prints; `finish` gives the exit status."""

    def __init__(self):
        self.count = self.failed = 0
        self.begun = time.monotonic()

    def ok(self, passed, what, detail=""):
        """One check. DETAIL is printed only when it failed."""
        self.count += 1
        self.failed += not passed
        print(f"{'ok' if passed else 'not ok'} {self.count} - {what}", flush=True)
        if not passed:
            # A harness shows nothing of a test's stdout, but its stderr.
            self.note(f"{self.count} failed: {what}\n{detail}", sys.stderr)
            self.gather(what, detail)
        return bool(passed)

    def gather(self, what, detail):
        """Appends the failure, briefly, to the file that the environment names."""
        path = os.environ.get(FAILURES)
        if not path:
            return
        lines = [f"{os.path.basename(sys.argv[0])} {self.count}: {what}", *str(detail).splitlines()]
        with open(path, "a", encoding="utf-8") as file:
            file.write("\n  ".join(line[:BRIEF_WIDTH] for line in lines[:BRIEF_LINES]) + "\n")

    def equal(self, got, wanted, what, detail=""):
        return self.ok(got == wanted, what, f"got {got!r}, wanted {wanted!r}\n{detail}")

    def skip(self, what, reason):
        self.count += 1
        print(f"ok {self.count} - {what} # SKIP {reason}", flush=True)

    @staticmethod
    def note(text, stream=None):
        for line in str(text).splitlines():
            print(f"# {line}", file=stream, flush=True)

    def finish(self):
        self.note(f"{self.count - self.failed} of {self.count} passed, "
                  f"{time.monotonic() - self.begun:.0f} s")
        print(f"1..{self.count}", flush=True)
        return 1 if self.failed or not self.count else 0


def skip_all(reason):
    print(f"1..0 # SKIP {reason}")
    sys.exit(0)
