"""The import path of 1.3.1 for the macOS keychain."""

from __future__ import annotations

from types import TracebackType

from . import _native
from .errors import PersistenceError
from .persistence import _decode, _encode


class KeychainError(OSError):
    """What the keychain answered; ``exit_status`` is its OSStatus."""

    ACCESS_DENIED = -128
    NO_SUCH_KEYCHAIN = -25294
    NO_DEFAULT = -25307
    ITEM_NOT_FOUND = -25300

    def __init__(self, exit_status: int) -> None:
        super().__init__()
        self.exit_status = exit_status
        self.message = f"{exit_status} see https://www.osstatus.com/"


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
        """The password of that service and account."""
        try:
            data = _native.keychain_load(service, account_name)
        except PersistenceError as error:
            raise KeychainError(error.errno or 0) from error
        return _decode(data, f"Service:{service} Account:{account_name}")

    def set_generic_password(self, service: str, account_name: str, value: str) -> None:
        """Stores a password for that service and account."""
        try:
            _native.keychain_save(service, account_name, _encode(value))
        except PersistenceError as error:
            raise KeychainError(error.errno or 0) from error
