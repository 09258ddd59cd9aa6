"""The Windows files, built by a cross compiler and run by two Wines: see tests/support/windows.

The project's own suite runs there, with Windows' Python 3.11, on the wheel that is built here; so
do the other files of this directory, which only Windows can run.  test_built_for_windows.py is
about the build itself.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support import tally
from tests.support.capability import cannot_exist_here, needs, requires

if TYPE_CHECKING:
    from tests.support.windows.wines import Wine

# Under Wine pytest collects this file too; there it skips.  The first test that needs the newer
# Wine installs it, and the others wait for that.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), requires("fcntl")]
if importlib.util.find_spec("fcntl"):
    from tests.support.native import CSRC
    from tests.support.windows import build, coverage, toolchain, wines


SUITE_S = 2400
SHARES = 2
OTHER_PYTHONS = ("3.10", "3.12", "3.13")
WHOLE = ("tests",)
#: Set to "all": whatever takes long runs, too.
ALL = os.environ.get("MSALEX_WINE") == "all"
#: These take minutes there and show nothing of Windows: what pytest does with skips, and what the
#: cache's Python does when Ctrl-C comes at each byte code, or a change at each line.  The tests of
#: Ctrl-C in the lock remain.
LEFT_OUT = (
    "tests/test_capability.py",
    "tests/test_lock_interrupts.py::test_a_cache_saves_again",
    "tests/test_lock_interrupts.py::test_the_program_may_save",
    "tests/test_nested_changes.py::test_a_change_at_each_line",
)
#: What no Wine can do: os.getppid() of newer Pythons calls PssCaptureSnapshot.
ASKS_FOR_ITS_PARENT = ("tests/test_lock.py::test_a_waiter_gets_in_when_a_peer_removes_its_file",)
NOT_THERE = {"3.12": ASKS_FOR_ITS_PARENT, "3.13": ASKS_FOR_ITS_PARENT}
#: The part that is about Windows, the lock, files and drop-in behaviour.
OF_WINDOWS = (
    "tests/windows",
    "tests/test_contract.py",
    "tests/test_drop_in.py",
    "tests/test_drop_in_differences.py",
    "tests/test_files.py",
    "tests/test_locations.py",
    "tests/test_lock.py",
    "tests/test_lock_objects.py",
    "tests/test_lock_states.py",
)
#: Short forms, because a process takes long to start there; the full numbers run on Linux.
REDUCED = {"MSALEX_EXAMPLES": "20", "MSALEX_FLIGHT_PROCESSES": "16"}
#: Rules that both Wines show; tests of Python rely on them.
REAL = (
    "a try for a lock that is held is refused at once",
    "shared locks exclude an exclusive one",
    "a lock ends with its handle",
    "a rename wakes the watch of its directory",
)
CLOSING = re.compile(r"^=* ?(?:(\d+) failed, )?(\d+) passed, (\d+) skipped.* in [\d.]+s", re.M)


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    needs(toolchain.missing())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("windows")
    library = [str(toolchain.import_library("i386:x86-64"))]
    extension = build.extension(build.MINGW, directory, library, "-s", "-static-libgcc")
    return build.wheel(extension, directory, "cp310-abi3-win_amd64")


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The wheel as pip installs it: unpacked, with byte code."""
    directory = wheel.with_name("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)
    toolchain.Windows("3.11", directory).run(
        "-m", "compileall", "-q", toolchain.windows_path(directory)
    )
    return directory


def reference(version: str, *engine: str) -> str:
    """The path of 1.3.1 and what it needs."""
    return toolchain.windows_path(toolchain.packages(version, "run", "reference", *engine))


class Run(NamedTuple):
    """One run of pytest in a Windows of its own: Wine's server does one thing at a time."""

    version: str  #: of Python
    wine: Wine
    tests: Sequence[str]
    share: str = "0/1"  #: which part of these tests

    def running(
        self, installed: Path, directory: Path
    ) -> AbstractContextManager[subprocess.Popen[str]]:
        more = ("hypothesis",) if self.tests == WHOLE else ()
        packages = toolchain.packages(self.version, "run", "test", *more)
        windows = toolchain.Windows(self.version, installed, packages, wine=self.wine)
        base = directory / f"{self.wine.name}-{self.version}-{self.share[0]}"
        left_out = [*NOT_THERE.get(self.version, ()), *(() if ALL else LEFT_OUT)]
        return windows.running(
            *("-m", "pytest", "-q", f"--basetemp={toolchain.windows_path(base)}"),
            *(f"--deselect={name}" for name in left_out),
            *self.tests,
            **({} if ALL else REDUCED),
            MSALEX_SHARE=self.share,
            MSALEX_PEER_LOCK=toolchain.windows_path(directory / "peer_lock.exe"),
            MSALEX_REFERENCE_PORTALOCKER=reference(self.version, "portalocker"),
            MSALEX_REFERENCE_BARE=reference(self.version),
        )


def run_side_by_side(runs: Sequence[Run], installed: Path, directory: Path) -> None:
    """All runs at once, to a successful end: they wait for most of their time."""
    build.program(directory / "peer_lock.exe", "peer_lock.c")
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(run.running(installed, directory)) for run in runs]
        outputs = [process.communicate(timeout=SUITE_S)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * len(runs), "\n".join(outputs)
    tried = lost = 0
    for run, output in zip(runs, outputs, strict=True):
        # A crash under Wine can end with status 0: so the last line counts.
        closing = CLOSING.findall(output)
        assert len(closing) == 1, output[-5000:]
        failed, passed, _ = closing[0]
        tried, lost = tried + int(passed) + int(failed or 0), lost + int(failed or 0)
        assert not failed
        assert int(passed) >= 100
        print(f"Python {run.version}, {run.wine.version()}, share {run.share}:")
        print(output[output.rindex("short test summary info") :])
    tally.tried(tried)
    tally.lost(lost)


@pytest.mark.first
@pytest.mark.timeout(SUITE_S + 300)
def test_the_suite_passes_under_wine(installed: Path, tmp_path: Path) -> None:
    """The whole suite; and what is of Windows on the newer Wine and, in the long form, on other
    Pythons.  The long form runs the whole suite on the newer Wine, too.

    One test, because all that it does is to wait; several would keep the others from running.
    """
    shares = [f"{number}/{SHARES}" for number in range(SHARES)]
    runs = [Run("3.11", wines.HERE, WHOLE, share) for share in shares]
    newer = [wine for wine in wines.ALL if wine != wines.HERE and not wine.missing()]
    if ALL:
        runs += [Run("3.11", wine, WHOLE, share) for wine in newer for share in shares]
        runs += [Run(version, wines.HERE, OF_WINDOWS) for version in OTHER_PYTHONS]
    else:
        runs += [Run("3.11", wine, OF_WINDOWS) for wine in newer]
    run_side_by_side(runs, installed, tmp_path)
    needs(next((reason for wine in wines.ALL if (reason := wine.missing())), None))


@pytest.mark.parametrize("version", OTHER_PYTHONS)
def test_the_same_wheel_works_on_other_pythons(version: str, installed: Path) -> None:
    windows = toolchain.Windows(version, installed, toolchain.packages(version, "run"))
    output = windows.run("tests/support/smoke.py")
    assert re.search(rf"^1\.3\.1\+native1 works on {version}\.\d+ win32 \w+$", output, re.MULTILINE)
    print(output)


def test_the_plan_for_a_real_windows_runs_and_records(installed: Path, tmp_path: Path) -> None:
    """on_windows.py, with those of its questions that a Wine can answer."""
    build.program(tmp_path / "peer_lock.exe", "peer_lock.c")
    build.program(tmp_path / "rules.exe", "rules*.c")
    record = tmp_path / "record.json"
    packages = toolchain.packages("3.11", "run", "test")
    output = toolchain.Windows("3.11", installed, packages).run(
        *("tests/windows/on_windows.py", "--record", toolchain.windows_path(record)),
        *(
            "--only",
            "rule of",
            "on this disk",
            "[6]",
            "[14]",
            "FAT32",
            "subst",
            "without elevation",
        ),
        MSALEX_BUILT=toolchain.windows_path(tmp_path),
    )
    print(output)
    told = json.loads(record.read_text(encoding="utf-8"))
    assert told["machine"]["wine"]
    assert told["machine"]["packages"]["msal-extensions"] == "1.3.1+native1"
    answers = {part["question"]: part for part in told["questions"]}
    assert len(answers) >= 7
    assert answers["A free lock is had within 100 ms, on this disk [1]"]["holds"] is True
    asked_for = answers["Files and the lock work on FAT32 [5]"]  # no disk is attached unasked
    assert asked_for["holds"] is None
    assert "MSALEX_THROW_AWAY_MACHINE" in asked_for["not_asked"]
    rules = answers["Each rule of Windows that a fake of ours models is shown by this system"]
    assert rules["facts"]["rules"].count("shown (code") >= 30


def run_seam(wine: Wine, compiler: Sequence[str], directory: Path) -> None:
    """Builds the seam for gcov and runs it to a successful end."""
    needs(wine.missing())
    work = directory / "work"
    work.mkdir()
    seam = build.seam(directory, compiler, *coverage.FLAGS)
    output = toolchain.run_program(seam, work, wine)
    assert re.search(r"^\d+ properties, 0 checks failed$", output, re.M), output
    assert list(work.iterdir()) == []


def test_what_wine_does_not_show_is_shown_by_a_fake_and_nearly_every_line_runs(
    tmp_path: Path,
) -> None:
    run_seam(wines.HERE, build.MINGW, tmp_path)
    ran = coverage.lines([tmp_path])
    covered = {name: coverage.percentage(ran[name]) for name in sorted(ran)}
    windows = {name: share for name, share in covered.items() if name.endswith("_windows.c")}
    assert set(windows) == {path.name for path in CSRC.glob("*_windows.c")}
    for name, share in windows.items():
        print(f"{name}: {share:.1f} % of its lines; not {coverage.missed(ran[name])}")
    assert min(windows.values()) >= 92


def test_the_fakes_show_the_same_over_the_newer_wine(tmp_path: Path) -> None:
    run_seam(wines.ALL[-1], build.MINGW, tmp_path)


def test_the_fakes_show_the_same_in_32_bits(tmp_path: Path) -> None:
    """Only with MSALEX_WINE=all: such a Wine needs another Debian and many packages."""
    if not ALL:
        cannot_exist_here("a Wine of 32 bits beside that of 64, but with MSALEX_WINE=all")
    run_seam(wines.BITS_32, build.MINGW_32, tmp_path)


def test_a_program_tells_which_rules_each_wine_shows(tmp_path: Path) -> None:
    """Rules that the fakes model, in a table: those that a Wine does not show need their fake."""
    program = build.program(tmp_path / "rules.exe", "rules*.c")
    told: dict[str, dict[str, str]] = {}
    for wine in wines.ALL:
        needs(wine.missing())
        work = tmp_path / wine.name
        work.mkdir()
        output = toolchain.run_program(program, work, wine)
        told[wine.version()] = dict(
            re.findall(r"^(.+): ((?:not )?shown \(code \d+\))$", output, re.M)
        )
        assert len(told[wine.version()]) == len(output.splitlines())
        assert list(work.iterdir()) == []
    first, *others = told.values()
    assert len(first) >= 30
    assert all(set(other) == set(first) for other in others)
    print(f"{'':58} " + "  ".join(f"{version:27}" for version in told).rstrip())
    for rule in first:
        print(
            f"{rule:58} " + "  ".join(f"{answers[rule]:27}" for answers in told.values()).rstrip()
        )
    # What tests do with real calls and no fake.
    assert all(answers[rule].startswith("shown") for answers in told.values() for rule in REAL)
