"""Each benchmark runs and makes its report.  (The figures themselves are in docs/.)"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import versus
from benchmarks.cache import measure as cache_measure
from benchmarks.cache import report as cache_report
from benchmarks.cache.measure import TOKENS, sign_in_at
from benchmarks.libraries import BARE, FLOOR, OURS, PORTALOCKER, THIS, Library
from benchmarks.lock import calls, report
from benchmarks.lock import measure as lock_measure
from benchmarks.lock.harness import Entry, merge
from benchmarks.lock.measure import SMOKE
from benchmarks.lock.peers import FLOCK, compile_floor
from benchmarks.rows import Row
from tests.support.capability import needs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
ABOUT = {"Command": "python3 dev.py bench", "Date": "today", "Machine": "this"}
ABOUT |= {"File system": "some file system"}


@pytest.fixture
def floor(tmp_path: Path) -> Path:
    needs(None if shutil.which("cc") else "there is no C compiler")
    return compile_floor(tmp_path)


def test_every_measurement_runs_without_overlap_and_the_report_renders(
    floor: Path, tmp_path: Path
) -> None:
    both, steps = [THIS, FLOCK], list[str]()
    results = {
        "uncontended": lock_measure.uncontended(both, floor, tmp_path, "smoke", steps.append),
        "contended": lock_measure.contended(both, tmp_path, SMOKE, steps.append),
        "crowd": lock_measure.crowd(both, tmp_path, SMOKE, steps.append),
        "killed": lock_measure.killed(both, tmp_path, SMOKE, steps.append),
    }
    assert len(steps) == SMOKE.steps(both)
    assert set(results["uncontended"]) == {FLOOR, OURS, "flock"}
    for row in results["uncontended"].values():
        assert len(row["samples"]) == SMOKE.rounds
        assert all(0 < sample < 1 for sample in row["samples"])
    for what in ("contended", "crowd"):
        for row in results[what].values():
            assert row["overlaps"] == [0]
            assert row["errors"] == [{}]
            assert row["entries"] == [row["wanted"]]
    for row in results["killed"].values():
        assert None not in row["waiter"] + row["newcomer"]

    for stand_in in (PORTALOCKER, BARE):  # not installed for a mere test
        results["uncontended"][stand_in] = Row(results["uncontended"]["flock"], library=stand_in)
    assert "| ... least served / most served |" in report.page(results, ABOUT)
    ElementTree.fromstring(report.chart(results, ABOUT))


def test_every_measurement_of_the_cache_runs_and_the_report_renders(tmp_path: Path) -> None:
    # Ours in place of 1.3.1, which is not installed for a mere test.
    stand_ins = [Library(key, key) for key in (PORTALOCKER, BARE)]
    sizes, steps = cache_measure.SMOKE, list[str]()
    results = cache_measure.alone([], "smoke", steps.append)
    results["crowd"] = cache_measure.crowd(stand_ins, tmp_path, sizes, steps.append)
    for what in ("hit", "scan"):
        assert set(results[what]) == {"memory", OURS}
    for tokens, much in zip(TOKENS, sizes.sign_ins, strict=False):
        assert {key: len(row["samples"]) for key, row in results[sign_in_at(tokens)].items()} == {
            FLOOR: much.ours,
            OURS: much.ours,
        }
    assert len(steps) == sizes.steps(stand_ins) - len(stand_ins) * sizes.passes
    for row in results["crowd"].values():
        assert (row["errors"], row["lost"], row["stored"]) == ([0], [0], row["wanted"])
        assert len(row["samples"]) == row["wanted"][0]
    for rows in results.values():
        assert all(sample > 0 for row in rows.values() for sample in row["samples"])

    for what in (*map(sign_in_at, TOKENS[: len(sizes.sign_ins)]), "hit", "scan"):
        for stand_in in stand_ins:
            results[what][stand_in.key] = Row(results[what][OURS], library=stand_in.key)
    for tokens in TOKENS[len(sizes.sign_ins) :]:  # too large for a mere test
        results[sign_in_at(tokens)] = results[sign_in_at(TOKENS[0])]
    page = cache_report.page(results, ABOUT)
    assert "| ... changes lost, and errors | <= 0 | 0.00 | yes |" in page
    ElementTree.fromstring(cache_report.chart(results, ABOUT))


def test_sealing_and_opening_an_encrypted_file_is_measured() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "benchmarks/encrypted", "--sizes=smoke"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert "9 passed" in done.stdout


def test_an_encrypted_cache_is_measured_beside_a_plain_one() -> None:
    command = [sys.executable, "-m", "benchmarks.encrypted.beside_plain", "3", "10"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("10 tokens: plain ") == 2


def test_the_c_program_makes_the_system_calls_of_this_package(floor: Path, tmp_path: Path) -> None:
    needs(None if shutil.which("strace") else "strace is not installed")
    ours = calls.of_ours(tmp_path)
    needs(None if ours else "strace is not allowed to trace")
    assert ours == calls.of_floor(floor, tmp_path)


def test_an_overlap_is_seen_by_its_times_alone() -> None:
    def log(*entries: tuple[int, int, int]) -> dict[str, object]:
        return {"entries": [list(entry) for entry in entries], "errors": {}, "overlaps": 0}

    apart = merge([log((0, 10, 20), (36, 40, 50)), log((5, 25, 35))])
    assert (apart.overlaps, apart.entries, apart.held) == (0, 3, 30 / 40)
    assert apart.handovers == [5e-9]  # from 20 to 25; at 35 nobody waited
    assert merge([log((0, 10, 20)), log((5, 15, 25))]).overlaps == 1
    assert Entry(1, 2, 0, 0) < Entry(2, 3, 0, 0)


def test_files_are_measured_beside_an_earlier_commit(tmp_path: Path) -> None:
    # Ours in place of the earlier one, which is not built for a mere test.
    earlier, now = Library("earlier", "earlier"), Library("now", "now")
    figures = versus.measure(earlier, now, tmp_path, rounds=2, count=2)
    assert all(len(pairs) == 2 for pairs in figures.values())
    assert "| load through a link |" in versus.report(figures, "earlier")
