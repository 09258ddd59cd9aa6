"""The four measurements of the lock benchmark.  Each returns one row for each library.

A row is a plain dict that fits into JSON: "library", "label", "version", lists with one value for
each round, and "samples", the seconds that pytest-benchmark makes its statistics of.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.harness import (
    Library,
    Progress,
    Row,
    interleave,
    median,
    new_row,
    percentile,
)
from tests.benchmarks.lock_harness import Crowd, Floor, LockWorker, Run
from tests.benchmarks.lock_peers import FLOCK, FLOOR, OURS

#: Seconds within which a library must get over a killed holder; 1.3.1 needs 5, or never does.
RECOVERY_CAP_S = 7
#: Seconds for which a waiter has been waiting when the holder is killed.
ASLEEP_S = 0.15


class Sizes(NamedTuple):
    """How much is measured."""

    uncontended_rounds: int = 31
    cycles: int = 400
    contended_rounds: int = 5
    contended_peer_rounds: int = 2
    contended_entries: int = 75
    contended_seconds: float = 12  # after which a run is stopped, done or not
    crowd: int = 64
    crowd_runs: int = 5
    crowd_entries: int = 100
    crowd_seconds: float = 60
    crowd_peer_seconds: float = 10
    kills: int = 10
    peer_kills: int = 4
    stalling_kills: int = 1

    def steps(self, libraries: Sequence[Library]) -> int:
        """How often all measurements together report progress."""
        return (
            self.uncontended_rounds
            + len(interleave(contended_rounds(self, libraries)))
            + len(interleave(crowd_rounds(self, libraries)))
            + 2 * len(interleave(kill_rounds(self, libraries)))
        )


FULL = Sizes()
QUICK = Sizes(
    uncontended_rounds=7,
    cycles=200,
    contended_rounds=1,
    contended_peer_rounds=1,
    contended_entries=20,
    contended_seconds=3,
    crowd=16,
    crowd_runs=1,
    crowd_entries=20,
    crowd_peer_seconds=3,
    kills=2,
    peer_kills=1,
)
#: For a test: does it run at all?
SMOKE = QUICK._replace(
    uncontended_rounds=2, cycles=20, contended_entries=5, crowd=4, crowd_entries=5, kills=1
)


def _split(sizes: Sequence[int], libraries: Sequence[Library]) -> dict[Library, int]:
    """Rounds for the two that a promise compares, for the peers, and for those that stall."""
    main, peers, stalling = sizes
    return {
        it: main if it in (OURS, FLOCK) else stalling if it.stalls else peers for it in libraries
    }


def contended_rounds(sizes: Sizes, libraries: Sequence[Library]) -> dict[Library, int]:
    peers = sizes.contended_peer_rounds
    return _split((sizes.contended_rounds, peers, peers), libraries)


def crowd_rounds(sizes: Sizes, libraries: Sequence[Library]) -> dict[Library, int]:
    """1.3.1 is left out: it gives up after 5 s."""
    return _split((sizes.crowd_runs, 1, 0), libraries)


def kill_rounds(sizes: Sizes, libraries: Sequence[Library]) -> dict[Library, int]:
    return _split((sizes.kills, sizes.peer_kills, sizes.stalling_kills), libraries)


def uncontended(
    libraries: Sequence[Library], floor: Path, directory: Path, sizes: Sizes, progress: Progress
) -> dict[str, Row]:
    """Acquire and release with nobody else there: seconds for each, by round."""
    with contextlib.ExitStack() as stack:
        program = stack.enter_context(Floor(floor, directory / f"{FLOOR}.lockfile"))
        workers: dict[str, Floor | LockWorker] = {FLOOR: program}
        rows = {FLOOR: new_row(Library(FLOOR, "C floor"), {"version": ""})}
        for library in libraries:
            worker = LockWorker(library, directory / f"{library.key}.lockfile")
            workers[library.key] = stack.enter_context(worker)
            rows[library.key] = new_row(library, worker.about())
        for worker_or_floor in workers.values():
            worker_or_floor.cycles(max(1, sizes.cycles // 10))
        for number in range(sizes.uncontended_rounds):
            progress(f"nobody else there, round {number + 1}")
            for key, it in workers.items():
                rows[key]["samples"].append(it.cycles(sizes.cycles))
    return rows


def _add_run(row: Row, run: Run) -> None:
    for name, value in (
        ("held", run.held),
        ("handover_p50", median(run.handovers)),
        ("handover_p99", percentile(run.handovers, 0.99)),
        ("fairness", run.fairness),
        ("served", run.served),
        ("entries", run.entries),
        ("overlaps", run.overlaps),
        ("errors", run.errors),
        ("wait_mean", sum(run.waits) / max(1, len(run.waits))),
        ("wait_p99", percentile(run.waits, 0.99)),
        ("duration", run.duration),
    ):
        row.setdefault(name, []).append(value)


def contended(
    libraries: Sequence[Library], directory: Path, sizes: Sizes, progress: Progress
) -> dict[str, Row]:
    """8 processes, 5 ms hold, no pause: the samples are the hand-overs."""
    rows: dict[str, Row] = {}
    with contextlib.ExitStack() as stack:
        crowds: dict[Library, Crowd] = {}
        for library in interleave(contended_rounds(sizes, libraries)):
            progress(f"8 processes: {library.label}")
            if library not in crowds:
                crowds[library] = stack.enter_context(Crowd(library, 8, directory))
                rows[library.key] = new_row(library, crowds[library].workers[0].about())
                rows[library.key]["wanted"] = 8 * sizes.contended_entries
            run = crowds[library].contend(
                hold=0.005, count=sizes.contended_entries, seconds=sizes.contended_seconds
            )
            _add_run(rows[library.key], run)
            rows[library.key]["samples"] += run.handovers
    return rows


def crowd(
    libraries: Sequence[Library], directory: Path, sizes: Sizes, progress: Progress
) -> dict[str, Row]:
    """64 processes x 100 entries, 2 ms hold: the samples are each run's p99 wait."""
    rows: dict[str, Row] = {}
    with contextlib.ExitStack() as stack:
        crowds: dict[Library, Crowd] = {}
        for library in interleave(crowd_rounds(sizes, libraries)):
            progress(f"{sizes.crowd} processes: {library.label}")
            if library not in crowds:
                crowds[library] = stack.enter_context(Crowd(library, sizes.crowd, directory))
                rows[library.key] = new_row(library, crowds[library].workers[0].about())
                rows[library.key]["processes"] = sizes.crowd
                rows[library.key]["wanted"] = sizes.crowd * sizes.crowd_entries
            it = crowds[library]
            compared = library in (OURS, FLOCK)
            run = it.contend(
                hold=0.002,
                count=sizes.crowd_entries,
                seconds=sizes.crowd_seconds if compared else sizes.crowd_peer_seconds,
            )
            _add_run(rows[library.key], run)
            rows[library.key]["samples"].append(percentile(run.waits, 0.99))
    return rows


def _kill(library: Library, second: LockWorker, holder: LockWorker, newcomer: bool) -> float | None:
    """Seconds from the kill until the other process is in; None when it gives up."""
    holder.order("hold")
    holder.result()
    if not newcomer:
        second.order("once")
        time.sleep(ASLEEP_S)
    killed = time.monotonic_ns()
    holder.kill()
    if newcomer:
        second.order("once")
    answer = second.result(RECOVERY_CAP_S)
    return None if answer["acquired"] is None else (answer["acquired"] - killed) / 1e9


def killed(
    libraries: Sequence[Library], directory: Path, sizes: Sizes, progress: Progress
) -> dict[str, Row]:
    """The holder gets SIGKILL: who waits, or comes at that moment, is in after how long?"""
    rows: dict[str, Row] = {}
    for number, library in enumerate(interleave(kill_rounds(sizes, libraries))):
        for who in ("waiter", "newcomer"):
            progress(f"holder killed, {who}: {library.label}")
            path = directory / f"killed-{number}-{who}.lockfile"  # 1.3.1 cannot use one again
            with LockWorker(library, path) as holder, LockWorker(library, path) as second:
                row = rows.setdefault(library.key, new_row(library, second.about()))
                taken = _kill(library, second, holder, newcomer=who == "newcomer")
            row.setdefault(who, []).append(taken)
            row["samples"] += [] if taken is None else [taken]
    return rows
