"""The test suites of packages that use ours, from their source distributions.

    suite = msal_suite("1.29.0")
    outcome = run(suite, tmp_path, replace=True)

Each is kept in MSALEX_CACHE, one directory for each version, as tests/support/reference.py keeps
1.3.1.  Its directory `site` is for PYTHONPATH, its directory `tests` has the tests.  Everything
else, also the package under test, comes from the environment of our tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.cached import cached
from tests.support.capability import needs

OLDEST_MSAL = "1.29.0"
HASHES = {
    "msal==1.29.0": "8f6725f099752553f9b2fe84125e2a5ebe47b49f92eacca33ebedd3a9ebaae25",
    "azure-identity==1.27.0": "6a4c50e25e8e9a47b324a95ad024897e56cb3c6241e0094e93b126a2bf71edc5",
}
AZURE_IDENTITY = "azure-identity==1.27.0"
PLUGIN = Path(__file__).parent / "foreign"
PIP_S, SUITE_S, TEST_S = 600, 240, 60


@dataclass(frozen=True)
class Outcome:
    """The result of a suite, as foreign_plugin.py wrote it."""

    msal: str
    msal_extensions: str
    made: int  # caches that were ours in place of MSAL's
    stored: int  # those of them that stored something on disk
    outcomes: dict[str, str]
    reasons: dict[str, str]

    @property
    def passed(self) -> set[str]:
        return {test for test, outcome in self.outcomes.items() if outcome == "passed"}

    def say(self, tests: set[str]) -> str:
        """The reasons why these tests did not pass."""
        words = (self.reasons.get(test) or self.outcomes.get(test, "not run") for test in tests)
        return "\n".join(f"{test}: {why}" for test, why in zip(tests, words, strict=True))


def msal_suite(version: str) -> Path:
    """That version of MSAL, and its tests."""

    def make(directory: Path) -> None:
        source = _source(f"msal=={version}", directory)
        (directory / "site").mkdir()
        for name in ("msal", "msal.egg-info"):
            shutil.move(source / name, directory / "site")
        shutil.move(source / "tests", directory)
        shutil.rmtree(source)

    return _kept(f"msal-{version}", make)


def azure_identity_suite() -> Path:
    """azure-identity, and its tests; without MSAL, and without msal-extensions."""

    def make(directory: Path) -> None:
        source = _source(AZURE_IDENTITY, directory)
        more = ("azure-core", "typing-extensions", "pytest-asyncio")
        into = ("--target", str(directory / "site"), "--only-binary", ":all:")
        _pip("install", *into, "aiohttp")
        _pip("install", "--no-deps", "--upgrade", *into, AZURE_IDENTITY, *more)
        shutil.move(source / "tests", directory)
        shutil.rmtree(source)

    return _kept(AZURE_IDENTITY.replace("==", "-"), make)


def run(
    suite: Path,
    scratch: Path,
    options: Sequence[str] = (),
    *,
    replace: bool = False,
    before: Sequence[Path] = (),
) -> Outcome:
    """Runs a suite in a process of its own, with a home of its own.

    :param replace: Whether MSAL's caches become ours.
    :param before: Directories that come before the suite's own `site`.
    """
    scratch.mkdir()
    for name in ("home", "caches"):
        (scratch / name).mkdir()
    shutil.copytree(suite / "tests", scratch / "tests")  # tests may write into their directory
    path = [*before, suite / "site", PLUGIN]
    env = {
        **os.environ,
        "HOME": str(scratch / "home"),
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MSALEX_FOREIGN_REPORT": str(scratch / "report.json"),
        "MSALEX_FOREIGN_TESTS": str(scratch / "tests"),
    }
    if replace:
        env["MSALEX_FOREIGN_CACHES"] = str(scratch / "caches")
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={scratch}"]
    plugins = ["-p", "foreign_plugin", "-p", "no:cacheprovider", f"--timeout={TEST_S}"]
    done = subprocess.run(
        [*command, *plugins, "--continue-on-collection-errors", *options, str(scratch / "tests")],
        env=env,
        cwd=scratch,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SUITE_S,
    )
    assert (scratch / "report.json").exists(), done.stdout[-2000:] + done.stderr[-2000:]
    return Outcome(**json.loads((scratch / "report.json").read_text()))


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    # This file and the Python decide what is made.
    facts = f"{sys.version} {sysconfig.get_platform()}".encode() + Path(__file__).read_bytes()
    return cached("suites", name, facts, make)


def _source(requirement: str, directory: Path) -> Path:
    """The unpacked source distribution; its hash is checked if HASHES has one."""
    name = requirement.partition("==")[0]
    listed = directory / "requirements.txt"
    pinned = HASHES.get(requirement)
    listed.write_text(requirement + (f" --hash=sha256:{pinned}" if pinned else ""))
    into = ("--dest", str(directory))
    _pip("download", "--no-deps", "--no-binary", name, *into, "-r", str(listed))
    listed.unlink()
    (archive,) = directory.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(directory, filter="data")
    archive.unlink()
    (source,) = directory.iterdir()
    return source


def _pip(*arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", *arguments]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=PIP_S)
    if done.returncode != 0:
        needs(f"a foreign test suite could not be installed: {done.stderr[-500:]}")
