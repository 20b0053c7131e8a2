# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the programs of tests/bench do around their measuring: arguments, a lab, its end."""

import argparse
import os
import pathlib
import signal
import sys

from .laboratory import Lab
from .util import LabError, TREE


def at_least_one(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of at least 1")
    return int(text)


def parser(name, text, **counts):
    """--name of the lab, --output, and an option for each of COUNTS: (default, help)."""
    answer = argparse.ArgumentParser(description=text.splitlines()[0])
    for option, (default, what) in counts.items():
        answer.add_argument(f"--{option}", type=at_least_one, default=default, metavar="N",
                            help=f"{what} (default %(default)s)")
    answer.add_argument("--name", default=f"{name}-{os.getpid()}", help="name of the lab")
    answer.add_argument("--output", type=pathlib.Path,
                        default=TREE / "build" / "bench" / f"{name}.json")
    return answer


def in_lab(arguments, measure, adds=False, **up):
    """MEASURE(lab) in a lab that is up; it goes down at any end, also of SIGTERM.

    The program ends here with 1 where nothing can be measured. What an earlier one wrote
    does not stay for the result of this one, unless it ADDS to it.
    """
    if os.geteuid() != 0:
        sys.exit("bench: the lab needs root")
    if not adds:
        arguments.output.unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    lab = Lab(arguments.name)
    try:
        lab.up(**up)
        return measure(lab)
    except LabError as error:
        sys.exit(f"bench: {error}")
    finally:
        lab.down()


def verdict(kept, text):
    """Prints a line about one promise; KEPT as a bool."""
    print(f"{'kept  ' if kept else 'BROKEN'} {text}")
    return bool(kept)
