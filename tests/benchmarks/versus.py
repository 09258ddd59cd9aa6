"""Files and locks beside those of an earlier commit of this repository, in one run.

    python3 dev.py versus COMMIT [--rounds N] [--directory DIRECTORY]

Builds the commit apart, in MSALEX_CACHE.  In each round every call is measured with the earlier
commit and with this one, one right after the other, because these machines are noisy: a ratio is
that of one round, and the table has the median of all and the quartiles.
"""

from __future__ import annotations

import argparse
import io
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from dev import cache_directory
from tests.benchmarks.figures import number, table
from tests.benchmarks.file_worker import ROWS
from tests.benchmarks.harness import Library, Worker

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("file_worker.py")
PIP_S = 600
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
    interpreter = f"{sys.implementation.cache_tag}-{sys.platform}"
    site = cache_directory() / "commits" / f"{name}-{interpreter}"
    if not site.exists():
        site.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=site.parent) as temporary:
            source, target = Path(temporary, "source"), Path(temporary, "site")
            with tarfile.open(fileobj=io.BytesIO(git("archive", name))) as archive:
                archive.extractall(source)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            subprocess.run([*pip, "--target", str(target), str(source)], check=True, timeout=PIP_S)
            shutil.move(target, site)
    return Library(name[:7], commit, site)


def measure(
    earlier: Library, now: Library, directory: Path, rounds: int, count: int
) -> dict[str, list[tuple[float, float]]]:
    """For each row the seconds of one call, earlier and now, once a round."""
    places = [directory / "earlier", directory / "now"]
    for place in places:
        place.mkdir()
    found: dict[str, list[tuple[float, float]]] = {row: [] for row in ROWS}
    with (
        Worker(PROGRAM, earlier, places[0]) as first,
        Worker(PROGRAM, now, places[1]) as second,
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
        low, _, high = statistics.quantiles(ratios, n=4)
        lines.append(
            [
                row,
                *(number(statistics.median(pair[i] for pair in pairs) * 1e6) for i in (0, 1)),
                f"{number(statistics.median(ratios))} ({number(low)} to {number(high)})",
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
