"""Events during a save of a cache: hooks in its store.

    with overtaken(place, lambda: other.add(event)):
        cache.add(...)          # its lock is taken away, and the other cache saves first

    with full(place), pytest.raises(PersistenceError):
        cache.add(...)          # cannot be saved

They concern the saves of the thread that enters the block.
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

#: One kind of store for each way in which a commit notices others: it checks the lock file in one
#: step with the rename; before and after the save; or it compares the version of the content.
KINDS = [
    pytest.param("file", marks=requires(REMOVABLE_OPEN_FILES)),
    pytest.param("own", marks=requires(REMOVABLE_OPEN_FILES)),
    "dictionary",
]


@pytest.fixture(params=KINDS, name="place")
def robbable_place_fixture(request: pytest.FixtureRequest, tmp_path: Any) -> Place:
    """A place where a test can take the lock away from its holder."""
    return place_of(request.param, tmp_path, request)


def elsewhere(work: Callable[[], object]) -> None:
    """Runs the work in another thread and waits for its end, because this thread may hold the lock,
    or may have lost it."""
    with ThreadPoolExecutor(1) as another:
        another.submit(work).result(GENEROUS)


@contextlib.contextmanager
def before_saves(place: Place, hook: Callable[[], object]) -> Iterator[None]:
    """Calls the hook each time this thread is about to save in a store of this class."""
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
    """Before each of the next saves of this thread the lock is taken away, and one of the works is
    done.

    Each of these saves must be repeated, so there are more saves than works.
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
    """Each save of this thread raises the error and stores nothing."""

    def hook() -> None:
        raise error()

    with before_saves(place, hook):
        yield


def full(place: Place) -> contextlib.AbstractContextManager[None]:
    """No save of this thread succeeds."""
    return failing(place, lambda: PersistenceError(28, "No space left on device"))
