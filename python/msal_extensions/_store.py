"""The border between the token cache and the places that keep its content.

There are two layers.  Programs make a *persistence*: it has text, and the methods of 1.3.1.  The
cache uses a *store*: it has bytes, stamps, locks and leases, and knows neither MSAL nor JSON.
``_store_of.py`` makes the store of a persistence.  A new store is one file in ``_stores/``.

The cache reads a store when the stamp is new to it or not settled yet (see ``_freshness.py``).
To change something, the cache calls prepare(), takes the commit lock, reads, and calls replace()
with the lease of that lock and with the stamp of the content that it has read.  A keyring may ask
a person for each read, so what it asks for is read by prepare().
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


#: The stamp of a store with no content: nothing was saved yet, or the content was deleted.
ABSENT = Absent()

#: Stands for one content.  Stamps are compared for equality only: another stamp means that the
#: content may have changed.  ``_freshness.py`` says when an equal stamp proves an equal content.
Stamp = Hashable


class Content(NamedTuple):
    """What is stored."""

    data: bytes  # b"" if the stamp is ABSENT
    #: The stamp of these bytes or of older ones, never of newer ones.  None: unknown, read again.
    stamp: Stamp | None


class Lease(Protocol):
    """A lock that is held."""

    def still_held(self) -> bool:
        """False once somebody has taken the lock away: others may be inside."""

    def release(self) -> None:
        """Gives the lock back.  It does no harm to a lock that is lost or given back already, nor
        in the child of a fork, which holds nothing."""


def require_held(lease: Lease | None) -> None:
    """:raises LockLost: when the lock of the lease is lost.  None is no lease, and always fine."""
    if lease is not None and not lease.still_held():
        raise LockLost("Somebody removed the lock file")


class StoreLock(Protocol):
    """A lock that all users of the store take, in this process and in others."""

    def acquire(self, timeout: float) -> Lease:
        """Waits for the lock.  A thread that is inside joins its own holding if it is still held.

        The lease keeps the lock: when nothing refers to the lease any more, the lock is free.

        :param timeout: Seconds to wait; 0 tries once, a negative number waits for ever.
        :raises LockError: when the time is up.
        """

    def is_mine(self) -> bool:
        """Whether this thread is inside, through any object."""

    def is_of_another_task(self) -> bool:
        """Whether another asyncio task of this thread has entered, and is still inside."""

    def others_inside(self) -> bool:
        """Whether somebody else seems to be inside.  A hint; it never waits."""


class Watch(Protocol):
    """Tells when a store changes."""

    def wait(self, timeout_ms: int, /) -> bool:
        """Waits for a change.

        :returns: True: the store may have changed since the last call.  False: nothing was seen.
        """

    def close(self) -> None:
        """Stops watching.  A second call does nothing."""


class Store(Protocol):
    """One place for one content.

    Every method may raise a PersistenceError.  How long a single call may take is up to the store.
    """

    @property
    def location(self) -> str:
        """For people, in messages."""

    @property
    def settles_after(self) -> tuple[float, ...]:
        """Ages of a stamp in seconds.  A search after such an age reads the content once more.

        After the last age the stamp is settled: an equal stamp then proves an equal content.  ()
        is for a store with random versions, where equal stamps prove that at once.
        """

    @property
    def stamp_proves(self) -> bool:
        """Whether a transaction, too, may trust a settled stamp.  False: only a search may."""

    @property
    def commit_lock(self) -> StoreLock:
        """For a change: read, change, replace."""

    @property
    def flight_lock(self) -> StoreLock:
        """For one renewal over the network at a time; see ``PersistedTokenCache``."""

    def prepare(self) -> None:
        """Does everything that may ask a person or take seconds.  The cache calls this before it
        takes the lock, and never while it holds the lock."""

    def is_prepared(self) -> bool:
        """Whether what prepare() did is enough for a read inside the lock, which must ask nobody.

        The cache asks just after it has taken the lock.  If the answer is no, it leaves the lock
        and begins with prepare() again, three times at most.
        """

    def stamp(self) -> Stamp | None:
        """The stamp of the stored content.  None: unknown, so read the content."""

    def read(self) -> Content:
        """What is stored now."""

    def replace(self, data: bytes, *, lease: Lease | None, expected: Stamp | None) -> Content:
        """Stores new content, all or nothing, and returns what read() would return now.

        Those are the given bytes, unless a program's own persistence keeps something else.

        In one step with the change a file checks the lease; a database compares ``expected`` with
        the stamp of the content that it has.  A store that can do neither asks the lease before
        and after the change.

        :param lease: None: store without a lock, as save() of 1.3.1 does.
        :param expected: The stamp of the content that was read last.
        :raises LockLost: the lock was lost.  Lock again, read again, then change again.
        :raises StoreChanged: another content than ``expected`` is stored.  Read and change again.
        """

    def delete(self, *, lease: Lease | None) -> None:
        """Removes the content.  It is no error when nothing is stored."""

    def copy_aside(self, suffix: str) -> str:
        """Keeps a copy of the stored content, readable or not, as evidence.

        It is a copy and not a rename: the original may be a link, or a mount, which cannot be
        renamed.  The suffix contains random digits, so the copy replaces nothing; if its name
        is taken, that is an error.

        :returns: The place of the copy, for people.
        :raises NotImplementedError: when the store has no place for a copy.
        """

    def watch(self) -> Watch:
        """Watches the store for changes from now on."""
