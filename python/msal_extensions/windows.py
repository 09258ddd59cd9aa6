"""The import path of 1.3.1 for the Windows Data Protection API."""

from __future__ import annotations

from . import _native
from .persistence import DataProtectionScope, _decode, _encode


class WindowsDataProtectionAgent:
    """Encrypts and decrypts for the current user of this machine.

    https://learn.microsoft.com/en-us/windows/win32/api/dpapi/nf-dpapi-cryptprotectdata

    :param entropy: A second key; whoever decrypts needs the same.
    :param scope: Who else can decrypt, given the entropy: nobody, or every user of this machine.
    :raises PersistenceUnavailable: where there is no Data Protection API.
    """

    def __init__(
        self,
        entropy: str | None = None,
        scope: DataProtectionScope = DataProtectionScope.CURRENT_USER,
    ) -> None:
        _native.dpapi_require()
        self._entropy = (entropy or "").encode("utf-8")
        self._scope = DataProtectionScope(scope)

    def protect(self, message: str) -> bytes:
        """Encrypts a text.

        :raises PersistenceEncryptionError: with the ``winerror``.
        """
        secret, message = message, ""
        return _native.dpapi_protect(_encode(secret), self._entropy, self._scope.value)

    def unprotect(self, cipher_text: bytes) -> str:
        """Decrypts what protect() returned, in whichever scope.

        :raises PersistenceDecryptionError: with the ``winerror``, and what to do about it.
        """
        secret, cipher_text = cipher_text, b""  # maybe it is plain text
        return _decode(_native.dpapi_unprotect(secret, self._entropy), "DPAPI")
