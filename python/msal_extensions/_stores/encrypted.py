"""An encrypted file as a store.  ``envelope.py`` has its format, ``keys.py`` its keys.

What cannot be opened is never overwritten, with two exceptions.  One is a damaged file of which
copy_aside() has kept a copy.  The other is a file whose key is lost for certain, if the program has
chosen on_lost_key="quarantine": that file is kept as ``<location>.lost``.
"""

from __future__ import annotations

import contextlib
import logging
from typing import NamedTuple

from .._native import files
from .._references import NOT_KEPT
from .._store import ABSENT, Content, Lease, Stamp
from ..errors import (
    EncryptedFileDamaged,
    KeyExpired,
    KeyLostAtReboot,
    PersistenceNotFound,
    StoreChanged,
    referring,
)
from .file import FileStore, absent_if_empty
from .vault import Vault, Version

logger = logging.getLogger(__name__)


class _Opened(NamedTuple):
    """What one look has found.  A second look may find what another process has saved since."""

    text: bytes = b""
    version: Version | None = None  #: None: nothing is stored, or it counts as absent
    lost: bytes = b""  #: the file that counts as absent


class EncryptedStore(FileStore):
    """See ``Store``.  Lease and stamps are those of the file, as for a plain one.

    :param vault: Belongs to the persistence, and outlives this store.
    :param gives_up: Whether a file whose key is lost for certain counts as absent.
    """

    def __init__(self, location: str, lock_location: str, vault: Vault, gives_up: bool) -> None:
        super().__init__(location, lock_location)
        self._vault = vault
        #: Errors after which a file counts as absent.
        self._absences = (KeyLostAtReboot, KeyExpired) if gives_up else ()

    @property
    def generation(self) -> int | None:
        """How often the file was saved, by what this process has read or saved last."""
        return self._vault.latest.generation if self._vault.latest else None

    def prepare(self) -> None:
        if not self._vault.is_quick():
            self._vault.prepare(super().read().data, self.location)

    def is_prepared(self) -> bool:
        vault = self._vault
        return vault.is_quick() or vault.is_prepared(super().read().data, self.location)

    def stamp(self) -> Stamp:
        stamp = absent_if_empty(super().stamp())
        return ABSENT if stamp == self._vault.given_up else stamp

    def read(self) -> Content:
        before, secret = self._vault.latest, self._open()
        version = secret.version
        if version is None:
            return Content(b"", ABSENT)
        if version.is_older_than(before):
            logger.warning(
                "%s is older than what this process has read before. Was a backup restored?",
                self.location,
            )
        self._vault.latest = version
        return Content(secret.text, version.stamp)

    def _open(self) -> _Opened:
        """Reads the file once, and decrypts it."""
        secret, stamp = super().read()
        if not secret:
            return _Opened()
        try:
            return _Opened(*self._vault.open(secret, stamp, self.location))
        except self._absences as error:
            if stamp != self._vault.given_up:
                self._vault.given_up = stamp
                what_happened = str(error.strerror).partition(". ")[0]
                logger.warning(
                    "%s. %s counts as absent now; the next save keeps it as %s.lost",
                    *(what_happened, self.location, self.location),
                )
            return _Opened(lost=secret)

    def replace(self, data: bytes, *, lease: Lease | None, expected: Stamp | None) -> Content:
        secret, data = data, b""
        before = self._version_to_replace(expected)
        version = before._replace(generation=before.generation + 1)
        sealed = self._vault.seal(secret, version)
        stamp = super().replace(sealed, lease=lease, expected=expected).stamp
        self._vault.latest = version._replace(stamp=stamp)
        return Content(secret, stamp)

    def _version_to_replace(self, expected: Stamp | None) -> Version:
        vault, stamp = self._vault, super().stamp()
        if stamp is not ABSENT and vault.latest is not None and vault.latest.stamp == stamp:
            return vault.latest
        if stamp is not ABSENT and stamp == vault.copied:
            return vault.fresh(self.location)
        given_up, secret = vault.given_up, self._open()
        version = secret.version
        if version is not None:
            if version.stamp == given_up:  # the key came back, after the file counted as absent
                vault.given_up = None
                if expected is not None:
                    raise StoreChanged(None, "The key of the file is here again", self.location)
            return version
        if secret.lost:
            files.replace(self.location + ".lost", secret.lost)
        return vault.fresh(self.location)

    def delete(self, *, lease: Lease | None) -> None:
        super().delete(lease=lease)
        with contextlib.suppress(PersistenceNotFound):
            files.delete(self.location + ".lost")

    def copy_aside(self, suffix: str) -> str:
        stamp = super().stamp()
        where = super().copy_aside(suffix)
        self._vault.copied = stamp
        return where

    def rekey(self, vault: Vault, *, lease: Lease) -> None:
        """Encrypts the content with another key: the first one of this vault.

        From then on this store uses that vault.

        :raises PersistenceNotFound: when nothing is stored.
        :raises KeyUnavailable: when the vault has no other key than the present one.
        """
        secret = self._open()
        version = secret.version
        if version is None:
            raise PersistenceNotFound(None, "There is nothing to encrypt anew", self.location)
        source = vault.source or version.source
        vault.make_another(source, version.key_id)
        vault.latest = version._replace(source=source)
        self._vault = vault
        self.replace(secret.text, lease=lease, expected=version.stamp)
        if self.read().data != secret.text:  # before anybody throws the old key away
            words = "The store returned something else than was saved."
            raise referring(EncryptedFileDamaged(None, words, self.location), NOT_KEPT)
