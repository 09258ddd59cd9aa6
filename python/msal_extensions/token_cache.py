"""MSAL's token cache, kept in a persistence that several processes share.

Order of locks, everywhere: the transaction's mutex, then the lock file, then MSAL's ``_lock``.
Nothing here waits for the lock file, or for the disk, while it holds ``_lock``; msal-extensions
1.3.1 did, and could wait for itself.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import msal

from .changes import CacheChanges
from .errors import LockError, PersistenceDamaged, PersistenceDecryptionError, PersistenceNotFound
from .lock import DEFAULT_TIMEOUT, CrossPlatLock
from .persistence import BasePersistence, Stamp, _mkdir_p

__all__ = ["CrossPlatLock", "LockError", "PersistedTokenCache", "PersistenceNotFound"]

logger = logging.getLogger(__name__)

#: Seconds between reads of what cannot be parsed: 1.3.1 and .NET write in place, and we may
#: have looked in the middle.  After the last, what is there is believed.
_REREAD_AFTER = (0.01, 0.02, 0.05, 0.1, 0.3, 0.5)

#: How often a reload starts over because another thread came in between.
_RELOAD_TRIES = 10

#: How often a lock file that somebody deletes under us is taken again for one commit.
_COMMIT_TRIES = 20

_Entry = dict[str, Any]


class PersistedTokenCache(msal.SerializableTokenCache):  # type: ignore[misc]
    """A token cache backed by a persistence, shared between threads and processes.

    Each object holds a snapshot in memory.  Looking up reloads it when the persistence has
    changed; changing it locks out other processes, reloads, changes and saves.

    :param persistence: Any persistence; from 1.3.1 on also your own class.
    :param lock_location: The lock file; default: the persistence's location + ``.lockfile``.
    """

    def __init__(
        self, persistence: BasePersistence, lock_location: str | os.PathLike[str] | None = None
    ) -> None:
        super().__init__()
        self._lock_location = (
            os.path.expanduser(os.fspath(lock_location))
            if lock_location
            else persistence.get_location() + ".lockfile"
        )
        _mkdir_p(os.path.dirname(self._lock_location))
        self._persistence = persistence
        self.is_encrypted = persistence.is_encrypted
        # When memory and persistence were the same; 0 (programs set it) forces a reload.
        self._last_sync: float = 0
        self._stamp: Stamp | None = None  # of what is in memory
        self._transaction_mutex = threading.RLock()
        self._transaction: CrossPlatLock | None = None
        self._generation = 0  # of what is in memory; counts reloads and saves
        # modify() calls that are in memory and not in the persistence yet.
        self._journal: list[tuple[str, _Entry, _Entry | None]] = []
        self._saving = False  # the persistence may have what _stamp does not tell yet
        self._loaded_stamp: Stamp | None = None  # of what was loaded last and not saved here

    # ---- changing ----

    @contextlib.contextmanager
    def transaction(self, timeout: float | None = None) -> Iterator[PersistedTokenCache]:
        """Takes the lock once and reloads; saves once at the end, if anything was changed.

        What was changed is saved even when the body raises: a refresh token that was received
        cannot be un-received.  Do not go over the network inside: other libraries give up
        waiting after 5 seconds.  A transaction inside another is part of it.

        :param timeout: Seconds to wait for the lock; None means its default of 5.
        :raises LockError: when the time is up; nothing was changed then.
        """
        seconds = DEFAULT_TIMEOUT if timeout is None else timeout
        # RLock.acquire() wants -1 for ever, and 0 only without blocking.
        if not self._transaction_mutex.acquire(seconds != 0, max(seconds, -1) or -1):
            raise LockError(f"Another thread uses this cache for over {seconds:g} second(s)")
        try:
            if self._transaction is not None:
                yield self
                return
            with CrossPlatLock(self._lock_location, seconds, reentrant=True) as lock:
                self._transaction = lock
                try:
                    self._last_sync = 0  # whatever it looks like: reload
                    self._reload_patiently()
                    try:
                        yield self
                    finally:
                        self._commit(lock)
                finally:
                    self._transaction = None
        finally:
            self._transaction_mutex.release()

    def _commit(self, lock: CrossPlatLock) -> None:
        """Saves what was changed.  When somebody deleted the lock file, another process may
        have saved in between: then a reload makes the changes again on top of that."""
        if not self._journal:
            return
        for _ in range(_COMMIT_TRIES):
            if lock.still_held():
                self._saving = True
                try:
                    stamp = self._save(self.serialize())
                    with self._lock:
                        self._remember(stamp)
                finally:
                    self._saving = False
                if lock.still_held():
                    self._journal.clear()
                    return
            lock.release()
            lock.acquire()
            self._last_sync = 0
            self._reload_patiently()
        raise LockError(f"Another program keeps deleting the lock file {self._lock_location}")

    def _save(self, content: str) -> Stamp | None:
        if isinstance(self._persistence, BasePersistence):
            return self._persistence._save_and_stamp(content)
        self._persistence.save(content)
        return self._current_stamp()

    def modify(
        self,
        credential_type: str,
        old_entry: _Entry,
        new_key_value_pairs: _Entry | None = None,
    ) -> None:
        """Changes one entry, or removes it when there are no new values; saves."""
        with self.transaction():
            key = self.key_makers[credential_type](**old_entry)
            with self._lock:  # or a reload could come between the change and the journal
                before = self._cache.get(credential_type, {}).get(key)
                super().modify(credential_type, old_entry, new_key_value_pairs)
                if self._cache.get(credential_type, {}).get(key) != before:
                    self._journal.append((credential_type, old_entry, new_key_value_pairs))

    def add(self, event: dict[str, Any], **kwargs: Any) -> None:
        """Stores all that a sign-in returned, in one transaction."""
        # Before MSAL takes its own lock and calls modify().
        with self.transaction():
            super().add(event, **kwargs)

    def serialize(self) -> str:
        """Compact JSON: MSAL's indentation makes json.dumps() many times slower."""
        with self._lock:
            self.has_state_changed = False
            return json.dumps(self._cache, separators=(",", ":"))

    # ---- looking up ----

    def search(self, *args: Any, **kwargs: Any) -> Iterator[_Entry]:
        """The matching entries; see ``msal.TokenCache.search``.

        Unlike MSAL's, iterating holds no lock, so the loop may change the cache.
        """
        self._reload_patiently()
        return self._search_snapshot(*args, **kwargs)

    def _search_snapshot(self, *args: Any, **kwargs: Any) -> Iterator[_Entry]:
        snapshot = _Snapshot(self)
        yield from msal.TokenCache.search(snapshot, *args, **kwargs)
        # Who holds MSAL's lock must not wait for the lock file.
        if snapshot.expired and not self._lock._is_owned():
            self._purge(snapshot.expired)

    def _purge(self, expired: list[_Entry]) -> None:
        """Removes expired access tokens, if that needs no waiting: a reader is in no hurry."""
        try:
            with self.transaction(timeout=0):
                for entry in expired:
                    if int(entry["expires_on"]) < time.time():
                        self.modify(self.CredentialType.ACCESS_TOKEN, entry)
        except (LockError, OSError) as error:
            logger.debug("Expired tokens are left to a later search: %s", type(error).__name__)

    # ---- reloading ----

    def _reload_patiently(self) -> None:
        """Reloads; what cannot be parsed is read again before it is believed."""
        for delay in _REREAD_AFTER:
            try:
                return self._reload_if_necessary()
            except (ValueError, PersistenceDecryptionError, PersistenceDamaged):
                time.sleep(delay)
        return self._reload_if_necessary()

    def _reload_if_necessary(self) -> None:
        """Reloads from the persistence, if it may hold something else than memory does.

        All that looks up or changes comes through here; azure-cli overrides it.
        """
        for _ in range(_RELOAD_TRIES):
            generation = self._generation
            try:
                stamp = self._current_stamp()  # before the content: a change in between shows
                if self._last_sync and stamp is not None and stamp == self._stamp:
                    return
                content = self._persistence.load()
            except PersistenceNotFound:
                return  # nothing was saved yet
            with self._lock:
                if self._saving:
                    return  # memory has what is being saved; what was read may be half of it
                if generation == self._generation:
                    self.deserialize(content)
                    for change in self._journal:
                        super().modify(*change)
                    if stamp != self._stamp:
                        self._loaded_stamp = stamp
                    self._remember(stamp)
                    return
            # Another thread reloaded or saved meanwhile: what we have may be older.

    def _remember(self, stamp: Stamp | None) -> None:
        """Memory is now what the persistence has.  Under ``_lock``."""
        self._stamp = stamp
        self._last_sync = time.time()
        self._generation += 1

    def _current_stamp(self) -> Stamp | None:
        """None when it cannot tell one content from another."""
        if isinstance(self._persistence, BasePersistence):
            stamp = self._persistence._stamp()
        else:
            stamp = self._persistence.time_last_modified()
        return None if isinstance(stamp, float) and not math.isfinite(stamp) else stamp

    # ---- being told ----

    def changes(self) -> CacheChanges:
        """Tells when another process, or another cache object, changes this cache.

        ``for _ in cache.changes(): ...`` waits in the thread that runs it, and goes round once
        for each change; what this object itself saves does not count.  Use it in a ``with``, or
        close it from another thread.
        """
        return CacheChanges(self)


class _Snapshot(msal.TokenCache):  # type: ignore[misc]
    """What MSAL's own search runs on: a direct hit costs no copy, and iterating holds no lock.

    MSAL replaces entries and never changes them, so copying the dictionaries is enough.
    """

    def __init__(self, cache: PersistedTokenCache) -> None:
        self._original = cache
        self._lock = contextlib.nullcontext()
        self.key_makers = cache.key_makers
        self.expired: list[_Entry] = []

    def _get(self, *args: Any, **kwargs: Any) -> Any:
        return self._original._get(*args, **kwargs)

    @property
    def _cache(self) -> dict[str, dict[str, _Entry]]:
        with self._original._lock:
            return {kind: dict(entries) for kind, entries in self._original._cache.items()}

    def remove_at(self, at_item: _Entry) -> None:
        self.expired.append(at_item)
