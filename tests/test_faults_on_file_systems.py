"""Saves and changes that are killed, or fail, at any system call, on other file systems.

tests/test_file_faults.py has the cases; it runs here once more, with its directories on tmpfs,
overlayfs and bindfs (FUSE).  The suite tries kills of some operations.  MSALEX_FAULTS=all tries all
cases: `python3 dev.py prove faults-elsewhere`.
"""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.support import file_systems, tally
from tests.support.capability import needs, requires
from tests.support.processes import finished

pytestmark = [pytest.mark.slow, requires("os.fork")]

ROOT = Path(__file__).resolve().parents[1]
ALL = os.environ.get("MSALEX_FAULTS") == "all"
CASES = "" if ALL else "kill and plain and (save or change) and not first"
LIMIT_S = 4 * 3600 if ALL else 540


@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("file_system", [name for name in file_systems.MOUNT if name != "disk"])
def test_a_save_or_change_that_fails_at_any_system_call_loses_nothing(
    file_system: str, tmp_path: Path
) -> None:
    needs(file_systems.missing(file_system))
    report = tmp_path / "report.xml"
    there = tmp_path / file_systems.HERE / "base"
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("-k", CASES, f"--basetemp={there}", f"--junitxml={report}", f"--timeout={LIMIT_S}"),
        "tests/test_file_faults.py",
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    said = finished(
        file_systems.on(file_system, tmp_path, command, ROOT), ROOT, environment, seconds=LIMIT_S
    )
    told = [(it.get("name"), int(it.get("value", "0"))) for it in ET.parse(report).iter("property")]
    tried = sum(value for name, value in told if name == "tried")
    tally.tried(tried)
    tally.lost(sum(value for name, value in told if name == "lost"))
    print(f"{file_system}: {tried} tried")
    assert tried > 0, said
