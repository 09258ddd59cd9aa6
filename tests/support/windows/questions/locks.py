"""Questions about the lock."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from ctypes import wintypes
from pathlib import Path
from typing import Any

from tests.support.plan import CannotAsk
from tests.support.windows.machine import Desk, kernel32, on_windows, run
from tests.support.windows.questions.asking import (
    GENERIC_READ,
    GENERIC_WRITE,
    OPEN_ALWAYS,
    OVERLAPPED_FLAG,
    SHARE_ALL,
    Answer,
    access_list,
    milliseconds,
    opened,
    part,
)

ASKED, question = part()

TRY_EXCLUSIVE = 3  # LOCKFILE_FAIL_IMMEDIATELY | LOCKFILE_EXCLUSIVE_LOCK


class Overlapped(ctypes.Structure):
    _fields_ = (
        ("internal", ctypes.c_size_t),
        ("internal_high", ctypes.c_size_t),
        ("offset", wintypes.DWORD),
        ("offset_high", wintypes.DWORD),
        ("event", wintypes.HANDLE),
    )


ACQUIRE = """
import json, sys, time
from msal_extensions import CrossPlatLock
took = []
for _ in range(int(sys.argv[2])):
    before = time.perf_counter()
    with CrossPlatLock(sys.argv[1]):
        took.append(time.perf_counter() - before)
print(json.dumps(took))
"""


def tries(path: Path) -> dict[str, int]:
    """The codes of LockFileEx with FAIL_IMMEDIATELY on an overlapped handle: free and locked."""
    codes: Counter[str] = Counter()
    sharing = SHARE_ALL
    access = GENERIC_READ | GENERIC_WRITE
    kernel32.CreateEventW.restype = ctypes.c_void_p
    with (
        opened(path, access, sharing, OPEN_ALWAYS, OVERLAPPED_FLAG) as one,
        opened(path, access, sharing, OPEN_ALWAYS, OVERLAPPED_FLAG) as other,
    ):
        for handle, name in ((one, "free"), (other, "locked by another handle")):
            for _ in range(20):
                event = ctypes.c_void_p(kernel32.CreateEventW(None, True, False, None))
                request = Overlapped(offset=0xFFFF, event=event)
                where, written = ctypes.byref(request), wintypes.DWORD()
                if kernel32.LockFileEx(handle, TRY_EXCLUSIVE, 0, 1, 0, where):
                    code = 0
                else:
                    code = on_windows.get_last_error()
                if code == 997:  # pending: the answer comes with the event
                    kernel32.WaitForSingleObject(event, 5000)
                    done = kernel32.GetOverlappedResult(handle, where, ctypes.byref(written), False)
                    final = 0 if done else on_windows.get_last_error()
                    codes[f"{name}: 997, then {final}"] += 1
                else:
                    codes[f"{name}: {code}"] += 1
                kernel32.CloseHandle(event)
                if handle is one and code in (0, 997):
                    again = Overlapped(offset=0xFFFF)
                    kernel32.UnlockFileEx(handle, 0, 1, 0, ctypes.byref(again))
            if handle is one:
                request = Overlapped(offset=0xFFFF)
                kernel32.LockFileEx(handle, TRY_EXCLUSIVE, 0, 1, 0, ctypes.byref(request))
    return dict(codes)


def acquired(desk: Desk, directory: Path, limit_s: float) -> Answer:
    took: list[float] = json.loads(desk.python(ACQUIRE, directory / "lock", "50"))
    left = os.listdir(directory)
    codes = tries(directory / "tried")
    os.remove(directory / "tried")
    holds = statistics.median(took) < limit_s and not left
    return holds, {**milliseconds(took), "left_behind": left, "tries": codes}


@question("A free lock is had within 100 ms, on this disk [1]")
def _local(desk: Desk) -> Answer:
    return acquired(desk, desk.directory(), 0.1)


@question("A free lock is had within 100 ms, on a file server [1]")
def _served(desk: Desk) -> Answer:
    with desk.share(desk.directory()) as directory:
        return acquired(desk, directory, 0.1)


WAIT = """
import sys, time
from msal_extensions import CrossPlatLock
lock = CrossPlatLock(sys.argv[1], timeout=60)
print("ready", flush=True)
sys.stdin.readline()
with lock:
    with open(sys.argv[2], "a") as served:
        served.write(sys.argv[3] + "\\n")
    time.sleep(0.02)
"""


@question("Eight waiters are served in the order in which they came [4]", must=False)
def _order(desk: Desk) -> Answer:
    from msal_extensions import CrossPlatLock

    directory = desk.directory()
    lock, served, orders = directory / "lock", directory / "served", []
    for _ in range(5):
        served.write_text("")
        waiting = []
        with contextlib.ExitStack() as stack:
            for number in range(8):
                told = [sys.executable, "-c", WAIT, str(lock), str(served), str(number)]
                process = subprocess.Popen(
                    told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
                stack.callback(process.kill)
                waiting.append(process)
            for process in waiting:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            with CrossPlatLock(str(lock)):
                for process in waiting:
                    assert process.stdin is not None
                    process.stdin.write("\n")
                    process.stdin.flush()
                    time.sleep(0.2)  # until it is in the queue
            for process in waiting:
                process.communicate(timeout=60)
        orders.append(served.read_text().split())
    in_order = [order == sorted(order) for order in orders]
    return all(in_order) and lock.exists() is False, {"orders": [" ".join(o) for o in orders]}


@question("A lock file that may not be opened is an error, soon and in words [7]")
def _denied_lock(desk: Desk) -> Answer:
    from msal_extensions import CrossPlatLock, LockError

    path = desk.directory() / "lock"
    path.write_text("")
    with access_list(path, "/inheritance:r", "/grant", "*S-1-5-18:(F)"):
        before = time.perf_counter()
        try:
            CrossPlatLock(str(path), timeout=20).acquire()
        except LockError as error:
            took, caught = time.perf_counter() - before, error
        else:
            raise CannotAsk("the access list did not keep us out")
    facts = {"seconds": round(took, 2), "words": f"{type(caught).__name__}: {caught}"}
    return took < 5 and isinstance(caught, PermissionError), facts


@question("Whether a lock is still held is told after its connection was cut [14]", must=False)
def _cut(desk: Desk) -> Answer:
    from msal_extensions import CrossPlatLock

    desk.may_change_the_machine()
    directory = desk.directory()
    with desk.share(directory) as shown:
        lock = CrossPlatLock(str(shown / "lock"))
        lock.acquire()
        facts: dict[str, Any] = {"held": lock.still_held()}
        close = "Get-SmbOpenFile | Close-SmbOpenFile -Force"
        facts["cut"] = run("powershell", "-NoProfile", "-Command", close)[1]
        facts["held after it"] = lock.still_held()
        with contextlib.suppress(Exception):
            lock.release()
    facts["left_behind"] = os.listdir(directory)
    return not facts["held after it"], facts
