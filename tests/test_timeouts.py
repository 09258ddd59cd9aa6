"""A timeout may be a number of any kind and size, wherever this package takes one.

0 tries once.  A negative timeout waits for ever, and so does one that no clock can count.  Anything
that is not a number is refused before any work is done.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from msal_extensions import (
    CrossPlatLock,
    FilePersistence,
    LibsecretPersistence,
    LockError,
    PersistedTokenCache,
    PersistenceError,
)
from msal_extensions.changes import CacheChanges
from msal_extensions.libsecret import LibSecretAgent
from tests.support.places import Place, place_of
from tests.support.processes import GENEROUS
from tests.support.tokens import REFRESH_TOKEN, token

#: Seconds for a step that must not wait: less than the default timeouts.
AT_ONCE = 4.0


def named(**values: Any) -> list[Any]:
    return [pytest.param(value, id=name) for name, value in values.items()]


#: Longer than any wait of these tests, or for ever.
LONG = named(
    inf=math.inf,
    e12=1e12,
    longer_than_threading_can=threading.TIMEOUT_MAX * 2,
    decimal=Decimal("1e12"),
    decimal_of_400_digits=Decimal(10) ** 400,
    fraction_of_400_digits=Fraction(10**400, 3),
    integer_of_400_digits=10**400,
    half_below_0=-0.5,
    just_below_0=-1e-9,
    inf_below_0=-math.inf,
    decimal_below_0=Decimal("-0.5"),
    integer_of_400_digits_below_0=-(10**400),
)
#: Shorter than any patience.
SHORT = named(
    zero=0,
    minus_zero=-0.0,
    decimal_zero=Decimal(0),
    fraction=Fraction(1, 50),
    smallest=5e-324,
)
#: Values that are no numbers, with their errors.
NONE = [
    pytest.param(math.nan, ValueError, id="nan"),
    pytest.param(Decimal("nan"), ValueError, id="decimal_nan"),
    pytest.param("5", TypeError, id="text"),
    pytest.param(b"5", TypeError, id="bytes"),
]


# ---- waits for another thread, or another object -------------------------------------------


@contextlib.contextmanager
def held(enter: Callable[[], AbstractContextManager[object]]) -> Iterator[threading.Event]:
    """Another thread is inside; it gives the lock back when the event is set, or at the end."""
    inside, over = threading.Event(), threading.Event()

    def hold() -> None:
        with enter():
            inside.set()
            over.wait(GENEROUS)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    try:
        assert inside.wait(GENEROUS)
        yield over
    finally:
        over.set()
        holder.join(GENEROUS)
        assert not holder.is_alive()


class Waits:
    """One kind of wait for a lock: a way to enter, and a way to hold the lock elsewhere."""

    def __init__(self, place: Place, name: str) -> None:
        self.place = place
        self.cache = place.cache()
        self.ways: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
            "transaction": (self.cache.transaction, place.cache().transaction),
            "transaction of one object": (self.cache.transaction, self.cache.transaction),
            "flight": (self.cache.single_flight, place.cache().single_flight),
            "flight of one object": (self.cache.single_flight, self.cache.single_flight),
        }
        self.enter, self._hold = self.ways[name]

    def held(self) -> AbstractContextManager[threading.Event]:
        return held(self._hold)


@pytest.fixture(params=["file", "dictionary"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request.param, tmp_path, request)


@pytest.fixture(
    params=["transaction", "transaction of one object", "flight", "flight of one object"]
)
def waits(request: pytest.FixtureRequest, place: Place) -> Waits:
    return Waits(place, request.param)


@pytest.mark.parametrize("timeout", LONG)
def test_a_long_one_enters_what_is_free_and_waits_for_what_is_held(
    waits: Waits, timeout: Any
) -> None:
    with waits.enter(timeout=timeout), waits.enter(timeout=timeout):
        pass
    with waits.held() as over:
        threading.Timer(0.01, over.set).start()
        with waits.enter(timeout=timeout):
            assert over.is_set()
    with waits.enter(timeout):  # also as a positional argument
        pass


@pytest.mark.parametrize("timeout", SHORT)
def test_a_short_one_enters_what_is_free_and_gives_up_what_is_held(
    waits: Waits, timeout: Any
) -> None:
    if timeout != 5e-324:  # this one may be over before the wait begins
        with waits.enter(timeout=timeout):
            pass
    with waits.held():
        begin = time.monotonic()
        with pytest.raises(LockError), waits.enter(timeout=timeout):
            pass
        assert time.monotonic() - begin < AT_ONCE
    with waits.enter(timeout=0):  # no lock is left
        pass


@pytest.mark.parametrize(("timeout", "error"), NONE)
def test_what_is_no_number_is_refused_at_once(
    waits: Waits, timeout: Any, error: type[Exception]
) -> None:
    for _ in range(2):
        with pytest.raises(error, match="timeout"), waits.enter(timeout=timeout):
            pytest.fail("it entered")
    with waits.held():
        begin = time.monotonic()
        with pytest.raises(error, match="timeout"), waits.enter(timeout=timeout):
            pass
        assert time.monotonic() - begin < AT_ONCE
    with waits.enter(timeout=0):
        pass


@pytest.mark.parametrize("timeout", LONG)
def test_a_change_inside_a_long_transaction_is_stored(place: Place, timeout: Any) -> None:
    with place.cache().transaction(timeout) as cache:
        cache.modify(REFRESH_TOKEN, token(1), token(1, "stored"))
    assert [entry["secret"] for entry in place.cache().search(REFRESH_TOKEN)] == ["stored"]


# ---- CrossPlatLock ---------------------------------------------------------------------------


def lock_held(path: Path) -> AbstractContextManager[threading.Event]:
    return held(lambda: CrossPlatLock(path))


def by_constructor(path: Path, timeout: Any) -> AbstractContextManager[Any]:
    return CrossPlatLock(path, timeout)


@contextlib.contextmanager
def by_acquire(path: Path, timeout: Any) -> Iterator[CrossPlatLock]:
    lock = CrossPlatLock(path, 0).acquire(timeout)
    try:
        yield lock
    finally:
        lock.release()


WAYS = [by_constructor, by_acquire]


@pytest.mark.parametrize("timeout", LONG)
@pytest.mark.parametrize("enter", WAYS)
def test_a_lock_waits_as_long_as_a_long_one_says(
    tmp_path: Path, enter: Callable[..., Any], timeout: Any
) -> None:
    path = tmp_path / "lockfile"
    with enter(path, timeout):
        pass
    with lock_held(path) as over:
        threading.Timer(0.01, over.set).start()
        with enter(path, timeout):
            assert over.is_set()
    assert not path.exists()


@pytest.mark.parametrize("timeout", SHORT)
@pytest.mark.parametrize("enter", WAYS)
def test_a_lock_gives_up_when_a_short_one_is_over(
    tmp_path: Path, enter: Callable[..., Any], timeout: Any
) -> None:
    path = tmp_path / "lockfile"
    with enter(path, timeout):
        pass
    with lock_held(path):
        begin = time.monotonic()
        with pytest.raises(LockError), enter(path, timeout):
            pass
        assert time.monotonic() - begin < AT_ONCE


@pytest.mark.parametrize(("timeout", "error"), NONE)
@pytest.mark.parametrize("enter", WAYS)
def test_a_lock_refuses_what_is_no_number(
    tmp_path: Path, enter: Callable[..., Any], timeout: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="timeout"), enter(tmp_path / "lockfile", timeout):
        pass
    assert not (tmp_path / "lockfile").exists()


# ---- changes() -------------------------------------------------------------------------------

#: With a negative timeout a wait for changes only looks, as Python's own waits do.
BELOW_0 = [each for each in LONG if str(each.id).endswith("below_0")]
LONG_OF_CHANGES = [each for each in LONG if each not in BELOW_0]


@pytest.mark.parametrize("timeout", LONG_OF_CHANGES)
def test_changes_are_waited_for_as_long_as_a_long_one_says(place: Place, timeout: Any) -> None:
    cache, other = place.cache(), place.cache()
    cache.modify(REFRESH_TOKEN, token(1), token(1, "one"))
    with cache.changes() as changes:
        assert not changes.wait(0)
        later = threading.Timer(
            0.01, other.modify, (REFRESH_TOKEN, token(2), token(2, "of another"))
        )
        later.start()
        assert changes.wait(timeout)
        later.join()


@pytest.mark.parametrize("timeout", [*LONG, *SHORT])
def test_a_change_that_is_there_already_is_told_whatever_the_timeout(
    place: Place, timeout: Any
) -> None:
    cache, other = place.cache(), place.cache()
    cache.modify(REFRESH_TOKEN, token(1), token(1, "one"))
    with cache.changes() as changes:
        other.modify(REFRESH_TOKEN, token(2), token(2, "of another"))
        assert changes.wait(timeout)


@pytest.mark.parametrize("timeout", [*SHORT, *BELOW_0])
def test_waiting_for_changes_ends_when_a_short_one_is_over(place: Place, timeout: Any) -> None:
    cache = place.cache()
    with cache.changes() as changes:
        begin = time.monotonic()
        assert not changes.wait(timeout)
        assert not changes.wait(timeout=timeout)
        assert time.monotonic() - begin < AT_ONCE


@pytest.mark.parametrize("timeout", named(inf=math.inf, e12=1e12, integer_of_400_digits=10**400))
def test_closing_ends_a_long_wait_for_changes(place: Place, timeout: Any) -> None:
    changes = place.cache().changes()
    threading.Timer(0.02, changes.close).start()
    assert not changes.wait(timeout)
    assert changes.closed


@contextlib.contextmanager
def closed_later(changes: CacheChanges) -> Iterator[None]:
    """Closes it later, so that a wait that should not have begun ends."""
    timer = threading.Timer(GENEROUS, changes.close)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@pytest.mark.parametrize(("timeout", "error"), NONE)
def test_changes_refuse_what_is_no_number_whether_there_are_some_or_not(
    place: Place, timeout: Any, error: type[Exception]
) -> None:
    cache, other = place.cache(), place.cache()
    with cache.changes() as changes, closed_later(changes):
        with pytest.raises(error, match="timeout"):
            changes.wait(timeout)
        other.modify(REFRESH_TOKEN, token(2), token(2, "of another"))
        with pytest.raises(error, match="timeout"):
            changes.wait(timeout)
        assert changes.wait(0)  # the refused call took no report away


# ---- the Secret Service ----------------------------------------------------------------------


@pytest.fixture
def signal_file(
    keyring_session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    for name, value in keyring_session.variables.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "signal"
    yield path
    LibsecretPersistence(path).delete()


@pytest.mark.parametrize("timeout", LONG)
def test_a_keyring_may_take_as_long_as_a_long_one_says(signal_file: Path, timeout: Any) -> None:
    persistence = LibsecretPersistence(signal_file, timeout=timeout)
    persistence.save("{}")
    assert persistence.load() == "{}"
    persistence.verify()
    cache = PersistedTokenCache(persistence)
    cache.modify(REFRESH_TOKEN, token(1), token(1, "stored"))
    assert [entry["secret"] for entry in cache.search(REFRESH_TOKEN)] == ["stored"]
    persistence.delete()
    LibSecretAgent("", {}, timeout=timeout).connect()


@pytest.mark.parametrize("timeout", SHORT)
def test_a_keyring_that_gets_no_time_answers_at_once_or_is_given_up(
    signal_file: Path, timeout: Any
) -> None:
    begin = time.monotonic()
    with contextlib.suppress(PersistenceError, TimeoutError):
        LibsecretPersistence(signal_file, timeout=timeout).save("{}")
    assert time.monotonic() - begin < AT_ONCE


@pytest.mark.parametrize(("timeout", "error"), NONE)
def test_a_keyring_refuses_what_is_no_number(
    tmp_path: Path, timeout: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="timeout"):
        LibsecretPersistence(tmp_path / "signal", timeout=timeout).save("{}")
    assert not (tmp_path / "signal").exists()


# ---- calls without a timeout of their own ---------------------------------------------------


def test_a_change_by_itself_gives_up_after_the_default(tmp_path: Path) -> None:
    """So that the tests above do not measure a default by accident."""
    cache = PersistedTokenCache(FilePersistence(tmp_path / "cache.bin"))
    with lock_held(Path(cache._lock_location)):
        begin = time.monotonic()
        with pytest.raises(LockError):
            cache.modify(REFRESH_TOKEN, token(1), token(1))
        assert time.monotonic() - begin > AT_ONCE
