"""Measures the lock, or the cache, beside its peers; writes docs/<what>-benchmarks.md and .svg.

    python3 dev.py bench                   both, about ten minutes
    python3 dev.py bench lock              one of them; also: cache
    python3 dev.py bench lock --quick      a glance, written elsewhere: --output DIRECTORY
    python3 dev.py bench lock --json FILE  keeps the run's figures in a file
    python3 dev.py bench lock --again FILE writes both again from such a file

A progress bar runs on a terminal, plain lines elsewhere.  MSALEX_BENCH_DIR is where the files are
that are locked and written; the default is the directory for temporary files.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.benchmarks import cache_measure, cache_report, lock_measure, lock_report
from tests.benchmarks.figures import Results
from tests.benchmarks.harness import Row
from tests.benchmarks.lock_peers import libraries
from tests.benchmarks.replay import PROGRESS_PLUGIN

ROOT = Path(__file__).parents[2]


class Subject(NamedTuple):
    """Something that is measured."""

    steps: Callable[[bool], int]  # of a run, quick or not; installs what is not there yet
    page: Callable[[Results, Mapping[str, str]], str]
    chart: Callable[[Results, Mapping[str, str]], str]
    summary: Callable[[Results], str]


def _lock_steps(quick: bool) -> int:
    return (lock_measure.QUICK if quick else lock_measure.FULL).steps(libraries())


def _cache_steps(quick: bool) -> int:
    sizes = cache_measure.QUICK if quick else cache_measure.FULL
    return sizes.steps(cache_measure.references())


#: The benchmarks themselves are in test_<name>_benchmarks.py.
SUBJECTS = {
    "lock": Subject(_lock_steps, lock_report.page, lock_report.chart, lock_report.summary),
    "cache": Subject(_cache_steps, cache_report.page, cache_report.chart, cache_report.summary),
}


class Steps:
    """The plugin that the benchmarks tell what they are at."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        # A copy: pytest captures the real one.
        self._stream = os.fdopen(os.dup(2), "w", buffering=1)
        console = Console(file=self._stream)
        self._plain = not console.is_terminal
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(
            TextColumn("{task.description:36}"), *columns, console=console, disable=self._plain
        )
        self._task = self._bar.add_task("installing", total=total)

    def step(self, what: str) -> None:
        """Called before each step."""
        if self._plain:
            print(f"[{self._done + 1}/{self._total}] {what}", file=self._stream)
        self._bar.update(self._task, description=what, completed=self._done)
        self._done += 1

    def __enter__(self) -> Steps:
        self._bar.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self._bar.update(self._task, description="done", completed=self._done)
        self._bar.stop()
        self._stream.close()


def measure(name: str, quick: bool, figures: Path) -> None:
    """Runs the benchmarks; leaves pytest-benchmark's figures in a file."""
    os.environ["MSALEX_BENCH_QUICK"] = "1" if quick else ""
    benchmarks = Path(__file__).with_name(f"test_{name}_benchmarks.py")
    said = io.StringIO()
    with (
        Steps(SUBJECTS[name].steps(quick)) as steps,
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        command = [str(benchmarks), "-q", f"--benchmark-json={figures}"]
        status = pytest.main(command, plugins=[Naming(steps)])
    if status != 0:
        sys.exit(f"{said.getvalue()}\nthe benchmarks failed")


class Naming:
    """Gives the steps the name by which the benchmarks find them."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def pytest_configure(self, config: pytest.Config) -> None:
        config.pluginmanager.register(self._steps, PROGRESS_PLUGIN)


def results(figures: Mapping[str, Any]) -> dict[str, dict[str, Row]]:
    """Measurement -> library -> row."""
    found: dict[str, dict[str, Row]] = {}
    for benchmark in figures["benchmarks"]:
        row = benchmark["extra_info"]
        found.setdefault(benchmark["group"], {})[row["library"]] = row
    return found


def file_system(directory: str) -> str:
    """The type of the file system that a directory is on: proc(5), mountinfo."""
    best = ("", "an unknown file system")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mount = before.split()[4]
        if Path(directory).resolve().is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, after.split()[0])
    return best[1]


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()


def about(figures: Mapping[str, Any], command: str) -> dict[str, str]:
    """What the page says about the run."""
    rows = [row for group in results(figures).values() for row in group.values()]
    versions = {f"{row['label']} {row['version']}": None for row in rows if row["version"]}
    directory = os.environ.get("MSALEX_BENCH_DIR") or tempfile.gettempdir()
    moment = datetime.datetime.fromisoformat(figures["datetime"])
    return {
        "Command": command,
        "Date": f"{moment:%Y-%m-%d}",
        "Machine": f"{processor()}, {os.cpu_count()} processors",
        "System": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "File system": file_system(directory),
        "Versions": ", ".join(versions),
    }


def write(name: str, figures: Mapping[str, Any], output: Path, command: str) -> None:
    subject, rows, facts = SUBJECTS[name], results(figures), about(figures, command)
    output.mkdir(parents=True, exist_ok=True)
    for suffix, text in (("md", subject.page(rows, facts)), ("svg", subject.chart(rows, facts))):
        (output / f"{name}-benchmarks.{suffix}").write_text(text, encoding="utf-8")
    print(subject.summary(rows))


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python3 dev.py bench", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("what", nargs="?", choices=list(SUBJECTS), help="the default is all")
    parser.add_argument("--quick", action="store_true", help="far fewer rounds")
    parser.add_argument("--json", type=Path, help="where to keep the run's figures")
    parser.add_argument("--again", type=Path, help="a run's figures, instead of measuring")
    parser.add_argument("--output", type=Path, default=ROOT / "docs")
    options = parser.parse_args(arguments)
    if options.what is None and (options.json or options.again):
        parser.error(f"a file holds the figures of one of: {', '.join(SUBJECTS)}")
    for name in [options.what] if options.what else SUBJECTS:
        with tempfile.TemporaryDirectory() as directory:
            figures = options.again or options.json or Path(directory, "figures.json")
            if options.again is None:
                measure(name, options.quick, figures)
            found = json.loads(figures.read_text())
        command = f"python3 dev.py bench {name}" + " --quick" * options.quick
        write(name, found, options.output, command)


if __name__ == "__main__":
    main(sys.argv[1:])
