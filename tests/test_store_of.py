"""store_of() gives each persistence the store that fits it at this moment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from msal_extensions._store_of import StoreMemo
from msal_extensions._stores.encrypted import EncryptedStore
from msal_extensions._stores.file import FileStore
from msal_extensions._stores.own import OwnStore
from msal_extensions._stores.sealed import SealedStore
from msal_extensions._stores.signalled import SignalledStore
from tests.support.capability import cannot_exist_here
from tests.support.dictionary_store import DictionaryPersistence, DictionaryStore, Shelf
from tests.support.places import OWN, Place, place_of
from tests.support.places import place_fixture as place_fixture
from tests.support.tokens import secrets_of, sign_in


def test_each_kind_has_its_store(place: Place) -> None:
    known: dict[str, type] = {
        "file": FileStore,
        "sealed": SealedStore,
        "encrypted": EncryptedStore,
        "libsecret": SignalledStore,
        "dictionary": DictionaryStore,
        **dict.fromkeys(OWN, OwnStore),
    }
    assert type(place.store()) is known[place.kind]


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("file", "_location"),
        ("sealed", "_location"),
        ("sealed", "_dp_agent"),
        ("libsecret", "_agent"),
        ("libsecret", "_file_persistence"),
        ("dictionary", "_location"),
        ("dictionary", "_shelf"),
    ],
)
def test_another_part_of_the_persistence_is_another_store(
    kind: str, part: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = place_of(kind, tmp_path, request)
    (tmp_path / "other").mkdir()
    other = getattr(place_of(kind, tmp_path / "other", request).persistence(), part)
    persistence, memo = place.persistence(), StoreMemo()
    store = memo.of(persistence, place.lock_location)
    before = getattr(persistence, part)
    setattr(persistence, part, other)
    changed = memo.of(persistence, place.lock_location)
    assert changed is not store
    setattr(persistence, part, before)
    assert memo.of(persistence, place.lock_location) is not changed


@pytest.mark.parametrize("method", ["save", "load", "time_last_modified"])
@pytest.mark.parametrize("where", ["object", "class"])
def test_a_mocked_method_is_asked_and_afterwards_ours(
    method: str, where: str, place: Place
) -> None:
    """The name says "afterwards": saved under the lease again, and trusted by its exact stamp."""
    if place.kind in ("mock", "duck") and where == "class":
        cannot_exist_here("a class whose objects have the methods, and not it")
    persistence, memo = place.persistence(), StoreMemo()
    store = memo.of(persistence, place.lock_location)
    store.replace(b"stored", lease=None, expected=None)
    called = []

    def mocked(*arguments: Any) -> Any:
        called.append(arguments)
        return {"load": "of the mock", "time_last_modified": 5.0}.get(method)

    target: Any = persistence if where == "object" else type(persistence)
    with mock.patch.object(target, method, mocked):
        changed = memo.of(persistence, place.lock_location)
        assert type(changed) is OwnStore
        content = changed.read()
        changed.replace(b"saved", lease=None, expected=None)
        assert called
        assert content.data == (b"of the mock" if method == "load" else b"stored")
        assert method != "time_last_modified" or content.stamp == 5.0
    again = memo.of(persistence, place.lock_location)
    assert type(again) is type(store)
    assert memo.of(persistence, place.lock_location) is again


def test_a_cache_asks_at_each_use(place: Place, tmp_path: Path) -> None:
    """Programs set ``_persistence`` and ``_lock_location``."""
    cache = place.cache()
    cache.add(sign_in(1))
    cache._persistence = DictionaryPersistence("shelf", Shelf())
    cache.add(sign_in(2))
    assert "access2" in secrets_of(cache)
    assert secrets_of(place.cache()) == {"access1"}
    cache._persistence = place.persistence()
    assert secrets_of(cache) == {"access1"}
    cache._lock_location = str(tmp_path / "another.lock")
    with cache.transaction():
        # The lock of a shelf belongs to the shelf, whatever lock file is named.
        assert os.path.exists(tmp_path / "another.lock") == (place.shelf is None)
        assert not os.path.exists(place.lock_location)
