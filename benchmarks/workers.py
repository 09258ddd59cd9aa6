"""Worker processes, which answer line by line, and the order in which they take turns."""

from __future__ import annotations

import contextlib
import itertools
import json
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.libraries import Library

ROOT = Path(__file__).parents[1]
#: Seconds that a worker may take beyond what it was asked for.
PATIENCE_S = 90
#: All workers begin this much later than they are told to, so that the last is there in time.
START_S = 0.1


class WorkerFailed(Exception):
    """What a worker that ended, or hung, said on stderr."""


class Child:
    """A process that answers one line to each line.  It never outlives this object's block."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in close()
        self.process = subprocess.Popen(
            command,
            env=environment,
            cwd=ROOT,
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
            with contextlib.suppress(BrokenPipeError):  # it was killed before it had read all
                stream.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Worker(Child):
    """A process that runs one of the worker modules with one library and one path.

    The module calls serve() of serving.py.
    """

    def __init__(self, module: str, library: Library, path: Path) -> None:
        command = [sys.executable, "-m", module, library.key, str(path)]
        super().__init__(command, library.environment)
        self._about: dict[str, str] | None = None

    def about(self) -> dict[str, str]:
        """The version; waits until the worker is ready."""
        if self._about is None:
            self._about = json.loads(self.answer())
        return self._about

    def order(self, do: str, **arguments: object) -> None:
        self.about()
        self.tell(json.dumps({"do": do, **arguments}))

    def result(self, seconds: float = PATIENCE_S) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.answer(seconds))
        return found


def interleave(rounds: Mapping[Library, int]) -> list[Library]:
    """One of each in turn, as long as each has rounds left: a noisy moment hits all of them."""
    turns = [[library] * count for library, count in rounds.items()]
    return [it for turn in itertools.zip_longest(*turns) for it in turn if it is not None]
