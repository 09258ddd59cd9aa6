"""The token cache: no change is lost, no call hangs, and a sign-in is one write."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msal
import pytest

from msal_extensions import CrossPlatLock, FilePersistence, LockError, PersistedTokenCache
from msal_extensions._inherited import Snapshot
from msal_extensions.persistence import BasePersistence, PersistenceError
from tests.support.capability import REMOVABLE_OPEN_FILES, requires
from tests.support.inside import own_transaction, reloading_of
from tests.support.processes import crowd, python
from tests.support.tokens import (
    ACCESS_TOKEN,
    PURGES,
    REFRESH_TOKEN,
    secrets_of,
    sign_in,
    token,
)

needs_purging = pytest.mark.skipif(not PURGES, reason="this MSAL does not purge expired tokens")


class CountingPersistence(FilePersistence):
    """Counts the reads and writes."""

    loads = saves = 0

    def load(self) -> str:
        self.loads += 1
        return super().load()

    def save(self, content: str) -> None:
        self.saves += 1
        super().save(content)


@pytest.fixture
def persistence(tmp_path: Path) -> CountingPersistence:
    return CountingPersistence(tmp_path / "cache.bin")


@pytest.fixture
def cache(persistence: CountingPersistence) -> PersistedTokenCache:
    return PersistedTokenCache(persistence)


@pytest.fixture
def count_locks() -> Iterator[list[str]]:
    taken: list[str] = []
    acquire = CrossPlatLock.acquire

    def counting(self: CrossPlatLock, timeout: float | None = None) -> CrossPlatLock:
        taken.append(self._lockpath)
        return acquire(self, timeout)

    with mock.patch.object(CrossPlatLock, "acquire", counting):
        yield taken


@pytest.mark.slow
def test_sixteen_processes_modify_and_nothing_is_lost(tmp_path: Path) -> None:
    crowd(
        """
        from msal_extensions import FilePersistence, PersistedTokenCache
        cache = PersistedTokenCache(FilePersistence(sys.argv[2]))
        ready()
        for number in range(20):
            with cache.transaction(timeout=100):
                cache.modify("RefreshToken", {
                    "home_account_id": f"{sys.argv[1]}.{number}", "environment": "e",
                    "client_id": "c"}, {"secret": f"{sys.argv[1]}.{number}"})
        """,
        16,
        str(tmp_path / "cache.bin"),
    )
    cache = PersistedTokenCache(FilePersistence(tmp_path / "cache.bin"))
    found = secrets_of(cache, REFRESH_TOKEN)
    print(f"{len(found)} of 320 there")
    assert found == {f"{process}.{number}" for process in range(16) for number in range(20)}
    assert os.listdir(tmp_path) == ["cache.bin"]


def test_a_sign_in_is_one_lock_and_one_write(
    cache: PersistedTokenCache, persistence: CountingPersistence, count_locks: list[str]
) -> None:
    cache.add(sign_in())
    assert (len(count_locks), persistence.saves) == (1, 1)
    stored = json.loads(persistence.load())
    assert set(stored) == {"AccessToken", "RefreshToken", "Account", "AppMetadata"}


def test_a_change_that_changes_nothing_writes_nothing(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    entry = token(1)
    cache.modify(ACCESS_TOKEN, entry, entry)
    cache.modify(ACCESS_TOKEN, entry, entry)
    cache.modify(ACCESS_TOKEN, token(2))  # removes an entry that is not there
    assert persistence.saves == 1


def test_msals_operations_of_many_steps_cost_one_write_in_a_transaction(
    cache: PersistedTokenCache, persistence: CountingPersistence, count_locks: list[str]
) -> None:
    for number in range(3):
        cache.add(sign_in(number))
    persistence.saves = 0
    count_locks.clear()
    with cache.transaction():
        for kind in (ACCESS_TOKEN, REFRESH_TOKEN):
            for entry in cache.search(kind):
                cache.modify(kind, entry)
        with cache.transaction():
            assert secrets_of(cache) == set()
    assert (len(count_locks), persistence.saves) == (1, 1)


def test_what_was_changed_is_saved_even_when_the_body_raises(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    class OurError(Exception):
        pass

    def fail_after_a_change() -> None:
        with cache.transaction():
            cache.modify(ACCESS_TOKEN, token(1), token(1))
            raise OurError

    with pytest.raises(OurError):
        fail_after_a_change()
    assert secrets_of(PersistedTokenCache(persistence)) == {"secret"}


def test_what_could_not_be_saved_is_saved_with_the_next_change(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    with (
        mock.patch.object(CountingPersistence, "save", side_effect=PersistenceError(28, "full")),
        pytest.raises(PersistenceError),
    ):
        cache.modify(ACCESS_TOKEN, token(1), token(1, "unsaved"))
    assert secrets_of(cache) == {"unsaved"}
    other = PersistedTokenCache(persistence)
    other.modify(ACCESS_TOKEN, token(2), token(2, "of another"))
    cache.modify(ACCESS_TOKEN, token(3), token(3, "next"))
    assert secrets_of(PersistedTokenCache(persistence)) == {"unsaved", "of another", "next"}


def test_another_objects_change_is_seen_at_the_next_search(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    other = PersistedTokenCache(persistence)
    for number in range(50):
        other.modify(ACCESS_TOKEN, token(0), token(0, f"version{number}"))
        assert secrets_of(cache) == {f"version{number}"}


def test_an_unchanged_file_is_not_read_again(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    cache.modify(ACCESS_TOKEN, token(1), token(1))
    persistence.loads = 0
    for _ in range(10):
        assert secrets_of(cache) == {"secret"}
    # Its save() is overridden, so its content is read once after the save.
    assert persistence.loads <= 1


def test_setting_last_sync_to_0_forces_a_reload(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    cache.modify(ACCESS_TOKEN, token(1), token(1))
    assert secrets_of(cache)
    persistence.loads = 0
    cache._last_sync = 0
    assert secrets_of(cache)
    assert persistence.loads == 1


def test_a_patched_time_last_modified_is_asked(tmp_path: Path) -> None:
    cache = PersistedTokenCache(FilePersistence(tmp_path / "cache.bin"))
    cache.modify(ACCESS_TOKEN, token(1), token(1))
    with (
        mock.patch.object(FilePersistence, "time_last_modified", return_value=float("inf")),
        mock.patch.object(FilePersistence, "load", return_value='{"AccessToken": {}}') as load,
    ):
        assert secrets_of(cache) == set()
        assert secrets_of(cache) == set()
    assert load.call_count == 2


@needs_purging
def test_expired_tokens_are_purged_in_one_write(
    cache: PersistedTokenCache, persistence: CountingPersistence, count_locks: list[str]
) -> None:
    with cache.transaction():
        for number in range(5):
            entry = token(number, expires_in=-10)
            cache.modify(ACCESS_TOKEN, entry, entry)
        cache.modify(ACCESS_TOKEN, token(9), token(9, "fresh"))
    persistence.saves = 0
    count_locks.clear()
    assert secrets_of(cache) == {"fresh"}
    assert (len(count_locks), persistence.saves) == (1, 1)
    assert next(iter(json.loads(persistence.load())["AccessToken"].values()))["secret"] == "fresh"


def test_a_search_does_not_wait_for_a_lock_held_elsewhere(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    expired = token(1, expires_in=-10)
    cache.modify(ACCESS_TOKEN, expired, expired)
    path = persistence.get_location() + ".lockfile"
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with CrossPlatLock(path):
            entered.set()
            leave.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait()
    writer = threading.Thread(target=cache.add, args=(sign_in(),))
    writer.start()
    time.sleep(0.2)
    before = time.monotonic()
    found = secrets_of(cache)
    assert time.monotonic() - before < 2
    leave.set()
    holder.join()
    writer.join()
    assert found == (set() if PURGES else {"secret"})


def test_changing_the_cache_while_iterating_over_it_is_fine(cache: PersistedTokenCache) -> None:
    for number in range(5):
        cache.modify(ACCESS_TOKEN, token(number), token(number))
    for entry in cache.search(ACCESS_TOKEN):
        cache.remove_at(entry)
    assert secrets_of(cache) == set()


@pytest.mark.slow
@requires(REMOVABLE_OPEN_FILES)  # otherwise readers that never pause keep others from saving
@pytest.mark.parametrize("objects", [1, 4])
def test_threads_that_add_update_search_and_expire_finish_and_lose_nothing(
    tmp_path: Path, objects: int
) -> None:
    """On one object, and on several objects over one file; 1,000 rounds together."""
    rounds = 250
    caches = [PersistedTokenCache(FilePersistence(tmp_path / "cache.bin")) for _ in range(objects)]
    failures: list[BaseException] = []
    updated: dict[str, str] = {}

    def update(cache: PersistedTokenCache, number: int) -> None:
        with cache.transaction(timeout=60):
            entry = list(cache.search(REFRESH_TOKEN))[number // 2]
            updated[entry["home_account_id"]] = f"updated{number}"
            cache.update_rt(entry, f"updated{number}")

    def expire(cache: PersistedTokenCache, number: int) -> None:
        entry = token(1000 + number, expires_in=-10)
        with cache.transaction(timeout=60):
            cache.modify(ACCESS_TOKEN, entry, entry)
        assert ("secret" in secrets_of(cache)) is not PURGES

    def add(cache: PersistedTokenCache, number: int) -> None:
        with cache.transaction(timeout=60):
            cache.add(sign_in(number))
        # The entry is there that this thread saved.
        assert f"access{number}" in secrets_of(cache)

    def run(work: Any, cache: PersistedTokenCache, first: int) -> None:
        try:
            for number in range(rounds):
                work(cache, first + number)
        except BaseException as error:
            failures.append(error)

    caches[0].add(sign_in(5000))
    workers = [
        threading.Thread(target=run, args=arguments, daemon=True)
        for arguments in (
            (add, caches[0], 0),
            (add, caches[1 % objects], rounds),
            (update, caches[2 % objects], 0),
            (expire, caches[3 % objects], 0),
        )
    ]
    workers[0].start()
    while len(list(caches[0].search(REFRESH_TOKEN))) < rounds // 2 + 1:
        assert workers[0].is_alive() or not failures
    for worker in workers[1:]:
        worker.start()
    for worker in workers:
        worker.join(timeout=200)
        assert not worker.is_alive()
    assert failures == []
    stored = PersistedTokenCache(FilePersistence(tmp_path / "cache.bin"))
    found = {entry["home_account_id"]: entry["secret"] for entry in stored.search(REFRESH_TOKEN)}
    expected = {f"user{number}.tenant": f"refresh{number}" for number in range(2 * rounds)}
    assert found == {"user5000.tenant": "refresh5000", **expected, **updated}


@requires(REMOVABLE_OPEN_FILES)
def test_a_lock_file_that_others_delete_loses_nothing(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    """Node removes a lock file that it does not hold, and saves."""
    other = PersistedTokenCache(persistence)
    with cache.transaction():
        cache.modify(ACCESS_TOKEN, token(1), token(1, "ours"))
        os.unlink(persistence.get_location() + ".lockfile")
        other_thread = threading.Thread(
            target=lambda: other.modify(ACCESS_TOKEN, token(2), token(2, "theirs"))
        )
        other_thread.start()
        other_thread.join()
    assert secrets_of(PersistedTokenCache(persistence)) == {"ours", "theirs"}


def test_a_file_caught_in_the_middle_of_a_foreign_write_is_read_again(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    cache.modify(ACCESS_TOKEN, token(1), token(1))
    whole = persistence.load()
    location = Path(persistence.get_location())
    location.write_text(whole[: len(whole) // 2])  # 1.3.1 writes in place like this

    def finish() -> None:
        time.sleep(0.1)
        location.write_text(whole)

    writer = threading.Thread(target=finish)
    writer.start()
    assert secrets_of(cache) == {"secret"}
    writer.join()


def test_a_damaged_cache_raises_what_1_3_1_raised(persistence: CountingPersistence) -> None:
    persistence.save('{"AccessToken": {}} {"extra')
    cache = PersistedTokenCache(persistence)
    with pytest.raises(json.JSONDecodeError):
        cache.search(ACCESS_TOKEN)
    with pytest.raises(json.JSONDecodeError):
        cache.modify(ACCESS_TOKEN, token(1), token(1))
    assert persistence.load() == '{"AccessToken": {}} {"extra'


def test_a_subclass_may_lock_for_itself(persistence: CountingPersistence) -> None:
    class Cautious(PersistedTokenCache):
        def modify(self, *args: Any, **kwargs: Any) -> None:
            with CrossPlatLock(self._lock_location):
                super().modify(*args, **kwargs)

    cache = Cautious(persistence)
    cache.add(sign_in())  # inside our transaction
    entry = next(iter(cache.search(REFRESH_TOKEN)))
    cache.update_rt(entry, "rotated")  # around our transaction
    assert secrets_of(cache, REFRESH_TOKEN) == {"rotated"}


def test_a_subclass_may_override_the_reload(persistence: CountingPersistence) -> None:
    """azure-cli overrides it."""
    calls = []

    class Loud(PersistedTokenCache):
        def _reload_if_necessary(self) -> None:
            calls.append(1)
            super()._reload_if_necessary()

    cache = Loud(persistence)
    cache.search(ACCESS_TOKEN)
    assert len(calls) == 1
    cache.modify(ACCESS_TOKEN, token(1), token(1))
    assert len(calls) == 2


def test_a_subclass_may_swallow_the_error_of_the_reload(persistence: CountingPersistence) -> None:
    """azure-cli does so with json.JSONDecodeError."""

    class Tolerant(PersistedTokenCache):
        def _reload_if_necessary(self) -> None:
            try:
                super()._reload_if_necessary()
            except json.JSONDecodeError:
                self._cache = {}

    persistence.save("[")
    cache = Tolerant(persistence)
    assert secrets_of(cache) == set()
    cache.modify(ACCESS_TOKEN, token(1), token(1, "new"))
    assert secrets_of(PersistedTokenCache(persistence)) == {"new"}


def test_a_change_in_place_is_saved_by_modify(cache: PersistedTokenCache) -> None:
    """A search yields the entries of the cache itself; 1.3.1 saved such changes too."""
    cache.modify(ACCESS_TOKEN, token(1), token(1, "old"))
    stored = PersistedTokenCache(FilePersistence(cache._persistence.get_location()))
    time.sleep(2.1)
    assert secrets_of(cache) == {"old"}  # and the stamp is settled
    entry = next(iter(cache.search(ACCESS_TOKEN)))
    entry["secret"] = "changed in place"
    cache.modify(ACCESS_TOKEN, entry, entry)
    assert secrets_of(stored) == {"changed in place"}


def test_a_change_that_changes_nothing_keeps_another_programs_layout(
    persistence: CountingPersistence,
) -> None:
    entry = token(1)
    PersistedTokenCache(persistence).modify(ACCESS_TOKEN, entry, entry)
    indented = json.dumps(json.loads(persistence.load()), indent=4)
    persistence.save(indented)
    PersistedTokenCache(persistence).modify(ACCESS_TOKEN, entry, entry)
    assert persistence.load() == indented


def test_what_is_added_and_removed_in_one_transaction_is_not_written(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    cache.modify(ACCESS_TOKEN, token(1), token(1))
    saves = persistence.saves
    with cache.transaction():
        cache.modify(ACCESS_TOKEN, token(2), token(2))
        cache.modify(ACCESS_TOKEN, token(2))
    assert persistence.saves == saves


def test_a_change_after_the_file_was_deleted_is_written(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    entry = token(1)
    cache.modify(ACCESS_TOKEN, entry, entry)
    persistence.delete()
    cache.modify(ACCESS_TOKEN, entry, entry)
    assert secrets_of(PersistedTokenCache(persistence)) == {"secret"}


@needs_purging
def test_an_expired_token_that_another_process_renewed_is_not_purged(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    expired, renewed = token(1, expires_in=-10), token(1, "renewed")
    cache.modify(ACCESS_TOKEN, expired, expired)
    other = PersistedTokenCache(persistence)
    purge = Snapshot.__exit__

    def renew_before(snapshot: Snapshot, *error: Any) -> None:
        other.modify(ACCESS_TOKEN, renewed, renewed)
        purge(snapshot, *error)

    with mock.patch.object(Snapshot, "__exit__", renew_before):
        assert secrets_of(cache) == set()
    assert secrets_of(cache) == {"renewed"}
    assert secrets_of(PersistedTokenCache(persistence)) == {"renewed"}


def test_a_save_that_fails_after_the_body_failed_tells_both(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    def fail_after_a_change() -> None:
        with cache.transaction():
            cache.modify(ACCESS_TOKEN, token(1), token(1, "kept"))
            raise KeyError("of the body")

    with mock.patch.object(CountingPersistence, "save", side_effect=PersistenceError(28, "full")):
        with pytest.raises(PersistenceError, match="full") as caught:
            fail_after_a_change()
        assert isinstance(caught.value.__context__, KeyError)
    assert os.listdir(os.path.dirname(persistence.get_location())) == []  # and no lock file is left
    with cache.transaction():
        cache.modify(ACCESS_TOKEN, token(2), token(2, "next"))
    assert secrets_of(PersistedTokenCache(persistence)) == {"kept", "next"}


def test_a_change_that_fails_changes_nothing(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    with pytest.raises(KeyError):
        cache.modify("NoSuchKind", token(1), token(1))

    def change_and_fail() -> None:
        with cache.transaction():
            cache.modify(ACCESS_TOKEN, token(1), token(1, "before"))
            cache.modify(ACCESS_TOKEN, {1: 2}, {})  # type: ignore[dict-item]

    with pytest.raises(TypeError):
        change_and_fail()
    assert secrets_of(PersistedTokenCache(persistence)) == {"before"}
    assert persistence.saves == 1


def test_a_program_that_keeps_deleting_the_lock_file_ends_in_an_error_that_keeps_the_change(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    with (
        mock.patch.object(CrossPlatLock, "still_held", return_value=False),
        pytest.raises(LockError, match="deleting"),
    ):
        cache.modify(ACCESS_TOKEN, token(1), token(1, "kept"))
    cache.modify(ACCESS_TOKEN, token(2), token(2, "next"))
    assert secrets_of(PersistedTokenCache(persistence)) == {"kept", "next"}
    assert os.listdir(os.path.dirname(persistence.get_location())) == ["cache.bin"]


def test_a_lock_that_could_not_be_had_back_is_what_the_error_tells(
    cache: PersistedTokenCache,
) -> None:
    acquire = CrossPlatLock.acquire

    def once(lock: CrossPlatLock, timeout: float | None = None) -> CrossPlatLock:
        if own_transaction(cache) is not None:
            raise LockError("held by Node")
        return acquire(lock, timeout)

    with (
        mock.patch.object(CrossPlatLock, "still_held", return_value=False),
        mock.patch.object(CrossPlatLock, "acquire", once),
        pytest.raises(LockError, match="held by Node"),
    ):
        cache.modify(ACCESS_TOKEN, token(1), token(1))


def test_changes_that_could_not_be_saved_take_no_more_room_than_the_entries(
    cache: PersistedTokenCache,
) -> None:
    with mock.patch.object(CountingPersistence, "save", side_effect=PersistenceError(28, "full")):
        for number in range(100):
            with pytest.raises(PersistenceError):
                cache.modify(ACCESS_TOKEN, token(1), token(1, f"version{number}"))
    assert len(reloading_of(cache).pending) == 1
    cache._last_sync = 0
    assert secrets_of(cache) == {"version99"}


@requires("os.fork")
def test_a_child_of_a_fork_does_not_inherit_another_threads_transaction(
    persistence: CountingPersistence,
) -> None:
    output = python(
        """
        import os, sys, threading
        from msal_extensions import FilePersistence, PersistedTokenCache
        cache = PersistedTokenCache(FilePersistence(sys.argv[1]))
        entered, leave = threading.Event(), threading.Event()
        entry = {"home_account_id": "a", "environment": "e", "client_id": "c"}
        def transact():
            with cache.transaction():
                cache.modify("RefreshToken", entry, {"secret": "of the parent"})
                entered.set()
                leave.wait()
        worker = threading.Thread(target=transact)
        worker.start()
        entered.wait()
        child = os.fork()
        if child == 0:
            with cache.transaction(timeout=20):
                cache.modify("RefreshToken", dict(entry, client_id="d"), {"secret": "of the child"})
            os._exit(0)
        leave.set()
        worker.join()
        print(os.waitpid(child, 0)[1])
        print(sorted(entry["secret"] for entry in cache.search("RefreshToken")))
        """,
        persistence.get_location(),
    )
    assert output.stdout == "0\n['of the child', 'of the parent']\n"


@requires("os.fork")
def test_a_child_of_a_fork_is_not_held_up_by_what_another_thread_was_doing(
    persistence: CountingPersistence,
) -> None:
    """The other thread saves, or searches."""
    output = python(
        """
        import json, os, signal, sys, threading
        from msal_extensions import FilePersistence, PersistedTokenCache
        saving, looking, go_on = (threading.Event() for _ in range(3))
        class Slow(FilePersistence):
            def save(self, content):
                saving.set()
                go_on.wait()
                super().save(content)
        cache = PersistedTokenCache(Slow(sys.argv[1]))
        entry = {"home_account_id": "a", "environment": "e", "client_id": "c", "secret": "late"}
        def save():
            cache.modify("RefreshToken", entry, entry)
        def look():
            with cache._lock:
                looking.set()
                go_on.wait()
        for work, begun in ((save, saving), (look, looking)):
            threading.Thread(target=work).start()
            begun.wait()
        child = os.fork()
        if child == 0:
            signal.alarm(100)
            stored = {"RefreshToken": {"key": dict(entry, secret="stored")}}
            FilePersistence(sys.argv[1]).save(json.dumps(stored))
            secrets = {found["secret"] for found in cache.search("RefreshToken")}
            os._exit(0 if "stored" in secrets else 1)
        status = os.waitpid(child, 0)[1]
        go_on.set()
        print(status)
        """,
        persistence.get_location(),
    )
    assert output.stdout == "0\n"


class DuckPersistence:
    """Only the methods that 1.3.1 used."""

    is_encrypted = False

    def __init__(self, location: Path) -> None:
        self.location, self.content, self.modified = str(location), "", 0.0

    def save(self, content: str) -> None:
        self.content, self.modified = content, self.modified + 1

    def load(self) -> str:
        return self.content

    def time_last_modified(self) -> float:
        return self.modified

    def get_location(self) -> str:
        return self.location


def test_a_persistence_of_your_own_works(tmp_path: Path) -> None:
    class Own(DuckPersistence, BasePersistence):
        pass

    for duck in (DuckPersistence(tmp_path / "duck"), Own(tmp_path / "own")):
        cache = PersistedTokenCache(duck)  # type: ignore[arg-type]
        cache.modify(ACCESS_TOKEN, token(1), token(1, "first"))
        duck.save(duck.content.replace("first", "changed"))
        assert secrets_of(cache) == {"changed"}


def test_a_persistence_serves_as_token_cache(tmp_path: Path) -> None:
    persistence = FilePersistence(tmp_path / "cache.bin")
    persistence.add(sign_in())
    assert [entry["secret"] for entry in persistence.search(ACCESS_TOKEN)] == ["access0"]
    assert persistence.CredentialType is msal.TokenCache.CredentialType
    assert not hasattr(persistence, "no_such_thing")


def test_lock_file_and_directory_may_be_elsewhere(tmp_path: Path) -> None:
    cache = PersistedTokenCache(
        FilePersistence(tmp_path / "cache.bin"), str(tmp_path / "locks" / "mine")
    )
    with cache.transaction():
        assert os.listdir(tmp_path / "locks") == ["mine"]


def test_a_transaction_times_out_without_changing_anything(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    with CrossPlatLock(persistence.get_location() + ".lockfile"):
        output = python(
            """
            import sys
            from msal_extensions import FilePersistence, LockError, PersistedTokenCache
            cache = PersistedTokenCache(FilePersistence(sys.argv[1]))
            try:
                with cache.transaction(timeout=0.2):
                    print("in")
            except LockError as error:
                print("LockError")
            """,
            persistence.get_location(),
        )
    assert output.stdout == "LockError\n"
    assert persistence.saves == 0
