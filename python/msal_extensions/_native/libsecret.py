"""The Secret Service."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from .._msalex import ffi, lib
from .._references import (
    ARGUMENT,
    KEYRING_AFTER_FORK,
    KEYRING_FAILED,
    KEYRING_MISSING,
    KEYRING_NO_COLLECTION,
    KEYRING_SILENT,
    TOO_MANY_OPEN,
    Reference,
)
from ..errors import KeyringError, KeyringLocked, KeyringTimeout, PersistenceError
from .check import EXCEPTIONS, failure, finish, milliseconds, new_buffer, new_handle, take

#: The exceptions of the Secret Service.
_KINDS: dict[int, type[PersistenceError]] = {
    **EXCEPTIONS,
    lib.MSALEX_TIMEOUT: KeyringTimeout,
    lib.MSALEX_DENIED: KeyringLocked,
    lib.MSALEX_INVALID: KeyringError,
    lib.MSALEX_OS_ERROR: KeyringError,
}
_HANGS = KEYRING_SILENT.saying(
    "While connecting nobody is asked for a password, so the Secret Service hangs: restart it (log"
    " out and in again), or choose another persistence."
)
#: What the C library calls while it connects.
_BUS, _SESSION = "g_bus_get", "secret_service_open"
#: Why a call failed, and what a person can do, by status and by the C library's ``error.call``; ""
#: is for all other calls.  What is not here is as the exception's class says.
_CAUSES = {
    (lib.MSALEX_UNAVAILABLE, "dlopen"): KEYRING_MISSING.saying(
        "Install libsecret (Debian and Ubuntu: libsecret-1-0; Fedora, Arch and Alpine: libsecret),"
        " or choose another persistence."
    ),
    (lib.MSALEX_UNAVAILABLE, "default"): KEYRING_NO_COLLECTION,
    (lib.MSALEX_UNAVAILABLE, "collection"): KEYRING_NO_COLLECTION,
    (lib.MSALEX_UNAVAILABLE, "fork"): KEYRING_AFTER_FORK,
    (lib.MSALEX_TIMEOUT, _BUS): _HANGS,
    (lib.MSALEX_TIMEOUT, _SESSION): _HANGS,
    (lib.MSALEX_OS_ERROR, _SESSION): KEYRING_FAILED.because(
        "The Secret Service is there, but refuses a session: its words say why (KWallet needs"
        " Debian's libqca-qt5-2-plugins or libqca-qt6-plugins)."
    ).saying("Mend that, or choose another persistence."),
    (lib.MSALEX_INVALID, ""): ARGUMENT,
    # What a call needs before it begins.
    **dict.fromkeys(
        ((lib.MSALEX_OS_ERROR, call) for call in ("calloc", "eventfd", "pthread_create")),
        TOO_MANY_OPEN,
    ),
}
#: What a programmer can do, where that is something else.
_ADVICE = {(lib.MSALEX_UNAVAILABLE, "collection"): "Pass another collection=, or none."}


class Item:
    """Identifies an item; see ``msalex_libsecret_item``."""

    def __init__(
        self,
        schema: str,
        attributes: Mapping[str, str],
        label: str,
        types: Mapping[str, int],
        collection: str | None,
    ) -> None:
        self.schema = schema
        self.attributes = attributes
        self.label = label
        self.types = types
        self.collection = collection
        #: What exceptions call it.
        self.location = f"Secret Service: {label}"


def connect(item: Item, timeout: float) -> None:
    """Connects to the service, within 5 seconds.  Stores and reads nothing."""
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


def _call(operation: int, item: Item, secret: bytes, timeout: float) -> bytes:
    error, result = ffi.new("msalex_error *"), new_buffer()
    handle = new_handle("msalex_libsecret_call **", lib.msalex_libsecret_free)
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
        operation, native, secret, len(secret), milliseconds(timeout), handle, error
    )
    if status == lib.MSALEX_OK:
        status = finish(lib.msalex_libsecret_wait, handle, error, result)
    if status != lib.MSALEX_OK:
        # The code is GLib's and no errno, except when the time was up.
        code = errno.ETIMEDOUT if status == lib.MSALEX_TIMEOUT else None
        phase = ffi.string(error.call).decode("ascii", "replace")
        if operation == lib.MSALEX_LIBSECRET_CONNECT and status == lib.MSALEX_TIMEOUT:
            phase = _SESSION  # it asks nobody from the beginning to the end
        kind = _KINDS.get(status, KeyringError)
        cause, advice = _cause(status, phase), _ADVICE.get((status, phase), "")
        raise failure(kind, code, error, item.location, cause, advice)
    return take(result)


def _cause(status: int, phase: str) -> Reference | None:
    if status == lib.MSALEX_UNAVAILABLE and phase in ("D-Bus", _BUS, _SESSION):
        if os.path.exists("/.flatpak-info"):
            program = os.environ.get("FLATPAK_ID", "PROGRAM")
            return KEYRING_MISSING.saying(
                "Flatpak keeps it from this program: flatpak override --user"
                f" --talk-name=org.freedesktop.secrets {program}; or choose another persistence."
            )
        if snap := os.environ.get("SNAP_NAME"):
            # The children of a snap inherit the variable, but not always its confinement.
            return KEYRING_MISSING.saying(
                "If this program is a snap, allow it: sudo snap connect"
                f" {snap}:password-manager-service. Otherwise: {KEYRING_MISSING.remedy}"
            )
        if phase == _BUS and _is_bus_of_another_user():
            return KEYRING_MISSING.saying(
                "DBUS_SESSION_BUS_ADDRESS is that of another user: unset it, log in as this user"
                " (su - instead of su), or choose another persistence."
            )
    return _CAUSES.get((status, phase)) or _CAUSES.get((status, ""))


def _is_bus_of_another_user() -> bool:
    """Does a socket of the bus belong to another user, or lie where this one may not look?

    Format of an address: https://dbus.freedesktop.org/doc/dbus-specification.html#addresses
    """
    for address in os.environ.get("DBUS_SESSION_BUS_ADDRESS", "").split(";"):
        transport, _, options = address.partition(":")
        path = dict(option.partition("=")[::2] for option in options.split(",")).get("path")
        if transport == "unix" and path:
            try:
                if os.stat(unquote(path)).st_uid != os.geteuid():
                    return True
            except PermissionError:
                return True
            except OSError:
                pass
    return False
