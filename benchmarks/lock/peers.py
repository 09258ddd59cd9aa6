"""The libraries that the lock benchmark compares, each installed apart from the others.

The peers live in MSALEX_CACHE, in a directory of their own, never in the environment of the tests:
like the pure-Python 1.3.1 of tests/support/reference.py.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from benchmarks.libraries import THIS, Library, references
from tests.support.cached import cached
from tests.support.processes import finished
from tests.support.reference import PINNED as REFERENCE_PINNED

PINNED = {
    "filelock": "4.2.11 --hash=sha256:"
    "020e229e4bb9d410fc799c07ddf45fa217cba970278f40b30751d94f309b69e2",
    "portalocker": REFERENCE_PINNED["portalocker"],
    "fasteners": "0.20 --hash=sha256:"
    "9422c40d1e350e4259f509fb2e608d6bc43c0136f79a00db1b49046029d0b3b7",
}

#: Python's own flock, without any library.
FLOCK = Library("flock", "plain fcntl.flock")


def libraries() -> list[Library]:
    """All of them, in the order of the tables; installs what is not there yet."""
    site = site_packages()
    return [THIS, *references(), *(Library(name, name, site) for name in PINNED), FLOCK]


def site_packages() -> Path:
    """The directory with filelock, portalocker and fasteners."""
    return cached("peers", "site", f"{PINNED} {sys.version}", _install)


def make_importable(name: str) -> None:
    """Lets this process import that peer, and no other version of it that happens to be here."""
    site = site_packages()
    if str(site) not in sys.path:
        sys.path.insert(0, str(site))
    file = importlib.import_module(name).__file__
    assert file is not None
    assert Path(file).is_relative_to(site), f"another {name} is imported already: {file}"


def _install(site: Path) -> None:
    pinned = site.with_name("pinned.txt")
    pinned.write_text("".join(f"{name}=={it}\n" for name, it in PINNED.items()))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site)]
    only = ["--no-deps", "--only-binary", ":all:", "--require-hashes"]
    finished([*pip, *only, "-r", str(pinned)])


def compile_floor(directory: Path) -> Path:
    """The C program, see floor.c."""
    source, program = Path(__file__).with_name("floor.c"), directory / "floor"
    compiler = os.environ.get("CC", "cc").split()
    finished([*compiler, "-std=c11", "-O2", source, "-o", program], seconds=60)
    return program
