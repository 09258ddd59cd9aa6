"""Files: read, replaced whole, touched, deleted."""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Mapping
from typing import Any

from .._msalex import ffi, lib
from ..errors import LockLost
from .check import FILE_REMEDIES, again, check_file, describe, path, take
from .lock import Lock

#: Of a failed save, for all that can come half-way.  On Windows a file that is written in place is
#: not restored yet.
_KEPT = "" if sys.platform == "win32" else " What was stored before is still there."
_SAVE_REMEDIES = {
    errno.ENOSPC: FILE_REMEDIES[errno.ENOSPC] + _KEPT,
    errno.EDQUOT: FILE_REMEDIES[errno.EDQUOT] + _KEPT,
    errno.EFBIG: "This process may not write such a large file (`ulimit -f`)." + _KEPT,
    errno.EIO: "See whether that disk is healthy." + _KEPT,
}
_DIRECTORY_REMEDIES = {
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "Choose a location in a directory that you may write to.",
    ),
    **dict.fromkeys(
        (errno.EEXIST, errno.ENOENT, errno.ENOTDIR),
        "Choose a location in a directory that exists or can be made.",
    ),
    errno.ENAMETOOLONG: "Choose a location with a shorter path.",
}


#: Which content a file has: the bytes of a ``msalex_stamp``.  Each search asks for one, and a tuple
#: of its fields would take five times as long.
Stamp = bytes


def fields_of(stamp: Stamp) -> Any:
    """These bytes as a ``msalex_stamp``."""
    return ffi.from_buffer("msalex_stamp *", stamp)


def _check_change(
    status: int, error: Any, location: str, better_remedies: Mapping[int, str] = {}
) -> None:
    """The same for a call that makes or changes something: what it did not find is the directory,
    and never "nothing is stored"."""
    if status == lib.MSALEX_NOT_FOUND:
        status = lib.MSALEX_OS_ERROR
    check_file(status, error, location, better_remedies)


class _Scratch(threading.local):
    """What stat() writes to: every search calls it, and new ones cost as much as it does."""

    def __init__(self) -> None:
        stamp = ffi.new("msalex_stamp *")
        self.all = stamp, ffi.buffer(stamp), ffi.new("msalex_error *")


_scratch = _Scratch()


def stat(location: str) -> Stamp:
    """Raises PersistenceNotFound when there is no such file."""
    stamp, its_bytes, error = _scratch.all
    status = lib.msalex_file_stat(path(location), stamp, error)
    if status:
        if status == lib.MSALEX_INTERRUPTED:
            status = again(lib.msalex_file_stat, path(location), stamp, error)
        check_file(status, error, location)
    found: Stamp = its_bytes[:]
    return found


def is_remote(location: str) -> bool:
    """Whether others may change the file behind this kernel, which shows an old stamp meanwhile."""
    return bool(lib.msalex_file_is_remote(path(location)))


def read(location: str) -> tuple[bytes, Stamp]:
    """The content, and the stamp of just that content."""
    error, stamp = ffi.new("msalex_error *"), ffi.new("msalex_stamp *")
    content = ffi.new("msalex_buffer *")
    status = again(lib.msalex_file_read, path(location), content, stamp, error)
    check_file(status, error, location)
    return take(content), bytes(ffi.buffer(stamp))


def replace(location: str, secret: bytes, guard: Lock | None = None) -> Stamp:
    """Puts new content in the place of the old, all at once.

    Raises LockLost, and changes nothing, when the guard turns out not to be held any more.
    Raises PersistenceTorn when the old content is lost; else it is still there after an error.
    """
    error, stamp = ffi.new("msalex_error *"), ffi.new("msalex_stamp *")
    lock = ffi.NULL if guard is None else guard.handle
    status = again(lib.msalex_file_replace, path(location), secret, len(secret), lock, stamp, error)
    if status == lib.MSALEX_LOCK_LOST:
        raise LockLost(describe(error, ""))
    _check_change(status, error, location, _SAVE_REMEDIES)
    return bytes(ffi.buffer(stamp))


def create(location: str, secret: bytes) -> None:
    """Makes a new file, readable by its owner only; PersistenceFileExists when there is one."""
    error = ffi.new("msalex_error *")
    status = again(lib.msalex_file_create, path(location), secret, len(secret), error)
    _check_change(status, error, location)


def touch(location: str) -> None:
    """Sets the modification time to now; makes an empty file when there is none."""
    error = ffi.new("msalex_error *")
    status = again(lib.msalex_file_touch, path(location), error)
    _check_change(status, error, location)


def delete(location: str) -> None:
    """Raises PersistenceNotFound when there is no such file."""
    error = ffi.new("msalex_error *")
    check_file(again(lib.msalex_file_delete, path(location), error), error, location)


def sweep(location: str) -> None:
    """Removes what dead writers left; that it cannot is no reason to fail."""
    again(lib.msalex_file_sweep, path(location), ffi.new("msalex_error *"))


def directory_make(location: str) -> None:
    """Makes one directory, in one that exists; on POSIX for its owner only."""
    error = ffi.new("msalex_error *")
    status = again(lib.msalex_directory_make, path(location), error)
    _check_change(status, error, location, _DIRECTORY_REMEDIES)
