"""Runs a program with kernel keyrings of its own, which end with it.

    subprocess.Popen(command(["python3", "program.py"]))

The kernel has one persistent keyring for each user of each user namespace (persistent-keyring(7)).
So the program runs in a new user namespace, and what it keeps there meets neither the keys of this
machine's users nor those of another test.  Where root runs the tests, all users have the same
numbers inside, so that even a package manager works.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

# sched.h
CLONE_NEWUSER = 0x10000000
ALL_USERS = f"0 0 {2**32 - 1}"


def command(
    program: Sequence[str], python: str = sys.executable, file: str = __file__
) -> list[str]:
    """The command that runs a program this way.

    :param file: Where this file is, if the program runs in another root directory.
    """
    return [python, file, *program]


def become(program: Sequence[str]) -> NoReturn:
    """Runs it in place of this process, in a new user namespace."""
    user, group, process = os.getuid(), os.getgid(), os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)
    entered, may_map = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:  # only a process outside may map more users than itself
        os.close(may_map[1])
        if os.read(may_map[0], 1):
            Path(f"/proc/{process}/setgroups").write_text("allow" if user == 0 else "deny")
            for name, number in (("uid_map", user), ("gid_map", group)):
                lines = ALL_USERS if user == 0 else f"{number} {number} 1"
                Path(f"/proc/{process}/{name}").write_text(lines)
            os.write(entered[1], b".")
        os._exit(0)
    os.close(entered[1])
    if libc.unshare(CLONE_NEWUSER) != 0:
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    os.write(may_map[1], b".")
    mapped = os.read(entered[0], 1)
    os.waitpid(pid, 0)
    if not mapped:
        sys.exit("the users could not be mapped")
    for descriptor in (*entered[:1], *may_map):
        os.close(descriptor)
    os.execvp(program[0], list(program))


if __name__ == "__main__":
    become(sys.argv[1:])
