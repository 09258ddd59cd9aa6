"""The keys of one encrypted file, and what this process knows of the file's versions."""

from __future__ import annotations

import dataclasses
import logging
import time
from secrets import token_bytes

from .._native import files
from .._store import Stamp
from ..errors import KeyUnavailable, PersistenceError
from . import envelope
from .envelope import FILE_ID_BYTES, Header, Text
from .kernel_key import default_source
from .keys import KeySource, Ring

logger = logging.getLogger(__name__)

#: Seconds for which a source that takes its time is not asked again for a key that it did not have.
_ASKS_AGAIN_AFTER = 5.0


@dataclasses.dataclass(frozen=True)
class Version:
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
        self.name = name
        #: The version that was read or saved last.
        self.latest: Version | None = None
        #: The stamp of a file whose key is lost, and that therefore counts as absent.
        self.given_up: Stamp | None = None
        #: The stamp of a damaged file of which a copy was kept.
        self.copied: Stamp | None = None
        self.use(source)

    def use(self, source: KeySource | None) -> None:
        """Takes the keys from this source from now on."""
        self.source = source
        self._rings: dict[str, Ring] = {}
        self._asked_at: dict[str, float] = {}
        self._unknown = "", 0.0  # the id of a key that the source did not have, and when

    def __reduce__(self) -> str:
        raise TypeError("The keys in memory cannot be pickled: pickle the persistence")

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
            ring, key_id = self.ask(self.source_for(content, location)), _key_id_of(content)
            if key_id not in ring:
                self._unknown = key_id, time.monotonic()

    def is_prepared(self, content: bytes, location: str) -> bool:
        """Whether open() and seal() will not have to ask the source."""
        ring = self._rings.get(self.source_for(content, location).word, {})
        key_id = _key_id_of(content)
        # Without an id there is nothing to open, but a new content may be sealed.
        return bool(ring) if not key_id else key_id in ring or self._is_unknown(key_id)

    def ask(self, source: KeySource) -> Ring:
        """Asks a source for its keys.

        :raises KeyUnavailable: when it does not answer.
        """
        ring = self._rings[source.word] = source.ring()
        self._asked_at[source.word] = time.monotonic()
        return ring

    def fresh(self, location: str) -> Version:
        """The version before the first one of a new file."""
        return Version(token_bytes(FILE_ID_BYTES), 0, self.source_for(b"", location), "", None)

    def open(self, content: bytes, stamp: Stamp | None, location: str) -> tuple[Text, Version]:
        """Decrypts a file.

        :raises PersistenceError: which says why that is not possible.
        """
        secret, content = content, b""  # a secret: the file may hold plain text
        sealed = envelope.parse(secret, location)
        source = self.source or default_source(sealed.header.source, location)
        key = self._key_of(sealed.header, source, stamp, location)
        text = envelope.open_(sealed, key, self.name, location)
        if sealed.header.key_id not in self._rings[source.word]:
            self._put_back(key, source)
        return text, Version(text.file_id, text.generation, source, sealed.header.key_id, stamp)

    def _put_back(self, key: bytes, source: KeySource) -> None:
        """The source has lost a key that opens the file.  Other processes need it."""
        try:
            if source.put_back(key):
                self.ask(source)
        except PersistenceError as error:  # this process has read the file all the same
            logger.warning("The key of the file could not be kept: %s", error)

    def seal(self, secret: bytes, version: Version) -> bytes:
        """Encrypts a text as this version, with the first key of its source.

        :raises KeyUnavailable: when the source has none.
        """
        source = version.source
        ring = self._fresh_ring(source)
        if not ring:
            source.make(ring)
            ring = self.ask(source)
        key_id, key = next(iter(ring.items()))
        return envelope.seal(
            secret,
            file_id=version.file_id,
            generation=version.generation,
            key=key,
            key_id=key_id,
            source=source.word,
            hints=source.hints(),
            name=self.name,
        )

    def _key_of(
        self, header: Header, source: KeySource, stamp: Stamp | None, location: str
    ) -> bytes:
        before, key_id = self._rings.get(source.word), header.key_id
        ring = self._fresh_ring(source)
        key = ring.get(key_id) or (before or {}).get(key_id)
        if key is None and ring is before and not self._is_unknown(key_id):
            key = self.ask(source).get(key_id)
        if key is not None:
            return key
        if not source.is_quick:
            self._unknown = key_id, time.monotonic()
        saved_at = (
            files.fields_of(stamp).mtime_ns / 1e9 if isinstance(stamp, bytes) else time.time()
        )
        raise source.lost(header, time.time() - saved_at, location)

    def _is_unknown(self, key_id: str) -> bool:
        unknown, since = self._unknown
        return key_id == unknown and time.monotonic() - since < _ASKS_AGAIN_AFTER

    def _fresh_ring(self, source: KeySource) -> Ring:
        """The ring; asked for anew if the last time is long ago."""
        ring, asked_at = self._rings.get(source.word), self._asked_at.get(source.word, 0.0)
        if ring is not None and time.monotonic() - asked_at <= source.refresh_after:
            return ring
        try:
            return self.ask(source)
        except KeyUnavailable:
            if not ring:
                raise
        self._asked_at[source.word] = time.monotonic()
        return ring  # still good, and the source may answer the next time


def _key_id_of(content: bytes) -> str:
    """The id of the key of a file; "": it is no file of ours, as open() will say."""
    try:
        return envelope.parse(content, "").header.key_id
    except PersistenceError:
        return ""
