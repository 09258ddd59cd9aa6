"""The common part of all modules of this package: C calls, their errors, their buffers."""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from .._msalex import ffi, lib
from .._references import (
    ARGUMENT,
    DENIED,
    DIRECTORY_MISSING,
    DISK_FAILS,
    DISK_FULL,
    INTERRUPTED,
    NAME_TAKEN,
    NOT_TRUSTED,
    READ_ONLY,
    SERVER_SILENT,
    TOO_LARGE,
    TOO_MANY_OPEN,
    TORN,
    UNEXPECTED,
    Reference,
)
from ..errors import (
    BY_ERRNO,
    AnOSError,
    PersistenceDamaged,
    PersistenceDenied,
    PersistenceError,
    PersistenceInterrupted,
    PersistenceNotFound,
    PersistenceNotTrusted,
    PersistenceTorn,
    PersistenceUnavailable,
    with_remedy,
)
from .consent import consent_remedy

#: How often a call is repeated that a signal has interrupted.  Network file systems stop at a
#: signal.  A limit is needed, because a signal that comes during each call would repeat for ever.
_INTERRUPTS_MAX = 100

#: Milliseconds after which a waiting C call returns.  Python runs signal handlers, Ctrl-C among
#: them, only between C calls.
SLICE_MS = 50

#: Seconds.  A longer timeout is passed to the C library as "for ever".
LONGEST = 1e9

EXCEPTIONS: dict[int, type[PersistenceError]] = {
    lib.MSALEX_NOT_FOUND: PersistenceNotFound,
    lib.MSALEX_UNAVAILABLE: PersistenceUnavailable,
    lib.MSALEX_DENIED: PersistenceDenied,
    lib.MSALEX_CORRUPT: PersistenceDamaged,
    lib.MSALEX_INTERRUPTED: PersistenceInterrupted,
    lib.MSALEX_NOT_TRUSTED: PersistenceNotTrusted,
    lib.MSALEX_TORN: PersistenceTorn,
}

#: What an errno of a file call means, and what a person can do.  The system's own words say only
#: what happened.  Any other errno has the reference of its exception.
FILE_CAUSES: dict[int, Reference] = {
    errno.EACCES: DENIED,
    errno.EPERM: DENIED.saying(
        "Check the permissions and attributes of the file and of its directory."
    ),
    errno.EROFS: READ_ONLY,
    errno.ENOSPC: DISK_FULL,
    errno.EDQUOT: DISK_FULL.saying(
        "Your disk quota is used up: remove some of your files, or ask for more."
    ),
    errno.EFBIG: TOO_LARGE.saying(
        "No token cache is that large: remove the file, or give the path of another."
    ),
    # On Windows it stands for each code that the table of the C library does not know.
    errno.EIO: UNEXPECTED if sys.platform == "win32" else DISK_FAILS,
    errno.ENAMETOOLONG: NAME_TAKEN.saying("Choose a shorter path."),
    errno.EISDIR: NAME_TAKEN.saying("Give the path of a file, not of a directory."),
    errno.ENOTDIR: NAME_TAKEN.saying(
        "A part of the path that should be a directory is a file: choose another location."
    ),
    errno.EEXIST: NAME_TAKEN,
    errno.EINVAL: NAME_TAKEN,
    errno.ELOOP: NAME_TAKEN.saying(
        "Remove the symbolic link, or give the path of the file itself."
    ),
    errno.ENOENT: DIRECTORY_MISSING,
    **dict.fromkeys((errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM), TOO_MANY_OPEN),
    errno.EINTR: INTERRUPTED,
    errno.ETIMEDOUT: SERVER_SILENT,
}
#: The same, for statuses that say more than their errno.
_BY_STATUS = {
    lib.MSALEX_NOT_TRUSTED: NOT_TRUSTED,
    lib.MSALEX_TORN: TORN.because("What was stored before is damaged now."),
}


@functools.lru_cache(maxsize=64)
def path(location: str | os.PathLike[str]) -> bytes:
    """The path as the C library takes it: see csrc/msalex.h.

    Windows names files in UTF-16, in which half of a pair may stand alone.  So "surrogatepass",
    and not os.fsencode(), whose encoding a program can change (PYTHONLEGACYWINDOWSFSENCODING).
    """
    if sys.platform == "win32":
        encoded = os.fsdecode(location).encode("utf-8", "surrogatepass")
    else:
        encoded = os.fsencode(location)
    if b"\0" in encoded:
        raise ValueError(ARGUMENT.after("embedded null byte in the path"))
    return encoded


def describe(error: Any) -> str:
    """What happened, in the words of the system, and the call that failed."""
    words = ffi.string(error.message).decode("utf-8", "replace")
    call = ffi.string(error.call).decode("ascii", "replace")
    return f"{words} ({call})."


def failure(
    kind: type[AnOSError],
    code: int | None,
    error: Any,
    location: str,
    cause: Reference | None,
    advice: str = "",
) -> AnOSError:
    """The exception for an error of the C library.

    :param cause: Why it happened, and what a person can do; None: as the class says.
    :param advice: See with_remedy().
    """
    return with_remedy(kind, code, describe(error), location, cause, advice=advice)


def cause_of(
    status: int, code: int, location: str, better: Mapping[int, Reference] = {}
) -> Reference | None:
    """Why a file call failed, and what a person can do; None: as the exception's class says."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if remedy := consent_remedy(code, location):
        return DENIED.saying(remedy)
    return better.get(code) or FILE_CAUSES.get(code)


def check_file(
    status: int, error: Any, location: str, better: Mapping[int, Reference] = {}
) -> None:
    """Raises the exception for a status.

    :param better: Causes by errno that fit this call better than the common ones.
    """
    if status == lib.MSALEX_OK:
        return
    code = int(error.code)
    if status == lib.MSALEX_NOT_FOUND:  # its errno, ENOENT, would say that a directory is missing
        raise failure(PersistenceNotFound, code or None, error, location, None)
    kind = EXCEPTIONS.get(status) or BY_ERRNO.get(code, (PersistenceError,))[0]
    raise failure(kind, code or None, error, location, cause_of(status, code, location, better))


def check_store(
    status: int,
    error: Any,
    location: str,
    causes: Mapping[int, Reference] = {},
    otherwise: Reference | None = None,
) -> None:
    """Raises the exception for a status.

    :param causes: By the code of the error.
    :param otherwise: For all other codes; None: as the exception's class says.
    """
    if status != lib.MSALEX_OK:
        kind = EXCEPTIONS.get(status, PersistenceError)
        code = int(error.code)
        raise failure(kind, code or None, error, location, causes.get(code, otherwise))


def again(call: Callable[..., int], *arguments: Any) -> int:
    """Makes a call, and repeats it when a signal has interrupted it.

    Between two calls Python runs the signal handlers (see PEP 475).  An exception that a handler
    raises ends the loop.
    """
    for _ in range(_INTERRUPTS_MAX):
        status = call(*arguments)
        if status != lib.MSALEX_INTERRUPTED:
            break
    return status


def new_buffer() -> Any:
    """A buffer that is wiped and freed when nothing refers to it any more.

    Ctrl-C may come after the C call that fills it and before ``take()``.
    """
    return ffi.gc(ffi.new("msalex_buffer *"), lib.msalex_buffer_free)


def new_handle(kind: str, free: Callable[[Any], None]) -> Any:
    """A place for a handle, which is freed when nothing refers to the place any more.

    Ctrl-C may come after the C call that makes the handle and before that is known in Python.
    """
    return ffi.gc(ffi.new(kind), lambda place: free(place[0]))


def milliseconds(timeout: float) -> int:
    """A timeout in seconds as the C library takes it: -1 means "for ever"."""
    return int(timeout * 1000) if 0 <= timeout < LONGEST else -1


def finish(wait: Callable[..., int], handle: Any, error: Any, result: Any) -> int:
    """Waits until a call ends that runs in a thread of its own, and frees it: its status.

    After each slice Python runs the signal handlers, Ctrl-C among them.
    """
    while True:
        status = wait(handle[0], SLICE_MS, result, error)
        running = status == lib.MSALEX_TIMEOUT and error.code == 0
        if not running and status != lib.MSALEX_INTERRUPTED:
            break
    ffi.release(handle)
    return status


def take(buffer: Any) -> bytes:
    """The content of a buffer as bytes.  The buffer is wiped and freed."""
    try:
        return bytes(ffi.buffer(buffer.data, buffer.size)) if buffer.size else b""
    finally:
        lib.msalex_buffer_free(buffer)
