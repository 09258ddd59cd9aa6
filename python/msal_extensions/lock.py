"""The lock that keeps other processes, and other threads, out.

The protocol, and what it promises, is described in csrc/msalex.h and csrc/lock_<platform>.c.

What Python adds is an owner.  A *holding* is one native lock, from the moment at which a thread
begins to wait for it.  The program's CrossPlatLock is what keeps a holding alive; when nothing
refers to it any more, its native lock gives the lock back.  So an exception at whatever byte code
leaves the lock free, or held by an object that the program still has.

Each thread also keeps *notes*, weak references to its own holdings, for one question: would this
thread wait for itself?  No other thread reads or writes them, so they need no mutex, and a thread
that gets the number of a dead one has notes of its own.  A note never decides that a lock is
held.  It only says which native lock to ask.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import sys
import threading
import time
import weakref
from types import TracebackType

from . import _native
from .errors import LockError, LockFileDenied, LockFileDirectoryNotFound, LockFileError

if sys.platform != "win32":
    import pwd

__all__ = ["CrossPlatLock", "LockError", "LockFileDenied", "LockFileError"]


#: Seconds; 1.3.1 and Go give up after as many.
DEFAULT_TIMEOUT = 5.0

#: Seconds; a longer patience is "for ever" for the native part.
LONGEST = 1e9

#: States of a holding.  The third one is the process in which it is held.
_WAITING, _OVER = "waiting", "over"

#: Stands for this process: a child made by fork gets another one, and so holds nothing.
_process = object()


def _after_fork_in_child() -> None:
    global _process
    _process = object()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class _Holding:
    """A native lock while one thread waits for it, and then while it is held."""

    __slots__ = ("__weakref__", "native", "note", "path", "reentrant", "state")

    def __init__(self, path: str, reentrant: bool) -> None:
        self.path = path
        self.reentrant = reentrant
        self.native: _native.Lock | None = None
        self.state: object = _WAITING
        self.note = weakref.ref(self)

    @property
    def is_held(self) -> bool:
        return self.state is _process

    @property
    def is_inherited(self) -> bool:
        """The parent held it when it made this process by fork."""
        return self.state not in (_WAITING, _OVER, _process)

    def end(self) -> bool:
        """Leaves the queue, or gives the lock back; more than once is fine.

        False: it is the parent of this process that holds the lock, and goes on to hold it.
        """
        is_ours = not self.is_inherited
        if is_ours and self.native is not None:
            self.native.release()
        self.state = _OVER
        _notes.holdings.pop(self.note, None)  # another thread's are left to that thread
        return is_ours

    def is_for(self, path: str) -> bool:
        """Does the path lead to the same lock file, by whatever spelling?"""
        if path == self.path:
            return True
        (mine, my_name), (other, name) = os.path.split(self.path), os.path.split(path)
        if my_name.casefold() != name.casefold():
            return False
        try:
            if not os.path.samefile(mine, other):
                return False
            # Whether upper and lower case are the same only the file system knows.
            return _same_name(my_name, name) or os.path.samefile(self.path, path)
        except OSError:
            return False


class _Within:
    """Being inside within the holding of another object, of the same thread."""

    __slots__ = ("outer",)

    def __init__(self, outer: _Holding) -> None:
        self.outer = outer

    @property
    def native(self) -> _native.Lock | None:
        return self.outer.native

    @property
    def is_held(self) -> bool:
        return self.outer.is_held

    def end(self) -> bool:
        """It is the other object that gives the lock back."""
        return not self.outer.is_inherited


def _same_name(one: str, other: str) -> bool:
    return os.path.normcase(one) == os.path.normcase(other)


class _Notes(threading.local):
    """What a thread knows of itself."""

    def __init__(self) -> None:
        self.me = object()
        self.holdings: dict[weakref.ref[_Holding], None] = {}


_notes = _Notes()


def this_thread() -> object:
    """Stands for the thread that calls.  Unlike its number this is never given away again."""
    return _notes.me


def held_by_this_thread(lockfile_path: str) -> bool:
    """Whether this thread is inside, by whatever object and whatever spelling of the path."""
    return _find(_absolute(lockfile_path), None, with_waiting=False) is not None


def _find(path: str, apart_from: _Holding | None, with_waiting: bool) -> _Holding | None:
    """What this thread holds, or waits for, under that path."""
    notes = _notes.holdings
    for note in tuple(notes):
        holding = note()
        if holding is None or holding.state is _OVER:
            notes.pop(note, None)
        elif holding is apart_from or not holding.is_for(path):
            continue
        elif holding.state is _WAITING:
            if with_waiting:
                return holding
        elif holding.is_held and holding.native is not None and holding.native.still_held():
            return holding
    return None


def seconds_of(timeout: float) -> float:
    """A timeout as a float: numbers of every kind, and of every size."""
    if type(timeout) is float and timeout == timeout:
        return timeout
    if isinstance(timeout, (str, bytes, bytearray)):
        raise TypeError(f"a timeout is a number of seconds, not {timeout!r}")
    try:
        seconds = float(timeout)
    except OverflowError:
        return math.inf if timeout > 0 else -math.inf
    if math.isnan(seconds):
        raise ValueError("a timeout is a number of seconds: nan is none")
    return seconds


def _absolute(path: str | bytes) -> str:
    """The path as the program gave it, made absolute: the program may change its directory."""
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if path[:1] == os.sep == "/":  # on Windows such a path is relative to a drive
        return path
    try:
        return os.path.join(os.getcwd(), path)
    except OSError as error:
        kind = LockFileDirectoryNotFound if error.errno == errno.ENOENT else LockFileError
        words = (
            f"{error.strerror} (getcwd). The working directory of this process is gone or cannot"
            " be read: change to another, or give an absolute path."
        )
        raise kind(error.errno, words, path) from None


def _owner(path: str) -> str | None:
    """The user that a lock file belongs to, in words; None when it is our own, or gone."""
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
    """For the message of an error: the holder of the lock, and what a person can do."""
    holder = _native.lock_holder(path) or "a process that left no name"
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
    Node, Go).  Waiters are served in order.  A holder that dies frees the lock at once.  The
    file is gone when nobody holds it.  A peer that deletes a file it does not hold cannot be
    stopped: see :meth:`still_held`.

    One object may be used by several threads, in turn.  A thread that is inside, and enters
    again, gets a LockError at once, by whatever spelling of the path; so does a signal handler
    that wants the lock for which its own thread is waiting.

    The object keeps the lock: ``CrossPlatLock(path).acquire()`` gives it back at once, because
    nothing keeps the object.  So Ctrl-C cannot leave a lock held that nobody can release.  A
    Ctrl-C that comes in the very moment in which a ``with`` ends can leave it held by the
    object, if the program keeps that; :attr:`locked` tells, and :meth:`release` ends it.

    A child made by fork holds nothing: the end of an inherited ``with`` has no effect there.

    :param lockfile_path: The lock file; made when needed, in a directory that exists.
    :param timeout: How long to wait, in seconds: 0 tries once, a negative one waits for ever.
    :param reentrant: Within the thread that holds it, let other objects for the same path enter
        too, and enter theirs: the token cache does so, as its subclasses lock for themselves.
    """

    def __init__(
        self,
        lockfile_path: str | os.PathLike[str],
        timeout: float = DEFAULT_TIMEOUT,
        *,
        reentrant: bool = False,
    ) -> None:
        self._lockpath = os.fspath(lockfile_path)
        self._timeout = seconds_of(timeout)
        self._reentrant = reentrant
        self._inside: list[_Holding | _Within] = []  # the last one that it entered is the last

    @property
    def locked(self) -> bool:
        """True while this object holds the lock."""
        return any(entry.is_held for entry in tuple(self._inside))

    def acquire(self, timeout: float | None = None) -> CrossPlatLock:
        """Waits for the lock.

        :param timeout: In seconds; None means what the constructor was given.
        :raises LockError: when the time is up; at once, when this thread holds the lock already
            or is waiting for it.
        :raises LockFileError: (a LockError and an OSError) when the file cannot be made.
        """
        seconds = self._timeout if timeout is None else seconds_of(timeout)
        path = _absolute(self._lockpath)
        holding = _Holding(path, self._reentrant)
        entry: _Holding | _Within = holding
        try:
            # First the note, then the look: a signal handler between the two finds the note.
            notes = _notes.holdings
            notes[holding.note] = None
            outer = _find(path, holding, with_waiting=True) if len(notes) > 1 else None
            if outer is not None:
                holding.end()
                self._check_within(outer)
                entry = _Within(outer)
                self._inside.append(entry)
                return self
            holding.native = _native.Lock(path, sys.argv[0] if sys.argv else "")
            if self._wait(holding.native, seconds):
                holding.state = _process
                self._inside.append(entry)
                return self
            holding.end()
            raise LockError(
                f"Unable to obtain the lock {path} within {seconds:g} second(s); it is held by:"
                f" {_holder_of(path)}"
            )
        except BaseException:  # Ctrl-C too must leave the queue, or give back what it came with
            holding.end()
            with contextlib.suppress(ValueError):
                self._inside.remove(entry)
            raise

    def _check_within(self, outer: _Holding) -> None:
        """May this object enter within what this thread holds, or waits for?"""
        if outer.state is _WAITING:
            raise LockError(
                f"This thread is waiting for the lock {outer.path} already: what runs meanwhile,"
                " a signal handler for example, cannot have it before the wait is over"
            )
        if not (outer.reentrant or self._reentrant):
            mine = outer in self._inside
            how = ", by this very object: its release() gives it back" if mine else ""
            raise LockError(f"This thread already holds the lock {outer.path}{how}")

    def _wait(self, native: _native.Lock, timeout: float) -> bool:
        left = math.inf if timeout < 0 else timeout
        deadline = time.monotonic() + left
        while True:
            patience_ms = math.ceil(left * 1000) if left < LONGEST else -1
            slice_ms = _native.SLICE_MS if patience_ms < 0 else min(patience_ms, _native.SLICE_MS)
            if native.acquire(slice_ms, patience_ms):
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False

    def release(self) -> None:
        """Gives the lock back.

        :raises LockError: when this object does not hold it, or its process's parent does.
        """
        if not self._end():
            raise LockError(
                f"The lock {self._lockpath} is held by the process that made this one by fork, and"
                " only that one can release it"
            )

    def _end(self) -> bool:
        """Gives the lock back; False: it is the parent's of this process."""
        entry = None
        try:
            # It is out of the list before it ends, so no other thread can end it as well.
            entry = self._inside.pop()
            return entry.end()
        except IndexError:
            raise LockError(f"The lock {self._lockpath} is not held") from None
        except BaseException:  # Ctrl-C, before the end or after it
            if entry is not None:
                entry.end()
            raise

    def still_held(self) -> bool:
        """False once somebody removed or replaced the lock file: others may be inside."""
        native = self._held()
        return native is not None and native.still_held()

    def _held(self) -> _native.Lock | None:
        """The native lock while this object is inside, by itself or within another."""
        for entry in self._inside[-1:]:
            if entry.is_held:
                return entry.native
        return None

    def __enter__(self) -> CrossPlatLock:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def __repr__(self) -> str:
        return f"<CrossPlatLock {self._lockpath!r} {'held' if self.locked else 'not held'}>"
