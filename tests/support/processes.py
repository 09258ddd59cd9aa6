"""Real processes for the tests: snippets of Python that run at the same time."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

#: Seconds; a process that has not ended by then is a failure.
PATIENCE = 120

#: Seconds for a step that should take no time at all.
GENEROUS = 60


def python(
    code: str,
    *arguments: str,
    command: Sequence[str] = (sys.executable,),
    environment: Mapping[str, str] | None = None,
    check: bool = True,
    patience: float = PATIENCE,
) -> subprocess.CompletedProcess[str]:
    """Runs a snippet to its end, which is a successful one if ``check``."""
    done = subprocess.run(
        [*command, "-c", textwrap.dedent(code), *arguments],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience,
    )
    assert not check or done.returncode == 0, f"status {done.returncode}\n{done.stderr}"
    return done


def finished(
    command: Sequence[object],
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float = 600,
    piped: bool = False,
) -> str:
    """Runs a program to a successful end; returns everything that it printed.

    The output goes into a file, because a child that stays behind would keep a pipe open.

    :param piped: Use a pipe all the same: Python under Wine does not start with a file there.
    """
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else output,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=seconds,
        )
        output.seek(0)
        said = (done.stdout if piped else output.read()).decode(errors="replace")
        said = said.replace("\r\n", "\n")  # of Windows
    assert done.returncode == 0, f"status {done.returncode}: {command}\n{said[-20000:]}"
    return said


@contextlib.contextmanager
def saying(
    word: str,
    command: Sequence[str | os.PathLike[str]],
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Generator[subprocess.Popen[str]]:
    """A process that has printed this one word, with pipes to it; it is killed at the end."""
    with subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{word}\n"
            yield process
        finally:
            process.kill()


class Member(NamedTuple):
    """One process of a crowd: its snippet, and how it is started."""

    code: str
    arguments: Sequence[str]
    command: Sequence[str] = (sys.executable,)
    environment: Mapping[str, str] | None = None


def crowd(
    code: str,
    count: int,
    *arguments: str,
    command: Sequence[str] = (sys.executable,),
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Runs the snippet in ``count`` processes; ``sys.argv[1]`` is the process's number."""
    return together(
        [Member(code, (str(number), *arguments), command, environment) for number in range(count)]
    )


def together(members: Sequence[Member], meanwhile: Callable[[], None] | None = None) -> list[str]:
    """Runs processes whose work begins at the same moment.

    A snippet calls ``ready()``, which waits until all others have called it too, and then works.
    Returns the output of each process after that.  If one fails, this fails.  ``meanwhile`` is
    called when the work has begun.
    """
    start = "import sys\ndef ready():\n    print('ready', flush=True)\n    sys.stdin.readline()\n"
    processes = [
        subprocess.Popen(
            [*member.command, "-c", start + textwrap.dedent(member.code), *member.arguments],
            env={**os.environ, **(member.environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for member in members
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line == "ready\n", process.communicate()[1]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        if meanwhile is not None:
            meanwhile()
        outputs = []
        for process in processes:
            output, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors
            outputs.append(output)
        return outputs
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def threads() -> int:
    """The number of threads of this process."""
    return len(os.listdir("/proc/self/task"))


def descriptors() -> int:
    """The number of files that this process has open."""
    return len(os.listdir("/proc/self/fd"))


def at_rest() -> tuple[int, int]:
    """The threads and descriptors of this process, without those that earlier tests left.

    The lock keeps an idle thread for a second: IDLE_MS in csrc/lock_wait_linux.c.
    """
    time.sleep(1.2)
    return threads(), descriptors()


def no_more_than(before: tuple[int, int]) -> bool:
    """Whether this process has no more threads and no more descriptors than at_rest() found."""
    return threads() <= before[0] and descriptors() <= before[1]


def eventually(condition: Callable[[], bool]) -> bool:
    """Does it become true within a generous time?"""
    deadline = time.monotonic() + GENEROUS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
