"""A file and a cipher as a store: the file holds the content encrypted."""

from __future__ import annotations

from typing import Protocol

from .._native import files
from .._store import ABSENT, Content, Lease, Stamp
from .file import FileStore


class Cipher(Protocol):
    """Encrypts and decrypts whole contents."""

    def seal(self, secret: bytes, location: str) -> bytes:
        """Encrypts what is to be stored in this location."""

    def open(self, secret: bytes, location: str) -> bytes:
        """Decrypts what was stored in this location.

        :raises PersistenceDecryptionError: when it cannot.
        """


class SealedStore(FileStore):
    """See ``Store``: saved under the lease, and known by its stamp, like a plain file."""

    def __init__(self, location: str, lock_location: str, cipher: Cipher) -> None:
        super().__init__(location, lock_location)
        self._cipher = cipher

    def stamp(self) -> Stamp:
        stamp = super().stamp()
        # Node makes an empty file; .NET, Java and Go read one as "no data".
        return ABSENT if isinstance(stamp, bytes) and not files.fields_of(stamp).size else stamp

    def read(self) -> Content:
        secret, stamp = super().read()
        if not secret:  # see stamp()
            return Content(b"", ABSENT)
        return Content(self._cipher.open(secret, self.location), stamp)

    def replace(self, data: bytes, *, lease: Lease | None, expected: Stamp | None) -> Content:
        secret, data = data, b""
        sealed = self._cipher.seal(secret, self.location)
        return Content(secret, super().replace(sealed, lease=lease, expected=expected).stamp)
