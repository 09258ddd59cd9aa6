"""Tells a program that somebody else has changed its token cache.

Nothing runs in the background.  A thread of the program waits, and the operating system wakes it
(csrc/watch_<platform>.c).

*A change.*  A stamp stands for one content of the store (see ``_store.py``).  The cache knows the
stamp of its content in memory, which it has loaded or saved.  Somebody else has changed the cache
when the store has a stamp that the cache does not know, or when the cache has loaded a content
that it had not saved.  An event of the file system says only that it is time to compare stamps.

*Equal stamps.*  A stamp proves nothing until it is settled (see ``_freshness.py``).  So a content
that was loaded or saved a moment ago is read again when that is due.

*Own writes.*  During a save the file already has a stamp that the cache knows only when the save
returns.  So a comparison counts only if no save is under way at its end, and none has ended
during it.  Otherwise it is made again.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator

from ._freshness import Freshness
from ._native.check import SLICE_MS
from ._references import ARGUMENT
from ._store import Stamp, Store
from ._timeouts import seconds_of

#: Milliseconds after which a thread that receives no signals looks whether it was closed.
_IDLE_SLICE_MS = 150

#: A save has several steps (rename, then touch; truncate, then write).  It counts as complete
#: after this many milliseconds without an event, or after this many events.
_SETTLE_MS = 5
_SETTLE_EVENTS = 10

#: Seconds between comparisons when no event comes: a program's own persistence may keep its
#: content in a place for which the operating system reports no events.
_COMPARE_EVERY = 1.0

#: The reason why there is no stamp, in place of a stamp.
_NoStamp = tuple[str, int | None]


class CacheChanges:
    """Changes of a token cache by another process, or by another cache object.

    Made by :meth:`PersistedTokenCache.changes`.  A loop that ends when another thread closes it::

        changes = cache.changes()
        threading.Thread(target=lambda: [show(app.get_accounts()) for _ in changes]).start()
        ...
        changes.close()

    or, for a program that has other things to do, ``if changes.wait(timeout=0): ...``.

    A change means: the next search may find something new, or an earlier search already did.
    Several changes may be reported as one, and one change more than once.  None is lost: neither
    a change since the last read of the cache before :meth:`~PersistedTokenCache.changes` was
    called, nor one during a save of this cache object.  Saves of this cache object are never
    reported.  The other writer may replace the file, write it in place, delete it or, for a
    keyring, touch its signal file; the directory need not exist.

    Ctrl-C ends a wait within 100 ms.  One thread at a time may wait.
    """

    def __init__(
        self, store: Callable[[], Store], freshness: Freshness, differs: Callable[[], bool]
    ) -> None:
        self._store = store  # asked each time: the program may give its cache another persistence
        self._freshness = freshness
        self._differs = differs  # see Reloading.differs
        self._watch = store().watch()  # before everything else, so that no change is missed
        self._turn = threading.Lock()  # held by the thread that waits
        self._closed = False
        seen = freshness.seen()
        # As of the last comparison.
        self._loads, self._generation = seen.loads, seen.generation
        # The stamp that was reported last; None if the cache has seen another one since.  For a
        # cache that never looked this begins as the stamp of now: older changes are no news.
        self._told: Stamp | _NoStamp | None = self._stamp() if seen.stamp is None else None
        self._compare_at = self._reread_at = 0.0

    @property
    def closed(self) -> bool:
        """True once :meth:`close` was called."""
        return self._closed

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for a change.

        :param timeout: Seconds to wait; None waits for ever, 0 or less only looks.
        :returns: True: there was a change since the last call.  False: the time is up, or another
            thread has called :meth:`close`.
        """
        deadline = math.inf if timeout is None else time.monotonic() + seconds_of(timeout)
        if self._turn.locked() and not self._closed:
            raise RuntimeError(
                ARGUMENT.after("Another thread is waiting for these changes already")
            )
        try:
            with self._turn:  # not acquire(): Ctrl-C could come between it and a try
                return self._wait(deadline)
        finally:
            if self._closed:
                self.close()  # a close() in another thread has left the watch to us

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
        """Whether there was a change that is not reported yet.  None: a save came in between."""
        generation = self._freshness.generation
        now, seen = self._stamp(), self._freshness.seen()
        if seen.saving or seen.generation != generation:
            return None
        self._compare_at = time.monotonic() + _COMPARE_EVERY
        loads, self._loads = seen.loads - self._loads, seen.loads
        # One of these loads may be the search that found the change reported last.
        was_loaded = loads > (seen.loaded == self._told)
        if seen.generation != self._generation or self._told != now == seen.stamp:
            self._told = None
        self._generation = seen.generation
        is_unknown = now != self._told and (now != seen.stamp or self._only_looks_the_same())
        if is_unknown:
            self._told = now
        return is_unknown or was_loaded

    def _only_looks_the_same(self) -> bool:
        """Whether there is another content under the known stamp."""
        if time.monotonic() < self._reread_at:
            return False
        try:
            return self._differs()
        except Exception:  # the program meets it when it next looks into the cache
            self._reread_at = time.monotonic() + _COMPARE_EVERY
            return False

    def _stamp(self) -> Stamp | _NoStamp | None:
        """The stamp of the store.  An error counts as a stamp of its own, and so as a change; the
        program meets the error itself when it next looks into the cache."""
        try:
            return self._store().stamp()
        except OSError as error:
            return type(error).__name__, error.errno

    def __iter__(self) -> Iterator[None]:
        while self.wait():
            yield

    def close(self) -> None:
        """Ends the watch; a wait in another thread returns within 250 ms.  A second call does
        nothing."""
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
