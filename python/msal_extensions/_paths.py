"""Locations as programs give them."""

from __future__ import annotations

import errno
import hashlib
import os
import sys

from ._native import files
from ._references import ARGUMENT, DIRECTORY_MISSING, NO_HOME
from .errors import PersistenceDirectoryNotFound, PersistenceFileExists, with_remedy

#: Windows takes directories up to this many characters without a prefix, and files a little longer.
_LONGEST_DIRECTORY = 247


def make_directories(path: str) -> None:
    """Makes a directory and its parents.  Directories made here are for their owner only.

    :raises PersistenceError: when one cannot be made.  It is also the exception that 1.3.1
        raised: FileExistsError, PermissionError and the like.
    """
    if not path or os.path.isdir(for_python(path)):
        return
    missing = [path]
    while (parent := os.path.dirname(missing[-1])) and not os.path.exists(for_python(parent)):
        if parent == missing[-1]:  # Windows: a drive, or the share of a server
            cause = DIRECTORY_MISSING.saying("Choose a location on one that is there.")
            words, kind = "There is no such drive or share.", PersistenceDirectoryNotFound
            raise with_remedy(kind, errno.ENOENT, words, parent, cause)
        missing.append(parent)
    for directory in reversed(missing):
        if os.path.isdir(for_python(directory)):  # "new/..", once "new" is there
            continue
        try:
            files.directory_make(directory)
        except PersistenceFileExists:  # another process was faster; or a link that leads nowhere
            if directory == path and not os.path.isdir(for_python(path)):
                raise


def for_python(path: str) -> str:
    """The same path for Python's own calls, however long it is.

    Windows refuses a long path unless it begins with a prefix.  The C library puts that before
    every path by itself.
    """
    if sys.platform != "win32":
        return path
    full = os.path.abspath(path)
    return path if len(full) <= _LONGEST_DIRECTORY else with_prefix(full)


def with_prefix(path: str) -> str:
    """An absolute path of Windows in the form without a limit of its length.

    https://learn.microsoft.com/windows/win32/fileio/maximum-file-path-limitation
    """
    if path.startswith(("\\\\?\\", "\\\\.\\")):
        return path
    return "\\\\?\\UNC" + path[1:] if path.startswith("\\\\") else "\\\\?\\" + path


def sha256_of(text: str) -> str:
    """64 hexadecimal digits.  1.3.1 names a keyring's item by the SHA-256 of its location."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def location_of(location: str | os.PathLike[str]) -> str:
    """Checks a location that the caller gave, and returns it unchanged.

    :raises ValueError: when it is empty, or has a null byte.
    :raises PersistenceDirectoryNotFound: when there is no home directory for its ``~``.
    """
    if not location:
        raise ValueError(ARGUMENT.after("Requires a file path"))
    path = os.fsdecode(location)  # TypeError when it is no path
    if "\0" in path:
        raise ValueError(ARGUMENT.after("A file path must not contain a null byte"))
    expand(path)
    return path


def expand(path: str) -> str:
    """Puts the home directory in the place of ``~``.

    :raises PersistenceDirectoryNotFound: when there is no home directory.  Without this error
        the tokens would go to a directory named "~" below the working directory.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        user = expanded[1:].replace(os.sep, "/").partition("/")[0]
        words, cause = "This user has no home directory.", NO_HOME
        if user:
            words = f"There is no user named {user} with a home directory."
            remedy = f"Give a path without ~; ./{expanded} if a file of that name is meant."
            cause = NO_HOME.saying(remedy)
        raise with_remedy(PersistenceDirectoryNotFound, errno.ENOENT, words, path, cause)
    return expanded


def sealed_location(signal_location: str) -> str:
    """The encrypted file that takes the place of a keyring.  It lies beside the signal file."""
    return expand(signal_location) + ".enc"


def probe_file(location: str, digits: str) -> str:
    """A file beside the location, named by 16 random hexadecimal digits.

    It has the name of a temporary file of the C library.  So the next save or delete removes it
    if a program is killed before it does so itself.
    """
    return os.path.join(os.path.dirname(location), f".msalex-{digits}.tmp")
