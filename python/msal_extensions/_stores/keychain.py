"""The macOS keychain: an item, and the class of 1.3.1."""

from __future__ import annotations

import contextlib

from .._native import keychain
from .._text import decode, encode
from ..errors import KeychainError, PersistenceNotFound


class KeychainItem:
    """See ``Item``: a generic password."""

    def __init__(self, service: str, account: str) -> None:
        self._service = service
        self._account = account

    def save(self, secret: bytes) -> bool:
        keychain.save(self._service, self._account, secret)
        return True

    def load(self) -> bytes:
        return keychain.load(self._service, self._account)

    def delete(self) -> None:
        with contextlib.suppress(PersistenceNotFound):
            keychain.delete(self._service, self._account)

    def copy_aside(self, suffix: str) -> str:
        secret = self.load()
        keychain.save(self._service, self._account + suffix, secret)
        return place_of(self._service, self._account + suffix)


def place_of(service: str, account: str) -> str:
    """How messages name an item."""
    return f"Service:{service} Account:{account}"


class Keychain:
    """The default keychain, as a context manager.

    :raises PersistenceUnavailable: where there is no keychain.
    """

    def __init__(self, filename: str | None = None) -> None:
        if filename:
            raise ValueError("Only the default keychain is supported: leave filename out")
        keychain.require()

    def __enter__(self) -> Keychain:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get_generic_password(self, service: str, account_name: str) -> str:
        """The password of that service and account.

        :raises KeychainError: with ``exit_status`` ITEM_NOT_FOUND when there is none.
        """
        location = place_of(service, account_name)
        try:
            return decode(keychain.load(service, account_name), location)
        except PersistenceNotFound as error:
            raise KeychainError(KeychainError.ITEM_NOT_FOUND, error.strerror, location) from None

    def set_generic_password(self, service: str, account_name: str, value: str) -> None:
        """Stores a password for that service and account."""
        secret, value = value, ""
        keychain.save(service, account_name, encode(secret))

    def get_internet_password(self, service: str, username: str) -> str:
        """Not implemented, as in 1.3.1."""
        raise NotImplementedError

    def set_internet_password(self, service: str, username: str, value: str) -> None:
        """Not implemented, as in 1.3.1."""
        raise NotImplementedError
