#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""High and low priority keep what they promise, measured from outside. TAP, root.

One run of each situation; `make bench-priority` repeats them and judges medians.
"""

import sys

from support.stage import main
from convoylab import situations  # found by support.stage

# s for plain libvirt: if it needs more, the ratio is only better than what is shown.
PATIENCE = 60.0


def check(stage):
    for name in situations.SITUATIONS:
        if name == "high":
            pair = situations.measure_pair(stage.lab, name, neighbour_seconds=PATIENCE)
            stage.tap.note(f"{name}, plain: {pair['none']}")
            figures = pair["full"]
        else:
            figures = situations.measure(stage.lab, "full", name)
        stage.tap.note(f"{name}: {figures}")
        for promise, (kept, measured) in situations.promises({name: figures},
                                                             {name: [figures]}).items():
            stage.tap.ok(kept, f"{promise}: {measured}")


if __name__ == "__main__":
    sys.exit(main("priority", check, rate=situations.LINK))
