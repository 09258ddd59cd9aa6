"""The measurements of the cache benchmark.  Each returns one row for each library.

A row is a plain dict that fits into JSON: "library", "label", "version", and "samples", the seconds
that pytest-benchmark makes its statistics of.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks import cache_worker
from tests.benchmarks.harness import (
    PATIENCE_S,
    START_S,
    Library,
    Progress,
    Row,
    Worker,
    interleave,
    new_row,
    percentile,
)
from tests.support.reference import reference_site_packages

WORKER = Path(__file__).with_name("cache_worker.py")

OURS = Library("ours", "this package")
FLOOR = Library("floor", "the bytes, written once")
MEMORY = Library("memory", "MSAL in memory + stat")
#: Tokens in the cache when somebody signs in.
TOKENS = (10, 100, 1_000, 10_000)
#: Tokens in the cache that is searched.
SEARCHED = 1_000
#: Tokens in the cache that a crowd changes.
CROWDED = 100


class SignIns(NamedTuple):
    """How often, at one size."""

    rounds: int
    each: int
    reference_rounds: int


class Sizes(NamedTuple):
    """How much is measured."""

    sign_ins: tuple[SignIns, ...] = (
        SignIns(31, 10, 31),
        SignIns(21, 10, 21),
        SignIns(11, 4, 7),
        SignIns(7, 1, 3),
    )
    search_rounds: int = 31
    searches: int = 300
    scans: int = 30
    processes: int = 32
    changes: int = 20
    runs: int = 5
    reference_runs: int = 2
    seconds: float = 60  # after which nobody begins another change

    def steps(self, references: Sequence[Library]) -> int:
        """How often all measurements together report progress."""
        return (
            sum(max(it.rounds, it.reference_rounds) for it in self.sign_ins)
            + 2 * self.search_rounds
            + self.runs
            + len(references) * self.reference_runs
        )


FULL = Sizes()
QUICK = Sizes(
    sign_ins=(SignIns(7, 5, 7), SignIns(7, 5, 7), SignIns(3, 2, 2), SignIns(1, 1, 1)),
    search_rounds=7,
    searches=100,
    scans=10,
    runs=1,
    reference_runs=1,
    seconds=10,
)
#: For a test: does it run at all?
SMOKE = QUICK._replace(
    sign_ins=(SignIns(2, 2, 2), SignIns(1, 1, 1)), search_rounds=2, processes=4, changes=3
)


def references() -> list[Library]:
    """1.3.1 with either of its locks; installs what is not there yet."""
    return [
        Library("1.3.1-portalocker", "1.3.1 with portalocker", reference_site_packages(True)),
        Library("1.3.1-bare", "1.3.1 without it", reference_site_packages(False)),
    ]


def users(tokens: int) -> int:
    return max(1, tokens // cache_worker.TOKENS_OF_A_USER)


class Workers:
    """A process of each library, with a copy of the same cache each."""

    def __init__(self, libraries: Sequence[Library], directory: Path, tokens: int) -> None:
        self.users = users(tokens)
        self._text = cache_worker.content(self.users)
        self._libraries, self._directory, self._tokens = libraries, directory, tokens
        self._stack = contextlib.ExitStack()
        self._workers: dict[str, Worker] = {}

    def __enter__(self) -> Workers:
        with contextlib.ExitStack() as stack:
            for library in self._libraries:
                path = self._directory / f"{library.key}-{self._tokens}.bin"
                path.write_text(self._text)
                worker = Worker(WORKER, library, path)
                self._workers[library.key] = stack.enter_context(worker)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *ignored: object) -> None:
        self._stack.close()

    @property
    def size(self) -> int:
        return len(self._text)

    def rows(self) -> dict[str, Row]:
        return {it.key: new_row(it, self._workers[it.key].about()) for it in self._libraries}

    def ask(self, key: str, do: str, count: int) -> Any:
        self._workers[key].order(do, count=count, users=self.users)
        return self._workers[key].result()


def sign_ins(
    libraries: Sequence[Library], directory: Path, tokens: int, much: SignIns, progress: Progress
) -> dict[str, Row]:
    """Seconds of one add(), by sign-in."""
    with Workers([FLOOR, OURS, *libraries], directory, tokens) as workers:
        rows = workers.rows()
        for key in rows:
            rows[key]["bytes"] = workers.size
            workers.ask(key, "sign_in", 1)
        for number in range(max(much.rounds, much.reference_rounds)):
            progress(f"sign-in at {tokens:,} tokens, round {number + 1}")
            for key, row in rows.items():
                rounds = much.reference_rounds if key.startswith("1.3.1") else much.rounds
                if number < rounds:
                    taken = workers.ask(key, "sign_in", much.each)
                    row["samples"] += [nanoseconds / 1e9 for nanoseconds in taken]
    return rows


def searches(
    libraries: Sequence[Library], directory: Path, what: str, sizes: Sizes, progress: Progress
) -> dict[str, Row]:
    """Seconds of one search for what is there, by round; the file does not change."""
    count = sizes.searches if what == "hit" else sizes.scans
    with Workers([MEMORY, OURS, *libraries[:1]], directory, SEARCHED) as workers:
        rows = workers.rows()
        time.sleep(2.1)  # the files become older than what a stamp may be trusted after
        for key in rows:
            workers.ask(key, what, count)
        for number in range(sizes.search_rounds):
            progress(f"search ({what}), round {number + 1}")
            for key, row in rows.items():
                row["samples"].append(workers.ask(key, what, count) / count / 1e9)
    return rows


def crowd_rounds(sizes: Sizes, libraries: Sequence[Library]) -> list[Library]:
    return interleave({OURS: sizes.runs, **dict.fromkeys(libraries, sizes.reference_runs)})


def _crowd(library: Library, path: Path, sizes: Sizes) -> tuple[dict[str, str], list[Any]]:
    """What each process of one library said after they all had changed one cache."""
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
    for number, library in enumerate(crowd_rounds(sizes, libraries)):
        progress(f"{sizes.processes} processes: {library.label}")
        path = directory / f"crowd-{number}.bin"
        path.write_text(cache_worker.content(users(CROWDED)))
        about, results = _crowd(library, path, sizes)
        row = rows.setdefault(library.key, new_row(library, about))
        taken = [nanoseconds / 1e9 for result in results for nanoseconds in result["taken"]]
        stored = {account for result in results for account in result["stored"]}
        try:
            kept = json.loads(path.read_text())[cache_worker.REFRESH_TOKEN].values()
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
