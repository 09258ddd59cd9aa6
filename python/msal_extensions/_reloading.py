"""The half of PersistedTokenCache that reads: memory follows the persistence.

What memory has is known by a *stamp* (device, inode, size and time of a file; only the time for
a keyring or a persistence of your own), compared for difference.  Different stamps are
different contents.  Equal ones are equal contents only once the stamp is *settled*: clocks tick
(every 1 to 10 ms in a kernel, 2 s on FAT) and file systems use inode numbers again, so what is
written within the same tick can look the same.  git calls it "racily clean".  Such a write
comes at most one tick after the stamp was first seen.  So a content that is read later than
that, and still has the stamp, is the one that belongs to it.

That the stamp is old when it is *trusted* would not do: a write in the tick of our own save
looks the same for ever.  And no clock but this machine's monotonic one takes part, so it does
not matter whose clock set the file's time, nor whether the lock file is on the same disk.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any

import msal

from ._damage import parse_leniently, parse_strictly
from .errors import PersistenceDamaged, PersistenceDecryptionError, PersistenceNotFound
from .lock import this_thread
from .persistence import BasePersistence, FilePersistence, Stamp, _decode

#: Seconds between reads of what cannot be parsed: 1.3.1 and .NET write in place, and we may
#: have looked in the middle.  After the last, what is there is believed.
_REREAD_AFTER = (0.01, 0.02, 0.05, 0.1, 0.3, 0.5)
#: The same, for a file that is empty although nobody holds the lock.
_REREAD_EMPTY_AFTER = _REREAD_AFTER[:3]

#: Seconds: how old a stamp is when its content is read again, if it is looked at at all: after
#: a tick of any kernel, and after one of any file system.  Then it is settled.
_TICKS = (0.05, 2.0)

#: How often a reload starts over because another thread came in between.
_RELOAD_TRIES = 10

_DESERIALIZE = msal.SerializableTokenCache.deserialize


class ReloadingCache(msal.SerializableTokenCache):  # type: ignore[misc]
    """Reloads from a persistence; see the module's docstring."""

    _cache: Any  # {kind: {key: entry}}, if the persistence is not damaged

    def __init__(self, persistence: BasePersistence, on_unreadable: str) -> None:
        if on_unreadable not in ("raise", "quarantine"):
            raise ValueError('on_unreadable must be "raise" or "quarantine"')
        super().__init__()
        self._persistence = persistence
        self._on_unreadable = on_unreadable
        # When memory and persistence were the same; 0 (programs set it) forces a reload.
        self._last_sync: float = 0
        self._stamp: Stamp | None = None  # of what was loaded or saved last
        self._content: str | bytes | None = None  # that itself, or None
        self._first_seen = 0.0  # when that stamp was; monotonic time, like the next
        self._read_again_at = 0.0  # infinite when the stamp is settled
        self._generation = 0  # of what is in memory; counts reloads and saves
        # For CacheChanges, which must tell others' writes from one's own:
        self._loaded_stamp: Stamp | None = None  # of what was loaded last and not saved here
        self._saving = False  # the persistence may have what _stamp does not tell yet
        # Threads whose reload must not be content with a stamp that is not settled.
        self._doubters: set[object] = set()
        # What modify() changed in memory and is not saved yet; None for an entry removed.
        self._pending: dict[tuple[str, str], dict[str, Any] | None] = {}

    def _reload_for_certain(self) -> None:
        """Reloads; memory then is what the persistence had at a moment during this call."""
        me = this_thread()
        try:
            self._doubters.add(me)
            self._reload_patiently()
        finally:
            self._doubters.discard(me)

    def _reload_patiently(self) -> None:
        """Reloads; what cannot be parsed is read again before it is believed."""
        try:
            return self._reload_if_necessary()
        except (ValueError, PersistenceDecryptionError):
            pass
        for delay in _REREAD_AFTER[:-1]:
            time.sleep(delay)
            with contextlib.suppress(ValueError, PersistenceDecryptionError):
                return self._reload_if_necessary()
        time.sleep(_REREAD_AFTER[-1])
        try:
            return self._reload_if_necessary()
        except PersistenceDamaged as damage:
            if self._on_unreadable == "raise":
                raise
            self._quarantine(damage)

    def _reload_if_necessary(self) -> None:
        """Reloads from the persistence, if it may hold something else than memory does.

        All that looks up or changes comes through here; azure-cli overrides it.
        """
        try:
            if self._is_current():
                return
            for _ in range(_RELOAD_TRIES):
                if self._reload() or self._is_current():
                    return
            # Other threads came in between each time; keep them out for once.
            with self._lock:
                self._reload()
        except PersistenceNotFound:  # nothing was saved yet, or it was deleted
            self._stamp = self._content = None

    def _is_current(self) -> bool:
        stamp = self._current_stamp()
        if stamp != self._stamp or stamp is None or not self._last_sync:
            return False
        if self._doubters and this_thread() in self._doubters:
            return self._read_again_at == math.inf and self._plain_file() is not None
        return self._read_again_at == math.inf or time.monotonic() < self._read_again_at

    def _reload(self) -> bool:
        """False when another thread reloaded or saved meanwhile: what was read may be older."""
        generation, forced = self._generation, not self._last_sync
        read_at = time.monotonic()
        secret: Any  # the content; later also what it was parsed to
        secret, stamp = self._load()
        same = not forced and stamp is not None and secret == self._content
        # Parsed while other threads may go on; not if a subclass wants to parse for itself.
        own = type(self).deserialize is not _DESERIALIZE
        secret = secret, None if same or own else self._parse(secret)
        with self._lock:
            if self._saving:
                return True  # memory has what is being saved; what was read may be half of it
            if generation != self._generation:
                return False
            if not same:
                if own:
                    self.deserialize(self._text(secret[0]))
                else:
                    self._cache, self.has_state_changed = secret[1], False
                self._apply_pending()
                self._forget_removed()
            self._remember(stamp, secret[0], read_at)
        return True

    def _apply_pending(self) -> None:
        for (kind, key), secret in self._pending.items():
            if secret is None:
                self._cache.get(kind, {}).pop(key, None)
            else:
                self._cache.setdefault(kind, {})[key] = secret

    def _remember(self, stamp: Stamp | None, secret: str | bytes, read_at: float | None) -> None:
        """Memory is now what the persistence has.  Under ``_lock``.

        :param read_at: When reading it began, in monotonic time; None when it was written.
        """
        self._read_again_at = 0  # until all is set: others look at it without the lock
        if read_at is not None and stamp != self._stamp:
            self._loaded_stamp = stamp
        if read_at is None or stamp != self._stamp:
            self._first_seen = time.monotonic()  # not earlier than the stamp was looked at
        self._stamp, self._content = stamp, secret
        age = -1 if read_at is None else read_at - self._first_seen
        again = (self._first_seen + tick for tick in _TICKS if age < tick)
        self._read_again_at = next(again, math.inf)
        self._last_sync = time.time()
        self._generation += 1

    # ---- the persistence ----

    def _plain_file(self) -> FilePersistence | None:
        """The persistence if it is a file whose stamp tells all: not a keyring's signal file."""
        persistence = self._persistence
        if isinstance(persistence, FilePersistence) and persistence._is_plain():
            return persistence
        return None

    def _current_stamp(self) -> Stamp | None:
        """None when it cannot tell one content from another."""
        persistence = self._persistence
        # Each search comes here, and isinstance() is slow for abstract classes.
        ask = getattr(type(persistence), "_stamp", None)
        stamp: Stamp = persistence.time_last_modified() if ask is None else ask(persistence)
        return None if isinstance(stamp, float) and not math.isfinite(stamp) else stamp

    def _load(self) -> tuple[str | bytes, Stamp | None]:
        """What is stored, and a stamp that is not younger.

        An empty file is read again, longer while somebody holds the lock: who writes in place
        empties it first.
        """
        for delay in _REREAD_AFTER:
            secret, stamp = self._load_once()
            if secret or secret == self._content:
                return secret, stamp
            if delay not in _REREAD_EMPTY_AFTER and not self._others_may_write():
                return secret, stamp
            time.sleep(delay)
        return self._load_once()

    def _load_once(self) -> tuple[str | bytes, Stamp | None]:
        plain = self._plain_file()
        if plain is not None:
            return plain._read_and_stamp()
        stamp = self._current_stamp()  # before the content: a change in between shows
        return self._persistence.load(), stamp

    def _parse(self, secret: str | bytes) -> Any:
        parse = parse_leniently if self._on_unreadable == "raise" else parse_strictly
        return parse(self._text(secret), self._persistence.get_location())

    def _text(self, secret: str | bytes) -> str:
        if isinstance(secret, bytes):
            return _decode(secret, self._persistence.get_location())
        return secret

    # ---- what needs the lock, or the serializer; see PersistedTokenCache ----

    def _forget_removed(self) -> None:
        """Drops copies of what is not in memory any more.  Under ``_lock``."""
        raise NotImplementedError

    def _others_may_write(self) -> bool:
        """Whether somebody else holds the lock."""
        raise NotImplementedError

    def _quarantine(self, damage: PersistenceDamaged) -> None:
        """Puts aside what is stored, or raises."""
        raise NotImplementedError
