"""Like MSAL Go.

It tries flock every 10 ms for 5 s, never checks that the file still has its name, and unlocks the
file before it removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Generator
from pathlib import Path

from tests.support.peers import section

TRIES, PAUSE_S = 500, 0.01


@contextlib.contextmanager
def attempt(path: Path) -> Generator[section.Verdict]:
    for _ in range(TRIES):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            os.close(descriptor)
            time.sleep(PAUSE_S)
    else:
        raise section.GaveUp
    os.write(descriptor, f"{{{os.getpid()}}} {{go}}".encode())
    try:
        yield lambda: "" if section.named(descriptor, path) else "orphan"
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


if __name__ == "__main__":
    section.main(attempt)
