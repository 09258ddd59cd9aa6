"""How the questions of tests/windows/on_windows.py are written.

A question returns whether its promise holds, and facts for the record. `must` says whether the
answer decides the exit status: where Windows documents nothing, the facts alone count. Numbers in
brackets are findings of the review of the Windows half.
"""

from __future__ import annotations

import contextlib
import ctypes
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.windows.machine import CannotAsk, Desk, kernel32, on_windows, run

Answer = tuple[bool, dict[str, Any]]


class Question(NamedTuple):
    sentence: str
    must: bool
    ask: Callable[[Desk], Answer]


Asker = Callable[..., Callable[[Callable[[Desk], Answer]], None]]


def part() -> tuple[list[Question], Asker]:
    """The questions of a module, and a decorator that adds a function to them."""
    asked: list[Question] = []

    def question(sentence: str, must: bool = True) -> Callable[[Callable[[Desk], Answer]], None]:
        return lambda ask: asked.append(Question(sentence, must, ask))

    return asked, question


GENERIC_READ, GENERIC_WRITE, OPEN_ALWAYS, OPEN_EXISTING = 0x80000000, 0x40000000, 4, 3
SHARE_READ, SHARE_WRITE, OVERLAPPED_FLAG = 1, 2, 0x40000000
SHARE_ALL = 7  # reading, writing and deletion
NOT_OPEN = ctypes.c_void_p(-1).value


@contextlib.contextmanager
def opened(path: Path, access: int, sharing: int, how: int, flags: int = 0) -> Iterator[Any]:
    """A handle, as CreateFileW gives it."""
    kernel32.CreateFileW.restype = ctypes.c_void_p
    told = (str(path), access, sharing, None, how, flags, None)
    handle = ctypes.c_void_p(kernel32.CreateFileW(*told))
    if handle.value in (None, NOT_OPEN):
        raise OSError(f"CreateFileW of {path}: error {on_windows.get_last_error()}")
    try:
        yield handle
    finally:
        kernel32.CloseHandle(handle)


def milliseconds(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "median_ms": round(1000 * statistics.median(ordered), 2),
        "most_ms": round(1000 * ordered[-1], 2),
    }


@contextlib.contextmanager
def access_list(path: Path, *options: str) -> Iterator[None]:
    """The file or directory with another access list, until the end of the block."""
    status, said = run("icacls", path, *options)
    if status != 0:
        raise CannotAsk(f"icacls: status {status} {said}")
    try:
        yield
    finally:
        run("takeown", "/f", path)
        run("icacls", path, "/reset")
