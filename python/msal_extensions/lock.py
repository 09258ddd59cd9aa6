"""The lock that keeps out other processes and other threads.

csrc/msalex.h says what the lock promises, csrc/lock_posix.c and csrc/lock_windows.c how it works.
Python adds an owner to it: see ``_holding.py``.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time

from ._holding import WAITING, Holding, Within, absolute, find, is_of_another_task, notes
from ._holding import held_by_this_thread as held_by_this_thread
from ._holding import this_thread as this_thread
from ._native import lock as native
from ._native.check import LONGEST, SLICE_MS
from ._paths import for_python
from ._references import ARGUMENT, LOCK_NOT_HELD, LOCK_REENTERED
from ._store import Lease
from ._timeouts import seconds_of
from .errors import LockError, LockFileDenied, LockFileError, LockLost, referring

if sys.platform != "win32":
    import pwd

__all__ = ["CrossPlatLock", "LockError", "LockFileDenied", "LockFileError"]


#: Seconds.  1.3.1 and Go give up after the same time.
DEFAULT_TIMEOUT = 5.0


def _owner(path: str) -> str | None:
    """The user that owns a lock file, in words; None when it is ours, or the file is gone."""
    if sys.platform == "win32":
        return None
    try:
        uid = os.lstat(path).st_uid
    except OSError:
        return None
    if uid == os.geteuid():
        return None
    try:
        return f"user {pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"the user with uid {uid}"


def _holder_of(path: str) -> str:
    """The holder of the lock and what a person can do, for the message of an error."""
    holder = native.holder(path) or "a process that left no name"
    owner = _owner(path)
    if owner is None:
        return f"{holder}. If that is hung, end it and the lock is free."
    return (
        f"{holder}. The lock file belongs to {owner}: that user, or root, can end the process, and"
        " remove the file if no process is left."
    )


class CrossPlatLock:
    """A lock between processes and threads, as a context manager.

    While one holder is inside, nobody else is: no other process, no other thread, and no other
    library that respects its own lock on the same file (msal-extensions 1.3.1, MSAL.NET, Java,
    Node, Go).  When a holder dies, the lock is free at once.  On Linux waiters are served in
    order.  On Windows they are served in the order in which it grants locks, which it does not
    document; macOS has no queue.  The last release removes the file; a killed holder leaves it to
    the next one.  Nobody can stop a peer that deletes a file which it does not hold:
    see :meth:`still_held`.  SECURITY.md lists the file systems and peers for which less holds.

    Several threads may use one object, one after the other.  A thread that is inside and enters
    again gets a LockError at once, also by another spelling of the path.  So does a signal
    handler that wants the lock for which its own thread is waiting.

    The object keeps the lock: ``CrossPlatLock(path).acquire()`` gives it back at once, because
    nothing keeps the object.  So Ctrl-C never leaves a lock held that the program cannot
    release.  One case needs the program's help: a Ctrl-C in the very moment in which a ``with``
    ends can leave the lock held by the object.  If the program keeps that object,
    :attr:`locked` says so, and :meth:`release` gives the lock back.

    A child made by fork holds nothing: the end of an inherited ``with`` has no effect there.

    :param lockfile_path: The lock file.  It is made when needed; its directory must exist.
    :param timeout: Seconds to wait: 0 tries once, a negative number waits for ever.
    :param reentrant: Other objects for the same path may enter within this one, and this one
        within them, in the same thread.  The token cache needs that, because its subclasses may
        take the lock themselves.
    """

    # Programs derive from this class.  So private names begin with two underscores, which Python
    # mangles; names with one underscore are those of 1.3.1.

    def __init__(
        self,
        lockfile_path: str | os.PathLike[str],
        timeout: float = DEFAULT_TIMEOUT,
        *,
        reentrant: bool = False,
    ) -> None:
        self._lockpath = os.fspath(lockfile_path)
        self.__timeout = seconds_of(timeout)
        self.__reentrant = reentrant
        self.__inside: list[Holding | Within] = []  # in the order in which it entered

    @property
    def locked(self) -> bool:
        """True while this object holds the lock."""
        return any(entry.is_held for entry in tuple(self.__inside))

    def acquire(self, timeout: float | None = None) -> CrossPlatLock:
        """Waits for the lock.

        :param timeout: Seconds to wait; None means the timeout of the constructor.
        :raises LockError: when the time is up; at once when this thread already holds the lock,
            or waits for it.
        :raises LockFileError: (a LockError and an OSError) when the file cannot be made.
        """
        seconds = self.__timeout if timeout is None else seconds_of(timeout)
        path = absolute(self._lockpath)
        holding = Holding(path, self.__reentrant)
        entry: Holding | Within = holding
        try:
            # First the note, then the look: a signal handler between the two finds the note.
            mine = notes.holdings
            mine[holding.note] = None
            outer = find(path, holding, with_waiting=True) if len(mine) > 1 else None
            if outer is not None:
                holding.end()
                self.__check_within(outer)
                entry = Within(outer)
                self.__inside.append(entry)
                return self
            holding.native = native.Lock(path, sys.argv[0] if sys.argv else "")
            if self.__wait(holding.native, seconds):
                holding.begin()
                self.__inside.append(entry)
                return self
            holding.end()
            raise LockError(
                f"Unable to obtain the lock {path} within {seconds:g} second(s); it is held by:"
                f" {_holder_of(path)}"
            )
        except BaseException:  # Ctrl-C, too, must leave the queue or give the lock back
            holding.end()
            with contextlib.suppress(ValueError):
                self.__inside.remove(entry)
            raise

    def __check_within(self, outer: Holding) -> None:
        """:raises LockError: when this object may not enter within the holding of this thread."""
        if outer.state is WAITING:
            words = (
                f"This thread is waiting for the lock {outer.path} already: what runs meanwhile,"
            )
            words += " a signal handler for example, cannot have it before the wait is over"
            raise referring(LockError(words), LOCK_REENTERED)
        if not (outer.reentrant or self.__reentrant):
            mine = outer in self.__inside
            how = ", by this very object: its release() gives it back" if mine else ""
            words = f"This thread already holds the lock {outer.path}{how}"
            raise referring(LockError(words), LOCK_REENTERED)

    def __wait(self, lock: native.Lock, timeout: float) -> bool:
        left = math.inf if timeout < 0 else timeout
        deadline = time.monotonic() + left
        while True:
            patience_ms = math.ceil(left * 1000) if left < LONGEST else -1
            slice_ms = SLICE_MS if patience_ms < 0 else min(patience_ms, SLICE_MS)
            if lock.acquire(slice_ms, patience_ms):
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False

    def release(self) -> None:
        """Gives the lock back.

        :raises LockError: when this object does not hold it, or inherited it by fork.
        """
        if not self.__end():
            words = f"The lock {self._lockpath} is held by the process that made this one by fork,"
            words += " and only that one can release it"
            raise referring(LockError(words), LOCK_NOT_HELD)

    def __end(self) -> bool:
        """Gives the lock back.  False: the parent of this process holds it."""
        entry = None
        try:
            # First out of the list, so that no other thread can end it as well.
            entry = self.__inside.pop()
            return entry.end()
        except IndexError:
            words = f"The lock {self._lockpath} is not held"
            raise referring(LockError(words), LOCK_NOT_HELD) from None
        except BaseException:  # Ctrl-C, before the end or after it
            if entry is not None:
                entry.end()
            raise

    def still_held(self) -> bool:
        """False once somebody has removed or replaced the lock file: others may be inside."""
        held = self.__held()
        return held is not None and held.still_held()

    def __held(self) -> native.Lock | None:
        """The native lock, while this object is inside by itself or within another."""
        for entry in self.__inside[-1:]:
            if entry.is_held:
                return entry.native
        return None

    def _held(self) -> native.Lock | None:
        """For FileLease, which uses locks of exactly this class and never of a subclass."""
        return self.__held()

    def __enter__(self) -> CrossPlatLock:
        return CrossPlatLock.acquire(self)  # a subclass may have an acquire() of its own

    def __exit__(self, *_: object) -> None:
        if self.__inside:  # as in 1.3.1, leaving without having entered does nothing
            self.__end()

    def __repr__(self) -> str:
        return f"<CrossPlatLock {self._lockpath!r} {'held' if self.locked else 'not held'}>"


class FileLock:
    """A lock file as the lock of a store; see ``StoreLock``."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def acquire(self, timeout: float) -> FileLease:
        return FileLease(CrossPlatLock(self._path, timeout, reentrant=True).acquire())

    def is_mine(self) -> bool:
        return held_by_this_thread(self._path)

    def is_of_another_task(self) -> bool:
        return is_of_another_task(self._path)

    def others_inside(self) -> bool:
        return not held_by_this_thread(self._path) and os.path.lexists(for_python(self._path))


class FileLease:
    """A held lock file; see ``Lease``."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self, lock: CrossPlatLock) -> None:
        self._lock = lock

    def still_held(self) -> bool:
        return self._lock.still_held()

    def release(self) -> None:
        if self._lock.locked:  # False after a release, and in the child of a fork
            self._lock.release()

    def native_lock(self) -> native.Lock:
        """:raises LockLost: when this process holds nothing."""
        held = self._lock._held()
        if held is None:
            raise LockLost("The lock is not held any more")
        return held


def native_lock_of(lease: Lease) -> native.Lock:
    """The native lock of a lease.  The C library checks it before it changes the file."""
    if not isinstance(lease, FileLease):
        words = f"a file is protected by a lock file, not by a {type(lease).__name__}"
        raise TypeError(ARGUMENT.after(words))
    return lease.native_lock()
