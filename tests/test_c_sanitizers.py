"""The C library without Python: no compiler warning, no sanitizer report, no leak, no race."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from csrc.ffi_build import sources
from dev import C_WARNINGS, c_sources
from tests.support import keyring
from tests.support.capability import needs

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ROOT / "tests" / "c"
EXERCISE = ("check.c", *sorted(path.name for path in PROGRAMS.glob("exercise*.c")))
ADDRESS = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
THREAD = ("-g", "-O1", "-fsanitize=thread")
PLAIN = ("-g", "-O1")
VALGRIND = (
    *("valgrind", "--quiet", "--leak-check=full", "--errors-for-leak-kinds=definite,possible"),
    *("--error-exitcode=99", f"--suppressions={PROGRAMS / 'valgrind.supp'}"),
)
NO_BUS = "disabled:"
STRESS = ("lock_stress.c",)


def build(directory: Path, programs: tuple[str, ...], flags: tuple[str, ...]) -> Path:
    """Compile the library's files for this system together with a program."""
    needs(None if shutil.which("gcc") else "gcc is not installed")
    program = directory / "program"
    library = [str(ROOT / source) for source in sources("linux")]
    command = ["gcc", *C_WARNINGS, *flags, "-I", str(ROOT / "csrc"), "-o", str(program), *library]
    command += [*(str(PROGRAMS / name) for name in programs), "-lpthread", "-ldl"]
    subprocess.run(command, check=True, timeout=300)
    return program


def run(command: list[str], directory: Path, environment: dict[str, str]) -> str:
    """Run to a successful end.  The output goes into a file, because a child that outlives the
    program would keep a pipe open."""
    with (directory / "output").open("w+") as output:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment, "TMPDIR": str(directory)},
            timeout=300,
        )
        output.seek(0)
        said = output.read()
    assert done.returncode == 0, said
    return said


@pytest.fixture(params=["no bus", "a keyring"])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a session without a Secret Service, and of a session with a real one."""
    if request.param == "no bus":
        yield {"DBUS_SESSION_BUS_ADDRESS": NO_BUS}
    else:
        needs(keyring.missing())
        with keyring.running(tmp_path / "keyring") as service:
            yield dict(service.environment)


@pytest.mark.parametrize("compiler", [c for c in ("gcc", "clang") if shutil.which(c)])
def test_compilers_find_nothing_to_warn_of(compiler: str, tmp_path: Path) -> None:
    for source in (*c_sources(), *(PROGRAMS / name for name in (*EXERCISE, *STRESS))):
        command = [compiler, *C_WARNINGS, "-I", str(ROOT / "csrc"), "-c", str(source)]
        subprocess.run([*command, "-o", str(tmp_path / "object")], check=True, timeout=120)


def test_library_keeps_its_promises_under_address_and_undefined_behaviour_sanitizers(
    session: dict[str, str], tmp_path: Path
) -> None:
    program = build(tmp_path, EXERCISE, ADDRESS)
    said = run([str(program)], tmp_path, session)
    assert "0 checks failed" in said
    has_keyring = session["DBUS_SESSION_BUS_ADDRESS"] != NO_BUS
    assert ("ok: The Secret Service keeps a secret" in said) == has_keyring


def test_valgrind_finds_no_leak_and_no_error(session: dict[str, str], tmp_path: Path) -> None:
    needs(None if shutil.which("valgrind") else "valgrind is not installed")
    program = build(tmp_path, EXERCISE, PLAIN)
    said = run([*VALGRIND, str(program)], tmp_path, session)
    assert "0 checks failed" in said


@pytest.mark.parametrize("flags", [ADDRESS, THREAD], ids=["address", "thread"])
def test_processes_of_threads_lose_no_update_and_no_sanitizer_objects(
    flags: tuple[str, ...], tmp_path: Path
) -> None:
    program = build(tmp_path, STRESS, flags)
    command = [str(program), str(tmp_path), "300"]
    if flags is THREAD and shutil.which("setarch"):
        # Older ThreadSanitizers cannot start where addresses are randomized by many bits.
        command = ["setarch", "--addr-no-randomize", *command]
    said = run(command, tmp_path, {})
    assert "4800 of 4800 increments, 0 failures" in said
