"""Measurements as benchmarks: what the two files of benchmarks share.

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

from tests.benchmarks.harness import Progress, Row

#: The plugin of report.py that the steps are told.
PROGRESS_PLUGIN = "benchmark-progress"


class Clock:
    """Shows what the samples took."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


CLOCK = Clock()


def quick() -> bool:
    return bool(os.environ.get("MSALEX_BENCH_QUICK"))


@pytest.fixture(scope="session", name="directory")
def directory_fixture() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("MSALEX_BENCH_DIR")) as name:
        yield Path(name)


@pytest.fixture(scope="session", name="progress")
def progress_fixture(pytestconfig: pytest.Config) -> Progress:
    """report.py's progress bar, when it is there."""
    plugin = pytestconfig.pluginmanager.get_plugin(PROGRESS_PLUGIN)
    return plugin.step if plugin is not None else lambda what: None


def replay(benchmark: BenchmarkFixture, row: Row, never: float = 0) -> None:
    benchmark.extra_info.update(row)
    # A library that never came to an end appears all the same, with the time it was given.
    samples = iter(row["samples"] or [never])
    pedantic: Callable[..., None] = benchmark.pedantic  # which has no types
    pedantic(lambda: CLOCK.advance(next(samples)), rounds=max(1, len(row["samples"])))
