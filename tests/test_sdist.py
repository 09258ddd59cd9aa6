"""The source distribution holds all that the repository holds, and its tests run from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.built import ROOT, Built, build, built, copy_of_the_tree, environment, unpack
from tests.support.capability import cannot_exist_here, needs, requires
from tests.support.processes import finished

pytestmark = [pytest.mark.slow, requires("venv", "fcntl")]
#: Some tests that take no time, of files that use much of tests/support.
QUICK = ("tests/test_serializer.py", "tests/test_layers.py", "tests/test_stamps.py")
#: What setuptools adds.
ADDED = ("PKG-INFO", "setup.cfg", "python/msal_extensions.egg-info/")
#: What tests, tools and editors leave behind.
LEFT_BEHIND = (
    *("tests/__pycache__/conftest.cpython-311.pyc", "csrc/error.o", "tests/support/library.so"),
    *("tests/.hypothesis/examples/1", ".venv/test/pyvenv.cfg", "docs/install.md.orig"),
    *("build/lib/msal_extensions/__init__.py", ".mypy_cache/3.11/cache.json", "core"),
)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(tmp_path_factory)


@pytest.fixture(scope="module")
def unpacked(ours: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(ours.sdist, tmp_path_factory.mktemp("unpacked"))


def names(sdist: Path) -> set[str]:
    """The files in it, without what setuptools adds."""
    with tarfile.open(sdist) as archive:
        files = {entry.name.partition("/")[2] for entry in archive if entry.isfile()}
    return {name for name in files if not name.startswith(ADDED)}


def files_of_the_repository() -> set[str]:
    """Those that git knows or could add."""
    command = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    needs(None if shutil.which("git") else "git is not installed")
    if not (ROOT / ".git").exists():
        cannot_exist_here("the checkout's own repository")
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}


def test_source_distribution_holds_the_repository_and_nothing_else(ours: Built) -> None:
    assert names(ours.sdist) == files_of_the_repository()


def test_what_tests_and_tools_leave_behind_is_not_in_it(
    ours: Built, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    source = copy_of_the_tree(tmp_path / "source")
    for name in LEFT_BEHIND:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    build(environment(tmp_path_factory), source, tmp_path / "dist", "--sdist")
    (made,) = (tmp_path / "dist").iterdir()
    assert names(made) == names(ours.sdist)


def test_its_tests_run_from_it_with_what_was_built_from_it(
    ours: Built, unpacked: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(ours.wheel) as archive:
        archive.extractall(tmp_path / "installed")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    where = "import msal_extensions, sys; sys.stdout.write(msal_extensions.__file__)"
    found = finished([sys.executable, "-c", where], unpacked, env)
    assert Path(found).is_relative_to(tmp_path)
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist"]
    said = finished([*pytest_here, *QUICK], unpacked, env)
    assert " passed" in said.splitlines()[-1]


def test_all_its_tests_can_be_collected(unpacked: Path) -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:xdist"]
    said = finished([*command, "-p", "no:benchmark"], unpacked, {**os.environ, "CI": ""})
    collected = {line.partition("::")[0] for line in said.splitlines() if "::" in line}
    # tests/macos and tests/windows have files for other systems as well.
    assert collected >= {f"tests/{path.name}" for path in (ROOT / "tests").glob("test_*.py")}
