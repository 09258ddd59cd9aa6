"""An item of a keyring and a signal file as a store.

The item holds the content.  The file holds nothing: its time tells that the item changed, so a
look costs no call of the keyring.  Somebody may change the item alone: that is another reason for
which a transaction reads it always.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from typing import Protocol

from .._native import files
from .._paths import probe_file
from .._store import Lease
from ..errors import PersistenceError
from .timed import TimedStore


class Item(Protocol):
    """One secret in a keyring."""

    def save(self, secret: bytes) -> bool:
        """Stores it.  False: it is not known whether the keyring has it, so signal nothing."""

    def load(self) -> bytes:
        """:raises PersistenceNotFound: when there is no such item."""

    def delete(self) -> None:
        """No such item is fine."""

    def copy_aside(self, suffix: str) -> str:
        """See ``Store.copy_aside``."""


class SignalFile(Protocol):
    """A file persistence of which only the time counts."""

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

    def load(self) -> bytes:
        return self._item.load()

    def save(self, secret: bytes) -> None:
        _check_signal(self._signal)
        if self._item.save(secret):
            self._signal.touch()

    def delete(self, *, lease: Lease | None) -> None:
        self._item.delete()
        self._signal.delete()

    def copy_aside(self, suffix: str) -> str:
        return self._item.copy_aside(suffix)


def _check_signal(signal: SignalFile) -> None:
    """Raises what touch() after a save would raise; before it, so that nothing is half done.

    The time must move after the save, or others would read too early.  It moves here as well
    only where the file may turn out to be none that touch() accepts.
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
