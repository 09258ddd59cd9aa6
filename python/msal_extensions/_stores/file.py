"""A plain file as a store: the bytes of the file are the content."""

from __future__ import annotations

import contextlib
import os

from .._native import files
from .._store import ABSENT, Content, Lease, Stamp, StoreLock, Watch, require_held
from ..errors import PersistenceNotFound
from ..lock import FileLock, native_lock_of


class LocalStore:
    """The common part of all stores on this machine: their locks are lock files.

    :param lock_location: The lock file.  Its holder may change the content.
    """

    #: The file that holds the content, or signals a change of it.
    location: str
    #: Longer than one tick of any kernel's clock, then of any file system's clock (FAT: 2 s).
    settles_after: tuple[float, ...] = (0.05, 2.0)

    def __init__(self, lock_location: str) -> None:
        self.commit_lock: StoreLock = FileLock(lock_location)
        self.flight_lock: StoreLock = FileLock(lock_location + ".refresh")

    def prepare(self) -> None:
        """Does nothing: a file asks no person."""

    def is_prepared(self) -> bool:
        """See ``Store.is_prepared``."""
        return True

    def watch(self) -> Watch:
        """See ``Store.watch``."""
        from .._native import watch  # imported here, because few programs use it

        return watch.Watch(os.path.abspath(self.location))


def absent_if_empty(stamp: Stamp) -> Stamp:
    """The stamp of an encrypted file, where an empty one counts as absent.

    MSAL Node makes an empty file.  .NET, Java and Go take an empty file for "no data".
    """
    empty = isinstance(stamp, bytes) and not files.fields_of(stamp).size
    return ABSENT if empty else stamp


class FileStore(LocalStore):
    """See ``Store``.  C checks the lease just before the rename: ``files.replace``."""

    def __init__(self, location: str, lock_location: str) -> None:
        super().__init__(lock_location)
        self.location = os.fspath(location)  # programs may have set a Path
        self._swept = False

    def stamp(self) -> Stamp:
        try:
            return files.stat(self.location)
        except PersistenceNotFound:
            return ABSENT

    @property
    def stamp_proves(self) -> bool:
        """False on network file systems and FUSE: this kernel may show an old stamp there."""
        return not files.is_remote(self.location)

    def read(self) -> Content:
        try:
            return Content(*files.read(self.location))
        except PersistenceNotFound:
            return Content(b"", ABSENT)

    def replace(self, data: bytes, *, lease: Lease | None, expected: Stamp | None) -> Content:
        secret, data = data, b""
        guard = None if lease is None else native_lock_of(lease)
        stamp = files.replace(self.location, secret, guard)
        if not self._swept:
            self._swept = True
            files.sweep(self.location)
        require_held(lease)  # between C's check and the rename another holder may have saved
        return Content(secret, stamp)

    def delete(self, *, lease: Lease | None) -> None:
        with contextlib.suppress(PersistenceNotFound):
            files.delete(self.location)

    def copy_aside(self, suffix: str) -> str:
        secret, _ = files.read(self.location)  # a sealed file is copied sealed
        files.create(self.location + suffix, secret)
        return self.location + suffix
