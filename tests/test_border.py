"""The promises that every store makes to the cache (``_store.py``), on each kind of store."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from msal_extensions import CrossPlatLock, LibsecretPersistence, LockError, PersistedTokenCache
from msal_extensions._store import ABSENT, Content, Lease, Store
from msal_extensions._store_of import StoreMemo, store_of
from msal_extensions._stores.signalled import SignalledStore
from msal_extensions.errors import LockLost, PersistenceFileExists, StoreChanged
from tests.support import own_persistences, tally
from tests.support.capability import (
    LOCK_QUEUE,
    REMOVABLE_OPEN_FILES,
    cannot_exist_here,
    requires,
)
from tests.support.dictionary_store import DictionaryPersistence, DictionaryStore, Shelf, in_a_shelf
from tests.support.own_persistences import Duck, Own, Sealed
from tests.support.places import KINDS, place_of
from tests.support.processes import GENEROUS, crowd, eventually
from tests.support.tokens import ACCESS_TOKEN, secrets_of, sign_in, token

Make = Callable[[], Any]
SIGN_INS = int(os.environ.get("MSALEX_BORDER_SIGN_INS", "20"))


@pytest.fixture(params=[*KINDS, "dictionary"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes persistences for the same content."""
    yield place_of(request.param, tmp_path, request).persistence
    if request.param == "libsecret":  # the keyring outlives the test
        LibsecretPersistence(tmp_path / "cache").delete()


@pytest.fixture
def lock(tmp_path: Path) -> str:
    return str(tmp_path / "lockfile")


@pytest.fixture
def store(make: Make, lock: str) -> Store:
    return store_of(make(), lock)


def put(store: Store, data: bytes) -> Content:
    """Saves as the cache does."""
    lease = store.commit_lock.acquire(GENEROUS)
    try:
        return store.replace(data, lease=lease, expected=store.read().stamp)
    finally:
        lease.release()


def test_what_was_replaced_is_read_here_and_elsewhere(store: Store, make: Make, lock: str) -> None:
    other = store_of(make(), lock)
    for data in (b'{"a": 1}', b"{}", '{"é": "漢字"}'.encode()):
        kept, stamp = put(store, data)
        assert kept == store.read().data == other.read().data == data
        assert store.stamp() == other.stamp() == stamp or stamp is None or stamp != stamp


def test_before_the_first_save_and_after_a_delete_there_is_nothing(store: Store) -> None:
    for _ in range(2):
        assert store.read().data == b""
        assert store.stamp() in (ABSENT, None)
        put(store, b"{}")
        assert store.stamp() is not ABSENT
        try:
            store.delete(lease=None)
        except AttributeError:  # a duck type without delete()
            return


@requires(REMOVABLE_OPEN_FILES)
def test_a_replace_under_a_lost_lease_is_told(store: Store, lock: str) -> None:
    put(store, b"before")
    lease = store.commit_lock.acquire(GENEROUS)
    read = store.read().stamp
    if isinstance(store, DictionaryStore):
        with store._shelf.changed:
            store._shelf.put(b"of another")
        expected: type[Exception] = StoreChanged
    else:
        os.unlink(lock)
        with ThreadPoolExecutor() as another_thread:
            another_thread.submit(put, store, b"of another").result()
        expected = LockLost
    with pytest.raises(expected):
        store.replace(b"of the first", lease=lease, expected=read)
    assert store.read().data == b"of another"
    lease.release()
    lease.release()


def test_the_lock_knows_its_thread(store: Store) -> None:
    def told() -> tuple[bool, bool]:
        return store.commit_lock.is_mine(), store.commit_lock.others_inside()

    with ThreadPoolExecutor(1) as another_thread:
        assert told() == (False, False)
        lease = store.commit_lock.acquire(0)
        inner = store.commit_lock.acquire(0)
        assert inner.still_held()
        assert told() == (True, False)
        assert another_thread.submit(told).result() == (False, True)
        with pytest.raises(LockError):
            another_thread.submit(store.commit_lock.acquire, 0.05).result()
        inner.release()
        assert lease.still_held()
        flight = store.flight_lock.acquire(0)
        assert flight.still_held()
        flight.release()
        lease.release()
        assert told() == (False, False)
        assert not lease.still_held()
        another_thread.submit(store.commit_lock.acquire, 0).result().release()


def test_a_watch_tells_a_change(store: Store, make: Make, lock: str) -> None:
    if isinstance(make(), Duck):
        cannot_exist_here("nobody can watch a place that has no location")
    put(store, b"{}")
    watch = store.watch()
    assert not watch.wait(0)
    put(store_of(make(), lock), b'{"a": 1}')
    assert eventually(lambda: watch.wait(100))
    watch.close()
    watch.close()


def test_a_copy_as_evidence_never_replaces_anything(store: Store) -> None:
    put(store, b"evidence")
    try:
        place = store.copy_aside(".damaged")
    except NotImplementedError:
        return  # a persistence of the program's own cannot keep a copy
    assert place.endswith(".damaged")
    if isinstance(store, SignalledStore):
        return  # a keyring takes any name; the random digits make it a new one
    with pytest.raises(PersistenceFileExists):
        store.copy_aside(".damaged")
    assert store.read().data == b"evidence"


def test_a_cache_works_over_it(make: Make, lock: str) -> None:
    cache, other = (PersistedTokenCache(make(), lock) for _ in range(2))
    assert secrets_of(cache) == set()
    for number in range(3):
        cache.add(sign_in(number))
        assert secrets_of(other) == {f"access{each}" for each in range(number + 1)}
        other.modify(ACCESS_TOKEN, token(9), token(9, str(number)))
        other.remove_at(token(9))
    with cache.single_flight():
        assert len(secrets_of(cache)) == 3


def test_a_lock_location_is_the_lock_of_every_store_of_this_machine(make: Make, lock: str) -> None:
    if isinstance(make(), DictionaryPersistence):
        cannot_exist_here("its lock is in the dictionary")
    cache = PersistedTokenCache(make(), lock)
    with ThreadPoolExecutor() as another_thread, CrossPlatLock(lock):
        change = another_thread.submit(lambda: cache.transaction(timeout=0.05).__enter__())
        with pytest.raises(LockError):
            change.result()


def test_prepare_comes_before_the_lock(lock: str) -> None:
    """A store may have to ask a person: DictionaryStore.prepare() checks that no lock is held."""
    shelf = Shelf()
    cache = PersistedTokenCache(DictionaryPersistence("shelf", shelf))
    cache.add(sign_in(1))
    assert shelf.prepared == 1
    with cache.single_flight(), cache.transaction():
        cache.add(sign_in(2))
    assert shelf.prepared == 3


@pytest.mark.parametrize(("overtaken", "prepared"), [(1, 2), (3, 4), (9, 4)])
def test_a_transaction_that_others_overtook_leaves_the_lock_and_prepares_again(
    overtaken: int, prepared: int
) -> None:
    """Three times; after the fourth lock it reads what it has to read inside."""
    shelf = Shelf()
    cache = PersistedTokenCache(DictionaryPersistence("shelf", shelf))
    shelf.overtaken = overtaken
    with cache.transaction():
        cache.add(sign_in(1))
    assert shelf.prepared == prepared
    assert secrets_of(cache) == {"access1"}


def test_a_transaction_that_tries_once_takes_the_lock_once() -> None:
    shelf = Shelf()
    cache = PersistedTokenCache(DictionaryPersistence("shelf", shelf))
    shelf.overtaken = 3
    with cache.transaction(timeout=0):
        cache.add(sign_in(1))
    assert shelf.prepared == 1


def test_a_transaction_that_has_waited_for_half_of_its_time_prepares_no_more() -> None:
    """Its time is for all its waits together."""
    shelf = Shelf()
    cache = PersistedTokenCache(DictionaryPersistence("shelf", shelf))
    shelf.overtaken = 9
    acquire = shelf.commit.acquire

    def acquire_slowly(timeout: float) -> Lease:
        time.sleep(0.3)
        return acquire(timeout)

    with mock.patch.object(shelf.commit, "acquire", acquire_slowly), cache.transaction(timeout=0.5):
        cache.add(sign_in(1))
    assert shelf.prepared == 1
    assert secrets_of(cache) == {"access1"}


def test_a_damaged_content_is_swapped_and_kept() -> None:
    shelf = Shelf()
    cache = PersistedTokenCache(DictionaryPersistence("shelf", shelf), on_unreadable="quarantine")
    with shelf.changed:
        shelf.put(b"[damaged")
    assert secrets_of(cache) == set()
    assert list(shelf.kept.values()) == [b"[damaged"]
    assert shelf.data == b"{}"


# ---- settling ----


def test_a_version_is_trusted_at_once_and_a_time_only_by_searches(tmp_path: Path) -> None:
    by_version = store_of(in_a_shelf()(), "")
    assert (by_version.settles_after, by_version.stamp_proves) == ((), True)
    by_time = store_of(Own(tmp_path / "own"), "lock")
    assert by_time.settles_after
    assert not by_time.stamp_proves
    persistence = Sealed(tmp_path / "sealed")
    persistence.save("{}")
    assert store_of(persistence, "lock").stamp_proves


# ---- the memo ----


def test_the_store_stays_while_nothing_changed(make: Make, lock: str) -> None:
    memo, persistence = StoreMemo(), make()
    store = memo.of(persistence, lock)
    assert memo.of(persistence, lock) is store
    assert memo.of(persistence, "".join(lock)) is store
    assert memo.of(make(), lock) is not store
    assert memo.of(persistence, lock + "2") is not store


# ---- crowds ----


def missing(cache: PersistedTokenCache, names: set[str]) -> set[str]:
    return names - {entry["home_account_id"] for entry in cache.search("RefreshToken")}


def refresh_token(name: str) -> dict[str, str]:
    return {"home_account_id": name, "environment": "e", "client_id": "c"}


@pytest.mark.parametrize("steals", [0.0, 0.1, 0.5])
def test_threads_over_a_store_with_versions_lose_nothing_when_locks_are_stolen(
    steals: float,
) -> None:
    shelf = Shelf(steals, seed=1)

    def work(name: str) -> None:
        cache = PersistedTokenCache(DictionaryPersistence("shelf", shelf))
        for number in range(3 * SIGN_INS):
            with cache.transaction(timeout=GENEROUS):
                cache.modify("RefreshToken", refresh_token(f"{name}{number}"), {"secret": "s"})

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, "abcdefgh"))
    cache = PersistedTokenCache(DictionaryPersistence("shelf", shelf))
    names = {f"{name}{number}" for name in "abcdefgh" for number in range(3 * SIGN_INS)}
    tally.tried(len(names))
    tally.lost(len(missing(cache, names)))
    assert missing(cache, names) == set()
    print(f"{len(names)} stored, {shelf.refused} swaps lost")
    assert (shelf.refused > 0) == (steals > 0)


CROWD = """
    import sys
    from msal_extensions import PersistedTokenCache
    sys.path.insert(0, sys.argv[5])
    from tests.support import own_persistences
    kind = getattr(own_persistences, sys.argv[3])
    cache = PersistedTokenCache(kind(sys.argv[2]), sys.argv[2] + ".lock")
    ready()
    for number in range(int(sys.argv[4])):
        entry = {"home_account_id": f"{sys.argv[1]}-{number}", "environment": "e", "client_id": "c"}
        with cache.transaction(timeout=60):
            cache.modify("RefreshToken", entry, {"secret": "s"})
"""


@pytest.mark.slow
@requires(LOCK_QUEUE)
@pytest.mark.parametrize("kind", ["Own", "Duck", "NoNumber", "Sealed", "mocked"])
def test_processes_over_a_persistence_of_ones_own_lose_nothing(kind: str, tmp_path: Path) -> None:
    root = str(Path(__file__).resolve().parents[1])
    location = tmp_path / "cache"
    crowd(CROWD, 4, str(location), kind, str(SIGN_INS), root)
    persistence = vars(own_persistences)[kind](location)
    cache = PersistedTokenCache(persistence, str(location) + ".lock")
    names = {f"{name}-{number}" for name in range(4) for number in range(SIGN_INS)}
    tally.tried(len(names))
    tally.lost(len(missing(cache, names)))
    assert missing(cache, names) == set()


# ---- a sealed file ----


def robbed(location: Path) -> set[str]:
    """A save during which another program removes the lock file and saves; returns the content that
    is stored then."""
    cache = PersistedTokenCache(Sealed(location))
    cache.modify(ACCESS_TOKEN, token(0), token(0, "before"))
    lock = Path(str(location) + ".lockfile")
    agent: Any = vars(cache._persistence)["_dp_agent"]
    protect, robbing = agent.protect, [True]

    def overtaken(message: str) -> bytes:
        sealed: bytes = protect(message)
        if robbing:
            robbing.clear()
            lock.unlink()
            with ThreadPoolExecutor() as another:
                other = PersistedTokenCache(Sealed(location))
                another.submit(
                    other.modify, ACCESS_TOKEN, token(1), token(1, "of the other")
                ).result()
        return sealed

    agent.protect = overtaken
    cache.modify(ACCESS_TOKEN, token(2), token(2, "of the first"))
    return secrets_of(PersistedTokenCache(Sealed(location)))


@requires(REMOVABLE_OPEN_FILES)
def test_a_sealed_file_is_saved_under_the_lease_like_a_plain_one(tmp_path: Path) -> None:
    for number in range(SIGN_INS):
        location = tmp_path / str(number)
        stored = robbed(location)
        tally.tried()
        assert stored == {"before", "of the other", "of the first"}


def test_a_sealed_file_that_settled_is_not_decrypted_for_a_transaction(tmp_path: Path) -> None:
    persistence = Sealed(tmp_path / "cache")
    cache = PersistedTokenCache(persistence)
    cache.add(sign_in(1))
    unprotect, count = persistence._dp_agent.unprotect, []

    def counted(cipher_text: bytes) -> str:
        count.append(1)
        text: str = unprotect(cipher_text)
        return text

    persistence._dp_agent.unprotect = counted
    time.sleep(2.1)
    list(cache.search(ACCESS_TOKEN))
    assert len(count) == 1
    with cache.transaction():
        pass
    assert len(count) == 1


def test_a_sealed_file_holds_no_plain_text(tmp_path: Path) -> None:
    cache = PersistedTokenCache(Sealed(tmp_path / "cache"))
    cache.add(sign_in(1))
    assert b"access1" not in (tmp_path / "cache").read_bytes()
    assert json.loads(cache._persistence.load())["AccessToken"]


def test_an_empty_sealed_file_is_nothing_and_no_change(tmp_path: Path) -> None:
    """Node makes an empty file."""
    (tmp_path / "cache").touch()
    cache = PersistedTokenCache(Sealed(tmp_path / "cache"))
    with cache.changes() as changes:
        assert secrets_of(cache) == set()
        assert not changes.wait(0)
    store = store_of(cache._persistence, "lock")
    assert store.stamp() is store.read().stamp is ABSENT
