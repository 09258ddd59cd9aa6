"""MSAL's token cache, kept in a persistence that several processes share.

Locks are always taken in this order: the lock file of a single flight (``<lock>.refresh``), the
mutex of the transaction, the lock file, MSAL's ``_lock``.  Only the first may be held while a
program uses the network, so nobody may ask for it inside the others.  Nothing here waits for a
lock file, or for the disk, while it holds ``_lock``.  msal-extensions 1.3.1 did, and could wait
for itself.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import logging
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msal

from ._inherited import SEARCH, SERIALIZE, Snapshot, is_method
from ._paths import expand, make_directories
from ._pending import Change, Event, Rule, entry_in
from ._pruning import LONGEST_UNUSED, prunable, seconds_unused
from ._references import ARGUMENT
from ._reloading import Reloading, may_pass
from ._serializer import is_same, refuse_unless_json
from ._store import Lease, Store
from ._store_of import StoreMemo
from ._text import Verbatim, encode
from ._timeouts import seconds_of
from ._transactions import Encoded, Steps, Transaction, Transactions, refuse_second_task
from .changes import CacheChanges
from .errors import (
    LockError,
    LockLost,
    LockOrderError,
    PersistenceDamaged,
    PersistenceNotFound,
    StoreChanged,
)
from .lock import DEFAULT_TIMEOUT, CrossPlatLock
from .persistence import BasePersistence

__all__ = ["CrossPlatLock", "LockError", "PersistedTokenCache", "PersistenceNotFound"]

logger = logging.getLogger(__name__)

_mkdir_p = make_directories  # a name of 1.3.1, which programs patch

#: How often prune() begins anew, when others change the cache in spite of the lock.
_PRUNE_TRIES = 10

#: Seconds to wait for another's flight.  A slow refresh with its retries takes less.
FLIGHT_TIMEOUT = 60.0

_Entry = dict[str, Any]


class _Removing(threading.local):
    """The entry that a cache, and not its program, is just removing in this thread."""

    entry: _Entry | None = None
    rule = Rule.BY_ITSELF


_removing = _Removing()


class PersistedTokenCache(msal.SerializableTokenCache):  # type: ignore[misc]
    """A token cache backed by a persistence, shared between threads and processes.

    Each object has a copy of the content in memory.  A search reloads the copy when the
    persistence has changed.  A change locks out other processes, reloads, changes and saves.

    :param persistence: Any persistence, also of your own class.
    :param lock_location: The lock file; default: the persistence's location + ``.lockfile``.
    :param on_unreadable: What to do when the content could be read and is proven to be damaged.
        "raise": as in 1.3.1.  "quarantine": keep the content as
        ``<location>.damaged-<time>-<random>`` (a keyring's content in the keyring), log a
        warning, and start empty.  A content that cannot be read or decrypted may be undamaged,
        so that is raised in both cases.
    :raises PersistenceError: when there is no home directory for a ``~`` in ``lock_location``, or
        the directory of the lock file cannot be made.
    """

    # Programs derive from this class, and have helpers named _save or _commit.  So names that
    # belong to this class alone begin with two underscores, which Python mangles.  Names with one
    # underscore are those of 1.3.1, which programs read, set and override.

    _cache: Any  # {kind: {key: entry}}, if the content is not damaged
    _lock: Any  # MSAL's, an RLock

    def __init__(
        self,
        persistence: BasePersistence,
        lock_location: str | os.PathLike[str] | None = None,
        *,
        on_unreadable: Literal["raise", "quarantine"] = "raise",
    ) -> None:
        if on_unreadable not in ("raise", "quarantine"):
            raise ValueError(ARGUMENT.after('on_unreadable must be "raise" or "quarantine"'))
        super().__init__()
        self._persistence = persistence
        self._lock_location = (
            expand(os.fsdecode(lock_location))
            if lock_location
            else persistence.get_location() + ".lockfile"
        )
        _mkdir_p(os.path.dirname(self._lock_location))
        self.is_encrypted = persistence.is_encrypted
        self.__keeps_damaged = on_unreadable == "raise"
        self.__begin()
        # Imports the modules of the store now.  A signal handler that uses the cache could come in
        # the middle of a later import.
        self.__store()

    def __begin(self) -> None:
        """The parts that belong to one object, at their beginning: nothing is known of the store,
        nothing is held or pending."""
        self._last_sync: float = 0
        self.__reloading = Reloading(self.__keeps_damaged)
        self.__memo = StoreMemo()
        self.__transactions = Transactions(self.__reloading)
        _caches[id(self)] = self

    def __copy__(self) -> PersistedTokenCache:
        """Another cache of the same persistence.  Pending changes stay with this object."""
        copied: PersistedTokenCache = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        copied.__begin()
        return copied

    def __store(self) -> Store:
        return self.__memo.of(self._persistence, self._lock_location)

    # ---- changing ----

    @contextlib.contextmanager
    def single_flight(self, timeout: float | None = None) -> Iterator[PersistedTokenCache]:
        """Lets one thread of all processes at a time renew an expired token::

            with cache.single_flight():
                result = app.acquire_token_silent(scopes, account)

        The others wait.  Then they find the new token and need no network.  Meanwhile the cache
        itself is free: other threads and programs search and save.  A flight inside another
        flight of the same thread is part of it.

        :param timeout: Seconds to wait for others; None means 60, longer than a slow refresh
            takes.  0 tries once, a negative number waits for ever.
        :raises LockError: when the time is up.  A program may then refresh without the flight.
        :raises LockOrderError: inside a transaction, which would last as long as the network
            call; and at once when another asyncio task of this thread is inside (see
            docs/asyncio.md).
        """
        store = self.__store()
        refuse_second_task(store.flight_lock)
        if (
            self.__transactions.own() is not None
            or store.commit_lock.is_mine()
            or self._lock._is_owned()
        ):
            raise LockOrderError(
                "single_flight() while the cache is locked would keep everybody out until the"
                " network answers; begin the transaction inside the flight instead"
            )
        seconds = FLIGHT_TIMEOUT if timeout is None else seconds_of(timeout)
        store.prepare()
        lease = store.flight_lock.acquire(seconds)
        try:
            self.__reload_for_certain()
            yield self
        finally:
            lease.release()

    def transaction(
        self, timeout: float | None = None
    ) -> contextlib.AbstractContextManager[PersistedTokenCache]:
        """Takes the lock once and reloads; saves once at the end, if anything was changed.

        Changes are saved even when the body raises, because a refresh token that was received
        must not be lost.  Changes that could not be saved stay in memory, and are saved with the
        next change, unless others have changed the same entries by then.  Do not use the network
        inside: other libraries wait for the lock for 5 seconds only.  A transaction inside another
        is part of it.

        :param timeout: Seconds to wait for the lock; None means the default of 5.
        :raises LockError: when the time is up, before the body runs.  Also at the end, when others
            kept deleting the lock file; then the changes stay in memory.
        :raises LockLost: at the end, when another program removed the lock file meanwhile and
            changed an entry that was changed in here.  That entry keeps the other program's
            values, because yours may depend on what you read before.  Everything else is saved.
            Do the transaction again.  Two equal changes are no conflict.
        :raises LockOrderError: at once, when another asyncio task of this thread is inside.
        """
        seconds = DEFAULT_TIMEOUT if timeout is None else seconds_of(timeout)
        return self.__explicit_transaction(seconds)

    @contextlib.contextmanager
    def __explicit_transaction(self, seconds: float) -> Iterator[PersistedTokenCache]:
        refuse_second_task(self.__store().commit_lock)
        with self.__in_transaction(seconds, Rule.IF_UNCHANGED):
            yield self

    def __in_transaction(
        self, seconds: float = DEFAULT_TIMEOUT, rule: Rule = Rule.ALWAYS
    ) -> contextlib.AbstractContextManager[Transaction]:
        """A transaction.  Not ``self.transaction()``: a subclass may have a method of that name."""
        own = self.__transactions.own()
        if own is not None:
            return contextlib.nullcontext(own)
        steps = Steps(self.__store(), self.__reload_for_certain, self.__encode, time.time)
        return self.__transactions.inside(self, steps, rule, seconds)

    def __around_changes(
        self, seconds: float = DEFAULT_TIMEOUT
    ) -> contextlib.AbstractContextManager[Transaction | None]:
        """A transaction, or nothing around a program's own modify(), which may take the lock file
        itself, even with another library."""
        if is_method(self.modify, _MODIFY):
            return self.__in_transaction(seconds)
        return contextlib.nullcontext()

    def __encode(self) -> Encoded:
        is_ours = self.__encodes_by_ours()
        return Encoded(self.__encoded() if is_ours else _bytes_of(self.serialize()), is_ours)

    def __encodes_by_ours(self) -> bool:
        """Whether our own encoder is used, and not a program's own serialize()."""
        return is_method(self.serialize, _SERIALIZE) and is_method(super().serialize, SERIALIZE)

    def __encoded(self) -> bytes:
        with self._lock:
            self.has_state_changed = False
            return self.__reloading.serializer.encode(self._cache)

    def serialize(self) -> str:
        """The cache as compact JSON.  MSAL's indentation makes json.dumps() many times slower."""
        inherited = super().serialize
        if not is_method(inherited, SERIALIZE):
            replaced: str = inherited()
            return replaced
        return self.__encoded().decode("ascii")

    def modify(
        self,
        credential_type: str,
        old_entry: _Entry,
        new_key_value_pairs: _Entry | None = None,
    ) -> None:
        """Changes one entry and saves.  Without new values it removes the entry.

        :raises TypeError: (or ValueError) when JSON cannot hold the entry.  Nothing was changed.
        :raises LockError: when the lock was not free within 5 seconds.  Nothing was changed.  Also
            when others kept deleting the lock file; then it is as after a PersistenceError.
        :raises PersistenceError: when the change could not be saved.  Then it stays in memory, and
            is saved with the next change, unless others have changed the same entry by then.
        """
        secret: dict[str, Any] = {"old": old_entry, "new": new_key_value_pairs}
        del old_entry, new_key_value_pairs  # see _text.py for the name "secret"
        with self.__in_transaction() as transaction:
            key = self.key_makers[credential_type](**secret["old"])
            with self._lock:  # or a reload could come between the change and its record
                if secret["old"] is _removing.entry and not is_same(
                    secret["old"], entry_in(self._cache, credential_type, key)
                ):
                    return  # others have renewed it meanwhile
                change = self.__record(transaction, credential_type, key, secret)
                try:
                    # A keyword argument, as in 1.3.1: a program's mock may check that.
                    super().modify(
                        credential_type, secret["old"], new_key_value_pairs=secret["new"]
                    )
                except Exception:
                    self.__reloading.pending.withdraw(transaction, change)
                    raise
                change.note_memory(entry_in(self._cache, credential_type, key))

    def __record(self, transaction: Transaction, kind: str, key: str, secret: Any) -> Change:
        """Records a change before memory is touched, so that a signal handler finds it."""
        rule = transaction.rule
        if not secret["new"]:
            rule = _removing.rule if secret["old"] is _removing.entry else Rule.ALWAYS
        secret = dict(secret["old"], **secret["new"]) if secret["new"] else None
        if secret is not None and self.__encodes_by_ours():
            refuse_unless_json(kind, secret)
        change = Change(kind, key, rule, secret)
        before = entry_in(self._cache, kind, key)
        change.is_news = secret != before or not is_same(secret, before)
        del before
        self.__reloading.pending.record(transaction, change)
        return change

    def add(self, event: dict[str, Any], **kwargs: Any) -> None:
        """Stores everything that a sign-in returned, in one transaction.

        :raises LockError: when the lock was not free within 5 seconds; see ``modify``.
        :raises PersistenceError: when it could not be saved; see ``modify``.
        """
        secret = event
        del event
        # Before MSAL takes its own lock and calls modify().
        with self.__around_changes() as transaction, _one_event(transaction):
            super().add(secret, **kwargs)
        self.has_state_changed = True  # as after MSAL's own add(), although it is saved

    def prune(
        self, older_than: datetime.timedelta | float = LONGEST_UNUSED
    ) -> dict[str, list[_Entry]]:
        """Removes entries that nobody has used for long.

        These are refresh tokens that were received longer ago than ``older_than``, and then the
        accounts, ID tokens and app metadata that no remaining token needs.  A refresh token tells
        when it was received, and MSAL exchanges it at each use.  Tokens of azure-identity's
        on-behalf-of flow serve one request; they go after two days.  Searches remove expired
        access tokens.  Nothing prunes by itself.

        :param older_than: A timedelta, or seconds; default: 90 days.
        :returns: The removed entries, without their secrets, by kind of credential.
        :raises LockError: when the lock was not free within 5 seconds.
        :raises LockLost: when others have changed the cache during every attempt.
        :raises PersistenceError: when it could not be saved.
        """
        oldest = seconds_unused(older_than)
        for _ in range(_PRUNE_TRIES):
            with contextlib.suppress(LockLost):  # others have changed the entries: look anew
                return self.__prune(oldest)
        return self.__prune(oldest)

    def __prune(self, oldest: float) -> dict[str, list[_Entry]]:
        removed: dict[str, list[_Entry]] = {}
        with self.__around_changes() as transaction:
            if transaction is None:
                self.__reload_patiently()
            for kind, _, secret in prunable(self._cache, oldest, time.time(), self.key_makers):
                self.__remove(functools.partial(self.modify, kind), secret, Rule.NEVER)
                told = {name: value for name, value in secret.items() if name != "secret"}
                removed.setdefault(kind, []).append(told)
        return removed

    def __remove(self, remove: Callable[[_Entry], Any], secret: _Entry, rule: Rule) -> None:
        """A removal by the cache itself, and not by the program: see ``Rule``."""
        before = _removing.entry, _removing.rule
        _removing.entry, _removing.rule = secret, rule
        try:
            remove(secret)
        finally:
            _removing.entry, _removing.rule = before

    # ---- looking up ----

    def search(
        self, credential_type: str, target: Any = None, query: Any = None, **kwargs: Any
    ) -> Iterator[_Entry]:
        """The matching entries; see ``msal.TokenCache.search``.

        Unlike with MSAL's cache, the iteration holds no lock, so the loop may change the cache.
        """
        self.__reload_patiently()
        found: Iterator[_Entry]
        inherited = super().search
        if is_method(inherited, SEARCH):
            found = SEARCH(Snapshot(self, self.__purge), credential_type, target, query, **kwargs)
            return found
        # Only the given arguments, as in 1.3.1: a program's mock may check that.
        if target is not None:
            kwargs["target"] = target
        if query is not None:
            kwargs["query"] = query
        found = inherited(credential_type, **kwargs)
        return found

    def __purge(self, secret: list[_Entry]) -> None:
        """Removes expired access tokens, unless a search would have to wait for that."""
        if self._lock._is_owned():  # a thread that holds it must not ask for the lock file
            return
        try:
            with self.__around_changes(0):
                while secret:
                    self.__purge_entry(secret.pop())
        except (LockError, OSError) as error:
            logger.debug("Expired tokens are left to a later search: %s", type(error).__name__)

    def __purge_entry(self, secret: _Entry) -> None:
        kind = self.CredentialType.ACCESS_TOKEN
        # Others may have renewed it meanwhile.
        if is_same(entry_in(self._cache, kind, self.key_makers[kind](**secret)), secret):
            self.__remove(self.remove_at, secret, Rule.BY_ITSELF)

    # ---- following the store ----

    def _reload_if_necessary(self) -> None:
        """Reloads from the persistence, if that may hold something else than memory.

        Every search and every change calls this.  azure-cli overrides it.
        """
        self.__reloading.if_necessary(self, self.__store())

    def __reload_for_certain(self) -> None:
        """Reloads, and leaves memory as the store was at a moment during this call."""
        with self.__reloading.in_doubt():
            self.__reload_patiently()

    def __reload_patiently(self) -> None:
        try:
            return self._reload_if_necessary()
        except Exception as error:
            if not may_pass(error):
                raise
        try:
            self.__reloading.after_waiting(self)
        except PersistenceDamaged as damage:
            if self.__keeps_damaged:
                raise
            self.__quarantine(damage)

    def __quarantine(self, damage: PersistenceDamaged) -> None:
        """Puts the damaged content aside, under the lock, and starts empty."""
        if self._lock._is_owned():  # a thread that holds it must not ask for the lock file
            raise damage
        transaction = self.__transactions.own()
        if transaction is not None:
            self.__put_aside(damage, transaction.lease)
            return
        try:
            # The transaction reads again as it begins.  If the content is still damaged then, that
            # comes here a second time, now inside the transaction.
            with self.__in_transaction():
                pass
        except LockError as error:
            raise damage from error

    def __put_aside(self, damage: PersistenceDamaged, lease: Lease | None) -> None:
        store = self.__store()
        if lease is None or not lease.still_held():
            raise damage
        when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        try:
            where = store.copy_aside(f".damaged-{when}-{secrets.token_hex(8)}")
            store.replace(b"{}", lease=lease, expected=self.__reloading.damaged)
        except NotImplementedError:  # a program's own persistence
            raise damage from None
        except (LockLost, StoreChanged) as error:
            raise damage from error
        self._last_sync = 0
        self._reload_if_necessary()
        logger.warning("The token cache was damaged and is empty now; it is kept in %s", where)

    def changes(self) -> CacheChanges:
        """Tells when another process, or another cache object, changes this cache.

        ``for _ in cache.changes(): ...`` waits in the thread that runs it.  Its body runs once for
        each change; saves of this object do not count.  Use it in a ``with``, or close it from
        another thread.
        """
        return CacheChanges(self.__store, self.__reloading.freshness, self.__differs)

    def __differs(self) -> bool:
        return self.__reloading.differs(self, self.__store())

    def __after_fork_in_child(self) -> None:
        """In a child made by fork nothing is held and nothing is pending: both stay with the
        parent."""
        self.__transactions.start_anew()
        if not self._lock._is_owned():
            self._lock = threading.RLock()
        self.__reloading.after_fork_in_child(self)

    @staticmethod
    def __after_fork() -> None:
        for cache in list(_caches.values()):
            cache.__after_fork_in_child()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=__after_fork)


_SERIALIZE, _MODIFY = PersistedTokenCache.serialize, PersistedTokenCache.modify

#: All caches, for the handler after a fork.
_caches: weakref.WeakValueDictionary[int, PersistedTokenCache] = weakref.WeakValueDictionary()


def _bytes_of(secret: Any) -> bytes:
    """The bytes for what a program's own serialize() returned."""
    return Verbatim(secret) if isinstance(secret, (bytes, bytearray)) else encode(secret)


@contextlib.contextmanager
def _one_event(transaction: Transaction | None) -> Iterator[None]:
    """Makes one event of all changes in the body.  Without a transaction each is an event."""
    if transaction is None or transaction.event is not None:
        yield
        return
    try:
        transaction.event = Event(transaction)
        yield
    finally:
        transaction.event = None
