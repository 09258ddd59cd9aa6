"""store_of() makes the store of a persistence.  Only this module knows of overridden methods.

Programs derive from our persistences.  They, and the mocks of their tests, replace methods and
attributes, before and after a cache is made.  As long as ``save()``, ``load()`` and
``time_last_modified()`` are ours, the cache goes past them to the store below.  Otherwise it
calls them: the store is then an ``OwnStore``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._store import Store

    _Make = Callable[[Any, str], Store]

#: The methods that decide: a program may override them.
_METHODS = ("save", "load", "time_last_modified")


class _Kind:
    __slots__ = ("make", "methods", "parts")

    def __init__(self, make: _Make, methods: tuple[Any, ...], parts: tuple[str, ...]) -> None:
        self.make = make
        self.methods = methods  # as they are before anybody patches them
        self.parts = parts


_kinds: dict[type, _Kind] = {}


def register(kind: type, make: _Make, *parts: str) -> None:
    """Registers the store of a class of persistences, and of its subclasses.

    :param make: Makes the store of a persistence and the path of a lock file.
    :param parts: The attributes of the persistence from which the store is made.  When one of
        them is replaced, the store is made anew.
    """
    _kinds[kind] = _Kind(make, _methods_of(kind), parts)


def store_of(persistence: Any, lock_location: str) -> Store:
    """The store behind a persistence of any kind, as it is at this moment."""
    from ._stores.own import OwnStore  # see persistence.py: stores are imported when they are used

    lock_location = os.fspath(lock_location)
    kind = _kind_of(persistence)
    # A subclass that overrides all methods need not call our __init__(): parts may be missing.
    if kind is None or not all(hasattr(persistence, part) for part in kind.parts):
        return OwnStore(persistence, lock_location)
    base = kind.make(persistence, lock_location)
    now = zip(_METHODS, _methods_of(type(persistence)), kind.methods, strict=True)
    overridden = {
        name
        for name, method, original in now
        if method is not original or name in persistence.__dict__
    }
    if not overridden:
        return base
    keeps_time = "time_last_modified" not in overridden
    return OwnStore(persistence, lock_location, base, keeps_time)


def _kind_of(persistence: object) -> _Kind | None:
    # Not isinstance(): a mock with a spec pretends to be an instance.
    return next((_kinds[each] for each in type(persistence).__mro__ if each in _kinds), None)


def _methods_of(kind: type) -> tuple[Any, ...]:
    return tuple(getattr(kind, name, None) for name in _METHODS)


class _Answer:
    """An answer of store_of(), with everything that it depends on."""

    __slots__ = ("_class", "_lock_location", "_methods", "_parts", "_persistence", "store")

    def __init__(self, persistence: Any, lock_location: str) -> None:
        kind = _kind_of(persistence)
        names = () if kind is None else kind.parts
        self._persistence = persistence
        self._lock_location = lock_location
        self._class: Any = type(persistence)
        # A class that is not ours needs no memory of its methods: OwnStore calls them each time.
        self._methods = None if kind is None else _methods_of(self._class)
        self._parts = [(name, getattr(persistence, name, None)) for name in names]
        self.store = store_of(persistence, lock_location)

    def is_for(self, persistence: Any, lock_location: str) -> bool:
        """Whether store_of() would give the same answer now."""
        kind, methods = self._class, self._methods
        if (
            persistence is not self._persistence
            or lock_location != self._lock_location
            or type(persistence) is not kind
        ):
            return False
        if methods is None:
            return True
        for name, part in self._parts:
            if getattr(persistence, name, None) is not part:
                return False
        mine = persistence.__dict__  # a program can put a function there in place of a method
        return (
            kind.save is methods[0]
            and kind.load is methods[1]
            and kind.time_last_modified is methods[2]
            and "save" not in mine
            and "load" not in mine
            and "time_last_modified" not in mine
        )


class StoreMemo:
    """store_of() for one cache, with a memory, because the cache asks at every use.

    The last answer holds as long as everything that store_of() looked at is the same object.
    That check costs less than a look at the file's time.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: _Answer | None = None

    def of(self, persistence: Any, lock_location: str) -> Store:
        """store_of() of the same arguments."""
        last = self._last  # read once: other threads may set it
        if last is None or not last.is_for(persistence, lock_location):
            last = _Answer(persistence, lock_location)
            # A mock on the object is not remembered: nothing would show its end.
            self._last = last if last.is_for(persistence, lock_location) else None
        return last.store
