"""The token cache, measured beside 1.3.1; speed is reported here, never asserted.

    python3 dev.py bench cache

How measurements become benchmarks is told in replay.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.benchmarks import cache_measure
from tests.benchmarks.cache_measure import TOKENS, Sizes
from tests.benchmarks.cache_report import at_size
from tests.benchmarks.harness import Library, Progress, Row
from tests.benchmarks.replay import CLOCK, quick, replay
from tests.benchmarks.replay import directory_fixture as directory_fixture
from tests.benchmarks.replay import progress_fixture as progress_fixture

#: Only what pytest needs to know before anything is installed.
PORTALOCKER, BARE = "1.3.1-portalocker", "1.3.1-bare"
Rows = dict[str, Row]


@pytest.fixture(scope="session")
def sizes() -> Sizes:
    return cache_measure.QUICK if quick() else cache_measure.FULL


@pytest.fixture(scope="session")
def references() -> list[Library]:
    return cache_measure.references()


@pytest.fixture(scope="session")
def sign_ins(
    references: list[Library], directory: Path, sizes: Sizes, progress: Progress
) -> dict[int, Rows]:
    return {
        tokens: cache_measure.sign_ins(references, directory, tokens, much, progress)
        for tokens, much in zip(TOKENS, sizes.sign_ins, strict=True)
    }


@pytest.fixture(scope="session")
def hits(references: list[Library], directory: Path, sizes: Sizes, progress: Progress) -> Rows:
    return cache_measure.searches(references, directory, "hit", sizes, progress)


@pytest.fixture(scope="session")
def scans(references: list[Library], directory: Path, sizes: Sizes, progress: Progress) -> Rows:
    return cache_measure.searches(references, directory, "scan", sizes, progress)


@pytest.fixture(scope="session")
def crowd(references: list[Library], directory: Path, sizes: Sizes, progress: Progress) -> Rows:
    return cache_measure.crowd(references, directory, sizes, progress)


def sign_in_benchmark(tokens: int) -> pytest.MarkDecorator:
    return pytest.mark.benchmark(timer=CLOCK, group=at_size(tokens))


@pytest.mark.parametrize("key", ["floor", "ours", PORTALOCKER, BARE])
@pytest.mark.parametrize("tokens", [pytest.param(it, marks=sign_in_benchmark(it)) for it in TOKENS])
def test_one_sign_in(
    benchmark: BenchmarkFixture, sign_ins: dict[int, Rows], tokens: int, key: str
) -> None:
    replay(benchmark, sign_ins[tokens][key])


@pytest.mark.benchmark(timer=CLOCK, group="hit")
@pytest.mark.parametrize("key", ["memory", "ours", PORTALOCKER])
def test_a_search_that_finds_by_key(benchmark: BenchmarkFixture, hits: Rows, key: str) -> None:
    replay(benchmark, hits[key])


@pytest.mark.benchmark(timer=CLOCK, group="scan")
@pytest.mark.parametrize("key", ["memory", "ours", PORTALOCKER])
def test_a_search_that_looks_at_all(benchmark: BenchmarkFixture, scans: Rows, key: str) -> None:
    replay(benchmark, scans[key])


@pytest.mark.benchmark(timer=CLOCK, group="crowd")
@pytest.mark.parametrize("key", ["ours", PORTALOCKER, BARE])
def test_one_change_among_32_processes(benchmark: BenchmarkFixture, crowd: Rows, key: str) -> None:
    replay(benchmark, crowd[key])
