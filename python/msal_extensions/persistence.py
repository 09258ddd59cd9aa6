"""The persistences: they keep a token cache in a file, or encrypted by the operating system.

The constructor of a persistence, and not the import of this module, finds out whether its store is
available.  So a program that has a persistence knows whether its data is encrypted.

A store is imported when its persistence is used.  Most programs use one store, and start faster
without the others.

The attributes of a persistence are those of 1.3.1, under the same names.  Programs derive from
these classes, set those attributes, and pickle the objects.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from abc import ABC as ABC
from collections.abc import Mapping
from pathlib import Path as Path
from typing import TYPE_CHECKING, Any, Literal

from ._base import BasePersistence as BasePersistence
from ._base import modified_at, not_initialized, prove, tell_choice
from ._native import files
from ._native.dpapi import DataProtectionScope as DataProtectionScope
from ._paths import expand, location_of, make_directories, sealed_location, sha256_of
from ._references import ARGUMENT, PLATFORM, SETTING
from ._store_of import register
from ._text import decode, encode
from ._timeouts import seconds_of
from .errors import PersistenceDecryptionError as PersistenceDecryptionError
from .errors import PersistenceEncryptionError as PersistenceEncryptionError
from .errors import PersistenceError as PersistenceError
from .errors import PersistenceNotFound as PersistenceNotFound
from .errors import PersistenceUnavailable, with_remedy

if TYPE_CHECKING:
    from ._store import Store
    from ._stores.file import FileStore
    from ._stores.keychain import KeychainStore
    from ._stores.sealed import SealedStore
    from ._without_keyring import InsteadOfKeyring, Policy
    from .encrypted import Key

# Names of 1.3.1, which programs import and patch.
_mkdir_p, _auto_hash = make_directories, sha256_of
logger = logging.getLogger(__name__)

#: An environment variable: what a user wants where there is no keyring.  It is for programs that
#: construct a LibsecretPersistence themselves, as azure-identity and azure-cli do.
WITHOUT_KEYRING_VARIABLE = "MSAL_EXTENSIONS_WITHOUT_KEYRING"
_SAVE_FIRST = "You can recover by call a save() first."  # as in 1.3.1


def _open(location: str | os.PathLike[str]) -> int:
    return os.open(location, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)


def build_encrypted_persistence(
    location: str,
    *,
    without_keyring: Policy | None = None,
    key: Key | None = None,
) -> BasePersistence:
    """The encrypted persistence that suits this operating system.

    :param without_keyring: For Linux, where a server has no keyring.

        - "raise": as 1.3.1 does.
        - "encrypted_file": use an :class:`EncryptedFilePersistence` at ``<location>.enc``.  Once
          that file exists, every session uses it, also one with a keyring.
        - "plain_file": use a :class:`FilePersistence` at ``location``: not encrypted.
        - None: what the environment variable MSAL_EXTENSIONS_WITHOUT_KEYRING says ("raise" or
          "encrypted_file"), else "raise".
    :param key: For the encrypted file, see there.
    :returns: A persistence.  Its ``choice`` says in words what was chosen, and why.
    :raises PersistenceUnavailable: (also a RuntimeError) where it does not work, such as on a
        Linux machine without a desktop keyring; with "encrypted_file" where there is no key.
    :raises KeyringLocked: when there is a keyring, and it is locked.
    :raises KeyringTimeout: when there is a keyring, and it does not answer.
    """
    if without_keyring not in (None, "raise", "encrypted_file", "plain_file"):
        words = 'without_keyring is "raise", "encrypted_file", "plain_file" or None'
        raise ValueError(ARGUMENT.after(words))
    if sys.platform.startswith("win"):
        return tell_choice(FilePersistenceWithDataProtection(location), "File encrypted by Windows")
    if sys.platform.startswith("darwin"):
        return tell_choice(KeychainPersistence(location), "The keychain of macOS")
    if sys.platform.startswith("linux"):
        return _keyring_or_file(location, without_keyring, key)
    raise RuntimeError(PLATFORM.after(f"Unsupported platform: {sys.platform}"))


def _keyring_or_file(location: str, policy: Policy | None, key: Key | None) -> BasePersistence:
    path = location_of(location)
    is_sealed = os.path.lexists(sealed_location(path))
    of_keyring = "raise" if policy == "plain_file" else policy
    options = {"without_keyring": "encrypted_file" if is_sealed else of_keyring, "key": key}
    # What the program does not want is left out: it may have replaced the class by one of its own.
    wanted: dict[str, Any] = {name: it for name, it in options.items() if it is not None}
    try:
        made = LibsecretPersistence(path, **wanted)
    except PersistenceUnavailable as error:
        if policy != "plain_file" or is_sealed:
            raise
        plain = FilePersistence(path)
        choice = f"Plain file {plain.get_location()}. There is no keyring: {error.strerror}"
        return tell_choice(plain, choice)
    instead = getattr(made, "instead", None)
    return instead or tell_choice(made, "The keyring. It answers")


#: An attribute of a persistence: whether its first save has removed the files of dead writers.
#: The name is mangled as Python mangles private names, so that no subclass has it by chance.
_SWEPT = "_FilePersistence__swept"


def _write(persistence: FilePersistence, secret: bytes) -> None:
    location = persistence._location
    files.replace(location, secret)
    if not persistence.__dict__.setdefault(_SWEPT, False):
        persistence.__dict__[_SWEPT] = True
        files.sweep(location)


class FilePersistence(BasePersistence):
    """Text in a file that only its owner can read: not encrypted.

    A reader always finds a whole version, the old one or the new one.

    :param location: The file; ``~`` is expanded, missing directories are made (0700).
    :raises PersistenceError: when there is no home directory for ``~``, or a directory cannot be
        made.  It is a FileNotFoundError, PermissionError, FileExistsError or NotADirectoryError
        as well.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        self._location = expand(location_of(location))
        _mkdir_p(os.path.dirname(self._location))

    def save(self, content: str) -> None:
        secret, content = content, ""
        _write(self, encode(secret))

    def load(self) -> str:
        try:
            secret, _ = files.read(self._location)
        except PersistenceNotFound:
            raise not_initialized(self._location) from None
        return decode(secret, self._location)

    def time_last_modified(self) -> float:
        return modified_at(self._location)

    def touch(self) -> None:
        """Sets the time of the last modification to now.  Makes an empty file when there is none.

        :raises PersistenceError: when that fails.
        """
        files.touch(self._location)

    def get_location(self) -> str:
        return self._location

    def delete(self) -> None:
        with contextlib.suppress(PersistenceNotFound):
            files.delete(self._location)

    def verify(self) -> None:
        prove(self._location, lambda place, _: FilePersistence(place))


class FilePersistenceWithDataProtection(FilePersistence):
    """Text in a file, encrypted by the Windows Data Protection API (DPAPI).

    :param location: The file; ``~`` is expanded, missing directories are made.
    :param entropy: A second key.  Without it nothing can be decrypted.
    :param scope: CURRENT_USER (the default, as in 1.3.1): only this user can decrypt.
        LOCAL_MACHINE: every user of this machine who has the entropy and may read the file.
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

        path = location_of(location)
        # A program may have put an agent of its own in that place, without a scope, as in 1.3.1.
        default = scope == DataProtectionScope.CURRENT_USER
        options: dict[str, Any] = {} if default else {"scope": scope}
        self._dp_agent = WindowsDataProtectionAgent(entropy=entropy, **options)
        super().__init__(path)

    def save(self, content: str) -> None:
        from ._stores.dpapi import DpapiCipher

        secret, content = content, ""
        _write(self, DpapiCipher(self._dp_agent).seal(encode(secret), self._location))

    def load(self) -> str:
        from ._store import ABSENT

        secret, stamp = _sealed_store(self, "").read()
        if stamp is ABSENT:
            raise not_initialized(self._location)
        return decode(secret, self._location)

    def verify(self) -> None:
        prove(self._location, lambda place, _: FilePersistenceWithDataProtection(place))


class _SignalFilePersistence(BasePersistence):
    """Keeps the text in a keyring.  The time of a signal file shows that it has changed."""

    is_encrypted = True
    _file_persistence: Any  # has a location and a time; see also LibsecretPersistence.instead

    def time_last_modified(self) -> float:
        time: float = self._file_persistence.time_last_modified()
        return time

    def get_location(self) -> str:
        location: str = self._file_persistence.get_location()
        return location


class KeychainPersistence(_SignalFilePersistence):
    """Text in the macOS keychain, as a generic password.

    :param signal_location: An empty file.  Each save sets its time, which tells other programs
        and ``time_last_modified()`` of the change.
    :param service_name: Of the keychain item; default ``msal-extensions``.
    :param account_name: Of the keychain item; default: the SHA-256 of ``signal_location``.
    :raises PersistenceUnavailable: on other systems.

    :param timeout: Seconds that one call of the keychain may take.  macOS may ask a person for a
        password or a permission, and that counts.  None: 300.  A negative number: for ever.
    :param interactive: False: macOS must ask nobody, as in a daemon.  What needs an answer then
        raises a KeychainDenied.  macOS knows this as a switch of the whole process.  It is off for
        the length of each call, and other threads that use the keychain meanwhile cannot ask
        either.

    When the keychain refuses a call, that raises a :class:`msal_extensions.KeychainError`; when the
    time is up, its subclass :class:`msal_extensions.KeychainTimeout`.  See docs/keychain.md for the
    questions that macOS asks.
    """

    # A pickled object of an older version has neither.
    _timeout: float | None = None
    _interactive = True

    def __init__(
        self,
        signal_location: str | os.PathLike[str],
        service_name: str | None = None,
        account_name: str | None = None,
        *,
        timeout: float | None = None,
        interactive: bool = True,
    ) -> None:
        from ._native import keychain

        location = location_of(signal_location)
        keychain.require()
        self._file_persistence = FilePersistence(location)
        self._service_name = service_name or "msal-extensions"
        self._account_name = account_name or sha256_of(location)
        self._timeout = None if timeout is None else seconds_of(timeout)
        self._interactive = bool(interactive)

    def save(self, content: str) -> None:
        secret, content = content, ""
        _keychain_store(self, "").replace(encode(secret), lease=None, expected=None)

    def load(self) -> str:
        from ._native import keychain

        location = keychain.Item(self._service_name, self._account_name).location
        try:
            secret = _keychain_store(self, "").load()
        except PersistenceNotFound:
            words = "Keychain persistence not initialized."
            raise with_remedy(
                PersistenceNotFound, None, words, location, advice=_SAVE_FIRST
            ) from None
        return decode(secret, location)

    def delete(self) -> None:
        _keychain_store(self, "").delete(lease=None)

    def verify(self) -> None:
        service, account = self._service_name, f"{self._account_name}.verify-"
        prove(
            self.get_location(),
            lambda place, digits: KeychainPersistence(
                place,
                service,
                account + digits,
                timeout=self._timeout,
                interactive=self._interactive,
            ),
        )


class LibsecretPersistence(_SignalFilePersistence):
    """Text in the Secret Service of a Linux desktop (gnome-keyring, KWallet, KeePassXC).

    The constructor connects to the service, and raises if that fails.  It stores nothing.

    :param signal_location: An empty file.  Each save sets its time, which tells other programs
        and ``time_last_modified()`` of the change.
    :param schema_name: Of the item; default: the SHA-256 of ``signal_location``.
    :param attributes: Strings that identify the item, together with the schema's name.
    :param without_keyring: "encrypted_file": where there is no such service, the text is in an
        encrypted file at ``<signal_location>.enc``.  See :func:`build_encrypted_persistence`.
    :param key: For that file, see :class:`EncryptedFilePersistence`.
    :param kwargs: ``label``, ``attribute_types``, ``collection``, ``timeout``: see
        :class:`msal_extensions.libsecret.LibSecretAgent`.
    :raises PersistenceUnavailable: (also a RuntimeError) when there is no such service, or KWallet
        has no wallet.
    :raises KeyringLocked: (also a RuntimeError) when it is locked, and there is no desktop to ask
        for its password.
    :raises KeyringTimeout: (also a RuntimeError) when it does not answer within 5 seconds.

    The default of ``without_keyring`` is the environment variable MSAL_EXTENSIONS_WITHOUT_KEYRING.
    So programs that know this class only, such as azure-cli, can work on a server.
    """

    #: The encrypted file, where there is no keyring.
    instead: InsteadOfKeyring | None = None

    def __init__(
        self,
        signal_location: str | os.PathLike[str],
        schema_name: str | None = None,
        attributes: Mapping[str, str] | None = None,
        *,
        without_keyring: Literal["raise", "encrypted_file"] | None = None,
        key: Key | None = None,
        **kwargs: Any,
    ) -> None:
        from .libsecret import LibSecretAgent

        location = location_of(signal_location)
        self._agent = LibSecretAgent(schema_name or sha256_of(location), attributes or {}, **kwargs)
        if item := getattr(self._agent, "item", None):  # a program's own agent has none
            item.location = location
        self._connect(location, without_keyring, key)
        self._file_persistence = self.instead or FilePersistence(location)

    def _connect(self, location: str, policy: str | None, key: Key | None) -> None:
        """Connects to the keyring.  Where there is none, goes on in a file if that is wanted."""
        where = ARGUMENT
        if policy is None:
            policy, where = os.environ.get(WITHOUT_KEYRING_VARIABLE), SETTING
        if policy in (None, "", "raise"):
            self._agent.connect()
        elif policy == "encrypted_file":
            from ._without_keyring import replacement

            self.instead = replacement(self._agent, location, key)
        else:
            words = (
                f"without_keyring or {WITHOUT_KEYRING_VARIABLE} must be raise or encrypted_file,"
            )
            raise ValueError(where.after(f"{words} and not {policy!r}"))
        if self.instead is not None:
            self.is_encrypted, self.choice = self.instead.is_encrypted, self.instead.choice

    def save(self, content: str) -> None:
        secret, content = content, ""
        _libsecret_store(self, "").replace(encode(secret), lease=None, expected=None)

    def load(self) -> str:
        if self.instead is not None:
            return self.instead.load()
        secret = self._agent.load()
        if secret is None:
            words, location = "Keyring persistence not initialized.", self.get_location()
            raise with_remedy(PersistenceNotFound, None, words, location, advice=_SAVE_FIRST)
        return secret

    def delete(self) -> None:
        if self.instead is not None:
            return self.instead.delete()
        _libsecret_store(self, "").delete(lease=None)
        if os.path.lexists(sealed_location(self.get_location())):
            from ._without_keyring import forget_file

            forget_file(self.get_location())
        return None

    def verify(self) -> None:
        if self.instead is not None:
            return self.instead.verify()
        item, timeout = self._agent.item, self._agent.timeout
        prove(
            self.get_location(),
            lambda place, digits: LibsecretPersistence(
                place,
                f"{item.schema}.verify-{digits}",
                item.attributes,
                label=item.label,
                attribute_types=item.types,
                without_keyring="raise",
                collection=item.collection,
                timeout=timeout,
            ),
        )
        return None


# ---- their stores ----


def _file_store(persistence: FilePersistence, lock_location: str) -> FileStore:
    from ._stores.file import FileStore

    return FileStore(persistence._location, lock_location)


def _sealed_store(
    persistence: FilePersistenceWithDataProtection, lock_location: str
) -> SealedStore:
    from ._stores.dpapi import DpapiCipher
    from ._stores.sealed import SealedStore

    cipher = DpapiCipher(persistence._dp_agent)
    return SealedStore(persistence._location, lock_location, cipher)


def _keychain_store(persistence: KeychainPersistence, lock_location: str) -> KeychainStore:
    from ._stores.keychain import KeychainItem, KeychainStore

    item = KeychainItem(
        persistence._service_name,
        persistence._account_name,
        persistence._timeout,
        persistence._interactive,
    )
    return KeychainStore(persistence._file_persistence, item, lock_location)


def _libsecret_store(persistence: LibsecretPersistence, lock_location: str) -> Store:
    if persistence.instead is not None:
        return persistence.instead.store(lock_location)

    from ._stores.libsecret import LibsecretItem
    from ._stores.signalled import SignalledStore

    item = LibsecretItem(persistence._agent)
    return SignalledStore(persistence._file_persistence, item, lock_location)


register(FilePersistence, _file_store, "_location")
register(FilePersistenceWithDataProtection, _sealed_store, "_location", "_dp_agent")
register(
    KeychainPersistence,
    _keychain_store,
    *("_file_persistence", "_service_name", "_account_name", "_timeout", "_interactive"),
)
register(LibsecretPersistence, _libsecret_store, "_file_persistence", "_agent", "instead")
