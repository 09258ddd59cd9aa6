"""The keys of one encrypted file, and what this process knows of the file's versions."""

from __future__ import annotations

import logging
import time
from secrets import token_bytes
from typing import Any, NamedTuple

from .._native import files
from .._references import ARGUMENT
from .._store import Stamp
from ..errors import KeyUnavailable, PersistenceError
from . import envelope
from .envelope import FILE_ID_BYTES, Header
from .kernel_key import default_source
from .keys import KeySource

logger = logging.getLogger(__name__)

#: Seconds for which a source that takes its time is not asked again for a key that it did not have.
_ASKS_AGAIN_AFTER = 5.0


class Version(NamedTuple):
    """One version of the file."""

    file_id: bytes
    generation: int
    source: KeySource  # of its key
    key_id: str
    stamp: Stamp | None

    def is_older_than(self, other: Version | None) -> bool:
        """Whether both are versions of one file, and this one was saved earlier."""
        return (
            other is not None
            and self.file_id == other.file_id
            and self.generation < other.generation
        )


class Vault:
    """Opens and seals.

    :param source: None: the default ones, see default_source().
    :param name: See ``envelope.py``.
    """

    def __init__(self, source: KeySource | None, name: str) -> None:
        self.source = source
        self.name = name
        #: The version that was read or saved last.
        self.latest: Version | None = None
        #: The stamp of a file whose key is lost, and that therefore counts as absent.
        self.given_up: Stamp | None = None
        #: The stamp of a damaged file of which a copy was kept.
        self.copied: Stamp | None = None
        #: The keys that this process has seen, by their ids.
        self._keys: dict[str, bytes] = {}
        #: The ids that a source had at the last look, and when that was; by the word of the source.
        self._ids: dict[str, list[str]] = {}
        self._asked_at: dict[str, float] = {}
        #: The id of a key that the source did not have, and when it was asked.
        self._unknown = "", 0.0

    def __reduce__(self) -> str:
        words = "The keys in memory cannot be pickled: pickle the persistence"
        raise TypeError(ARGUMENT.after(words))

    def source_for(self, content: bytes, location: str) -> KeySource:
        """The source of the keys for a file with this content; b"": there is no file yet.

        :raises KeyUnavailable: when it is not here.
        """
        if self.source is not None:
            return self.source
        word = envelope.parse(content, location).header.source if content else None
        return default_source(word, location)

    def is_quick(self) -> bool:
        """Whether open() and seal() ask no person and run no program, whatever the content is."""
        return self.source is None or self.source.is_quick

    def prepare(self, content: bytes, location: str) -> None:
        """Asks the source for the keys that open() and seal() will need.

        :raises KeyUnavailable: when it does not answer.
        """
        if not self.is_prepared(content, location):
            ids, key_id = self.ask(self.source_for(content, location)), _key_id_of(content)
            if key_id not in ids:
                self._unknown = key_id, time.monotonic()

    def is_prepared(self, content: bytes, location: str) -> bool:
        """Whether open() and seal() will not have to ask the source."""
        key_id = _key_id_of(content)
        if not key_id:  # there is nothing to open, but a new content may be sealed
            return bool(self._ids.get(self.source_for(content, location).word))
        return key_id in self._keys or self._is_unknown(key_id)

    def ask(self, source: KeySource) -> list[str]:
        """Asks a source for its keys, and returns their ids.

        :raises KeyUnavailable: when it does not answer.
        """
        secret = source.ring()
        self._keys.update(secret)
        ids = self._ids[source.word] = list(secret)
        self._asked_at[source.word] = time.monotonic()
        return ids

    def make_another(self, source: KeySource, key_id: str) -> None:
        """Sees to it that the first key of a source is another one than this.

        :raises KeyUnavailable: when it has no other key.
        """
        self._refresh(source)
        ids = self._ids[source.word]
        if ids[:1] == [key_id]:
            source.make(ids)
            self.ask(source)

    def fresh(self, location: str) -> Version:
        """The version before the first one of a new file."""
        return Version(token_bytes(FILE_ID_BYTES), 0, self.source_for(b"", location), "", None)

    def open(self, content: bytes, stamp: Stamp | None, location: str) -> tuple[bytes, Version]:
        """Decrypts a file.

        :returns: The text, and which version of the file it is.
        :raises PersistenceError: which says why that is not possible.
        """
        secret: Any
        secret, content = content, b""  # a secret: the file may hold plain text
        sealed = envelope.parse(secret, location)
        source = self.source or default_source(sealed.header.source, location)
        key_id = sealed.header.key_id
        self._find_key(sealed.header, source, stamp, location)
        secret = envelope.open_(sealed, self._keys[key_id], self.name, location)
        if key_id not in self._ids[source.word]:
            self._put_back(key_id, source)
        return secret.text, Version(secret.file_id, secret.generation, source, key_id, stamp)

    def _put_back(self, key_id: str, source: KeySource) -> None:
        """The source has lost a key that opens the file.  Other processes need it."""
        try:
            if source.put_back(self._keys[key_id]):
                self.ask(source)
        except PersistenceError as error:  # this process has read the file all the same
            logger.warning("The key of the file could not be kept: %s", error)

    def seal(self, secret: bytes, version: Version) -> bytes:
        """Encrypts a text as this version, with the first key of its source.

        :raises KeyUnavailable: when the source has none.
        """
        source = version.source
        self._refresh(source)
        if not self._ids[source.word]:
            source.make([])
            self.ask(source)
        key_id = self._ids[source.word][0]
        return envelope.seal(
            secret,
            file_id=version.file_id,
            generation=version.generation,
            key=self._keys[key_id],
            key_id=key_id,
            source=source.word,
            hints=source.hints(),
            name=self.name,
        )

    def _find_key(
        self, header: Header, source: KeySource, stamp: Stamp | None, location: str
    ) -> None:
        """Looks for the key of a file in memory and in the source.

        :raises KeyLost: when it is in neither.
        """
        key_id = header.key_id
        is_news = self._refresh(source)
        if key_id not in self._keys and not is_news and not self._is_unknown(key_id):
            self.ask(source)
        if key_id in self._keys:
            return
        if not source.is_quick:
            self._unknown = key_id, time.monotonic()
        now = time.time()
        saved_at = files.fields_of(stamp).mtime_ns / 1e9 if isinstance(stamp, bytes) else now
        raise source.lost(header, now - saved_at, location)

    def _is_unknown(self, key_id: str) -> bool:
        unknown, since = self._unknown
        return key_id == unknown and time.monotonic() - since < _ASKS_AGAIN_AFTER

    def _refresh(self, source: KeySource) -> bool:
        """Asks the source if the last time is long ago.

        :returns: Whether it has answered now.
        """
        asked_at = self._asked_at.get(source.word)
        if asked_at is not None and time.monotonic() - asked_at <= source.refresh_after:
            return False
        try:
            self.ask(source)
            return True
        except KeyUnavailable:
            if not self._ids.get(source.word):
                raise
        self._asked_at[source.word] = time.monotonic()  # what is in memory is still good
        return False


def _key_id_of(content: bytes) -> str:
    """The id of the key of a file; "": it is no file of ours, as open() will say."""
    try:
        return envelope.parse(content, "").header.key_id
    except PersistenceError:
        return ""
