"""What can be seen of a cache without opening it: its file, its directory, its lock, its copies.

It takes no lock, and makes and changes nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
import sys
import time
from collections.abc import Iterator

from .. import _references as references
from .._native import files
from .._native import lock as native_lock
from .._paths import for_python
from .paths import lock_of
from .places import Kind, Place
from .report import Cache, Lock, Report, Severity
from .words import clean, command_line

#: Seconds after which a lock is held for remarkably long: a refresh of a token takes a few.
_LONG = 60.0
#: The same for the temporary file of a save.
_OLD = 60.0
#: No more names of a directory are looked at.
_NAMES = 100_000
#: Names that a remedy lists.
_LISTED = 5
#: The names of copies, without the name of the cache: what was put aside because it was damaged
#: (``PersistedTokenCache``), and a file whose key was lost (``_stores/encrypted.py``).
_COPY = re.compile(r"\.damaged-\d{8}T\d{6}Z-[0-9a-f]{16}|\.lost")
_TEMPORARY = re.compile(r"\.msalex-[0-9a-f]{16}\.tmp")


def look_at_file(report: Report, place: Place, cache: Cache) -> None:
    """Mode, owner, size and time of the file."""
    try:
        found = os.stat(for_python(place.location))
    except OSError:  # _read() says why
        return
    cache.size, cache.saved_at = found.st_size, found.st_mtime
    if sys.platform == "win32":  # the modes there say nothing
        return
    cache.mode, cache.owner = f"{stat.S_IMODE(found.st_mode):04o}", _name_of(found.st_uid)


def judge_rights(report: Report, place: Place, cache: Cache) -> None:
    """Adds what others may do to the file.

    A signal file has no content.  The rights of a file that is no cache are not our business.
    """
    is_plain = place.kind is Kind.PLAIN
    is_ours = place.program() or not is_plain or cache.state in ("stored", "damaged")
    if not cache.mode or not is_ours or place.kind is Kind.KEYRING:
        return
    found = os.stat(for_python(place.location))
    if not stat.S_ISREG(found.st_mode):
        return
    directory = os.path.dirname(os.path.realpath(place.location))
    _judge_file(report, cache, found, os.stat(directory))
    _judge_directory(report, cache, directory)


def _judge_file(
    report: Report, cache: Cache, found: os.stat_result, directory: os.stat_result
) -> None:
    remedy = command_line("chmod", "go-rwx", cache.location)
    if found.st_mode & stat.S_IWOTH:
        words = f"Every user may write to this file: its mode is {cache.mode}."
        _open_to_others(report, Severity.PROBLEM, cache, words, remedy)
    elif found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        who = "Every user" if found.st_mode & stat.S_IRWXO else "Its group"
        words = f"{who} may get at this file: its mode is {cache.mode}."
        _open_to_others(report, Severity.WARNING, cache, words, remedy)
    if found.st_uid not in (os.geteuid(), directory.st_uid, 0):
        words = f"The file belongs to another user: {cache.owner}."
        remedy = command_line("chown", _name_of(directory.st_uid), cache.location)
        _open_to_others(report, Severity.WARNING, cache, words, remedy)


def _judge_directory(report: Report, cache: Cache, directory: str) -> None:
    """In a directory that others may write to, they can put another file in its place; unless the
    sticky bit is set, as for /tmp."""
    mode = os.stat(directory).st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        words = f"Every user may replace this file: {directory} has mode {stat.S_IMODE(mode):04o}."
        remedy = command_line("chmod", "go-w", directory)
        _open_to_others(report, Severity.PROBLEM, cache, words, remedy)


def _open_to_others(
    report: Report, severity: Severity, cache: Cache, words: str, remedy: str
) -> None:
    report.add(severity, references.OPEN_TO_OTHERS, words, remedy, cache.name)


def _name_of(user: int) -> str:
    with contextlib.suppress(ImportError, KeyError, OSError):
        import pwd

        return clean(pwd.getpwuid(user).pw_name)
    return str(user)


# ---- copies ----


def look_around(report: Report, place: Place, cache: Cache) -> None:
    """Finds files beside the cache that hold tokens, and that nobody will read again."""
    names = list(_copies(place))
    if not names:
        return
    directory = os.path.dirname(place.location)
    words = f"Copies with tokens lie in {directory}: {', '.join(map(clean, names[:_LISTED]))}"
    words += f" and {len(names) - _LISTED} more." if len(names) > _LISTED else "."
    paths = [os.path.join(directory, name) for name in names[:_LISTED]]
    remove = ("del",) if sys.platform == "win32" else ("rm", "--")
    remedy = command_line(*remove, *paths)
    report.add(Severity.WARNING, references.COPIES_LEFT, words, remedy, cache.name)


def _copies(place: Place) -> list[str]:
    """The names of copies, and of what killed saves left."""
    paths = [*copies_of(place.location), *copies_of(place.location + ".enc")]
    found = [os.path.basename(path) for path in paths]
    for entry in _entries(os.path.dirname(place.location)):
        if _TEMPORARY.fullmatch(entry.name):
            with contextlib.suppress(OSError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > _OLD:
                    found.append(entry.name)
    return sorted(found)


def copies_of(location: str) -> list[str]:
    """The copies with tokens that lie beside a file."""
    directory, base = os.path.split(location)
    return sorted(
        os.path.join(directory, entry.name)
        for entry in _entries(directory)
        if entry.name.startswith(base) and _COPY.fullmatch(entry.name, len(base))
    )


def _entries(directory: str) -> Iterator[os.DirEntry[str]]:
    with (
        contextlib.suppress(OSError),
        os.scandir(for_python(directory or os.curdir)) as entries,
    ):
        yield from itertools.islice(entries, _NAMES)


# ---- the lock ----


def look_at_lock(report: Report, place: Place, cache: Cache) -> None:
    """The holder of the lock of the cache, as far as that can be seen without taking it."""
    cache.lock = found = Lock(lock_of(cache.location))
    try:
        status = os.stat(for_python(found.location))
    except OSError as error:
        found.state = "free" if isinstance(error, FileNotFoundError | NotADirectoryError) else (
            "unknown"
        )  # fmt: skip
        return
    found.since, found.holder = status.st_mtime, clean(native_lock.holder(found.location), 80)
    found.state = _state(found.location, status)
    age = time.time() - found.since
    if found.state == "held" and age > _LONG:
        words = f"{found.holder or 'A program'} has held the lock for {age / 60:.0f} minutes."
        report.add(
            Severity.WARNING,
            references.LOCK_BUSY,
            words,
            "See what that program waits for, or end it.",
            cache.name,
        )


def _state(location: str, status: os.stat_result) -> str:
    """By the kernel's list of locks: proc_locks(5).

    Lines of waiters have "->".  A line names the device of the file system, which is another one
    than that of stat() on btrfs and overlayfs; so a line with the inode alone proves nothing.
    """
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            fields = [line.split() for line in file if "->" not in line]
    except OSError:
        return "unknown"
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    places = {part for line in fields for part in line if part.endswith(f":{status.st_ino}")}
    if f"{device}:{status.st_ino}" in places:
        return "held"
    return "unknown" if places or files.is_remote(location) else "left"
