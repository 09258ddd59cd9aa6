"""The archives that this tree gives, built once in a run of pytest, whatever its workers are.

environment(tmp_path_factory)     a Python with what pyproject.toml builds by
built(tmp_path_factory)           both archives: the source distribution and its wheel
build(python, source, output)     the same of another source, or in another environment
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.processes import finished

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCES = ("build", "dist", "__pycache__", "*.egg-info", ".git", ".venv*", ".*_cache")
#: Asks build for the requirements of a project, for which Python 3.10 has no parser.
REQUIRES = (
    "import build, sys; print(*build.ProjectBuilder(sys.argv[1]).build_system_requires, sep='\\n')"
)


class Built(NamedTuple):
    sdist: Path
    wheel: Path


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The directory that the first of the workers makes and all use."""
    fcntl = importlib.import_module("fcntl")
    base = factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    done = directory.with_name(f"{name}.done")
    with directory.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(directory, ignore_errors=True)  # a test that was given up
            directory.mkdir()
            make(directory)
            done.touch()
    return directory


def copy_of_the_tree(directory: Path) -> Path:
    """What is here, changes included.  A build leaves files beside the sources."""
    return Path(shutil.copytree(ROOT, directory, ignore=shutil.ignore_patterns(*NOT_SOURCES)))


def environment(factory: pytest.TempPathFactory) -> Path:
    """A Python with build, and with what pyproject.toml builds by."""

    def make(directory: Path) -> None:
        requires = finished([sys.executable, "-c", REQUIRES, ROOT]).splitlines()
        finished([sys.executable, "-m", "venv", directory])
        pip = [directory / "bin" / "python", "-m", "pip", "install", "--quiet"]
        finished([*pip, "--disable-pip-version-check", "build", *requires])

    return once(factory, "builder", make) / "bin" / "python"


def build(
    python: Path,
    source: Path,
    output: Path,
    *options: str,
    umask: int = 0o022,
    **variables: str | None,
) -> None:
    """Build the archives of a source; None takes a variable away."""
    env = {**os.environ, **{k: v for k, v in variables.items() if v is not None}}
    for name in (name for name, value in variables.items() if value is None):
        env.pop(name, None)
    command = [python, "-m", "build", "--no-isolation", "--outdir", output, *options, source]
    umask_of_shell = ["sh", "-c", f'umask {umask:03o}; exec "$@"', "sh"]
    finished([*umask_of_shell, *command], environment=env)


def archives(directory: Path) -> Built:
    (sdist,), (wheel,) = directory.glob("*.tar.gz"), directory.glob("*.whl")
    return Built(sdist, wheel)


def built(factory: pytest.TempPathFactory) -> Built:
    python = environment(factory)

    def make(directory: Path) -> None:
        build(python, copy_of_the_tree(directory / "source"), directory / "dist")

    return archives(once(factory, "built", make) / "dist")


def unpack(sdist: Path, directory: Path) -> Path:
    """The directory that a source distribution holds."""
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(directory, filter="data")
        else:
            archive.extractall(directory)
    (unpacked,) = directory.iterdir()
    return unpacked
