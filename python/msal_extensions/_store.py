"""The border between the token cache and the places where it is kept.

Two layers.  A *persistence* is what programs make: text, with the methods of 1.3.1.  A *store*
is what the cache uses: bytes, with stamps, locks and leases.  It knows neither MSAL nor JSON.
``_store_of.py`` makes the store of a persistence; a new store is one file in ``_stores/``.

How the cache uses a store: it reads when the stamp is not the one that it knows, or not a
settled one (see ``_freshness.py``).  To change something it calls prepare(), takes the commit
lock, reads, and replaces with the lease of that lock and with the stamp of what it had read.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple, Protocol, final

from .errors import LockLost


@final
class Absent:
    """The type of :data:`ABSENT`."""

    def __repr__(self) -> str:
        return "ABSENT"


#: The stamp of nothing: nothing was stored yet, or it was deleted.
ABSENT = Absent()

#: Stands for one content; compared for equality only.
Stamp = Hashable


class Content(NamedTuple):
    """What is stored: for ABSENT no bytes."""

    data: bytes
    #: Of these bytes, or of older ones, never of younger ones.  None: unknown, so read again.
    stamp: Stamp | None


class Lease(Protocol):
    """A lock that is held."""

    def still_held(self) -> bool:
        """False once somebody took the lock away: others may be inside."""

    def release(self) -> None:
        """Gives the lock back; harmless when it is lost, when it is given back already, and in the
        child of a fork, which holds nothing."""


def require_held(lease: Lease | None) -> None:
    """:raises LockLost: when there is a lease, and it is lost."""
    if lease is not None and not lease.still_held():
        raise LockLost("Somebody removed the lock file")


class StoreLock(Protocol):
    """A lock that all users of the store know, in this process and in others."""

    def acquire(self, timeout: float) -> Lease:
        """Waits for the lock.  A thread that is inside joins its own holding, if that is held.

        The lease keeps the lock: when nothing refers to the lease any more, the lock is free.

        :param timeout: In seconds; 0 tries once, a negative one waits for ever.
        :raises LockError: when the time is up.
        """

    def is_mine(self) -> bool:
        """Whether this thread is inside, by whatever object."""

    def is_of_another_task(self) -> bool:
        """Whether this thread is inside, but it is another asyncio task of it that has entered."""

    def others_inside(self) -> bool:
        """Whether somebody else seems to be inside.  A hint; it never waits."""


class Watch(Protocol):
    """Tells when a store changes."""

    def wait(self, timeout_ms: int, /) -> bool:
        """True: it may have changed since the last time.  False: not that anybody could see."""

    def close(self) -> None:
        """Ends it; more than once is fine."""


class Store(Protocol):
    """One place for one content.

    Every method may raise a PersistenceError; deadlines of single calls are the store's own.
    """

    @property
    def location(self) -> str:
        """For people, in messages."""

    @property
    def settles_after(self) -> tuple[float, ...]:
        """Ages of a stamp, in seconds, at which its content is read again if it is looked at.

        After the last one equal stamps prove equal contents.  () for a random version, which
        proves it at once.
        """

    @property
    def stamp_proves(self) -> bool:
        """Whether a settled stamp proves it to a transaction too, or to a mere look only."""

    @property
    def commit_lock(self) -> StoreLock:
        """For a change: read, change, replace."""

    @property
    def flight_lock(self) -> StoreLock:
        """For one renewal over the network at a time; see ``PersistedTokenCache``."""

    def prepare(self) -> None:
        """Does what may ask a person or take seconds.  Called before the lock, never inside."""

    def stamp(self) -> Stamp | None:
        """Of what is stored now.  None: unknown, so read."""

    def read(self) -> Content:
        """What is stored now."""

    def replace(self, data: bytes, *, lease: Lease | None, expected: Stamp | None) -> Content:
        """Stores other content, all or nothing; returns what read() would return now.

        That is what was given, unless a program's own persistence keeps something else of it.

        A store looks at what it can: a file at the lease, a database at ``expected``, the stamp
        of what was read last.  A store that can look at neither asks the lease before and after.

        :param lease: None: as 1.3.1's save(), without a lock.
        :raises LockLost: the lock was lost; lock again, read again, then change again.
        :raises StoreChanged: another content than ``expected`` is stored: read and change again.
        """

    def delete(self, *, lease: Lease | None) -> None:
        """Removes what is stored; nothing stored is fine."""

    def copy_aside(self, suffix: str) -> str:
        """Keeps a copy of what is stored, readable or not, as evidence; returns its place.

        A copy, because the original may be a link, or a mount that cannot be renamed.  The suffix
        has random digits, so that it replaces nothing; a file of that name is an error.

        :raises NotImplementedError: when the store has no place for it.
        """

    def watch(self) -> Watch:
        """Tells of changes from now on."""
