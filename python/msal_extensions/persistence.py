"""Where a token cache is kept: in a file, or encrypted by the operating system.

Whether a store is available is found out when its persistence is constructed, not when this
module is imported, so by having one an app developer knows whether the data is encrypted.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import hashlib
import os
import secrets
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from . import _native
from .errors import PersistenceDamaged, PersistenceDirectoryNotFound, PersistenceFileExists
from .errors import PersistenceDecryptionError as PersistenceDecryptionError
from .errors import PersistenceEncryptionError as PersistenceEncryptionError
from .errors import PersistenceError as PersistenceError
from .errors import PersistenceNotFound as PersistenceNotFound

#: Compared for difference only: a file's stamp, or what time_last_modified() returned.
Stamp = _native.Stamp | float

_NOT_INITIALIZED = "Persistence not initialized. You can recover by calling a save() first."


def _mkdir_p(path: str) -> None:
    """Creates a directory and its parents, for the owner only where it does not exist yet.

    :raises PersistenceError: that is still what 1.3.1 raised: FileExistsError and the like.
    """
    if not path or os.path.isdir(path):
        return
    missing = [path]
    while (parent := os.path.dirname(missing[-1])) and not os.path.exists(parent):
        if parent == missing[-1]:  # Windows: a drive, or the share of a server
            words = "There is no such drive or share. Choose a location on one that is there."
            raise PersistenceDirectoryNotFound(errno.ENOENT, words, parent)
        missing.append(parent)
    for directory in reversed(missing):
        if os.path.isdir(directory):  # "new/..", once "new" is there
            continue
        try:
            _native.directory_make(directory)
        except PersistenceFileExists:  # another process was faster; or a link that leads nowhere
            if directory == path and not os.path.isdir(path):
                raise


def _auto_hash(input_string: str) -> str:
    return hashlib.sha256(input_string.encode("utf-8")).hexdigest()


def _location(location: str | os.PathLike[str]) -> str:
    """Checks a location as given by the caller."""
    if not location:
        raise ValueError("Requires a file path")
    path = os.fsdecode(location)  # TypeError when it is no path
    if "\0" in path:
        raise ValueError("A file path must not contain a null byte")
    _expand(path)
    return path


def _expand(path: str) -> str:
    """Puts the home directory in the place of ``~``.

    :raises PersistenceDirectoryNotFound: when there is none: a directory named "~" in whatever
        directory the program runs is no place for tokens.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        user = expanded[1:].replace(os.sep, "/").partition("/")[0]
        words = "This user has no home directory. Set the environment variable HOME (on Windows"
        words += " USERPROFILE), or give a path without ~."
        if user:
            words = f"There is no user named {user} with a home directory. Give a path without ~;"
            words += f" ./{expanded} if a file of that name is meant."
        raise PersistenceDirectoryNotFound(errno.ENOENT, words, path)
    return expanded


def _probe_file(location: str, digits: str) -> str:
    """A file beside the location, named like the C library's temporary files, so that the next save
    or delete removes what a killed program left."""
    return os.path.join(os.path.dirname(location), f".msalex-{digits}.tmp")


# Locals that hold what is stored are named `secret` wherever an error can pass: tools that print
# the locals of a traceback (Sentry is one) leave out that name.


def _encode(secret: str) -> bytes:
    """UTF-8, whatever the locale.  The errors of str.encode() would carry the content along."""
    if not isinstance(secret, str):
        raise TypeError(f"content must be str, not {type(secret).__name__}")
    try:
        return secret.encode("utf-8")
    except UnicodeEncodeError as error:
        position = error.start
    raise ValueError(f"content has a lone surrogate at index {position}, which is not text")


def _decode(secret: bytes, location: str) -> str:
    try:
        return secret.decode("utf-8")
    except UnicodeDecodeError as error:
        position = error.start
    raise PersistenceDamaged(
        None,
        f"The content is not UTF-8 text (byte {position} of {len(secret)}). Another program wrote"
        " it, or it is damaged; delete() it and sign in again.",
        location,
    )


def build_encrypted_persistence(location: str) -> BasePersistence:
    """The encrypted persistence that suits this operating system.

    :raises PersistenceUnavailable: (also a RuntimeError) where it does not work, such as on a
        Linux machine without a desktop keyring.
    """
    if sys.platform.startswith("win"):
        return FilePersistenceWithDataProtection(location)
    if sys.platform.startswith("darwin"):
        return KeychainPersistence(location)
    if sys.platform.startswith("linux"):
        return LibsecretPersistence(location)
    raise RuntimeError(f"Unsupported platform: {sys.platform}")


class BasePersistence(ABC):
    """What all persistences have in common.

    One may be passed to MSAL directly, ``ClientApplication(..., token_cache=persistence)``:
    what MSAL asks of it is answered by a :class:`PersistedTokenCache` of its own.
    """

    is_encrypted = False  # to be overridden

    @abstractmethod
    def save(self, content: str) -> None:
        """Stores the text, replacing what was stored before; takes no lock.

        :raises PersistenceError: when it could not be stored, or others not be told of it.
        """
        raise NotImplementedError

    @abstractmethod
    def load(self) -> str:
        """The text that was stored last.

        :raises PersistenceNotFound: when there is none.
        :raises PersistenceError: when it cannot be read.
        """
        raise NotImplementedError

    @abstractmethod
    def time_last_modified(self) -> float:
        """When it was stored, in seconds since 1970.

        :raises PersistenceNotFound: when there is none.
        """
        raise NotImplementedError

    @abstractmethod
    def get_location(self) -> str:
        """The file that holds the text or, for a keyring, signals a change of it."""
        raise NotImplementedError

    def delete(self) -> None:
        """Removes what is stored; that there is nothing is fine.

        :raises PersistenceError: when it cannot be removed.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot delete")

    def verify(self) -> None:
        """Proves that this store works: saves a probe beside the content, reads it, deletes it.

        :raises PersistenceError: with what to do about it.
        """
        probe = self._probe(secrets.token_hex(8))
        text = secrets.token_hex(16)
        try:
            probe._occupy()
            probe.save(text)
            if probe.load() != text:
                raise PersistenceDamaged(
                    None, "The store returned something else than was saved.", self.get_location()
                )
        except PersistenceFileExists:  # somebody else's, so it stays
            raise
        except BaseException:
            with contextlib.suppress(PersistenceError):  # the first error tells more
                probe.delete()
            raise
        probe.delete()

    def _probe(self, digits: str) -> BasePersistence:
        """A persistence of the same kind in another place, named by these 16 random digits."""
        raise NotImplementedError(f"{type(self).__name__} cannot verify")

    def _occupy(self) -> None:
        """Makes the file of a probe, with nothing in it.

        :raises PersistenceFileExists: when there is one: another user may have put it there.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot verify")

    def _stamp(self) -> Stamp:
        return self.time_last_modified()

    def _copy_aside(self, suffix: str) -> str:
        """Keeps a copy of what is stored, readable or not, as evidence; returns its place.

        A copy, because the original may be a link, or a mount that cannot be renamed.  It never
        replaces anything: the suffix has random digits, and a file of that name is an error.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot keep a copy")

    def __getattr__(self, name: str) -> Any:
        # Called for what this object does not have, so the cache is made only for MSAL.
        from .token_cache import PersistedTokenCache

        if name.startswith("__") or not hasattr(PersistedTokenCache, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        cache = self.__dict__.get("_cache_for_msal")
        if cache is None:
            cache = self.__dict__.setdefault("_cache_for_msal", PersistedTokenCache(self))
        return getattr(cache, name)


class FilePersistence(BasePersistence):
    """Text in a file that only its owner can read: not encrypted.

    A reader always finds a whole version, the old one or the new one.

    :param location: The file; ``~`` is expanded, missing directories are made (0700).
    :raises PersistenceError: when there is no home directory for ``~``, or a directory cannot be
        made: also a FileNotFoundError, PermissionError, FileExistsError or NotADirectoryError.
    """

    _swept = False  # a subclass need not call __init__(), nor a pickle of 1.3.1 have it

    def __init__(self, location: str | os.PathLike[str]) -> None:
        self._location = _expand(_location(location))
        _mkdir_p(os.path.dirname(self._location))

    def save(self, content: str) -> None:
        secret, content = content, ""
        self._replace(_encode(secret))

    def load(self) -> str:
        return _decode(self._read(), self._location)

    def time_last_modified(self) -> float:
        try:
            return _native.file_stat(self._location).mtime_ns / 1e9
        except PersistenceNotFound:
            raise PersistenceNotFound(None, _NOT_INITIALIZED, self._location) from None

    def touch(self) -> None:
        """Sets the time of the last modification to now; makes an empty file when there is none.

        :raises PersistenceError: when it cannot.
        """
        _native.file_touch(self._location)

    def get_location(self) -> str:
        return self._location

    def delete(self) -> None:
        with contextlib.suppress(PersistenceNotFound):
            _native.file_delete(self._location)

    def _probe(self, digits: str) -> BasePersistence:
        return FilePersistence(_probe_file(self._location, digits))

    def _occupy(self) -> None:
        _native.file_create(self._location, b"")

    def _stamp(self) -> Stamp:
        if not self._is_original("time_last_modified"):
            return self.time_last_modified()
        try:
            return _native.file_stat(self._location)
        except PersistenceNotFound:
            raise PersistenceNotFound(None, _NOT_INITIALIZED, self._location) from None

    def _is_original(self, method: str) -> bool:
        """Programs, and the mocks of their tests, override methods: use theirs then."""
        return getattr(type(self), method) is _ORIGINAL[method] and method not in self.__dict__

    def _is_plain(self) -> bool:
        """Whether the content is in the file, as UTF-8, and not elsewhere or encoded."""
        return all(map(self._is_original, _ORIGINAL))

    def _read_and_stamp(self) -> tuple[bytes, Stamp]:
        """What is in the file, and the stamp of just that.  Only when it is plain."""
        try:
            return _native.file_read(self._location)
        except PersistenceNotFound:
            raise PersistenceNotFound(None, _NOT_INITIALIZED, self._location) from None

    def _copy_aside(self, suffix: str) -> str:
        _native.file_create(self._location + suffix, self._read())
        return self._location + suffix

    def _replace(self, secret: bytes, guard: _native.Lock | None = None) -> _native.Stamp:
        stamp = _native.file_replace(self._location, secret, guard)
        if not self._swept:
            self._swept = True
            _native.file_sweep(self._location)
        return stamp

    def _read(self) -> bytes:
        return self._read_and_stamp()[0]


#: As they are before anybody patches them.
_ORIGINAL = {
    name: getattr(FilePersistence, name) for name in ("save", "load", "time_last_modified")
}


class DataProtectionScope(enum.Enum):
    """Who can decrypt."""

    CURRENT_USER = _native.DPAPI_CURRENT_USER
    LOCAL_MACHINE = _native.DPAPI_LOCAL_MACHINE


class FilePersistenceWithDataProtection(FilePersistence):
    """Text in a file, encrypted by the Windows Data Protection API (DPAPI).

    :param location: The file; ``~`` is expanded, missing directories are made.
    :param entropy: A second key; whoever decrypts needs the same.
    :param scope: Who else can decrypt, given the entropy: nobody (the default, as in 1.3.1), or
        every user of this machine, who still needs permission to read the file.
    :raises PersistenceUnavailable: on other systems.
    """

    is_encrypted = True

    def __init__(
        self,
        location: str | os.PathLike[str],
        entropy: str = "",
        scope: DataProtectionScope = DataProtectionScope.CURRENT_USER,
    ) -> None:
        from .windows import WindowsDataProtectionAgent

        path = _location(location)
        self._dp_agent = WindowsDataProtectionAgent(entropy=entropy, scope=scope)
        super().__init__(path)

    def save(self, content: str) -> None:
        secret, content = content, ""
        self._replace(self._protect(secret))

    def load(self) -> str:
        secret = self._read()  # maybe in plain text, of a program without encryption
        if not secret:  # Node creates an empty file; .NET, Java and Go read one as "no data"
            raise PersistenceNotFound(None, _NOT_INITIALIZED, self._location)
        try:
            return self._dp_agent.unprotect(secret)
        except PersistenceDecryptionError as error:
            raise PersistenceDecryptionError(
                error.winerror, f"Decryption failed: {error.strerror}", self._location
            ) from error

    def _protect(self, secret: str) -> bytes:
        try:
            return self._dp_agent.protect(secret)
        except PersistenceEncryptionError as error:
            raise PersistenceEncryptionError(
                error.winerror, f"Encryption failed: {error.strerror}", self._location
            ) from error

    def _probe(self, digits: str) -> BasePersistence:
        return FilePersistenceWithDataProtection(_probe_file(self._location, digits))


class _SignalFilePersistence(BasePersistence):
    """Keeps the text in a keyring, and a file whose time tells that it changed."""

    is_encrypted = True
    _file_persistence: FilePersistence

    def time_last_modified(self) -> float:
        return self._file_persistence.time_last_modified()

    def get_location(self) -> str:
        return self._file_persistence.get_location()

    def _occupy(self) -> None:
        self._file_persistence._occupy()

    def _check_signal(self) -> None:
        """Raises what touch() after a save would raise; before it, so that nothing is half done.

        The time must move after the save, or others would read too early.  It moves here as well
        only where the file may turn out to be none that touch() accepts.
        """
        location = self.get_location()
        try:
            found = os.stat(location)
        except FileNotFoundError:  # can it be made?
            probe = _probe_file(location, secrets.token_hex(8))
            _native.file_create(probe, b"")
            with contextlib.suppress(PersistenceError):
                _native.file_delete(probe)
        except OSError:
            self._file_persistence.touch()
        else:
            ours = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
            direct = os.path.realpath(location) == os.path.abspath(location)
            effective = os.access in os.supports_effective_ids
            writable = os.access(location, os.W_OK, effective_ids=effective)
            if not (ours and direct and writable and stat.S_ISREG(found.st_mode)):
                self._file_persistence.touch()


class KeychainPersistence(_SignalFilePersistence):
    """Text in the macOS keychain, as a generic password.

    :param signal_location: A file that is touched at each save, so that other programs, and
        ``time_last_modified()``, can tell; it holds nothing.
    :param service_name: Of the keychain item; default ``msal-extensions``.
    :param account_name: Of the keychain item; default: the SHA-256 of ``signal_location``.
    :raises PersistenceUnavailable: on other systems.

    What the keychain refuses is an :class:`msal_extensions.osx.KeychainError`, when it is used.
    macOS may ask the user, and the call then waits for the answer: see docs/keychain.md.
    """

    def __init__(
        self,
        signal_location: str | os.PathLike[str],
        service_name: str | None = None,
        account_name: str | None = None,
    ) -> None:
        location = _location(signal_location)
        _native.keychain_require()
        self._file_persistence = FilePersistence(location)
        self._service_name = service_name or "msal-extensions"
        self._account_name = account_name or _auto_hash(location)

    def save(self, content: str) -> None:
        secret, content = content, ""
        self._check_signal()
        _native.keychain_save(self._service_name, self._account_name, _encode(secret))
        self._file_persistence.touch()

    def load(self) -> str:
        location = f"Service:{self._service_name} Account:{self._account_name}"
        try:
            return _decode(_native.keychain_load(self._service_name, self._account_name), location)
        except PersistenceNotFound:
            raise PersistenceNotFound(
                None,
                "Keychain persistence not initialized. You can recover by call a save() first.",
                location,
            ) from None

    def delete(self) -> None:
        with contextlib.suppress(PersistenceNotFound):
            _native.keychain_delete(self._service_name, self._account_name)
        self._file_persistence.delete()

    def _copy_aside(self, suffix: str) -> str:
        secret = _native.keychain_load(self._service_name, self._account_name)
        _native.keychain_save(self._service_name, self._account_name + suffix, secret)
        return f"Service:{self._service_name} Account:{self._account_name}{suffix}"

    def _probe(self, digits: str) -> BasePersistence:
        location = _probe_file(self.get_location(), digits)
        account = f"{self._account_name}.verify-{digits}"
        return KeychainPersistence(location, self._service_name, account)


class LibsecretPersistence(_SignalFilePersistence):
    """Text in the Secret Service of a Linux desktop (gnome-keyring, KWallet), by libsecret.

    The constructor reaches the service, and raises if that fails; it stores nothing.

    :param signal_location: A file that is touched at each save, so that other programs, and
        ``time_last_modified()``, can tell; it holds nothing.
    :param schema_name: Of the item; default: the SHA-256 of ``signal_location``.
    :param attributes: Strings that identify the item, together with the schema's name.
    :param kwargs: ``label``, ``attribute_types``, ``collection``, ``timeout``: see
        :class:`msal_extensions.libsecret.LibSecretAgent`.
    :raises PersistenceUnavailable: (also a RuntimeError) when there is no such service.
    :raises KeyringLocked: (also a RuntimeError) when it is locked, and there is no desktop to ask
        for its password.
    """

    def __init__(
        self,
        signal_location: str | os.PathLike[str],
        schema_name: str | None = None,
        attributes: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        from .libsecret import LibSecretAgent

        location = _location(signal_location)
        self._agent = LibSecretAgent(
            schema_name or _auto_hash(location), attributes or {}, **kwargs
        )
        self._agent.connect()
        self._file_persistence = FilePersistence(location)

    def save(self, content: str) -> None:
        secret, content = content, ""
        self._check_signal()
        if self._agent.save(secret):
            self._file_persistence.touch()

    def load(self) -> str:
        secret = self._agent.load()
        if secret is None:
            raise PersistenceNotFound(
                None,
                "Keyring persistence not initialized. You can recover by call a save() first.",
                self.get_location(),
            )
        return secret

    def delete(self) -> None:
        self._agent.clear()
        self._file_persistence.delete()

    def _copy_aside(self, suffix: str) -> str:
        return self._agent.copy_aside(suffix)

    def _probe(self, digits: str) -> BasePersistence:
        item = self._agent.item
        return LibsecretPersistence(
            _probe_file(self.get_location(), digits),
            f"{item.schema}.verify-{digits}",
            item.attributes,
            label=item.label,
            attribute_types=item.types,
            collection=item.collection,
            timeout=self._agent.timeout,
        )
