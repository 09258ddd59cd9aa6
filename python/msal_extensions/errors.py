"""What can go wrong, as exceptions.

Everything that a persistence raises is a :class:`PersistenceError`, which is an ``OSError``
with ``errno`` and ``location``.  The classes with a second base are there because programs
written for msal-extensions 1.3.1 catch that base: it let the errors of ``open()`` through.
"""

from __future__ import annotations

import errno
import json


class PersistenceError(OSError):
    """The base of everything a persistence raises.

    :param err_no: The operating system's number, or None.
    :param message: What happened, in the operating system's words, and what to do about it.
    :param location: The file, or the item of the keyring.
    """

    def __init__(
        self,
        err_no: int | None = None,
        message: str | None = None,
        location: str | None = None,
    ) -> None:
        super().__init__(err_no, message, location)
        self.location = location

    def __str__(self) -> str:
        # OSError's says "[Errno None]" where the store has no errno.
        return super().__str__() if self.errno is not None else f"{self.strerror}: {self.location}"


class PersistenceNotFound(PersistenceError):
    """Nothing was saved there yet: ``load()`` before the first ``save()``.

    ``errno`` is ENOENT; as in 1.3.1 this is not a ``FileNotFoundError``.
    """

    def __init__(
        self,
        err_no: int | None = None,  # accepted and ignored, as in 1.3.1
        message: str | None = None,
        location: str | None = None,
    ) -> None:
        super().__init__(errno.ENOENT, message or "Persistence not found", location)


class DataProtectionError(PersistenceError):
    """The Windows Data Protection API said no.

    ``winerror`` is what it said, as the signed number that Windows' own Python modules use;
    ``errno`` is the same, as in 1.3.1.
    """

    def __init__(
        self,
        err_no: int | None = None,
        message: str | None = None,
        location: str | None = None,
    ) -> None:
        super().__init__(err_no, message, location)
        self.winerror = err_no

    def __str__(self) -> str:
        number = "" if self.winerror is None else f"[WinError {self.winerror}] "
        return f"{number}{self.strerror}: {self.location}"


class PersistenceEncryptionError(DataProtectionError):
    """``save()`` could not encrypt."""


class PersistenceDecryptionError(DataProtectionError):
    """``load()`` could not decrypt: another user, another key, or damaged content."""


class PersistenceDamaged(PersistenceError, ValueError):
    """What is stored is not the text that was saved."""


class CacheDamaged(PersistenceDamaged, json.JSONDecodeError):
    """What is stored is text, but no token cache.

    A ``JSONDecodeError``, as that of 1.3.1 was, except that its ``doc`` is empty: that would
    be the tokens.
    """

    def __init__(
        self,
        err_no: int | None = None,
        message: str | None = None,
        location: str | None = None,
        cause: json.JSONDecodeError | None = None,
    ) -> None:
        super().__init__(err_no, message, location)
        self.msg, self.doc = (cause.msg if cause else message or ""), ""
        self.pos, self.lineno, self.colno = (
            (cause.pos, cause.lineno, cause.colno) if cause else (0, 1, 1)
        )


class PersistenceTorn(PersistenceDamaged):
    """A save failed half-way, and destroyed what was stored before.

    Only where a file has to be written in place (it is a mount point, or its directory is
    read-only) and could not even be restored.  ``errno`` says why the save failed.
    """


class PersistenceDenied(PersistenceError, PermissionError):
    """Permissions, a read-only file system, a locked keyring, or the user said no."""


class PersistenceNotTrusted(PersistenceDenied):
    """Another user's link or file is in the way; it was neither followed nor used.

    ``errno`` is EACCES, and the message names the user.
    """


class PersistenceDirectoryNotFound(PersistenceError, FileNotFoundError):
    """The directory of the location is missing, or its drive.

    That nothing was saved yet is something else: :class:`PersistenceNotFound`.
    """


class PersistenceFileExists(PersistenceError, FileExistsError):
    """Something else is where a directory or a new file should be made."""


class PersistenceIsADirectory(PersistenceError, IsADirectoryError):
    """The location is a directory."""


class PersistenceNotADirectory(PersistenceError, NotADirectoryError):
    """A part of the location that should be a directory is a file."""


class PersistenceTooLarge(PersistenceError):
    """A file is larger than any token cache, or than this process may make it."""


class PersistenceInterrupted(PersistenceError, InterruptedError):
    """Signals interrupted an operation each time that it was tried."""


class PersistenceTimeout(PersistenceError, TimeoutError):
    """The file system, one on the network, did not answer in time."""


class PersistenceUnavailable(PersistenceError, RuntimeError):
    """This machine or session does not offer the store; choose another persistence."""


class KeyringError(PersistenceError, RuntimeError):
    """The Secret Service failed.  A RuntimeError, as the GLib.Error of 1.3.1 was."""


class KeyringLocked(KeyringError, PersistenceDenied):
    """The keyring is locked, or may not be used, and nobody unlocked it."""


class KeyringTimeout(KeyringError, TimeoutError):
    """The Secret Service, or the person it asked, did not answer in time."""


class KeychainError(PersistenceError):
    """What the macOS keychain answered; the class of 1.3.1, now with words.

    :param exit_status: The OSStatus, see https://www.osstatus.com
    """

    ACCESS_DENIED = -128
    NO_SUCH_KEYCHAIN = -25294
    NO_DEFAULT = -25307
    ITEM_NOT_FOUND = -25300

    def __init__(
        self, exit_status: int, message: str | None = None, location: str | None = None
    ) -> None:
        # An OSStatus is no errno.
        self.message = message or f"{exit_status} see https://www.osstatus.com"
        self.exit_status = exit_status
        super().__init__(None, self.message, location)


class KeychainDenied(KeychainError, PersistenceDenied):
    """The keychain is locked and nobody can be asked, or the user, or macOS, said no."""


class KeychainUnavailable(KeychainError, PersistenceUnavailable):
    """There is no keychain in this session."""


class LockError(RuntimeError):
    """The lock could not be obtained in time; the message names the file and its holder."""


class LockLost(LockError):
    """Somebody removed the lock file during a ``transaction()``, and changed what that had changed.

    That entry keeps the other's values; the rest of the transaction is saved.  Do it again.

    Inside this package also: a save has found its lock lost, and changed nothing.
    """


class StoreChanged(PersistenceError):
    """Somebody else stored something between the look and the save, which then changed nothing;
    the token cache looks again, and programs never see this."""


class LockOrderError(LockError):
    """A lock was asked for in an order in which two programs could wait for each other."""


class LockFileError(OSError, LockError):
    """The lock file could not be made or opened; ``errno`` and ``filename`` say why."""


class LockFileDenied(LockFileError, PermissionError):
    """No permission to make or open the lock file, or another user's link or file is there."""


class LockFileDirectoryNotFound(LockFileError, FileNotFoundError):
    """The directory of the lock file is missing."""


class LockFileExists(LockFileError, FileExistsError):
    """Something that is no lock file has its name."""


class LockFileIsADirectory(LockFileError, IsADirectoryError):
    """A directory has the name of the lock file."""


class LockFileNotADirectory(LockFileError, NotADirectoryError):
    """A part of the path of the lock file that should be a directory is a file."""


class LockFileInterrupted(LockFileError, InterruptedError):
    """Signals interrupted an operation each time that it was tried."""


class LockFileTimeout(LockFileError, TimeoutError):
    """The file system, one on the network, did not answer in time."""


#: What an errno of a file call becomes: for a persistence, and for a lock file.  ``open()``, and
#: so 1.3.1, raises the second base of the class for the same errno (and for EROFS only OSError).
#: Any other errno is a PersistenceError or a LockFileError.
BY_ERRNO: dict[int, tuple[type[PersistenceError], type[LockFileError]]] = {
    errno.EACCES: (PersistenceDenied, LockFileDenied),
    errno.EPERM: (PersistenceDenied, LockFileDenied),
    errno.EROFS: (PersistenceDenied, LockFileDenied),
    errno.ENOENT: (PersistenceDirectoryNotFound, LockFileDirectoryNotFound),
    errno.EEXIST: (PersistenceFileExists, LockFileExists),
    errno.EISDIR: (PersistenceIsADirectory, LockFileIsADirectory),
    errno.ENOTDIR: (PersistenceNotADirectory, LockFileNotADirectory),
    errno.EFBIG: (PersistenceTooLarge, LockFileError),
    errno.EINTR: (PersistenceInterrupted, LockFileInterrupted),
    errno.ETIMEDOUT: (PersistenceTimeout, LockFileTimeout),
}
