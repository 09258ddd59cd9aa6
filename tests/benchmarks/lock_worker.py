"""One process that takes a lock, as lock_harness.py tells it: `lock_worker.py LIBRARY PATH`.

Needs the standard library and the one library under test; says on stdout which version that is,
then answers each command, a line of JSON on stdin, by a line of JSON:

    {"do": "cycles", "count": N}      nanoseconds for N acquisitions, each released at once
    {"do": "contend", ...}            takes it again and again beside others: see contend()
    {"do": "once"}                    when it asked and when it was in, then releases
    {"do": "hold"}                    says when it was in, and holds until it is killed

Times are CLOCK_MONOTONIC in nanoseconds, the same in all processes of a machine.
"""

from __future__ import annotations

import fcntl
import importlib
import importlib.metadata
import json
import logging
import mmap
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

#: Seconds to wait for a lock, for the libraries that take a time-out; longer than any run.
TIMEOUT_S = 60
#: Seconds that a holder waits to be killed.
HOLD_S = 60

Adapter = Callable[[str], AbstractContextManager[Any]]


# ---- one adapter for each library: a path -> a context manager that holds it ----


class Flock:
    """The harness floor: open, blocking flock, unlock, close, on a file that stays."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *ignored: object) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)


def ours() -> Adapter:
    lock = importlib.import_module("msal_extensions").CrossPlatLock
    return lambda path: lock(path, timeout=TIMEOUT_S)


def reference() -> Adapter:
    """1.3.1 knows no time-out: it waits for 5 s, or for 5 + 5 s with portalocker."""
    return importlib.import_module("msal_extensions").CrossPlatLock  # type: ignore[no-any-return]


def filelock() -> Adapter:
    lock = importlib.import_module("filelock").FileLock
    return lambda path: lock(path, timeout=TIMEOUT_S)


def portalocker() -> Adapter:
    lock = importlib.import_module("portalocker").Lock
    return lambda path: lock(path, timeout=TIMEOUT_S)


def fasteners() -> Adapter:
    make = importlib.import_module("fasteners").InterProcessLock

    class Fasteners:
        def __init__(self, path: str) -> None:
            self._lock = make(path)

        def __enter__(self) -> None:
            if not self._lock.acquire(timeout=TIMEOUT_S):
                raise TimeoutError

        def __exit__(self, *ignored: object) -> None:
            self._lock.release()

    return Fasteners


#: Name -> how to import it, and the distribution whose version counts.
LIBRARIES: dict[str, tuple[Callable[[], Adapter], str]] = {
    "ours": (ours, "msal-extensions"),
    "1.3.1-portalocker": (reference, "msal-extensions"),
    "1.3.1-bare": (reference, "msal-extensions"),
    "filelock": (filelock, "filelock"),
    "portalocker": (portalocker, "portalocker"),
    "fasteners": (fasteners, "fasteners"),
    "flock": (lambda: Flock, ""),
}


# ---- the commands ----


def cycles(lock: Adapter, path: str, count: int) -> dict[str, int]:
    before = time.perf_counter_ns()
    for _ in range(count):
        with lock(path):
            pass
    return {"ns": time.perf_counter_ns() - before}


def contend(
    lock: Adapter,
    path: str,
    marker: str,
    start: int,
    stop: int,
    count: int,
    hold: float,
    think: float,
) -> dict[str, Any]:
    """From ``start`` on hold the lock for ``hold`` seconds, ``count`` times or until ``stop``.

    The section checks itself: nobody's number may stand in ``marker`` when it begins, and only
    its own when it ends.  The hold is a sleep, as there are more processes than processors.
    """
    entries: list[tuple[int, int, int]] = []
    errors: dict[str, int] = {}
    overlaps, me = 0, os.getpid()
    with open(marker, "r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
        inside = memoryview(shared).cast("Q")
        time.sleep(max(0, start - time.monotonic_ns()) / 1e9)
        for _ in range(count):
            asked = time.monotonic_ns()
            if asked >= stop:
                break
            try:
                with lock(path):
                    acquired = time.monotonic_ns()
                    alone = inside[0] == 0
                    inside[0] = me
                    time.sleep(hold)
                    alone = alone and inside[0] == me
                    inside[0] = 0
                    overlaps += not alone
                    entries.append((asked, acquired, time.monotonic_ns()))
            except Exception as error:  # the libraries' time-outs have no base class in common
                name = type(error).__name__
                errors[name] = errors.get(name, 0) + 1
            if think:
                time.sleep(think)
        inside.release()
    return {"entries": entries, "errors": errors, "overlaps": overlaps}


def once(lock: Adapter, path: str) -> dict[str, Any]:
    asked = time.monotonic_ns()
    try:
        with lock(path):
            return {"asked": asked, "acquired": time.monotonic_ns()}
    except Exception as error:
        return {"asked": asked, "acquired": None, "error": type(error).__name__}


def hold(lock: Adapter, path: str) -> dict[str, Any]:
    with lock(path):
        print(json.dumps({"acquired": time.monotonic_ns()}), flush=True)
        time.sleep(HOLD_S)
    return {"error": "nobody killed the holder"}


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "cycles": cycles,
    "contend": contend,
    "once": once,
    "hold": hold,
}


def main(name: str, path: str) -> None:
    load, distribution = LIBRARIES[name]
    lock = load()
    version = importlib.metadata.version(distribution) if distribution else ""
    logging.disable()  # 1.3.1 warns whenever it goes in without a lock
    print(json.dumps({"version": version, "python": platform.python_version()}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        answer = COMMANDS[command.pop("do")](lock, **{"path": path, **command})
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
