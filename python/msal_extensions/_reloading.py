"""The half of PersistedTokenCache that reads: memory follows the store.

``_freshness.py`` decides when memory has to be read again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import time
from collections.abc import Iterator
from typing import Any, Protocol

from ._damage import parse_leniently, parse_strictly
from ._freshness import Freshness
from ._inherited import DESERIALIZE, is_method
from ._pending import Pending
from ._serializer import Serializer, text_of
from ._store import ABSENT, Content, Store
from ._text import Verbatim, decode
from .errors import PersistenceDamaged, PersistenceDecryptionError, PersistenceError
from .lock import this_thread

#: Seconds to wait before each new read of a content that cannot be parsed.  1.3.1 and .NET write
#: in place, so a read can meet the middle of a write.  The last read counts.
_REREAD_AFTER = (0.01, 0.02, 0.05, 0.1, 0.3, 0.5)

#: The number of these waits for an empty file if nobody holds the lock.
_WAITS_FOR_EMPTY = 3

#: How often a reload starts over because another thread has reloaded or saved meanwhile.
_RELOAD_TRIES = 10


#: Errors of reads that may succeed a moment later: a file on NFS was replaced, the system was busy.
_TRANSIENT = frozenset({errno.ESTALE, errno.EAGAIN, errno.EBUSY})


def may_pass(error: Exception) -> bool:
    """Whether a read that failed like that may succeed a moment later.

    Another program may just be writing.  An exception that is no PersistenceError comes from a
    program's own methods: 1.3.1 tried again after every exception of theirs.
    """
    if not isinstance(error, PersistenceError):
        return True
    damaged = isinstance(error, (PersistenceDamaged, PersistenceDecryptionError))
    return damaged or error.errno in _TRANSIENT


class Memory(Protocol):
    """The parts of a cache that reloading uses: MSAL's, and those of 1.3.1."""

    _cache: Any  # {kind: {key: entry}}, if the content is not damaged
    _lock: Any  # MSAL's, an RLock
    _last_sync: float  # when memory and store were the same; 0 (programs set it) forces a reload
    has_state_changed: bool

    def deserialize(self, state: Any, /) -> None: ...

    def _reload_if_necessary(self) -> None: ...


class Reloading:
    """The reloading of one cache.

    The cache is an argument of the calls and is not kept here.  So no circle of references keeps
    a cache, and the tokens in it, alive after the program has dropped it.

    :param keeps_damaged: Whether a damaged content is loaded as far as MSAL can load it.
    """

    def __init__(self, keeps_damaged: bool) -> None:
        self.freshness = Freshness()
        self.serializer = Serializer()
        #: Changes in memory that are not saved yet.
        self.pending = Pending()
        #: The stamp of a content that was found damaged.
        self.damaged: Any = None
        self._parse_json = parse_leniently if keeps_damaged else parse_strictly
        # The threads whose reloads must not trust a stamp that is not settled.
        self._doubters: set[object] = set()

    @contextlib.contextmanager
    def in_doubt(self) -> Iterator[None]:
        """A reload inside this block leaves memory as the store was at a moment during it."""
        me = this_thread()
        try:
            self._doubters.add(me)
            yield
        finally:
            self._doubters.discard(me)

    def after_waiting(self, cache: Memory) -> None:
        """Reloads a content that could not be parsed, several times, before the failure counts.

        :raises PersistenceDamaged: when it is damaged.
        """
        for delay in _REREAD_AFTER[:-1]:
            time.sleep(delay)
            try:
                return cache._reload_if_necessary()
            except Exception as error:
                if not may_pass(error):
                    raise
        time.sleep(_REREAD_AFTER[-1])
        return cache._reload_if_necessary()

    def if_necessary(self, cache: Memory, store: Store) -> None:
        """Reloads if the store may hold something else than memory."""
        if self._is_current(cache, store):
            return
        for _ in range(_RELOAD_TRIES):
            if self._reload(cache, store) or self._is_current(cache, store):
                return
        # Other threads came in between each time: this time keep them out.
        with cache._lock:
            self._reload(cache, store)

    def has_stored(self, secret: bytes, store: Store, is_ours: bool) -> bool:
        """Whether the store already has this encoded content of memory.

        modify() cannot know that: a program may have changed the entry in place before.

        :param is_ours: Whether we encoded it, and not a program's own ``serialize()``.
        """
        stored = self.freshness.content
        if stored is None:
            return False
        if stored == secret:
            return True
        if not is_ours or self.pending.has_news:
            return False
        # It may differ in its layout only.  Without a known change it is worth while to parse it.
        return text_of(self._parse(stored, store)) == text_of(json.loads(secret))

    def differs(self, cache: Memory, store: Store) -> bool:
        """Whether the store has another content under the stamp that we know.

        It reads only when that is due.  If the content is the same, this is noted as a load.
        """
        freshness = self.freshness
        if freshness.saving or not freshness.is_due:
            return False
        generation, read_at = freshness.generation, freshness.clock()
        secret, stamp = store.read()
        with cache._lock:
            seen = freshness.seen()
            if seen.saving or seen.generation != generation or seen.stamp != stamp:
                return False  # the caller will find a new stamp
            if secret != freshness.content:
                return True
            freshness.note_load(secret, stamp, read_at, store.settles_after)
            return False

    def after_fork_in_child(self, cache: Memory) -> None:
        """A child has no other threads than the one that forked, and nothing of its own pending."""
        self._doubters = set()
        self.freshness.forget_content()
        if self.pending:
            self.pending.clear()
            cache._cache = {}

    def _is_current(self, cache: Memory, store: Store) -> bool:
        stamp, freshness = store.stamp(), self.freshness
        if not cache._last_sync or not freshness.is_current(stamp):
            return False
        if self._doubters and this_thread() in self._doubters:
            return freshness.is_settled and store.stamp_proves
        return True

    def _reload(self, cache: Memory, store: Store) -> bool:
        """Reads the store and makes memory of it.

        :returns: False: another thread has reloaded or saved meanwhile, so our read may be older.
        """
        freshness = self.freshness
        generation, forced = freshness.generation, not cache._last_sync
        read_at = freshness.clock()
        secret: Any  # the content; later a pair of it and of what it was parsed to
        secret, stamp = self._load(store)
        absent = stamp is ABSENT
        # The content alone proves nothing: a program may have changed memory since.
        known = stamp is not None and stamp == freshness.stamp and secret == freshness.content
        same = absent or (known and not forced)
        # Parsed before the lock is taken, so that other threads can go on; not if the program
        # parses for itself.
        own = not is_method(cache.deserialize, DESERIALIZE)
        secret = secret, None if same or own else self._parse_noting(secret, stamp, store)
        with cache._lock:
            if freshness.saving:
                return True  # memory has the content that is being saved; we may have read half
            if generation != freshness.generation:
                return False
            if not same or absent:
                self._note_replaced(store, own)
            if absent:
                freshness.note_absence()
                return True
            if not same:
                if own:
                    cache.deserialize(_text(secret[0], store))
                else:
                    cache._cache, cache.has_state_changed = secret[1], False
                self.pending.apply_to(cache._cache)
                self.serializer.retain(cache._cache)
            freshness.note_load(secret[0], stamp, read_at, store.settles_after)
            cache._last_sync = time.time()
        return True

    def _note_replaced(self, store: Store, own: bool) -> None:
        """See ``Pending.note_replaced``.

        :param own: Whether the program parses for itself: then we cannot read the stored content.
        """
        if self.pending.knows_replaced:
            return
        stored = self.freshness.content
        secret: Any = {}
        try:
            if stored is not None:
                secret = None if own else self._parse(stored, store)
        except Exception:  # then the replaced entries are unknown
            secret = None
        self.pending.note_replaced(secret)

    def _load(self, store: Store) -> Content:
        """The stored content.

        An empty file is read again: a program that writes in place empties the file first.  While
        somebody holds the lock, that goes on for longer.
        """
        for waits, delay in enumerate(_REREAD_AFTER):
            secret = store.read()
            if secret.data or secret.stamp is ABSENT or secret.data == self.freshness.content:
                return secret
            if waits >= _WAITS_FOR_EMPTY and not store.commit_lock.others_inside():
                return secret
            time.sleep(delay)
        return store.read()

    def _parse_noting(self, secret: bytes, stamp: Any, store: Store) -> Any:
        try:
            return self._parse(secret, store)
        except PersistenceDamaged:
            self.damaged = stamp
            raise

    def _parse(self, secret: bytes, store: Store) -> Any:
        with _located(store):
            return self._parse_json(decode(secret))


def _text(secret: bytes, store: Store) -> str | bytes:
    with _located(store):
        return secret if isinstance(secret, Verbatim) else decode(secret)


@contextlib.contextmanager
def _located(store: Store) -> Iterator[None]:
    """Adds the location to a damage.  A program's own persistence is asked for it only then."""
    try:
        yield
    except PersistenceDamaged as damage:
        damage.filename = damage.location = store.location
        raise
