"""Measures the lock, or the cache, beside its peers; writes docs/<what>-benchmarks.md and .svg.

    python3 dev.py bench                   both, about ten minutes
    python3 dev.py bench lock              one of them; also: cache
    python3 dev.py bench lock --quick      a glance, written elsewhere: --output DIRECTORY
    python3 dev.py bench lock --json FILE  keeps the figures of the run in a file
    python3 dev.py bench lock --again FILE writes both documents again from such a file

pytest-benchmark measures what needs one process (`pytest benchmarks` runs that alone), workers
measure what needs many.  A progress bar runs on a terminal, plain lines elsewhere.
MSALEX_BENCH_DIR is where the files are that are locked and written; the default is the directory
for temporary files.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from benchmarks.cache import measure as cache_measure
from benchmarks.cache import report as cache_report
from benchmarks.lock import measure as lock_measure
from benchmarks.lock import report as lock_report
from benchmarks.rows import Progress, Results
from benchmarks.workers import ROOT


class Subject(NamedTuple):
    """Something that is measured."""

    steps: Callable[[bool], int]  # of a run, quick or not; installs what is not there yet
    measure: Callable[[Path, bool, Progress], Results]
    page: Callable[[Results, Mapping[str, str]], str]
    chart: Callable[[Results, Mapping[str, str]], str]
    summary: Callable[[Results], str]


SUBJECTS = {
    name: Subject(measure.steps, measure.measure, report.page, report.chart, report.summary)
    for name, measure, report in (
        ("lock", lock_measure, lock_report),
        ("cache", cache_measure, cache_report),
    )
}


class Steps:
    """Shows what is measured now."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        console = Console(stderr=True)
        self._plain = not console.is_terminal
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = ProgressBar(
            TextColumn("{task.description:36}"), *columns, console=console, disable=self._plain
        )
        self._task = self._bar.add_task("installing", total=total)

    def step(self, what: str) -> None:
        """Called before each step."""
        if self._plain:
            print(f"[{self._done + 1}/{self._total}] {what}", file=sys.stderr, flush=True)
        self._bar.update(self._task, description=what, completed=self._done)
        self._done += 1

    def __enter__(self) -> Steps:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.update(self._task, description="done", completed=self._done)
        self._bar.stop()


def measure(name: str, quick: bool) -> dict[str, Any]:
    """The figures of a run, as a file keeps them."""
    subject, date = SUBJECTS[name], datetime.date.today().isoformat()
    with (
        Steps(subject.steps(quick)) as steps,
        tempfile.TemporaryDirectory(dir=os.environ.get("MSALEX_BENCH_DIR")) as directory,
    ):
        return {"date": date, "results": subject.measure(Path(directory), quick, steps.step)}


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
    rows = [row for group in figures["results"].values() for row in group.values()]
    versions = {f"{row['label']} {row['version']}": None for row in rows if row["version"]}
    directory = os.environ.get("MSALEX_BENCH_DIR") or tempfile.gettempdir()
    return {
        "Command": command,
        "Date": figures["date"],
        "Machine": f"{processor()}, {os.cpu_count()} processors",
        "System": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "File system": file_system(directory),
        "Versions": ", ".join(versions),
    }


def write(name: str, figures: Mapping[str, Any], output: Path, command: str) -> None:
    subject, results, facts = SUBJECTS[name], figures["results"], about(figures, command)
    output.mkdir(parents=True, exist_ok=True)
    page, chart = subject.page(results, facts), subject.chart(results, facts)
    for suffix, text in (("md", page), ("svg", chart)):
        (output / f"{name}-benchmarks.{suffix}").write_text(text, encoding="utf-8")
    print(subject.summary(results))


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
        if options.again:
            figures = json.loads(options.again.read_text())
        else:
            figures = measure(name, options.quick)
        if options.json:
            options.json.write_text(json.dumps(figures))
        command = f"python3 dev.py bench {name}" + " --quick" * options.quick
        write(name, figures, options.output, command)


if __name__ == "__main__":
    main(sys.argv[1:])
