"""Which system calls one acquire and release make, as strace sees them.

The C program of floor.c claims to make the same calls as this package, so each run of the report
lists and compares both.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

#: getppid, which nothing else here calls, marks where the calls that count begin and end.
SNIPPET = """
import os, sys
from msal_extensions import CrossPlatLock
def cycle():
    with CrossPlatLock(sys.argv[1]):
        pass
for _ in range(5):
    cycle()
os.getppid()
cycle()
os.getppid()
"""
STRACE_S = 60


def _traced(command: list[str], path: Path, given: str) -> list[str]:
    """The calls between the last two getppid, without what differs from run to run."""
    if shutil.which("strace") is None:
        return []
    log = path.with_suffix(".strace")
    subprocess.run(
        ["strace", "-qq", "-s", "4096", "-o", str(log), *command],
        input=given,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=STRACE_S,
        check=False,  # where ptrace is forbidden there is no log either
    )
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    marks = [number for number, line in enumerate(lines) if line.startswith("getppid()")]
    if len(marks) < 2:
        return []
    return [_general(line, path) for line in lines[marks[-2] + 1 : marks[-1]]]


def _general(line: str, path: Path) -> str:
    """openat(FD, LOCK, ...) = -1 ENOENT: no paths, no pids, no numbers of inodes."""
    line = line.replace(f'"{path.name}"', "LOCK").replace(f'"{path.parent}/"', "DIRECTORY")
    line = re.sub(r'"/proc/self/fd/\d+"', "/proc/self/fd/FD", line)
    line = re.sub(r'^pwrite64\(\d+, ".*"(\.\.\.)?, ', "pwrite64(FD, RECORD, ", line)
    line = re.sub(r"\{st_mode=[^}]*\}", "STAT", line)
    line = re.sub(r"\{f_type=.*\}", "SYSTEM", line)
    line = re.sub(r"^(\w+)\(\d+, ", r"\1(FD, ", line)
    line = re.sub(r"^getpid\(\) += \d+", "getpid()", line)
    line = re.sub(r"^(openat2?\(.*\)) += \d+", r"\1", line)
    line = re.sub(r"^close\(\d+\)", "close(FD)", line)
    line = re.sub(r" \(No such file or directory\)| += 0$| += 256$", "", line)
    return re.sub(r"\) += ", ") = ", line)


def of_ours(directory: Path) -> list[str]:
    """The calls of this package; [] where strace cannot run."""
    path = directory / "ours-traced"
    return _traced([sys.executable, "-c", SNIPPET, str(path)], path, "")


def of_floor(program: Path, directory: Path) -> list[str]:
    """The calls of the C program; [] where strace cannot run."""
    path = directory / "floor-traced"
    return _traced([str(program), str(path)], path, "1\n")
