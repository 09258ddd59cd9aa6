"""The four measurements of the lock benchmark.  Each returns one row for each library (rows.py).

pytest-benchmark measures what needs one process: test_lock.py.  Workers measure contention, waits
and recovery, and note one value for each round.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.figures import median, percentile
from benchmarks.libraries import FLOOR, OURS, THIS, Library
from benchmarks.lock import calls
from benchmarks.lock.harness import WORKER, Crowd, Floor, Run
from benchmarks.lock.peers import FLOCK, compile_floor, libraries
from benchmarks.rows import Progress, Results, Row, add_pass, new_row, packages
from benchmarks.workers import Worker, interleave

#: The C program's row; it takes no part in what needs many processes.
C_FLOOR = Library(FLOOR, "C floor")

#: Seconds within which a library must get over a killed holder; 1.3.1 needs 5, or never does.
RECOVERY_CAP_S = 7
#: Seconds that a waiter has waited when the holder is killed.
ASLEEP_S = 0.15


class Sizes(NamedTuple):
    """How much is measured."""

    passes: int = 5  # of pytest, in which the libraries take turns
    rounds: int = 7  # of a pass
    cycles: int = 400  # of a round
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
            self.passes * (1 + len(packages(libraries)))
            + len(interleave(contended_rounds(self, libraries)))
            + len(interleave(crowd_rounds(self, libraries)))
            + 2 * len(interleave(kill_rounds(self, libraries)))
        )


FULL = Sizes()
QUICK = Sizes(
    passes=2,
    rounds=4,
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
    passes=1, rounds=2, cycles=20, contended_entries=5, crowd=4, crowd_entries=5, kills=1
)
SIZES = {"full": FULL, "quick": QUICK, "smoke": SMOKE}


def _split(sizes: Sequence[int], libraries: Sequence[Library]) -> dict[Library, int]:
    """Rounds for the two that the aims compare, for the other peers, and for those that stall."""
    main, peers, stalling = sizes
    return {
        it: main if it in (THIS, FLOCK) else stalling if it.stalls else peers for it in libraries
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
    libraries: Sequence[Library], floor: Path, directory: Path, scale: str, progress: Progress
) -> dict[str, Row]:
    """Acquire and release with nobody else there: seconds for each, by round."""
    sizes, results = SIZES[scale], Results()
    row = new_row(C_FLOOR, {"version": ""})
    with Floor(floor, directory / f"{FLOOR}.lockfile") as program:
        program.cycles(sizes.cycles)  # to warm up
        for number in range(1, sizes.passes + 1):
            progress(f"nobody else there, pass {number}: {C_FLOOR.label}")
            row["samples"] += [program.cycles(sizes.cycles) for _ in range(sizes.rounds)]
            for package in packages(libraries):
                progress(f"nobody else there, pass {number}: {package.label}")
                add_pass(results, Path(__file__).parent, package, libraries, scale)
    rows = {FLOOR: row} | {it.key: results["uncontended"][it.key] for it in libraries}
    rows[FLOOR]["calls"] = calls.of_floor(floor, directory)
    rows[OURS]["calls"] = calls.of_ours(directory)
    return rows


def _add_run(row: Row, run: Run) -> None:
    for name, value in (
        ("held", run.held),
        ("handover_p50", median(run.handovers)),
        ("handover_p99", percentile(run.handovers, 0.99)),
        ("fairness", run.fairness),
        ("entries", run.entries),
        ("overlaps", run.overlaps),
        ("errors", run.errors),
        ("wait_mean", sum(run.waits) / max(1, len(run.waits))),
        ("wait_p99", percentile(run.waits, 0.99)),
    ):
        row.setdefault(name, []).append(value)


def _crowds(
    rounds: dict[Library, int], size: int, entries: int, directory: Path, progress: Progress
) -> Iterator[tuple[Library, Crowd, Row]]:
    """The crowds in turn, each with its row; a crowd is started when it is first needed."""
    with contextlib.ExitStack() as stack:
        started: dict[Library, tuple[Crowd, Row]] = {}
        for library in interleave(rounds):
            progress(f"{size} processes: {library.label}")
            if library not in started:
                crowd = stack.enter_context(Crowd(library, size, directory))
                row = new_row(library, crowd.workers[0].about())
                row.update(processes=size, wanted=size * entries)
                started[library] = crowd, row
            yield library, *started[library]


def contended(
    libraries: Sequence[Library], directory: Path, sizes: Sizes, progress: Progress
) -> dict[str, Row]:
    """8 processes, 5 ms hold, no pause: the samples are the hand-overs."""
    rows, entries = dict[str, Row](), sizes.contended_entries
    rounds = contended_rounds(sizes, libraries)
    for library, crowd, row in _crowds(rounds, 8, entries, directory, progress):
        run = crowd.contend(hold=0.005, count=entries, seconds=sizes.contended_seconds)
        _add_run(row, run)
        row["samples"] += run.handovers
        rows[library.key] = row
    return rows


def crowd(
    libraries: Sequence[Library], directory: Path, sizes: Sizes, progress: Progress
) -> dict[str, Row]:
    """64 processes x 100 entries, 2 ms hold: the samples are the p99 wait of each run."""
    rows, entries = dict[str, Row](), sizes.crowd_entries
    rounds = crowd_rounds(sizes, libraries)
    for library, crowd, row in _crowds(rounds, sizes.crowd, entries, directory, progress):
        compared = library in (THIS, FLOCK)
        seconds = sizes.crowd_seconds if compared else sizes.crowd_peer_seconds
        run = crowd.contend(hold=0.002, count=entries, seconds=seconds)
        _add_run(row, run)
        row["samples"].append(percentile(run.waits, 0.99))
        rows[library.key] = row
    return rows


def _kill(library: Library, second: Worker, holder: Worker, newcomer: bool) -> float | None:
    """Seconds from the kill until the other process is inside; None when it gives up."""
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
    """The holder gets SIGKILL: after how long is a waiter, or a newcomer at that moment, inside?"""
    rows: dict[str, Row] = {}
    for number, library in enumerate(interleave(kill_rounds(sizes, libraries))):
        for role in ("waiter", "newcomer"):
            progress(f"holder killed, {role}: {library.label}")
            path = directory / f"killed-{number}-{role}.lockfile"  # 1.3.1 cannot use one again
            with (
                Worker(WORKER, library, path) as holder,
                Worker(WORKER, library, path) as second,
            ):
                row = rows.setdefault(library.key, new_row(library, second.about()))
                taken = _kill(library, second, holder, newcomer=role == "newcomer")
            row.setdefault(role, []).append(taken)
            row["samples"] += [] if taken is None else [taken]
    return rows


def steps(quick: bool) -> int:
    """How often measure() reports progress."""
    return (QUICK if quick else FULL).steps(libraries())


def measure(directory: Path, quick: bool, progress: Progress) -> Results:
    scale = "quick" if quick else "full"
    sizes, every = SIZES[scale], libraries()
    return {
        "uncontended": uncontended(every, compile_floor(directory), directory, scale, progress),
        "contended": contended(every, directory, sizes, progress),
        "crowd": crowd(every, directory, sizes, progress),
        "killed": killed(every, directory, sizes, progress),
    }
