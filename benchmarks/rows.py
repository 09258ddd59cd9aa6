"""Rows: what one library took in one measurement.

A row is a plain dict that fits into JSON: "library", "label", "version", "samples" in seconds, and
whatever else a measurement counts.  pytest-benchmark takes the samples of what needs one process;
what needs many processes is measured by workers (workers.py).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.libraries import BARE, OURS, PORTALOCKER, Library
from benchmarks.workers import ROOT
from tests.support.processes import finished

Row = dict[str, Any]
#: Measurement -> library -> row.
Results = dict[str, dict[str, Row]]
#: Is told what is measured next.
Progress = Callable[[str], None]


def new_row(library: Library, about: dict[str, str]) -> Row:
    """What is known before anything is measured."""
    return {"library": library.key, "label": library.label, "samples": [], **about}


def packages(libraries: Iterable[Library]) -> list[Library]:
    """Those that are an msal_extensions: pytest has a process for each of them, and measures all
    other libraries in the process of this package."""
    return [library for library in libraries if library.key in (OURS, PORTALOCKER, BARE)]


def add_pass(
    results: Results, tests: Path, package: Library, libraries: Sequence[Library], scale: str
) -> None:
    """Runs pytest once in the environment of one package; adds the samples to the rows."""
    with tempfile.TemporaryDirectory() as directory:
        figures = Path(directory, "figures.json")
        command = [sys.executable, "-m", "pytest", "-q", str(tests), f"--sizes={scale}"]
        command += [f"--benchmark-json={figures}", "-k", " or ".join(it.key for it in libraries)]
        # This pytest is no worker of the one that runs us, if one does: pytest-benchmark would not
        # measure in a worker.
        environment = {**package.environment}
        environment.pop("PYTEST_XDIST_WORKER", None)
        finished(command, ROOT, environment)
        benchmarks = json.loads(figures.read_text())["benchmarks"]
    known = {library.key: library for library in libraries}
    for benchmark in benchmarks:
        about = benchmark["extra_info"]
        rows = results.setdefault(benchmark["group"], {})
        row = rows.setdefault(about["library"], new_row(known[about["library"]], about))
        row["samples"] += benchmark["stats"]["data"]
