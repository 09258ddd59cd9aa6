"""The door to the C library: the only file that sees ``ffi`` and ``lib``.

Python types go in and come out.  A status that is not OK becomes an exception here, by the
one table :data:`_EXCEPTIONS`, or by that of the errno where the status says no more than the
errno does.  What each function does and promises stands in csrc/msalex.h.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ._msalex import ffi, lib
from .errors import (
    BY_ERRNO,
    KeychainDenied,
    KeychainError,
    KeychainUnavailable,
    KeyringError,
    KeyringLocked,
    KeyringTimeout,
    LockFileDenied,
    LockFileError,
    LockLost,
    PersistenceDamaged,
    PersistenceDecryptionError,
    PersistenceDenied,
    PersistenceEncryptionError,
    PersistenceError,
    PersistenceInterrupted,
    PersistenceNotFound,
    PersistenceNotTrusted,
    PersistenceTorn,
    PersistenceUnavailable,
)

#: How often a call is made that signals interrupt.  Network file systems break off by a signal
#: that comes now and then; one that comes each time would keep the program here for ever.
_INTERRUPTS_MAX = 100

#: C calls that wait return at least this often (milliseconds), because Python runs its signal
#: handlers, Ctrl-C among them, only between calls.
SLICE_MS = 50

_EXCEPTIONS: dict[int, type[PersistenceError]] = {
    lib.MSALEX_NOT_FOUND: PersistenceNotFound,
    lib.MSALEX_UNAVAILABLE: PersistenceUnavailable,
    lib.MSALEX_DENIED: PersistenceDenied,
    lib.MSALEX_CORRUPT: PersistenceDamaged,
    lib.MSALEX_INTERRUPTED: PersistenceInterrupted,
    lib.MSALEX_NOT_TRUSTED: PersistenceNotTrusted,
    lib.MSALEX_TORN: PersistenceTorn,
}
#: Where the Secret Service differs.
_LIBSECRET_EXCEPTIONS: dict[int, type[PersistenceError]] = {
    **_EXCEPTIONS,
    lib.MSALEX_TIMEOUT: KeyringTimeout,
    lib.MSALEX_DENIED: KeyringLocked,
    lib.MSALEX_INVALID: KeyringError,
    lib.MSALEX_OS_ERROR: KeyringError,
}

#: Where the macOS keychain differs: programs written for 1.3.1 catch its KeychainError.
_KEYCHAIN_EXCEPTIONS: dict[int, type[KeychainError]] = {
    lib.MSALEX_UNAVAILABLE: KeychainUnavailable,
    lib.MSALEX_DENIED: KeychainDenied,
    lib.MSALEX_INVALID: KeychainError,
    lib.MSALEX_OS_ERROR: KeychainError,
}

#: What a person can do about an errno; the system's own words say only what happened.
_FILE_REMEDIES = {
    errno.EACCES: "Check the permissions of the file and of its directory.",
    errno.EPERM: "Check the permissions and attributes of the file and of its directory.",
    errno.EROFS: "Choose a location on a file system that can be written to.",
    errno.ENOSPC: "Free some space on that disk.",
    errno.EDQUOT: "Your disk quota is used up: remove some of your files, or ask for more.",
    errno.EFBIG: "No token cache is that large: remove the file, or give the path of another.",
    errno.ENAMETOOLONG: "Choose a shorter path.",
    errno.EISDIR: "Give the path of a file, not of a directory.",
    errno.ENOTDIR: "A part of the path that should be a directory is a file.",
    errno.ENOENT: "Make sure that its directory exists.",
    errno.EEXIST: "Remove what has that name, or choose another location.",
    errno.ELOOP: "Remove the symbolic link, or give the path of the file itself.",
    errno.EMFILE: "The program has too many files open.",
    errno.EINTR: "Signals kept coming: try again.",
    errno.ETIMEDOUT: "See whether the server of that file system answers; then try again.",
}
#: Where the status tells more than the errno.
_STATUS_REMEDIES = {
    lib.MSALEX_NOT_TRUSTED: "Remove it, or choose a location in a directory that only you may"
    " write to.",
    lib.MSALEX_TORN: "What was stored before is damaged now. Mend the cause, then save again; or"
    " delete the file, and sign in again.",
}
#: Of a failed save, for all that can come half-way.  On Windows a file that is written in place is
#: not restored yet.
_KEPT = "" if sys.platform == "win32" else " What was stored before is still there."
_SAVE_REMEDIES = {
    errno.ENOSPC: _FILE_REMEDIES[errno.ENOSPC] + _KEPT,
    errno.EDQUOT: _FILE_REMEDIES[errno.EDQUOT] + _KEPT,
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
_LIBSECRET_REMEDIES = {
    lib.MSALEX_UNAVAILABLE: "Install and start a Secret Service (gnome-keyring or KWallet) in"
    " a desktop session, or choose another persistence.",
    lib.MSALEX_DENIED: "Unlock the keyring, then try again.",
    lib.MSALEX_TIMEOUT: "See whether the keyring waits for your password; then try again, with"
    " a longer timeout= if need be.",
}
#: By OSStatus.
_KEYCHAIN_REMEDIES = {
    -25308: "The keychain is locked, and this session (SSH, launchd, cron) cannot ask for its"
    " password: run `security unlock-keychain` in it first, or choose another persistence.",
    -25293: "Unlock the login keychain; after a reset of your account's password it may still"
    " have the former one (Keychain Access can change that).",
    -128: "Try again, and choose Allow or Always Allow when macOS asks.",
    -67030: f"The code signature of {sys.executable or 'this Python'} is broken: install Python"
    " anew, or sign it again (`codesign --force --sign - <file>`).",
    -25307: "Make a keychain the default one: `security default-keychain -s login.keychain-db`;"
    " a user who never logged in at the screen has none.",
    -25294: "The default keychain was deleted: make one, and make it the default, in Keychain"
    " Access or with `security create-keychain` and `security default-keychain -s`.",
    -25291: "There is no keychain before the user has logged in, nor in some daemons; choose"
    " another persistence there.",
    -25292: "Make the keychain's file, in ~/Library/Keychains, writable.",
    -34018: "Run a Python that is not sandboxed, from python.org or Homebrew.",
}
#: Why DPAPI could not decrypt, in the order of how often people meet it; by signed HRESULT.
_DPAPI_REMEDIES = {
    0x8009000B - 2**32: "The key that this user had when it was saved does not open now: the"
    " password was reset since, or the program runs as another user or in an elevated shell. Run"
    " it as it was run then; if the password was reset, delete the file and sign in again.",
    13: "It was saved by another user, on another machine or with another entropy, or it is"
    " damaged. Use those, or delete the file and sign in again.",
    2: "The key is not on this machine, or the profile of this user is not loaded. Decrypt it"
    " where it was saved and with the profile loaded, or delete the file and sign in again.",
    0x80090009 - 2**32: "The program runs as another user than the one who saved it, or without"
    " that user's profile. Run it as it was run then, or delete the file and sign in again.",
}
_DPAPI_REMEDY = (
    "Only the user who saved it can decrypt it, on the same machine and with the same entropy."
    " If that is so, delete the file and sign in again."
)
_DPAPI_PLAINTEXT = (
    "The file looks like plain text: a program without encryption wrote it. Give it another"
    " location, or delete the file and sign in again."
)


class Stamp(NamedTuple):
    """Which content a file has: see ``msalex_stamp``."""

    device: int
    inode: int
    size: int
    mtime_ns: int


@functools.lru_cache(maxsize=64)
def _path(location: str) -> bytes:
    if "\0" in location:
        raise ValueError("embedded null byte in the path")
    return os.fsencode(location)


def _describe(error: Any, remedy: str) -> str:
    words = ffi.string(error.message).decode("utf-8", "replace")
    call = ffi.string(error.call).decode("ascii", "replace")
    return f"{words} ({call}). {remedy}".rstrip()


def _remedy(status: int, code: int, better: Mapping[int, str] = {}) -> str:
    return _STATUS_REMEDIES.get(status) or better.get(code) or _FILE_REMEDIES.get(code, "")


def _check_file(
    status: int, error: Any, location: str, better_remedies: Mapping[int, str] = {}
) -> None:
    """:param better_remedies: By errno, where the caller knows better than the common ones."""
    if status == lib.MSALEX_OK:
        return
    code = int(error.code)
    kind = _EXCEPTIONS.get(status) or BY_ERRNO.get(code, (PersistenceError,))[0]
    remedy = _remedy(status, code, better_remedies)
    raise kind(code or None, _describe(error, remedy), location)


def _check_change(
    status: int, error: Any, location: str, better_remedies: Mapping[int, str] = {}
) -> None:
    """The same for a call that makes or changes something: what it did not find is the directory,
    and never "nothing is stored"."""
    if status == lib.MSALEX_NOT_FOUND:
        status = lib.MSALEX_OS_ERROR
    _check_file(status, error, location, better_remedies)


def _again(call: Callable[..., int], *arguments: Any) -> int:
    """Calls, and calls again when a signal interrupted it: between two calls Python runs the
    handlers of signals (see PEP 475), and what they raise ends this."""
    for _ in range(_INTERRUPTS_MAX):
        status = call(*arguments)
        if status != lib.MSALEX_INTERRUPTED:
            break
    return status


def _take(buffer: Any) -> bytes:
    """The content of a buffer as bytes; wipes and frees the buffer."""
    try:
        return bytes(ffi.buffer(buffer.data, buffer.size)) if buffer.size else b""
    finally:
        lib.msalex_buffer_free(buffer)


def _stamp(stamp: Any) -> Stamp:
    return Stamp(stamp.device, stamp.inode, stamp.size, stamp.mtime_ns)


# ---- files ----


class _Scratch(threading.local):
    """What file_stat() writes to: every search calls it, and new ones cost as much as it does."""

    def __init__(self) -> None:
        self.both = ffi.new("msalex_stamp *"), ffi.new("msalex_error *")


_scratch = _Scratch()


def file_stat(location: str) -> Stamp:
    """Raises PersistenceNotFound when there is no such file."""
    stamp, error = _scratch.both
    status = lib.msalex_file_stat(_path(location), stamp, error)
    if status:
        if status == lib.MSALEX_INTERRUPTED:
            status = _again(lib.msalex_file_stat, _path(location), stamp, error)
        _check_file(status, error, location)
    # Half the time of Stamp(...), which is written in Python.
    return tuple.__new__(Stamp, (stamp.device, stamp.inode, stamp.size, stamp.mtime_ns))


def file_read(location: str) -> tuple[bytes, Stamp]:
    """The content, and the stamp of just that content."""
    error, stamp = ffi.new("msalex_error *"), ffi.new("msalex_stamp *")
    content = ffi.new("msalex_buffer *")
    status = _again(lib.msalex_file_read, _path(location), content, stamp, error)
    _check_file(status, error, location)
    return _take(content), _stamp(stamp)


def file_replace(location: str, secret: bytes, guard: Lock | None = None) -> Stamp:
    """Puts new content in the place of the old, all at once.

    Raises LockLost, and changes nothing, when the guard turns out not to be held any more.
    Raises PersistenceTorn when the old content is lost; else it is still there after an error.
    """
    error, stamp = ffi.new("msalex_error *"), ffi.new("msalex_stamp *")
    lock = ffi.NULL if guard is None else guard._lock
    status = _again(
        lib.msalex_file_replace, _path(location), secret, len(secret), lock, stamp, error
    )
    if status == lib.MSALEX_LOCK_LOST:
        raise LockLost(_describe(error, ""))
    _check_change(status, error, location, _SAVE_REMEDIES)
    return _stamp(stamp)


def file_create(location: str, secret: bytes) -> None:
    """Makes a new file, readable by its owner only; PersistenceFileExists when there is one."""
    error = ffi.new("msalex_error *")
    status = _again(lib.msalex_file_create, _path(location), secret, len(secret), error)
    _check_change(status, error, location)


def file_touch(location: str) -> None:
    """Sets the modification time to now; makes an empty file when there is none."""
    error = ffi.new("msalex_error *")
    status = _again(lib.msalex_file_touch, _path(location), error)
    _check_change(status, error, location)


def file_delete(location: str) -> None:
    """Raises PersistenceNotFound when there is no such file."""
    error = ffi.new("msalex_error *")
    _check_file(_again(lib.msalex_file_delete, _path(location), error), error, location)


def file_sweep(location: str) -> None:
    """Removes what dead writers left; that it cannot is no reason to fail."""
    _again(lib.msalex_file_sweep, _path(location), ffi.new("msalex_error *"))


def directory_make(location: str) -> None:
    """Makes one directory, in one that exists; on POSIX for its owner only."""
    error = ffi.new("msalex_error *")
    status = _again(lib.msalex_directory_make, _path(location), error)
    _check_change(status, error, location, _DIRECTORY_REMEDIES)


# ---- the lock ----


# Names of this module, because the lock is taken so often that looking them up shows.
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
    """One attempt at a lock, and the lock once it is held.

    One thread waits for it.  Once it is held any thread may call; the native lock has room for
    one at a time, and the others wait for the few system calls that this takes.
    """

    __slots__ = ("_error", "_location", "_lock", "_turn")

    def __init__(self, path: str, program: str) -> None:
        self._error = _new(_ERROR)
        self._location = path
        self._turn = threading.RLock()  # a signal handler may come in between and call, too
        handle = _new(_LOCK)
        self._check(_lock_new(_path(path), _program(program), handle, self._error))
        # Whatever happens to this object, the lock does not outlive it.
        self._lock = _gc(handle[0], _lock_free)

    def acquire(self, slice_ms: int, patience_ms: int) -> bool:
        """True: held.  False: not yet; go on waiting by calling again, or release.

        :param patience_ms: For how long the caller will go on calling; a negative one: for ever.
        """
        status = _lock_acquire(self._lock, slice_ms, patience_ms, self._error)
        if status == _OK:
            return True
        if status not in _NOT_YET:
            self._check(status)
        return False

    def still_held(self) -> bool:
        """Is the file on disk still the one that we hold?"""
        with self._turn:
            return bool(lib.msalex_lock_check(self._lock, self._error) == _OK)

    def release(self) -> bool:
        """False: somebody had removed the file.  Either way nothing is held any more."""
        with self._turn:
            return bool(_lock_release(self._lock, self._error) == _OK)

    def _check(self, status: int) -> None:
        if status == _OK:
            return
        code = int(self._error.code)
        kind = BY_ERRNO.get(code, (None, LockFileError))[1]
        if status in (lib.MSALEX_DENIED, lib.MSALEX_NOT_TRUSTED):
            kind = LockFileDenied
        words = _describe(self._error, _remedy(status, code))
        raise kind(code or None, words, self._location)


def lock_holder(path: str) -> str:
    """Who says to hold the lock, "<pid> <program>"; "" when that cannot be read."""
    error, text = ffi.new("msalex_error *"), ffi.new("msalex_buffer *")
    lib.msalex_lock_holder(_path(path), text, error)
    return _take(text).decode("utf-8", "replace")


# ---- changes of a file ----


class Watch:
    """Tells when a file changes, comes or goes; neither it nor its directory has to exist."""

    def __init__(self, path: str) -> None:
        self._error, handle = ffi.new("msalex_error *"), ffi.new("msalex_watch **")
        self._location = path
        _check_file(lib.msalex_watch_new(_path(path), handle, self._error), self._error, path)
        self._watch = ffi.gc(handle[0], lib.msalex_watch_free)

    def wait(self, timeout_ms: int) -> bool:
        """True: it may have changed since the last time.  False: not that anybody could see."""
        status = lib.msalex_watch_wait(self._watch, timeout_ms, self._error)
        if status in (lib.MSALEX_TIMEOUT, lib.MSALEX_INTERRUPTED):
            return False
        _check_file(status, self._error, self._location)
        return True

    def close(self) -> None:
        """Stops watching, and waiting is over; more than once is fine."""
        ffi.release(self._watch)


# ---- the Secret Service ----


class LibsecretItem(NamedTuple):
    """What identifies an item; see ``msalex_libsecret_item``."""

    schema: str
    attributes: Mapping[str, str]
    label: str = ""
    types: Mapping[str, int] = {}
    collection: str | None = None


def libsecret_connect(item: LibsecretItem, timeout: float) -> None:
    """Reaches the service; stores and reads nothing."""
    _libsecret(lib.MSALEX_LIBSECRET_CONNECT, item, b"", timeout)


def libsecret_save(item: LibsecretItem, secret: bytes, timeout: float) -> None:
    """Stores the secret, replacing what the item had."""
    _libsecret(lib.MSALEX_LIBSECRET_SAVE, item, secret, timeout)


def libsecret_load(item: LibsecretItem, timeout: float) -> bytes:
    """Raises PersistenceNotFound when there is no such item."""
    return _libsecret(lib.MSALEX_LIBSECRET_LOAD, item, b"", timeout)


def libsecret_delete(item: LibsecretItem, timeout: float) -> None:
    """Raises PersistenceNotFound when there is no such item."""
    _libsecret(lib.MSALEX_LIBSECRET_DELETE, item, b"", timeout)


def _c_string(text: str) -> Any:
    return ffi.new("char[]", text.encode("utf-8"))


def _libsecret(operation: int, item: LibsecretItem, secret: bytes, timeout: float) -> bytes:
    error, result = ffi.new("msalex_error *"), ffi.new("msalex_buffer *")
    handle = ffi.new("msalex_libsecret_call **")
    strings = [_c_string(text) for pair in item.attributes.items() for text in pair]
    names, values = ffi.new("char *[]", strings[::2]), ffi.new("char *[]", strings[1::2])
    types = ffi.new("int[]", [item.types.get(name, 0) for name in item.attributes])
    schema, label = _c_string(item.schema), _c_string(item.label)
    collection = ffi.NULL if item.collection is None else _c_string(item.collection)
    native = ffi.new(
        "msalex_libsecret_item *",
        [schema, label, collection, names, values, types, len(item.attributes)],
    )
    status = lib.msalex_libsecret_start(
        operation, native, secret, len(secret), int(timeout * 1000), handle, error
    )
    if status == lib.MSALEX_OK:
        call = ffi.gc(handle[0], lib.msalex_libsecret_free)
        while True:
            status = lib.msalex_libsecret_wait(call, SLICE_MS, result, error)
            running = status == lib.MSALEX_TIMEOUT and error.code == 0
            if not running and status != lib.MSALEX_INTERRUPTED:
                break
        ffi.release(call)
    if status != lib.MSALEX_OK:
        # The code is GLib's, not an errno, except when time was up.
        code = errno.ETIMEDOUT if status == lib.MSALEX_TIMEOUT else None
        remedy = _LIBSECRET_REMEDIES.get(status, "")
        where = f"Secret Service: {item.schema}"
        kind = _LIBSECRET_EXCEPTIONS.get(status, KeyringError)
        raise kind(code, _describe(error, remedy), where)
    return _take(result)


# ---- the Windows Data Protection API ----

DPAPI_CURRENT_USER: int = lib.MSALEX_DPAPI_CURRENT_USER
DPAPI_LOCAL_MACHINE: int = lib.MSALEX_DPAPI_LOCAL_MACHINE


def dpapi_require() -> None:
    """Raises PersistenceUnavailable where there is none."""
    error = ffi.new("msalex_error *")
    _check_store(lib.msalex_dpapi_available(error), error, "DPAPI")


def dpapi_protect(secret: bytes, entropy: bytes, scope: int) -> bytes:
    """Encrypts for this user or this machine."""
    error, blob = ffi.new("msalex_error *"), ffi.new("msalex_buffer *")
    status = lib.msalex_dpapi_protect(
        secret, len(secret), entropy, len(entropy), scope, blob, error
    )
    if status != lib.MSALEX_OK:
        remedy = "Is the profile of this user loaded, and its disk not full?"
        raise PersistenceEncryptionError(int(error.code), _describe(error, remedy), "DPAPI")
    return _take(blob)


def dpapi_unprotect(secret: bytes, entropy: bytes) -> bytes:
    """Decrypts what dpapi_protect made with the same entropy."""
    # A secret even before that: the file of a program without encryption is plain text.
    error, data = ffi.new("msalex_error *"), ffi.new("msalex_buffer *")
    status = lib.msalex_dpapi_unprotect(secret, len(secret), entropy, len(entropy), data, error)
    if status != lib.MSALEX_OK:
        code = int(error.code)
        remedy = _DPAPI_REMEDIES.get(code, _DPAPI_REMEDY)
        if secret.lstrip().startswith((b"{", b"[")):
            remedy = _DPAPI_PLAINTEXT
        raise PersistenceDecryptionError(code, _describe(error, remedy), "DPAPI")
    return _take(data)


# ---- the macOS keychain ----


def keychain_require() -> None:
    """Raises PersistenceUnavailable where there is none."""
    error = ffi.new("msalex_error *")
    _check_store(lib.msalex_keychain_available(error), error, "Keychain")


def keychain_save(service: str, account: str, secret: bytes) -> None:
    """Stores a generic password."""
    error = ffi.new("msalex_error *")
    names = _keychain_names(service, account)
    status = lib.msalex_keychain_save(*names, secret, len(secret), error)
    if status == lib.MSALEX_NOT_FOUND:  # it came and went: a save never finds "nothing stored"
        status = lib.MSALEX_OS_ERROR
    _check_keychain(status, error, service, account)


def keychain_load(service: str, account: str) -> bytes:
    """Raises PersistenceNotFound when there is no such item."""
    error, secret = ffi.new("msalex_error *"), ffi.new("msalex_buffer *")
    status = lib.msalex_keychain_load(*_keychain_names(service, account), secret, error)
    _check_keychain(status, error, service, account)
    return _take(secret)


def keychain_delete(service: str, account: str) -> None:
    """Raises PersistenceNotFound when there is no such item."""
    error = ffi.new("msalex_error *")
    status = lib.msalex_keychain_delete(*_keychain_names(service, account), error)
    _check_keychain(status, error, service, account)


def _keychain_names(service: str, account: str) -> tuple[bytes, bytes]:
    if "\0" in service + account:
        raise ValueError("embedded null byte in the service or the account")
    return service.encode(), account.encode()


def _check_keychain(status: int, error: Any, service: str, account: str) -> None:
    location = f"Service:{service} Account:{account}"
    if status not in _KEYCHAIN_EXCEPTIONS:
        _check_store(status, error, location)
        return
    code = int(error.code)
    remedy = _KEYCHAIN_REMEDIES.get(code, "")
    words = _describe(error, remedy)
    raise _KEYCHAIN_EXCEPTIONS[status](code, f"[OSStatus {code}] {words}", location)


def _check_store(status: int, error: Any, location: str) -> None:
    if status != lib.MSALEX_OK:
        kind = _EXCEPTIONS.get(status, PersistenceError)
        raise kind(int(error.code) or None, _describe(error, ""), location)
