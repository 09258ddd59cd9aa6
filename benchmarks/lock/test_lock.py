"""Locking throughput: how fast is one acquire and release when nobody else wants the lock?

    python3 dev.py test benchmarks/lock      pytest-benchmark's table; OPS is the throughput

pytest-benchmark measures in this process, so 1.3.1 is measured where it is the msal_extensions
that is installed: `python3 dev.py bench lock` runs this file in such environments, too, and
measures by measure.py what needs many processes.  Speed is reported, never asserted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.libraries import OURS, imported
from benchmarks.lock import peers
from benchmarks.lock.measure import SIZES
from benchmarks.lock.worker import load

KEYS = [OURS, *peers.PINNED, peers.FLOCK.key] if imported() == OURS else [imported()]


@pytest.mark.benchmark(group="uncontended")
@pytest.mark.parametrize("key", KEYS)
def test_locking_throughput_with_nobody_else_there(
    benchmark: Any, scale: str, directory: Path, key: str
) -> None:
    if key in peers.PINNED:
        peers.make_importable(key)
    lock, version = load(key)
    path, sizes = str(directory / f"{key}.lockfile"), SIZES[scale]

    def cycle() -> None:
        with lock(path):
            pass

    benchmark.extra_info.update(library=key, version=version)
    benchmark.pedantic(cycle, rounds=sizes.rounds, iterations=sizes.cycles, warmup_rounds=1)
