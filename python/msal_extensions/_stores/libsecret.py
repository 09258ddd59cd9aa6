"""The Secret Service: the agent of 1.3.1, and an item."""

from __future__ import annotations

import base64
import contextlib
import os
import sys
import time
from collections.abc import Mapping
from typing import Protocol

from .._native import libsecret
from .._text import decode, encode
from .._timeouts import seconds_of
from ..errors import PersistenceDamaged, PersistenceNotFound

#: Seconds.  A person may have to type a password.  Over SSH the dialog, if there is one, may be on
#: a screen where nobody sits; without a display there is nobody to ask.
TIMEOUT_ON_A_DESKTOP = 300.0
TIMEOUT_OVER_SSH = 60.0
TIMEOUT_WITHOUT_DISPLAY = 15.0

#: Seconds for which a keyring that has just answered is taken for unlocked.
_REMAINS_UNLOCKED = 30.0


def _default_timeout() -> float:
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return TIMEOUT_WITHOUT_DISPLAY
    return TIMEOUT_OVER_SSH if os.environ.get("SSH_CONNECTION") else TIMEOUT_ON_A_DESKTOP


def _default_label() -> str:
    """What people see in their keyring program, when a program gives no label of its own.

    KWallet refuses an empty label, and the other services show a nameless item.
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)  # of python -m NAME
    name = spec.name.removesuffix(".__main__") if spec else os.path.basename((sys.argv or [""])[0])
    name = name.removesuffix(".py").encode("ascii", "replace").decode()[:64]
    named = name.strip() and name != "-c" and name.isprintable()
    return f"MSAL token cache ({name})" if named else "MSAL token cache"


class LibSecretAgent:
    """Stores one text in the Secret Service.

    Protocol: https://specifications.freedesktop.org/secret-service/

    :param schema_name: Stored with the item.  It identifies the item, together with the attributes.
    :param attributes: Strings that identify the item.  If the only item of the same schema with
        these attributes has more of them, it is loaded, and a save replaces it.
    :param label: The name that people see in their keyring program.  It identifies nothing.
        Default: "MSAL token cache" and the program's name.  An item that has a label keeps it.
    :param attribute_types: {attribute: libsecret's SecretSchemaAttributeType}: 0 string (the
        default), 1 integer, 2 boolean.
    :param collection: A D-Bus path or alias; None means the default collection.
    :param timeout: Seconds that one operation may take.  Waiting for a person's password counts.
        None: 300 on a desktop, 60 over SSH, 15 without a display.  A negative number: for ever.
        Reaching the service takes 5 seconds at most.
    """

    def __init__(
        self,
        schema_name: str,
        attributes: Mapping[str, str],
        label: str = "",
        attribute_types: Mapping[str, int] | None = None,
        collection: str | None = None,
        timeout: float | None = None,
    ) -> None:
        self.item = libsecret.Item(
            schema_name,
            dict(attributes or {}),
            label or _default_label(),
            {name: int(kind) for name, kind in (attribute_types or {}).items()},
            collection,
        )
        self.timeout = _default_timeout() if timeout is None else seconds_of(timeout)

    def connect(self) -> None:
        """Reaches the service; stores and reads nothing.

        :raises PersistenceUnavailable: when it cannot be reached, or has no such collection.
        :raises KeyringLocked: when it is locked and there is no desktop to ask for the password.
        :raises KeyringTimeout: when it does not answer.
        """
        libsecret.connect(self.item, self.timeout)

    def save(self, data: str) -> bool:
        """Stores the text and returns True.  Every failure is an exception."""
        secret, data = data, ""
        libsecret.save(self.item, encode(secret), self.timeout)
        return True

    def load(self) -> str | None:
        """The text, or None when there is no such item.

        :raises KeyringLocked: when the keyring is locked and nobody unlocks it.
        """
        try:
            secret = libsecret.load(self.item, self.timeout)
        except PersistenceNotFound:
            return None
        return decode(secret, self.item.location)

    def copy_aside(self, suffix: str) -> str:
        """Keeps a copy of the stored content in an item of its own, and returns the item's name.

        The copy has none of the original's attributes.  Peers that search by those attributes,
        in any schema, must not find the copy.
        """
        secret = libsecret.load(self.item, self.timeout)
        with contextlib.suppress(UnicodeDecodeError):
            if "\0" not in secret.decode("utf-8"):
                return self._store_aside(suffix, secret, "")
        return self._store_aside(suffix, base64.b64encode(secret), " in Base64")

    def _store_aside(self, suffix: str, secret: bytes, encoding: str) -> str:
        schema = self.item.schema + suffix
        label = self.item.label + suffix + encoding
        copy = libsecret.Item(schema, {"copy": suffix}, label, {}, self.item.collection)
        libsecret.save(copy, secret, self.timeout)
        return f"Secret Service: {label}"

    def clear(self) -> bool:
        """Removes the item.  False: there was none."""
        try:
            libsecret.delete(self.item, self.timeout)
        except PersistenceNotFound:
            return False
        return True


class Agent(Protocol):
    """The interface of a program's own replacement of LibSecretAgent."""

    def save(self, data: str) -> bool: ...

    def load(self) -> str | None: ...

    def clear(self) -> object: ...

    def copy_aside(self, suffix: str) -> str: ...


class LibsecretItem:
    """See ``Item``."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._asks_again_at = 0.0  # by the monotonic clock

    def prepare(self) -> None:
        """Loads, so that a locked keyring asks for its password now, and not at the next load."""
        if isinstance(self._agent, LibSecretAgent) and time.monotonic() >= self._asks_again_at:
            with contextlib.suppress(PersistenceNotFound, PersistenceDamaged):
                self.load()

    def save(self, secret: bytes) -> bool:
        return self._agent.save(secret.decode())

    def load(self) -> bytes:
        secret = self._agent.load()
        self._asks_again_at = time.monotonic() + _REMAINS_UNLOCKED
        if secret is None:
            raise PersistenceNotFound
        return encode(secret)

    def delete(self) -> None:
        self._agent.clear()

    def copy_aside(self, suffix: str) -> str:
        return self._agent.copy_aside(suffix)


def trial_run() -> None:
    """Finds out whether the Secret Service can be reached.  Unlike 1.3.1 it writes no item.

    :raises PersistenceUnavailable: (a RuntimeError) when it cannot be reached.
    :raises KeyringLocked: (a RuntimeError) when it is locked and there is no desktop to ask for
        the password.
    """
    LibSecretAgent("", {}).connect()
