"""The measurements of the cache benchmark.  Each returns one row for each library (rows.py).

pytest-benchmark measures what needs one process: test_cache.py.  Workers measure how many processes
change one cache.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cache import contents
from benchmarks.figures import percentile
from benchmarks.libraries import FLOOR as FLOOR_KEY
from benchmarks.libraries import THIS, Library, references
from benchmarks.rows import Progress, Results, Row, add_pass, new_row
from benchmarks.workers import PATIENCE_S, START_S, Worker, interleave

WORKER = "benchmarks.cache.worker"

FLOOR = Library(FLOOR_KEY, "the bytes, written once")
MEMORY = Library("memory", "MSAL in memory + stat")
#: Tokens in the cache when a user signs in.
TOKENS = (10, 100, 1_000, 10_000)
#: Tokens in the cache that is searched.
SEARCHED = 1_000
#: Tokens in the cache that a crowd changes.
CROWDED = 100


class SignIns(NamedTuple):
    """How often, at one size."""

    ours: int
    reference: int


class Sizes(NamedTuple):
    """How much is measured."""

    passes: int = 5  # of pytest, in which the libraries take turns
    sign_ins: tuple[SignIns, ...] = (  # of a pass
        SignIns(62, 62),
        SignIns(42, 42),
        SignIns(9, 6),
        SignIns(2, 1),
    )
    search_rounds: int = 7
    searches: int = 300
    scans: int = 30
    processes: int = 32
    changes: int = 20
    runs: int = 5
    reference_runs: int = 2
    seconds: float = 60  # after which no process begins another change

    def steps(self, references: Sequence[Library]) -> int:
        """How often all measurements together report progress."""
        return (
            self.passes * (1 + len(references)) + self.runs + len(references) * self.reference_runs
        )


FULL = Sizes()
QUICK = Sizes(
    passes=1,
    sign_ins=(SignIns(35, 35), SignIns(35, 35), SignIns(6, 4), SignIns(1, 1)),
    search_rounds=7,
    searches=100,
    scans=10,
    runs=1,
    reference_runs=1,
    seconds=10,
)
#: For a test: does it run at all?
SMOKE = QUICK._replace(
    sign_ins=(SignIns(4, 4), SignIns(1, 1)), search_rounds=2, processes=4, changes=3
)
SIZES = {"full": FULL, "quick": QUICK, "smoke": SMOKE}


def users(tokens: int) -> int:
    return max(1, tokens // contents.TOKENS_OF_A_USER)


def sign_in_at(tokens: int) -> str:
    """The name of a measurement."""
    return f"sign-in at {tokens:,} tokens"


def alone(references: Sequence[Library], scale: str, progress: Progress) -> Results:
    """What needs one process, by the name of the measurement: sign-ins and searches."""
    results, libraries = Results(), [FLOOR, MEMORY, THIS, *references]
    for number in range(1, SIZES[scale].passes + 1):
        for package in [THIS, *references]:
            progress(f"sign-ins and searches, pass {number}: {package.label}")
            add_pass(results, Path(__file__).parent, package, libraries, scale)
    return results


def _crowd(library: Library, path: Path, sizes: Sizes) -> tuple[dict[str, str], list[Any]]:
    """What each process of one library answered after all had changed one cache."""
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(WORKER, library, path)) for _ in range(sizes.processes)
        ]
        about = [worker.about() for worker in workers]
        start = time.monotonic_ns() + int(START_S * 1e9)
        stop = start + int(sizes.seconds * 1e9)
        for number, worker in enumerate(workers):
            worker.order("modify", name=f"{number}", start=start, stop=stop, count=sizes.changes)
        results = [worker.result(sizes.seconds + PATIENCE_S) for worker in workers]
    return about[0], results


def crowd(
    libraries: Sequence[Library], directory: Path, sizes: Sizes, progress: Progress
) -> dict[str, Row]:
    """Many processes change one cache at once: the samples are the seconds of each change."""
    rows: dict[str, Row] = {}
    rounds = {THIS: sizes.runs, **dict.fromkeys(libraries, sizes.reference_runs)}
    for number, library in enumerate(interleave(rounds)):
        progress(f"{sizes.processes} processes: {library.label}")
        path = directory / f"crowd-{number}.bin"
        path.write_text(contents.content(users(CROWDED)))
        about, results = _crowd(library, path, sizes)
        row = rows.setdefault(library.key, new_row(library, about))
        taken = [nanoseconds / 1e9 for result in results for nanoseconds in result["taken"]]
        stored = {account for result in results for account in result["stored"]}
        try:
            kept = json.loads(path.read_text())[contents.REFRESH_TOKEN].values()
        except ValueError:  # torn for good
            kept = []
        row["samples"] += taken
        row["processes"] = sizes.processes
        for key, value in (
            ("mean", sum(taken) / len(taken)),
            ("p99", percentile(taken, 0.99)),
            ("wanted", sizes.processes * sizes.changes),
            ("stored", len(stored)),
            ("errors", sum(sum(result["errors"].values()) for result in results)),
            ("lost", len(stored - {entry["home_account_id"] for entry in kept})),
        ):
            row.setdefault(key, []).append(value)
    return rows


def steps(quick: bool) -> int:
    """How often measure() reports progress."""
    return (QUICK if quick else FULL).steps(references())


def measure(directory: Path, quick: bool, progress: Progress) -> Results:
    scale, others = "quick" if quick else "full", references()
    results = alone(others, scale, progress)
    return {**results, "crowd": crowd(others, directory, SIZES[scale], progress)}
