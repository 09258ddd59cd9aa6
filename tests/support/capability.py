"""What a test needs of the machine, and what a skip means.

    needs(None if shutil.which("strace") else "strace is not installed")
    cannot_exist_here("a Windows")
    @requires("os.fork", "fcntl")
    @requires(FILE_MODES)

A test skips because something is missing, never because of the platform, and its reason says what
is missing. On CI any skip fails the run, because everything can be installed there. Only things
that cannot exist on a Linux machine may be missing there too.

A test module may import a module of Python itself that this Python does not have (fcntl on
Windows). Then the whole test module is skipped, and the reason says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NoReturn

import pytest

CANNOT_EXIST = "cannot exist here: "


def needs(missing: str | None) -> None:
    """Skip the running test when something is missing; the sentence says what."""
    if missing is not None:
        pytest.skip(missing)


def cannot_exist_here(what: str) -> NoReturn:
    """Skip the running test, on CI too, because no Linux machine can have what it needs."""
    pytest.skip(CANNOT_EXIST + what)


# ---- what a system may lack --------------------------------------------------------------


def _has_file_modes(directory: Path) -> bool:
    (directory / "file").touch()
    (directory / "file").chmod(0o600)
    return stat.S_IMODE((directory / "file").stat().st_mode) == 0o600


def _makes_links(directory: Path) -> bool:
    with contextlib.suppress(OSError):
        (directory / "link").symlink_to(directory / "target")
    return (directory / "link").is_symlink()


def _removes_open_files(directory: Path) -> bool:
    with (directory / "open").open("w"), contextlib.suppress(OSError):
        (directory / "open").unlink()
    return not (directory / "open").exists()


def _queues_for_locks(_: Path) -> bool:
    windll = getattr(ctypes, "WinDLL", None)
    return windll is None or not hasattr(windll("ntdll"), "wine_get_version")


#: Sentences about systems that lack something; :func:`requires` tries out which are true here.
FILE_MODES = "files have no modes here"
SYMBOLIC_LINKS = "symbolic links cannot be made here"
LOCK_QUEUE = "waiters for a lock ask again and again, and many starve (Wine)"
REMOVABLE_OPEN_FILES = "a file that is open cannot be removed or replaced here"
_TRIALS: dict[str, Callable[[Path], bool]] = {
    FILE_MODES: _has_file_modes,
    SYMBOLIC_LINKS: _makes_links,
    REMOVABLE_OPEN_FILES: _removes_open_files,
    LOCK_QUEUE: _queues_for_locks,
}


def _lacks(what: str) -> str | None:
    """The sentence that says what is missing, or None."""
    if what in _TRIALS:
        with tempfile.TemporaryDirectory() as directory:
            return None if _TRIALS[what](Path(directory)) else what
    module, _, name = what.partition(".")
    with contextlib.suppress(ImportError):
        found = importlib.import_module(module)
        if not name or hasattr(found, name):
            return None
    return f"there is no {what} here"


def requires(*what: str) -> pytest.MarkDecorator:
    """Skips a test where one of these is missing: a module (fcntl), a name in a module (os.fork),
    or one of the sentences above."""
    lacking = [reason for reason in map(_lacks, what) if reason is not None]
    return pytest.mark.skipif(bool(lacking), reason="; ".join(lacking))


def _missing_standard_module(error: BaseException | None) -> str | None:
    """The name of the module of Python itself whose absence caused an error."""
    while error is not None:
        name = getattr(error, "name", None)
        if isinstance(error, ModuleNotFoundError) and name in sys.stdlib_module_names:
            return str(name)
        error = error.__cause__
    return None


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
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    call: pytest.CallInfo[None] | None = getattr(report, "call", None)
    if call is not None and call.excinfo is not None:
        module = _missing_standard_module(call.excinfo.value)
        if module is not None:
            report.outcome = "skipped"
            reason = f"Skipped: there is no {module} here"
            report.longrepr = (str(collector.path), 1, reason)
    _forbid_skip(report)
    return report
