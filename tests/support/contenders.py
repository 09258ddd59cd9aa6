"""Crowds of processes on one lock file: ours, 1.3.1, Node, pollers; see contender.py.

    with Crowd(directory) as crowd:
        crowd.start(OURS, 6)
        crowd.start(BARE, 4)
        crowd.go(seconds=20)
        account = crowd.finish()

Between go() and finish() a test may start(), stop(), resume() and kill() processes.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support import journal
from tests.support.journal import Span, Visit
from tests.support.node import node_peer
from tests.support.reference import reference_python

ROOT = Path(__file__).resolve().parents[2]
START_S = 0.2  # between go() and the first try, so that all begin at the same moment
READY_S = 120  # until all are ready, on a busy machine
PATIENCE_S = 90  # for one process to end after its time is over

Range = tuple[float, float]


class Contender(NamedTuple):
    """The work of one process.  A pair of seconds stands for a random number between the two, each
    time."""

    kind: str  #: "ours", "bare", "portalocker", "node", "poller"
    hold: Range = (0.01, 0.01)
    think: Range = (0, 0)
    patience: Range = (60, 60)  #: 1.3.1 always has 5 s
    threads: int = 1
    forks: float = 0  #: the share of its visits in which it forks


OURS = Contender("ours")
#: Peers that only check whether the file exists.
BARE = Contender("bare", think=(0, 1))
POLLER = Contender("poller", think=(0, 1), patience=(12, 12))
NODE = Contender("node", think=(0, 1), patience=(50, 50))
#: A peer that enters by force after 5 s.
PORTALOCKER = Contender("portalocker", think=(0, 1))
FORCE_S = 4.9


def command(kind: str) -> tuple[list[str], dict[str, str]]:
    """The command and the environment that start a contender of the kind."""
    if kind == "node":
        (node, program), env = node_peer()
        return [node, str(Path(program).with_name("contender.mjs"))], env
    python, env = [sys.executable], dict(os.environ)
    if kind in ("bare", "portalocker"):
        python, env = reference_python(portalocker=kind == "portalocker")
    return [*python, "-m", "tests.support.contender"], env


class Process:
    """A running contender."""

    def __init__(self, number: int, contender: Contender, directory: Path, path: Path) -> None:
        self.kind, self.killed = contender.kind, 0
        self.journal = directory / f"{number:05}-{contender.kind}.log"
        self.said = ""
        told = {**contender._asdict(), "path": str(path), "journal": str(self.journal)}
        program, env = command(contender.kind)
        self.process = subprocess.Popen(
            [*program, json.dumps({**told, "seed": number})],
            env=env,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def is_ready(self, seconds: float = READY_S) -> bool:
        assert self.process.stdout is not None
        if not self.said and select.select([self.process.stdout], [], [], seconds)[0]:
            self.said = self.process.stdout.readline()
            assert self.said == "ready\n", f"{self.kind} ended: {self.said}"
        return bool(self.said)

    def go(self, start: int, stop: int) -> None:
        assert self.is_ready()
        assert self.process.stdin is not None
        self.process.stdin.write(f"{start} {stop}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.killed = time.monotonic_ns()
        self.process.kill()
        self.process.wait()
        self._close_streams()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self._close_streams()

    def _close_streams(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


class Account(NamedTuple):
    """The result of a run."""

    visits: list[Visit]
    start: int
    stop: int
    errors: Counter[str]
    descriptors: int  #: left open by all processes together that ended by themselves
    threads: int
    files: list[str]  #: left in the lock's directory

    def of(self, *kinds: str) -> list[Visit]:
        """The visits of these kinds that ended before it was time to stop."""
        return [it for it in self.visits if it.kind in kinds and it.left <= self.stop]

    def held(self, *kinds: str) -> float:
        """The share of the time, from the first entry to the stop, when these kinds were inside."""
        spans = journal.inside(self.visits, *kinds)
        if not spans:
            return 0
        begin = spans[0].begin
        return sum(it.within(begin, self.stop) for it in spans) / ((self.stop - begin) / 1e9)

    def overlaps(self) -> list[journal.Overlap]:
        return journal.overlaps(self.visits)

    def refused(self, *kinds: str) -> int:
        """The number of waits that ended without an entry, also after it was time to stop."""
        return sum(it.gave_up for it in self.visits if it.kind in kinds)

    def refused_twice(self, *kinds: str) -> int:
        """How often two waits in a row of the same thread were refused."""
        found, before = 0, dict[str, bool]()
        for it in sorted(self.visits, key=lambda it: it.asked):
            if it.kind in kinds:
                found += it.gave_up and before.get(it.thread, False)
                before[it.thread] = it.gave_up
        return found

    def longest(self, *kinds: str) -> float:
        """The longest wait of these kinds, in seconds, whether it succeeded or not."""
        return max((it.waited for it in self.visits if it.kind in kinds), default=0)


class Crowd:
    """Contenders on ``directory/lock/lockfile``.  All have ended at the end of the block."""

    def __init__(self, directory: Path) -> None:
        self._journals = directory / "journals"
        self.path = directory / "lock" / "lockfile"
        self._journals.mkdir()
        self.path.parent.mkdir()
        self.processes: list[Process] = []
        self.stops: list[Span] = []
        self._errors: Counter[str] = Counter()
        self._descriptors = self._threads = 0
        self.start_ns = self.stop_ns = 0

    def start(self, contender: Contender, count: int = 1) -> list[Process]:
        """Starts more processes; they wait for go()."""
        new = [
            Process(len(self.processes) + number, contender, self._journals, self.path)
            for number in range(count)
        ]
        self.processes += new
        return new

    def go(self, seconds: float) -> None:
        """All begin at the same moment, when all are ready."""
        assert all(process.is_ready() for process in self.processes)
        self.start_ns = time.monotonic_ns() + int(START_S * 1e9)
        self.stop_ns = self.start_ns + int(seconds * 1e9)
        for process in self.processes:
            process.go(self.start_ns, self.stop_ns)

    def join(self, process: Process) -> None:
        """A process that was started later, and is ready, begins too."""
        process.go(self.start_ns, self.stop_ns)

    def left(self) -> float:
        """Seconds until it is time to stop."""
        return (self.stop_ns - time.monotonic_ns()) / 1e9

    def stop(self, process: Process) -> int:
        """Sends SIGSTOP; returns the time."""
        now = time.monotonic_ns()
        process.process.send_signal(signal.SIGSTOP)
        return now

    def resume(self, process: Process, since: int) -> None:
        process.process.send_signal(signal.SIGCONT)
        self.stops.append(Span(since, time.monotonic_ns()))

    def finish(self) -> Account:
        """Waits until all have ended; returns the result."""
        for process in self.processes:
            if process.killed:
                continue
            output, _ = process.process.communicate(timeout=max(0, self.left()) + PATIENCE_S)
            assert process.process.returncode == 0, process.kind
            said = json.loads(output)
            self._errors.update(said["errors"])
            if process.kind == "ours":
                self._descriptors += said["descriptors"]
                self._threads += said["threads"]
        return self.account()

    def account(self) -> Account:
        now = time.monotonic_ns()
        killed = {it.journal.stem: it.killed for it in self.processes if it.killed}
        visits = [
            visit
            for file in sorted(self._journals.glob("*.log"))
            for visit in journal.read(file, killed.get(file.stem, now))
        ]
        files = sorted(os.listdir(self.path.parent))
        left = self._descriptors, self._threads
        return Account(visits, self.start_ns, self.stop_ns, self._errors, *left, files)

    def close(self) -> None:
        for process in self.processes:
            process.close()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run(directory: Path, seconds: float, *members: tuple[Contender, int]) -> Account:
    """Runs a crowd, undisturbed."""
    with Crowd(directory) as crowd:
        for contender, count in members:
            crowd.start(contender, count)
        crowd.go(seconds)
        return crowd.finish()


def described(overlaps: Sequence[journal.Overlap]) -> list[str]:
    """The first few overlaps, for a message."""
    return [f"{it.first} and {it.second}" for it in overlaps[:5]]
