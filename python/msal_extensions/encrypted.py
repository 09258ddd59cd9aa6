"""Encrypted files, for machines without a keyring: servers, containers, jobs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

from ._base import BasePersistence, modified_at, not_initialized, prove
from ._native import files
from ._paths import expand, location_of, make_directories
from ._references import ARGUMENT
from ._store import ABSENT
from ._store_of import register
from ._stores.encrypted import EncryptedStore
from ._stores.envelope import encoded
from ._stores.kernel_key import KernelKey as KernelKey
from ._stores.key_file import CredentialKey as CredentialKey
from ._stores.key_file import KeyFile as KeyFile
from ._stores.keys import CommandKey as CommandKey
from ._stores.keys import KeySource, source_of
from ._stores.keys import Protection as Protection
from ._stores.vault import Vault
from ._text import decode, encode
from .errors import (
    EncryptedFileDamaged,
    EncryptedFileUnknown,
    NotEncrypted,
    PersistenceNotFound,
)

Key = bytes | Mapping[str, bytes] | Callable[[], "bytes | Mapping[str, bytes]"] | KeySource


class EncryptedFilePersistence(BasePersistence):
    """Text in a file, encrypted by AES-256-GCM with a key that is elsewhere.

    The file protects from people and programs that get the file alone: a backup, a stolen disk, a
    layer of a container.  It does not protect from programs of the same user or of root.  See
    docs/encrypted-file.md for the format and for what is not promised.

    :param location: The file; ``~`` is expanded, missing directories are made (0700).
    :param key: One of

        - 32 bytes, or a mapping of ids to such keys: the first one encrypts, the others open what
          was encrypted before; or a callable without arguments that returns one of these;
        - a :class:`KeyFile`, :class:`CommandKey`, :class:`CredentialKey` or :class:`KernelKey`;
        - None: a file that exists stays with the source of its key.  A new file takes the key file
          that the environment variable MSAL_EXTENSIONS_KEY_FILE names, else the systemd credential
          ``msal-extensions-key``, else the kernel keyring.
    :param name: What the file is for.  A file opens under this name only, so nobody can put one
        cache in the place of another.  Default: the last part of ``location``.
    :param on_lost_key: "raise", or "quarantine": when the kernel has lost the key, by a reboot or
        because nobody used it for days, keep the file as ``<location>.lost`` (one file, which is
        replaced), log a warning, and start empty.  Every other missing key raises in both cases,
        because it may come back.
    :raises KeyUnavailable: (a PersistenceUnavailable) when the source of the key is not here.
    :raises KeyFileNotTrusted: when others may read or change the key file.
    :raises ValueError: when ``key`` is no key, or the last part of ``location`` is no text and
        there is no ``name``.

    A load raises a subclass of :class:`KeyLost` when the key is not here, an
    :class:`EncryptedFileDamaged` when the file was changed, and a :class:`NotEncrypted` when it is
    plain text.  A save raises the same: it overwrites nothing that it cannot open.
    """

    #: What the encryption is worth.
    protection: Protection

    def __init__(
        self,
        location: str | os.PathLike[str],
        key: Key | None = None,
        *,
        name: str | None = None,
        on_lost_key: Literal["raise", "quarantine"] = "raise",
    ) -> None:
        if on_lost_key not in ("raise", "quarantine"):
            raise ValueError(ARGUMENT.after('on_lost_key must be "raise" or "quarantine"'))
        self._location = expand(location_of(location))
        self._gives_up = on_lost_key == "quarantine"
        name = name or os.path.basename(self._location)
        encoded(name)  # a ValueError now, and not at the first save
        self._vault = Vault(None if key is None else source_of(key), name)
        make_directories(os.path.dirname(self._location))
        self._store = self.store("")
        self._judge()

    def _judge(self) -> None:
        """Finds out whether the key can be had, and what it is worth."""
        try:
            content, _ = files.read(self._location)
            source = self._vault.source_for(content, self._location)
        except (PersistenceNotFound, EncryptedFileDamaged, EncryptedFileUnknown, NotEncrypted):
            source = self._vault.source_for(b"", self._location)  # load() will tell the rest
        if source.is_quick:
            self._vault.ask(source)  # and keeps the keys for the first load
        else:
            source.check()
        self.protection = source.protects(self._location)
        self.is_encrypted = self.protection is not Protection.BESIDE

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy has no keys in memory.  It asks the same source."""
        arguments = self._location, self._vault.source, self._vault.name, self._gives_up
        return _remake, (type(self), *arguments)

    def save(self, content: str) -> None:
        secret, content = content, ""
        self._store.replace(encode(secret), lease=None, expected=None)

    def load(self) -> str:
        secret, stamp = self._store.read()
        if stamp is ABSENT:
            raise not_initialized(self._location)
        return decode(secret, self._location)

    def time_last_modified(self) -> float:
        return modified_at(self._location)

    def get_location(self) -> str:
        return self._location

    def delete(self) -> None:
        self._store.delete(lease=None)

    def verify(self) -> None:
        source = self._vault.source
        prove(self._location, lambda place, _: EncryptedFilePersistence(place, source))

    def store(self, lock_location: str) -> EncryptedStore:
        """For the token cache: the store behind this persistence."""
        return EncryptedStore(self._location, lock_location, self._vault, self._gives_up)

    def rekey(
        self,
        key: Key | None = None,
        *,
        lock_location: str | os.PathLike[str] | None = None,
        timeout: float = 5.0,
    ) -> None:
        """Encrypts the content with a new key, under the lock of the cache.

        The old key is not removed: other files, and copies of this one, may need it.

        :param key: None: a new key of the same source.  The kernel keyring makes one; into a key
            file, a mapping and the like you have to put one first, before the old one.
        :param lock_location: As for :class:`PersistedTokenCache`.
        :param timeout: Seconds to wait for the lock.
        :raises LockError: when the time is over; as a LockLost when somebody has removed the lock
            file.
        :raises PersistenceNotFound: when nothing is stored.
        :raises KeyUnavailable: when the source has no new key.
        """
        lock = expand(os.fsdecode(lock_location or self._location + ".lockfile"))
        source = self._vault.source if key is None else source_of(key)
        vault, store = Vault(source, self._vault.name), self.store(lock)
        store.prepare()  # before the lock, and so is the next one: they may take seconds
        if source is not None:
            vault.ask(source)
        lease = store.commit_lock.acquire(timeout)
        try:
            store.rekey(vault, lease=lease)
        finally:
            lease.release()
        self._vault = vault
        self._store = self.store("")
        self._judge()


def _remake(
    kind: type[EncryptedFilePersistence],
    location: str,
    source: KeySource | None,
    name: str,
    gives_up: bool,
) -> EncryptedFilePersistence:
    on_lost_key: Literal["raise", "quarantine"] = "quarantine" if gives_up else "raise"
    return kind(location, source, name=name, on_lost_key=on_lost_key)


register(EncryptedFilePersistence, EncryptedFilePersistence.store, "_location", "_vault")
