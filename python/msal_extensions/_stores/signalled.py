"""An item of a keyring, together with a signal file, as a store.

The item holds the content.  The file is empty: its time shows that the item has changed, so a
search need not call the keyring.  Other programs may change the item without the file, and
azure-identity has two files for one item.  That is one reason why a transaction always reads the
item, even if there is no file yet.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from typing import Protocol

from .._native import files
from .._paths import probe_file
from .._store import Lease, Stamp
from ..errors import PersistenceError
from .timed import TimedStore


class Item(Protocol):
    """One secret in a keyring."""

    def save(self, secret: bytes) -> bool:
        """Stores the secret.

        :returns: False: nobody knows whether the keyring has stored it, so there is no signal.
        """

    def load(self) -> bytes:
        """:raises PersistenceNotFound: when there is no such item."""

    def prepare(self) -> None:
        """Asks what the keyring may have to ask a person, so that a load() just after this need
        not ask."""

    def delete(self) -> None:
        """Removes the item.  It is no error when there is none."""

    def copy_aside(self, suffix: str) -> str:
        """See ``Store.copy_aside``."""


class SignalFile(Protocol):
    """A file persistence; only its time is used."""

    def get_location(self) -> str: ...

    def time_last_modified(self) -> float: ...

    def touch(self) -> None: ...

    def delete(self) -> None: ...


class SignalledStore(TimedStore):
    """See ``Store``."""

    def __init__(self, signal: SignalFile, item: Item, lock_location: str) -> None:
        super().__init__(lock_location)
        self.location = signal.get_location()
        self._signal = signal
        self._item = item

    def time(self) -> float:
        return self._signal.time_last_modified()

    def prepare(self) -> None:
        self._item.prepare()

    def load(self) -> bytes:
        return self._item.load()

    def believes_absence(self) -> bool:
        """A search does, so that it need not call the keyring."""
        return not self.commit_lock.is_mine()

    def save(self, secret: bytes, expected: Stamp | None) -> None:
        check_signal(self._signal)
        if self._item.save(secret):
            self._signal.touch()

    def delete(self, *, lease: Lease | None) -> None:
        self._item.delete()
        self._signal.delete()

    def copy_aside(self, suffix: str) -> str:
        return self._item.copy_aside(suffix)


def check_signal(signal: SignalFile) -> None:
    """Raises before a save what touch() would raise after it, so that nothing is half done.

    The time must change after the save, or other processes would read too early.  Here it changes
    only when nothing but touch() can tell whether touch() accepts the file.
    """
    location = signal.get_location()
    try:
        found = os.stat(location)
    except FileNotFoundError:  # can it be made?
        probe = probe_file(location, secrets.token_hex(8))
        files.create(probe, b"")
        with contextlib.suppress(PersistenceError):
            files.delete(probe)
    except OSError:
        signal.touch()
    else:
        ours = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
        direct = os.path.realpath(location) == os.path.abspath(location)
        effective = os.access in os.supports_effective_ids
        writable = os.access(location, os.W_OK, effective_ids=effective)
        if not (ours and direct and writable and stat.S_ISREG(found.st_mode)):
            signal.touch()
