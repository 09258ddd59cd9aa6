"""The lock, measured beside its peers; speed is reported here, never asserted.

    python3 dev.py bench

Each measurement is made once, all libraries in turn so that a noisy moment hits all of them.  Then
each library's samples, taken in its own processes, are played to pytest-benchmark by a clock that
shows their times.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.benchmarks import lock_calls, lock_measure
from tests.benchmarks.lock_measure import Row, Sizes
from tests.benchmarks.lock_peers import FLOOR, Library, compile_floor, libraries

#: Only what pytest needs to know before anything is installed.
KEYS = ("ours", "1.3.1-portalocker", "1.3.1-bare", "filelock", "portalocker", "fasteners", "flock")
WITHOUT_REFERENCE = tuple(key for key in KEYS if not key.startswith("1.3.1"))


class Clock:
    """Shows what the samples took."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


CLOCK = Clock()


@pytest.fixture(scope="session")
def sizes() -> Sizes:
    return lock_measure.QUICK if os.environ.get("MSALEX_BENCH_QUICK") else lock_measure.FULL


@pytest.fixture(scope="session")
def peers() -> list[Library]:
    return libraries()


@pytest.fixture(scope="session")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("MSALEX_BENCH_DIR")) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def progress(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """report.py's progress bar, when it is there."""
    plugin = pytestconfig.pluginmanager.get_plugin("lock-benchmark-progress")
    return plugin.step if plugin is not None else lambda what: None


@pytest.fixture(scope="session")
def floor(directory: Path) -> Path:
    return compile_floor(directory)


@pytest.fixture(scope="session")
def uncontended(
    peers: list[Library],
    floor: Path,
    directory: Path,
    sizes: Sizes,
    progress: Callable[[str], None],
) -> dict[str, Row]:
    rows = lock_measure.uncontended(peers, floor, directory, sizes, progress)
    rows[FLOOR]["calls"] = lock_calls.of_floor(floor, directory)
    rows["ours"]["calls"] = lock_calls.of_ours(directory)
    return rows


@pytest.fixture(scope="session")
def contended(
    peers: list[Library], directory: Path, sizes: Sizes, progress: Callable[[str], None]
) -> dict[str, Row]:
    return lock_measure.contended(peers, directory, sizes, progress)


@pytest.fixture(scope="session")
def crowd(
    peers: list[Library], directory: Path, sizes: Sizes, progress: Callable[[str], None]
) -> dict[str, Row]:
    return lock_measure.crowd(peers, directory, sizes, progress)


@pytest.fixture(scope="session")
def killed(
    peers: list[Library], directory: Path, sizes: Sizes, progress: Callable[[str], None]
) -> dict[str, Row]:
    return lock_measure.killed(peers, directory, sizes, progress)


def replay(benchmark: BenchmarkFixture, row: Row) -> None:
    benchmark.extra_info.update(row)
    # A library that never got in appears all the same, with the time it was given.
    samples = iter(row["samples"] or [lock_measure.RECOVERY_CAP_S])
    pedantic: Callable[..., None] = benchmark.pedantic  # which has no types
    pedantic(lambda: CLOCK.advance(next(samples)), rounds=max(1, len(row["samples"])))


@pytest.mark.benchmark(timer=CLOCK, group="uncontended")
@pytest.mark.parametrize("key", [FLOOR, *KEYS])
def test_acquire_and_release_with_nobody_else_there(
    benchmark: BenchmarkFixture, uncontended: dict[str, Row], key: str
) -> None:
    replay(benchmark, uncontended[key])


@pytest.mark.benchmark(timer=CLOCK, group="contended")
@pytest.mark.parametrize("key", KEYS)
def test_hand_over_among_8_processes_that_hold_for_5_ms(
    benchmark: BenchmarkFixture, contended: dict[str, Row], key: str
) -> None:
    replay(benchmark, contended[key])


@pytest.mark.benchmark(timer=CLOCK, group="crowd")
@pytest.mark.parametrize("key", WITHOUT_REFERENCE)
def test_p99_wait_among_64_processes_that_hold_for_2_ms(
    benchmark: BenchmarkFixture, crowd: dict[str, Row], key: str
) -> None:
    replay(benchmark, crowd[key])


@pytest.mark.benchmark(timer=CLOCK, group="killed")
@pytest.mark.parametrize("key", KEYS)
def test_time_until_somebody_is_in_after_the_holder_was_killed(
    benchmark: BenchmarkFixture, killed: dict[str, Row], key: str
) -> None:
    replay(benchmark, killed[key])
