"""A file and a cipher as a store: the file holds the encrypted content."""

from __future__ import annotations

from typing import Protocol

from .._store import ABSENT, Content, Lease, Stamp
from .file import FileStore, absent_if_empty


class Cipher(Protocol):
    """Encrypts and decrypts whole contents."""

    def seal(self, secret: bytes, location: str) -> bytes:
        """Encrypts a content for this location."""

    def open(self, secret: bytes, location: str) -> bytes:
        """Decrypts the content of this location.

        :raises PersistenceDecryptionError: when that fails.
        """


class SealedStore(FileStore):
    """See ``Store``.  Lease and stamps are those of the file, as for a plain one."""

    def __init__(self, location: str, lock_location: str, cipher: Cipher) -> None:
        super().__init__(location, lock_location)
        self._cipher = cipher

    def stamp(self) -> Stamp:
        return absent_if_empty(super().stamp())

    def read(self) -> Content:
        secret, stamp = super().read()
        if not secret:  # see stamp()
            return Content(b"", ABSENT)
        return Content(self._cipher.open(secret, self.location), stamp)

    def replace(self, data: bytes, *, lease: Lease | None, expected: Stamp | None) -> Content:
        secret, data = data, b""
        sealed = self._cipher.seal(secret, self.location)
        return Content(secret, super().replace(sealed, lease=lease, expected=expected).stamp)
