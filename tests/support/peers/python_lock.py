"""CrossPlatLock of the msal_extensions that is installed: ours, or one of 1.3.1's engines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from pathlib import Path

from msal_extensions import CrossPlatLock, LockError
from tests.support.peers import section

GIVES_UP_S = 5.0  # after this time 1.3.1 with portalocker goes on without having made the file


@contextlib.contextmanager
def attempt(path: Path) -> Generator[section.Verdict]:
    ours = hasattr(CrossPlatLock, "still_held")
    lock = CrossPlatLock(str(path), timeout=60) if ours else CrossPlatLock(str(path))
    before = time.monotonic()
    try:
        lock.__enter__()
    except LockError as error:
        if "nable to obtain" not in str(error):  # 1.3.1's time-out; ours must raise nothing
            raise
        raise section.GaveUp from error
    except PermissionError as error:  # sshfs raises it for a file that another mount has just made
        if ours:
            raise
        raise section.GaveUp from error
    forced = not ours and time.monotonic() - before >= GIVES_UP_S
    try:
        if ours:
            yield lambda: "" if lock.still_held() else "orphan"
        else:
            yield lambda: "forced" if forced else ""
    finally:
        lock.__exit__(None, None, None)


if __name__ == "__main__":
    section.main(attempt)
