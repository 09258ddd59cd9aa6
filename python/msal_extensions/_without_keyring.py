"""Linux without a keyring: which persistence takes its place, and how that is decided.

The encrypted file is the record of the decision.  If it exists, every session uses it, so that a
desktop and an SSH session of one user have the same tokens.  If not, a keyring that answers is
used.  If there is none, the file is made.  A keyring that is locked or slow is not "none": that
raises, unless the encrypted file exists.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Any, Literal, Protocol

from ._base import tell_choice
from ._native import files
from ._paths import expand, sealed_location
from ._stores.encrypted import EncryptedStore
from ._stores.envelope import MAGIC
from ._stores.vault import Vault
from .encrypted import EncryptedFilePersistence, Key
from .errors import PersistenceNotFound, PersistenceUnavailable

logger = logging.getLogger(__name__)

#: What to do where there is no keyring.
Policy = Literal["raise", "encrypted_file", "plain_file"]


class Agent(Protocol):
    """The parts of a LibSecretAgent that are used here."""

    def connect(self) -> None: ...

    def clear(self) -> object: ...


def replacement(agent: Agent, signal_location: str, key: Key | None) -> InsteadOfKeyring | None:
    """The encrypted file that is to be used instead of a keyring; None: the keyring is there.

    :raises KeyringError: when it is locked or does not answer.
    :raises KeyUnavailable: when there is no keyring, and no key either.
    """
    sealed = sealed_location(signal_location)
    if os.path.lexists(sealed):
        return InsteadOfKeyring(agent, signal_location, key, "It exists already")
    try:
        agent.connect()
        return None
    except PersistenceUnavailable as error:
        reason = f"There is no keyring: {error.strerror}"
    made = InsteadOfKeyring(agent, signal_location, key, reason)
    if os.path.lexists(expand(signal_location)):
        logger.warning(
            "%s shows that a program has used a keyring here, or plain text. What it stored is not"
            " in %s, which is used from now on.", signal_location, sealed,
        )  # fmt: skip
    return made


class InsteadOfKeyring(EncryptedFilePersistence):
    """An encrypted file, made where there was no keyring.

    A server has to be able to sign in again after a reboot.  So a key that the kernel has lost is
    no error here: see ``on_lost_key``.

    :param reason: Why the file was chosen, as a sentence without its full stop.
    """

    def __init__(self, agent: Agent, signal_location: str, key: Key | None, reason: str) -> None:
        super().__init__(sealed_location(signal_location), key, on_lost_key="quarantine")
        self._agent, self._reason = agent, reason
        self._signal_location = expand(signal_location)
        tell_choice(self, f"Encrypted file {self.get_location()}. {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._agent, self._signal_location, self._vault.source, self._reason)

    def delete(self) -> None:
        """Removes the content here, and in the keyring if that has one and answers."""
        super().delete()
        if not os.path.lexists(self._signal_location):
            return
        try:
            self._agent.clear()
        except PersistenceUnavailable as error:
            logger.warning("What a keyring may have for %s stays: %s", self._signal_location, error)
        else:
            with contextlib.suppress(PersistenceNotFound):
                files.delete(self._signal_location)


def forget_file(signal_location: str) -> None:
    """Removes the encrypted file of a session without a keyring, if there is one.

    A sign-out must not leave a token that works.
    """
    sealed = sealed_location(signal_location)
    with contextlib.suppress(PersistenceNotFound):
        content, _ = files.read(sealed)
        if content.startswith(MAGIC):
            EncryptedStore(sealed, "", Vault(None, ""), gives_up=False).delete(lease=None)
