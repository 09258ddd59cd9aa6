"""The system calls of a snippet, as strace sees them.

    calls = traced(tmp_path, "%file", '''
        persistence = FilePersistence(sys.argv[1])
        with marked("save"):
            persistence.save("new")
    ''', str(location))["save"]

Only calls inside marked() are recorded.
"""

from __future__ import annotations

import ast
import functools
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

from tests.support.capability import needs
from tests.support.processes import PATIENCE

BEGIN, END = "/BEGIN-MARK/", "/END-MARK"
PRELUDE = f"""
import contextlib, os, sys
@contextlib.contextmanager
def marked(name):
    os.path.exists({BEGIN!r} + name)
    try:
        yield
    finally:
        os.path.exists({END!r})
"""
MARK = re.compile(rf'"(?:{BEGIN}(?P<name>[^"]*)|{END})"')
#: A line such as "123 openat(3</directory>, "name", O_RDONLY) = 4</directory/name>".
LINE = re.compile(r"^(?:\d+ +)?(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>.*)$")
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
DESCRIPTOR = re.compile(r"^\d+<(?P<path>[^>]*)>")


class Call(NamedTuple):
    """One system call."""

    name: str
    arguments: str  #: as strace writes them
    result: str

    @property
    def strings(self) -> list[str]:
        """Its arguments that are text: paths, and names in directories."""
        return [str(ast.literal_eval(text)) for text in STRING.findall(self.arguments)]

    @property
    def descriptor(self) -> str:
        """The path of its first argument, if that is a descriptor."""
        found = DESCRIPTOR.match(self.arguments)
        return found["path"] if found else ""


@functools.cache
def missing() -> str | None:
    if shutil.which("strace") is None:
        return "strace is not installed"
    allowed = subprocess.run(["strace", "-qq", "true"], capture_output=True, timeout=PATIENCE)
    return "strace is not allowed to trace" if allowed.returncode else None


def traced(scratch: Path, which: str, snippet: str, *arguments: str) -> dict[str, list[Call]]:
    """Runs the snippet; returns its calls by mark, of the kinds that ``strace -e trace=``
    understands."""
    needs(missing())
    log = scratch / "strace.log"
    done = subprocess.run(
        [
            *("strace", "-f", "-qq", "-y", "-s", "4096", "-o", str(log), "-e", "signal=none"),
            *("-e", f"trace={which},%stat"),  # the marks are stat calls
            *(sys.executable, "-c", PRELUDE + textwrap.dedent(snippet), *arguments),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    marks: dict[str, list[Call]] = {}
    calls: list[Call] | None = None
    for line in log.read_text().splitlines():
        mark, found = MARK.search(line), LINE.match(line)
        if mark:
            calls = marks.setdefault(mark["name"], []) if mark["name"] else None
        elif calls is not None:
            assert found, f"strace writes what this does not understand: {line}"
            calls.append(Call(found["name"], found["arguments"], found["result"]))
    return marks
