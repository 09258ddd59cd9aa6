"""The plainest peer: its lock is the existence of the file, which it polls every 50 ms."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator
from pathlib import Path

from tests.support.peers import section

TRIES, PAUSE_S = 600, 0.05


@contextlib.contextmanager
def attempt(path: Path) -> Generator[section.Verdict]:
    for _ in range(TRIES):
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            break
        time.sleep(PAUSE_S)
    else:
        raise section.GaveUp
    os.write(descriptor, str(os.getpid()).encode())
    try:
        yield lambda: "" if section.named(descriptor, path) else "orphan"
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


if __name__ == "__main__":
    section.main(attempt)
