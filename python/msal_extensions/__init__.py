"""A token cache for MSAL Python, on disk: encrypted by the operating system, never torn, and
coordinated between processes by a lock file.

A drop-in for the pure-Python msal-extensions 1.3.1, around a small C library.
"""

# MSAL splits this at the dots into three parts.  azure-cli pins "==1.3.1", which this matches.
__version__ = "1.3.1+native1"

from .changes import CacheChanges
from .errors import (
    CacheDamaged,
    KeyringError,
    KeyringLocked,
    KeyringTimeout,
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
from .lock import CrossPlatLock
from .persistence import (
    FilePersistence,
    FilePersistenceWithDataProtection,
    KeychainPersistence,
    LibsecretPersistence,
    build_encrypted_persistence,
)
from .token_cache import PersistedTokenCache

__all__ = [
    "CacheChanges",
    "CacheDamaged",
    "CrossPlatLock",
    "FilePersistence",
    "FilePersistenceWithDataProtection",
    "KeychainPersistence",
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
    "build_encrypted_persistence",
]
