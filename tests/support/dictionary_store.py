"""A dictionary with versions as a store.  It proves the interface of stores before a database does.

Compare-and-swap on a random version decides which save counts.  The lock only makes the swap
succeed, and a test can steal it.  No file of python/ knows this store: it is registered here, as
any store is.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
import weakref
from collections.abc import Callable

from msal_extensions._holding import current_task
from msal_extensions._store import ABSENT, Content, Lease, Stamp
from msal_extensions._store_of import register
from msal_extensions._text import encode
from msal_extensions.errors import (
    LockError,
    PersistenceFileExists,
    PersistenceNotFound,
    StoreChanged,
)
from msal_extensions.persistence import BasePersistence


class Shelf:
    """The content that several persistences share, as they would share a database.

    :param steals: The share of saves before which the lock is stolen.
    """

    def __init__(self, steals: float = 0.0, seed: int = 0) -> None:
        self.data = b""
        self.version: Stamp = ABSENT
        self.changed = threading.Condition()
        self.commit, self.flight = ShelfLock(), ShelfLock()
        self.kept: dict[str, bytes] = {}
        self.steals = steals
        self.chance = random.Random(seed)
        self.refused = 0  # swaps that failed
        self.prepared = 0
        self.overtaken = 0  # how often is_prepared() says no

    def put(self, data: bytes) -> Stamp:
        """Call it under ``changed``."""
        self.data, self.version = data, secrets.token_bytes(16)
        self.changed.notify_all()
        return self.version

    def remove(self) -> None:
        """Call it under ``changed``."""
        self.data, self.version = b"", ABSENT
        self.changed.notify_all()


class ShelfLease:
    """See ``Lease``."""

    def __init__(self, lock: ShelfLock) -> None:
        self._lock, self._over = lock, False
        self.thread = threading.get_ident()
        self.task = current_task()

    def still_held(self) -> bool:
        return not self._over and self._lock.holder is self

    def release(self) -> None:
        self._over = True
        self._lock.drop(self)


class ShelfLock:
    """A ``StoreLock`` between threads; the lease that was given last holds it.

    The lock has only a weak reference to the lease, so a lease that nobody keeps is over.
    """

    def __init__(self) -> None:
        self._note: weakref.ref[ShelfLease] | None = None
        self._free = threading.Condition()

    @property
    def holder(self) -> ShelfLease | None:
        note = self._note
        return None if note is None else note()

    def acquire(self, timeout: float) -> Lease:
        with self._free:
            holder = self.holder
            if holder is not None and holder.thread == threading.get_ident():
                return Joined(holder)
            if not self._free.wait_for(
                lambda: self.holder is None,
                timeout if 0 <= timeout < threading.TIMEOUT_MAX else None,
            ):
                raise LockError("held by another thread")
            lease = ShelfLease(self)
            self._note = weakref.ref(lease, self._wake)
            return lease

    def is_mine(self) -> bool:
        holder = self.holder
        return holder is not None and holder.thread == threading.get_ident()

    def is_of_another_task(self) -> bool:
        holder = self.holder
        task = None if holder is None or not self.is_mine() else holder.task
        return task is not None and not task.done() and task is not current_task()

    def others_inside(self) -> bool:
        holder = self.holder
        return holder is not None and holder.thread != threading.get_ident()

    def drop(self, lease: ShelfLease) -> None:
        with self._free:
            if self.holder is lease:
                self._note = None
                self._free.notify()

    def steal(self) -> None:
        """Takes the lock away from its holder, so that others may enter."""
        with self._free:
            self._note = None
            self._free.notify()

    def _wake(self, _: object) -> None:
        with self._free:
            self._free.notify()


class Joined:
    """The lease of a thread that is already inside: the outer lease gives the lock back."""

    def __init__(self, outer: ShelfLease) -> None:
        self._outer = outer

    def still_held(self) -> bool:
        return self._outer.still_held()

    def release(self) -> None:
        pass


class ShelfWatch:
    """See ``Watch``."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf, self._seen = shelf, shelf.version

    def wait(self, timeout_ms: int) -> bool:
        with self._shelf.changed:
            changed = self._shelf.changed.wait_for(
                lambda: self._shelf.version != self._seen, timeout_ms / 1000
            )
            self._seen = self._shelf.version
            return changed

    def close(self) -> None:
        pass


class DictionaryStore:
    """See ``Store``."""

    settles_after: tuple[float, ...] = ()
    stamp_proves = True

    def __init__(self, shelf: Shelf, location: str) -> None:
        self.location = location
        self.commit_lock, self.flight_lock = shelf.commit, shelf.flight
        self._shelf = shelf

    def prepare(self) -> None:
        assert not self.commit_lock.is_mine(), "prepare() inside the lock"
        self._shelf.prepared += 1

    def is_prepared(self) -> bool:
        assert self.commit_lock.is_mine(), "is_prepared() outside the lock"
        self._shelf.overtaken -= 1
        return self._shelf.overtaken < 0

    def stamp(self) -> Stamp:
        return self._shelf.version

    def read(self) -> Content:
        with self._shelf.changed:
            return Content(self._shelf.data, self._shelf.version)

    def replace(self, data: bytes, *, lease: Lease | None, expected: Stamp | None) -> Content:
        shelf = self._shelf
        with shelf.changed:
            steals = shelf.chance.random() < shelf.steals
        if steals:
            shelf.commit.steal()
            time.sleep(0.002)  # time for others to come in between
        with shelf.changed:
            if lease is not None and expected != shelf.version:
                shelf.refused += 1
                raise StoreChanged(None, "Somebody else stored something", self.location)
            return Content(data, shelf.put(data))

    def delete(self, *, lease: Lease | None) -> None:
        with self._shelf.changed:
            self._shelf.remove()

    def copy_aside(self, suffix: str) -> str:
        with self._shelf.changed:
            if suffix in self._shelf.kept:
                raise PersistenceFileExists(None, "there is a copy of that name", suffix)
            self._shelf.kept[suffix] = self._shelf.data
        return self.location + suffix

    def watch(self) -> ShelfWatch:
        return ShelfWatch(self._shelf)


class DictionaryPersistence(BasePersistence):
    """The methods of 1.3.1 over a shelf.  Each location has one shelf, if none is given."""

    def __init__(self, location: str, shelf: Shelf | None = None) -> None:
        if not location:
            raise ValueError("Requires a file path")
        self._shelf = shelf or _shelves.setdefault(str(location), Shelf())
        self._location = str(location)

    def save(self, content: str) -> None:
        secret, content = encode(content), ""
        with self._shelf.changed:
            self._shelf.put(secret)

    def load(self) -> str:
        data, version = DictionaryStore(self._shelf, self._location).read()
        if version is ABSENT:
            raise PersistenceNotFound
        return data.decode()

    def time_last_modified(self) -> float:
        raise NotImplementedError("a version is no time")

    def get_location(self) -> str:
        return self._location

    def delete(self) -> None:
        with self._shelf.changed:
            self._shelf.remove()


_shelves: dict[str, Shelf] = {}

register(
    DictionaryPersistence,
    lambda persistence, _: DictionaryStore(persistence._shelf, persistence._location),
    "_shelf",
    "_location",
)


def in_a_shelf(steals: float = 0.0, seed: int = 0) -> Callable[[], DictionaryPersistence]:
    """A function that makes persistences which share one shelf."""
    shelf = Shelf(steals, seed)
    return lambda: DictionaryPersistence("shelf", shelf)
