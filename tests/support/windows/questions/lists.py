"""Questions about access lists."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.plan import CannotAsk
from tests.support.windows.machine import Desk, run
from tests.support.windows.questions.asking import (
    Answer,
    access_list,
    part,
)

ASKED, question = part()


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
