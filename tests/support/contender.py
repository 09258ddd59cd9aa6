"""One process that takes a lock again and again, in as many threads as it is told.

    python -m tests.support.contender JSON          see contenders.Contender

prints `ready`, reads "<start> <stop>" (CLOCK_MONOTONIC, ns), works from start to stop, keeps a
journal, and at the end prints its errors, and what it left open, as JSON.  The msal_extensions of
its Python, ours or 1.3.1, is the one that it uses.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tests.support.journal import ASKED, ENTERED, GAVE_UP, GONE, LEFT, Journal
from tests.support.processes import descriptors, threads

POLL_S = 0.1
#: A helper thread of ours stays for a second after its last wait for a lock.
HELPERS_GONE_S = 10
CHILD_SLEEPS_S = 1.0
CHILD_PATIENCE_S = 2.0


class GaveUp(Exception):
    """The patience has ended."""


class Poller:
    """The plainest peer: its lock is the existence of the file, which it polls every 100 ms."""

    def __init__(self, path: str, patience: float) -> None:
        self._path, self._patience = path, patience

    def __enter__(self) -> None:
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline:
            with contextlib.suppress(FileExistsError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                descriptor = os.open(self._path, flags, 0o644)
                os.write(descriptor, str(os.getpid()).encode())
                os.close(descriptor)
                return
            time.sleep(POLL_S)
        raise GaveUp

    def __exit__(self, *ignored: object) -> None:
        os.unlink(self._path)


def library(kind: str) -> Callable[[str, float], AbstractContextManager[Any]]:
    """A function that takes path and patience, and returns a lock.  1.3.1 has a patience of its
    own."""
    if kind == "poller":
        return Poller
    from msal_extensions import CrossPlatLock

    if hasattr(CrossPlatLock, "still_held"):
        assert kind == "ours", "the Python has another msal_extensions"
        return lambda path, patience: CrossPlatLock(path, timeout=patience)
    assert kind != "ours", "the Python has another msal_extensions"
    return lambda path, _: CrossPlatLock(path)


def is_refusal(error: Exception) -> bool:
    """Was it no error, but the end of the patience?  A typed error of ours has an errno."""
    from_131 = type(error).__name__ in ("LockError", "AlreadyLocked", "LockException")
    return isinstance(error, GaveUp) or (from_131 and getattr(error, "errno", None) is None)


class Contender:
    """The state that the threads share."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.journal = Journal(told["journal"])
        self.lock = library(told["kind"])
        self.errors: Counter[str] = Counter()
        self.stop = 0

    def work(self, thread: int) -> None:
        """One thread: takes and releases the lock until it is time to stop."""
        chance = random.Random(f"{self.told['seed']} {thread}")
        time.sleep(chance.uniform(*self.told["think"]))  # not all of them at the same moment
        while time.monotonic_ns() < self.stop:
            self.visit(thread, chance)
            time.sleep(chance.uniform(*self.told["think"]))
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)

    def visit(self, thread: int, chance: random.Random) -> None:
        """One wait for the lock, and the section if the wait succeeds."""
        patience = chance.uniform(*self.told["patience"])
        forks = chance.random() < self.told["forks"]
        self.journal.note(thread, ASKED)
        entered = False
        try:
            with self.lock(self.told["path"], patience):
                self.journal.note(thread, ENTERED)
                entered = True
                time.sleep(chance.uniform(*self.told["hold"]))
                if forks:
                    self.fork(chance)
                self.journal.note(thread, LEFT)
            self.journal.note(thread, GONE)
        except Exception as error:  # from any of three libraries
            if not entered:
                self.journal.note(thread, GAVE_UP)
            if not is_refusal(error) or entered:
                self.errors[f"{type(error).__name__}: {error}"] += 1

    def fork(self, chance: random.Random) -> None:
        """A forked child that does not hold the lock: it sleeps, or waits for the lock like any
        other."""
        waits, sleeps = chance.random() < 0.5, chance.uniform(0, CHILD_SLEEPS_S)
        if os.fork() != 0:
            return
        try:
            if waits:
                self.journal = Journal(f"{self.told['journal'][:-4]}.{os.getpid()}.log")
                self.told = {**self.told, "forks": 0, "patience": (0, CHILD_PATIENCE_S)}
                self.errors.clear()
                self.visit(0, chance)
                for error in self.errors:
                    os.write(2, f"in a forked child: {error}\n".encode())
            else:
                time.sleep(sleeps)
        finally:
            os._exit(0)


def main() -> None:
    logging.disable()  # 1.3.1 warns each time it enters by force
    contender = Contender(json.loads(sys.argv[1]))
    with contender.lock(contender.told["journal"] + ".warm", 1):
        pass  # now everything is loaded that the first use loads
    before = descriptors(), threads()
    print("ready", flush=True)
    start, contender.stop = map(int, sys.stdin.readline().split())
    time.sleep(max(0, start - time.monotonic_ns()) / 1e9)
    others = [
        threading.Thread(target=contender.work, args=(number,))
        for number in range(1, contender.told["threads"])
    ]
    for other in others:
        other.start()
    contender.work(0)
    for other in others:
        other.join()
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    deadline = time.monotonic() + HELPERS_GONE_S
    while (descriptors(), threads()) != before and time.monotonic() < deadline:
        time.sleep(0.05)
    left = {"descriptors": descriptors() - before[0], "threads": threads() - before[1]}
    print(json.dumps({"errors": contender.errors, **left}), flush=True)


if __name__ == "__main__":
    main()
