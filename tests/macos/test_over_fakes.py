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
#: Children that end by _exit write their counts down by __gcov_dump, if it is linked.
COVERAGE = ("-g", "-O0", "--coverage", "-Wl,-u,__gcov_dump")
#: Left out: some programs have a clock of their own, and the exercises have keychain_none.c.
CLOCK = "clock_macos"
KEYCHAIN = (
    *("keychain_macos", "keychain_items_macos", "keychain_turn_macos", "keychain_call_macos"),
    *("keychain_status_macos", "keychain_tries_macos"),
)
#: Python's tests of the persistences and of the lock, with the macOS files.
PYTHON_TESTS = (
    *("test_contract.py", "macos/test_keychain.py", "macos/test_keychain_many.py", "test_lock.py"),
)
#: These are left out: the stores of other systems, and tests of facts that only Linux has
#: (/proc/locks names processes blocked in flock, the last waiter removes a dead holder's file,
#: fcntl and flock locks are independent).
OF_LINUX = (
    *("libsecret", "dpapi", "whatever_the_program", "pile_up", "kernel_lock_and_a_dead_pid"),
    "dictionary",  # not a system's store, and some of its tests skip
    "encrypted-kernel",
)


#: The tests with two users, on Linux, cover the rest: whose links and files are trusted.
POSIX = (
    *("place_posix.c", "content_posix.c", "temp_posix.c", "file_posix.c", "keep_posix.c"),
    *("lock_posix.c", "lock_file_posix.c", "lock_hold_posix.c", "lock_registry_posix.c"),
    "lock_peer_posix.c",
)
ENOUGH_PERCENT = 80
#: The programs of tests/native/macos reach every line of these files.
OWN = (
    *(f"{stem}.c" for stem in KEYCHAIN),
    *("lock_wait_macos.c", "os_macos.c", "attributes_macos.c"),
    *("process_macos.c", "clock_macos.c", "watch_macos.c"),
)


#: Programs with a script, and a clock of their own.
OF_LOCK = ("lock_test", "lock_made_test", "lock_peer_test", "lock_gap_test", "lock_faults_test")
SCRIPTED = (*OF_LOCK, "watch_test")


def last_line(output: str) -> str:
    line = output.strip().splitlines()[-1]
    print(f"\n{line}")
    return line


def assert_all_hold(said: str) -> None:
    assert re.fullmatch(r"\d+ properties, 0 checks failed", last_line(said)), said


def checked(checker: str, name: str, directory: Path) -> str:
    """Build the program, run it under the checker to a successful end: all that it printed."""
    command = native.valgrind() if checker == "valgrind" else []
    flags = PLAIN if checker == "valgrind" else ADDRESS
    program = macos.build_test(name, directory, flags, [CLOCK] if name in SCRIPTED else [])
    return macos.run([*command, program], directory, TMPDIR=str(directory))


@pytest.mark.parametrize("checker", ["sanitizers", "valgrind"])
def test_the_keychain_keeps_its_promises_whatever_fails(checker: str, tmp_path: Path) -> None:
    said = checked(checker, "keychain_test", tmp_path)
    assert_all_hold(said)
    met = re.search(r"(\d+) failures injected", said)
    assert met is not None
    assert int(met[1]) >= 1000


@pytest.mark.parametrize("checker", ["sanitizers", "valgrind"])
def test_a_keychain_call_waits_for_its_turn_and_for_no_longer_than_it_should(
    checker: str, tmp_path: Path
) -> None:
    said = checked(checker, "keychain_turn_test", tmp_path)
    assert_all_hold(said)
    print(*re.findall(r".* overlaps", said), sep="\n")


@pytest.mark.parametrize(
    ("name", "arguments"), [("keychain_test", ""), ("keychain_turn_test", "threads")]
)
def test_the_threads_of_keychain_calls_have_no_data_race(
    name: str, arguments: str, tmp_path: Path
) -> None:
    program = macos.build_test(name, tmp_path, THREAD)
    command = native.with_sanitizer(THREAD, program, arguments)
    assert_all_hold(macos.run(command, tmp_path, TMPDIR=str(tmp_path)))


@pytest.mark.parametrize("program", OF_LOCK)
@pytest.mark.parametrize("checker", ["sanitizers", "valgrind"])
def test_the_lock_waits_as_it_should_whatever_happens(
    checker: str, program: str, tmp_path: Path
) -> None:
    said = checked(checker, program, tmp_path)
    assert_all_hold(said)
    if program == "lock_faults_test":
        met = re.search(r"(\d+), (\d+) and (\d+) failures met", said)
        assert met is not None
        assert min(map(int, met.groups())) >= 20


@pytest.mark.parametrize("checker", ["sanitizers", "valgrind"])
def test_the_watch_tells_of_changes_and_spares_the_battery(checker: str, tmp_path: Path) -> None:
    assert_all_hold(checked(checker, "watch_test", tmp_path))


@pytest.mark.parametrize("checker", ["sanitizers", "valgrind"])
def test_access_lists_give_nobody_a_secret_and_attributes_stay(
    checker: str, tmp_path: Path
) -> None:
    assert_all_hold(checked(checker, "rights_test", tmp_path))


@pytest.mark.parametrize("checker", ["sanitizers", "valgrind"])
def test_files_keep_their_promises_on_each_version_of_macos(checker: str, tmp_path: Path) -> None:
    said = checked(checker, "files_test", tmp_path)
    assert_all_hold(said)
    met = re.search(r"(\d+) failures met", said)
    assert met is not None
    assert int(met[1]) >= 500


def test_the_fakes_lock_and_tell_of_unlocks_as_a_mac_does(tmp_path: Path) -> None:
    """The rules are written in fake_flock.c.  A Mac can be asked the same questions."""
    macos.compile_over_fakes(tmp_path / "objects", ADDRESS, [MACOS / "locks_on_a_mac.c"])
    program = macos.link_over_fakes("questions", HARNESS, tmp_path, ADDRESS)
    assert_all_hold(macos.run([program], tmp_path, TMPDIR=str(tmp_path)))


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
    scripted = [macos.link_test(name, directory, COVERAGE, [CLOCK]) for name in SCRIPTED]
    others = [
        macos.link_test(name, directory, COVERAGE, [])
        for name in ("keychain_turn_test", "files_test", "rights_test")
    ]
    whole = [*EXERCISE, ROOT / "csrc" / "keychain_none.c"]
    exercise = macos.link_over_fakes("exercise", whole, directory, COVERAGE, KEYCHAIN)
    return [keychain, *scripted, *others, exercise]


def test_the_lines_of_the_macos_files_and_most_of_the_posix_files_are_reached(
    tmp_path: Path,
) -> None:
    """The POSIX files as they are for macOS; code for Linux only is not reached."""
    needs(None if shutil.which("gcov") else "gcov is not installed")
    *programs, exercise = build_for_coverage(tmp_path)
    for program in programs:
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
    program = macos.link_over_fakes("exercise", programs, tmp_path, ADDRESS, KEYCHAIN)
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
    environment = {"PYTHONPATH": str(site), "FAKE_KEYCHAIN": "", "FAKE_CACHES": str(tmp_path)}
    pytest_ += ["-k", " and ".join(f"not {name}" for name in OF_LINUX)]
    tests = [str(ROOT / "tests" / name) for name in PYTHON_TESTS]
    said = macos.run([*pytest_, *tests], ROOT, **environment)
    counts = re.search(r"(\d+) passed", last_line(said))
    assert counts is not None
    assert int(counts[1]) >= 40, said
    assert "skipped" not in said.splitlines()[-1], said
    assert os.environ.get("FAKE_KEYCHAIN") is None
