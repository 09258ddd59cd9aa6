"""Paths as a person gives them, and whether something is there."""

from __future__ import annotations

import errno
import os

#: Of these errors a missing file is the cause.
_MISSING = (errno.ENOENT, errno.ENOTDIR)
#: ERROR_INVALID_NAME of Windows: no file can have such a name.
_BAD_NAME = 123


def absolute(path: str) -> str:
    """The path without ``~``.  Where there is no home it stays, and opening it says so."""
    expanded = os.path.expanduser(path)
    return expanded if expanded.startswith("~") else os.path.abspath(expanded)


def is_there(path: str) -> bool:
    """Whether there is something of that name; True also where this user may not look."""
    from .._paths import for_python

    try:
        os.lstat(for_python(path))
    except OSError as error:
        return error.errno not in _MISSING and getattr(error, "winerror", None) != _BAD_NAME
    except ValueError:  # a null byte
        return False
    return True


def lock_of(location: str) -> str:
    """The lock file of a cache, as ``PersistedTokenCache`` names it."""
    return location + ".lockfile"
