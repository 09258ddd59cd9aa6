"""The lock, measured beside its peers; speed is reported here, never asserted.

    python3 dev.py bench lock

How measurements become benchmarks is told in replay.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.benchmarks import lock_calls, lock_measure
from tests.benchmarks.harness import Library, Progress, Row
from tests.benchmarks.lock_measure import RECOVERY_CAP_S, Sizes
from tests.benchmarks.lock_peers import FLOOR, compile_floor, libraries
from tests.benchmarks.replay import CLOCK, quick, replay
from tests.benchmarks.replay import directory_fixture as directory_fixture
from tests.benchmarks.replay import progress_fixture as progress_fixture

#: Only what pytest needs to know before anything is installed.
KEYS = ("ours", "1.3.1-portalocker", "1.3.1-bare", "filelock", "portalocker", "fasteners", "flock")
WITHOUT_REFERENCE = tuple(key for key in KEYS if not key.startswith("1.3.1"))


@pytest.fixture(scope="session")
def sizes() -> Sizes:
    return lock_measure.QUICK if quick() else lock_measure.FULL


@pytest.fixture(scope="session")
def peers() -> list[Library]:
    return libraries()


@pytest.fixture(scope="session")
def floor(directory: Path) -> Path:
    return compile_floor(directory)


@pytest.fixture(scope="session")
def uncontended(
    peers: list[Library],
    floor: Path,
    directory: Path,
    sizes: Sizes,
    progress: Progress,
) -> dict[str, Row]:
    rows = lock_measure.uncontended(peers, floor, directory, sizes, progress)
    rows[FLOOR]["calls"] = lock_calls.of_floor(floor, directory)
    rows["ours"]["calls"] = lock_calls.of_ours(directory)
    return rows


@pytest.fixture(scope="session")
def contended(
    peers: list[Library], directory: Path, sizes: Sizes, progress: Progress
) -> dict[str, Row]:
    return lock_measure.contended(peers, directory, sizes, progress)


@pytest.fixture(scope="session")
def crowd(
    peers: list[Library], directory: Path, sizes: Sizes, progress: Progress
) -> dict[str, Row]:
    return lock_measure.crowd(peers, directory, sizes, progress)


@pytest.fixture(scope="session")
def killed(
    peers: list[Library], directory: Path, sizes: Sizes, progress: Progress
) -> dict[str, Row]:
    return lock_measure.killed(peers, directory, sizes, progress)


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
    replay(benchmark, killed[key], never=RECOVERY_CAP_S)
