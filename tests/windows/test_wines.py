"""What tests/support/windows/wines.py promises of a Windows that it lends."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.support.capability import needs
from tests.support.processes import eventually
from tests.support.windows import toolchain, wines
from tests.support.windows.wines import Wine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

LEAVES_A_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(900)"])
print("child", flush=True)
child.wait()
"""


def processes(mark: str) -> list[int]:
    """The processes that have this in their environment."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            environment = (directory / "environ").read_bytes()
        except OSError:
            continue  # it has ended
        if mark.encode() in environment:
            found.append(int(directory.name))
    return found


@pytest.mark.parametrize("wine", wines.ALL, ids=lambda wine: wine.name)
def test_nothing_that_ran_in_a_windows_outlives_it(wine: Wine) -> None:
    needs(toolchain.missing() or wine.missing())
    mark = secrets.token_hex(16)
    windows = toolchain.Windows("3.11", wine=wine)
    with windows.running("-c", LEAVES_A_CHILD, MSALEX_MARK=mark) as process:
        assert process.stdout is not None
        assert "child\n" in iter(process.stdout.readline, "")
        assert len(processes(mark)) >= 2
    assert eventually(lambda: not processes(mark))


def test_a_windows_in_use_is_lent_to_nobody_else() -> None:
    needs(toolchain.missing())
    with wines.HERE.windows() as one, wines.HERE.windows() as another:
        assert one["WINEPREFIX"] != another["WINEPREFIX"]
