"""The part that all persistences have in common."""

from __future__ import annotations

import contextlib
import logging
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from ._as_token_cache import AsTokenCache
from ._native import files
from ._paths import probe_file
from ._references import ARGUMENT, NOT_KEPT
from .errors import (
    PersistenceDamaged,
    PersistenceError,
    PersistenceFileExists,
    PersistenceNotFound,
    referring,
    with_remedy,
)

logger = logging.getLogger(__name__)

#: The choices of this process that are in its log.
_told: set[str] = set()

Persistence = TypeVar("Persistence", bound="BasePersistence")


class BasePersistence(AsTokenCache, ABC):
    """The base class of all persistences.

    A program may pass a persistence to MSAL directly, as in
    ``ClientApplication(..., token_cache=persistence)``.  A :class:`PersistedTokenCache`, made
    for that, then answers MSAL's calls.
    """

    is_encrypted = False  # to be overridden
    #: What build_encrypted_persistence() has chosen, and why.
    choice = ""

    @abstractmethod
    def save(self, content: str) -> None:
        """Stores the text in place of the text that was stored before.  It takes no lock.

        :raises PersistenceError: when the text could not be stored, or other processes could not
            be told of it.
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
        """Removes the stored text.  It is no error when nothing is stored.

        :raises PersistenceError: when the text cannot be removed.
        """
        raise NotImplementedError(ARGUMENT.after(f"{type(self).__name__} cannot delete"))

    def verify(self) -> None:
        """Proves that this store works: saves a probe beside the content, reads and deletes it.

        :raises PersistenceError: when it does not work; the message says what to do.
        """
        raise NotImplementedError(ARGUMENT.after(f"{type(self).__name__} cannot verify"))


def prove(location: str, make: Callable[[str, str], BasePersistence]) -> None:
    """See ``BasePersistence.verify``.

    :param make: Makes a persistence of the same kind.  Its arguments are the path of a file, and
        16 random digits for the name of an item.
    """
    digits = secrets.token_hex(8)
    place = probe_file(location, digits)
    probe = make(place, digits)
    text = secrets.token_hex(16)
    try:
        files.create(place, b"")
        probe.save(text)
        if probe.load() != text:
            words = "The store returned something else than was saved."
            raise referring(PersistenceDamaged(None, words, location), NOT_KEPT)
    except PersistenceFileExists:  # the file is somebody else's, so it stays
        raise
    except BaseException:
        with contextlib.suppress(PersistenceError):  # the first error tells more
            probe.delete()
        raise
    probe.delete()


def tell_choice(persistence: Persistence, choice: str) -> Persistence:
    """Keeps in the persistence what was chosen, and why, and logs it once."""
    if isinstance(persistence, BasePersistence):  # a program's test may have put something else
        persistence.choice = choice
        if choice not in _told:
            _told.add(choice)
            logger.info("%s", choice)
    return persistence


def not_initialized(location: str) -> PersistenceNotFound:
    """In the words of 1.3.1."""
    words, advice = "Persistence not initialized.", "You can recover by calling a save() first."
    return with_remedy(PersistenceNotFound, None, words, location, advice=advice)


def modified_at(location: str) -> float:
    """The time of a file's last modification, in seconds since 1970.

    :raises PersistenceNotFound: when there is no such file.
    """
    try:
        time_ns = files.fields_of(files.stat(location)).mtime_ns
    except PersistenceNotFound:
        raise not_initialized(location) from None
    seconds: float = time_ns // 10**9 + 1e-9 * (time_ns % 10**9)  # as os.stat() rounds it
    return seconds
