"""A skipped test says why, and on CI a skip is a failure."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WAYS_TO_SKIP = {
    "needs": "from tests.support.capability import needs\ndef test(): needs('no strace')",
    "skip": "import pytest\ndef test(): pytest.skip('no strace')",
    "mark": "import pytest\n@pytest.mark.skipif(True, reason='no strace')\ndef test(): pass",
    "fixture": "import pytest\n@pytest.fixture\ndef f(): pytest.skip('no strace')\n"
    "def test(f): pass",
    "module": "import pytest\npytest.importorskip('no_strace')\ndef test(): pass",
}
CANNOT = "from tests.support.capability import cannot_exist_here\n"


def run_pytest(directory: Path, ci: str, *options: str, **sources: str) -> tuple[int, str]:
    """Run pytest in a directory of its own; return its exit status and its output."""
    for name, source in sources.items():
        (directory / f"test_{name}.py").write_text(source)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "CI": ci, "PYTHONPATH": path}
    plugin = ["-p", "tests.support.capability", "-p", "no:cacheprovider"]
    options = ("--continue-on-collection-errors", *options)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, "-rA", *options, "."],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout


def test_a_missing_part_skips_here_and_fails_on_ci_however_it_is_skipped(tmp_path: Path) -> None:
    status, output = run_pytest(tmp_path, "", **WAYS_TO_SKIP)
    assert status in (0, 5), output
    assert f"{len(WAYS_TO_SKIP)} skipped" in output
    status, output = run_pytest(tmp_path, "true", **WAYS_TO_SKIP)
    assert status == 1, output
    assert "skipped in" not in output
    assert output.count("skipped on CI, where nothing may be missing: ") >= len(WAYS_TO_SKIP)
    for way in WAYS_TO_SKIP:
        assert re.search(f"(FAILED|ERROR) .*test_{way}.py", output), output


def test_what_cannot_exist_on_linux_may_be_missing_on_ci(tmp_path: Path) -> None:
    source = CANNOT + "def test(): cannot_exist_here('the macOS keychain')"
    status, output = run_pytest(tmp_path, "true", keychain=source)
    assert status == 0, output
    assert "1 skipped" in output
    assert "the macOS keychain" in output


def test_an_expected_failure_stays_one_on_ci(tmp_path: Path) -> None:
    source = "import pytest\n@pytest.mark.xfail\ndef test(): raise ValueError"
    status, output = run_pytest(tmp_path, "true", expected=source)
    assert status == 0, output
    assert "1 xfailed" in output
