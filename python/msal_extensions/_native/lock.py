"""The native lock; see csrc/msalex.h."""

from __future__ import annotations

import functools
import threading

from .._msalex import ffi, lib
from ..errors import BY_ERRNO, LockFileDenied, LockFileError
from .check import cause_of, failure, new_buffer, path, take

# These names save lookups: the lock is taken so often that the time for lookups can be measured.
_new, _gc = ffi.new, ffi.gc
_ERROR, _LOCK = ffi.typeof("msalex_error *"), ffi.typeof("msalex_lock **")
_lock_new, _lock_free = lib.msalex_lock_new, lib.msalex_lock_free
_lock_acquire, _lock_release = lib.msalex_lock_acquire, lib.msalex_lock_release
_OK: int = lib.MSALEX_OK
_NOT_YET = (lib.MSALEX_TIMEOUT, lib.MSALEX_INTERRUPTED)


@functools.lru_cache(maxsize=4)
def _program(name: str) -> bytes:
    return name.replace("\0", "?").encode("utf-8", "replace")


class Lock:
    """One attempt at a lock, and then the held lock.

    One thread waits for it.  Once it is held, any thread may call.  Calls come one at a time: the
    others wait for the few system calls that one takes.
    """

    __slots__ = ("_error", "_location", "_turn", "handle")

    def __init__(self, location: str, program: str) -> None:
        self._error = _new(_ERROR)
        self._location = location
        self._turn = threading.RLock()  # reentrant, because a signal handler may call as well
        created = _new(_LOCK)
        self._check(_lock_new(path(location), _program(program), created, self._error))
        # However this object ends, the native lock ends with it.
        self.handle = _gc(created[0], _lock_free)

    def acquire(self, slice_ms: int, patience_ms: int) -> bool:
        """Waits for the lock, for ``slice_ms`` at most.

        :param patience_ms: For how long the caller will go on calling; negative: for ever.
        :returns: True: the lock is held.  False: not yet.  Call again to go on, or release().
        """
        status = _lock_acquire(self.handle, slice_ms, patience_ms, self._error)
        if status == _OK:
            return True
        if status not in _NOT_YET:
            self._check(status)
        return False

    def still_held(self) -> bool:
        """Whether the lock file on disk is still the one that we hold."""
        with self._turn:
            return bool(lib.msalex_lock_check(self.handle, self._error) == _OK)

    def release(self) -> bool:
        """Gives the lock back.  False: somebody had removed the lock file meanwhile."""
        with self._turn:
            return bool(_lock_release(self.handle, self._error) == _OK)

    def _check(self, status: int) -> None:
        if status == _OK:
            return
        code = int(self._error.code)
        kind = BY_ERRNO.get(code, (None, LockFileError))[1]
        if status in (lib.MSALEX_DENIED, lib.MSALEX_NOT_TRUSTED):
            kind = LockFileDenied
        cause = cause_of(status, code, self._location)
        raise failure(kind, code or None, self._error, self._location, cause)


def holder(location: str) -> str:
    """The holder by its own record, "<pid> <program>"; "" when no record can be read."""
    error, text = ffi.new("msalex_error *"), new_buffer()
    lib.msalex_lock_holder(path(location), text, error)
    return take(text).decode("utf-8", "replace")
