"""Shows how far the work is, and at the end a table; both fit into 100 columns.

On a terminal rich draws a bar; elsewhere each finished step is a line.
"""

from __future__ import annotations

import sys
import textwrap
import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tools.wheels.targets import NOT_HERE, Target
from tools.wheels.trying import tries, why_not

WIDTH = 100


class Outcome(NamedTuple):
    """What came of a target."""

    target: Target
    wheel: Path | None
    seconds: float
    checks: Sequence[str]
    tried: Sequence[str]  #: the names of the tries that passed
    notes: Sequence[str]  #: what was not done, and why
    wrong: Sequence[str]  #: what failed
    digest: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.wrong)


class Display:
    """Steps of several threads."""

    def __init__(self, steps: int) -> None:
        self.console = Console(stderr=True, width=None if sys.stderr.isatty() else WIDTH)
        self._lock, self._steps, self._done = threading.Lock(), steps, 0
        self._doing: dict[str, str] = {}
        self._bar: Progress | None = None

    @contextmanager
    def shown(self) -> Generator[None]:
        if not self.console.is_terminal:
            yield
            return
        columns = (BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())
        words = TextColumn("{task.description}", markup=False)
        with Progress(*columns, words, console=self.console, transient=True) as self._bar:
            self._task = self._bar.add_task("", total=self._steps)
            yield
        self._bar = None

    def begin(self, name: str, step: str) -> None:
        with self._lock:
            self._doing[name] = step
            self._show()

    def end(self, name: str, step: str, seconds: float) -> None:
        with self._lock:
            self._doing.pop(name, None)
            self._done += 1
            self._show()
            line = f"{self._done:>3}/{self._steps}  {name:<18} {step} ({seconds:.1f} s)"
            if self._bar is not None:
                self._bar.update(self._task, completed=self._done)
            else:
                self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _show(self) -> None:
        if self._bar is not None:
            doing = ", ".join(f"{name}: {step}" for name, step in self._doing.items())
            self._bar.update(self._task, description=doing)


def table(outcomes: Sequence[Outcome]) -> str:
    """A row for each wheel, then what was not done or failed."""
    rows = [["target", "tag", "kB", "seconds", "checks", "tried on"]]
    for it in outcomes:
        size = f"{it.wheel.stat().st_size / 1000:.0f}" if it.wheel else "-"
        state = "failed" if it.failed else str(len(it.checks) or "-")
        tried = several(it.tried)
        tag = oldest(it.wheel) if it.wheel else it.target.tag
        rows.append([it.target.name, tag, size, f"{it.seconds:.1f}", state, tried])
    lines = [aligned(rows)]
    many = [it for it in outcomes if len(it.tried) > 1]
    lines += ["", *(filled(f"{it.target.name}: {', '.join(it.tried)}") for it in many)]
    lines += ["", *notes(outcomes)]
    wrong = [f"{it.target.name} FAILED: {one}" for it in outcomes for one in it.wrong]
    return "\n".join([*lines, *wrong]).rstrip()


def oldest(wheel: Path) -> str:
    """The tag of a wheel, with one of the names of its platform: that with a version."""
    words = wheel.name.removesuffix(".whl").split("-")
    names = words[-1].split(".")
    return "-".join([*words[-3:-1], max(names, key=lambda name: name.count("_"))])


def notes(outcomes: Sequence[Outcome]) -> list[str]:
    """Each reason once, with the targets that it is about."""
    return reasons((note, it.target.name) for it in outcomes for note in it.notes)


def reasons(pairs: Iterable[tuple[str, str]]) -> list[str]:
    about: dict[str, list[str]] = {}
    for reason, name in pairs:
        about.setdefault(reason, []).append(name)
    return [f"{filled(reason)}\n{filled(' '.join(it), '    ')}" for reason, it in about.items()]


def filled(words: str, before: str = "") -> str:
    """In lines that fit."""
    return textwrap.fill(
        words, WIDTH, initial_indent=before, subsequent_indent="    ", break_on_hyphens=False
    )


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Words to the left, numbers to the right; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = {rows[0].index(name) for name in ("kB", "seconds", "checks") if name in rows[0]}
    return "\n".join(
        "  ".join(
            cell.rjust(widths[at]) if at in right else cell.ljust(widths[at])
            for at, cell in enumerate(row)
        ).rstrip()
        for row in rows
    )


def listing(targets: Sequence[Target]) -> str:
    """What there is, how it is built and what tries it."""
    rows = [["target", "tag", "tried on"]]
    many = []
    for target in targets:
        names = [one.name for one in tries(target)]
        rows.append([target.name, target.tag, several(names)])
        if len(names) > 1:
            many.append(filled(f"{target.name}: {', '.join(names)}"))
    pairs = [(why_not(target), target.name) for target in targets]
    lines = reasons((reason, name) for reason, name in pairs if reason)
    return "\n".join([aligned(rows), "", *many, "", *lines, *map(filled, NOT_HERE)])


def several(names: Sequence[str]) -> str:
    return f"{len(names)} Pythons" if len(names) > 1 else " ".join(names) or "-"
