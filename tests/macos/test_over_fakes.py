"""The macOS files, unchanged, over a fake keychain and a fake kernel; see tests/support/macos.py.

Nothing here shows how a Mac behaves. It shows that our code keeps its promises on a Mac that
behaves as its documentation and its source say.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import macos, native
from tests.support.capability import needs
from tests.support.native import ADDRESS, HARNESS, LINUX, MACOS, PLAIN, ROOT, THREAD

pytestmark = pytest.mark.slow

EXERCISE = [*HARNESS, *sorted(LINUX.glob("exercise*.c"))]
#: Its argument for all properties but those about inotify.
PORTABLE = "portable"
COVERAGE = ("-g", "-O0", "--coverage")
#: Left out: lock_test.c has a clock of its own, and the exercises have keychain_none.c.
CLOCK, KEYCHAIN = "clock_posix", "keychain_macos"
#: Python's tests of the persistences and of the lock, with the macOS files.
PYTHON_TESTS = ("test_contract.py", "macos/test_keychain.py", "test_lock.py")
#: These are left out: the stores of other systems, and tests of facts that only Linux has
#: (/proc/locks names processes blocked in flock, the last waiter removes a dead holder's file,
#: fcntl and flock locks are independent).
OF_LINUX = (
    *("libsecret", "dpapi", "whatever_the_program", "pile_up", "kernel_lock_and_a_dead_pid"),
    "dictionary",  # not a system's store, and some of its tests skip
)


#: The tests with two users, on Linux, cover the rest: whose links and files are trusted.
POSIX = (
    *("place_posix.c", "content_posix.c", "temp_posix.c", "file_posix.c"),
    *("lock_posix.c", "lock_file_posix.c", "lock_hold_posix.c", "lock_registry_posix.c"),
    "lock_peer_posix.c",
)
ENOUGH_PERCENT = 80
#: The programs of tests/native/macos reach every line of these files.
OWN = ("keychain_macos.c", "lock_wait_macos.c", "os_macos.c")


def last_line(output: str) -> str:
    line = output.strip().splitlines()[-1]
    print(f"\n{line}")
    return line


def assert_all_hold(said: str) -> None:
    assert re.fullmatch(r"\d+ properties, 0 checks failed", last_line(said)), said


def checked(checker: str, name: str, directory: Path, without: Sequence[str] = ()) -> str:
    """Build the program, run it under the checker to a successful end: all that it printed."""
    command = native.valgrind() if checker == "valgrind" else []
    flags = PLAIN if checker == "valgrind" else ADDRESS
    program = macos.build_test(name, directory, flags, without)
    return macos.run([*command, program], directory, TMPDIR=str(directory))


@pytest.mark.parametrize("checker", ["sanitizers", "valgrind"])
def test_the_keychain_keeps_its_promises_whatever_fails(checker: str, tmp_path: Path) -> None:
    said = checked(checker, "keychain_test", tmp_path)
    assert_all_hold(said)
    met = re.search(r"(\d+) failures injected", said)
    assert met is not None
    assert int(met[1]) >= 180


@pytest.mark.parametrize("checker", ["sanitizers", "valgrind"])
def test_the_lock_waits_as_it_should_whatever_happens(checker: str, tmp_path: Path) -> None:
    said = checked(checker, "lock_test", tmp_path, without=[CLOCK])
    assert_all_hold(said)
    met = re.search(r"(\d+), (\d+) and (\d+) failures met", said)
    assert met is not None
    assert min(map(int, met.groups())) >= 20


@pytest.mark.parametrize("checker", ["sanitizers", "valgrind"])
def test_files_keep_their_promises_on_each_version_of_macos(checker: str, tmp_path: Path) -> None:
    said = checked(checker, "files_test", tmp_path)
    assert_all_hold(said)
    met = re.search(r"(\d+) failures met", said)
    assert met is not None
    assert int(met[1]) >= 500


def test_the_questions_for_a_mac_have_their_answers_over_the_fakes(tmp_path: Path) -> None:
    macos.compile_over_fakes(tmp_path / "objects", ADDRESS, [MACOS / "files_on_a_mac.c"])
    program = macos.link_over_fakes("questions", HARNESS, tmp_path, ADDRESS)
    said = macos.run([program], tmp_path, TMPDIR=str(tmp_path))
    assert said.count("ok: ") == 6
    assert "a new file inherits no list" in macos.run([program, "inherits"], tmp_path)


def covered(directory: Path, files: Sequence[str]) -> Iterator[tuple[str, float, list[str]]]:
    """For each file the percentage of its lines that were reached, and the others."""
    objects = directory / "objects"
    said = macos.run(["gcov", *(str(objects / file) for file in files)], objects)
    for file in files:
        found = re.search(rf"File '.*/{file}'\nLines executed:([\d.]+)% of (\d+)", said)
        assert found is not None, said
        lines = (objects / f"{file}.gcov").read_text().splitlines()
        print(f"\n{file}: {found[1]} % of {found[2]} lines")
        yield file, float(found[1]), [line.strip() for line in lines if "#####" in line]


def build_for_coverage(directory: Path) -> list[Path]:
    """All programs, linked with the same object files, so that their coverage adds up."""
    keychain = macos.build_test("keychain_test", directory, COVERAGE)
    with_wraps = [MACOS / "wrapped.c", *HARNESS]
    others = [
        macos.link_over_fakes(
            name,
            [MACOS / f"{name}.c", *with_wraps],
            directory,
            COVERAGE,
            without,
            macos.WRAPPED,
        )
        for name, without in (("lock_test", [CLOCK]), ("files_test", []))
    ]
    whole = [*EXERCISE, ROOT / "csrc" / "keychain_none.c"]
    return [
        keychain,
        *others,
        macos.link_over_fakes("exercise", whole, directory, COVERAGE, [KEYCHAIN]),
    ]


def test_the_lines_of_the_macos_files_and_most_of_the_posix_files_are_reached(
    tmp_path: Path,
) -> None:
    """The POSIX files as they are for macOS; code for Linux only is not reached."""
    needs(None if shutil.which("gcov") else "gcov is not installed")
    keychain, lock, files, exercise = build_for_coverage(tmp_path)
    for program in (keychain, lock, files):
        macos.run([program], tmp_path, TMPDIR=str(tmp_path))
    for file, _, missed in covered(tmp_path, OWN):
        assert (file, missed) == (file, [])
    macos.run([exercise, PORTABLE], tmp_path, TMPDIR=str(tmp_path))
    for file, percent, missed in covered(tmp_path, POSIX):
        print("\n".join(missed))
        assert percent >= ENOUGH_PERCENT, file


def test_what_holds_on_linux_holds_for_the_macos_files(tmp_path: Path) -> None:
    """The properties of tests/native/linux/exercise*.c: threads, forks and other processes."""
    macos.compile_over_fakes(tmp_path / "objects", ADDRESS)
    programs = [*EXERCISE, ROOT / "csrc" / "keychain_none.c"]
    program = macos.link_over_fakes("exercise", programs, tmp_path, ADDRESS, [KEYCHAIN])
    assert_all_hold(macos.run([program, PORTABLE], tmp_path, TMPDIR=str(tmp_path)))


@pytest.mark.parametrize("flags", [ADDRESS, THREAD], ids=["address", "thread"])
def test_processes_of_threads_lose_no_update_under_the_macos_lock(
    flags: tuple[str, ...], tmp_path: Path
) -> None:
    macos.compile_over_fakes(tmp_path / "objects", flags)
    program = macos.link_over_fakes("stress", [LINUX / "lock_stress.c"], tmp_path, flags)
    command = native.with_sanitizer(flags, program, tmp_path, 100)
    assert "1600 of 1600 increments, 0 failures" in macos.run(command, tmp_path)


def test_python_keeps_its_promises_over_the_macos_half(tmp_path: Path) -> None:
    """The contract of all persistences and of the lock, with this extension module."""
    site = macos.make_site(tmp_path / "site")
    pytest_ = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(ROOT)]
    pytest_ += ["-c", str(ROOT / "pyproject.toml"), "--basetemp", str(tmp_path / "tests")]
    environment = {"PYTHONPATH": str(site), "FAKE_KEYCHAIN": ""}
    pytest_ += ["-k", " and ".join(f"not {name}" for name in OF_LINUX)]
    tests = [str(ROOT / "tests" / name) for name in PYTHON_TESTS]
    said = macos.run([*pytest_, *tests], ROOT, **environment)
    counts = re.search(r"(\d+) passed", last_line(said))
    assert counts is not None
    assert int(counts[1]) >= 40, said
    assert "skipped" not in said.splitlines()[-1], said
    assert os.environ.get("FAKE_KEYCHAIN") is None
