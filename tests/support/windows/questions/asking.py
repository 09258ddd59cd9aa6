"""How the questions of tests/windows/on_windows.py are written.

tests/support/plan.py says what a question is. Numbers in brackets are findings of the review of the
Windows half.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.plan import Answer as Answer
from tests.support.plan import CannotAsk
from tests.support.plan import Question as Question
from tests.support.plan import milliseconds as milliseconds
from tests.support.plan import part as part
from tests.support.windows.machine import kernel32, on_windows, run

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
