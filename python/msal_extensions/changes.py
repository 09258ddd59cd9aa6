"""Tells a program that somebody else changed its token cache.

Nothing runs in the background.  A thread of the program's own waits, and the operating system
wakes it (csrc/watch_<platform>.c).

What a change is.  A stamp stands for one content of the store (see ``_store.py``).  The cache
knows the stamp of what it has in memory, whether it loaded or saved that.  So somebody else
changed the cache when the store has a stamp that the cache does not know, or when the cache
loaded, meanwhile, something that it had not saved.  Events of the file system say only that it is
time to compare.

What looks the same.  A stamp proves nothing until it is settled (see ``_freshness.py``).  So what
was loaded or saved a moment ago is read again when the time has come for that.

One's own writes.  While a save is under way the file already has a stamp that the cache will know
only when the save returns.  So a comparison counts only if no save was under way at its end, and
none ended during it; otherwise it is made again.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator

from ._freshness import Freshness
from ._native.check import SLICE_MS
from ._store import Stamp, Store
from .lock import seconds_of

#: Milliseconds after which a thread that receives no signals sees whether it was closed.
_IDLE_SLICE_MS = 150

#: A save is several steps (rename, then touch; truncate, then write).  It has settled when
#: nothing more has come for so many milliseconds, or after so many events.
_SETTLE_MS = 5
_SETTLE_EVENTS = 10

#: Seconds between comparisons without an event: a persistence of the program's own may keep its
#: content where the operating system reports nothing.
_COMPARE_EVERY = 1.0

#: In place of a stamp: why there is none.
_NoStamp = tuple[str, int | None]


class CacheChanges:
    """Changes of a token cache by another process, or by another cache object.

    Made by :meth:`PersistedTokenCache.changes`.  A loop that ends when another thread closes it::

        changes = cache.changes()
        threading.Thread(target=lambda: [show(app.get_accounts()) for _ in changes]).start()
        ...
        changes.close()

    or, for a program that has other things to do, ``if changes.wait(timeout=0): ...``.

    What is told: that the next look into the cache may find something new, or that one already
    did.  Several changes may be told as one, one may be told more than once, and none is lost:
    not one since the cache was last read before :meth:`~PersistedTokenCache.changes` was called,
    and not one that happens while this cache object itself is saving.  Saves of this cache object
    are never told.  It makes no difference whether the other writer replaces the file, writes it
    in place, deletes it or, for a keyring, touches its signal file, nor whether the directory
    exists.

    Ctrl-C ends a wait within 100 ms.  One thread at a time may wait.
    """

    def __init__(
        self, store: Callable[[], Store], freshness: Freshness, differs: Callable[[], bool]
    ) -> None:
        self._store = store  # the program may give its cache another persistence
        self._freshness = freshness
        self._differs = differs  # see Reloading.differs
        self._watch = store().watch()  # first of all: what happens from here on is told
        self._turn = threading.Lock()  # of the thread that waits
        self._closed = False
        seen = freshness.seen()
        # As of the last comparison.
        self._loads, self._generation = seen.loads, seen.generation
        # What was told last; None if the cache has seen something else since.  At first, if it has
        # never looked: what the program can know already.
        self._told: Stamp | _NoStamp | None = self._stamp() if seen.stamp is None else None
        self._compare_at = self._reread_at = 0.0

    @property
    def closed(self) -> bool:
        """True once :meth:`close` was called."""
        return self._closed

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for a change: True when there was one since the last time.

        :param timeout: In seconds; None waits for ever, 0 or less only looks.
        :returns: False when the time is up, or as soon as another thread calls :meth:`close`.
        """
        deadline = math.inf if timeout is None else time.monotonic() + seconds_of(timeout)
        if self._turn.locked() and not self._closed:
            raise RuntimeError("Another thread is waiting for these changes already")
        try:
            with self._turn:  # not acquire(): Ctrl-C could come before the try that releases
                return self._wait(deadline)
        finally:
            if self._closed:
                self.close()  # a close() from another thread had to leave the rest to us

    def _wait(self, deadline: float) -> bool:
        in_main = threading.current_thread() is threading.main_thread()
        slice_ms = SLICE_MS if in_main else _IDLE_SLICE_MS
        compared: bool | None = None
        is_due = True
        while not self._closed:
            if is_due:
                compared = self._compare()
                if compared:
                    return True
            now = time.monotonic()
            if now >= deadline:
                return False
            left_ms = slice_ms if compared is not None else _SETTLE_MS
            left_ms = math.ceil(min(left_ms, (deadline - now) * 1000))
            is_due = self._has_event(left_ms) or compared is None or self._seems_due()
        return False

    def _has_event(self, timeout_ms: int) -> bool:
        if not self._watch.wait(timeout_ms):
            return False
        for _ in range(_SETTLE_EVENTS):
            if not self._watch.wait(_SETTLE_MS):
                break
        return True

    def _seems_due(self) -> bool:
        due = time.monotonic() >= self._compare_at or self._freshness.is_due
        return due or self._freshness.seen().loads != self._loads

    def _compare(self) -> bool | None:
        """Was there a change that is not told yet?  None: ask again, a save is under way."""
        generation = self._freshness.generation
        now, seen = self._stamp(), self._freshness.seen()
        if seen.saving or seen.generation != generation:
            return None
        self._compare_at = time.monotonic() + _COMPARE_EVERY
        loads, self._loads = seen.loads - self._loads, seen.loads
        # One of these may be what was told, and then found.
        was_loaded = loads > (seen.loaded == self._told)
        if seen.generation != self._generation or self._told != now == seen.stamp:
            self._told = None
        self._generation = seen.generation
        is_unknown = now != self._told and (now != seen.stamp or self._only_looks_the_same())
        if is_unknown:
            self._told = now
        return is_unknown or was_loaded

    def _only_looks_the_same(self) -> bool:
        """Is there another content, under the stamp that is known?"""
        if time.monotonic() < self._reread_at:
            return False
        try:
            return self._differs()
        except Exception:  # the program meets it when it next looks into the cache
            self._reread_at = time.monotonic() + _COMPARE_EVERY
            return False

    def _stamp(self) -> Stamp | _NoStamp | None:
        """Of the store now.  A store that cannot be looked at is a change; the program meets the
        error itself when it next looks into the cache."""
        try:
            return self._store().stamp()
        except OSError as error:
            return type(error).__name__, error.errno

    def __iter__(self) -> Iterator[None]:
        while self.wait():
            yield

    def close(self) -> None:
        """Ends it, and within 250 ms a wait in another thread; more than once is fine."""
        self._closed = True
        if self._turn.acquire(blocking=False):
            try:
                self._watch.close()
            finally:
                self._turn.release()

    def __enter__(self) -> CacheChanges:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<CacheChanges {self._store().location!r} {state}>"
