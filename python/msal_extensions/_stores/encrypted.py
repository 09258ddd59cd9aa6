"""An encrypted file as a store.  ``envelope.py`` has its format, ``keys.py`` its keys.

What cannot be opened is never overwritten, with two exceptions.  One is a damaged file of which
copy_aside() has kept a copy.  The other is a file whose key is lost for certain, if the program has
chosen on_lost_key="quarantine": that file is kept as ``<location>.lost``.
"""

from __future__ import annotations

import contextlib
import logging

from .._native import files
from .._store import ABSENT, Content, Lease, Stamp
from ..errors import (
    EncryptedFileDamaged,
    KeyExpired,
    KeyLostAtReboot,
    PersistenceNotFound,
    StoreChanged,
)
from .file import FileStore
from .keys import KeySource
from .vault import Vault, Version

logger = logging.getLogger(__name__)


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

    def prepare(self) -> None:
        if not self._vault.is_quick():
            self._vault.prepare(super().read().data, self.location)

    def is_prepared(self) -> bool:
        vault = self._vault
        return vault.is_quick() or vault.is_prepared(super().read().data, self.location)

    def stamp(self) -> Stamp:
        stamp = super().stamp()
        empty = isinstance(stamp, bytes) and not files.fields_of(stamp).size
        return ABSENT if empty or stamp == self._vault.given_up else stamp

    def read(self) -> Content:
        before, found = self._vault.latest, self._open()
        if found is None:
            return Content(b"", ABSENT)
        secret, version = found
        if version.is_older_than(before):
            logger.warning(
                "%s is older than what this process has read before. Was a backup restored?",
                self.location,
            )
        self._vault.latest = version
        return Content(secret, version.stamp)

    def _open(self) -> tuple[bytes, Version] | None:
        """What is stored; None: nothing, or nothing that anybody can ever open."""
        secret, stamp = super().read()
        if not secret:
            return None
        try:
            text, version = self._vault.open(secret, stamp, self.location)
        except self._absences as error:
            if stamp != self._vault.given_up:
                self._vault.given_up = stamp
                logger.warning("%s", error)
            return None
        return text.text, version

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
        given_up = vault.given_up
        found = self._open()
        if found is not None:
            if found[1].stamp == given_up:  # the key came back, after we took the file for absent
                vault.given_up = None
                if expected is not None:
                    raise StoreChanged(None, "The key of the file is here again", self.location)
            return found[1]
        if secret := super().read().data:
            files.replace(self.location + ".lost", secret)
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

    def rekey(self, source: KeySource | None, *, lease: Lease) -> None:
        """Encrypts the content with a new key: the first one of this source.

        :param source: None: the one that it has.  If its first key is the present one, the source
            makes a new one.
        :raises PersistenceNotFound: when nothing is stored.
        :raises KeyUnavailable: when the source has no other key than the present one.
        :raises LockLost: nothing was stored.
        """
        found, vault = self._open(), self._vault
        if found is None:
            raise PersistenceNotFound(None, "There is nothing to encrypt anew", self.location)
        secret, version = found
        before, source = vault.source, source or version.source
        try:
            if source is not version.source:
                vault.use(source)
            ids = vault.ask(source)
            if ids[:1] == [version.key_id]:
                source.make(ids)
                vault.ask(source)
            vault.latest = version._replace(source=source)
            self.replace(secret, lease=lease, expected=version.stamp)
        except BaseException:
            vault.use(before)
            vault.latest = None
            raise
        if self.read().data != secret:  # before anybody throws the old key away
            raise EncryptedFileDamaged(None, "The store returned something else", self.location)
