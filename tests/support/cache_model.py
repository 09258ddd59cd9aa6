"""A model of the cache: which entries must be stored, and which ones each cache must show.

It states the rules of the cache in the simplest way, and uses MSAL, but nothing of this library.
An entry is its JSON with sorted names: so 1, True and 1.0 differ, and the order of names does not
matter.  A change has the form of the order that cache_actor.py obeys.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msal

Key = tuple[str, str]  # the kind, and the key that MSAL makes
Entries = dict[Key, str]
Order = dict[str, Any]

#: The time of each sign-in.  Nothing ever expires, and the same sign-in makes the same entries.
NOW = 4_000_000_000


class Change(NamedTuple):
    key: Key
    #: The entry that was replaced; None: there was none.
    before: str | None
    #: The new entry; None: it was removed.
    after: str | None


#: The changes of one call.
Event = list[Change]


def encoded(entry: Any) -> str:
    return json.dumps(entry, sort_keys=True)


def flattened(content: str) -> Entries:
    """The entries of a stored content; of no content, none."""
    kinds = json.loads(content) if content else {}
    return {
        (kind, key): encoded(entry)
        for kind, entries in kinds.items()
        for key, entry in entries.items()
    }


def _is_idle(event: Event) -> bool:
    return all(before == after for _, before, after in event)


def key_of(order: Order) -> Key:
    """The key of a change of one entry."""
    key: str = _Recorder().key_makers[order["kind"]](**order["entry"])
    return order["kind"], key


class _Recorder(msal.TokenCache):  # type: ignore[misc]
    """MSAL's cache, which notes each change."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: list[tuple[Key, str | None]] = []

    def modify(self, kind: str, entry: dict[str, Any], new: Any = None) -> None:
        after = encoded({**entry, **new}) if new else None
        self.changed.append(((kind, self.key_makers[kind](**entry)), after))


class Stored:
    """The content that all caches share."""

    def __init__(self) -> None:
        self.entries: Entries = {}
        #: Counts the saves.
        self.version = 0


class CacheModel:
    """One cache object."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self.memory: Entries = {}
        #: The stored entries at the last look.
        self._loaded: Entries = {}
        #: The changes of calls that raised.
        self.waiting: list[Event] = []
        #: The changes of the call that has not returned.
        self.live: list[Event] = []
        #: Is the call a transaction of the program?
        self.is_explicit = False
        #: Did such a transaction lose a change?
        self.is_gone = False
        #: Did somebody take the lock away since the call began?
        self.is_robbed = False
        #: Counts the dropped events that would have changed something, and those that would not.
        self.dropped = self.dropped_idle = 0
        #: Counts the lines in the log of the real cache.
        self.lines = 0
        self.seen = 0
        #: Has another object of the same thread saved?  Then this one looks before it saves, even
        #: when it is about to store the same content.
        self.has_sibling = False

    def begin(self, is_explicit: bool) -> None:
        """A call begins: it has the lock."""
        assert not self.live
        self.is_explicit, self.is_gone, self.is_robbed = is_explicit, False, False
        self.look()

    def look(self) -> None:
        """Memory becomes what is stored, with the waiting changes that still apply."""
        self._loaded, self.seen = dict(self._stored.entries), self._stored.version
        self.has_sibling = False
        self.memory = dict(self._loaded)
        self.waiting = [event for event in self.waiting if self._still_waits(event)]
        self.live = [self._apply_live(event) for event in self.live]

    def _still_waits(self, event: Event) -> bool:
        """Applies the event if all of it fits.  False, so that it waits no longer: it was dropped,
        or its result is stored already."""
        if any(self.memory.get(key) not in (before, after) for key, before, after in event):
            if _is_idle(event):
                self.dropped_idle += 1
            else:
                self.dropped += 1
            return False
        is_stored = all(self.memory.get(key) == after for key, _, after in event)
        for change in event:
            self._put(change.key, change.after)
        return not is_stored or _is_idle(event)

    def _apply_live(self, event: Event) -> Event:
        """Applies the part of an event that still changes something; it now replaces what is stored
        now."""
        left = []
        for key, before, after in event:
            stored = self.memory.get(key)
            if self.is_explicit and after is not None and stored not in (before, after):
                self.is_gone = True
                continue
            left.append(Change(key, stored, after))
            self._put(key, after)
        return left

    def _put(self, key: Key, after: str | None) -> None:
        if after is None:
            self.memory.pop(key, None)
        else:
            self.memory[key] = after

    def change(self, order: Order) -> None:
        """A change inside a call, in the form of the actor's order."""
        recorder = _Recorder()
        if order["do"] == "add":
            recorder.add(order["event"], now=NOW)
        elif order["do"] == "in place":
            found = self.memory.get(key_of(order))
            entry = json.loads(found) if found else order["entry"]
            recorder.modify(order["kind"], entry, order["new"])
        else:
            recorder.modify(order["kind"], order["entry"], order["new"])
        event = []
        for key, after in recorder.changed:
            event.append(Change(key, self.memory.get(key), after))
            self._put(key, after)
        self.live.append(event)

    def is_pending(self, key: Key) -> bool:
        """Has the entry been changed, and is the change not stored yet?"""
        return any(change.key == key for event in self.waiting + self.live for change in event)

    def save(self, content: Entries, changes: int) -> None:
        """Memory was stored.

        :param changes: How many of the live changes the stored content has; the others came later.
        """
        later = self.live[changes:]
        self.live = self.live[:changes]
        self.look()
        assert content == self.memory, f"stored {content}, expected {self.memory}"
        self._stored.entries = content
        self._stored.version += 1
        self.waiting, self.live = [], later
        self.look()

    def end(self, is_saved: bool) -> None:
        """The call has returned or raised."""
        if is_saved:
            self.waiting = []
        else:
            for event in self.live:
                self._wait(event)
        self.live, self.is_explicit = [], False

    def _wait(self, event: Event) -> None:
        """When several events in a row change the same entries, only the last one stays.  It
        replaces what would be there without them."""
        places = {change.key for change in event}
        earlier = [each for each in self.waiting if places & {change.key for change in each}]
        if earlier and {change.key for change in earlier[-1]} == places:
            self.waiting.remove(earlier[-1])
            there: dict[Key, str | None] = dict(self._loaded.items())
            for each in self.waiting:
                there.update((change.key, change.after) for change in each)
            event = [change._replace(before=there.get(change.key)) for change in event]
        if event:
            self.waiting.append(event)

    def of(self, kind: str) -> list[str]:
        """The entries that a search of this kind shows."""
        return sorted(entry for key, entry in self.memory.items() if key[0] == kind)
