"""Like MSAL.NET on .NET >= 6.

It tries flock every 100 ms, checks that the file still has its name, and removes the file before it
unlocks it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Generator
from pathlib import Path

from tests.support.peers import section

TRIES, PAUSE_S = 600, 0.1


@contextlib.contextmanager
def attempt(path: Path) -> Generator[section.Verdict]:
    for _ in range(TRIES):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if section.named(descriptor, path):
                break
        os.close(descriptor)
        time.sleep(PAUSE_S)
    else:
        raise section.GaveUp
    os.write(descriptor, f"\ufeff{os.getpid()} dotnet\n".encode())  # over the old text
    try:
        yield lambda: "" if section.named(descriptor, path) else "orphan"
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


if __name__ == "__main__":
    section.main(attempt)
