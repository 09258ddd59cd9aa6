"""Questions about encryption, and about protection against programs."""

from __future__ import annotations

import os
import sys
import time

from tests.support.plan import CannotAsk
from tests.support.windows.machine import Desk, run
from tests.support.windows.questions.asking import Answer, part

ASKED, question = part()

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
