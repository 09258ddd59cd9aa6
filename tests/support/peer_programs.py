"""Processes of ours and of other libraries on one lock file: which were inside together?

    logs = run_together([Turn(ours(), path, 0, 60), Turn(program("java"), path, 15, 30)], directory)
    assert overlaps(logs) == []

tests/support/peers has the programs.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.processes import GENEROUS, saying
from tests.support.reference import reference_python

ROOT = Path(__file__).resolve().parents[2]
OURS = "ours"
Start = tuple[list[str], dict[str, str]]


def program(name: str, start: Start | None = None) -> Start:
    command, env = start or ([sys.executable], dict(os.environ))
    return [*command, "-m", f"tests.support.peers.{name}"], env


def reference(portalocker: bool) -> Start:
    command, env = program("python_lock", reference_python(portalocker))
    return command, {**env, "PEER_KIND": "portalocker" if portalocker else "bare"}


def ours() -> Start:
    command, env = program("python_lock")
    return command, {**env, "PEER_KIND": OURS}


class Turn(NamedTuple):
    """One program: how to start it, its path of the lock file, how often it enters (0: until all
    others are done), and how long it pauses between two entries."""

    start: Start
    path: Path
    entries: int
    pause_ms: int


class Log(NamedTuple):
    """The log of one process about its entries: see tests/support/peers/section.py."""

    kind: str
    entries: list[tuple[int, int, str]]
    seen: list[str]
    longest: float
    gave_up: int


class Overlap(NamedTuple):
    """Two entries that were inside at the same time: their kinds, and why each was not regular."""

    kinds: tuple[str, str]
    how: tuple[str, str]


def started(
    turn: Turn, directory: Path
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """A peer program that is ready; it is ended with the block."""
    command, environment = turn.start
    told = [str(turn.path), str(directory), str(turn.entries), str(turn.pause_ms)]
    return saying("ready", [*command, *told], environment, cwd=ROOT)


def _finish(process: subprocess.Popen[str], patience: float) -> Log:
    output, _ = process.communicate(timeout=patience)
    assert process.returncode == 0
    log: dict[str, Any] = json.loads(output)
    return Log(**log)


def run_together(turns: Sequence[Turn], directory: Path, patience: float = GENEROUS) -> list[Log]:
    """Starts all programs at the same moment.  The directory is for their marks."""
    (directory / "inside").mkdir()
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(started(turn, directory)) for turn in turns]
        for process in running:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        counting = [p for p, turn in zip(running, turns, strict=True) if turn.entries]
        try:
            logs = {process: _finish(process, patience) for process in counting}
        finally:
            (directory / "stop").touch()
        logs |= {process: _finish(process, patience) for process in running if process not in logs}
    return [logs[process] for process in running]


def overlaps(logs: list[Log]) -> list[Overlap]:
    """All pairs of entries that were inside at the same time."""
    entries = sorted((start, end, how, log.kind) for log in logs for start, end, how in log.entries)
    found, inside = [], list[tuple[int, int, str, str]]()
    for entry in entries:
        inside = [other for other in inside if other[1] > entry[0]]
        found += [Overlap((other[3], entry[3]), (other[2], entry[2])) for other in inside]
        inside.append(entry)
    return found


def report(logs: list[Log], found: list[Overlap]) -> None:
    for kind, group in itertools.groupby(logs, lambda log: log.kind):
        members = list(group)
        entries = [how for log in members for _, _, how in log.entries]
        print(
            f"{kind}: {len(entries)} entries, not regular {dict(Counter(filter(None, entries)))},"
            f" {sum(log.gave_up for log in members)} time-outs,"
            f" longest wait {max(log.longest for log in members):.2f} s"
        )
    print("overlaps:", dict(Counter(found)) or "none")
