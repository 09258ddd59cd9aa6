"""MSAL's token cache, kept in a persistence that several processes share.

Order of locks, everywhere: the lock file of a single flight (``<lock>.refresh``), then the
transaction's mutex, then the lock file, then MSAL's ``_lock``.  Only the first may be held over
the network, so it cannot be asked for inside the others.  Nothing here waits for a lock file,
or for the disk, while it holds ``_lock``; msal-extensions 1.3.1 did, and could wait for itself.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any, Literal

import msal

from ._reloading import ReloadingCache
from ._serializer import Serializer
from ._snapshot import Snapshot
from .changes import CacheChanges
from .errors import LockError, LockLost, LockOrderError, PersistenceDamaged, PersistenceNotFound
from .lock import (
    DEFAULT_TIMEOUT,
    CrossPlatLock,
    held_by_this_thread,
    seconds_of,
    this_thread,
)
from .persistence import BasePersistence, Stamp, _encode, _expand, _mkdir_p

__all__ = ["CrossPlatLock", "LockError", "PersistedTokenCache", "PersistenceNotFound"]

logger = logging.getLogger(__name__)

#: Seconds to wait for another's flight: longer than a slow refresh with its retries takes.
FLIGHT_TIMEOUT = 60.0

#: Seconds for which a lock file that somebody deletes under us is taken again for one commit.
_COMMIT_PATIENCE = 5.0

_Entry = dict[str, Any]
_SEARCH = msal.TokenCache.search


class PersistedTokenCache(ReloadingCache):
    """A token cache backed by a persistence, shared between threads and processes.

    Each object holds a snapshot in memory.  Looking up reloads it when the persistence has
    changed; changing it locks out other processes, reloads, changes and saves.

    :param persistence: Any persistence; from 1.3.1 on also your own class.
    :param lock_location: The lock file; default: the persistence's location + ``.lockfile``.
    :param on_unreadable: What to do when the content was read and is proven to be damaged:
        "raise", as 1.3.1 did, or "quarantine": keep it beside, as ``<location>.damaged-<time>``
        (a keyring's in the keyring), log a warning, and start empty.  A content that cannot be
        read, or not be decrypted, may be fine: that is raised either way.
    :raises PersistenceError: when there is no home directory for a ``~`` in ``lock_location``, or
        the directory of the lock file cannot be made.
    """

    def __init__(
        self,
        persistence: BasePersistence,
        lock_location: str | os.PathLike[str] | None = None,
        *,
        on_unreadable: Literal["raise", "quarantine"] = "raise",
    ) -> None:
        super().__init__(persistence, on_unreadable)
        self._lock_location = (
            _expand(os.fspath(lock_location))
            if lock_location
            else persistence.get_location() + ".lockfile"
        )
        _mkdir_p(os.path.dirname(self._lock_location))
        self.is_encrypted = persistence.is_encrypted
        self._serializer = Serializer()
        self._transaction_mutex: Any = threading.RLock()  # mypy knows no _is_owned()
        # Its lock, and its thread.  The lock is the transaction's to keep: if an interrupt ends
        # that at a bad moment, nothing else keeps the lock.
        self._transaction: tuple[weakref.ref[CrossPlatLock], object] | None = None
        self._modified = False  # was modify() called, since the last save?
        _caches[id(self)] = self

    # ---- changing ----

    @contextlib.contextmanager
    def single_flight(self, timeout: float | None = None) -> Iterator[PersistedTokenCache]:
        """One at a time, among all threads and processes, renews what has expired::

            with cache.single_flight():
                result = app.acquire_token_silent(scopes, account)

        Whoever waited finds the token that the one before received, and needs no network.
        Meanwhile the cache itself is free: others, of any library, look up, and save.  A flight
        inside another of the same thread is part of it.

        :param timeout: Seconds to wait for others; None means 60, longer than a slow refresh
            takes.  0 tries once, a negative one waits for ever.
        :raises LockError: when the time is up.  Going on without is what programs did before.
        :raises LockOrderError: inside a transaction, which would last as long as the network.
        """
        if (
            self._own_transaction() is not None
            or held_by_this_thread(self._lock_location)
            or self._lock._is_owned()
        ):
            raise LockOrderError(
                "single_flight() while the cache is locked would keep everybody out until the"
                " network answers; begin the transaction inside the flight instead"
            )
        seconds = FLIGHT_TIMEOUT if timeout is None else seconds_of(timeout)
        with CrossPlatLock(self._lock_location + ".refresh", seconds, reentrant=True):
            self._reload_for_certain()
            yield self

    @contextlib.contextmanager
    def transaction(self, timeout: float | None = None) -> Iterator[PersistedTokenCache]:
        """Takes the lock once and reloads; saves once at the end, if modify() changed anything.

        What was changed is saved even when the body raises: a refresh token that was received
        cannot be un-received.  What could not be saved stays in memory, and is saved with the
        next change.  Do not go over the network inside: other libraries give up waiting after
        5 seconds.  A transaction inside another is part of it.

        :param timeout: Seconds to wait for the lock; None means its default of 5.
        :raises LockError: when the time is up; nothing was changed then.
        """
        seconds = DEFAULT_TIMEOUT if timeout is None else seconds_of(timeout)
        if self._own_transaction() is not None:
            yield self
            return
        deadline = time.monotonic() + seconds
        lock = CrossPlatLock(self._lock_location, reentrant=True)
        # Else a signal handler came while this thread begins, or ends, a transaction: the mutex
        # is that one's, and so is the lock if it waits for it; then acquire() raises.
        mutex = None if self._transaction_mutex._is_owned() else self._transaction_mutex
        # Ctrl-C may come at any moment, so "did we take it?" is asked, and never remembered.  It
        # may come in the middle of _leave(), too: hence twice.
        try:
            try:
                if mutex is not None and not _take(mutex, seconds):
                    words = f"Another thread uses this cache for over {seconds:g} second(s)"
                    raise LockError(words)
                if seconds > 0:
                    seconds = max(deadline - time.monotonic(), 0)
                lock.acquire(seconds)
                self._transaction = weakref.ref(lock), this_thread()
                self._reload_for_certain()
                try:
                    yield self
                finally:
                    self._commit(lock)
            finally:
                self._leave(lock, mutex)
        finally:
            self._leave(lock, mutex)

    def _own_transaction(self) -> CrossPlatLock | None:
        """The lock of the transaction that this thread is inside."""
        transaction = self._transaction
        if transaction is None or transaction[1] is not this_thread():
            return None
        return transaction[0]()

    def _leave(self, lock: CrossPlatLock, mutex: Any) -> None:
        """Ends a transaction as far as it has begun; again does nothing."""
        if self._own_transaction() is lock:
            self._saving = False  # or Ctrl-C came just when it was to be set
            self._transaction = None
        if lock.locked:  # or _commit() could not have it back
            lock.release()
        if mutex is not None and mutex._is_owned():
            mutex.release()

    def _commit(self, lock: CrossPlatLock) -> None:
        """Saves what was changed.  When somebody deleted the lock file, another process may
        have saved in between: then a reload makes the changes again on top of that."""
        if not self._modified:
            return
        deadline = time.monotonic() + _COMMIT_PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(LockLost):
                if lock.still_held():
                    self._save_if_different(lock)
                    if lock.still_held():
                        with self._lock:  # readers apply them
                            self._pending.clear()
                        self._modified = False
                        return
            if lock.locked:  # not in the child of a fork
                lock.release()
            lock.acquire(DEFAULT_TIMEOUT)
            self._reload_for_certain()
        raise LockError(f"Another program keeps deleting the lock file {self._lock_location}")

    def _save_if_different(self, lock: CrossPlatLock) -> None:
        ours = type(self).serialize is _SERIALIZE
        secret = self._encoded() if ours else _encode(self.serialize())
        if self._has_stored(secret):
            return
        try:
            self._saving = True
            self._save(secret, lock)
        finally:
            self._saving = False

    def _save(self, secret: bytes, lock: CrossPlatLock) -> None:
        plain = self._plain_file()
        stamp: Stamp | None
        if plain is not None:
            stamp = plain._replace(secret, lock._held())
        else:
            self._persistence.save(secret.decode())
            stamp = self._current_stamp()
        with self._lock:
            self._remember(stamp, secret if plain is not None else secret.decode(), None)

    def _has_stored(self, secret: bytes) -> bool:
        """Whether memory, encoded as that, is what is stored already.

        It is looked at, because modify() cannot tell: a program may have changed the entry in
        place before.
        """
        if self._content is None:
            return False
        if self._content == (secret.decode() if isinstance(self._content, str) else secret):
            return True
        if self._pending or type(self).serialize is not _SERIALIZE:
            return False
        # In another layout?  Without a change that we know of, that is worth parsing.
        return bool(self._parse(self._content) == json.loads(secret))

    def _encoded(self) -> bytes:
        with self._lock:
            self.has_state_changed = False
            return self._serializer.encode(self._cache)

    def serialize(self) -> str:
        """Compact JSON: MSAL's indentation makes json.dumps() many times slower."""
        return self._encoded().decode("ascii")

    def modify(
        self,
        credential_type: str,
        old_entry: _Entry,
        new_key_value_pairs: _Entry | None = None,
    ) -> None:
        """Changes one entry, or removes it when there are no new values; saves.

        :raises LockError: when the lock could not be had in 5 seconds.
        :raises PersistenceError: when it could not be saved.
        """
        secret: dict[str, Any] = {"old": old_entry, "new": new_key_value_pairs}
        del old_entry, new_key_value_pairs  # see persistence.py for the names of secrets
        with self.transaction():
            key = self.key_makers[credential_type](**secret["old"])
            with self._lock:  # or a reload could come between the change and its record
                secret["before"] = self._entry(credential_type, key)
                super().modify(credential_type, secret["old"], secret["new"])
                secret["after"] = self._entry(credential_type, key)
                self._modified = True
                if secret["after"] != secret["before"]:
                    self._pending[credential_type, key] = secret["after"]

    def _entry(self, kind: str, key: str) -> _Entry | None:
        """None too where MSAL would stumble over a damaged cache, which is left to MSAL."""
        entries = self._cache.get(kind) if isinstance(self._cache, dict) else None
        return entries.get(key) if isinstance(entries, dict) else None

    def add(self, event: dict[str, Any], **kwargs: Any) -> None:
        """Stores all that a sign-in returned, in one transaction.

        :raises LockError: when the lock could not be had in 5 seconds.
        :raises PersistenceError: when it could not be saved.
        """
        secret = event
        del event
        # Before MSAL takes its own lock and calls modify().
        with self.transaction():
            super().add(secret, **kwargs)

    # ---- looking up ----

    def search(
        self, credential_type: str, target: Any = None, query: Any = None, **kwargs: Any
    ) -> Iterator[_Entry]:
        """The matching entries; see ``msal.TokenCache.search``.

        Unlike MSAL's, iterating holds no lock, so the loop may change the cache.
        """
        self._reload_patiently()
        snapshot = Snapshot(self, self._purge)
        found: Iterator[_Entry] = _SEARCH(snapshot, credential_type, target, query, **kwargs)
        return found

    def _purge(self, secret: list[_Entry]) -> None:
        """Removes expired access tokens, if that needs no waiting: a reader is in no hurry."""
        if self._lock._is_owned():  # who holds MSAL's lock must not ask for the lock file
            return
        try:
            with self.transaction(timeout=0):
                while secret:
                    self._purge_entry(secret.pop())
        except (LockError, OSError) as error:
            logger.debug("Expired tokens are left to a later search: %s", type(error).__name__)

    def _purge_entry(self, secret: _Entry) -> None:
        kind = self.CredentialType.ACCESS_TOKEN
        # Somebody may have renewed it meanwhile.
        if self._entry(kind, self.key_makers[kind](**secret)) == secret:
            self.modify(kind, secret)

    # ---- being told ----

    def changes(self) -> CacheChanges:
        """Tells when another process, or another cache object, changes this cache.

        ``for _ in cache.changes(): ...`` waits in the thread that runs it, and goes round once
        for each change; what this object itself saves does not count.  Use it in a ``with``, or
        close it from another thread.
        """
        return CacheChanges(self)

    # ---- what reloading needs of the lock, and of the serializer ----

    def _forget_removed(self) -> None:
        self._serializer.retain(self._cache)

    def _others_may_write(self) -> bool:
        mine = held_by_this_thread(self._lock_location)
        return not mine and os.path.lexists(self._lock_location)

    def _quarantine(self, damage: PersistenceDamaged) -> None:
        """Puts aside what is stored, after it was read again under the lock."""
        if self._lock._is_owned():
            raise damage
        lock = self._own_transaction()
        if lock is None:
            try:
                with self.transaction():  # comes here again, if it is damaged still
                    return
            except LockError as error:
                raise damage from error
        copy_aside = getattr(self._persistence, "_copy_aside", None)
        if copy_aside is None or not lock.still_held():
            raise damage
        when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        try:
            where = copy_aside(f".damaged-{when}-{secrets.token_hex(8)}")
        except NotImplementedError:  # a persistence of one's own
            raise damage from None
        self._persistence.save("{}")
        self._last_sync = 0
        self._reload_if_necessary()
        logger.warning("The token cache was damaged and is empty now; it is kept in %s", where)


_SERIALIZE = PersistedTokenCache.serialize

#: For the children of a fork.
_caches: weakref.WeakValueDictionary[int, PersistedTokenCache] = weakref.WeakValueDictionary()


def _take(mutex: Any, seconds: float) -> bool:
    # RLock.acquire() wants -1 for ever, and 0 only without blocking.
    if seconds == 0:
        return bool(mutex.acquire(blocking=False))
    forever = seconds < 0 or seconds > threading.TIMEOUT_MAX
    return bool(mutex.acquire(timeout=-1 if forever else seconds))


def _after_fork_in_child() -> None:
    """What another thread of the parent held, nobody would ever give back here."""
    for cache in list(_caches.values()):
        if not cache._transaction_mutex._is_owned():
            cache._transaction_mutex = threading.RLock()
            cache._transaction = None
            cache._saving = False
        if not cache._lock._is_owned():
            cache._lock = threading.RLock()
        cache._doubters = set()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
