"""What must be stored, and what each cache must show: the rules of the cache in the simplest way.

It knows MSAL, and nothing of this library.  An entry is its JSON with sorted names: so 1, True and
1.0 differ, and the order of names does not matter.  A change is told as the dictionary that
cache_actor.py obeys.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msal

Key = tuple[str, str]  # the kind, and the key that MSAL makes
Entries = dict[Key, str]
Order = dict[str, Any]

#: The clock of each sign-in: nothing ever expires, and the same sign-in makes the same entries.
NOW = 4_000_000_000


class Change(NamedTuple):
    key: Key
    #: The entry that it replaced; None: there was none.
    before: str | None
    #: None: a removal.
    after: str | None


#: What one call changed.
Event = list[Change]


def encoded(entry: Any) -> str:
    return json.dumps(entry, sort_keys=True)


def flattened(content: str) -> Entries:
    """The entries of a content that is stored; of nothing, none."""
    kinds = json.loads(content) if content else {}
    return {
        (kind, key): encoded(entry)
        for kind, entries in kinds.items()
        for key, entry in entries.items()
    }


def _is_idle(event: Event) -> bool:
    return all(before == after for _, before, after in event)


def key_of(order: Order) -> Key:
    """Of a change of one entry."""
    key: str = _Recorder().key_makers[order["kind"]](**order["entry"])
    return order["kind"], key


class _Recorder(msal.TokenCache):  # type: ignore[misc]
    """MSAL's cache, which notes what is changed."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: list[tuple[Key, str | None]] = []

    def modify(self, kind: str, entry: dict[str, Any], new: Any = None) -> None:
        after = encoded({**entry, **new}) if new else None
        self.changed.append(((kind, self.key_makers[kind](**entry)), after))


class Stored:
    """What all caches share."""

    def __init__(self) -> None:
        self.entries: Entries = {}
        #: Counts what was saved.
        self.version = 0


class CacheModel:
    """One cache object."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self.memory: Entries = {}
        #: What was stored when it looked.
        self._loaded: Entries = {}
        #: Of calls that raised.
        self.waiting: list[Event] = []
        #: Of the call that has not returned.
        self.live: list[Event] = []
        #: Is the call a transaction of the program's?
        self.is_explicit = False
        #: Did such a transaction lose a change?
        self.is_gone = False
        #: Did somebody take the lock away since the call has it?
        self.is_robbed = False
        #: Counts the events that were dropped; and those that would have changed nothing.
        self.dropped = self.dropped_idle = 0
        #: Counts what the real cache has logged.
        self.lines = 0
        self.seen = 0
        #: Has another object of its thread saved?  Then it looks before it saves, although it may
        #: be about to store the same.
        self.has_sibling = False

    def begin(self, is_explicit: bool) -> None:
        """A call has the lock."""
        assert not self.live
        self.is_explicit, self.is_gone, self.is_robbed = is_explicit, False, False
        self.look()

    def look(self) -> None:
        """Memory follows what is stored."""
        self._loaded, self.seen = dict(self._stored.entries), self._stored.version
        self.has_sibling = False
        self.memory = dict(self._loaded)
        self.waiting = [event for event in self.waiting if self._still_waits(event)]
        self.live = [self._apply_live(event) for event in self.live]

    def _still_waits(self, event: Event) -> bool:
        """Applies all of it, where all of it fits; it waits no more when it is dropped, or when
        somebody has stored just that."""
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
        """What is left of it.  It now replaces what is stored now."""
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
        """A change inside a call, as the actor is told to make it."""
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
        """Has the entry been changed, and is that not stored yet?"""
        return any(change.key == key for event in self.waiting + self.live for change in event)

    def save(self, content: Entries, changes: int) -> None:
        """This was stored.

        :param changes: How many of the live changes it has; the others came later.
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
        """The call has returned, or raised."""
        if is_saved:
            self.waiting = []
        else:
            for event in self.live:
                self._wait(event)
        self.live, self.is_explicit = [], False

    def _wait(self, event: Event) -> None:
        """Of several events in a row that change the same entries one is left, the last one.  It
        replaces what is there without them."""
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
        """What a search of this kind shows."""
        return sorted(entry for key, entry in self.memory.items() if key[0] == kind)
