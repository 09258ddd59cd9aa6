"""The import path of 1.3.1 for the macOS keychain."""

from __future__ import annotations

from types import TracebackType

from . import _native
from .errors import KeychainError as KeychainError
from .errors import PersistenceNotFound
from .persistence import _decode, _encode


class Keychain:
    """The default keychain, as a context manager.

    :raises PersistenceUnavailable: where there is no keychain.
    """

    def __init__(self, filename: str | None = None) -> None:
        if filename:
            raise ValueError("Only the default keychain is supported: leave filename out")
        _native.keychain_require()

    def __enter__(self) -> Keychain:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def get_generic_password(self, service: str, account_name: str) -> str:
        """The password of that service and account.

        :raises KeychainError: with ``exit_status`` ITEM_NOT_FOUND when there is none.
        """
        location = f"Service:{service} Account:{account_name}"
        try:
            return _decode(_native.keychain_load(service, account_name), location)
        except PersistenceNotFound as error:
            raise KeychainError(KeychainError.ITEM_NOT_FOUND, error.strerror, location) from None

    def set_generic_password(self, service: str, account_name: str, value: str) -> None:
        """Stores a password for that service and account."""
        secret, value = value, ""
        _native.keychain_save(service, account_name, _encode(secret))

    def get_internet_password(self, service: str, username: str) -> str:
        """Not implemented, as in 1.3.1."""
        raise NotImplementedError

    def set_internet_password(self, service: str, username: str, value: str) -> None:
        """Not implemented, as in 1.3.1."""
        raise NotImplementedError
