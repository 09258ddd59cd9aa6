"""The exceptions of this package.

Everything that a persistence raises is a :class:`PersistenceError`, which is an ``OSError``
with ``errno`` and ``location``.  Some classes have a second base.  msal-extensions 1.3.1 let the
exceptions of ``open()`` pass, so programs written for it catch that second base.

Each exception has a ``reference`` such as "MSX-25", at the end of its ``str()``.  ``python -m
msal_extensions explain MSX-25`` and docs/errors.md say what it means.  Most classes have one
reference; referring() gives an exception a more exact one.  A ValueError or TypeError of ours has
its reference at the end of its message.

The attribute ``remedy`` of an exception is what a person can do, often more exactly than the
reference says.  with_remedy() makes an exception from its parts.
"""

from __future__ import annotations

import errno
import json
from typing import TypeVar

from . import _references as references
from ._references import Reference


class PersistenceError(OSError):
    """The base class of every exception that a persistence raises.

    :param err_no: The operating system's number, or None.
    :param message: What happened, in the operating system's words, and what to do about it.
    :param location: The file, or the keyring's item.
    """

    reference = references.UNEXPECTED.code
    #: What a person can do.  "": what the entry of the reference says.
    remedy = ""
    #: The end of ``strerror``, where that says the remedy in other words.
    advice = ""

    def __init__(
        self,
        err_no: int | None = None,
        message: str | None = None,
        location: str | None = None,
    ) -> None:
        super().__init__(err_no, message, location)
        self.location = location

    def __str__(self) -> str:
        return f"{self._words()} [{self.reference}]"

    def _words(self) -> str:
        if self.errno is not None:
            return super().__str__()
        # OSError.__str__() would say "[Errno None]" where the store has no errno.
        return f"{str(self.strerror).removesuffix('.')}: {self.location}"


class PersistenceNotFound(PersistenceError):
    """Nothing is stored there: ``load()`` came before the first ``save()``.

    ``errno`` is ENOENT.  As in 1.3.1 this is not a ``FileNotFoundError``.
    """

    reference = references.NOT_STORED.code

    def __init__(
        self,
        err_no: int | None = None,  # accepted and ignored, as in 1.3.1
        message: str | None = None,
        location: str | None = None,
    ) -> None:
        super().__init__(errno.ENOENT, message or "Persistence not found", location)


class DataProtectionError(PersistenceError):
    """The Windows Data Protection API (DPAPI) refused.

    ``winerror`` is its error code, as a signed number, as pywin32 shows it.  ``errno`` is the
    same number, as in 1.3.1.
    """

    reference = references.DPAPI_CANNOT_DECRYPT.code

    def __init__(
        self,
        err_no: int | None = None,
        message: str | None = None,
        location: str | None = None,
    ) -> None:
        super().__init__(err_no, message, location)
        self.winerror = err_no

    def _words(self) -> str:
        number = "" if self.winerror is None else f"[WinError {self.winerror}] "
        return f"{number}{str(self.strerror).removesuffix('.')}: {self.location}"


class PersistenceEncryptionError(DataProtectionError):
    """``save()`` could not encrypt."""

    reference = references.DPAPI_CANNOT_ENCRYPT.code


class PersistenceDecryptionError(DataProtectionError):
    """``load()`` could not decrypt: another user, another key, or damaged content."""

    reference = references.DPAPI_CANNOT_DECRYPT.code


class PersistenceDamaged(PersistenceError, ValueError):
    """The stored content is not a text that was saved."""

    reference = references.DAMAGED.code


class CacheDamaged(PersistenceDamaged, json.JSONDecodeError):
    """The stored content is text, but no token cache.

    It is a ``JSONDecodeError``, as the exception of 1.3.1 was.  Its ``doc`` is empty, because the
    document contains tokens.
    """

    reference = references.CACHE_DAMAGED.code

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
    """A save failed half-way and destroyed the content that was stored before.

    This happens only where a file has to be written in place (the file is a mount point, or its
    directory is read-only) and the old content could not be restored.  ``errno`` says why the
    save failed.
    """

    reference = references.TORN.code


class PersistenceDenied(PersistenceError, PermissionError):
    """Permissions, a read-only file system, a locked keyring, or the user's answer forbid it."""

    reference = references.DENIED.code


class PersistenceNotTrusted(PersistenceDenied):
    """Another user's link or file is in the way.  It was neither followed nor used.

    ``errno`` is EACCES.  The message names the user.
    """

    reference = references.NOT_TRUSTED.code


class PersistenceDirectoryNotFound(PersistenceError, FileNotFoundError):
    """The directory of the location is missing, or its drive.

    If only the file is missing, the exception is :class:`PersistenceNotFound`.
    """

    reference = references.DIRECTORY_MISSING.code


class PersistenceFileExists(PersistenceError, FileExistsError):
    """The name of the directory or file that should be made is taken by something else."""

    reference = references.NAME_TAKEN.code


class PersistenceIsADirectory(PersistenceError, IsADirectoryError):
    """The location is a directory."""

    reference = references.NAME_TAKEN.code


class PersistenceNotADirectory(PersistenceError, NotADirectoryError):
    """A part of the location that should be a directory is a file."""

    reference = references.NAME_TAKEN.code


class PersistenceTooLarge(PersistenceError):
    """The file is larger than any token cache, or larger than this process may make it."""

    reference = references.TOO_LARGE.code


class PersistenceInterrupted(PersistenceError, InterruptedError):
    """Signals interrupted every attempt at an operation."""

    reference = references.INTERRUPTED.code


class PersistenceTimeout(PersistenceError, TimeoutError):
    """A network file system did not answer in time."""

    reference = references.SERVER_SILENT.code


class PersistenceUnavailable(PersistenceError, RuntimeError):
    """This machine or session does not offer the store.  Choose another persistence."""

    reference = references.KEYRING_MISSING.code


class KeyUnavailable(PersistenceUnavailable):
    """No key can be had: the machine offers no source of keys, or the source does not answer.

    The message names each source that was tried, and says what to mount or to set.
    """

    reference = references.KEY_UNAVAILABLE.code


class KeyFileNotTrusted(PersistenceDenied):
    """Other users may read or change the key file, so its key was not used."""

    reference = references.KEY_FILE_NOT_TRUSTED.code


class KeyLost(PersistenceError):
    """The file is encrypted, and the key that it needs is not here.  The file was not changed.

    The subclasses tell the causes.  ``key_id`` names the key.
    """

    reference = references.KEY_WRONG.code

    def __init__(
        self,
        err_no: int | None = None,
        message: str | None = None,
        location: str | None = None,
        key_id: str | None = None,
    ) -> None:
        super().__init__(err_no, message, location)
        self.key_id = key_id


class KeyLostAtReboot(KeyLost):
    """The kernel kept the key, and the machine was started anew since.  The key is gone."""

    reference = references.KEY_LOST_AT_REBOOT.code


class KeyExpired(KeyLost):
    """The kernel kept the key, and has removed it because nobody used it.  The key is gone."""

    reference = references.KEY_EXPIRED.code


class KeyInOtherNamespace(KeyLost):
    """The kernel keeps the key in another user namespace, for example outside this container."""

    reference = references.KEY_IN_OTHER_NAMESPACE.code


class KeyWrong(KeyLost):
    """The file was encrypted with another key, or under another ``name``."""

    reference = references.KEY_WRONG.code


class EncryptedFileDamaged(PersistenceDamaged):
    """The key is the right one, but the file is damaged, or somebody has changed it."""

    reference = references.ENCRYPTED_DAMAGED.code


class EncryptedFileUnknown(PersistenceError):
    """A newer version of this package made the file.  The file was not changed."""

    reference = references.ENCRYPTED_UNKNOWN.code


class NotEncrypted(PersistenceError):
    """Something else is in the place of an encrypted file, such as plain text.  It was kept."""

    reference = references.NOT_ENCRYPTED.code


class KeyringError(PersistenceError, RuntimeError):
    """The Secret Service failed.  It is a RuntimeError, as the GLib.Error of 1.3.1 was."""

    reference = references.KEYRING_FAILED.code


class KeyringLocked(KeyringError, PersistenceDenied):
    """The keyring is locked, or this program may not use it, and nobody unlocked it."""

    reference = references.KEYRING_LOCKED.code


class KeyringTimeout(KeyringError, TimeoutError):
    """The Secret Service, or the person it asked, did not answer in time."""

    reference = references.KEYRING_SILENT.code


class KeychainError(PersistenceError):
    """An error of the macOS keychain.  The class of 1.3.1, now with words.

    :param exit_status: The OSStatus, see https://www.osstatus.com
    """

    reference = references.KEYCHAIN_FAILED.code

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
    """The keychain is locked and nobody can be asked, or the user or macOS refused."""

    reference = references.KEYCHAIN_DENIED.code


class KeychainTimeout(KeychainError, TimeoutError):
    """The keychain, or the person it asked, did not answer in time.

    ``exit_status`` is 100060: Apple's errSecErrnoBase and macOS' number of ETIMEDOUT.
    """

    reference = references.KEYCHAIN_SILENT.code


class KeychainUnavailable(KeychainError, PersistenceUnavailable):
    """There is no keychain in this session."""

    reference = references.KEYCHAIN_MISSING.code


class LockError(RuntimeError):
    """The lock could not be obtained in time.  The message names the file and its holder."""

    reference = references.LOCK_BUSY.code
    remedy = advice = ""  # as those of a PersistenceError

    def __str__(self) -> str:
        return f"{super().__str__()} [{self.reference}]"


class LockLost(LockError):
    """During a ``transaction()`` another program removed the lock file and changed the same entry.

    That entry keeps the other program's values.  The rest of the transaction is saved.  Do the
    transaction again.

    Inside this package it also means: a save found its lock lost, and stored nothing.
    """

    reference = references.LOCK_LOST.code


class StoreChanged(PersistenceError):
    """Somebody else stored something between our read and our save; the save stored nothing.

    The token cache catches this, reads again and saves again.  Programs never see it.
    """

    reference = references.STORE_CHANGED.code


class LockOrderError(LockError):
    """Two locks were asked for in an order in which two programs could wait for each other."""

    reference = references.LOCK_ORDER.code


class LockFileError(OSError, LockError):
    """The lock file could not be made or opened.  ``errno`` and ``filename`` say why."""

    reference = references.LOCK_FILE.code

    def __str__(self) -> str:
        return f"{OSError.__str__(self)} [{self.reference}]"


class LockFileDenied(LockFileError, PermissionError):
    """This user may not make or open the lock file, or another user's link or file is there."""

    reference = references.DENIED.code


class LockFileDirectoryNotFound(LockFileError, FileNotFoundError):
    """The directory of the lock file is missing."""

    reference = references.DIRECTORY_MISSING.code


class LockFileExists(LockFileError, FileExistsError):
    """The name of the lock file is taken by something else."""

    reference = references.NAME_TAKEN.code


class LockFileIsADirectory(LockFileError, IsADirectoryError):
    """A directory has the name of the lock file."""

    reference = references.NAME_TAKEN.code


class LockFileNotADirectory(LockFileError, NotADirectoryError):
    """A part of the path of the lock file that should be a directory is a file."""

    reference = references.NAME_TAKEN.code


class LockFileInterrupted(LockFileError, InterruptedError):
    """Signals interrupted every attempt at an operation."""

    reference = references.INTERRUPTED.code


class LockFileTimeout(LockFileError, TimeoutError):
    """A network file system did not answer in time."""

    reference = references.SERVER_SILENT.code


#: The exceptions for an errno of a file call: of a persistence, and of a lock file.  For the same
#: errno ``open()``, and so 1.3.1, raises the second base of the class (for EROFS just OSError).
#: Any other errno becomes a PersistenceError or a LockFileError.
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


AnError = TypeVar("AnError", bound="PersistenceError | LockError")
AnOSError = TypeVar("AnOSError", bound="PersistenceError | LockFileError")


def referring(error: AnError, reference: Reference) -> AnError:
    """Gives an exception a more exact reference than that of its class, and the remedy of that."""
    error.reference, error.remedy = reference.code, reference.remedy
    return error


def with_remedy(
    kind: type[AnOSError],
    code: int | None,
    words: str,
    location: str | None,
    cause: Reference | None = None,
    *more: object,
    advice: str = "",
) -> AnOSError:
    """An exception whose text says what happened, and then what to do.

    :param words: What happened.  A space follows, unless they end with a line feed.
    :param cause: Why it happened, and what to do; None: as the class says.  The text says why only
        if that is not what the table of references says; see Reference.because().
    :param more: Further arguments of the class.
    :param advice: What to do, in other words than those of the cause: for programmers, or as a part
        of a sentence.  Only the text has it.  "": the words of the cause.
    """
    cause = cause or references.REFERENCES[kind.reference]
    if cause.cause != references.REFERENCES[cause.code].cause:
        words = f"{words} {cause.cause}"
    space = "" if words.endswith("\n") else " "
    text = f"{words}{space}{advice or cause.remedy}".rstrip()
    error = referring(kind(code, text, location, *more), cause)
    error.advice = advice
    return error
