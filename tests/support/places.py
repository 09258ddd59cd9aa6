"""All the stores that this machine can offer, for the tests of the cache over each of them.

Import place_fixture into a test module to run a test on each store; or call place_of() for one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from msal_extensions import (
    EncryptedFilePersistence,
    FilePersistence,
    LibsecretPersistence,
    PersistedTokenCache,
)
from msal_extensions._store import Store
from msal_extensions._store_of import store_of
from tests.support.dictionary_store import DictionaryPersistence, Shelf
from tests.support.own_persistences import Duck, Forgetful, NoNumber, Own, Sealed, mocked

OWN: dict[str, Callable[[Path], Any]] = {
    "own": Own,
    "forgetful": Forgetful,
    "no number": NoNumber,
    "duck": Duck,
    "mock": mocked,
}
KINDS: dict[str, Callable[[Path], Any]] = {
    "file": FilePersistence,
    "sealed": Sealed,
    "encrypted": partial(EncryptedFilePersistence, key=bytes(range(32))),
    "libsecret": LibsecretPersistence,
    **OWN,
}


class Place(NamedTuple):
    """One content in one kind of store."""

    kind: str
    #: Makes another object for the same content.
    persistence: Callable[[], Any]
    lock_location: str
    #: Only for a dictionary.
    shelf: Shelf | None

    def store(self) -> Store:
        return store_of(self.persistence(), self.lock_location)

    def cache(self, **options: Any) -> PersistedTokenCache:
        return PersistedTokenCache(self.persistence(), self.lock_location, **options)

    def rob(self) -> None:
        """Takes the commit lock away from its holder."""
        if self.shelf is not None:
            self.shelf.commit.steal()
        else:
            os.unlink(self.lock_location)


def place_of(kind: str, directory: Path, request: pytest.FixtureRequest) -> Place:
    """A new place in this directory."""
    location, lock, shelf = directory / "cache", str(directory / "lockfile"), Shelf()
    if kind == "dictionary":
        return Place(kind, lambda: DictionaryPersistence(str(location), shelf), lock, shelf)
    if kind == "libsecret":
        monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        for name, value in request.getfixturevalue("keyring_session").variables.items():
            monkeypatch.setenv(name, value)
    return Place(kind, lambda: KINDS[kind](location), lock, None)


@pytest.fixture(params=[*KINDS, "dictionary"], name="place")
def place_fixture(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    found = place_of(request.param, tmp_path, request)
    yield found
    if found.kind == "libsecret":  # the keyring outlives the test
        found.persistence().delete()
