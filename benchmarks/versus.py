"""Files and locks beside those of an earlier commit of this repository, in one run.

    python3 dev.py versus COMMIT [--rounds N] [--directory DIRECTORY]

Builds the commit apart, in MSALEX_CACHE.  In each round every call is measured with the earlier
commit and with this one, one right after the other, because machines are noisy.  A ratio is taken
within one round; the table has the median of all ratios, and the quartiles.
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.figures import number, spread, table
from benchmarks.libraries import Library
from benchmarks.versus_worker import ROWS
from benchmarks.workers import ROOT, Worker
from tests.support.cached import cached
from tests.support.processes import finished

#: Calls of each kind in one round.
COUNT = 300


def git(*arguments: str) -> bytes:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, timeout=60)
    if done.returncode != 0:
        sys.exit(f"git {' '.join(arguments)}: {done.stderr.decode().strip()}")
    return done.stdout


def built(commit: str) -> Library:
    """That commit, installed apart."""
    name = git("rev-parse", "--verify", f"{commit}^{{commit}}").decode().strip()

    def install(site: Path) -> None:
        with tempfile.TemporaryDirectory() as source:
            with tarfile.open(fileobj=io.BytesIO(git("archive", name))) as archive:
                archive.extractall(source)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            finished([*pip, "--target", str(site), source])

    return Library(name[:7], commit, cached("commits", name, sys.version, install))


def measure(
    earlier: Library, now: Library, directory: Path, rounds: int, count: int
) -> dict[str, list[tuple[float, float]]]:
    """For each row the seconds of one call, earlier and now, once a round."""
    places = [directory / "earlier", directory / "now"]
    for place in places:
        place.mkdir()
    found: dict[str, list[tuple[float, float]]] = {row: [] for row in ROWS}
    with (
        Worker("benchmarks.versus_worker", earlier, places[0]) as first,
        Worker("benchmarks.versus_worker", now, places[1]) as second,
    ):
        for _ in range(rounds):
            for row in ROWS:
                both = []
                for worker in (first, second):
                    worker.order(row, count=count)
                    both.append(worker.result()["seconds"] / count)
                found[row].append((both[0], both[1]))
    return found


def report(figures: Mapping[str, Sequence[tuple[float, float]]], label: str) -> str:
    """The table: microseconds, and how many times as long it takes now."""
    lines = []
    for row, pairs in figures.items():
        ratios = [now / earlier for earlier, now in pairs]
        lines.append(
            [
                row,
                *(number(statistics.median(pair[i] for pair in pairs) * 1e6) for i in (0, 1)),
                spread(ratios, 1),
            ]
        )
    return table(["", f"{label}, us", "now, us", "ratio"], lines)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python3 dev.py versus", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("commit", help="an earlier commit of this repository")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--directory", help="where the files are; default: that of temporary files")
    options = parser.parse_args(arguments)
    now = Library("now", "now")
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        figures = measure(built(options.commit), now, Path(directory), options.rounds, COUNT)
    print(report(figures, options.commit))


if __name__ == "__main__":
    main(sys.argv[1:])
