"""Machines and file systems that this one is not: tests/native/linux/fake_syscalls.c.

Import fakes_fixture and logs_fixture into a test module and ask for `fakes` and `logs`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import native


@pytest.fixture(scope="session", name="fakes")
def fakes_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes system calls fail."""
    return native.preloaded(tmp_path_factory.mktemp("fakes") / "fakes.so", "fake_syscalls.c")


@pytest.fixture(name="logs")
def logs_fixture(tmp_path: Path) -> Path:
    """The directory in which the programs of one test list the faults that they met."""
    logs = tmp_path / "logs"
    logs.mkdir()
    return logs


def faked(fakes: Path, fault: str, directory: Path) -> dict[str, str]:
    """The variables that give a program this fault; it leaves a log in the directory."""
    return {
        "LD_PRELOAD": str(fakes),
        "FAKE": fault,
        "FAKE_LOG": str(directory / "met"),
    }


def assert_met(fault: str, directory: Path) -> None:
    """The fault happened: without it the test would prove nothing."""
    met = {line for log in directory.glob("met.*") for line in log.read_text().split()}
    said = {rule.partition("=")[0] for rule in fault.split(";")}
    # Of a chain of faults the first may keep the others from happening.
    assert said & met, f"none of {said} happened"
