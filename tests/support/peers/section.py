"""The work of every peer program inside the lock: look for others inside, and keep a log.

    python -m tests.support.peers.<kind> LOCKFILE DIRECTORY ENTRIES PAUSE_MS

prints `ready`, reads a line, enters that many times and prints the log as JSON.  With ENTRIES 0 it
goes on until DIRECTORY/stop exists.

An entry that is not regular says why: `forced` (it entered without the lock, after giving up),
`orphan` (the file that it locked did not have the name), `lost` (the file had the name, but no
longer at the end of the section).  Times are of the machine's monotonic clock, so logs of several
processes can be compared.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from pathlib import Path

HOLD_S = 0.01

#: Says why the entry that just began, or is about to end, is not a regular one; "" if it is.
Verdict = Callable[[], str]
#: Waits for the lock; raises GaveUp when the peer's own time-out has come.
Attempt = Callable[[Path], AbstractContextManager[Verdict]]


class GaveUp(Exception):
    """The peer's own time-out."""


def named(descriptor: int, path: Path) -> bool:
    """Is the open file the one at the path?"""
    opened = os.fstat(descriptor)
    with contextlib.suppress(OSError):
        return os.path.samestat(opened, path.lstat())
    return False


@contextlib.contextmanager
def registered(directory: Path, me: str, seen: list[str]) -> Generator[None]:
    """In the block a marker with this name exists; `seen` gets the names of all other markers."""
    marker = directory / me
    marker.touch(exist_ok=False)
    try:
        seen += [other for other in os.listdir(directory) if other != me]
        yield
    finally:
        marker.unlink()


def main(attempt: Attempt) -> None:
    """Runs the program; its kind is the name of the module that calls this."""
    path, directory = Path(sys.argv[1]), Path(sys.argv[2])
    wanted, pause_s = int(sys.argv[3]), float(sys.argv[4]) / 1000
    kind = os.environ.get("PEER_KIND") or Path(sys.argv[0]).stem
    me = f"{kind}.{os.getpid()}"
    entries: list[tuple[int, int, str]] = []
    seen: list[str] = []
    longest, gave_up = 0.0, 0
    print("ready", flush=True)
    sys.stdin.readline()
    while len(entries) < wanted or (not wanted and not (directory / "stop").exists()):
        before = time.monotonic()
        try:
            with attempt(path) as verdict:
                start = time.monotonic_ns()
                longest = max(longest, time.monotonic() - before)
                how = verdict()
                with registered(directory / "inside", me, seen):
                    time.sleep(HOLD_S)
                how = how or (verdict() and "lost")
                entries.append((start, time.monotonic_ns(), how))
        except GaveUp:
            gave_up += 1
        time.sleep(random.uniform(0, 2 * pause_s))
    log = {"kind": kind, "entries": entries, "seen": seen, "longest": longest, "gave_up": gave_up}
    print(json.dumps(log), flush=True)
