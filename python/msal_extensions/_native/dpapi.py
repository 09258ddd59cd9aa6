"""The Windows Data Protection API."""

from __future__ import annotations

import enum

from .._msalex import ffi, lib
from .._references import DPAPI_CANNOT_DECRYPT, DPAPI_CANNOT_ENCRYPT, PLATFORM
from ..errors import PersistenceDecryptionError, PersistenceEncryptionError
from .check import check_store, failure, new_buffer, take

#: What DPAPI says in a session that cannot reach the keys of its user, as error codes.  Users of
#: Azure CLI met both by WinRM, by SSH with a key, and in tasks that run without a password:
#: Azure/azure-cli#21010, #29843 (SEC_E_DELEGATION_REQUIRED), #20695 (ERROR_ACCESS_DENIED).
_NO_KEYS = (0x80090345 - 2**32, 5)
_NO_ACCESS = (
    "This session cannot reach the keys of its user. A remote session that began without a"
    " password (WinRM, SSH with a key) and a scheduled task that stores none have no access to"
    " them."
)
_LOG_ON = "Log on with the password, or choose a persistence that is not encrypted."
#: Why DPAPI could not encrypt, by signed HRESULT.
_PROTECT_CAUSES = {
    **dict.fromkeys(_NO_KEYS, DPAPI_CANNOT_ENCRYPT.because(_NO_ACCESS).saying(_LOG_ON)),
    2: DPAPI_CANNOT_ENCRYPT.because("The profile of this user is not loaded.").saying(
        "Run the program where it is, or choose a persistence that is not encrypted."
    ),
}
_PROTECT_ADVICE = "Is the profile of this user loaded, and its disk not full?"
#: Why DPAPI could not decrypt, by signed HRESULT.  The most frequent reason comes first.
_CAUSES = {
    0x8009000B - 2**32: DPAPI_CANNOT_DECRYPT.because(
        "The key that this user had when it was saved does not open now: the password was reset"
        " since, or the program runs as another user, for example in a shell that another account"
        " elevated."
    ).saying(
        "Run it as it was run then; if the password was reset, delete the file and sign in again."
    ),
    **dict.fromkeys(_NO_KEYS, DPAPI_CANNOT_DECRYPT.because(_NO_ACCESS).saying(_LOG_ON)),
    13: DPAPI_CANNOT_DECRYPT.because(
        "It was saved by another user, on another machine or with another entropy, or it is"
        " damaged."
    ).saying("Use those, or delete the file and sign in again."),
    2: DPAPI_CANNOT_DECRYPT.because(
        "The key is not on this machine, or the profile of this user is not loaded."
    ).saying(
        "Decrypt it where it was saved and with the profile loaded, or delete the file and sign in"
        " again."
    ),
    0x80090009 - 2**32: DPAPI_CANNOT_DECRYPT.because(
        "The program runs as another user than at the save, or without the profile of that user."
    ).saying("Run it as it was run then, or delete the file and sign in again."),
}
_ADVICE = (
    "Only the user who saved it can decrypt it, on the same machine and with the same entropy."
    " If that is so, delete the file and sign in again."
)
_PLAINTEXT = DPAPI_CANNOT_DECRYPT.because(
    "The file looks like plain text: a program without encryption wrote it."
).saying("Give it another location, or delete the file and sign in again.")


class DataProtectionScope(enum.Enum):
    """Which users can decrypt."""

    CURRENT_USER = lib.MSALEX_DPAPI_CURRENT_USER
    LOCAL_MACHINE = lib.MSALEX_DPAPI_LOCAL_MACHINE


def require() -> None:
    """:raises PersistenceUnavailable: on a system without DPAPI."""
    error = ffi.new("msalex_error *")
    check_store(lib.msalex_dpapi_available(error), error, "DPAPI", otherwise=PLATFORM)


def protect(secret: bytes, entropy: bytes, scope: DataProtectionScope) -> bytes:
    """Encrypts for this user or this machine."""
    error, blob = ffi.new("msalex_error *"), new_buffer()
    status = lib.msalex_dpapi_protect(
        secret, len(secret), entropy, len(entropy), scope.value, blob, error
    )
    if status != lib.MSALEX_OK:
        code = int(error.code)
        cause = _PROTECT_CAUSES.get(code)
        advice = "" if cause else _PROTECT_ADVICE
        raise failure(PersistenceEncryptionError, code, error, "DPAPI", cause, advice)
    return take(blob)


def unprotect(secret: bytes, entropy: bytes) -> bytes:
    """Decrypts the result of protect() with the same entropy."""
    # A secret even before decryption: a program without encryption writes plain text.
    error, data = ffi.new("msalex_error *"), new_buffer()
    status = lib.msalex_dpapi_unprotect(secret, len(secret), entropy, len(entropy), data, error)
    if status != lib.MSALEX_OK:
        code = int(error.code)
        cause = _CAUSES.get(code)
        if secret.lstrip().startswith((b"{", b"[")):
            cause = _PLAINTEXT
        advice = "" if cause else _ADVICE
        raise failure(PersistenceDecryptionError, code, error, "DPAPI", cause, advice)
    return take(data)
