"""One process that takes a lock among others, as harness.py tells it.

    python -m benchmarks.lock.worker LIBRARY PATH

It needs the standard library and the one library under test.  It says on stdout which version that
is, then answers each command, a line of JSON on stdin, by a line of JSON:

    {"do": "contend", ...}    takes the lock again and again beside others: see contend()
    {"do": "once"}            when it asked and when it was in, then releases
    {"do": "hold"}            says when it was in, and holds until it is killed

Times are CLOCK_MONOTONIC in nanoseconds, the same in all processes of a machine.
"""

from __future__ import annotations

import fcntl
import functools
import importlib
import importlib.metadata
import json
import logging
import mmap
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from benchmarks.serving import serve

#: Seconds to wait for a lock, for the libraries that take a time-out; longer than any run.
TIMEOUT_S = 60
#: Seconds that a holder waits to be killed.
HOLD_S = 60

Adapter = Callable[[str], AbstractContextManager[Any]]


# ---- one adapter for each library: a path -> a context manager that holds it ----


class Flock:
    """No library at all: open, blocking flock, unlock, close, on a file that stays."""

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


#: Name -> how to import it, and the name of the distribution that has the version.
LIBRARIES: dict[str, tuple[Callable[[], Adapter], str]] = {
    "ours": (ours, "msal-extensions"),
    "1.3.1-portalocker": (reference, "msal-extensions"),
    "1.3.1-bare": (reference, "msal-extensions"),
    "filelock": (filelock, "filelock"),
    "portalocker": (portalocker, "portalocker"),
    "fasteners": (fasteners, "fasteners"),
    "flock": (lambda: Flock, ""),
}


def load(name: str) -> tuple[Adapter, str]:
    """Imports a library: what takes its lock, and its version."""
    make, distribution = LIBRARIES[name]
    return make(), importlib.metadata.version(distribution) if distribution else ""


# ---- the commands ----


def contend(
    lock: Adapter,
    path: str,
    marker: str,
    start: int,
    stop: int,
    count: int,
    hold: float,
) -> dict[str, Any]:
    """From ``start`` on hold the lock for ``hold`` seconds, ``count`` times or until ``stop``.

    Each entry checks that it is alone: ``marker`` is 0 when it begins, and still has this process's
    number when it ends.  The hold is a sleep, because there are more processes than processors.
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


def main(name: str, path: str) -> None:
    lock, version = load(name)
    logging.disable()  # 1.3.1 warns whenever it goes in without a lock
    commands = {it.__name__: functools.partial(it, lock, path) for it in (contend, once, hold)}
    serve(version, commands)


if __name__ == "__main__":
    main(*sys.argv[1:])
