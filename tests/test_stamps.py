"""Stamps: an unchanged file is not read, and equal looks never hide a change for long.

No change is lost when two contents look the same for one tick.  On real file systems a coarse clock
or a reused inode number comes by chance, so these tests make them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msal
import pytest
from msal_extensions._msalex import ffi

from msal_extensions import FilePersistence, PersistedTokenCache, _freshness
from msal_extensions._native import files
from tests.support.inside import freshness_of
from tests.support.tokens import ACCESS_TOKEN, secrets_of, token


class Clock:
    """The monotonic clock, and the clock of a file system, which ticks."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 1000.0, tick

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def mtime_ns(self) -> int:
        return int(self.now // self.tick * self.tick * 1e9)


@pytest.fixture
def clock(request: pytest.FixtureRequest) -> Iterator[Clock]:
    """A file system with one inode number, and a clock with the tick that the test chooses."""
    clock = Clock(getattr(request, "param", 2.0))
    times: dict[str, int] = {}

    def stamp_of(real: files.Stamp, location: str) -> files.Stamp:
        fake = ffi.new("msalex_stamp *", {"device": 1, "inode": 7})
        fake.size = files.fields_of(real).size
        fake.mtime_ns = times.setdefault(location, clock.mtime_ns())
        return bytes(ffi.buffer(fake))

    stat, read, replace = files.stat, files.read, files.replace

    def file_stat(location: str) -> files.Stamp:
        return stamp_of(stat(location), location)

    def file_read(location: str) -> tuple[bytes, files.Stamp]:
        data, stamp = read(location)
        return data, stamp_of(stamp, location)

    def file_replace(location: str, data: bytes, guard: Any) -> files.Stamp:
        times.pop(location, None)
        return stamp_of(replace(location, data, guard), location)

    with (
        mock.patch.object(files, "stat", file_stat),
        mock.patch.object(files, "read", side_effect=file_read) as reads,
        mock.patch.object(files, "replace", file_replace),
        mock.patch.object(_freshness, "time", clock),
    ):
        clock.reads = reads  # type: ignore[attr-defined]
        yield clock


def reads(clock: Clock) -> int:
    count: int = clock.reads.call_count  # type: ignore[attr-defined]
    clock.reads.reset_mock()  # type: ignore[attr-defined]
    return count


def two_caches(tmp_path: Path) -> tuple[PersistedTokenCache, PersistedTokenCache]:
    """Two caches, as in two processes."""
    location = tmp_path / "cache.bin"
    return (
        PersistedTokenCache(FilePersistence(location)),
        PersistedTokenCache(FilePersistence(location)),
    )


@pytest.mark.parametrize("clock", [0.01, 2.0], indirect=True)
@pytest.mark.parametrize("pause", [0.0, 0.06, 2.5, 100.0])
def test_a_change_that_looks_the_same_is_not_overwritten(
    tmp_path: Path, clock: Clock, pause: float
) -> None:
    """At any later time: the tick of the save makes the two stamps equal."""
    ours, theirs = two_caches(tmp_path)
    ours.modify(ACCESS_TOKEN, token(1), token(1, "old"))
    before = freshness_of(ours).stamp
    theirs.modify(ACCESS_TOKEN, token(1), token(1, "new"))  # in the same tick, and of the same size
    assert freshness_of(theirs).stamp == before
    clock.now += pause
    ours.modify(ACCESS_TOKEN, token(2), token(2, "more"))
    assert secrets_of(ours) == {"new", "more"}
    assert secrets_of(PersistedTokenCache(FilePersistence(tmp_path / "cache.bin"))) == {
        "new",
        "more",
    }


@pytest.mark.parametrize("clock", [0.01, 2.0], indirect=True)
def test_a_reader_finds_a_change_that_looks_the_same_after_a_tick(
    tmp_path: Path, clock: Clock
) -> None:
    ours, theirs = two_caches(tmp_path)
    ours.modify(ACCESS_TOKEN, token(1), token(1, "old"))
    theirs.modify(ACCESS_TOKEN, token(1), token(1, "new"))
    clock.now += 0.06  # a kernel's tick; FAT's would take the second read
    assert secrets_of(ours) == {"new"}
    clock.now += 100
    assert secrets_of(ours) == {"new"}


def test_a_settled_file_is_not_read_for_a_search(tmp_path: Path, clock: Clock) -> None:
    cache, _ = two_caches(tmp_path)
    cache.modify(ACCESS_TOKEN, token(1), token(1))
    reads(clock)
    counts = []
    for later in (0.0, 0.06, 0.06, 2.1, 0.0, 5.0, 1000.0):
        clock.now += later
        assert secrets_of(cache) == {"secret"}
        counts.append(reads(clock))
    assert counts == [0, 1, 0, 1, 0, 0, 0]


def test_a_settled_file_is_not_read_for_a_transaction(tmp_path: Path, clock: Clock) -> None:
    cache, _ = two_caches(tmp_path)
    cache.modify(ACCESS_TOKEN, token(1), token(1))
    clock.now += 3
    reads(clock)
    with cache.transaction():
        assert reads(clock) == 1  # our own save, which may not have been the last one
    with cache.transaction():
        assert reads(clock) == 0
    assert freshness_of(cache).is_settled


def test_what_is_read_again_and_the_same_is_not_parsed_again(tmp_path: Path, clock: Clock) -> None:
    cache, _ = two_caches(tmp_path)
    cache.modify(ACCESS_TOKEN, token(1), token(1))
    with mock.patch.object(json, "loads", side_effect=AssertionError), cache.transaction():
        cache.modify(ACCESS_TOKEN, token(2), token(2))
    assert reads(clock) >= 1


def test_an_old_file_is_settled_after_a_tick_of_our_own_clock(tmp_path: Path, clock: Clock) -> None:
    """Its time may come from another machine's clock and be hours off, so only its stamp counts."""
    ours, theirs = two_caches(tmp_path)
    theirs.modify(ACCESS_TOKEN, token(1), token(1))
    clock.now -= 500
    assert secrets_of(ours) == {"secret"}
    assert not freshness_of(ours).is_settled
    clock.now += 2.1
    assert secrets_of(ours) == {"secret"}
    assert freshness_of(ours).is_settled


class SignalFile(FilePersistence):
    """Keeps its text elsewhere, and has a file whose time shows a change, like a keyring."""

    content = ""
    loads = 0

    def save(self, content: str) -> None:
        type(self).content = content
        self.touch()

    def load(self) -> str:
        type(self).loads += 1
        return type(self).content


def test_what_is_not_in_the_file_is_always_read_under_the_lock(tmp_path: Path) -> None:
    clock = Clock(2.0)
    with mock.patch.object(_freshness, "time", clock):
        cache = PersistedTokenCache(SignalFile(tmp_path / "signal"))
        cache.modify(ACCESS_TOKEN, token(1), token(1, "first"))
        for _ in range(4):
            clock.now += 100
            assert secrets_of(cache) == {"first"}
        assert freshness_of(cache).is_settled
        SignalFile.content = SignalFile.content.replace("first", "other")  # not signalled yet
        cache.modify(ACCESS_TOKEN, token(2), token(2, "second"))
    assert secrets_of(cache) == {"other", "second"}


@pytest.mark.parametrize("force", ["_last_sync", "time_last_modified"])
def test_forcing_a_reload_takes_what_is_stored_even_if_it_is_the_same(
    tmp_path: Path, force: str
) -> None:
    """Programs force a reload to undo what they did in memory."""
    cache, _ = two_caches(tmp_path)
    cache.modify(ACCESS_TOKEN, token(1), token(1, "stored"))
    cache._cache = {}
    if force == "_last_sync":
        cache._last_sync = 0
        assert secrets_of(cache) == {"stored"}
    else:
        with mock.patch.object(FilePersistence, force, return_value=math.inf):
            assert secrets_of(cache) == {"stored"}


@pytest.mark.parametrize("name", ["load", "save", "time_last_modified"])
def test_methods_that_are_patched_are_used(tmp_path: Path, name: str) -> None:
    for patched in (FilePersistence, FilePersistence(tmp_path / "cache.bin")):
        cache, _ = two_caches(tmp_path)
        cache.modify(ACCESS_TOKEN, token(1), token(1))
        persistence = cache._persistence if patched is FilePersistence else patched
        cache = PersistedTokenCache(persistence)  # type: ignore[arg-type]
        original: Any = getattr(persistence, name)
        with mock.patch.object(
            patched, name, side_effect=lambda *a, original=original: original(*a)
        ) as patch:
            if patched is FilePersistence:
                patch.side_effect = None
                patch.return_value = {"load": "{}", "save": None, "time_last_modified": 1.0}[name]
            cache.modify(ACCESS_TOKEN, token(2), token(2))
        assert patch.called


def test_a_programs_own_deserialize_is_used(tmp_path: Path) -> None:
    class Reversing(PersistedTokenCache):
        def serialize(self) -> str:
            return super().serialize()[::-1]

        def deserialize(self, state: str | None) -> None:
            super().deserialize(state[::-1] if state else state)

    persistence = FilePersistence(tmp_path / "cache.bin")
    Reversing(persistence).modify(ACCESS_TOKEN, token(1), token(1, "turned"))
    assert persistence.load().startswith("}")
    assert secrets_of(Reversing(persistence)) == {"turned"}


def test_what_a_program_deserializes_is_kept_while_the_file_is_unchanged(tmp_path: Path) -> None:
    """As in 1.3.1: the next change saves it."""
    cache, _ = two_caches(tmp_path)
    cache.modify(ACCESS_TOKEN, token(1), token(1, "one"))
    other = msal.SerializableTokenCache()
    other.modify(ACCESS_TOKEN, token(2), token(2, "two"))
    cache.deserialize(other.serialize())
    cache.modify(ACCESS_TOKEN, token(3), token(3, "three"))
    stored = PersistedTokenCache(FilePersistence(tmp_path / "cache.bin"))
    assert secrets_of(stored) == {"two", "three"}
