"""The CPythons of this machine, each once: those of pyenv and those on PATH."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# The interpreter behind a command: pyenv's commands are scripts, Debian's are links.
IDENTIFY = (
    "import os, sys, sysconfig\n"
    "fits = sys.version_info >= (3, 10) and sys.implementation.name == 'cpython'\n"
    "free = sysconfig.get_config_var('Py_GIL_DISABLED')\n"
    "print(os.path.realpath(getattr(sys, '_base_executable', sys.executable))\n"
    "      if fits and not free else '')"
)


def candidates() -> Iterator[Path]:
    """Commands that may be a Python: this one, pyenv's, and those on PATH."""
    yield Path(sys.executable)
    root = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    yield from sorted(root.glob("versions/*/bin/python"))
    for directory in filter(None, os.environ.get("PATH", os.defpath).split(os.pathsep)):
        found = sorted(Path(directory).glob("python3*"))
        yield from (path for path in found if re.fullmatch(r"python3(\.\d+)?", path.name))


@functools.cache
def pythons() -> tuple[str, ...]:
    """Each CPython >= 3.10 of this machine that loads an abi3 wheel, once."""
    found = []
    for command in dict.fromkeys(candidates()):
        done = subprocess.run([command, "-c", IDENTIFY], capture_output=True, text=True, timeout=60)
        if done.returncode == 0 and done.stdout.strip():
            found.append(done.stdout.strip())
    return tuple(dict.fromkeys(found))
