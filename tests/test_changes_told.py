"""changes() reports a state that comes back, and a change that the file's time hides.

P14, P15 and P16 number findings of a review of the cache; each test says what was found.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from msal_extensions import FilePersistence, PersistedTokenCache, PersistenceError
from msal_extensions.changes import CacheChanges
from msal_extensions.persistence import BasePersistence
from tests.support.own_persistences import Own
from tests.support.tokens import REFRESH_TOKEN, secrets_of

#: Seconds for a report that comes at once, or after 2 s where only another read can find the
#: change.
SOON = 20.0
#: Seconds without a report: longer than the library reads again because a stamp is not settled.
QUIET = 2.6


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "cache.bin"


def put(cache: PersistedTokenCache, secret: str) -> None:
    entry = {"home_account_id": secret, "environment": "e", "client_id": "c"}
    cache.modify(REFRESH_TOKEN, entry, {**entry, "secret": secret})


def told_once(changes: CacheChanges) -> bool:
    """There was a change; takes all other reports of it, too."""
    told = changes.wait(SOON)
    while changes.wait(0.03):
        pass
    return told


# ---- the same state again -------------------------------------------------------------------


@pytest.mark.parametrize("looks", [False, True], ids=["", "looks after its own saves"])
def test_each_deletion_is_told_although_the_one_before_was_told_too(
    location: Path, looks: bool
) -> None:
    """P14: the second deletion was not reported, after a save of one's own in between."""
    cache = PersistedTokenCache(FilePersistence(location))
    put(cache, "first")
    with cache.changes() as changes:
        for number in range(3):
            location.unlink()
            assert told_once(changes), f"deletion {number + 1}"
            put(cache, f"again {number}")
            if looks:
                assert not changes.wait(0.05)


@pytest.mark.parametrize("looks", [False, True], ids=["", "looks after its own saves"])
def test_a_store_that_fails_again_in_the_same_way_is_told_again(
    location: Path, looks: bool
) -> None:
    """P14: the second failure was not reported."""

    class Fragile(FilePersistence):
        broken = False

        def time_last_modified(self) -> float:
            if self.broken:
                raise PersistenceError(5, "broken")
            return super().time_last_modified()

    persistence = Fragile(location)
    cache = PersistedTokenCache(persistence)
    put(cache, "first")
    with cache.changes() as changes:
        for number in range(3):
            persistence.broken = True
            assert told_once(changes), f"failure {number + 1}"
            persistence.broken = False
            put(cache, f"again {number}")
            if looks:
                assert not changes.wait(0.05)


def test_a_content_that_comes_back_is_told_each_time(location: Path) -> None:
    """The same bytes with the same time of the file, as from a backup."""
    cache = PersistedTokenCache(FilePersistence(location))
    put(cache, "first")
    with cache.changes() as changes:
        for number in range(3):
            write_in_place(location, "backup", 10**18)
            assert told_once(changes), f"restored {number + 1} times"
            put(cache, f"again {number}")


# ---- two writes of one size in one tick -----------------------------------------------------


def write_in_place(location: Path, secret: str, time_ns: int) -> None:
    """Writes in place, as some programs do, with a clock that stands still."""
    entry = {"home_account_id": "a", "environment": "e", "client_id": "c", "secret": secret}
    location.write_text(json.dumps({REFRESH_TOKEN: {"key": entry}}))
    os.utime(location, ns=(time_ns, time_ns))


KINDS = [FilePersistence, Own]


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_of_two_writes_of_one_size_in_one_tick_is_told(
    location: Path, kind: Callable[[Path], BasePersistence]
) -> None:
    """P15: it was not, when the first write had been reported and the cache had been read."""
    write_in_place(location, "secret0", 10**18)
    cache = PersistedTokenCache(kind(location))
    assert secrets_of(cache, REFRESH_TOKEN) == {"secret0"}
    with cache.changes() as changes:
        for number in range(2):
            tick = 10**18 + (number + 1) * 10**9
            for secret in (f"first{number}", f"secon{number}", f"third{number}"):
                write_in_place(location, secret, tick)
                assert changes.wait(SOON), secret
                assert secrets_of(cache, REFRESH_TOKEN) == {secret}


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_in_the_tick_of_ones_own_save_is_told(
    location: Path, kind: Callable[[Path], BasePersistence]
) -> None:
    """P15: it was not reported."""
    cache = PersistedTokenCache(kind(location))
    with cache.changes() as changes:
        for number in range(3):
            secret = f"mine{number}"
            cache.modify(
                REFRESH_TOKEN,
                {"home_account_id": "a", "environment": "e", "client_id": "c"},
                {"secret": secret},
            )
            mine, time_ns = location.read_text(), location.stat().st_mtime_ns
            assert secret in mine
            location.write_text(mine.replace(secret, f"your{number}"))
            os.utime(location, ns=(time_ns, time_ns))
            assert changes.wait(SOON)
            assert secrets_of(cache, REFRESH_TOKEN) == {f"your{number}"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_only_read_again_is_no_change(
    location: Path, kind: Callable[[Path], BasePersistence]
) -> None:
    """A save of one's own, and a change by others that was reported."""
    cache, other = (PersistedTokenCache(kind(location)) for _ in range(2))
    with cache.changes() as changes:
        put(cache, "mine")
        assert not changes.wait(QUIET)
        put(other, "yours")
        assert told_once(changes)
        assert not changes.wait(QUIET)


def test_a_content_that_cannot_be_read_again_is_tried_once_in_a_second(location: Path) -> None:
    """And not at each look, of which there are many in a second."""
    cache = PersistedTokenCache(Own(location))
    put(cache, "mine")
    tries: list[float] = []

    def fails() -> bool:
        tries.append(time.monotonic())
        raise PersistenceError(5, "Input/output error", str(location))

    with cache.changes() as changes, mock.patch.object(changes, "_differs", fails):
        assert not changes.wait(QUIET)
    assert tries
    assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(tries))


# ---- one's own first save -------------------------------------------------------------------


@pytest.mark.parametrize("at", range(1, 5))
def test_ones_own_first_save_is_not_told_although_another_thread_found_nothing(
    location: Path, at: int
) -> None:
    """P16: it was.  A thread finds no file; before it can note that, another thread has saved the
    first one.

    The thread stops after its first question to the store, then after its second, and so on.
    """
    stands, go_on = threading.Event(), threading.Event()
    count = 0

    class Slow(FilePersistence):
        def asked(self) -> None:
            nonlocal count
            if threading.current_thread() is reader:
                count += 1
                if count == at:
                    stands.set()
                    assert go_on.wait(SOON)

        def load(self) -> str:
            try:
                return super().load()
            finally:
                self.asked()

        def time_last_modified(self) -> float:
            try:
                return super().time_last_modified()
            finally:
                self.asked()

    def read() -> None:
        secrets_of(cache, REFRESH_TOKEN)
        stands.set()

    cache = PersistedTokenCache(Slow(location))
    reader = threading.Thread(target=read)
    with cache.changes() as changes:
        reader.start()
        assert stands.wait(SOON)
        put(cache, "mine")
        go_on.set()
        reader.join()
        assert not changes.wait(0.3)
        assert secrets_of(cache, REFRESH_TOKEN) == {"mine"}
        put(PersistedTokenCache(FilePersistence(location)), "yours")
        assert changes.wait(SOON)
