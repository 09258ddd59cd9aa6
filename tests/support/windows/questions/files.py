"""Questions about files and file systems."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from ctypes import wintypes
from pathlib import Path
from typing import Any

from tests.support.plan import CannotAsk
from tests.support.windows import machine
from tests.support.windows.machine import Desk, file_system, kernel32
from tests.support.windows.questions.asking import (
    GENERIC_READ,
    OPEN_EXISTING,
    SHARE_ALL,
    SHARE_READ,
    SHARE_WRITE,
    Answer,
    milliseconds,
    opened,
    part,
)
from tests.support.windows.questions.locks import acquired

ASKED, question = part()

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
    facts = saved_beside_open(desk.directory() / "cache.bin", SHARE_ALL, 1000, desk)
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
    reference = str(desk.reference(portalocker=False))
    ours = failures_of_a_reader(desk, "ours")
    theirs = failures_of_a_reader(desk, "1.3.1", PYTHONPATH=reference)
    fewer = ours["share_of_failed_reads"] <= theirs["share_of_failed_reads"] + 0.001
    return fewer and not ours["errors_of_the_writer"], {"beside ours": ours, "beside 1.3.1": theirs}


ACTIONS = {1: "added", 2: "removed", 3: "changed", 4: "renamed from", 5: "renamed to"}
LIST_DIRECTORY, BACKUP_SEMANTICS = 1, 0x02000000
NAMES_SIZES_WRITES = 0x1 | 0x8 | 0x10  # FILE_NOTIFY_CHANGE_FILE_NAME, _SIZE, _LAST_WRITE


def events(directory: Path, action: Callable[[], object]) -> list[tuple[str, str]]:
    """What ReadDirectoryChangesW tells while something happens: (what, name), in order."""
    told: list[tuple[str, str]] = []
    ready = threading.Event()

    def listen() -> None:
        with opened(directory, LIST_DIRECTORY, SHARE_ALL, OPEN_EXISTING, BACKUP_SEMANTICS) as it:
            buffer = ctypes.create_string_buffer(1 << 16)
            size = wintypes.DWORD()
            where = ctypes.byref(size)
            ready.set()
            while ("added", "the end") not in told:
                told_now = kernel32.ReadDirectoryChangesW(
                    it, buffer, len(buffer), False, NAMES_SIZES_WRITES, where, None, None
                )
                if not told_now:
                    return
                told.extend(_parsed(buffer.raw[: size.value]))

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    ready.wait(10)
    time.sleep(0.5)  # until it listens
    action()
    (directory / "the end").touch()
    listener.join(10)
    return [one for one in told if one[1] != "the end"]


def _parsed(content: bytes) -> Iterator[tuple[str, str]]:
    """FILE_NOTIFY_INFORMATION, one behind the other."""
    at = 0
    while at < len(content):
        following, action, length = struct.unpack_from("<III", content, at)
        name = content[at + 12 : at + 12 + length].decode("utf-16-le", "replace")
        yield ACTIONS.get(action, str(action)), name
        if following == 0:
            return
        at += following


@question("A save is told to a watcher that listens as MSAL.NET's: changed, or removed [5]")
def _watched(desk: Desk) -> Answer:
    from msal_extensions import FilePersistence

    if machine.wine():
        raise CannotAsk("Wine tells nothing of a file that is replaced")
    directory = desk.directory()
    persistence = FilePersistence(str(directory / "cache.bin"))
    persistence.save("{}")
    told = events(directory, lambda: persistence.save('{"second": {}}'))
    mine = [what for what, name in told if name == "cache.bin"]
    return bool({"changed", "removed"} & set(mine)), {"events": [" ".join(one) for one in told]}


def works_in(desk: Desk, directory: Path) -> Answer:
    """Saves, beside a reader too, and the lock."""
    facts: dict[str, Any] = {"file_system": file_system(directory)}
    took, codes = json.loads(desk.python(SAVE, directory / "alone.bin", "50", "ours"))
    facts["alone"] = {"saved": len(took), "errors": codes}
    facts["beside a reader"] = saved_beside_open(directory / "read.bin", SHARE_ALL, 20, desk)
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
