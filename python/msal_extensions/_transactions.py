"""The half of PersistedTokenCache that saves: lock, reload, change, save.

If a save finds that the lock was lost, or that another process has changed the store, it reloads.
The reload applies the changes again by the rules of ``_pending.py``.  Then the save is repeated.

A signal handler or a finalizer can run at any line, in the same thread.  So can a program's own
persistence that uses the cache, when we call it.  Their changes join the transaction under way, and
their calls return before the changes are stored.  So the transaction must not return before that:
it saves as long as something is pending, and looks once more after it has released the lock.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ._pending import Call, Rule
from ._references import ARGUMENT, LOCK_REENTERED, STORE_CHANGED
from ._reloading import Memory, Reloading
from ._store import Lease, Store, StoreLock, require_held
from .errors import LockError, LockLost, LockOrderError, StoreChanged, referring
from .lock import DEFAULT_TIMEOUT, this_thread

#: Seconds for which one commit is repeated, while others delete the lock file or change the store.
_PATIENCE = 5.0

#: The longest pause in seconds after others have changed the store.  It is random, so that two
#: programs do not meet again and again.
_PAUSE = 0.05

#: How often a transaction takes the lock, when others change the store between prepare() and that.
#: The last time it goes on all the same.
_TURNS = 4

#: How often one call saves changes that came during its saves.
_ROUNDS = 10

_RECIPE = """
    def renew():
        with cache.single_flight():
            return app.acquire_token_silent(scopes, account)

    result = await asyncio.to_thread(renew)"""


class Transaction(Call):
    """One transaction, and everything that it holds.

    Only the frame of the transaction refers to this object, and only this object keeps the lock.
    So the lock is free when an interrupt ends that frame, at whatever moment.

    :param rule: The rule of its changes, removals excepted.
    """

    __slots__ = ("began_in_a_save", "lease", "mutex", "rule", "saves", "thread")

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.lease: Lease | None = None
        self.mutex: Any = None
        self.thread = this_thread()
        self.saves = _thread.saves  # as of the content in memory
        self.began_in_a_save = _thread.is_saving


class _Thread(threading.local):
    """The saves of one thread.

    The lock does not keep out its own thread.  So another cache object of the same thread can
    save between the reload and the save of a transaction; these numbers show that.
    """

    #: The number of saves by this thread, of all caches.
    saves = 0
    #: Whether a save is under way.  A second one would be overwritten, and nobody would notice.
    is_saving = False


_thread = _Thread()


class Encoded(NamedTuple):
    """The cache in the form in which it is stored."""

    data: bytes
    #: Whether we encoded it, and not a program's own ``serialize()``.
    is_ours: bool


class Steps(NamedTuple):
    """The functions of a cache that a transaction calls."""

    store: Store
    #: Leaves memory as the store was at a moment during the call.
    reload: Callable[[], None]
    encode: Callable[[], Encoded]
    #: Seconds since 1970.  Tests of programs replace the clock of the cache's module.
    now: Callable[[], float]


class Transactions:
    """The transactions of one cache.  As in ``Reloading`` the cache is an argument of the calls."""

    def __init__(self, reloading: Reloading) -> None:
        self._reloading = reloading
        self.start_anew()

    def start_anew(self) -> None:
        """Forgets all that is held.  A child of a fork begins like that: it has no threads that
        would ever release what threads of its parent held."""
        self._mutex: Any = threading.RLock()  # Any, because mypy knows no _is_owned()
        self._current: weakref.ref[Transaction] | None = None

    def own(self) -> Transaction | None:
        """The transaction that this thread is inside, or None."""
        transaction = None if self._current is None else self._current()
        if transaction is None or transaction.is_over:
            return None
        return transaction if transaction.thread is this_thread() else None

    @contextlib.contextmanager
    def inside(
        self, cache: Memory, steps: Steps, rule: Rule, seconds: float = DEFAULT_TIMEOUT
    ) -> Iterator[Transaction]:
        """A transaction around the block, for a thread that is inside none.

        :param seconds: Seconds to wait for the lock; 0 tries once, a negative number waits for
            ever.
        """
        transaction, pending = Transaction(rule), self._reloading.pending
        # If this thread already owns the mutex, we are in a signal handler that came while the
        # thread begins or ends another transaction.  That transaction keeps its mutex.  If it is
        # just waiting for the lock, then our acquire() raises.
        transaction.mutex = None if self._mutex._is_owned() else self._mutex
        try:
            # Ctrl-C may come at any moment.  So _leave() asks what is held, instead of remembering
            # it; and it stands here twice, because Ctrl-C may come in the middle of it.
            try:
                try:
                    self._enter(transaction, steps, seconds)
                    try:
                        yield transaction
                    finally:
                        self._commit(cache, transaction, steps)
                finally:
                    self._leave(transaction)
            finally:
                self._leave(transaction)
            for _ in range(_ROUNDS):
                if not pending.has_any_of(transaction.events):
                    break
                with self.inside(cache, steps, Rule.ALWAYS):
                    pass
        finally:
            transaction.is_over = True
            if pending:
                pending.tidy()

    def _enter(self, transaction: Transaction, steps: Steps, seconds: float) -> None:
        store = steps.store
        if store.commit_lock.is_mine():  # another cache object of this thread is inside
            if _thread.is_saving:
                words = f"This thread is just saving into {store.location}: what runs meanwhile, a"
                words += " signal handler for example, cannot change that by another cache object"
                raise referring(LockError(words), LOCK_REENTERED)
            self._lock(transaction, steps, seconds)
        else:
            self._lock_prepared(transaction, steps, seconds)
        self._current = weakref.ref(transaction)
        _reload(transaction, steps)

    def _lock_prepared(self, transaction: Transaction, steps: Steps, seconds: float) -> None:
        """Takes the locks after prepare(), and anew if others came in between.

        :param seconds: For all waiting together.  What prepare() takes, which may ask a person,
            does not count.  After half of it there is no other turn.
        """
        left = seconds
        for turn in range(1, _TURNS + 1):
            steps.store.prepare()
            begin = time.monotonic()
            self._lock(transaction, steps, left)
            if seconds > 0:
                left = max(left - (time.monotonic() - begin), 0)
            if steps.store.is_prepared() or turn == _TURNS or 0 <= left <= seconds / 2:
                return  # what is not prepared is read inside
            self._leave(transaction)

    def _lock(self, transaction: Transaction, steps: Steps, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        if transaction.mutex is not None and not _take(transaction.mutex, seconds):
            raise LockError(f"Another thread uses this cache for over {seconds:g} second(s)")
        if seconds > 0:
            seconds = max(deadline - time.monotonic(), 0)
        transaction.lease = steps.store.commit_lock.acquire(seconds)

    def _leave(self, transaction: Transaction) -> None:
        """Ends a transaction as far as it has begun.  A second call does nothing."""
        if self.own() is transaction:
            _thread.is_saving = transaction.began_in_a_save
            self._reloading.freshness.saving = False  # Ctrl-C may have come before its finally
            self._current = None
        if transaction.lease is not None:
            transaction.lease.release()
        if transaction.mutex is not None and transaction.mutex._is_owned():
            transaction.mutex.release()

    def _commit(self, cache: Memory, transaction: Transaction, steps: Steps) -> None:
        lease = transaction.lease
        if lease is None or self.own() is not transaction:
            return  # this process is a child made by fork; its parent saves
        pending, rounds, deadline = self._reloading.pending, 0, time.monotonic() + _PATIENCE
        while events := pending.all():
            if rounds == _ROUNDS:
                words = f"Each of {_ROUNDS} saves into {steps.store.location} has changed the cache"
                words += " again; look for a save() or a finalizer that does so"
                raise referring(LockError(words), ARGUMENT)
            try:
                _thread.is_saving = True
                if transaction.saves != _thread.saves:
                    _reload(transaction, steps)
                self._save_if_different(cache, transaction, steps, lease)
            except LockLost:
                lease.release()
                transaction.lease = lease = steps.store.commit_lock.acquire(DEFAULT_TIMEOUT)
            except StoreChanged:
                time.sleep(random.uniform(0, _PAUSE))  # noqa: S311 - no secret
            else:
                pending.forget(events)
                rounds += 1
                continue
            finally:
                _thread.is_saving = transaction.began_in_a_save
            if time.monotonic() >= deadline:
                words = "Other programs keep deleting the lock file of, or changing,"
                words = f"{words} {steps.store.location}"
                raise referring(LockError(words), STORE_CHANGED)
            _reload(transaction, steps)
        if transaction.was_overtaken:
            raise LockLost(
                f"What was changed in a transaction of {steps.store.location} was changed"
                " meanwhile, by a program that removed the lock file, or by another cache object"
                " of this thread: do it again"
            )

    def _save_if_different(
        self, cache: Memory, transaction: Transaction, steps: Steps, lease: Lease
    ) -> None:
        store, freshness = steps.store, self._reloading.freshness
        try:
            with cache._lock:  # or another thread could reload in between
                self._reloading.pending.apply_again_to(cache._cache)
                secret, is_ours = steps.encode()
                expected = freshness.stamp
        except Exception:
            cache._last_sync = 0  # a program put something unusable into memory: reload
            raise
        if self._reloading.has_stored(secret, store, is_ours):
            require_held(lease)
            return
        try:
            freshness.saving = True
            secret, stamp = store.replace(secret, lease=lease, expected=expected)
            _thread.saves += 1
            transaction.saves += 1
            with cache._lock:
                freshness.note_save(secret, stamp, store.settles_after)
                cache._last_sync = steps.now()
        finally:
            freshness.saving = False


def _reload(transaction: Transaction, steps: Steps) -> None:
    transaction.saves = _thread.saves
    steps.reload()


def _take(mutex: Any, seconds: float) -> bool:
    # RLock.acquire() takes -1 for "for ever", and 0 only with blocking=False.
    if seconds == 0:
        return bool(mutex.acquire(blocking=False))
    forever = seconds < 0 or seconds > threading.TIMEOUT_MAX
    return bool(mutex.acquire(timeout=-1 if forever else seconds))


def refuse_second_task(lock: StoreLock) -> None:
    """:raises LockOrderError: when another asyncio task of this thread is inside."""
    if lock.is_of_another_task():
        raise LockOrderError(
            "Another asyncio task of this thread is inside, and cannot go on while the thread"
            f" waits for it. Let each task have a thread meanwhile:\n{_RECIPE}\n\n"
            "See docs/asyncio.md."
        )
