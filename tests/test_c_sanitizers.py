"""The C library without Python: no compiler warning, no sanitizer report, no leak, no race."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import C_WARNINGS, c_sources
from tests.support import keyring, native
from tests.support.capability import needs
from tests.support.native import ADDRESS, LINUX, PLAIN, THREAD
from tests.support.processes import finished

pytestmark = pytest.mark.slow

EXERCISE = [*native.HARNESS, *sorted(LINUX.glob("exercise*.c"))]
STRESS = [LINUX / "lock_stress.c"]
NO_BUS = "disabled:"


def build(directory: Path, programs: list[Path], flags: tuple[str, ...]) -> Path:
    return native.build(directory / "program", [*programs, *native.library()], *flags)


def run(command: list[object], directory: Path, **variables: str) -> str:
    environment = native.environment(**variables, TMPDIR=str(directory))
    return finished(command, environment=environment)


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
    for source in (*c_sources(), *EXERCISE, *STRESS):
        command = [compiler, *C_WARNINGS, *native.INCLUDES, "-c", source]
        finished([*command, "-o", tmp_path / "object"])


def test_library_keeps_its_promises_under_address_and_undefined_behaviour_sanitizers(
    session: dict[str, str], tmp_path: Path
) -> None:
    program = build(tmp_path, EXERCISE, ADDRESS)
    said = run([program], tmp_path, **session)
    assert ", 0 checks failed" in said
    has_keyring = session["DBUS_SESSION_BUS_ADDRESS"] != NO_BUS
    assert ("ok: The Secret Service keeps a secret" in said) == has_keyring


def test_valgrind_finds_no_leak_and_no_error(session: dict[str, str], tmp_path: Path) -> None:
    valgrind = native.valgrind(LINUX / "valgrind.supp")
    program = build(tmp_path, EXERCISE, PLAIN)
    said = run([*valgrind, program], tmp_path, **session)
    assert ", 0 checks failed" in said


@pytest.mark.parametrize("flags", [ADDRESS, THREAD], ids=["address", "thread"])
def test_processes_of_threads_lose_no_update_and_no_sanitizer_objects(
    flags: tuple[str, ...], tmp_path: Path
) -> None:
    program = build(tmp_path, STRESS, flags)
    said = run(native.with_sanitizer(flags, program, tmp_path, 300), tmp_path)
    assert "4800 of 4800 increments, 0 failures" in said
