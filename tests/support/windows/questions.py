"""The questions of tests/windows/on_windows.py.

A question returns whether its promise holds, and facts for the record. `must` says whether the
answer decides the exit status: where Windows documents nothing, the facts alone count. Numbers in
brackets are findings of the review of the Windows half.
"""

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
from collections.abc import Callable, Iterator
from ctypes import wintypes
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.windows.machine import CannotAsk, Desk, file_system, kernel32, on_windows, run

Answer = tuple[bool, dict[str, Any]]


class Question(NamedTuple):
    sentence: str
    must: bool
    ask: Callable[[Desk], Answer]


ALL: list[Question] = []


def question(sentence: str, must: bool = True) -> Callable[[Callable[[Desk], Answer]], None]:
    return lambda ask: ALL.append(Question(sentence, must, ask))


GENERIC_READ, GENERIC_WRITE, OPEN_ALWAYS, OPEN_EXISTING = 0x80000000, 0x40000000, 4, 3
SHARE_READ, SHARE_WRITE, SHARE_DELETE, OVERLAPPED_FLAG = 1, 2, 4, 0x40000000
TRY_EXCLUSIVE = 3  # LOCKFILE_FAIL_IMMEDIATELY | LOCKFILE_EXCLUSIVE_LOCK
NOT_OPEN = ctypes.c_void_p(-1).value


class Overlapped(ctypes.Structure):
    _fields_ = (
        ("internal", ctypes.c_size_t),
        ("internal_high", ctypes.c_size_t),
        ("offset", wintypes.DWORD),
        ("offset_high", wintypes.DWORD),
        ("event", wintypes.HANDLE),
    )


@contextlib.contextmanager
def opened(path: Path, access: int, sharing: int, how: int, flags: int = 0) -> Iterator[Any]:
    """A handle, as CreateFileW gives it."""
    kernel32.CreateFileW.restype = ctypes.c_void_p
    told = (str(path), access, sharing, None, how, flags, None)
    handle = ctypes.c_void_p(kernel32.CreateFileW(*told))
    if handle.value in (None, NOT_OPEN):
        raise OSError(f"CreateFileW of {path}: error {on_windows.get_last_error()}")
    try:
        yield handle
    finally:
        kernel32.CloseHandle(handle)


def milliseconds(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "median_ms": round(1000 * statistics.median(ordered), 2),
        "most_ms": round(1000 * ordered[-1], 2),
    }


# ---- the suite, and the rules of this system ----


@question("The tests of this project pass, on Windows itself")
def _suite(desk: Desk) -> Answer:
    facts: dict[str, Any] = {}
    for name in ("BARE", "PORTALOCKER"):
        facts[f"1.3.1, {name.lower()}"] = os.environ.get(f"MSALEX_REFERENCE_{name}", "not here")
    peer = str(desk.built("peer_lock"))
    told = [sys.executable, "-m", "pytest", "-q", "--tb=short", "tests"]
    status, said = run(*told, seconds=3600, variables={"MSALEX_PEER_LOCK": peer})
    summary = said[said.rfind("short test summary info") :]
    return status == 0, {**facts, "status": status, "pytest": summary[-6000:]}


@question("Each rule of Windows that a fake of ours models is shown by this system", must=False)
def _rules(desk: Desk) -> Answer:
    status, said = run(desk.built("rules"), desk.directory())
    return status == 0 and "not shown" not in said, {"rules": said}


# ---- the lock ----

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
    sharing = SHARE_READ | SHARE_WRITE | SHARE_DELETE
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


@contextlib.contextmanager
def access_list(path: Path, *options: str) -> Iterator[None]:
    """The file or directory with another access list, until the end of the block."""
    status, said = run("icacls", path, *options)
    if status != 0:
        raise CannotAsk(f"icacls: status {status} {said}")
    try:
        yield
    finally:
        run("takeown", "/f", path)
        run("icacls", path, "/reset")


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


# ---- files ----

#: Saves that often, or until 100 s are over; KIND: "ours" or "1.3.1", so that no mix-up passes.
SAVE = """
import json, sys, time
from msal_extensions import FilePersistence
persistence, took, codes = FilePersistence(sys.argv[1]), [], {}
assert hasattr(persistence, "verify") == (sys.argv[3] == "ours")
end = time.monotonic() + 100
for number in range(int(sys.argv[2])):
    before = time.perf_counter()
    try:
        persistence.save(json.dumps({"number": number, "text": "x" * 20000}))
    except OSError as error:
        codes[str(error)] = codes.get(str(error), 0) + 1
    else:
        took.append(time.perf_counter() - before)
    if time.monotonic() > end:
        break
print(json.dumps([took, codes]))
"""
#: As 1.3.1 loads and saves: open() shares reading and writing, and nothing is tried again.
OPEN = """
import json, os, sys
path, stop, failed, good = sys.argv[1], sys.argv[2], {}, 0
while not os.path.exists(stop):
    try:
        with open(path, encoding="utf-8") as file:
            json.load(file)
        good += 1
    except (OSError, ValueError) as error:
        name = f"{type(error).__name__} {getattr(error, 'winerror', None)}"
        failed[name] = failed.get(name, 0) + 1
print(json.dumps([good, failed]))
"""


def saved_beside_open(path: Path, sharing: int, times: int, desk: Desk) -> dict[str, Any]:
    path.write_text("{}")
    with opened(path, GENERIC_READ, sharing, OPEN_EXISTING):
        took, codes = json.loads(desk.python(SAVE, path, str(times), "ours"))
    facts: dict[str, Any] = {"file_system": file_system(path), "saved": len(took), "errors": codes}
    if took:
        facts |= milliseconds(took)
    facts["left_behind"] = [name for name in os.listdir(path.parent) if name != path.name]
    return facts


@question("1,000 saves beside a reader that keeps the file open and shares deletion [5]")
def _beside_open(desk: Desk) -> Answer:
    everything = SHARE_READ | SHARE_WRITE | SHARE_DELETE
    facts = saved_beside_open(desk.directory() / "cache.bin", everything, 1000, desk)
    return facts["saved"] == 1000 and not facts["left_behind"], facts


@question("Saves beside a reader that shares no deletion: their codes [5]", must=False)
def _beside_unshared(desk: Desk) -> Answer:
    path = desk.directory() / "cache.bin"
    facts = saved_beside_open(path, SHARE_READ | SHARE_WRITE, 3, desk)
    return facts["saved"] == 0, facts


def failures_of_a_reader(desk: Desk, kind: str, **variables: str) -> dict[str, Any]:
    directory = desk.directory()
    path, stop = directory / "cache.bin", directory / "stop"
    path.write_text("{}")
    told = [sys.executable, "-c", OPEN, str(path), str(stop)]
    with subprocess.Popen(told, stdout=subprocess.PIPE, text=True) as reader:
        try:
            took, codes = json.loads(desk.python(SAVE, path, "1000", kind, **variables))
        finally:
            stop.touch()
        good, failed = json.loads(reader.communicate(timeout=60)[0])
    share = sum(failed.values()) / max(1, good + sum(failed.values()))
    return {
        "saved": len(took),
        "errors_of_the_writer": codes,
        "read": good,
        "errors_of_the_reader": failed,
        "share_of_failed_reads": round(share, 5),
    }


@question("A reader as in 1.3.1 fails not more often beside us than beside 1.3.1 itself [5]")
def _reader(desk: Desk) -> Answer:
    reference = os.environ.get("MSALEX_REFERENCE_BARE")
    if not reference:
        raise CannotAsk("MSALEX_REFERENCE_BARE names no directory with 1.3.1")
    ours = failures_of_a_reader(desk, "ours")
    theirs = failures_of_a_reader(desk, "1.3.1", PYTHONPATH=reference)
    fewer = ours["share_of_failed_reads"] <= theirs["share_of_failed_reads"] + 0.001
    return fewer and ours["saved"] == 1000, {"beside ours": ours, "beside 1.3.1": theirs}


def works_in(desk: Desk, directory: Path) -> Answer:
    """Saves, beside a reader too, and the lock."""
    everything = SHARE_READ | SHARE_WRITE | SHARE_DELETE
    facts: dict[str, Any] = {"file_system": file_system(directory)}
    took, codes = json.loads(desk.python(SAVE, directory / "alone.bin", "50", "ours"))
    facts["alone"] = {"saved": len(took), "errors": codes}
    facts["beside a reader"] = saved_beside_open(directory / "read.bin", everything, 20, desk)
    _, facts["lock"] = acquired(desk, directory / "locks", 1)
    holds = len(took) == 50 and facts["lock"]["left_behind"] == []
    return holds, facts


def _on(kind: str, megabytes: int) -> None:
    @question(f"Files and the lock work on {kind} [5]")
    def ask(desk: Desk) -> Answer:
        with desk.volume(kind, megabytes) as directory:
            (directory / "locks").mkdir()
            return works_in(desk, directory)


for _kind, _megabytes in (("FAT32", 300), ("exFAT", 300), ("ReFS", 2100)):
    _on(_kind, _megabytes)


@question("Files and the lock work on a drive made by subst [5]")
def _subst(desk: Desk) -> Answer:
    with desk.substituted(desk.directory()) as directory:
        (directory / "locks").mkdir()
        return works_in(desk, directory)


@question("Files and the lock work on a file server [5]")
def _smb(desk: Desk) -> Answer:
    with desk.share(desk.directory()) as directory:
        (directory / "locks").mkdir()
        return works_in(desk, directory)


# ---- access lists ----


def list_of(path: Path) -> str:
    status, said = run("icacls", path)
    if status != 0 or not said:
        raise CannotAsk(f"icacls: status {status} {said}")
    return said


@question("A list that grants writing but not deletion: saved, and nothing left behind [6]")
def _no_delete(desk: Desk) -> Answer:
    from msal_extensions import FilePersistence

    directory = desk.directory()
    path = directory / "cache.bin"
    path.write_text("old")
    user = f"{os.environ.get('USERDOMAIN', '.')}\\{os.environ.get('USERNAME', '')}"
    with access_list(path, "/inheritance:r", "/grant", f"{user}:(R,W)"):
        try:
            FilePersistence(str(path)).save("new")
            said = "saved"
        except OSError as error:
            said = f"{type(error).__name__}: {error}"
        facts = {"said": said, "list": list_of(path), "left_behind": os.listdir(directory)}
        facts["content"] = path.read_text()
    return facts["content"] == "new" and facts["left_behind"] == ["cache.bin"], facts


@question("Three saves leave the access list as it was [17]")
def _lists(desk: Desk) -> Answer:
    from msal_extensions import FilePersistence

    facts: dict[str, Any] = {}
    for name, options in {
        "inherited": (),
        "its own entry": ("/grant", "*S-1-5-11:(R)"),
        "protected": ("/inheritance:d",),
    }.items():
        path = desk.directory() / "cache.bin"
        path.write_text("old")
        if options and run("icacls", path, *options)[0] != 0:
            raise CannotAsk("icacls cannot change the list")
        before = list_of(path)
        for number in range(3):
            FilePersistence(str(path)).save(f"new {number}")
        facts[name] = {"before": before, "after": list_of(path)}
    return all(one["before"] == one["after"] for one in facts.values()), facts


FIRST = """
import sys
from msal_extensions import CrossPlatLock, FilePersistence
FilePersistence(sys.argv[1]).save("{}")
with CrossPlatLock(sys.argv[1] + ".lockfile"):
    print(FilePersistence(sys.argv[1]).load())
"""


@question("A directory that an elevated process made is usable without elevation [2]")
def _elevated(desk: Desk) -> Answer:
    desk.may_change_the_machine()
    directory = desk.directory()
    location, said = directory / "new" / "cache.bin", directory / "said.txt"
    desk.python(FIRST, location)
    script = directory / "again.cmd"
    code = directory / "again.py"
    code.write_text(FIRST)
    script.write_text(f'"{sys.executable}" "{code}" "{location}" > "{said}" 2>&1\n')
    facts: dict[str, Any] = {"list": list_of(location.parent)}
    for more in (["/machine:amd64"], []):
        status, words = run("runas", "/trustlevel:0x20000", *more, str(script))
        facts[f"runas {' '.join(more)}"] = f"status {status} {words}"
        for _ in range(100):
            if said.exists() and said.read_text().strip():
                facts["said"] = said.read_text().strip()
                return facts["said"] == "{}", facts
            time.sleep(0.1)
    raise CannotAsk(f"runas started nothing: {facts}")


# ---- encryption ----

PROTECT = """
import sys
from msal_extensions import FilePersistenceWithDataProtection
persistence = FilePersistenceWithDataProtection(sys.argv[1])
for action in ("load", "save"):
    try:
        getattr(persistence, action)(*(["{}"] if action == "save" else []))
        print(action, "ok")
    except Exception as error:
        print(action, type(error).__name__, error)
"""


@question("What data protection says in a task that has no password of its user [9]", must=False)
def _task(desk: Desk) -> Answer:
    desk.may_change_the_machine()
    directory = desk.directory()
    location, said, code = (directory / name for name in ("cache.bin", "said.txt", "task.py"))
    desk.python(PROTECT, location)
    code.write_text(PROTECT)
    script = directory / "task.cmd"
    script.write_text(f'"{sys.executable}" "{code}" "{location}" > "{said}" 2>&1\n')
    name = f"msalex {os.getpid()}"
    told = ["/create", "/tn", name, "/tr", str(script), "/sc", "once", "/st", "00:00", "/f", "/np"]
    status, words = run("schtasks", *told, "/ru", os.environ.get("USERNAME", ""))
    if status != 0:
        raise CannotAsk(f"schtasks: status {status} {words}")
    try:
        run("schtasks", "/run", "/tn", name)
        for _ in range(300):
            if said.exists() and said.read_text().count("\n") >= 2:
                break
            time.sleep(0.1)
    finally:
        run("schtasks", "/delete", "/tn", name, "/f")
    if not said.exists():
        raise CannotAsk("the task said nothing within 30 s")
    return True, {"said": said.read_text()}


@question("What Controlled Folder Access makes of a save and of the lock [11]", must=False)
def _controlled(desk: Desk) -> Answer:
    desk.may_change_the_machine()
    directory = desk.directory()
    state = "(Get-MpPreference).EnableControlledFolderAccess"
    status, before = run("powershell", "-NoProfile", "-Command", state)
    if status != 0 or before not in ("0", "1", "2"):
        raise CannotAsk(f"Defender is not here: {before[:200]}")
    on = "Set-MpPreference -EnableControlledFolderAccess Enabled; Add-MpPreference"
    on += f" -ControlledFolderAccessProtectedFolders '{directory}'"
    off = f"Set-MpPreference -EnableControlledFolderAccess {before}; Remove-MpPreference"
    off += f" -ControlledFolderAccessProtectedFolders '{directory}'"
    tell = """
    import sys
    from msal_extensions import CrossPlatLock, FilePersistence
    for name, action in {
        "save": lambda: FilePersistence(sys.argv[1] + "\\\\cache.bin").save("{}"),
        "lock": lambda: CrossPlatLock(sys.argv[1] + "\\\\lock", timeout=3).acquire(),
    }.items():
        try:
            action()
            print(name, "ok")
        except Exception as error:
            print(name, type(error).__name__, error)
    """
    try:
        status, words = run("powershell", "-NoProfile", "-Command", on)
        time.sleep(3)
        said = desk.python(tell, directory)
    finally:
        run("powershell", "-NoProfile", "-Command", off)
    return "protection" in said, {"switching": f"status {status} {words}", "said": said}
