"""Where the key of an encrypted file comes from: one class for each source.

A key is 32 bytes.  A source has a *ring*: its keys by their ids.  The first one encrypts, the
others open what was encrypted before.  Each file says in its first line by which key of which
source it is encrypted.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import math
import os
import shutil
import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._references import ARGUMENT, KEY_UNAVAILABLE
from .._timeouts import seconds_of
from ..errors import KeyLost, KeyUnavailable, KeyWrong, referring, with_remedy
from . import command
from .envelope import KEY_BYTES, KEY_ID, Header, id_of

Ring = Mapping[str, bytes]

#: A file of keys is not larger.
SIZE_MAX = 4096
MAKE_ONE = KEY_UNAVAILABLE.saying("Make one: openssl rand -base64 32")


class Protection(enum.Enum):
    """What an encryption is worth.  The values are sentences for people."""

    GIVEN = "The program gives the key: it is as safe as the place where the program keeps it."
    COMMAND = "A command gives the key: it is as safe as the place where the command keeps it."
    KEY_FILE = "The key is in a file elsewhere: a copy of this file alone opens nothing."
    BESIDE = "The key file lies beside the cache: a copy of the directory has both."
    CREDENTIAL = "The service manager gives the key to this service only."
    UNTIL_REBOOT = "The key is in the kernel's memory until the next reboot, and on no disk."


def ring_of(keys: object) -> Ring:
    """A ring of a key, or of a mapping of ids to keys.

    :raises ValueError: when that is not possible.
    """
    secret: Any
    secret, keys = keys, b""
    if isinstance(secret, (bytes, bytearray)):
        secret = {"": secret}
    if not isinstance(secret, Mapping) or not secret:
        words = "Give a key of 32 bytes, or a mapping of ids to such keys"
        raise ValueError(ARGUMENT.after(words))
    if not all(_is_key(key) for key in secret.values()):
        raise ValueError(ARGUMENT.after(f"A key has {KEY_BYTES} bytes"))
    secret = {name or id_of(bytes(key)): bytes(key) for name, key in secret.items()}
    if not all(isinstance(name, str) and KEY_ID.fullmatch(name) for name in secret):
        words = "The id of a key has 1 to 64 characters of A-Z a-z 0-9 - _"
        raise ValueError(ARGUMENT.after(words))
    ring: Ring = secret
    return ring


def _is_key(secret: object) -> bool:
    return isinstance(secret, (bytes, bytearray)) and len(secret) == KEY_BYTES


def ring_in(secret: bytes, location: str) -> Ring:
    """The ring in the content of a file, or in the output of a command.

    That is 32 bytes, or text: in each line the Base64 of 32 bytes, of either alphabet.

    :raises KeyUnavailable: when it is neither.
    """
    if len(secret) == KEY_BYTES and secret.translate(None, string.printable.encode()):
        return ring_of(secret)  # a passphrase of this length is text, and no key
    with contextlib.suppress(ValueError):
        if ring := _ring_of_lines(secret):
            return ring
    words = "There is no key: it has to be 32 bytes, or the Base64 of 32 bytes in each line."
    raise with_remedy(KeyUnavailable, None, words, location, MAKE_ONE)


def has_keys(secret: str) -> bool:
    """Whether a text has in each line the Base64 of a key, as a file of keys has."""
    try:
        return bool(_ring_of_lines(secret.encode()))
    except ValueError:
        return False


def _ring_of_lines(secret: bytes) -> Ring:
    """:raises ValueError: when a line is no key."""
    ring: dict[str, bytes] = {}
    for line in secret.translate(bytes.maketrans(b"-_", b"+/")).split():
        text = line.rstrip(b"=")
        ring |= ring_of(base64.b64decode(text + b"=" * (-len(text) % 4), validate=True))
    return ring


class KeySource(ABC):
    """See the subclasses."""

    #: Its name in the first line of a file.
    word = ""
    #: What an encryption with its keys is worth.
    protection = Protection.GIVEN
    #: Whether the ring is here at once: no person is asked, and no program is run.
    is_quick = True
    #: Seconds after which a process asks for the ring again.
    refresh_after = math.inf

    @abstractmethod
    def ring(self) -> Ring:
        """The keys as they are now; empty: none was made yet.

        :raises KeyUnavailable: when the source does not answer.
        """

    def check(self) -> None:
        """:raises KeyUnavailable: when it is clear already that ring() will raise."""
        self.ring()

    def hints(self) -> dict[str, str]:
        """What the first line of a file says besides, to explain the loss of a key."""
        return {}

    def protects(self, location: str) -> Protection:
        """What the encryption of a file at this location is worth."""
        return self.protection

    def make(self, known: Sequence[str]) -> None:
        """Makes a new key, which becomes the first one.

        :param known: The ids of the ring without it.
        """
        words = f"Give this file a new key ({type(self).__name__}): put it before the old one."
        raise referring(KeyUnavailable(None, words, self.word), MAKE_ONE)

    def put_back(self, secret: bytes) -> bool:
        """Offers a key that this process has in memory, and that is in the ring no more.

        :returns: Whether the ring is another one now.
        """
        return False

    def lost(self, header: Header, age: float, location: str) -> KeyLost:
        """Why the key of a file is not in the ring.

        :param age: Seconds since the file was saved.
        """
        origin = ORIGINS[header.source]
        words = f"It is encrypted with the key {header.key_id}, which came from {origin}. That is"
        words += " not among the keys here."
        advice = "Give that key, or restore it where it was; if it is lost, delete() the file and"
        advice += " sign in again."
        return with_remedy(KeyWrong, None, words, location, None, header.key_id, advice=advice)


#: What the names of the sources mean.
ORIGINS = {
    "given": "the program",
    "command": "a command",
    "file": "a key file",
    "credential": "a credential of the service manager",
    "kernel": "the kernel keyring",
}


class GivenKey(KeySource):
    """A key that the program gives.

    :param keys: 32 bytes; or a mapping of ids to such keys, the first of which encrypts; or a
        callable without arguments that returns one of these.  It is called before the cache takes
        its lock, so it may take its time.
    :raises ValueError: when it is something else.
    """

    word = "given"

    def __init__(self, keys: bytes | Ring | Callable[[], bytes | Ring]) -> None:
        self._keys = keys if callable(keys) else ring_of(keys)
        self.is_quick = not callable(keys)

    def __deepcopy__(self, memo: object) -> GivenKey:
        return self

    def __reduce__(self) -> str:
        words = "A key cannot be pickled: give a KeyFile, a CommandKey or the like"
        raise TypeError(ARGUMENT.after(words))

    def ring(self) -> Ring:
        return ring_of(self._keys()) if callable(self._keys) else self._keys

    def check(self) -> None:
        pass


def source_of(key: object) -> KeySource:
    """The source that a program means by the argument ``key``.

    :raises ValueError: when it is no key.
    """
    return key if isinstance(key, KeySource) else GivenKey(key)  # type: ignore[arg-type]


class CommandKey(KeySource):
    """A key that a command prints: a password manager, a key vault.

    :param argv: The program and its arguments.  There is no shell.  It has to print what a
        :class:`KeyFile` contains.
    :param timeout: Seconds that it may take.
    """

    word = "command"
    protection = Protection.COMMAND
    is_quick = False

    def __init__(self, argv: Sequence[str], timeout: float = 10.0) -> None:
        if isinstance(argv, (str, bytes)) or not argv:
            words = 'Give the program and its arguments as a list: ["pass", "show", "x"]'
            raise ValueError(ARGUMENT.after(words))
        self._argv = [os.fspath(argument) for argument in argv]
        self._timeout = seconds_of(timeout)

    def ring(self) -> Ring:
        return ring_in(command.output_of(self._argv, self._timeout, SIZE_MAX), self._argv[0])

    def check(self) -> None:
        if shutil.which(self._argv[0]) is None:
            cause = KEY_UNAVAILABLE.saying("Install it, or give its full path.")
            words = "There is no such program."
            raise with_remedy(KeyUnavailable, None, words, self._argv[0], cause)
