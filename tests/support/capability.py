"""What a test needs of the machine, and what a skip means.

    needs(None if shutil.which("strace") else "strace is not installed")
    cannot_exist_here("a Windows")

A test skips by what is missing, never by platform, and its reason says what. On CI a skip fails
the run, whoever skipped and how: there everything can be installed. Only what cannot exist on a
Linux machine may be missing there too.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import NoReturn

import pytest

CANNOT_EXIST = "cannot exist here: "


def needs(missing: str | None) -> None:
    """Skip the running test when something is missing, with the sentence that says what."""
    if missing is not None:
        pytest.skip(missing)


def cannot_exist_here(what: str) -> NoReturn:
    """Skip the running test, on CI too, because no Linux machine can have what it needs."""
    pytest.skip(CANNOT_EXIST + what)


def on_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true")


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure, on CI."""
    if not on_ci() or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(CANNOT_EXIST):
        report.outcome = "failed"
        report.longrepr = f"skipped on CI, where nothing may be missing: {reason}"


# ---- hooks; conftest.py imports them -----------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid_skip(report)
    return report
