"""wheels_on_a_mac.py hands over no wheel that its own processor did not run."""

from __future__ import annotations

import importlib.util
import inspect
import re
import struct
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.macos import wheels_on_a_mac as script
from tests.support.capability import cannot_exist_here, needs, requires

pytestmark = requires("os.killpg")

IDENTIFIERS = ["cp310-macosx_arm64", "cp314t-macosx_arm64"]
NAMES = ["x-1-cp310-abi3-macosx_11_0_arm64.whl", "x-1-cp314-cp314t-macosx_11_0_arm64.whl"]
SMOKE = "1.3.1+native1 works on 3.10.11 darwin arm64\n"


def make_wheel(path: Path, processor: str = "arm64") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        header = struct.pack("<2I", script.MACH_O_64, script.PROCESSORS[processor])
        archive.writestr("msal_extensions/_msalex.abi3.so", header + b"\0" * 24)
    return path


@pytest.fixture
def wheels(tmp_path: Path) -> list[Path]:
    return [make_wheel(tmp_path / name) for name in NAMES]


def test_wheels_that_their_own_processor_ran_are_handed_over(wheels: list[Path]) -> None:
    assert script.faults_of_wheels("arm64", IDENTIFIERS, wheels, SMOKE * 2) == []


@pytest.mark.parametrize(
    ("has", "pretends", "fault"),
    [
        ("x86_64", "x86_64", "has x86_64"),  # Azure's macOS-15
        ("arm64", "x86_64", "Rosetta"),
        ("arm64", "arm64", None),
    ],
)
def test_only_a_machine_with_that_processor_is_taken(
    has: str, pretends: str, fault: str | None
) -> None:
    faults = script.faults_of_machine("arm64", has, pretends)
    assert len(faults) == (0 if fault is None else 1)
    assert fault is None or fault in faults[0]


def test_a_wheel_that_was_not_tried_is_not_handed_over(wheels: list[Path]) -> None:
    """As cibuildwheel does on an Intel Mac, and for what test-skip names."""
    warning = "While arm64 wheels can be built on x86_64, they cannot be tested. Consider\n"
    (said, counted) = script.faults_of_wheels("arm64", IDENTIFIERS, wheels, SMOKE + warning)
    assert "cannot be tested" in said
    assert counted == "2 wheels were built, tried on: ['arm64']"
    assert script.faults_of_wheels("arm64", IDENTIFIERS, wheels, "") != []


def test_a_wheel_that_another_processor_tried_is_not_handed_over(wheels: list[Path]) -> None:
    said = SMOKE + SMOKE.replace("arm64", "x86_64")
    assert script.faults_of_wheels("arm64", IDENTIFIERS, wheels, said) != []


def test_a_selection_without_wheels_is_a_fault() -> None:
    assert script.faults_of_wheels("arm64", [], [], "") == ["the configuration selects no wheel"]


def test_a_wheel_that_is_missing_is_a_fault(wheels: list[Path]) -> None:
    (fault,) = script.faults_of_wheels("arm64", IDENTIFIERS, wheels[:1], SMOKE)
    assert "2 wheels were selected" in fault


def test_a_library_for_another_processor_than_the_name_says_is_a_fault(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / NAMES[0], "x86_64")
    (fault,) = script.faults_of_wheels("arm64", IDENTIFIERS[:1], [wheel], SMOKE)
    assert "holds libraries for ['x86_64']" in fault
    wheel = make_wheel(tmp_path / NAMES[0].replace("arm64", "universal2"))
    (fault,) = script.faults_of_wheels("arm64", IDENTIFIERS[:1], [wheel], SMOKE)
    assert "is not tagged for arm64 alone" in fault


def test_the_words_of_cibuildwheel_about_untried_wheels_are_known() -> None:
    """They are taken from the cibuildwheel that is installed here."""
    if sys.version_info < (3, 11):
        cannot_exist_here("cibuildwheel 4 on Python 3.10")
    needs(None if importlib.util.find_spec("cibuildwheel") else "cibuildwheel is not installed")
    from cibuildwheel.platforms import macos

    texts = re.findall(r'unwrap\(\s*f?"""(.*?)"""', inspect.getsource(macos), re.DOTALL)
    told = [" ".join(textwrap.dedent(text).split()) for text in texts]
    about = [text for text in told if "wheels can be built on" in text or "skipped auto" in text]
    assert len(about) == 3, told
    assert [bool(script.LEFT_OUT.search(text)) for text in about] == [True] * 3


#: Stands for a Python with cibuildwheel.
CIBUILDWHEEL = """#!/bin/sh
case "$*" in
  *--print-build-identifiers) echo cp310-macosx_arm64; echo "Note: others" >&2 ;;
  *cibuildwheel*) for last; do :; done; cp "$WHEEL" "$last/"; echo "$SAID" ;;
  *on_a_mac.py*) eval "$AFTERWARDS" ;;
esac
"""
Main = Callable[..., int]


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Main:
    """main() on a Mac of Apple silicon, where programs do what the environment says."""
    python = tmp_path / "python"
    python.write_text(CIBUILDWHEEL)
    python.chmod(0o700)
    monkeypatch.setattr(script, "installed", lambda *_: python)
    monkeypatch.setattr(script, "processor", lambda: "arm64")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setenv("WHEEL", str(make_wheel(tmp_path / NAMES[0])))

    def run(said: str = SMOKE, afterwards: str = "true") -> int:
        monkeypatch.setenv("SAID", said)
        monkeypatch.setenv("AFTERWARDS", afterwards)
        return script.main(["arm64", str(tmp_path / "wheels")])

    return run


def test_a_good_run_names_the_digest_of_each_wheel(
    main: Main, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main() == 0
    (line,) = (f"{d}  {n}" for n, d in script.digests(tmp_path / "wheels").items())
    assert line in capsys.readouterr().out


def test_a_wheel_that_changes_while_it_is_tried_is_not_handed_over(
    main: Main, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(afterwards=f"echo >> {tmp_path}/wheels/{NAMES[0]}") == 1
    assert "no longer those that were tried" in capsys.readouterr().out


def test_a_mac_on_which_something_does_not_hold_hands_over_nothing(
    main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(afterwards="exit 1") == 1
    assert "NOT TO BE PUBLISHED: on_a_mac.py: status 1" in capsys.readouterr().out


def test_a_wheel_that_did_not_run_is_not_even_asked_about(
    main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(said="built", afterwards="echo asked") == 1
    assert "asked" not in capsys.readouterr().out


def test_a_program_that_hangs_is_ended_with_all_its_children() -> None:
    status, said = script.run(["/bin/sh", "-c", "echo begun; sleep 600 & wait"], 5)
    assert (status, said) == (-9, "begun\n")


def test_a_build_is_told_the_time_of_the_commit_and_the_hashes_of_its_tools(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SOURCE_DATE_EPOCH", "PIP_BUILD_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    answer = subprocess.CompletedProcess([], 0, stdout="1234567890\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    told = script.settings_of_build()
    assert told["SOURCE_DATE_EPOCH"] == "1234567890"
    assert "--hash=sha256:" in Path(told["PIP_BUILD_CONSTRAINT"]).read_text(encoding="utf-8")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    assert script.settings_of_build()["SOURCE_DATE_EPOCH"] == "1"


def test_all_that_a_mac_installs_is_pinned_by_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel, commands = tmp_path / NAMES[0], []

    def run(command: list[str | Path], *_: object) -> tuple[int, str]:
        commands.append([str(part) for part in command])
        return 0, ""

    monkeypatch.setattr(script, "run", run)
    script.installed(tmp_path, "mac", wheel)
    installs = [command for command in commands if "install" in command]
    assert len(installs) == 2
    for command in installs:
        assert "--no-deps" in command
        assert "--require-hashes" in command or command[-1] == str(wheel)
