"""The owners of native locks: which locks a thread holds, and which it waits for.

A *holding* is one native lock, from the moment at which a thread begins to wait for it.  The
program's CrossPlatLock keeps the holding alive.  When nothing refers to the holding any more,
its native lock gives the lock back.  So an exception at any byte code leaves the lock free, or
held by an object that the program still has.

Each thread also keeps *notes*: weak references to its own holdings.  They answer one question:
would this thread wait for itself?  No other thread reads or writes them, so they need no mutex.
They belong to the thread and not to its number, which the system gives to another thread later.
A note never decides that a lock is held.  It only says which native lock to ask.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import weakref
from typing import Any

from ._native import lock as native
from ._paths import for_python
from ._references import REFERENCES
from .errors import LockFileDirectoryNotFound, LockFileError, with_remedy

#: States of a holding.  The third state is ``_process``: held, in this process.
WAITING, OVER = "waiting", "over"

#: Stands for this process.  A child made by fork gets a new one, and so holds nothing.
_process = object()


def _after_fork_in_child() -> None:
    global _process
    _process = object()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Holding:
    """A native lock, while one thread waits for it and then while it is held."""

    __slots__ = ("__weakref__", "native", "note", "path", "reentrant", "state", "task")

    def __init__(self, path: str, reentrant: bool) -> None:
        self.path = path
        self.reentrant = reentrant
        self.native: native.Lock | None = None
        self.state: object = WAITING
        self.note = weakref.ref(self)
        task = current_task()
        self.task = None if task is None else weakref.ref(task)

    @property
    def is_held(self) -> bool:
        return self.state is _process

    @property
    def is_inherited(self) -> bool:
        """Whether the parent held it when the parent made this process by fork."""
        return self.state not in (WAITING, OVER, _process)

    def begin(self) -> None:
        """The wait is over: this thread is inside."""
        self.state = _process

    def end(self) -> bool:
        """Leaves the queue, or gives the lock back.  A second call does nothing.

        False: this process inherited the holding by fork; its parent still holds the lock.
        """
        is_ours = not self.is_inherited
        if is_ours and self.native is not None:
            self.native.release()
        self.state = OVER
        notes.holdings.pop(self.note, None)  # in another thread's notes it is dropped later
        return is_ours

    def is_for(self, path: str) -> bool:
        """Whether the path, in any spelling, leads to the same lock file."""
        if path == self.path:
            return True
        (mine, my_name), (other, name) = os.path.split(self.path), os.path.split(path)
        if not _may_be_same_name(my_name, name):
            return False
        try:
            if not _same_file(mine, other):
                return False
            return _same_name(my_name, name) or _same_file(self.path, path)
        except OSError:
            return False


class Within:
    """An object is inside because another object of the same thread holds the lock."""

    __slots__ = ("outer",)

    def __init__(self, outer: Holding) -> None:
        self.outer = outer

    @property
    def native(self) -> native.Lock | None:
        return self.outer.native

    @property
    def is_held(self) -> bool:
        return self.outer.is_held

    def end(self) -> bool:
        """Does nothing: the other object gives the lock back."""
        return not self.outer.is_inherited


def _may_be_same_name(one: str, other: str) -> bool:
    """False: no file system takes the two names for one.

    Only the file system itself knows more: most of macOS and Windows, and some directories of
    Linux, do not distinguish upper and lower case.  macOS takes a letter with an accent and the
    two characters of which it can be made for the same.  Windows has short names with a "~".
    """
    if one.isascii() and other.isascii() and "~" not in one + other:
        return one.lower() == other.lower()
    return True


def _same_name(one: str, other: str) -> bool:
    return os.path.normcase(one) == os.path.normcase(other)


def _same_file(one: str, other: str) -> bool:
    return os.path.samefile(for_python(one), for_python(other))


class _Notes(threading.local):
    """The notes of one thread, and the object that stands for it."""

    def __init__(self) -> None:
        self.me = object()
        self.holdings: dict[weakref.ref[Holding], None] = {}


notes = _Notes()


def this_thread() -> object:
    """An object that stands for the calling thread.  Unlike a thread's number it is not reused."""
    return notes.me


def held_by_this_thread(lockfile_path: str) -> bool:
    """Whether this thread is inside, through any object and any spelling of the path."""
    return _held(lockfile_path) is not None


def is_of_another_task(lockfile_path: str) -> bool:
    """Whether another asyncio task of this thread has entered, and is still inside.

    When a task ends inside, the thread takes over what that task entered.
    """
    if "asyncio" not in sys.modules:
        return False
    holding = _held(lockfile_path)
    task = None if holding is None or holding.task is None else holding.task()
    return task is not None and not task.done() and task is not current_task()


def current_task() -> Any:
    """The running asyncio task of this thread, or None."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        return asyncio.current_task()
    except (AttributeError, RuntimeError):  # asyncio is just being imported; no loop runs
        return None


def _held(lockfile_path: str) -> Holding | None:
    """The holding of this thread for the path, if the lock is held."""
    if not notes.holdings:
        return None
    return find(absolute(lockfile_path), None, with_waiting=False)


def find(path: str, apart_from: Holding | None, with_waiting: bool) -> Holding | None:
    """The holding of this thread for the path.

    :param apart_from: A holding that does not count.
    :param with_waiting: Whether a holding counts that still waits for the lock.
    """
    mine = notes.holdings
    for note in tuple(mine):
        holding = note()
        if holding is None or holding.state is OVER:
            mine.pop(note, None)
        elif holding is apart_from or not holding.is_for(path):
            continue
        elif holding.state is WAITING:
            if with_waiting:
                return holding
        elif holding.is_held and holding.native is not None and holding.native.still_held():
            return holding
    return None


def absolute(path: str | bytes) -> str:
    """The path, made absolute, because the program may change its working directory later."""
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if path[:1] == os.sep == "/":  # on Windows such a path is relative to a drive
        return path
    try:
        return os.path.join(os.getcwd(), path)
    except OSError as error:
        is_gone = error.errno == errno.ENOENT
        kind: type[LockFileError] = LockFileDirectoryNotFound if is_gone else LockFileError
        words = f"{error.strerror} (getcwd). The working directory of this process is gone or"
        cause = REFERENCES[kind.reference].saying("Change to another, or give an absolute path.")
        raise with_remedy(
            kind,
            error.errno,
            f"{words} cannot be read:",
            path,
            cause,
            advice="change to another, or give an absolute path.",
        ) from None
