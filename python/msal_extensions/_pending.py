"""What a program changed in memory and is not stored yet: when it is made again, and when not.

A *change* sets or removes one entry.  An *event* is what one call changed: all of one ``add()``,
or one ``modify()``.  It is recorded here before memory is touched, and forgotten when a save that
contains it has succeeded.  Meanwhile others may store something; then memory is read anew, and the
events are applied to that.  By which rule, depends on their call.

*Live: the call has not returned.*  Its changes are made as if they had come a moment later,
whatever is stored now, as 1.3.1 does under its lock.  Two kinds look first (see ``Rule``).

*Waiting: the call raised.*  The program was told that the event was not stored, and may have done
something about it.  The event is applied as a whole, and only if each stored entry is the one that
it replaced, or the new one already.  Otherwise it is dropped.

*What an entry replaced* is looked up when it is needed, which is seldom: in the content from which
memory was made, just before another content takes its place.  Not in memory itself, because
programs change entries in place.

Entries are compared as JSON text, so 1, True and 1.0 are three values.
"""

from __future__ import annotations

import enum
import logging
import weakref
from typing import Any

from ._serializer import text_of

logger = logging.getLogger(__name__)

#: The text of what an entry replaced, where nobody can tell; it is no JSON.
_UNKNOWN = ""


class Rule(enum.Enum):
    """How a live change is applied to what others have stored."""

    #: Whatever is stored.  Also each removal by a program: a sign-out leaves no refresh token.
    ALWAYS = enum.auto()
    #: In a ``transaction()`` of the program, and so perhaps the result of what it had read there:
    #: only if the stored entry is the one that it replaced, or the new one.  If not, it is told.
    IF_UNCHANGED = enum.auto()
    #: By the cache itself, which removes what has expired: the same, but it does not matter.
    BY_ITSELF = enum.auto()
    #: Of ``prune()``, which looks at all entries: never.  It begins anew.
    NEVER = enum.auto()


class Call:
    """One call of a program, or its ``with``, while that is not over; see ``Event``."""

    __slots__ = ("__weakref__", "event", "events", "is_over", "was_overtaken")

    def __init__(self) -> None:
        self.event: Event | None = None  # the one under way, if it has several changes
        self.events: list[Event] = []
        self.is_over = False
        #: A change of it was not applied, because others had changed something, and it matters.
        self.was_overtaken = False


class Change:
    """Of one entry."""

    __slots__ = ("_secret", "_texts", "is_news", "key", "kind", "rule")

    def __init__(self, kind: str, key: str, rule: Rule, secret: Any) -> None:
        """:param secret: The new entry; None removes it."""
        self.kind = kind
        self.key = key
        self.rule = rule
        #: Was the entry in memory another one?  That of the store may be one although this is not.
        self.is_news = True
        self._secret = secret
        #: Of the entry that it replaced, and of the new one (None: JSON cannot hold it any more).
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
        """Memory has this object now.  A program may change it in place, and that is saved too."""
        self._secret = secret

    def note_replaced(self, secret: str | None) -> None:
        self._texts = secret, text_of(self._secret)

    def forget_replaced(self) -> None:
        """It replaces what is stored now, and not what it was made for at first."""
        self._texts = None

    def fits(self, secret: str | None) -> bool:
        """Is this what it replaced, or what it makes of that?"""
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
    """What one call changed.  Other threads reload, and so apply it, at any time."""

    __slots__ = ("_call", "changes")

    def __init__(self, call: Call) -> None:
        self._call = weakref.ref(call)
        self.changes: list[Change] = []

    @property
    def call(self) -> Call | None:
        """None when it is over: the event waits."""
        call = self._call()
        return None if call is None or call.is_over else call

    @property
    def is_of_the_program(self) -> bool:
        return any(change.rule in (Rule.ALWAYS, Rule.IF_UNCHANGED) for change in self.changes)

    def has_places_of(self, other: Event) -> bool:
        """Do both change the same entries, each of them once?"""
        mine = {change.place for change in self.changes}
        others = {change.place for change in other.changes}
        return mine == others and len(mine) == len(self.changes) == len(other.changes)


class Pending:
    """All events of one cache that are not stored, oldest first.

    A signal handler or a finalizer may come in between at any line, and change the cache: each
    method goes over copies, and each step that changes the collection is one call.
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
        """Before memory is touched.  A change by what came in between joins the event under way."""
        event = call.event or Event(call)
        event.changes.append(change)
        if event not in self._events:
            call.events.append(event)
            self._events[event] = None

    def withdraw(self, call: Call, change: Change) -> None:
        """MSAL refused it, and memory is as before."""
        for event in call.events:
            if change in event.changes:
                event.changes.remove(change)
                if not event.changes:
                    self.forget((event,))

    def forget(self, events: tuple[Event, ...]) -> None:
        """They are stored, or given up."""
        for event in events:
            self._events.pop(event, None)

    def clear(self) -> None:
        """In the child of a fork: they are its parent's."""
        self._events.clear()

    def note_replaced(self, content: Any) -> None:
        """Before another content takes the place of the one from which memory was made.

        :param content: That one, parsed; None where that cannot be done.
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
        """False: as far as memory can tell, nothing was changed."""
        return any(change.is_news for event in self.all() for change in tuple(event.changes))

    @property
    def knows_replaced(self) -> bool:
        """False: note_replaced() has something to do."""
        return all(change.knows_replaced for event in self.all() for change in tuple(event.changes))

    def apply_to(self, memory: Any) -> None:
        """Memory was read anew: makes the changes in it, by the rules."""
        for event in self.all():
            call = event.call
            if call is None:
                self._apply_waiting(event, memory)
            else:
                self._apply_live(event, call, memory)

    def apply_again_to(self, memory: Any) -> None:
        """Before a save: what came in between, or Ctrl-C, may have been half-way through."""
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
        """Waiting events take no more room than what they change: one that follows another, of the
        same entries, becomes both.  What the cache did by itself does not wait."""
        last: dict[tuple[str, str], Event] = {}  # that changed this entry
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
    """Of the entry that is there, see ``text_of``."""
    return text_of(entry_in(memory, change.kind, change.key))


def entry_in(memory: Any, kind: str, key: str) -> Any:
    """None too where MSAL would stumble over a damaged cache, which is left to MSAL."""
    entries = memory.get(kind) if isinstance(memory, dict) else None
    return entries.get(key) if isinstance(entries, dict) else None
