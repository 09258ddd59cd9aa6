"""The kernel's own calls for keys, in the place of other programs: keyctl(2), add_key(2).

A thread that calls persistent_keyring() has it in a keyring of its own until it ends.  So a test
makes these calls in a forked child: see users.as_user().
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
from collections.abc import Iterator

import pytest

from msal_extensions import PersistenceUnavailable
from msal_extensions._native import kernelkey
from tests.support.capability import needs
from tests.support.seccomp import numbers

# linux/keyctl.h
THREAD, PROCESS, SESSION = -1, -2, -3
JOIN_SESSION, REVOKE, SEARCH, SET_TIMEOUT, GET_PERSISTENT = 1, 3, 10, 15, 22

#: Far from the numbers of real keys, and others for each process.
_numbers = itertools.count(1_000_000 + 1000 * os.getpid())


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int | bytes | None) -> int:
    """:raises OSError: with the errno of the kernel."""
    sized = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = _libc().syscall(ctypes.c_long(numbers()[name]), *sized)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)


def keyctl(operation: int, *arguments: int | bytes | None) -> int:
    return _call("keyctl", operation, *arguments, *[0] * (4 - len(arguments)))


def add_key(description: str, key: bytes, keyring: int) -> int:
    return _call("add_key", b"user", description.encode(), key, len(key), keyring)


def persistent_keyring() -> int:
    return keyctl(GET_PERSISTENT, -1, THREAD)


def serial(number: int) -> int:
    """The kernel's own number of one of our keys."""
    description = b"msal-extensions:%d" % number
    return keyctl(SEARCH, persistent_keyring(), b"user", description)


def keys_of(user: int) -> int:
    """How many keys count against the quota of that user."""
    with open("/proc/key-users") as file:
        for line in file:
            uid, _, _, counted, _ = line.replace(":", " ", 1).split()
            if int(uid) == user:
                return int(counted.partition("/")[0])
    return 0


def a_number() -> int:
    """A number that no other test uses.  Remove the key at the end."""
    return next(_numbers)


@pytest.fixture
def number() -> Iterator[int]:
    """A number that no other test uses, where the kernel keeps keys.

    Its key of this user is removed at the end; that of another user the test has to remove.
    """
    made = a_number()
    try:
        kernelkey.find(made)
    except PersistenceUnavailable as error:
        needs(str(error))
    yield made
    kernelkey.remove(made)
