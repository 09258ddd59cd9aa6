"""What the benchmarks share: worker processes that answer line by line, and statistics."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

Row = dict[str, Any]
Progress = Callable[[str], None]

#: Seconds that a worker may take beyond what it was asked for.
PATIENCE_S = 90
#: All workers begin this much later than they are told to, so that the last is there in time.
START_S = 0.1


class Library(NamedTuple):
    """One row of the tables."""

    key: str  # as the worker calls it
    label: str
    site: Path | None = None  # for PYTHONPATH, when it is installed apart
    stalls: bool = False  # waits seconds where the others wait milliseconds: try it less often

    @property
    def environment(self) -> dict[str, str]:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        return environment if self.site is None else {**environment, "PYTHONPATH": str(self.site)}


def new_row(library: Library, about: dict[str, str]) -> Row:
    """What is known before anything is measured; "samples" are seconds."""
    return {"library": library.key, "label": library.label, "samples": [], **about}


class WorkerFailed(Exception):
    """What a worker that ended, or hung, said on stderr."""


class Child:
    """A process that answers one line to each line.  It never outlives this object's block."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in close()
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self, seconds: float = PATIENCE_S) -> str:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            self._errors.seek(0)
            raise WorkerFailed(f"{self.process.args!r}: {self._errors.read()[-2000:]}")
        return line

    def kill(self) -> None:
        """Sends SIGKILL; does not wait."""
        self.process.kill()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):  # killed with something left to read
                stream.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Worker(Child):
    """A process that runs a program with one library and one path, and answers in JSON."""

    def __init__(self, program: Path, library: Library, path: Path) -> None:
        command = [sys.executable, str(program), library.key, str(path)]
        super().__init__(command, library.environment)
        self._about: dict[str, str] | None = None

    def about(self) -> dict[str, str]:
        """The versions; waits until the worker is ready."""
        if self._about is None:
            self._about = json.loads(super().answer())
        return self._about

    def order(self, do: str, **arguments: object) -> None:
        self.about()
        self.tell(json.dumps({"do": do, **arguments}))

    def result(self, seconds: float = PATIENCE_S) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.answer(seconds))
        return found


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def interleave(rounds: dict[Library, int]) -> list[Library]:
    """One of each in turn, as long as each has rounds left: a noisy moment hits all of them."""
    turns = [[library] * count for library, count in rounds.items()]
    return [it for turn in itertools.zip_longest(*turns) for it in turn if it is not None]
