"""The Windows Data Protection API as a cipher."""

from __future__ import annotations

from typing import Protocol

from .._native import dpapi
from .._native.dpapi import DataProtectionScope as DataProtectionScope
from .._text import decode, encode
from ..errors import (
    DataProtectionError,
    PersistenceDecryptionError,
    PersistenceEncryptionError,
    PersistenceError,
)


class WindowsDataProtectionAgent:
    """Encrypts and decrypts for the current user of this machine.

    https://learn.microsoft.com/en-us/windows/win32/api/dpapi/nf-dpapi-cryptprotectdata

    :param entropy: A second key.  Without it nothing can be decrypted.
    :param scope: Whether only this user can decrypt, or every user of this machine who has the
        entropy.
    :raises PersistenceUnavailable: where there is no Data Protection API.
    """

    def __init__(
        self,
        entropy: str | None = None,
        scope: DataProtectionScope = DataProtectionScope.CURRENT_USER,
    ) -> None:
        dpapi.require()
        self.__entropy = (entropy or "").encode("utf-8")
        self.__scope = DataProtectionScope(scope)

    def protect(self, message: str) -> bytes:
        """Encrypts a text.

        :raises PersistenceEncryptionError: with the ``winerror``.
        """
        secret, message = message, ""
        return dpapi.protect(encode(secret), self.__entropy, self.__scope)

    def unprotect(self, cipher_text: bytes) -> str:
        """Decrypts the result of protect(), in either scope.

        :raises PersistenceDecryptionError: with the ``winerror``, and what to do about it.
        """
        secret, cipher_text = cipher_text, b""  # a secret: the file may hold plain text
        return decode(dpapi.unprotect(secret, self.__entropy), "DPAPI")


class Agent(Protocol):
    """The interface of a program's own replacement of WindowsDataProtectionAgent."""

    def protect(self, message: str) -> bytes: ...

    def unprotect(self, cipher_text: bytes) -> str: ...


class DpapiCipher:
    """See ``Cipher``.  Its errors name the location."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def seal(self, secret: bytes, location: str) -> bytes:
        try:
            return self._agent.protect(decode(secret, location))
        except OSError as error:
            raise _at(location, PersistenceEncryptionError, "Encryption", error) from error

    def open(self, secret: bytes, location: str) -> bytes:
        try:
            return encode(self._agent.unprotect(secret))
        except OSError as error:
            raise _at(location, PersistenceDecryptionError, "Decryption", error) from error


def _at(
    location: str, kind: type[DataProtectionError], what: str, error: OSError
) -> DataProtectionError:
    """The exception for an error of the agent, which may be a program's own."""
    words = f"{what} failed: {error.strerror or error}"
    failure = kind(getattr(error, "winerror", None), words, location)
    if isinstance(error, PersistenceError):
        failure.remedy, failure.advice = error.remedy, error.advice
    return failure
