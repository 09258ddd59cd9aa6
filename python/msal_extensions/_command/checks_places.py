"""What doctor looks at for each cache: its directory, its disk, its time, and a trial to save."""

from __future__ import annotations

import os
import sys
import time
from typing import NamedTuple

from .. import _references as references
from .._native import files
from .._paths import for_python
from ..errors import PersistenceError, PersistenceTimeout
from .findings import add_error, add_once, within
from .places import Kind, Options, Place
from .report import Cache, Check, Report, Severity

#: Seconds.  The clocks of two machines may differ so much without harm.
_CLOCKS_DIFFER = 300.0


class _Directory(NamedTuple):
    path: str  # or, where it is missing, the nearest one above that is there
    is_writable: bool
    is_read_only: bool
    free: int | None  # bytes; None where that cannot be asked
    has_names: bool  # whether the disk can have one more file
    is_remote: bool


def directory(report: Report, place: Place, options: Options) -> bool:
    """Adds the directory of a place, and what is wrong with it.

    :returns: Whether a file can be made there.
    """
    where = os.path.dirname(place.location)
    try:
        found = within(options.timeout, lambda: _look_at(where), where)
    except PersistenceTimeout as error:
        add_error(report, error, f"The directory {where}", place.name)
        return False
    except OSError as error:
        words = f"The directory {where}: {error.strerror}."
        add_once(report, Severity.PROBLEM, references.DENIED, words, "", place.name)
        return False
    wrong = _what_is_wrong(found)
    if wrong is not None:
        add_once(report, Severity.PROBLEM, wrong[0], wrong[1], "", place.name)
    elif not any(each.name == f"directory {found.path}" for each in report.checks):
        free = "" if found.free is None else f", {_size(found.free)} free"
        remote = "; on a network file system or FUSE" if found.is_remote else ""
        report.checks.append(Check(f"directory {found.path}", f"writable{free}{remote}."))
    return wrong is None


def _look_at(path: str) -> _Directory:
    while not os.path.exists(for_python(path)) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    usual = os.access in os.supports_effective_ids
    may_write = os.access(for_python(path), os.W_OK | os.X_OK, effective_ids=usual)
    free, has_names, is_read_only = None, True, False
    if sys.platform != "win32":
        disk = os.statvfs(path)
        # What only root may use is left out: it may be refused to root as well, by a quota.
        free = disk.f_frsize * disk.f_bavail
        has_names = disk.f_favail > 0 or disk.f_files == 0  # some file systems have no such limit
        is_read_only = bool(disk.f_flag & os.ST_RDONLY)
    remote = files.is_remote(path)
    return _Directory(path, may_write, is_read_only, free, has_names, remote)


def _what_is_wrong(found: _Directory) -> tuple[references.Reference, str] | None:
    if found.is_read_only:
        return references.READ_ONLY, f"The file system of {found.path} is read-only."
    if not found.is_writable:
        return references.DENIED, f"This user may not write to the directory {found.path}."
    if found.free == 0:
        return references.DISK_FULL, f"No space is left on the disk of {found.path}."
    if not found.has_names:
        return references.DISK_FULL, f"The disk of {found.path} can have no more files."
    return None


def _size(count: float) -> str:
    """Such as "31 GB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.0f} TB"


def clock(report: Report, cache: Cache) -> None:
    """A cache from the future: the clock was wrong then, or is wrong now."""
    if cache.saved_at is not None and cache.saved_at > time.time() + _CLOCKS_DIFFER:
        words = "It was saved in the future: the clock was wrong then, or it is wrong now."
        add_once(report, Severity.WARNING, references.CLOCK, words, "", cache.name)


def saving(report: Report, place: Place, cache: Cache, options: Options) -> None:
    """Saves a probe beside the content, reads it and removes it, where that asks nobody."""
    if not _asks_nobody(cache):
        return
    try:
        within(options.timeout, lambda: place.open().verify(), place.location)
    except PersistenceError as error:
        add_error(report, error, "A trial to save failed", place.name)
    except Exception as error:
        words = f"A trial to save failed: {type(error).__name__}."
        add_once(report, Severity.PROBLEM, references.UNEXPECTED, words, "", place.name)
    else:
        report.checks.append(Check(f"saving to {place.name}", "A trial was saved and read back."))


def _asks_nobody(cache: Cache) -> bool:
    """Whether the trial asks no person for a password or a permission.

    A keyring that has just been read is unlocked.  macOS may ask for each item.
    """
    if cache.kind == Kind.KEYRING.value:
        return cache.state == "stored" and sys.platform != "darwin"
    return cache.state in ("stored", "damaged", "other")
