"""The promises of a store's locks and leases, and what becomes of a change whose lock is lost."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from msal_extensions import LockError, PersistedTokenCache
from msal_extensions._store import ABSENT, Content, Lease, Store
from msal_extensions._store_of import store_of
from msal_extensions._stores.encrypted import EncryptedStore
from msal_extensions._stores.file import LocalStore
from msal_extensions._stores.signalled import SignalledStore
from msal_extensions.errors import LockLost, PersistenceDamaged, StoreChanged
from tests.support.capability import REMOVABLE_OPEN_FILES, cannot_exist_here, requires
from tests.support.dictionary_store import DictionaryPersistence, DictionaryStore, Shelf
from tests.support.meanwhile import overtaken
from tests.support.places import Place, place_of
from tests.support.places import place_fixture as place_fixture
from tests.support.processes import GENEROUS
from tests.support.tokens import ACCESS_TOKEN, secrets_of, sign_in, token

Result = TypeVar("Result")

robs = requires(REMOVABLE_OPEN_FILES)


@pytest.fixture(params=["file", "dictionary"])
def lockable(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """One store of each of the two kinds of locks."""
    return place_of(request.param, tmp_path, request)


def elsewhere(work: Callable[[], Result]) -> Result:
    """Runs the work in another thread."""
    with ThreadPoolExecutor(1) as another:
        return another.submit(work).result(GENEROUS)


def put(store: Store, data: bytes) -> Content:
    """Saves as the cache does."""
    lease = store.commit_lock.acquire(GENEROUS)
    try:
        return store.replace(data, lease=lease, expected=store.read().stamp)
    finally:
        lease.release()


# ---- locks ----


def test_the_lock_of_a_flight_is_another_one(lockable: Place) -> None:
    store = lockable.store()
    flight = store.flight_lock.acquire(0)
    assert not store.commit_lock.is_mine()
    elsewhere(lambda: lockable.store().commit_lock.acquire(0).release())
    with pytest.raises(LockError):
        elsewhere(lambda: lockable.store().flight_lock.acquire(0))
    flight.release()


def test_a_thread_that_waits_for_ever_comes_in_when_the_holder_is_out(lockable: Place) -> None:
    lease = lockable.store().commit_lock.acquire(0)
    with ThreadPoolExecutor(1) as another:
        waiting = another.submit(lambda: lockable.store().commit_lock.acquire(-1).still_held())
        lease.release()
        assert waiting.result(GENEROUS)


def test_a_lease_that_joins_is_inside_as_long_as_the_holder(lockable: Place) -> None:
    outer = lockable.store().commit_lock.acquire(0)
    inner = lockable.store().commit_lock.acquire(0)
    inner.release()
    assert outer.still_held()
    with pytest.raises(LockError):
        elsewhere(lambda: lockable.store().commit_lock.acquire(0))
    inner = lockable.store().commit_lock.acquire(0)
    outer.release()
    assert not inner.still_held()
    elsewhere(lambda: lockable.store().commit_lock.acquire(0).release())


@robs
def test_a_thread_does_not_join_a_holding_that_is_lost(lockable: Place) -> None:
    lost = lockable.store().commit_lock.acquire(0)
    lockable.rob()
    assert not lost.still_held()
    assert not lockable.store().commit_lock.is_mine()
    lease = lockable.store().commit_lock.acquire(0)
    assert lease.still_held()
    assert not lost.still_held()
    with pytest.raises(LockError):
        elsewhere(lambda: lockable.store().commit_lock.acquire(0))
    lost.release()
    assert lease.still_held()
    lease.release()


@robs
def test_a_lost_lease_gives_back_nothing_of_the_next_holder(lockable: Place) -> None:
    with ThreadPoolExecutor(1) as another:
        lost = lockable.store().commit_lock.acquire(0)
        lockable.rob()
        lease: Lease = another.submit(lockable.store().commit_lock.acquire, 0).result(GENEROUS)
        for _ in range(2):
            lost.release()
        assert lease.still_held()
        with pytest.raises(LockError):
            lockable.store().commit_lock.acquire(0)
        for _ in range(2):
            another.submit(lease.release).result(GENEROUS)
    assert not lease.still_held()
    lockable.store().commit_lock.acquire(0).release()


def test_a_lease_that_nothing_refers_to_is_over(lockable: Place) -> None:
    lease: Any = lockable.store().commit_lock.acquire(0)
    assert lease.still_held()
    del lease
    gc.collect()  # PyPy
    elsewhere(lambda: lockable.store().commit_lock.acquire(0).release())


# ---- saving under a lease ----


@robs
def test_a_save_whose_lock_was_lost_before_changes_nothing(place: Place) -> None:
    """The same when nobody else saved."""
    if place.shelf is not None:
        cannot_exist_here("a store with versions that needs its lock")
    store = place.store()
    put(store, b"before")
    lease = store.commit_lock.acquire(GENEROUS)
    stamp = store.stamp()
    place.rob()
    with pytest.raises(LockLost):
        store.replace(b"after", lease=lease, expected=stamp)
    assert place.persistence().load() == "before"
    lease.release()


def test_a_store_with_versions_saves_without_its_lock_if_nobody_else_did() -> None:
    shelf = Shelf()
    store, other = DictionaryStore(shelf, "one"), DictionaryStore(shelf, "other")
    lease = store.commit_lock.acquire(0)
    shelf.commit.steal()
    _, stamp = store.replace(b"one", lease=lease, expected=ABSENT)
    elsewhere(lambda: put(other, b"two"))
    for expected in (stamp, ABSENT, None):
        with pytest.raises(StoreChanged):
            store.replace(b"three", lease=lease, expected=expected)
    assert store.read().data == b"two"


@robs
@pytest.mark.parametrize("kind", ["own", "libsecret"])
def test_a_lock_that_is_lost_during_a_save_is_told_after_it(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """This kind of store cannot check the lock during a save, only before and after it."""
    place = place_of(kind, tmp_path, request)
    persistence = place.persistence()
    inner = persistence._agent if kind == "libsecret" else persistence
    save = inner.save

    def robbed(content: str) -> object:
        place.rob()
        return save(content)

    inner.save = robbed
    store = store_of(persistence, place.lock_location)
    lease = store.commit_lock.acquire(GENEROUS)
    with pytest.raises(LockLost):
        store.replace(b"text", lease=lease, expected=ABSENT)
    place.persistence().delete()


def test_a_lease_that_was_given_back_protects_no_save(place: Place) -> None:
    store = place.store()
    put(store, b"before")
    lease = store.commit_lock.acquire(GENEROUS)
    stamp = store.stamp()
    lease.release()
    elsewhere(lambda: put(place.store(), b"of another"))
    with pytest.raises((LockLost, StoreChanged)):
        store.replace(b"after", lease=lease, expected=stamp)
    assert store.read().data == b"of another"


# ---- what the cache does with it ----


@robs
def test_a_transaction_whose_lock_is_lost_keeps_what_another_saved(place: Place) -> None:
    cache = place.cache()
    cache.add(sign_in(1))
    with cache.transaction():
        cache.modify(ACCESS_TOKEN, token(2), token(2, "second"))
        place.rob()
        elsewhere(lambda: place.cache().add(sign_in(3)))
    for each in (cache, place.cache()):
        assert secrets_of(each) == {"access1", "access3", "second"}


@robs
def test_a_lock_that_is_lost_just_before_the_save_costs_no_change(place: Place) -> None:
    """After the last check of the lease by the cache."""
    cache = place.cache()
    cache.add(sign_in(1))
    with overtaken(place, lambda: place.cache().add(sign_in(3))):
        cache.modify(ACCESS_TOKEN, token(2), token(2, "second"))
    for each in (cache, place.cache()):
        assert secrets_of(each) == {"access1", "access3", "second"}


def test_nothing_is_prepared_inside_the_lock(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that gives the key may take seconds, and a person minutes."""
    prepared = []

    def prepare(store: LocalStore | DictionaryStore) -> None:
        assert not store.commit_lock.is_mine()
        prepared.append(store)

    for kind in (LocalStore, EncryptedStore, SignalledStore, DictionaryStore):
        monkeypatch.setattr(kind, "prepare", prepare)
    cache = place.cache(on_unreadable="quarantine")
    cache.add(sign_in(1))
    cache.modify(ACCESS_TOKEN, token(2), token(2, "expired", expires_in=-10))
    cache.remove_rt({**token(1), "credential_type": "RefreshToken"})
    assert len(prepared) == 3
    with cache.single_flight():
        cache.add(sign_in(3))
    with cache.transaction(), cache.transaction():
        cache.add(sign_in(4))
    assert len(prepared) == 6
    assert secrets_of(cache) >= {"access1", "access3", "access4"}  # this search purges
    place.persistence().save("no JSON")
    with contextlib.suppress(PersistenceDamaged):
        secrets_of(cache)


def test_what_another_program_repaired_meanwhile_is_not_emptied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other program repairs the content after the copy of the damaged one, and before its
    replacement by an empty one."""
    shelf = Shelf()
    make = partial(DictionaryPersistence, "shelf", shelf)
    PersistedTokenCache(make()).add(sign_in(1))
    good = make().load()
    make().save("no JSON")
    copy_aside = DictionaryStore.copy_aside

    def meanwhile(store: DictionaryStore, suffix: str) -> str:
        where = copy_aside(store, suffix)
        make().save(good)
        return where

    monkeypatch.setattr(DictionaryStore, "copy_aside", meanwhile)
    cache = PersistedTokenCache(make(), on_unreadable="quarantine")
    with pytest.raises(PersistenceDamaged):
        secrets_of(cache)
    assert make().load() == good
    assert secrets_of(cache) == {"access1"}
