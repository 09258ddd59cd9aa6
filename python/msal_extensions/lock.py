"""The lock that keeps other processes, and other threads, out.

The protocol, and what it promises, is described in csrc/msalex.h and csrc/lock_<platform>.c.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from types import TracebackType

from . import _native
from .errors import LockError, LockFileDenied, LockFileError

__all__ = ["CrossPlatLock", "LockError", "LockFileDenied", "LockFileError"]


#: Seconds; 1.3.1 and Go give up after as many.
DEFAULT_TIMEOUT = 5.0

#: Seconds; who is more patient waits for ever, as far as the native part is concerned.
LONGEST = 1e9


#: Absolute path -> which object holds it in this process.  Only for telling a thread that it would
#: wait for itself; what excludes is the lock file.
_holdings: dict[str, CrossPlatLock] = {}

if hasattr(os, "register_at_fork"):
    # The child holds nothing: it must wait for its parent like anybody else.
    os.register_at_fork(after_in_child=_holdings.clear)


def held_by_this_thread(lockfile_path: str) -> bool:
    """Whether this thread is inside, by whatever object."""
    holder = _holdings.get(os.path.abspath(lockfile_path))
    return holder is not None and holder._thread == threading.get_ident()


class CrossPlatLock:
    """A lock between processes and threads, as a context manager.

    While one holder is inside, nobody else is: no other process, no other thread, and no other
    library that respects its own lock on the same file (msal-extensions 1.3.1, MSAL.NET, Java,
    Node, Go).  Waiters are served in order.  A holder that dies frees the lock at once.  The
    file is gone when nobody holds it.  A peer that deletes a file it does not hold cannot be
    stopped: see :meth:`still_held`.

    One object may be used by several threads, in turn.  Entering again in the thread that is
    inside raises LockError at once.

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
        self._timeout = timeout
        self._reentrant = reentrant
        self._native: _native.Lock | None = None
        self._held_key = ""  # in _holdings, while this object holds the lock
        self._thread = 0  # that does, by it
        self._within: list[CrossPlatLock] = []  # the holdings this object entered again

    @property
    def locked(self) -> bool:
        """True while this object holds the lock."""
        return self._native is not None or bool(self._within)

    def acquire(self, timeout: float | None = None) -> CrossPlatLock:
        """Waits for the lock.

        :param timeout: In seconds; None means what the constructor was given.
        :raises LockError: when the time is up, or when this thread holds the lock already.
        :raises LockFileError: (a LockError and an OSError) when the file cannot be made.
        """
        key = os.path.abspath(self._lockpath)
        thread = threading.get_ident()
        holder = _holdings.get(key)
        if holder is not None and holder._thread == thread:
            if holder._reentrant or self._reentrant:
                self._within.append(holder)
                return self
            raise LockError(f"This thread already holds the lock {self._lockpath}")
        path = self._lockpath
        if path != key:  # maybe a relative one, and the program may change its directory
            path = os.path.join(os.getcwd(), path)
        native = _native.Lock(path, sys.argv[0] if sys.argv else "")
        try:
            self._wait(native, self._timeout if timeout is None else timeout)
        except BaseException:  # Ctrl-C too must leave the queue
            native.release()
            raise
        self._native, self._held_key, self._thread = native, key, thread
        _holdings[key] = self
        return self

    def _wait(self, native: _native.Lock, timeout: float) -> None:
        left = math.inf if timeout < 0 else timeout
        deadline = time.monotonic() + left
        while True:
            patience_ms = math.ceil(left * 1000) if left < LONGEST else -1
            slice_ms = _native.SLICE_MS if patience_ms < 0 else min(patience_ms, _native.SLICE_MS)
            if native.acquire(slice_ms, patience_ms):
                return
            left = deadline - time.monotonic()
            if left <= 0:
                break
        holder = _native.lock_holder(self._lockpath) or "a process that left no name"
        raise LockError(
            f"Unable to obtain the lock {self._lockpath} within {timeout:g} second(s); it is"
            f" held by: {holder}. If that is hung, end it and the lock is free."
        )

    def release(self) -> None:
        """Gives the lock back.

        :raises LockError: when this object does not hold it.
        """
        if self._within:
            self._within.pop()
            return
        native, self._native = self._native, None
        if native is None:
            raise LockError(f"The lock {self._lockpath} is not held")
        _holdings.pop(self._held_key, None)
        native.release()

    def still_held(self) -> bool:
        """False once somebody removed or replaced the lock file: others may be inside."""
        native = self._held()
        return native is not None and native.still_held()

    def _held(self) -> _native.Lock | None:
        """The native lock while this object is inside, by itself or within another."""
        return self._within[-1]._held() if self._within else self._native

    def __enter__(self) -> CrossPlatLock:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<CrossPlatLock {self._lockpath!r} {'held' if self.locked else 'not held'}>"
