"""Keys that the Linux kernel keeps in memory for this user; see csrc/msalex.h.

They have numbers.  All programs of this user and user namespace share them.
"""

from __future__ import annotations

import enum
import errno
import os

from .._msalex import ffi, lib
from .._references import KEY_UNAVAILABLE
from .check import check_store, new_buffer, take

#: Bytes of the longest key.
LONGEST_KEY: int = lib.MSALEX_KERNELKEY_SIZE_MAX

#: For most errnos.  KernelKey says how to give the program another key.
_OTHERWISE = KEY_UNAVAILABLE.saying("")
_FORBIDDEN = _OTHERWISE.because(
    "The container, or a rule of this machine, forbids the system calls keyctl and add_key."
)
_TOO_OLD = _OTHERWISE.because(
    "Keys need a Linux of version 5.3 or newer that has persistent keyrings"
    " (CONFIG_PERSISTENT_KEYRINGS)."
)
#: Why there is no key, by errno.
_CAUSES = {
    errno.EPERM: _FORBIDDEN,
    errno.EACCES: _FORBIDDEN,
    errno.ENOSYS: _TOO_OLD,
    errno.EOPNOTSUPP: _TOO_OLD,
    errno.EDQUOT: KEY_UNAVAILABLE.saying(
        "This user may have no more keys. `keyctl show` and /proc/keys show them, /proc/key-users"
        " how many are allowed: remove some, or raise kernel.keys.maxkeys and kernel.keys.maxbytes"
        " (sysctl)."
    ),
    errno.EAGAIN: KEY_UNAVAILABLE.saying(
        "This user may start no more threads: end some programs, or raise the limit."
    ),
    errno.EFBIG: KEY_UNAVAILABLE.saying(
        "Another program has put it there: remove it (man persistent-keyring)."
    ),
}
#: Seconds; the default of the kernel (security/keys/persistent.c).
_EXPIRES_AFTER = 3 * 24 * 3600


class Missing(enum.Enum):
    """Why there is no key."""

    #: It was never made, was removed or revoked, or went with the whole keyring, which nobody used
    #: in time.  The kernel does not tell these apart.
    NONE = "none"
    #: Somebody has given this key a time of its own, and the time is over.
    EXPIRED = "expired"


def find(number: int) -> bytes | Missing:
    """The key of that number.  All keys count as used now, so that the kernel keeps them.

    :raises PersistenceUnavailable: when the kernel has no such keyring, or a container forbids it.
    :raises PersistenceDamaged: when something else is there.
    """
    error, key = ffi.new("msalex_error *"), new_buffer()
    status = lib.msalex_kernelkey_find(_description(number), key, error)
    if status == lib.MSALEX_NOT_FOUND:
        return Missing.EXPIRED if error.code == errno.EKEYEXPIRED else Missing.NONE
    check_store(status, error, _location(number), _CAUSES, _OTHERWISE)
    return take(key)


def add(number: int, key: bytes) -> bool:
    """Makes the key of that number.  False: there is one, and it was not changed.

    :param key: 1 to LONGEST_KEY bytes.
    :raises PersistenceUnavailable: as find(); also when the kernel is older than 5.3.
    :raises PersistenceError: with EDQUOT when this user may have no more keys.
    """
    error = ffi.new("msalex_error *")
    status = lib.msalex_kernelkey_add(_description(number), key, len(key), error)
    if status == lib.MSALEX_OS_ERROR and error.code == errno.EEXIST:
        return False
    check_store(status, error, _location(number), _CAUSES, _OTHERWISE)
    return True


def remove(number: int) -> None:
    """Removes the key of that number, if there is one.

    :raises PersistenceUnavailable: as find().
    """
    error = ffi.new("msalex_error *")
    status = lib.msalex_kernelkey_remove(_description(number), error)
    if status != lib.MSALEX_NOT_FOUND:
        check_store(status, error, _location(number), _CAUSES, _OTHERWISE)


def boot_id() -> str:
    """A text that is another one after each start of the machine; "" when it cannot be read."""
    return _text_of("/proc/sys/kernel/random/boot_id")


def user_namespace() -> str:
    """The inode number of the user namespace of this process, such as "4026531837"; "" when it
    cannot be read.  Two namespaces that exist at the same time have different numbers."""
    try:
        return str(os.stat("/proc/self/ns/user").st_ino)
    except OSError:
        return ""


def expires_after() -> int:
    """Seconds without use after which the kernel removes the keys."""
    text = _text_of("/proc/sys/kernel/keys/persistent_keyring_expiry")
    return int(text) if text.isdecimal() else _EXPIRES_AFTER


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""


def _description(number: int) -> bytes:
    return b"msal-extensions:%d" % number


def _location(number: int) -> str:
    return f"kernel keyring: {_description(number).decode('ascii')}"
