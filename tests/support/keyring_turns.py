"""One program that uses the Secret Service, and says how each call went.

    python -m tests.support.keyring_turns '{"location": "/tmp/x/signal", "turns": ["load"]}'

It prints a line of JSON for each operation, see :class:`Turn`, and one that begins with "rest".
It is a program of its own because GLib keeps the bus and the session for a whole process.  It
imports all that it needs before it becomes another user, because Python itself may be installed
where that user cannot read it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tests.support.processes import at_rest, descriptors, eventually, no_more_than, threads


@dataclasses.dataclass
class Plan:
    """What the program does."""

    location: str
    #: Of "construct" (a persistence), "load", "save" and "clear" (an agent).
    turns: list[str]
    #: Seconds for each of these calls.
    timeouts: dict[str, float]
    #: For both, besides.
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    #: How often all turns are repeated, with this timeout, for what they leave behind.
    repeat: int = 0
    repeated_timeout: float = 20.0
    #: Turns that hang, and that get a Ctrl-C.
    interrupt: list[str] = dataclasses.field(default_factory=list)
    #: The uid that the program takes.
    user: int | None = None


@dataclasses.dataclass
class Turn:
    """How an operation went."""

    operation: str
    seconds: float
    #: The names of the classes of the exception, or ["ok"].
    kinds: list[str]
    #: The words of the exception, or the result.
    text: str
    #: Its message and advice alone, without the location.
    advice: str
    #: Seconds between two steps of another thread, the longest such time.
    gap: float


@contextlib.contextmanager
def watched() -> Iterator[list[float]]:
    """Its first element becomes the longest gap between two steps of another thread."""
    gap, ended = [0.0], threading.Event()

    def step() -> None:
        last = time.monotonic()
        while not ended.wait(0.005):
            now = time.monotonic()
            gap[0], last = max(gap[0], now - last), now
        gap[0] = max(gap[0], time.monotonic() - last)

    thread = threading.Thread(target=step)
    thread.start()
    try:
        yield gap
    finally:
        ended.set()
        thread.join()


def measured(operation: str, call: Callable[[], object]) -> Turn:
    with watched() as gap:
        begin = time.monotonic()
        try:
            result = call()
        except (Exception, KeyboardInterrupt) as error:
            seconds = time.monotonic() - begin
            kinds = [kind.__name__ for kind in type(error).__mro__]
            text, advice = str(error), str(getattr(error, "strerror", None) or "")
        else:
            seconds = time.monotonic() - begin
            kinds, text, advice = ["ok"], repr(result), ""
    return Turn(operation, seconds, kinds, text, advice, gap[0])


def interrupted(operation: str, call: Callable[[], object]) -> Turn:
    """Its seconds are those between the signal and the end of the call."""
    sent = [0.0]

    def interrupt() -> None:
        sent[0] = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.5, interrupt)
    timer.start()
    turn = measured(operation, call)
    ended = time.monotonic()
    timer.cancel()
    timer.join()
    return dataclasses.replace(turn, seconds=ended - sent[0])


def main(plan: Plan) -> None:
    from msal_extensions import LibsecretPersistence
    from msal_extensions.libsecret import LibSecretAgent

    def call(operation: str, timeout: float) -> object:
        options = {**plan.options, "timeout": timeout}
        if operation == "construct":
            LibsecretPersistence(plan.location, **options)
            return None
        agent = LibSecretAgent("org.example.turns", {}, **options)
        return agent.save("saved") if operation == "save" else getattr(agent, operation)()

    def say(turn: Turn) -> None:
        print(json.dumps(dataclasses.asdict(turn)), flush=True)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    if plan.user is not None:
        os.setgroups([])
        os.setresgid(plan.user, plan.user, plan.user)
        os.setresuid(plan.user, plan.user, plan.user)
    for operation in plan.turns:
        say(measured(operation, partial(call, operation, plan.timeouts[operation])))
    if plan.repeat:
        before = at_rest()
        for _ in range(plan.repeat):
            for operation in plan.turns:
                with contextlib.suppress(OSError):
                    call(operation, plan.repeated_timeout)
        eventually(lambda: no_more_than(before))  # what a call leaves may go away by itself
        after = threads(), descriptors()
        print(json.dumps({"operation": "rest", "before": before, "after": after}), flush=True)
    for operation in plan.interrupt:
        say(interrupted(f"Ctrl-C in {operation}", partial(call, operation, 60.0)))


if __name__ == "__main__":
    main(Plan(**json.loads(sys.argv[1])))
