"""The half of PersistedTokenCache that reads: memory follows the store.

When memory has to be read again, ``_freshness.py`` decides.
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

#: Seconds between reads of what cannot be parsed: 1.3.1 and .NET write in place, and we may
#: have looked in the middle.  After the last, what is there is believed.
_REREAD_AFTER = (0.01, 0.02, 0.05, 0.1, 0.3, 0.5)

#: How many of these waits an empty file gets although nobody holds the lock.
_WAITS_FOR_EMPTY = 3

#: How often a reload starts over because another thread came in between.
_RELOAD_TRIES = 10


#: Of reads that may succeed in a moment: a file of NFS was replaced, or the system was busy.
_TRANSIENT = frozenset({errno.ESTALE, errno.EAGAIN, errno.EBUSY})


def may_pass(error: Exception) -> bool:
    """Could a read that failed like that succeed in a moment?

    Others may have been writing.  What is no PersistenceError comes from a program's own methods,
    and 1.3.1 tried again after whatever they raised.
    """
    if not isinstance(error, PersistenceError):
        return True
    damaged = isinstance(error, (PersistenceDamaged, PersistenceDecryptionError))
    return damaged or error.errno in _TRANSIENT


class Memory(Protocol):
    """A cache as reloading sees it: MSAL's parts, and those of 1.3.1."""

    _cache: Any  # {kind: {key: entry}}, if the content is not damaged
    _lock: Any  # MSAL's, an RLock
    _last_sync: float  # when memory and store were the same; 0 (programs set it) forces a reload
    has_state_changed: bool

    def deserialize(self, state: Any, /) -> None: ...

    def _reload_if_necessary(self) -> None: ...


class Reloading:
    """Of one cache.  The cache is an argument of the calls, and not kept: no circle of references
    keeps a cache, and the tokens in it, alive after the program has dropped it.

    :param keeps_damaged: Whether a damaged content is loaded as far as MSAL loads it.
    """

    def __init__(self, keeps_damaged: bool) -> None:
        self.freshness = Freshness()
        self.serializer = Serializer()
        #: What was changed in memory and is not saved yet.
        self.pending = Pending()
        #: The stamp of a content that was found damaged.
        self.damaged: Any = None
        self._parse_json = parse_leniently if keeps_damaged else parse_strictly
        # Threads whose reload must not be content with a stamp that is not settled.
        self._doubters: set[object] = set()

    @contextlib.contextmanager
    def in_doubt(self) -> Iterator[None]:
        """After a reload in here, memory is what the store had at a moment during that."""
        me = this_thread()
        try:
            self._doubters.add(me)
            yield
        finally:
            self._doubters.discard(me)

    def after_waiting(self, cache: Memory) -> None:
        """Reloads what could not be parsed again and again, before that is believed.

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
        """Reloads, if the store may hold something else than memory does."""
        if self._is_current(cache, store):
            return
        for _ in range(_RELOAD_TRIES):
            if self._reload(cache, store) or self._is_current(cache, store):
                return
        # Other threads came in between each time; keep them out for once.
        with cache._lock:
            self._reload(cache, store)

    def has_stored(self, secret: bytes, store: Store, is_ours: bool) -> bool:
        """Whether memory, encoded as that, is what is stored already.

        It is looked at, because modify() cannot tell: a program may have changed the entry in
        place before.

        :param is_ours: Whether we encoded it, and not a ``serialize()`` of the program's.
        """
        stored = self.freshness.content
        if stored is None:
            return False
        if stored == secret:
            return True
        if not is_ours or self.pending.has_news:
            return False
        # In another layout?  Without a change that we know of, that is worth parsing.
        return text_of(self._parse(stored, store)) == text_of(json.loads(secret))

    def differs(self, cache: Memory, store: Store) -> bool:
        """Whether the store has another content than memory was made of, under the same stamp.

        Reads, if the time has come for that; what proves to be the same is known to be so, then.
        """
        freshness = self.freshness
        if freshness.saving or not freshness.is_due:
            return False
        generation, read_at = freshness.generation, freshness.clock()
        secret, stamp = store.read()
        with cache._lock:
            seen = freshness.seen()
            if seen.saving or seen.generation != generation or seen.stamp != stamp:
                return False  # then there is a new stamp to look at
            if secret != freshness.content:
                return True
            freshness.note_load(secret, stamp, read_at, store.settles_after)
            return False

    def after_fork_in_child(self, cache: Memory) -> None:
        """A child has none of its parent's other threads, and what is pending is the parent's."""
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
        """False when another thread reloaded or saved meanwhile: what was read may be older."""
        freshness = self.freshness
        generation, forced = freshness.generation, not cache._last_sync
        read_at = freshness.clock()
        secret: Any  # the content; later also what it was parsed to
        secret, stamp = self._load(store)
        absent = stamp is ABSENT
        # Not by the content alone: a program may have changed memory since.
        known = stamp is not None and stamp == freshness.stamp and secret == freshness.content
        same = absent or (known and not forced)
        # Parsed while other threads may go on; not if the program wants to parse for itself.
        own = not is_method(cache.deserialize, DESERIALIZE)
        secret = secret, None if same or own else self._parse_noting(secret, stamp, store)
        with cache._lock:
            if freshness.saving:
                return True  # memory has what is being saved; what was read may be half of it
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

        :param own: The program parses for itself: what is stored is not ours to read.
        """
        if self.pending.knows_replaced:
            return
        stored = self.freshness.content
        secret: Any = {}
        try:
            if stored is not None:
                secret = None if own else self._parse(stored, store)
        except Exception:  # then nobody can tell
            secret = None
        self.pending.note_replaced(secret)

    def _load(self, store: Store) -> Content:
        """What is stored.  An empty file is read again, longer while somebody holds the lock: a
        program that writes in place empties it first."""
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
    """A damage names the location, for which a program's own persistence is asked only then."""
    try:
        yield
    except PersistenceDamaged as damage:
        damage.filename = damage.location = store.location
        raise
