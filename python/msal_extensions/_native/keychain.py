"""The macOS keychain."""

from __future__ import annotations

import sys
from typing import Any

from .._msalex import ffi, lib
from ..errors import KeychainDenied, KeychainError, KeychainUnavailable
from .check import SLICE_MS, check_store, describe, new_buffer, new_handle, take

#: The exceptions of the keychain.  Programs written for 1.3.1 catch its KeychainError.
_KINDS: dict[int, type[KeychainError]] = {
    lib.MSALEX_UNAVAILABLE: KeychainUnavailable,
    lib.MSALEX_DENIED: KeychainDenied,
    lib.MSALEX_INVALID: KeychainError,
    lib.MSALEX_OS_ERROR: KeychainError,
}

#: What a person can do about an OSStatus.
_REMEDIES = {
    -25308: "The keychain is locked, and this session (SSH, launchd, cron) cannot ask for its"
    " password: run `security unlock-keychain` in it first, or choose another persistence.",
    -25293: "Unlock the login keychain; after a reset of your account's password it may still"
    " have the former one (Keychain Access can change that).",
    -128: "Try again, and choose Allow or Always Allow when macOS asks.",
    -67030: f"The code signature of {sys.executable or 'this Python'} is broken: install Python"
    " anew, or sign it again (`codesign --force --sign - <file>`).",
    -25307: "Make a keychain the default one: `security default-keychain -s login.keychain-db`."
    " An account without any login at the screen has none.",
    -25294: "The default keychain was deleted: make one, and make it the default, in Keychain"
    " Access or with `security create-keychain` and `security default-keychain -s`.",
    -25291: "There is no keychain before the user has logged in, nor in some daemons; choose"
    " another persistence there.",
    -25292: "Make the keychain's file, in ~/Library/Keychains, writable.",
    -34018: "Run a Python that is not sandboxed, from python.org or Homebrew.",
}


def require() -> None:
    """:raises PersistenceUnavailable: on a system without a keychain."""
    error = ffi.new("msalex_error *")
    check_store(lib.msalex_keychain_available(error), error, "Keychain")


def save(service: str, account: str, secret: bytes) -> None:
    """Stores a generic password."""
    _call(lib.MSALEX_KEYCHAIN_SAVE, service, account, secret)


def load(service: str, account: str) -> bytes:
    """:raises PersistenceNotFound: when there is no such item."""
    return _call(lib.MSALEX_KEYCHAIN_LOAD, service, account, b"")


def delete(service: str, account: str) -> None:
    """:raises PersistenceNotFound: when there is no such item."""
    _call(lib.MSALEX_KEYCHAIN_DELETE, service, account, b"")


def _call(operation: int, service: str, account: str, secret: bytes) -> bytes:
    error, result = ffi.new("msalex_error *"), new_buffer()
    handle = new_handle("msalex_keychain_call **", lib.msalex_keychain_free)
    strings = [ffi.new("char[]", name) for name in _names(service, account)]
    item = ffi.new("msalex_keychain_item *", [*strings, 1])
    status = lib.msalex_keychain_start(operation, item, secret, len(secret), -1, handle, error)
    if status == lib.MSALEX_OK:
        while True:
            status = lib.msalex_keychain_wait(handle[0], SLICE_MS, result, error)
            running = status == lib.MSALEX_TIMEOUT and error.code == 0
            if not running and status != lib.MSALEX_INTERRUPTED:
                break
        ffi.release(handle)
    _check(status, error, service, account)
    return take(result)


def _names(service: str, account: str) -> tuple[bytes, bytes]:
    if "\0" in service + account:
        raise ValueError("embedded null byte in the service or the account")
    return service.encode(), account.encode()


def _check(status: int, error: Any, service: str, account: str) -> None:
    location = f"Service:{service} Account:{account}"
    if status not in _KINDS:
        check_store(status, error, location)
        return
    code = int(error.code)
    remedy = _REMEDIES.get(code, "")
    words = describe(error, remedy)
    raise _KINDS[status](code, f"[OSStatus {code}] {words}", location)
