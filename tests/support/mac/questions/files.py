"""Questions about files: rights, access lists, extended attributes, backups."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Any

from tests.support.mac.machine import Desk, run
from tests.support.mac.questions.locks import HARNESS, attached
from tests.support.plan import Answer, CannotAsk, part

ASKED, question = part()
INHERITED = "everyone allow read,write,file_inherit"
OWN = "everyone deny delete"
SAVE = """
import sys
from msal_extensions import FilePersistence
FilePersistence(sys.argv[1]).save("saved")
"""
NOTHING_LEFT = """
import os, sys
from msal_extensions import FilePersistence, CrossPlatLock
os.chdir(sys.argv[1])
persistence = FilePersistence("cache.bin")
for number in range(20):
    with CrossPlatLock("cache.bin.lockfile"):
        persistence.save(str(number))
        assert persistence.load() == str(number)
persistence.verify()
# Where a file system has no attributes, macOS keeps them in a file with this prefix.
print(sorted(os.listdir(".")), [one for one in os.listdir(".") if not one.startswith("._")])
"""


def questions(desk: Desk) -> Path:
    return desk.built("files_on_a_mac", "tests/native/macos/files_on_a_mac.c", *HARNESS)


@question("Links, writing, turns and processes are as os_macos.c believes")
def _files(desk: Desk) -> Answer:
    status, said = run(questions(desk))
    return status == 0, {"status": status, "said": said}


@question("A saved file has nothing of the access list that its directory hands down")
def _inherited(desk: Desk) -> Answer:
    program, shared = questions(desk), desk.directory()
    status, said = run("chmod", "+a", INHERITED, shared)
    if status != 0:
        raise CannotAsk(f"chmod +a: status {status} {said}")
    status, said = run("sh", "-c", 'cd "$1" && "$2" inherits', "sh", shared, program)
    _, listed = run("ls", "-le", shared / "cache.bin")
    # The first line shows that the directory does hand it down.
    holds = status == 0 and "a new file inherits a list" in said and "everyone" not in listed
    return holds, {"status": status, "said": said, "list": listed}


def marks(file: Path) -> dict[str, str]:
    """What a file has beside its content."""
    _, attributes = run("xattr", "-l", file)
    _, listed = run("ls", "-le", file)
    _, excluded = run("tmutil", "isexcluded", file)
    return {"attributes": attributes, "list": listed, "backup": excluded}


@question("A save keeps extended attributes, the access list, and the exclusion from backups")
def _kept(desk: Desk) -> Answer:
    file = desk.directory() / "cache.bin"
    run(sys.executable, "-c", SAVE, file)
    for command in (
        ("xattr", "-w", "user.msalex", "kept", file),
        ("chmod", "+a", OWN, file),
        ("tmutil", "addexclusion", file),
    ):
        status, said = run(*command)
        if status != 0:
            raise CannotAsk(f"{command[0]}: status {status} {said}")
    before = marks(file)
    status, said = run(sys.executable, "-c", SAVE, file)
    after, mode = marks(file), stat.S_IMODE(file.stat().st_mode)
    facts: dict[str, Any] = {"before": before, "after": after, "said": said, "mode": oct(mode)}
    holds = "kept" in after["attributes"] and "everyone deny delete" in after["list"]
    return holds and "[Excluded]" in after["backup"] and status == 0, facts


def _on(kind: str) -> None:
    @question(f"Saves, loads and the lock leave nothing behind, on {kind}")
    def ask(desk: Desk) -> Answer:
        with attached(desk.directory(), kind) as disk:
            (place := disk / "place").mkdir()
            status, said = run(sys.executable, "-c", NOTHING_LEFT, place, seconds=60)
        return status == 0 and said.endswith(" ['cache.bin']"), {"status": status, "said": said}


for _kind in ("HFS+", "Case-sensitive APFS", "ExFAT", "MS-DOS"):
    _on(_kind)
