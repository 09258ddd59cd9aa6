"""Questions about the lock: on this disk, and how fast it goes from hand to hand."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

from tests.support.mac.machine import Desk, end, finished, run, started
from tests.support.plan import Answer, CannotAsk, milliseconds, part

ASKED, question = part()
TIMES = 20
#: A woken waiter has the lock by then, even on a busy machine.
SOON_S = 5.0
HARNESS = ("tests/native/check/check.c", "tests/native/check/check_posix.c")
RULES = "tests/native/macos/locks_on_a_mac.c"
STRESS = "1600 of 1600 increments, 0 failures"

#: Has the lock while `seconds`, and prints when it got it and when it gave it back.
HOLD = """
import sys, time
from msal_extensions import CrossPlatLock
with CrossPlatLock(sys.argv[1], timeout=60):
    print(time.monotonic(), flush=True)
    time.sleep(float(sys.argv[2]))
    given = time.monotonic()
print(given, flush=True)
"""


@contextlib.contextmanager
def holding(lock: Path, seconds: float) -> Iterator[Popen[str]]:
    """A process that has the lock."""
    process = started(sys.executable, "-c", HOLD, lock, seconds)
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), "the holder failed"
        yield process
    finally:
        end(process)


@question("Locks, and what a kqueue tells of them, are as lock_wait_macos.c believes")
def _rules(desk: Desk) -> Answer:
    status, said = run(desk.built("locks_on_a_mac", RULES, *HARNESS))
    return status == 0, {"status": status, "said": said}


def stressed(desk: Desk, directory: Path) -> tuple[bool, dict[str, Any]]:
    """Four processes of four threads, each with a hundred increments under the lock."""
    program = desk.built("lock_stress", "tests/native/linux/lock_stress.c")
    begun = time.monotonic()
    status, said = run(program, directory, "100", seconds=600)
    rate = 1600 / (time.monotonic() - begun)
    facts = {"status": status, "said": said[-500:], "entries_a_second": round(rate)}
    return status == 0 and STRESS in said, facts


@question("Processes of threads lose no update under the lock")
def _stress(desk: Desk) -> Answer:
    return stressed(desk, desk.directory())


@question("A waiter has the lock soon after it is given back")
def _hand_over(desk: Desk) -> Answer:
    times = []
    for _ in range(TIMES):
        lock = desk.directory() / "lock"
        with holding(lock, 0.5) as holder:
            waiter = started(sys.executable, "-c", HOLD, lock, 0)
            (_, said), (_, got) = finished([holder, waiter], 60)
        times.append(float(got.splitlines()[0]) - float(said.splitlines()[-1]))
    return 0 < max(times) < SOON_S, {"until_the_waiter_has_it": milliseconds(times)}


@question("A waiter has the lock soon after its holder was killed")
def _killed(desk: Desk) -> Answer:
    times = []
    for _ in range(TIMES):
        lock = desk.directory() / "lock"
        with holding(lock, 60) as holder:
            waiter = started(sys.executable, "-c", HOLD, lock, 0)
            time.sleep(0.5)  # so that it waits already, as a rule; it may also come later
            killed = time.monotonic()
            holder.send_signal(signal.SIGKILL)
            ((_, got),) = finished([waiter], 60)
        times.append(float(got.splitlines()[0]) - killed)
    return max(times) < SOON_S, {"until_the_waiter_has_it": milliseconds(times)}


#: select.kqueue, which Python has on a Mac only.
UNLOCK_UNHELD = """
import fcntl, os, select, sys
NOTE_FUNLOCK = 0x00000100
path = sys.argv[1]
watched = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
queue = select.kqueue()
event = select.kevent(watched, select.KQ_FILTER_VNODE, select.KQ_EV_ADD | select.KQ_EV_CLEAR,
                      NOTE_FUNLOCK)
queue.control([event], 0)
def woken(act):
    act()
    return len(queue.control([], 1, 1.0))
def held():
    other = os.open(path, os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    fcntl.flock(other, fcntl.LOCK_UN)
    os.close(other)
def unheld():
    other = os.open(path, os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_UN)
    os.close(other)
def closed():
    os.close(os.open(path, os.O_RDWR))
print({"unlock": woken(held), "unlock_of_what_was_not_locked": woken(unheld),
       "close_of_what_was_not_locked": woken(closed)})
"""


@question("LOCK_UN of a file that was never locked wakes all its waiters", must=False)
def _unheld(desk: Desk) -> Answer:
    status, said = run(sys.executable, "-c", UNLOCK_UNHELD, desk.directory() / "file")
    return "'unlock_of_what_was_not_locked': 1" in said, {"status": status, "woken": said}


# ---- file systems ----------------------------------------------------------------------------

FILE_SYSTEMS = ("HFS+", "Case-sensitive APFS", "ExFAT")


@contextlib.contextmanager
def attached(directory: Path, kind: str, megabytes: int = 64) -> Iterator[Path]:
    """A disk image with that file system, attached until the end of the block."""
    image, mounted = directory / "disk.dmg", directory / "mounted"
    mounted.mkdir()
    made = ["hdiutil", "create", "-size", f"{megabytes}m", "-fs", kind, "-volname", "msalex"]
    status, said = run(*made, image, seconds=120)
    if status != 0:
        raise CannotAsk(f"hdiutil create: status {status} {said}")
    attach = ["hdiutil", "attach", "-nobrowse", "-mountpoint", mounted, image]
    status, said = run(*attach, seconds=120)
    if status != 0:
        raise CannotAsk(f"hdiutil attach: status {status} {said}")
    try:
        yield mounted
    finally:
        run("hdiutil", "detach", "-force", mounted, seconds=120)


def _on(kind: str) -> None:
    @question(f"Processes of threads lose no update under the lock, on {kind}")
    def ask(desk: Desk) -> Answer:
        with attached(desk.directory(), kind) as disk:
            held, facts = stressed(desk, disk)
            left = sorted(one.name for one in disk.iterdir() if "lockfile" in one.name)
            return held and not left, {**facts, "left": left}


for _kind in FILE_SYSTEMS:
    _on(_kind)
