"""The import path of 1.3.1 for the Windows Data Protection API."""

from __future__ import annotations

from . import _native
from .persistence import _decode, _encode


class WindowsDataProtectionAgent:
    """Encrypts and decrypts for the current user of this machine.

    https://learn.microsoft.com/en-us/windows/win32/api/dpapi/nf-dpapi-cryptprotectdata

    :param entropy: A second key; whoever decrypts needs the same.
    :raises PersistenceUnavailable: where there is no Data Protection API.
    """

    def __init__(self, entropy: str | None = None) -> None:
        _native.dpapi_require()
        self._entropy = (entropy or "").encode("utf-8")

    def protect(self, message: str) -> bytes:
        """Encrypts a text."""
        return _native.dpapi_protect(_encode(message), self._entropy, 0)

    def unprotect(self, cipher_text: bytes) -> str:
        """Decrypts what protect() returned."""
        return _decode(_native.dpapi_unprotect(cipher_text, self._entropy), "DPAPI")
