"""Where token caches are: those of Azure CLI and azure-identity, and those that a person names.

    az                  ~/.azure/msal_token_cache.json, in plain text
    az:encrypted        ~/.azure/msal_token_cache.bin, with core.encrypt_token_cache=true
    az:principals       ~/.azure/service_principal_entries.json, and az:principals-encrypted
    identity:NAME       a cache of azure-identity: ~/.IdentityService/NAME
    identity            its default cache: identity:msal.cache.nocae
    identity:NAME:encrypted, identity:encrypted
                        its item in the keyring, also where there is plain text in the file
    plain:PATH          a plain file
    encrypted:PATH      an EncryptedFilePersistence
    keyring:PATH        the keyring of the system; PATH is the signal file, as its program gives it
    dpapi:PATH          a file encrypted by Windows
    PATH                what the content of that file shows; ./az for a file that is named az

The locations and the names in the keyrings are those of azure-cli-core 2.91
(azure/cli/core/auth/persistence.py and identity.py) and azure-identity 1.27
(azure/identity/_persistent_cache.py).
"""

from __future__ import annotations

import enum
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from .. import _references as references
from ..errors import PersistenceUnavailable, with_remedy
from .paths import absolute, is_there

if TYPE_CHECKING:
    from .._base import BasePersistence


class Kind(enum.Enum):
    """How a cache is stored."""

    PLAIN = "plain"
    ENCRYPTED = "encrypted"
    KEYRING = "keyring"
    DPAPI = "dpapi"


class BadPlace(ValueError):
    """There is no such place; MSX-82."""


@dataclass(frozen=True)
class Options:
    """What a command line says about opening places."""

    timeout: float = 15.0  # seconds for one call of a keyring, and for the lock
    key_file: str = ""
    schema: str = ""  # of an item in the Secret Service
    attributes: Mapping[str, str] = field(default_factory=dict)
    label: str = ""
    service: str = ""  # of an item in the keychain of macOS
    account: str = ""


@dataclass(frozen=True)
class Place:
    """One place, which may be empty."""

    name: str
    kind: Kind
    location: str  # an absolute path; or one with "~", where this user has no home
    options: Options = field(default_factory=Options)

    def open(self) -> BasePersistence:
        """The persistence, as the program that owns the cache makes it.

        It makes the directory if that is missing, so ask exists() first.

        :raises PersistenceError: when the store or its key is not available.
        """
        from .. import persistence as kinds

        options = self.options
        if self.kind is Kind.PLAIN:
            return kinds.FilePersistence(self.location)
        if self.kind is Kind.DPAPI:
            return kinds.FilePersistenceWithDataProtection(self.location)
        if self.kind is Kind.ENCRYPTED:
            from ..encrypted import EncryptedFilePersistence, KeyFile

            key = KeyFile(options.key_file) if options.key_file else None
            return EncryptedFilePersistence(self.location, key)
        # An encrypted file that took the place of a keyring is used as its programs use it.
        return self.open_keyring("encrypted_file" if is_there(self.sealed()) else None)

    def open_keyring(
        self, without_keyring: Literal["raise", "encrypted_file"] | None = "raise"
    ) -> BasePersistence:
        """The keyring of the place.

        :param without_keyring: For Linux; see :class:`LibsecretPersistence`.  "raise": never the
            encrypted file that may have taken its place.
        :raises PersistenceError: when it cannot be reached.
        """
        from .. import persistence as kinds

        options = self.options
        if sys.platform == "darwin":
            return kinds.KeychainPersistence(
                self.location,
                options.service or None,
                options.account or None,
                timeout=options.timeout,
            )
        if sys.platform.startswith("linux"):
            return kinds.LibsecretPersistence(
                self.location,
                options.schema or None,
                options.attributes,
                label=options.label,
                timeout=options.timeout,
                without_keyring=without_keyring,
            )
        words = "This system has no keyring that this package knows."
        cause = references.KEYRING_MISSING.saying("Use another kind of place.")
        raise with_remedy(PersistenceUnavailable, None, words, self.location, cause)

    def program(self) -> str:
        """Which program has it: "az", "identity", or "" for one that a person gave by its path."""
        if any(self.name in names for *names, _ in AZ):
            return "az"
        return "identity" if re.match("identity(:|$)", self.name) else ""

    def sealed(self) -> str:
        """For a keyring: the encrypted file that may have taken its place."""
        return self.location + ".enc"

    def exists(self) -> bool:
        """Whether a file shows that somebody has used the place.  It asks no keyring.

        What this user may not look at counts as there, so that opening it tells why.
        """
        return is_there(self.location) or (self.kind is Kind.KEYRING and is_there(self.sealed()))


#: What azure-cli keeps: its place in plain text, its encrypted place, and the name of its files.
AZ = (
    ("az", "az:encrypted", "msal_token_cache"),
    ("az:principals", "az:principals-encrypted", "service_principal_entries"),
)
#: The items of azure-cli.
_AZ_ITEM = {
    "schema": "my_schema_name",
    "attributes": {"my_attr1": "foo", "my_attr2": "bar"},
    "service": "my_service_name",
    "account": "my_account_name",
}
_IDENTITY = "Microsoft.Developer.IdentityService"
_DEFAULT_CACHE = "msal.cache.nocae"
#: The names of azure-identity's caches end so; "msal.cache" is that of old versions.
_IDENTITY_NAME = re.compile(r"(msal\.cache|.+\.(cae|nocae))", re.DOTALL)
#: A prefix of a place.  A drive of Windows has one letter.
_PREFIX = re.compile(r"([a-z]{2,}):(.*)", re.DOTALL)
_ENCRYPTED = ":encrypted"


def _with(options: Options, **item: object) -> Options:
    """The options of the command line, with the item of a program that is known."""
    return Options(options.timeout, options.key_file, **item)  # type: ignore[arg-type]


def az_directory() -> str:
    return absolute(os.environ.get("AZURE_CONFIG_DIR") or os.path.join("~", ".azure"))


def identity_directory() -> str:
    home = os.environ.get("LOCALAPPDATA", "~") if sys.platform == "win32" else "~"
    return absolute(os.path.join(home, ".IdentityService"))


def _az(options: Options) -> Iterator[Place]:
    base = az_directory()
    kind = Kind.DPAPI if sys.platform == "win32" else Kind.KEYRING
    for name, encrypted, file in AZ:
        yield Place(name, Kind.PLAIN, os.path.join(base, file + ".json"), options)
        yield Place(encrypted, kind, os.path.join(base, file + ".bin"), _with(options, **_AZ_ITEM))


def _identity(name: str, options: Options, is_encrypted: bool = False) -> Place:
    """A cache of azure-identity.  Its file is plain text, or signals a change of a keyring."""
    place = "identity" if name == _DEFAULT_CACHE else f"identity:{name}"
    location = os.path.join(identity_directory(), name)
    plain = Place(place, Kind.PLAIN, location, options)
    if sys.platform == "win32":
        return replace(plain, kind=Kind.DPAPI)
    if is_encrypted:
        return replace(identity_keyring(plain), name=place + _ENCRYPTED)
    is_plain = kind_of(location) is Kind.PLAIN and not is_there(location + ".enc")
    return plain if is_plain else identity_keyring(plain)


def identity_keyring(place: Place) -> Place:
    """The item of azure-identity that may exist beside its plain file: it uses the keyring when
    that answers, and the file when it does not."""
    name = os.path.basename(place.location)
    item = {
        "schema": name,
        "attributes": {"MsalClientID": _IDENTITY},
        "label": "MSALCache",
        "service": _IDENTITY,
        "account": "MSALCache" if name == _DEFAULT_CACHE else name,
    }
    return replace(place, kind=Kind.KEYRING, options=_with(place.options, **item))


def well_known(options: Options) -> list[Place]:
    """The caches of Azure CLI and azure-identity that somebody has used.

    Where this user has no home it is the first one, so that opening it says so.
    """
    found = [*_az(options)]
    if found[0].location.startswith("~"):
        return found[:1]
    try:
        files = sorted(os.listdir(identity_directory()))
    except OSError:
        files = []
    names = dict.fromkeys(name.removesuffix(".enc") for name in files)
    found += [_identity(name, options) for name in names if _IDENTITY_NAME.fullmatch(name)]
    return [place for place in found if place.exists()]


def named(text: str, options: Options) -> Place:
    """The place that a person names.

    :raises BadPlace: when there is none of that name.
    """
    for place in _az(options):
        if place.name == text:
            return place
    if text in ("identity", "identity" + _ENCRYPTED):
        return _identity(_DEFAULT_CACHE, options, text != "identity")
    found = _PREFIX.fullmatch(text)
    kind, rest = (found[1], found[2]) if found else ("", text)
    if not rest or "\0" in rest:
        raise BadPlace(f"{text!r} names no place")
    if kind == "identity":
        name = rest.removesuffix(_ENCRYPTED)
        if not _IDENTITY_NAME.fullmatch(name) or os.path.basename(name) != name:
            raise BadPlace(f"{text!r}: the caches of azure-identity end in .nocae or .cae")
        return _identity(name, options, name != rest)
    if kind and kind not in {each.value for each in Kind}:
        if not is_there(text):
            raise BadPlace(f"{text!r} begins with no kind of place")
        kind, rest = "", text  # a file whose name has a ":"
    location = absolute(rest)
    chosen = Kind(kind) if kind else _guess(location)
    if chosen is Kind.KEYRING:  # 1.3.1 names the item by the path as the program gives it
        name = hashlib.sha256(rest.encode("utf-8", "surrogateescape")).hexdigest()
        own = {"schema": options.schema or name, "account": options.account or name}
        options = replace(options, **own)  # type: ignore[arg-type]
    return Place(text, chosen, location, options)


def _guess(location: str) -> Kind:
    is_replaced = sys.platform.startswith("linux") and is_there(location + ".enc")
    return kind_of(location) or (Kind.KEYRING if is_replaced else Kind.PLAIN)


#: How a file that Windows has encrypted begins: a version, and the GUID of its provider.
_DPAPI = bytes.fromhex("01000000d08c9ddf0115d1118c7a00c04fc297eb")


def kind_of(location: str) -> Kind | None:
    """What the content of a file shows; None: there is no such file, or it cannot be read."""
    from .._native import files
    from .._stores.envelope import MAGIC
    from ..errors import PersistenceError

    try:
        secret, _ = files.read(location)
    except (PersistenceError, ValueError):
        return None
    if secret.startswith(MAGIC):
        return Kind.ENCRYPTED
    if secret.startswith(_DPAPI):
        return Kind.DPAPI
    # The signal file of a keyring is empty.  Windows has no such.
    return Kind.PLAIN if secret or sys.platform == "win32" else Kind.KEYRING
