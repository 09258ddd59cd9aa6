"""Changes that are made in memory and not stored yet, and the rules by which they are repeated.

A *change* sets or removes one entry.  An *event* is everything that one call changed: all changes
of one ``add()``, or of one ``modify()``.  An event is recorded here before memory is touched, and
forgotten when a save that contains it has succeeded.  If other programs store something meanwhile,
memory is read anew and the events are applied to it.  How an event is applied depends on whether
the call that made it still runs.

*Live: the call has not returned.*  Its changes are applied to whatever is stored now, as if they
had come a moment later.  1.3.1 has the same effect, under its lock.  Two kinds of changes look at
the stored entry first (see ``Rule``).

*Waiting: the call raised.*  The program knows that the event was not stored, and may have acted on
that.  The event is applied as a whole, and only if each stored entry is either the entry that the
event replaced or already the new entry.  Otherwise the event is dropped.

*The replaced entry* is looked up only when it is needed, which is seldom: in the content from which
memory was made, just before another content takes its place.  It is not looked up in memory,
because programs change entries in place.

Entries are compared as JSON text, so 1, True and 1.0 are three different values.
"""

from __future__ import annotations

import enum
import logging
import weakref
from typing import Any

from ._serializer import text_of

logger = logging.getLogger(__name__)

#: The text of a replaced entry that nobody knows.  It is no JSON.
_UNKNOWN = ""


class Rule(enum.Enum):
    """When a live change is applied to a content that others have stored."""

    #: Always.  Every removal by a program has this rule: a sign-out leaves no refresh token.
    ALWAYS = enum.auto()
    #: For changes in a ``transaction()`` of the program, which may depend on what it read there:
    #: only if the stored entry is the replaced one or the new one.  Otherwise the program is told.
    IF_UNCHANGED = enum.auto()
    #: For removals of expired tokens by the cache itself: as IF_UNCHANGED, but nobody is told.
    BY_ITSELF = enum.auto()
    #: For ``prune()``, which chose its entries by looking at all others: never; it begins anew.
    NEVER = enum.auto()


class Call:
    """One call or ``with`` of a program; see ``Event``."""

    __slots__ = ("__weakref__", "event", "events", "is_over", "was_overtaken")

    def __init__(self) -> None:
        self.event: Event | None = None  # the event under way, if it has several changes
        self.events: list[Event] = []
        self.is_over = False
        #: Others have changed the same entry, so one of its changes was not applied.
        self.was_overtaken = False


class Change:
    """Sets or removes one entry."""

    __slots__ = ("_secret", "_texts", "is_news", "key", "kind", "rule")

    def __init__(self, kind: str, key: str, rule: Rule, secret: Any) -> None:
        """:param secret: The new entry; None removes it."""
        self.kind = kind
        self.key = key
        self.rule = rule
        #: Whether memory had another entry.  False does not prove that the store has the same.
        self.is_news = True
        self._secret = secret
        #: The texts of the replaced entry and of the new one (None: JSON cannot hold it any more).
        self._texts: tuple[str | None, str | None] | None = None

    @property
    def place(self) -> tuple[str, str]:
        return self.kind, self.key

    @property
    def wanted(self) -> str | None:
        return None if self._texts is None else self._texts[1]

    @property
    def knows_replaced(self) -> bool:
        return self._texts is not None

    def note_memory(self, secret: Any) -> None:
        """Notes the object in memory.  A program may change it in place; then that is saved."""
        self._secret = secret

    def note_replaced(self, secret: str | None) -> None:
        self._texts = secret, text_of(self._secret)

    def forget_replaced(self) -> None:
        """From now on the change replaces the entry that is stored now."""
        self._texts = None

    def fits(self, secret: str | None) -> bool:
        """Whether this is the text of the replaced entry, or of the new one."""
        return self._texts is None or (secret is not None and secret in self._texts)

    def apply_to(self, memory: Any) -> None:
        entries = memory.setdefault(self.kind, {}) if isinstance(memory, dict) else None
        if not isinstance(entries, dict):  # damaged: MSAL stumbles over it
            return
        if self._secret is None:
            entries.pop(self.key, None)
        else:
            entries[self.key] = self._secret


class Event:
    """The changes of one call.  A reload by any thread applies it, at any time."""

    __slots__ = ("_call", "changes")

    def __init__(self, call: Call) -> None:
        self._call = weakref.ref(call)
        self.changes: list[Change] = []

    @property
    def call(self) -> Call | None:
        """The call of a live event; None: the event waits."""
        call = self._call()
        return None if call is None or call.is_over else call

    @property
    def is_of_the_program(self) -> bool:
        return any(change.rule in (Rule.ALWAYS, Rule.IF_UNCHANGED) for change in self.changes)

    def has_places_of(self, other: Event) -> bool:
        """Whether both events change the same entries, and each of these once."""
        mine = {change.place for change in self.changes}
        others = {change.place for change in other.changes}
        return mine == others and len(mine) == len(self.changes) == len(other.changes)


class Pending:
    """All events of one cache that are not stored yet, oldest first.

    A signal handler or a finalizer may change the cache at any line.  So each method goes over
    copies, and each step that changes the collection is a single call.
    """

    def __init__(self) -> None:
        self._events: dict[Event, None] = {}

    def __len__(self) -> int:
        return len(self._events)

    def has_any_of(self, events: list[Event]) -> bool:
        return any(event in self._events for event in events)

    def all(self) -> tuple[Event, ...]:
        return tuple(self._events)

    def record(self, call: Call, change: Change) -> None:
        """Records a change, before memory is touched.

        A change by a signal handler or a finalizer joins the event that it has interrupted.
        """
        event = call.event or Event(call)
        event.changes.append(change)
        if event not in self._events:
            call.events.append(event)
            self._events[event] = None

    def withdraw(self, call: Call, change: Change) -> None:
        """Takes a change back that MSAL has refused; memory is as before."""
        for event in call.events:
            if change in event.changes:
                event.changes.remove(change)
                if not event.changes:
                    self.forget((event,))

    def forget(self, events: tuple[Event, ...]) -> None:
        """Drops events that are stored or given up."""
        for event in events:
            self._events.pop(event, None)

    def clear(self) -> None:
        """Drops all events, in the child of a fork: they belong to the parent."""
        self._events.clear()

    def note_replaced(self, content: Any) -> None:
        """Looks up the replaced entries, before another content takes the place of the old one.

        :param content: The content from which memory was made, parsed; None when it is unknown.
        """
        texts: dict[tuple[str, str], str | None] = {}
        for event in self.all():
            for change in tuple(event.changes):
                if not change.knows_replaced:
                    secret = _UNKNOWN if content is None else _text_in(content, change)
                    change.note_replaced(texts.get(change.place, secret))
                texts[change.place] = change.wanted

    @property
    def has_news(self) -> bool:
        """Whether a change gave memory another entry than it had."""
        return any(change.is_news for event in self.all() for change in tuple(event.changes))

    @property
    def knows_replaced(self) -> bool:
        """Whether all replaced entries are known: note_replaced() would do nothing."""
        return all(change.knows_replaced for event in self.all() for change in tuple(event.changes))

    def apply_to(self, memory: Any) -> None:
        """Applies the events, by the rules, to memory that was just read anew."""
        for event in self.all():
            call = event.call
            if call is None:
                self._apply_waiting(event, memory)
            else:
                self._apply_live(event, call, memory)

    def apply_again_to(self, memory: Any) -> None:
        """Applies all changes again before a save: a handler or Ctrl-C may have come in the middle
        of one."""
        for event in self.all():
            for change in tuple(event.changes):
                change.apply_to(memory)

    def _apply_live(self, event: Event, call: Call, memory: Any) -> None:
        for change in tuple(event.changes):
            if change.rule is Rule.ALWAYS or (
                change.rule is not Rule.NEVER and change.fits(_text_in(memory, change))
            ):
                change.apply_to(memory)
                change.forget_replaced()
            else:
                event.changes.remove(change)
                call.was_overtaken |= change.rule is not Rule.BY_ITSELF

    def _apply_waiting(self, event: Event, memory: Any) -> None:
        texts: dict[tuple[str, str], str | None] = {}
        is_stored = True
        for change in event.changes:
            secret = texts.get(change.place) or _text_in(memory, change)
            if not change.fits(secret) or (change.knows_replaced and change.wanted is None):
                self.forget((event,))
                kinds = sorted({change.kind for change in event.changes})
                logger.info(
                    "A change of %s that could not be saved is dropped: it was changed meanwhile",
                    ", ".join(kinds),
                )
                return
            is_stored = is_stored and secret == change.wanted
            texts[change.place] = change.wanted
        if is_stored:
            self.forget((event,))
        for change in event.changes:
            change.apply_to(memory)

    def tidy(self) -> None:
        """Keeps the waiting events few: an event replaces an earlier one of the same entries.

        Removals that the program did not ask for one by one do not wait: a later search removes
        expired tokens again, and a later prune() chooses anew.
        """
        last: dict[tuple[str, str], Event] = {}  # the last event that changed the entry
        for event in self.all():
            if event.call is not None:
                continue
            if not event.is_of_the_program:
                self.forget((event,))
                continue
            before = {last.get(change.place) for change in event.changes}
            earlier = before.pop()
            if earlier is not None and not before and earlier.has_places_of(event):
                for change in event.changes:
                    change.forget_replaced()
                self.forget((earlier,))
            last.update((change.place, event) for change in event.changes)


def _text_in(memory: Any, change: Change) -> str | None:
    """The text (see ``text_of``) of the entry in memory that the change is for."""
    return text_of(entry_in(memory, change.kind, change.key))


def entry_in(memory: Any, kind: str, key: str) -> Any:
    """The entry, or None.  None too in a damaged cache: MSAL itself raises there."""
    entries = memory.get(kind) if isinstance(memory, dict) else None
    return entries.get(key) if isinstance(entries, dict) else None
