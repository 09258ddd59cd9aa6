"""What the benchmarks share when pytest runs them: `python3 dev.py test benchmarks`."""

from __future__ import annotations

import gc
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--sizes",
        choices=("full", "quick", "smoke"),
        default="full",
        help="how much the benchmarks of the lock and the cache measure",
    )


@pytest.fixture(scope="session")
def scale(pytestconfig: pytest.Config) -> str:
    """Names one of the SIZES of measure.py."""
    return str(pytestconfig.getoption("--sizes"))


@pytest.fixture(scope="session")
def directory() -> Iterator[Path]:
    """Where the files are that are locked and written."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("MSALEX_BENCH_DIR")) as name:
        yield Path(name)


@pytest.fixture(scope="session", autouse=True)
def quiet() -> Iterator[None]:
    """As without pytest: no log records, and the garbage collector skips the objects of pytest."""
    logging.disable()  # 1.3.1 warns whenever it goes in without a lock
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    logging.disable(logging.NOTSET)
