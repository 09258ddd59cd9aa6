"""Files: read, replaced whole, touched, deleted."""

from __future__ import annotations

import errno
import threading
from collections.abc import Mapping
from typing import Any

from .._msalex import ffi, lib
from .._references import (
    DENIED,
    DIRECTORY_MISSING,
    DISK_FULL,
    NAME_TAKEN,
    READ_ONLY,
    TOO_LARGE,
    Reference,
)
from ..errors import LockLost
from .check import FILE_CAUSES, again, check_file, describe, new_buffer, path, take
from .lock import Lock

#: For errors that can stop a save half-way.
_KEPT = " What was stored before is still there."
_SAVE_CAUSES = {
    code: cause.saying(cause.remedy + _KEPT)
    for code, cause in {
        errno.ENOSPC: DISK_FULL,
        errno.EDQUOT: FILE_CAUSES[errno.EDQUOT],
        errno.EIO: FILE_CAUSES[errno.EIO],
    }.items()
} | {
    errno.EFBIG: TOO_LARGE.because(
        f"This process may not write such a large file (`ulimit -f`).{_KEPT}"
    ).saying("")
}
_NOT_WRITABLE = "Choose a location in a directory that you may write to."
_NOT_MADE = "Choose a location in a directory that exists or can be made."
_DIRECTORY_CAUSES = {
    errno.EACCES: DENIED.saying(_NOT_WRITABLE),
    errno.EPERM: DENIED.saying(_NOT_WRITABLE),
    errno.EROFS: READ_ONLY,
    errno.EEXIST: NAME_TAKEN.saying(_NOT_MADE),
    errno.ENOTDIR: NAME_TAKEN.saying(_NOT_MADE),
    errno.ENOENT: DIRECTORY_MISSING.saying(_NOT_MADE),
}


#: The stamp of a file: the bytes of a ``msalex_stamp``.  Each search asks for one, and a tuple of
#: its fields would take five times as long.
Stamp = bytes


def fields_of(stamp: Stamp) -> Any:
    """These bytes as a ``msalex_stamp``."""
    return ffi.from_buffer("msalex_stamp *", stamp)


def _check_change(
    status: int, error: Any, location: str, better: Mapping[int, Reference] = {}
) -> None:
    """check_file() for a call that makes or changes something.

    There "not found" means the directory, and never "nothing is stored".
    """
    if status == lib.MSALEX_NOT_FOUND:
        status = lib.MSALEX_OS_ERROR
    check_file(status, error, location, better)


class _Scratch(threading.local):
    """The structures that stat() fills.  Every search calls stat(), and to make new structures
    would cost as much as the call itself."""

    def __init__(self) -> None:
        stamp = ffi.new("msalex_stamp *")
        self.all = stamp, ffi.buffer(stamp), ffi.new("msalex_error *")


_scratch = _Scratch()


def stat(location: str) -> Stamp:
    """The stamp of a file.

    :raises PersistenceNotFound: when there is no such file.
    """
    stamp, its_bytes, error = _scratch.all
    status = lib.msalex_file_stat(path(location), stamp, error)
    if status:
        if status == lib.MSALEX_INTERRUPTED:
            status = again(lib.msalex_file_stat, path(location), stamp, error)
        check_file(status, error, location)
    found: Stamp = its_bytes[:]
    return found


def is_remote(location: str) -> bool:
    """Whether others may change the file while this kernel still shows an old stamp.

    That is so on network file systems and on FUSE.
    """
    return bool(lib.msalex_file_is_remote(path(location)))


def read(location: str) -> tuple[bytes, Stamp]:
    """The content, and the stamp of exactly this content."""
    error, stamp = ffi.new("msalex_error *"), ffi.new("msalex_stamp *")
    content = new_buffer()
    status = again(lib.msalex_file_read, path(location), content, stamp, error)
    check_file(status, error, location)
    return take(content), bytes(ffi.buffer(stamp))


def replace(location: str, secret: bytes, guard: Lock | None = None) -> Stamp:
    """Puts new content in the place of the old, all at once.

    :param guard: A lock that must still be held at the rename; None: no lock.
    :raises LockLost: when the guard is not held any more; nothing was changed.
    :raises PersistenceTorn: when the old content is lost.  After any other error it is still there.
    """
    error, stamp = ffi.new("msalex_error *"), ffi.new("msalex_stamp *")
    lock = ffi.NULL if guard is None else guard.handle
    status = again(lib.msalex_file_replace, path(location), secret, len(secret), lock, stamp, error)
    if status == lib.MSALEX_LOCK_LOST:
        raise LockLost(describe(error))
    _check_change(status, error, location, _SAVE_CAUSES)
    return bytes(ffi.buffer(stamp))


def create(location: str, secret: bytes) -> None:
    """Makes a new file that only its owner can read.

    :raises PersistenceFileExists: when there is a file of that name.
    """
    error = ffi.new("msalex_error *")
    status = again(lib.msalex_file_create, path(location), secret, len(secret), error)
    _check_change(status, error, location)


def touch(location: str) -> None:
    """Sets the modification time to now.  Makes an empty file when there is none."""
    error = ffi.new("msalex_error *")
    status = again(lib.msalex_file_touch, path(location), error)
    _check_change(status, error, location)


def delete(location: str) -> None:
    """:raises PersistenceNotFound: when there is no such file."""
    error = ffi.new("msalex_error *")
    check_file(again(lib.msalex_file_delete, path(location), error), error, location)


def sweep(location: str) -> None:
    """Removes temporary files of dead writers.  A failure to do so is ignored."""
    again(lib.msalex_file_sweep, path(location), ffi.new("msalex_error *"))


def directory_make(location: str) -> None:
    """Makes one directory.  Its parent must exist.  On POSIX it is for its owner only."""
    error = ffi.new("msalex_error *")
    status = again(lib.msalex_directory_make, path(location), error)
    _check_change(status, error, location, _DIRECTORY_CAUSES)
