"""A token cache for MSAL Python, on disk: encrypted by the operating system, never torn, and
coordinated between processes by a lock file.

A drop-in for the pure-Python msal-extensions 1.3.1, around a small C library.
"""

# MSAL splits this at the dots into three parts.  azure-cli pins "==1.3.1", which this matches.
__version__ = "1.3.1+native1"

import importlib
from typing import TYPE_CHECKING, Any

from ._import_errors import explained, tell_if_foreign

#: Why the package cannot be used; None: it can.
_failure: Exception | None = None
try:
    from ._as_token_cache import make_caches_by
    from .errors import (
        CacheDamaged,
        EncryptedFileDamaged,
        EncryptedFileUnknown,
        KeychainDenied,
        KeychainError,
        KeychainTimeout,
        KeychainUnavailable,
        KeyExpired,
        KeyFileNotTrusted,
        KeyInOtherNamespace,
        KeyLost,
        KeyLostAtReboot,
        KeyringError,
        KeyringLocked,
        KeyringTimeout,
        KeyUnavailable,
        KeyWrong,
        LockError,
        LockFileDenied,
        LockFileDirectoryNotFound,
        LockFileError,
        LockFileExists,
        LockFileInterrupted,
        LockFileIsADirectory,
        LockFileNotADirectory,
        LockFileTimeout,
        LockLost,
        LockOrderError,
        NotEncrypted,
        PersistenceDamaged,
        PersistenceDecryptionError,
        PersistenceDenied,
        PersistenceDirectoryNotFound,
        PersistenceEncryptionError,
        PersistenceError,
        PersistenceFileExists,
        PersistenceInterrupted,
        PersistenceIsADirectory,
        PersistenceNotADirectory,
        PersistenceNotFound,
        PersistenceNotTrusted,
        PersistenceTimeout,
        PersistenceTooLarge,
        PersistenceTorn,
        PersistenceUnavailable,
    )
    from .persistence import (
        FilePersistence,
        FilePersistenceWithDataProtection,
        KeychainPersistence,
        LibsecretPersistence,
        build_encrypted_persistence,
    )
except Exception as error:
    # The import succeeds all the same, and each name says what is wrong when it is asked for.
    # Without that `python -m msal_extensions doctor` could not run.
    _failure = error

if TYPE_CHECKING:
    from .changes import CacheChanges
    from .encrypted import (
        CommandKey,
        CredentialKey,
        EncryptedFilePersistence,
        KernelKey,
        KeyFile,
        Protection,
    )
    from .lock import CrossPlatLock
    from .token_cache import PersistedTokenCache

#: What is imported when it is first used: {name: its module}.  A program that only loads and saves
#: starts sooner without it.
_LATER = {
    "CacheChanges": "changes",
    **dict.fromkeys(
        (
            "CommandKey",
            "CredentialKey",
            "EncryptedFilePersistence",
            "KernelKey",
            "KeyFile",
            "Protection",
        ),
        "encrypted",
    ),
    "CrossPlatLock": "lock",
    "PersistedTokenCache": "token_cache",
}
#: Modules that were attributes of the package as soon as that was imported.
_MODULES = ("cache_lock", "changes", "lock", "persistence", "token_cache")


def _import(module: str) -> Any:
    try:
        if _failure is not None:
            raise _failure
        found = importlib.import_module(f"{__name__}.{module}")
    except Exception as error:
        raise explained(error) from error
    tell_if_foreign(found)
    return found


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return _import(name)
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(_import(_LATER.get(name, "persistence")), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})


def _cache_of(persistence: Any) -> Any:
    from .token_cache import PersistedTokenCache

    return PersistedTokenCache(persistence)


if _failure is None:
    make_caches_by(_cache_of)
    _import("persistence")  # for its warning; the others have it when they are first used


__all__ = [
    "CacheChanges",
    "CacheDamaged",
    "CommandKey",
    "CredentialKey",
    "CrossPlatLock",
    "EncryptedFileDamaged",
    "EncryptedFilePersistence",
    "EncryptedFileUnknown",
    "FilePersistence",
    "FilePersistenceWithDataProtection",
    "KernelKey",
    "KeyExpired",
    "KeyFile",
    "KeyFileNotTrusted",
    "KeyInOtherNamespace",
    "KeyLost",
    "KeyLostAtReboot",
    "KeyUnavailable",
    "KeyWrong",
    "KeychainDenied",
    "KeychainError",
    "KeychainPersistence",
    "KeychainTimeout",
    "KeychainUnavailable",
    "KeyringError",
    "KeyringLocked",
    "KeyringTimeout",
    "LibsecretPersistence",
    "LockError",
    "LockFileDenied",
    "LockFileDirectoryNotFound",
    "LockFileError",
    "LockFileExists",
    "LockFileInterrupted",
    "LockFileIsADirectory",
    "LockFileNotADirectory",
    "LockFileTimeout",
    "LockLost",
    "LockOrderError",
    "NotEncrypted",
    "PersistedTokenCache",
    "PersistenceDamaged",
    "PersistenceDecryptionError",
    "PersistenceDenied",
    "PersistenceDirectoryNotFound",
    "PersistenceEncryptionError",
    "PersistenceError",
    "PersistenceFileExists",
    "PersistenceInterrupted",
    "PersistenceIsADirectory",
    "PersistenceNotADirectory",
    "PersistenceNotFound",
    "PersistenceNotTrusted",
    "PersistenceTimeout",
    "PersistenceTooLarge",
    "PersistenceTorn",
    "PersistenceUnavailable",
    "Protection",
    "build_encrypted_persistence",
]
