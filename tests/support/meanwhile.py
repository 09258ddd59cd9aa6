"""What happens while a cache saves: hooks in its store.

with overtaken(place, lambda: other.add(event)):
    cache.add(...)          # its lock is taken away, and the other one saves first

with full(place), pytest.raises(PersistenceError):
    cache.add(...)          # cannot be saved
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import pytest

from msal_extensions import PersistenceError
from tests.support.capability import REMOVABLE_OPEN_FILES, requires
from tests.support.places import Place, place_of
from tests.support.processes import GENEROUS

#: One kind of each way in which a commit learns of others: the lock file in one step with the
#: rename, the lock file before and after the save, and the version of the content.
KINDS = [
    pytest.param("file", marks=requires(REMOVABLE_OPEN_FILES)),
    pytest.param("own", marks=requires(REMOVABLE_OPEN_FILES)),
    "dictionary",
]


@pytest.fixture(params=KINDS, name="place")
def robbable_place_fixture(request: pytest.FixtureRequest, tmp_path: Any) -> Place:
    """A place where the lock can be taken away from its holder."""
    return place_of(request.param, tmp_path, request)


def elsewhere(work: Callable[[], object]) -> None:
    """Does it in another thread, to the end: this one may hold the lock, or have lost it."""
    with ThreadPoolExecutor(1) as another:
        another.submit(work).result(GENEROUS)


@contextlib.contextmanager
def before_saves(place: Place, hook: Callable[[], object]) -> Iterator[None]:
    """Calls the hook each time this thread is about to store something in such a store."""
    kind: Any = type(place.store())
    replace, mine = kind.replace, threading.get_ident()

    def hooked(store: Any, data: bytes, **how: Any) -> Any:
        if threading.get_ident() == mine:
            hook()
        return replace(store, data, **how)

    with mock.patch.object(kind, "replace", hooked):
        yield


@contextlib.contextmanager
def overtaken(place: Place, *works: Callable[[], object]) -> Iterator[None]:
    """Before each of this thread's next saves somebody takes the lock away and does a work.

    Each has to be repeated then: there is one save more than there are works, at least.
    """
    left = list(works)

    def hook() -> None:
        if left:
            work = left.pop(0)
            place.rob()
            elsewhere(work)

    with before_saves(place, hook):
        yield
    assert not left, "it did not save so often"


@contextlib.contextmanager
def failing(place: Place, error: Callable[[], BaseException]) -> Iterator[None]:
    """Each save of this thread ends like that, and stores nothing."""

    def hook() -> None:
        raise error()

    with before_saves(place, hook):
        yield


def full(place: Place) -> contextlib.AbstractContextManager[None]:
    """This thread can save nothing."""
    return failing(place, lambda: PersistenceError(28, "No space left on device"))
