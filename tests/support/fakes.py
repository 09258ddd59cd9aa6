"""System calls that fail as they do elsewhere: see tests/fakes/syscalls.c.

environment = faked(build_fakes(directory), "inotify=EMFILE", logs)
... a process with that environment ...
assert_met("inotify=EMFILE", logs)
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.capability import needs

SOURCE = Path(__file__).resolve().parents[1] / "fakes" / "syscalls.c"


def build_fakes(directory: Path) -> Path:
    """The library that makes system calls fail."""
    compiler = shutil.which("cc")
    needs(None if compiler else "cc is not installed")
    library = directory / "fakes.so"
    flags = ["-std=c11", "-O1", "-Wall", "-Wextra", "-shared", "-fPIC"]
    command = [str(compiler), *flags, "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, timeout=120)
    return library


def faked(fakes: Path, fault: str, directory: Path) -> dict[str, str]:
    return {
        "LD_PRELOAD": str(fakes),
        "FAKE": fault,
        "FAKE_LOG": str(directory / "met"),
    }


def assert_met(fault: str, directory: Path) -> None:
    """The fault came about: a test whose fake touches nothing would prove nothing."""
    met = {line for log in directory.glob("met.*") for line in log.read_text().split()}
    said = {rule.partition("=")[0] for rule in fault.split(";")}
    # Of a chain of faults the first may keep the others from happening.
    assert said & met, f"none of {said} happened"
