"""The parent's side of the lock benchmark: worker processes, and what their times mean.

with Crowd(OURS, 8, directory) as crowd:
    run = crowd.contend(hold=0.005, count=75, seconds=3)
run.held, run.handovers, run.fairness, run.overlaps ...
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.libraries import Library
from benchmarks.workers import PATIENCE_S, START_S, Child, Worker

WORKER = "benchmarks.lock.worker"


class Floor(Child):
    """The C program of floor.c."""

    def __init__(self, program: Path, path: Path) -> None:
        super().__init__([str(program), str(path)])

    def cycles(self, count: int) -> float:
        """Seconds for each."""
        self.tell(str(count))
        return int(self.answer()) / count / 1e9


class Run(NamedTuple):
    """What a crowd did, in seconds."""

    held: float  # share of the time, from the first entry to the end, that a process was inside
    handovers: list[float]  # from a release to the entry of another process that waited
    waits: list[float]
    entries: int
    served: list[int]  # by worker, until the first of them had all its turns
    overlaps: int
    errors: dict[str, int]

    @property
    def fairness(self) -> float:
        """How often the least served worker got in, divided by the same of the most served."""
        return min(self.served) / max(1, *self.served)


class Entry(NamedTuple):
    """One visit of a worker, in nanoseconds."""

    acquired: int  # first, to sort by
    released: int
    asked: int
    worker: int


def merge(results: Sequence[dict[str, Any]]) -> Run:
    """Puts the workers' times in order."""
    errors: dict[str, int] = {}
    for name, count in (pair for result in results for pair in result["errors"].items()):
        errors[name] = errors.get(name, 0) + count
    logs = [result["entries"] for result in results]
    entries = sorted(
        Entry(acquired, released, asked, worker)
        for worker, log in enumerate(logs)
        for asked, acquired, released in log
    )
    if not entries:
        return Run(0, [], [], 0, [0 for _ in logs], 0, errors)
    inside, overlaps, handovers, last = 0, 0, [], entries[0]
    for entry in entries:
        overlaps += entry.acquired < last.released and entry is not last
        if entry.worker != last.worker and entry.asked < last.released <= entry.acquired:
            handovers.append((entry.acquired - last.released) / 1e9)
        inside += max(0, entry.released - max(entry.acquired, last.released))
        last = max(last, entry, key=lambda it: it.released)
    inside += entries[0].released - entries[0].acquired
    begin, end = entries[0].acquired, last.released
    first_done = min(log[-1][2] for log in logs if len(log) == max(map(len, logs)))
    return Run(
        held=inside / max(1, end - begin),
        handovers=handovers,
        waits=[(entry.acquired - entry.asked) / 1e9 for entry in entries],
        entries=len(entries),
        served=[sum(1 for entry in log if entry[1] < first_done) for log in logs],
        overlaps=max(overlaps, sum(result["overlaps"] for result in results)),
        errors=errors,
    )


class Crowd:
    """Many workers on one path."""

    def __init__(self, library: Library, size: int, directory: Path) -> None:
        self._marker = directory / f"{library.key}-{size}.marker"
        self._marker.write_bytes(bytes(8))
        path = directory / f"{library.key}-{size}.lockfile"
        self.workers: list[Worker] = []
        try:
            for _ in range(size):
                self.workers.append(Worker(WORKER, library, path))
            for worker in self.workers:
                worker.about()
        except BaseException:
            self.close()
            raise

    def contend(self, *, hold: float, count: int, seconds: float) -> Run:
        """All workers ask at the same moment, for ``count`` entries each; after ``seconds`` none
        asks again, whether it is done or not."""
        self._marker.write_bytes(bytes(8))  # an overlap of 1.3.1 may have left a number in it
        start = time.monotonic_ns() + int(START_S * 1e9)
        for worker in self.workers:
            worker.order(
                "contend",
                marker=str(self._marker),
                start=start,
                stop=start + int(seconds * 1e9),
                count=count,
                hold=hold,
            )
        return merge([worker.result(seconds + PATIENCE_S) for worker in self.workers])

    def close(self) -> None:
        for worker in self.workers:
            worker.close()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
