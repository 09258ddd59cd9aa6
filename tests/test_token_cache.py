"""The token cache: nothing lost, nothing stuck, one sign-in one write."""

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

from msal_extensions import CrossPlatLock, FilePersistence, PersistedTokenCache
from msal_extensions.persistence import BasePersistence, PersistenceError
from tests.support.processes import crowd, python

ACCESS_TOKEN = msal.TokenCache.CredentialType.ACCESS_TOKEN
REFRESH_TOKEN = msal.TokenCache.CredentialType.REFRESH_TOKEN


def token(number: int, secret: str = "secret", expires_in: float = 3600) -> dict[str, str]:
    """An access token's entry."""
    return {
        "credential_type": ACCESS_TOKEN,
        "home_account_id": f"user{number}",
        "environment": "login.example.com",
        "client_id": "client",
        "realm": "tenant",
        "target": "scope",
        "secret": secret,
        "expires_on": str(int(time.time() + expires_in)),
    }


def sign_in(number: int = 0) -> dict[str, Any]:
    """What MSAL hands to add() after a sign-in."""
    return {
        "client_id": "client",
        "scope": ["scope"],
        "token_endpoint": "https://login.example.com/tenant/oauth2/v2.0/token",
        "environment": "login.example.com",
        "response": {
            "access_token": f"access{number}",
            "refresh_token": f"refresh{number}",
            "token_type": "Bearer",
            "expires_in": 3600,
            "client_info": msal.oauth2cli.oidc.base64.urlsafe_b64encode(
                json.dumps({"uid": f"user{number}", "utid": "tenant"}).encode()
            ).decode(),
        },
    }


class CountingPersistence(FilePersistence):
    """Counts what is read and written."""

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


def secrets_of(cache: PersistedTokenCache, kind: str = ACCESS_TOKEN) -> set[str]:
    return {entry["secret"] for entry in cache.search(kind)}


@pytest.fixture
def count_locks() -> Iterator[list[str]]:
    taken: list[str] = []
    acquire = CrossPlatLock.acquire

    def counting(self: CrossPlatLock, timeout: float | None = None) -> CrossPlatLock:
        taken.append(self._lockpath)
        return acquire(self, timeout)

    with mock.patch.object(CrossPlatLock, "acquire", counting):
        yield taken


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
    cache.modify(ACCESS_TOKEN, token(2))  # removing what is not there
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
    # Its save() is overridden, so what it wrote is looked at once.
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
    assert secrets_of(cache) == set()
    assert time.monotonic() - before < 2
    leave.set()
    holder.join()
    writer.join()


def test_changing_the_cache_while_iterating_over_it_is_fine(cache: PersistedTokenCache) -> None:
    for number in range(5):
        cache.modify(ACCESS_TOKEN, token(number), token(number))
    for entry in cache.search(ACCESS_TOKEN):
        cache.remove_at(entry)
    assert secrets_of(cache) == set()


def test_threads_that_add_update_search_and_expire_finish_and_lose_nothing(
    cache: PersistedTokenCache,
) -> None:
    rounds = 50
    failures: list[BaseException] = []

    def guarded(work: Any) -> threading.Thread:
        def run() -> None:
            try:
                for number in range(rounds):
                    work(number)
            except BaseException as error:
                failures.append(error)

        return threading.Thread(target=run, daemon=True)

    def update(number: int) -> None:
        for entry in cache.search(REFRESH_TOKEN):
            cache.update_rt(entry, f"updated{number}")
            break

    def expire(number: int) -> None:
        entry = token(1000 + number, expires_in=-10)
        cache.modify(ACCESS_TOKEN, entry, entry)
        list(cache.search(ACCESS_TOKEN))

    workers = [
        guarded(lambda number: cache.add(sign_in(number))),
        guarded(lambda number: cache.add(sign_in(rounds + number))),
        guarded(update),
        guarded(expire),
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=100)
        assert not worker.is_alive()
    assert failures == []
    users = {entry["home_account_id"] for entry in cache.search(REFRESH_TOKEN)}
    assert users == {f"user{number}.tenant" for number in range(2 * rounds)}


def test_a_lock_file_that_others_delete_loses_nothing(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    """Node unlinks a lock file that it does not hold, and saves."""
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
    location.write_text(whole[: len(whole) // 2])  # as 1.3.1 does, in place

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
    cache.add(sign_in())  # within our transaction
    entry = next(iter(cache.search(REFRESH_TOKEN)))
    cache.update_rt(entry, "rotated")  # around our transaction
    assert secrets_of(cache, REFRESH_TOKEN) == {"rotated"}


def test_a_subclass_may_override_the_reload(persistence: CountingPersistence) -> None:
    """azure-cli does."""
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


class DuckPersistence:
    """Only what 1.3.1 asked for."""

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
