"""The macOS keychain."""

from __future__ import annotations

import os
import sys
import sysconfig
from typing import Any

from .._msalex import ffi, lib
from .._references import ARGUMENT, PLATFORM, REFERENCES, STORE_CHANGED
from ..errors import (
    KeychainDenied,
    KeychainError,
    KeychainTimeout,
    KeychainUnavailable,
    StoreChanged,
    with_remedy,
)
from .check import check_store, describe, finish, milliseconds, new_buffer, new_handle, take

#: The exceptions of the keychain.  Programs written for 1.3.1 catch its KeychainError.
_KINDS: dict[int, type[KeychainError]] = {
    lib.MSALEX_TIMEOUT: KeychainTimeout,
    lib.MSALEX_UNAVAILABLE: KeychainUnavailable,
    lib.MSALEX_DENIED: KeychainDenied,
    lib.MSALEX_INVALID: KeychainError,
    lib.MSALEX_OS_ERROR: KeychainError,
}

#: errSecDuplicateItem.
_DUPLICATE = -25299

#: errSecErrnoBase (SecBase.h), and macOS' number of ETIMEDOUT.
_TIMED_OUT = 100000 + 60

_SIGN = (
    "The code signature of {python} is broken: install that Python anew, or sign it again"
    " (`codesign --force --sign - <file>`)."
)
_LOGIN = "`security default-keychain -s login.keychain-db`"

#: Another program changed the item at each try.
_OVERTAKEN = (-25304, -67701, _DUPLICATE)

#: What a person can do about an OSStatus.  docs/keychain.md has the sources.
_REMEDIES = {
    -25308: "macOS would have to ask somebody, and cannot or must not here (SSH, launchd, cron,"
    " interactive=False). If the keychain is locked, run `security unlock-keychain` first, in the"
    " same session. If it is unlocked, another program wrote the item: run this program once where"
    " macOS can ask, and choose Always Allow.",
    -25293: "macOS did not let {python} have the item. If it asked nobody, either it must not"
    " (interactive=False), or the signature of that program is not in order: see"
    " `codesign --verify <file>`, and start the program again after an upgrade of Python. If that"
    " is not it, lock and unlock the keychain, or log in anew.",
    -128: "Try again, and choose Allow or Always Allow when macOS asks. It wants the password of"
    " the keychain, as a rule the one of your account.",
    -67030: _SIGN,
    -67061: _SIGN,
    -67068: "The file {python} is gone, as after an upgrade of Python: start the program again.",
    -25307: f"Make a keychain the default one: {_LOGIN}. An account without any login at the screen"
    " has none.",
    -25294: "The file of the default keychain is missing: connect its volume, or make another"
    f" keychain the default one ({_LOGIN}).",
    -25295: "The file of the default keychain is damaged: restore it from a backup, or make another"
    " keychain the default one (`security create-keychain`, `security default-keychain -s`).",
    -25291: "The keychain's service did not answer. There is none before the user has logged in,"
    " nor in some daemons: choose another persistence there. Elsewhere try again later.",
    -25292: "Make the keychain's file, in ~/Library/Keychains, writable.",
    -61: "Make the keychain's file, and the directory that it is in, writable.",
    -25244: "Another program made the item: delete it in Keychain Access, or with"
    " `security delete-generic-password -s <service> -a <account>`.",
    -25320: "The Mac sleeps with its screen off (Power Nap), and cannot ask anybody: try again"
    " later, or keep the keychain unlocked.",
    -2070: "The keychain's service failed: try again. If it keeps failing, log out and in again.",
    -308: "The keychain's service ended while it worked: try again. If it keeps failing, restart"
    " the Mac.",
    -60005: "macOS refused the authorization: try again as the owner of the keychain.",
    -60006: "Try again, and answer the question of macOS: it wanted to make a keychain.",
    -60007: "There is no default keychain, and this session cannot ask for one: make one with"
    " `security create-keychain` and `security default-keychain -s`.",
    -34018: "Run a Python that is not sandboxed, from python.org or Homebrew.",
}
#: The same after _TIMED_OUT, for programmers.
_LONGER = (
    "See whether macOS asks for your password or your permission; then try again, with a longer"
    " timeout= if need be."
)


def _signed_program() -> str:
    """The file with the signature that macOS checks.

    The program of a framework's Python (python.org, Homebrew) only starts another one.
    """
    program = os.path.join(sys.base_prefix, "Resources/Python.app/Contents/MacOS/Python")
    if sysconfig.get_config_var("PYTHONFRAMEWORKPREFIX") and os.path.exists(program):
        return program
    return os.path.realpath(sys.executable) if sys.executable else "this Python"


class Item:
    """Identifies a generic password.

    :raises ValueError: when a name contains a NUL character.
    """

    def __init__(self, service: str, account: str) -> None:
        if "\0" in service + account:
            raise ValueError(ARGUMENT.after("embedded null byte in the service or the account"))
        self.service = service
        self.account = account
        #: What exceptions call it.
        self.location = f"Service:{service} Account:{account}"


def require() -> None:
    """:raises PersistenceUnavailable: on a system without a keychain."""
    error = ffi.new("msalex_error *")
    check_store(lib.msalex_keychain_available(error), error, "Keychain", otherwise=PLATFORM)


# Each of these takes at most ``timeout`` seconds; a negative number is for ever.  With
# ``interactive`` False macOS asks nobody: where it would have to, that is a KeychainDenied.


def unlock(item: Item, timeout: float, interactive: bool = True) -> None:
    """Asks for the password of the keychain, if that is locked.  Reads and changes nothing."""
    _call(lib.MSALEX_KEYCHAIN_UNLOCK, item, b"", timeout, interactive)


def look(item: Item, timeout: float) -> bytes:
    """What stands for the present version of the item.  It asks nobody.

    :raises PersistenceNotFound: when there is no such item.
    """
    return _call(lib.MSALEX_KEYCHAIN_LOOK, item, b"", timeout, True)


def load(item: Item, timeout: float, interactive: bool = True) -> bytes:
    """:raises PersistenceNotFound: when there is no such item."""
    return _call(lib.MSALEX_KEYCHAIN_LOAD, item, b"", timeout, interactive)


def save(item: Item, secret: bytes, timeout: float, interactive: bool = True) -> None:
    """Changes the item, or makes it."""
    _call(lib.MSALEX_KEYCHAIN_SAVE, item, secret, timeout, interactive)


def add(item: Item, secret: bytes, timeout: float, interactive: bool = True) -> None:
    """Makes the item.

    :raises StoreChanged: when there is such an item.  It was not changed.
    """
    _call(lib.MSALEX_KEYCHAIN_ADD, item, secret, timeout, interactive)


def delete(item: Item, timeout: float, interactive: bool = True) -> None:
    """:raises PersistenceNotFound: when there is no such item."""
    _call(lib.MSALEX_KEYCHAIN_DELETE, item, b"", timeout, interactive)


def _call(operation: int, item: Item, secret: bytes, timeout: float, interactive: bool) -> bytes:
    error, result = ffi.new("msalex_error *"), new_buffer()
    handle = new_handle("msalex_keychain_call **", lib.msalex_keychain_free)
    service = ffi.new("char[]", item.service.encode("utf-8"))
    account = ffi.new("char[]", item.account.encode("utf-8"))
    native = ffi.new("msalex_keychain_item *", [service, account, interactive])
    limit = milliseconds(timeout)
    status = lib.msalex_keychain_start(operation, native, secret, len(secret), limit, handle, error)
    if status == lib.MSALEX_OK:
        status = finish(lib.msalex_keychain_wait, handle, error, result)
    if status != lib.MSALEX_OK:
        _raise(status, error, operation, item)
    return take(result)


def _raise(status: int, error: Any, operation: int, item: Item) -> None:
    code = _TIMED_OUT if status == lib.MSALEX_TIMEOUT else int(error.code)
    if operation == lib.MSALEX_KEYCHAIN_ADD and code == _DUPLICATE:
        raise StoreChanged(None, describe(error), item.location)
    if status not in _KINDS:
        check_store(status, error, item.location)
    kind = _KINDS[status]
    cause = REFERENCES[kind.reference]
    if status == lib.MSALEX_INVALID:
        cause = ARGUMENT
    elif code in _OVERTAKEN:
        cause = STORE_CHANGED
    remedy = _REMEDIES.get(code, cause.remedy).replace("{python}", _signed_program())
    advice = _LONGER if code == _TIMED_OUT else ""
    words = f"[OSStatus {code}] {describe(error)}"
    raise with_remedy(kind, code, words, item.location, cause.saying(remedy), advice=advice)
