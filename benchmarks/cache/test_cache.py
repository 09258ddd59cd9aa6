"""How long a sign-in and a search take in one process.

    python3 dev.py test benchmarks/cache     pytest-benchmark's table

pytest-benchmark measures in this process, so 1.3.1 is measured where it is the msal_extensions
that is installed: `python3 dev.py bench cache` runs this file in such environments, too, and
measures by measure.py what needs many processes.  Speed is reported, never asserted.
"""

from __future__ import annotations

import functools
import importlib.metadata
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cache import contents
from benchmarks.cache.measure import (
    FLOOR,
    MEMORY,
    SEARCHED,
    SIZES,
    TOKENS,
    Sizes,
    sign_in_at,
    users,
)
from benchmarks.libraries import BARE, OURS, imported

PACKAGE = imported()
MAKE = {FLOOR.key: contents.Floor, MEMORY.key: contents.Memory, PACKAGE: contents.package}
#: 1.3.1 searches alike with either of its locks.
SEARCHERS = {OURS: [MEMORY.key, OURS], BARE: []}.get(PACKAGE, [PACKAGE])


@pytest.fixture
def sizes(scale: str) -> Sizes:
    return SIZES[scale]


def opened(key: str, directory: Path, tokens: int) -> tuple[Any, dict[str, Any]]:
    """A cache with a file of its own, and what its row says of it."""
    path, text = directory / f"{key}-{tokens}.bin", contents.content(users(tokens))
    path.write_text(text)
    version = importlib.metadata.version("msal-extensions") if key == PACKAGE else ""
    return MAKE[key](str(path)), {"library": key, "version": version, "bytes": len(text)}


@functools.cache
def searched(key: str, directory: Path) -> tuple[Any, dict[str, Any]]:
    """The cache of both searches; nobody changes its file."""
    found = opened(key, directory, SEARCHED)
    if key != MEMORY.key:
        time.sleep(2.1)  # a stamp proves nothing while the file is younger than that
    return found


@pytest.mark.parametrize("key", [FLOOR.key, OURS] if PACKAGE == OURS else [PACKAGE])
@pytest.mark.parametrize(
    "tokens", [pytest.param(it, marks=pytest.mark.benchmark(group=sign_in_at(it))) for it in TOKENS]
)
def test_one_sign_in(benchmark: Any, sizes: Sizes, directory: Path, tokens: int, key: str) -> None:
    """Known users sign in again, so the cache keeps its size."""
    much = dict(zip(TOKENS, sizes.sign_ins, strict=False)).get(tokens)
    if much is None:
        pytest.skip("a run as short as this leaves this size out")
    cache, about = opened(key, directory, tokens)
    again = itertools.cycle(range(users(tokens)))
    benchmark.extra_info.update(about)
    benchmark.pedantic(
        cache.add,
        setup=lambda: ((contents.sign_in(next(again)),), {}),
        rounds=much.ours if PACKAGE == OURS else much.reference,
        warmup_rounds=1,
    )


USER = contents.query(users(SEARCHED) // 2)
#: With all parts of the key MSAL takes the first entry that it finds; else it looks at all of them.
SEARCHES: dict[str, tuple[Callable[[Iterator[Any]], object], str, dict[str, Any]]] = {
    "hit": (
        next,
        contents.ACCESS_TOKEN,
        {"target": [contents.SCOPES[0]], "query": {**USER, "realm": contents.TENANT}},
    ),
    "scan": (list, contents.REFRESH_TOKEN, {"query": USER}),
}


@pytest.mark.parametrize("key", SEARCHERS)
@pytest.mark.parametrize(
    "what", [pytest.param(it, marks=pytest.mark.benchmark(group=it)) for it in SEARCHES]
)
def test_one_search(benchmark: Any, sizes: Sizes, directory: Path, what: str, key: str) -> None:
    cache, about = searched(key, directory)
    consume, kind, wanted = SEARCHES[what]
    benchmark.extra_info.update(about)
    benchmark.pedantic(
        lambda: consume(cache.search(kind, **wanted)),
        rounds=sizes.search_rounds,
        iterations=sizes.searches if what == "hit" else sizes.scans,
        warmup_rounds=1,
    )
