"""A thread may change the cache while it saves: both changes are saved.

The inner change comes from a signal handler, a finalizer or a persistence that uses the cache.
When the outer call has returned, all changes are on disk.  P9 of a review of the cache: the inner
call returned, and its change was lost for good.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import msal
import pytest

import msal_extensions
from msal_extensions import FilePersistence, LockError, PersistedTokenCache, PersistenceError
from tests.support import tally
from tests.support.capability import requires
from tests.support.meanwhile import before_saves, full, overtaken
from tests.support.places import Place, place_of
from tests.support.tokens import ACCESS_TOKEN, REFRESH_TOKEN, secrets_of, sign_in

#: If it is set: a change at each byte code, and not only at each line.
EACH_BYTE_CODE = "MSALEX_INTERRUPTS" in os.environ
#: The number of signals at random moments; the full number is 2000.
SIGNALS = int(os.environ.get("MSALEX_SIGNALS", "100"))
#: How often a commit repeats for changes that come while it saves.
ROUNDS = 10

PACKAGE = os.path.dirname(msal_extensions.__file__) + os.sep
MSAL = os.path.join(os.path.dirname(msal.__file__), "token_cache.py")


@pytest.fixture(params=["file", "own", "sealed", "dictionary"], name="place")
def place_fixture(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request.param, tmp_path, request)


@pytest.fixture
def cache(place: Place) -> PersistedTokenCache:
    return place.cache()


def entry(user: str) -> dict[str, Any]:
    return {"home_account_id": user, "environment": "e", "client_id": "c"}


def put(cache: PersistedTokenCache, user: str, secret: str = "secret") -> None:
    cache.modify(REFRESH_TOKEN, entry(user), {"secret": secret})


def users(cache: PersistedTokenCache) -> set[str]:
    return {each["home_account_id"] for each in cache.search(REFRESH_TOKEN)}


# ---- a persistence that uses the cache -----------------------------------------------------


def test_a_persistence_that_adds_in_its_save_loses_nothing(tmp_path: Path) -> None:
    """The simplest case of P9."""
    nested: list[int] = []

    class Adding(FilePersistence):
        def save(self, content: str) -> None:
            if not nested:
                nested.append(1)
                mine.add(sign_in(2))
            super().save(content)

    mine = PersistedTokenCache(Adding(tmp_path / "cache"))
    mine.add(sign_in(1))
    assert nested
    for each in (PersistedTokenCache(FilePersistence(tmp_path / "cache")), mine):
        assert secrets_of(each) == {"access1", "access2"}
        assert secrets_of(each, REFRESH_TOKEN) == {"refresh1", "refresh2"}


@pytest.mark.parametrize("depth", [1, 2, ROUNDS - 2])
def test_a_save_that_changes_the_cache_some_times_loses_nothing(
    place: Place, cache: PersistedTokenCache, depth: int
) -> None:
    """The changes add, remove and change again; the last one counts."""
    put(cache, "removed")
    put(cache, "changed", "old")
    left = list(range(depth))

    def change() -> None:
        if left:
            number = left.pop()
            put(cache, f"nested{number}")
            put(cache, "changed", f"new{number}")
            cache.modify(REFRESH_TOKEN, entry("removed"))

    with before_saves(place, change):
        put(cache, "outer")
    expected = {"changed", "outer", *(f"nested{number}" for number in range(depth))}
    for each in (place.cache(), cache):
        assert users(each) == expected
        assert "new0" in secrets_of(each, REFRESH_TOKEN)


def test_a_save_that_changes_the_cache_each_time_ends_in_an_error_and_the_change_waits(
    place: Place, cache: PersistedTokenCache
) -> None:
    saves: list[int] = []

    def change() -> None:
        saves.append(1)
        put(cache, f"nested{len(saves)}")

    with before_saves(place, change), pytest.raises(LockError):
        put(cache, "outer")
    assert len(saves) == ROUNDS
    put(cache, "next")
    nested = {f"nested{number}" for number in range(1, ROUNDS + 1)}
    for each in (place.cache(), cache):
        assert users(each) == {"outer", "next", *nested}


def test_a_nested_change_that_changes_nothing_costs_no_round(
    place: Place, cache: PersistedTokenCache
) -> None:
    saves: list[int] = []

    def change() -> None:
        saves.append(1)
        put(cache, "same")

    put(cache, "same")
    with before_saves(place, change):
        put(cache, "outer")
    assert users(place.cache()) == {"same", "outer"}
    assert len(saves) == 1


def test_a_change_in_the_save_of_a_transaction_is_part_of_it(
    place: Place, cache: PersistedTokenCache
) -> None:
    left = [1]

    def change() -> None:
        if left:
            left.clear()
            with cache.transaction():
                put(cache, "nested")

    with before_saves(place, change), cache.transaction():
        put(cache, "outer")
    assert users(place.cache()) == users(cache) == {"nested", "outer"}


# ---- another object over the same content --------------------------------------------------


def test_two_caches_over_one_content_may_be_nested_in_one_thread(
    place: Place, cache: PersistedTokenCache
) -> None:
    other = place.cache()
    put(cache, "before")
    with cache.transaction():
        put(cache, "first")
        put(other, "of the other")
        put(cache, "second")
        other.add(sign_in(1))
        with other.transaction():
            put(other, "third")
            put(cache, "fourth")
    expected = {"before", "first", "of the other", "second", "third", "fourth", "user1.tenant"}
    for each in (place.cache(), cache, other):
        assert users(each) == expected
        assert secrets_of(each, ACCESS_TOKEN) == {"access1"}


def test_another_cache_that_changes_while_this_one_saves_loses_nothing(
    place: Place, cache: PersistedTokenCache
) -> None:
    """The other cache may be refused, but its change must not be overwritten: the lock does not
    keep out its own thread."""
    other, left = place.cache(), [1, 2, 3]
    refused: list[int] = []

    def change() -> None:
        if left:
            number = left.pop()
            try:
                put(other, f"of the other {number}")
            except LockError:
                refused.append(number)

    with before_saves(place, change):
        put(cache, "outer")
    done = {f"of the other {number}" for number in (1, 2, 3) if number not in {*left, *refused}}
    assert {"outer", *done} <= users(place.cache())
    put(other, "next")
    for each in (place.cache(), cache, other):
        assert {"outer", "next", *done} <= users(each)


# ---- at each line --------------------------------------------------------------------------

Spot = tuple[CodeType, int]


class Meddler:
    """Calls ``change`` when ``work`` reaches a spot for the first time, as a signal handler or a
    finalizer would."""

    def __init__(self, work: Callable[[], object], change: Callable[[], object] | None) -> None:
        self._work, self._change = work, change
        self._at: Spot | None = None
        self.spots: dict[Spot, None] = {}  # the spots that it reached
        self.failed: list[BaseException] = []

    def run(self, at: Spot | None = None) -> bool:
        """False when it did not reach the spot."""
        self._at = at
        before = sys.gettrace()
        try:
            sys.settrace(self._enter)
            self._work()
        finally:
            sys.settrace(before)
        return self._at is None

    def _enter(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        name = frame.f_code.co_filename
        if not name.startswith(PACKAGE) and name != MSAL:
            return None
        frame.f_trace_opcodes = EACH_BYTE_CODE
        return self._step

    def _step(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
        if event == ("opcode" if EACH_BYTE_CODE else "line"):
            spot = frame.f_code, frame.f_lasti if EACH_BYTE_CODE else frame.f_lineno
            self.spots[spot] = None
            if spot == self._at and self._change is not None:
                self._at = None
                try:
                    self._change()
                except BaseException as error:
                    self.failed.append(error)
        return self._step


def spots_of(work: Callable[[], object]) -> list[Spot]:
    trial = Meddler(work, None)
    trial.run()
    return list(trial.spots)


def adds(place: Place, cache: PersistedTokenCache) -> None:
    cache.add(sign_in(2))


def adds_by_another_object(place: Place, cache: PersistedTokenCache) -> None:
    place.cache().add(sign_in(2))


def signs_out(place: Place, cache: PersistedTokenCache) -> None:
    cache.modify(
        REFRESH_TOKEN,
        {
            "home_account_id": "user3.tenant",
            "environment": "login.example.com",
            "client_id": "client",
            "target": "scope",
        },
    )


def reloads(place: Place, cache: PersistedTokenCache) -> None:
    cache._last_sync = 0  # programs do this to force a reload
    list(cache.search(REFRESH_TOKEN))


class Scene(NamedTuple):
    """An add() of user 1, and the other users that are stored after it."""

    name: str
    prepare: Callable[[Place], PersistedTokenCache]
    act: Callable[[Place, PersistedTokenCache], None]
    users: frozenset[int]


def adds_user_1(place: Place, cache: PersistedTokenCache) -> None:
    cache.add(sign_in(1))


def with_user_3(place: Place) -> PersistedTokenCache:
    place.cache().add(sign_in(3))
    cache = place.cache()
    list(cache.search(REFRESH_TOKEN))
    return cache


def with_user_5_waiting(place: Place) -> PersistedTokenCache:
    cache = with_user_3(place)
    with full(place), pytest.raises(PersistenceError):
        cache.add(sign_in(5))
    return cache


def adds_user_1_overtaken_by_user_4(place: Place, cache: PersistedTokenCache) -> None:
    other = place.cache()
    with overtaken(place, lambda: other.add(sign_in(4))):
        cache.add(sign_in(1))


FIRST = Scene("first save", lambda place: place.cache(), adds_user_1, frozenset())
LATER = Scene("later save", with_user_3, adds_user_1, frozenset({3}))
REPEATED = Scene(
    "repeated save", with_user_5_waiting, adds_user_1_overtaken_by_user_4, frozenset({3, 4, 5})
)
NESTED: list[tuple[str, Scene, Callable[[Place, PersistedTokenCache], None]]] = [
    ("file", FIRST, adds),
    ("file", LATER, adds),
    ("file", LATER, adds_by_another_object),
    ("file", LATER, signs_out),
    ("file", LATER, reloads),
    ("file", REPEATED, adds),
    ("file", REPEATED, signs_out),
    ("own", FIRST, adds),
    ("own", LATER, adds_by_another_object),
    ("dictionary", LATER, adds),
    ("dictionary", LATER, adds_by_another_object),
]
if not hasattr(os, "fork"):  # the same Python code; but on this system each save takes long
    NESTED = NESTED[1:2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "scene", "nested"),
    NESTED,
    ids=lambda each: each if isinstance(each, str) else getattr(each, "name", "") or each.__name__,
)
def test_a_change_at_each_line_of_an_add_is_on_disk_when_that_has_returned(
    kind: str,
    scene: Scene,
    nested: Callable[[Place, PersistedTokenCache], None],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Or the change was refused, as in a thread that waits for the lock; then nothing was
    changed."""

    def places() -> Iterator[Place]:
        for number in itertools.count():
            directory = tmp_path / str(number)
            directory.mkdir()
            yield place_of(kind, directory, request)

    new = places()
    spots: list[Spot] = []
    for _ in range(2):  # the first run does what is done only once
        place = next(new)
        cache = scene.prepare(place)
        spots = spots_of(functools.partial(scene.act, place, cache))
    lost: dict[str, str] = {}
    refused = reached = 0
    for spot in spots:
        place = next(new)
        cache = scene.prepare(place)
        meddler = Meddler(
            functools.partial(scene.act, place, cache), functools.partial(nested, place, cache)
        )
        where = f"{Path(spot[0].co_filename).name}, {spot[0].co_name}, {spot[1]}"
        try:
            came = meddler.run(spot)
        except Exception as error:
            lost[where] = f"the outer one raised {error!r}"
            continue
        reached += came
        for failure in meddler.failed:
            if isinstance(failure, LockError):
                refused += 1
            else:
                lost[where] = f"the inner one raised {failure!r}"
        there = {1, *scene.users}
        if came and not meddler.failed:
            there -= {3} if nested is signs_out else set()
            there |= {2} if nested in (adds, adds_by_another_object) else set()
        expected = {f"refresh{number}" for number in there}
        for what, found in (("stored", place.cache()), ("in memory", cache)):
            if secrets_of(found, REFRESH_TOKEN) != expected:
                lost[where] = f"{what} is {secrets_of(found, REFRESH_TOKEN)}"
    unit = "byte codes" if EACH_BYTE_CODE else "lines"
    print(
        f"{kind}, {scene.name}, {nested.__name__}: {len(spots)} {unit} of an add() changed at each:"
        f" {len(lost)} lost, {refused} refused"
    )
    tally.tried(reached)
    tally.lost(len(lost))
    assert lost == {}
    assert reached > len(spots) * 0.9
    assert refused < len(spots) / 2


# ---- real signals --------------------------------------------------------------------------


@requires("signal.setitimer")
def test_changes_by_a_signal_handler_at_random_moments_are_on_disk_when_the_add_has_returned(
    place: Place, cache: PersistedTokenCache
) -> None:
    import random
    import signal

    done: list[str] = []
    refused = 0
    chance = random.Random(12)

    def handle(*_: object) -> None:
        nonlocal refused
        name = f"handler{len(done) + refused}"
        try:
            put(cache, name)
        except LockError:  # the thread was waiting for the lock
            refused += 1
        else:
            done.append(name)

    before = signal.signal(signal.SIGALRM, handle)
    number = 0
    try:
        while len(done) < SIGNALS and number < 100 * SIGNALS:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 2e-3))
            put(cache, f"outer{number % 10}", str(number))
            signal.setitimer(signal.ITIMER_REAL, 0)
            missing = set(done) - users(place.cache())
            assert not missing, f"{missing}, after {number} calls"
            assert str(number) in secrets_of(place.cache(), REFRESH_TOKEN)
            number += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    print(f"{len(done)} changes by a handler in {number} calls: 0 lost, {refused} refused")
    tally.tried(len(done))
    assert len(done) >= SIGNALS


@requires("signal.SIGUSR1", "signal.raise_signal")
def test_a_handler_that_runs_in_the_save_is_on_disk_when_the_add_has_returned(
    place: Place, cache: PersistedTokenCache
) -> None:
    import signal

    left = [2, 3]

    def handle(*_: object) -> None:
        cache.add(sign_in(left.pop()))

    def interrupted() -> None:
        if left:
            signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with before_saves(place, interrupted):
            cache.add(sign_in(1))
    finally:
        signal.signal(signal.SIGUSR1, before)
    for each in (place.cache(), cache):
        assert secrets_of(each) == {"access1", "access2", "access3"}
