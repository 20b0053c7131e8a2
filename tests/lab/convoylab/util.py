# SPDX-License-Identifier: LGPL-2.1-or-later
"""Paths, child processes and waiting, shared by the whole lab."""

import contextlib
import fcntl
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

TREE = pathlib.Path(__file__).resolve().parents[3]
LAB_DIR = TREE / "tests" / "lab"
BUILD = pathlib.Path(os.environ.get("VIRT_CONVOY_BUILD") or TREE / "build").resolve()
IMAGE_DIR = TREE / "build" / "lab"
# Not below /run: each lab host mounts its own /run and must still see this.
STATE = pathlib.Path(os.environ.get("VIRT_CONVOY_LAB_STATE")
                     or pathlib.Path(os.environ.get("TMPDIR") or "/tmp") / "virt-convoy-lab")


class LabError(Exception):
    """Something the lab was asked for did not happen; the text says what."""


def run(argv, check=True, timeout=120, text_input=None):
    """Run ARGV to its end and return the CompletedProcess (text)."""
    argv = [str(word) for word in argv]
    # A session of its own: nsenter passes no signal on to the command it waits for.
    with subprocess.Popen(argv, text=True, errors="replace", cwd="/", start_new_session=True,
                          stdin=subprocess.DEVNULL if text_input is None else subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            stdout, stderr = process.communicate(text_input, timeout=timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise LabError(f"{shlex.join(argv)}: no end after {timeout} s") from error
            raise
    done = subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)
    if check and done.returncode != 0:
        raise LabError(f"{shlex.join(argv)}: exit {done.returncode}: "
                       f"{(done.stderr or done.stdout).strip()}")
    return done


def wait_until(what, condition, timeout=30.0, interval=0.02):
    """Poll CONDITION until it returns something true, and return that."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {timeout:g} s")
        time.sleep(interval)


@contextlib.contextmanager
def progress(what):
    """Print WHAT and how long it took (on standard error)."""
    start = time.monotonic()
    print(f"lab: {what} ...", file=sys.stderr, flush=True)
    yield
    print(f"lab: {what}: {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(name):
    """Hold the lock NAME, shared by all labs of this machine."""
    path = STATE / f".{name}.lock"
    while True:
        STATE.mkdir(parents=True, exist_ok=True)
        try:
            handle = open(path, "w", encoding="ascii")  # pylint: disable=consider-using-with
        except FileNotFoundError:
            continue                # the folder was removed in between
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if names(path, handle):
                yield
                return


def remove_locks():
    """Remove the locks that nobody holds."""
    for path in STATE.glob(".*.lock"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), \
                open(path, "r", encoding="ascii") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if names(path, handle):
                path.unlink()


def names(path, handle):
    """Whether PATH is still the file of HANDLE: a removed lock locks nothing."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle.fileno()))
    except FileNotFoundError:
        return False


def read_json(path, default=None):
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default


def write_json(path, value):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    temporary.rename(path)


def process_start_time(pid):
    """Start time of PID in clock ticks, None when there is no such process."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rsplit(")", 1)[1].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def renice_argv(pid, nice):
    """Command that sets the scheduling priority of PID's process group.

    Where the kernel shares processors out by session (autogroup), that of a thread counts
    only inside of its session: there it sets the session's, too.
    """
    script = ('renice -n "$2" -g $(ps -o pgid= -p "$1") && '
              '{ [ ! -e "/proc/$1/autogroup" ] || echo "$2" > "/proc/$1/autogroup"; }')
    return ["sh", "-c", script, "renice", str(pid), str(nice)]
