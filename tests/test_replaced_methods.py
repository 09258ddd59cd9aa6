"""Methods and attributes of MSAL's classes and ours that a program replaces are used as in 1.3.1.

Programs override them in subclasses, set them, and let the mocks of their tests replace them,
before and after a cache is made.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import msal
import pytest

from msal_extensions import CrossPlatLock, FilePersistence, LockError, PersistedTokenCache
from tests.support.own_persistences import Own
from tests.support.tokens import ACCESS_TOKEN, secrets_in, secrets_of, sign_in, token

HIT = {"home_account_id": "h", "environment": "e", "client_id": "c", "realm": "r"}


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "directory" / "cache.bin"


# ---- looking up ----


def test_expired_tokens_are_removed_by_ones_own_remove_at(location: Path) -> None:
    removed = []

    class Own(PersistedTokenCache):
        def remove_at(self, at_item: dict[str, Any]) -> None:
            removed.append(at_item["secret"])
            super().remove_at(at_item)

    cache = Own(FilePersistence(location))
    expired = token(1, "expired", expires_in=-9)
    cache.modify(ACCESS_TOKEN, expired, expired)
    assert secrets_of(cache) == set()
    assert removed == ["expired"]


def test_matching_is_asked_of_ones_own_is_matching(location: Path) -> None:
    class Own(PersistedTokenCache):
        @staticmethod
        def _is_matching(entry: dict[str, Any], *_: Any, **__: Any) -> bool:
            return bool(entry["secret"] == "wanted")

    cache = Own(FilePersistence(location))
    cache.modify(ACCESS_TOKEN, token(1), token(1, "wanted"))
    cache.modify(ACCESS_TOKEN, token(2), token(2, "other"))
    assert secrets_of(cache) == {"wanted"}


def test_a_direct_hit_is_looked_up_by_ones_own_get_access_token(location: Path) -> None:
    class Own(PersistedTokenCache):
        def _get_access_token(self, *arguments: Any, **options: Any) -> Any:
            return {**HIT, "secret": "own"}

    found = list(Own(FilePersistence(location)).search(ACCESS_TOKEN, target=["s"], query=HIT))
    assert found == [{**HIT, "secret": "own"}]


@pytest.mark.parametrize("kind", [msal.TokenCache, msal.SerializableTokenCache])
@pytest.mark.parametrize("autospec", [False, True])
def test_a_patched_search_of_msal_is_used(autospec: bool, kind: type, location: Path) -> None:
    cache = PersistedTokenCache(FilePersistence(location))
    with mock.patch.object(kind, "search", autospec=autospec, return_value=["patched"]) as search:
        found: list[Any] = list(cache.search(ACCESS_TOKEN, query={"a": "b"}))
    assert found == ["patched"]
    given = search.call_args
    assert given.args[autospec:] == (ACCESS_TOKEN,)
    assert given.kwargs == {"query": {"a": "b"}}
    if autospec:
        assert given.args[0] is cache


def test_a_search_that_a_patch_goes_on_to_sees_the_cache(location: Path) -> None:
    cache = PersistedTokenCache(FilePersistence(location))
    cache.add(sign_in(1))
    original = msal.TokenCache.search

    def counted(self: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
        assert isinstance(self, PersistedTokenCache)
        return iter(list(original(self, *arguments, **options)) * 2)

    with mock.patch.object(msal.TokenCache, "search", counted):
        assert len(list(cache.search(ACCESS_TOKEN))) == 2
    assert len(list(cache.search(ACCESS_TOKEN))) == 1


def test_a_search_that_a_class_between_ours_and_msals_has_is_used(location: Path) -> None:
    class Between(msal.TokenCache):  # type: ignore[misc]
        def search(self, *arguments: Any, **options: Any) -> Any:
            return ["between", *super().search(*arguments, **options)]

    class Own(PersistedTokenCache, Between):
        pass

    found: list[Any] = list(Own(FilePersistence(location)).search(ACCESS_TOKEN))
    assert found == ["between"]


# ---- from memory to text, and back ----

KINDS = ["object", "class", "MSAL's class"]


def place_of(where: str, cache: PersistedTokenCache) -> Any:
    """The class or object whose method a test replaces."""
    places = {
        "object": cache,
        "class": PersistedTokenCache,
        "MSAL's class": msal.SerializableTokenCache,
    }
    return places[where]


@pytest.mark.parametrize("where", KINDS)
def test_what_a_replaced_serialize_returns_is_what_is_saved(where: str, location: Path) -> None:
    cache = PersistedTokenCache(FilePersistence(location))
    cache.add(sign_in(1))
    with mock.patch.object(place_of(where, cache), "serialize", return_value='{"a": {}}') as own:
        cache.add(sign_in(2))
    assert own.call_count == 1
    assert location.read_text() == '{"a": {}}'
    cache.add(sign_in(3))
    assert secrets_in(location) == {"access1", "access2", "access3"}


@pytest.mark.parametrize("where", KINDS)
def test_a_replaced_deserialize_is_given_what_is_loaded(where: str, location: Path) -> None:
    PersistedTokenCache(FilePersistence(location)).add(sign_in(1))
    cache = PersistedTokenCache(FilePersistence(location))
    with mock.patch.object(place_of(where, cache), "deserialize") as own:
        assert secrets_of(cache) == set()
    assert own.call_args.args == (location.read_text(),)
    cache._last_sync = 0
    assert secrets_of(cache) == {"access1"}


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_bytes_of_ones_own_load_are_in_an_encoding_that_json_takes(
    encoding: str, tmp_path: Path
) -> None:
    """The encoding is one that json.loads() reads, because MSAL calls it."""

    class Encoded(Own):
        def save(self, content: str) -> None:
            self.place.write_bytes(codecs.encode(content, encoding))

        def load(self) -> Any:
            return codecs.encode(super().load(), encoding)

    place = tmp_path / "cache"
    plain, encoded = Own(place), Encoded(place)
    PersistedTokenCache(plain).add(sign_in(1))
    assert secrets_of(PersistedTokenCache(encoded)) == {"access1"}


# ---- what programs set, override and mock after the cache was made ----


@pytest.mark.parametrize("what", ["persistence", "its location"])
def test_another_persistence_or_location_may_be_set(
    what: str, location: Path, tmp_path: Path
) -> None:
    persistence = FilePersistence(location)
    cache = PersistedTokenCache(persistence)
    cache.add(sign_in(1))
    if what == "persistence":
        cache._persistence = FilePersistence(tmp_path / "second")
    else:
        persistence._location = str(tmp_path / "second")
    cache.add(sign_in(2))
    assert "access2" in secrets_in(tmp_path / "second")
    assert secrets_in(location) == {"access1"}


def test_another_lock_file_may_be_set(location: Path, tmp_path: Path) -> None:
    cache = PersistedTokenCache(FilePersistence(location), tmp_path / "first.lock")
    other = PersistedTokenCache(FilePersistence(location), tmp_path / "first.lock")
    cache._lock_location = str(tmp_path / "second.lock")
    with CrossPlatLock(tmp_path / "first.lock"):
        cache.add(sign_in(1))

    with CrossPlatLock(tmp_path / "second.lock"), ThreadPoolExecutor() as another_thread:
        change = another_thread.submit(lambda: cache.transaction(timeout=0.05).__enter__())
        with pytest.raises(LockError):
            change.result()
    assert secrets_of(other) == {"access1"}


@pytest.mark.parametrize("name", ["save", "load", "time_last_modified"])
@pytest.mark.parametrize("where", ["class", "instance"])
def test_a_method_that_is_mocked_later_is_used_and_later_not(
    name: str, where: str, location: Path
) -> None:
    persistence = FilePersistence(location)
    cache = PersistedTokenCache(persistence)
    cache.add(sign_in(1))
    original = getattr(persistence, name)
    owner: Any = FilePersistence if where == "class" else persistence

    def answer(*arguments: Any) -> Any:
        return original(*arguments)

    for _ in range(2):
        with mock.patch.object(owner, name, side_effect=answer) as mocked:
            cache._last_sync = 0
            cache.add({**sign_in(2), "scope": [f"scope{time.time_ns()}"]})
            assert mocked.called
            mocked.reset_mock()
        cache._last_sync = 0
        cache.add({**sign_in(3), "scope": [f"scope{time.time_ns()}"]})
        assert not mocked.called
    assert {"access1", "access2", "access3"} <= secrets_in(location)


@pytest.mark.parametrize("where", ["class", "instance"])
def test_an_overridden_reload_is_what_looking_up_and_changing_use(
    where: str, location: Path
) -> None:
    """azure-cli overrides it."""
    calls = []
    cache = PersistedTokenCache(FilePersistence(location))
    reload = cache._reload_if_necessary

    def counted(*_: Any) -> None:
        calls.append(1)
        reload()

    owner: Any = PersistedTokenCache if where == "class" else cache
    with mock.patch.object(owner, "_reload_if_necessary", counted):
        cache.add(sign_in(1))
        assert calls
        calls.clear()
        assert secrets_of(cache) == {"access1"}
        assert calls


def test_a_location_may_be_set_to_a_path(location: Path, tmp_path: Path) -> None:
    persistence = FilePersistence(location)
    cache = PersistedTokenCache(persistence)
    persistence._location = tmp_path / "second"  # type: ignore[assignment]
    cache.add(sign_in(1))
    assert secrets_in(tmp_path / "second") == {"access1"}
    assert persistence.load() == (tmp_path / "second").read_text()
    persistence.save("{}")
    persistence.time_last_modified()
    persistence.touch()
    persistence.verify()
    persistence.delete()


def test_no_location_is_asked_for_where_the_lock_location_is_given(tmp_path: Path) -> None:
    class Nowhere(Own):
        def get_location(self) -> str:
            raise NotImplementedError

    cache = PersistedTokenCache(Nowhere(tmp_path / "kept"), tmp_path / "lock")
    cache.add(sign_in(1))
    assert secrets_of(PersistedTokenCache(Nowhere(tmp_path / "kept"), tmp_path / "lock")) == {
        "access1"
    }
