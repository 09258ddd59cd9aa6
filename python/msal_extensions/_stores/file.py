"""A plain file as a store: what is in the file is the content."""

from __future__ import annotations

import contextlib
import os

from .._native import files
from .._store import ABSENT, Content, Lease, Stamp, StoreLock, Watch, require_held
from ..errors import PersistenceNotFound
from ..lock import FileLock, native_lock_of


class LocalStore:
    """What all stores of this machine have in common: lock files.

    :param lock_location: The lock file, whose holder may change the content.
    """

    #: The file that holds the content, or signals a change of it.
    location: str
    #: After a tick of any kernel's clock, and after one of any file system's (FAT: 2 s).
    settles_after: tuple[float, ...] = (0.05, 2.0)

    def __init__(self, lock_location: str) -> None:
        self.commit_lock: StoreLock = FileLock(lock_location)
        self.flight_lock: StoreLock = FileLock(lock_location + ".refresh")

    def prepare(self) -> None:
        """Nothing here asks a person."""

    def watch(self) -> Watch:
        """See ``Store.watch``."""
        from .._native import watch  # few programs ask

        return watch.Watch(os.path.abspath(self.location))


class FileStore(LocalStore):
    """See ``Store``.  The look at the lease and the rename are one step in C: ``files.replace``."""

    def __init__(self, location: str, lock_location: str) -> None:
        super().__init__(lock_location)
        self.location = os.fspath(location)  # programs set a Path, too
        self._swept = False

    def stamp(self) -> Stamp:
        try:
            return files.stat(self.location)
        except PersistenceNotFound:
            return ABSENT

    @property
    def stamp_proves(self) -> bool:
        """Not on a network file system, nor on FUSE: another mount of it may show another."""
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
        require_held(lease)  # between that look and the rename another holder may have saved
        return Content(secret, stamp)

    def delete(self, *, lease: Lease | None) -> None:
        with contextlib.suppress(PersistenceNotFound):
            files.delete(self.location)

    def copy_aside(self, suffix: str) -> str:
        secret, _ = files.read(self.location)  # of a sealed file: as it is
        files.create(self.location + suffix, secret)
        return self.location + suffix
