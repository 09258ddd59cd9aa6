"""Like MSAL Java.

It tries to create the file every 100 ms for 6 s, then uses fcntl in any case, and deletes the file
last.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Generator
from pathlib import Path

from tests.support.peers import section

TRIES, PAUSE_S = 60, 0.1


def create(path: Path) -> bool:
    for _ in range(TRIES):
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
            return True
        time.sleep(PAUSE_S)
    return False


@contextlib.contextmanager
def attempt(path: Path) -> Generator[section.Verdict]:
    forced = not create(path)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    for _ in range(TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        time.sleep(PAUSE_S)
    else:
        os.close(descriptor)
        raise section.GaveUp
    os.write(descriptor, f"{os.getpid()} java".encode())
    try:
        yield lambda: "forced" if forced else "" if section.named(descriptor, path) else "orphan"
    finally:
        fcntl.lockf(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


if __name__ == "__main__":
    section.main(attempt)
