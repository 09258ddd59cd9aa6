"""Persistences that a program could write, and one of ours with a cipher of the tests."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from msal_extensions import (
    FilePersistence,
    FilePersistenceWithDataProtection,
    PersistenceError,
    PersistenceNotFound,
)
from msal_extensions._text import encode
from msal_extensions.persistence import BasePersistence

KEY = bytes(range(32))


class Own(BasePersistence):
    """A file that the program writes itself and in place, as 1.3.1 does."""

    def __init__(self, location: str | os.PathLike[str]) -> None:
        if not location:
            raise ValueError("Requires a file path")
        self.place = Path(location)

    def save(self, content: str) -> None:
        self.place.write_bytes(encode(content))

    def load(self) -> str:
        try:
            return self.place.read_bytes().decode()
        except FileNotFoundError:
            raise PersistenceNotFound from None

    def time_last_modified(self) -> float:
        try:
            return os.path.getmtime(self.place)
        except FileNotFoundError:
            raise PersistenceNotFound from None

    def get_location(self) -> str:
        return str(self.place)

    def delete(self) -> None:
        self.place.unlink(missing_ok=True)


class Forgetful(Own):
    """Its load() returns None for "nothing stored", and its time never changes."""

    modified = math.inf

    def load(self) -> Any:
        try:
            return super().load()
        except PersistenceNotFound:
            return None

    def time_last_modified(self) -> float:
        return self.modified


class NoNumber(Forgetful):
    """Its time equals nothing, not even itself."""

    modified = math.nan


class Duck:
    """Inherits from no class of ours, and has no get_location(): it needs a lock_location."""

    is_encrypted = False

    def __init__(self, location: str | os.PathLike[str]) -> None:
        own = Own(location)
        self.save, self.load = own.save, own.load
        self.time_last_modified = own.time_last_modified


def mocked(location: str | os.PathLike[str]) -> Any:
    """A mock with the spec of a class of ours."""
    own, persistence = Own(location), mock.Mock(spec=FilePersistence)
    for name in ("save", "load", "time_last_modified", "get_location", "delete"):
        getattr(persistence, name).side_effect = getattr(own, name)
    persistence.is_encrypted = False
    return persistence


class AesAgent:
    """Takes the place of DPAPI's agent: a real cipher with the same methods."""

    def protect(self, message: str) -> bytes:
        secret, message = message, ""
        nonce = os.urandom(12)
        return nonce + AESGCM(KEY).encrypt(nonce, secret.encode(), None)

    def unprotect(self, cipher_text: bytes) -> str:
        nonce, sealed = cipher_text[:12], cipher_text[12:]
        return AESGCM(KEY).decrypt(nonce, sealed, None).decode()


class Sealed(FilePersistenceWithDataProtection):
    """The sealed file of Windows, on systems that are not Windows."""

    def __init__(self, location: str | os.PathLike[str]) -> None:
        FilePersistence.__init__(self, location)
        self._dp_agent: Any = AesAgent()

    def verify(self) -> None:
        raise PersistenceError(None, "its probe would need Windows")
