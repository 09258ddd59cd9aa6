"""Runs a program, and ends all that it started when it ends, or when our own parent is killed.

    subprocess.Popen(command(["sh", "-c", ...]))

Orphans become children of this process, as they become children of init elsewhere: so none of them
can hide.  A pid namespace would do the same, but in one our lock trusts no pid in a peer's file.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

# prctl(2)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def command(program: Sequence[str]) -> list[str]:
    """The command that runs a program this way."""
    return [sys.executable, __file__, *program]


def descendants() -> list[int]:
    """All that came from this process, and have not been waited for."""
    parents = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # The name stands in parentheses, and may hold more of them.
            fields = (directory / "stat").read_text(errors="replace").rpartition(")")[2].split()
            parents[int(directory.name)] = int(fields[1])
    found, level = [], {os.getpid()}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        found += sorted(level)
    return found


def end_all() -> None:
    while pids := descendants():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def stop(number: int, _: object) -> NoReturn:
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def main(program: Sequence[str]) -> int:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for option, value in ((PR_SET_PDEATHSIG, signal.SIGTERM), (PR_SET_CHILD_SUBREAPER, 1)):
        if prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    # Ctrl-C is for the program.  A handler, unlike SIG_IGN, does not outlive exec.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    try:
        process = subprocess.Popen(program)
        while True:
            pid, status = os.wait()
            if pid == process.pid:
                return os.waitstatus_to_exitcode(status) % 256
    finally:
        end_all()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
