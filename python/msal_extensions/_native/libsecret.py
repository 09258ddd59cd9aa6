"""The Secret Service."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any, NamedTuple

from .._msalex import ffi, lib
from ..errors import KeyringError, KeyringLocked, KeyringTimeout, PersistenceError
from .check import EXCEPTIONS, LONGEST, SLICE_MS, describe, take

#: The exceptions of the Secret Service.
_KINDS: dict[int, type[PersistenceError]] = {
    **EXCEPTIONS,
    lib.MSALEX_TIMEOUT: KeyringTimeout,
    lib.MSALEX_DENIED: KeyringLocked,
    lib.MSALEX_INVALID: KeyringError,
    lib.MSALEX_OS_ERROR: KeyringError,
}
_REMEDIES = {
    lib.MSALEX_UNAVAILABLE: "Install and start a Secret Service (gnome-keyring or KWallet) in"
    " a desktop session, or choose another persistence.",
    lib.MSALEX_DENIED: "Unlock the keyring, then try again.",
    lib.MSALEX_TIMEOUT: "See whether the keyring waits for your password; then try again, with"
    " a longer timeout= if need be.",
}


class Item(NamedTuple):
    """Identifies an item; see ``msalex_libsecret_item``."""

    schema: str
    attributes: Mapping[str, str]
    label: str = ""
    types: Mapping[str, int] = {}
    collection: str | None = None


def connect(item: Item, timeout: float) -> None:
    """Connects to the service.  Stores and reads nothing."""
    _call(lib.MSALEX_LIBSECRET_CONNECT, item, b"", timeout)


def save(item: Item, secret: bytes, timeout: float) -> None:
    """Stores the secret in place of the item's old secret."""
    _call(lib.MSALEX_LIBSECRET_SAVE, item, secret, timeout)


def load(item: Item, timeout: float) -> bytes:
    """:raises PersistenceNotFound: when there is no such item."""
    return _call(lib.MSALEX_LIBSECRET_LOAD, item, b"", timeout)


def delete(item: Item, timeout: float) -> None:
    """:raises PersistenceNotFound: when there is no such item."""
    _call(lib.MSALEX_LIBSECRET_DELETE, item, b"", timeout)


def _c_string(text: str) -> Any:
    return ffi.new("char[]", text.encode("utf-8"))


def _milliseconds(timeout: float) -> int:
    """The timeout for the C library, where -1 means "for ever"."""
    return int(timeout * 1000) if 0 <= timeout < LONGEST else -1


def _call(operation: int, item: Item, secret: bytes, timeout: float) -> bytes:
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
        operation, native, secret, len(secret), _milliseconds(timeout), handle, error
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
        # The code is GLib's and no errno, except when the time was up.
        code = errno.ETIMEDOUT if status == lib.MSALEX_TIMEOUT else None
        remedy = _REMEDIES.get(status, "")
        where = f"Secret Service: {item.schema}"
        kind = _KINDS.get(status, KeyringError)
        raise kind(code, describe(error, remedy), where)
    return take(result)
