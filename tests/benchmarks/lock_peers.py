"""The libraries that the lock benchmark compares, each installed apart from the others.

The peers live in MSALEX_CACHE, in directories of their own, never in the environment of the
tests: like the pure-Python 1.3.1 of tests/support/reference.py.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.harness import Library
from tests.support.reference import PINNED as REFERENCE_PINNED
from tests.support.reference import reference_site_packages

PINNED = {
    "filelock": "4.2.11 --hash=sha256:"
    "020e229e4bb9d410fc799c07ddf45fa217cba970278f40b30751d94f309b69e2",
    "portalocker": REFERENCE_PINNED["portalocker"],
    "fasteners": "0.20 --hash=sha256:"
    "9422c40d1e350e4259f509fb2e608d6bc43c0136f79a00db1b49046029d0b3b7",
}
PIP_S = 600


OURS = Library("ours", "this package")
FLOCK = Library("flock", "plain fcntl.flock")
#: The C program's row; it takes no part in anything but the uncontended cycles.
FLOOR = "floor"


def cache_directory() -> Path:
    directory = Path(os.environ.get("MSALEX_CACHE") or tempfile.gettempdir() + "/msalex-cache")
    directory = directory.expanduser() / "peers"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def libraries() -> list[Library]:
    """All of them, in the order of the tables; installs what is not there yet."""
    peers = peers_site_packages()
    return [
        OURS,
        Library("1.3.1-portalocker", "1.3.1 with portalocker", reference_site_packages(True), True),
        Library("1.3.1-bare", "1.3.1 without it", reference_site_packages(False), True),
        Library("filelock", "filelock", peers),
        Library("portalocker", "portalocker", peers),
        Library("fasteners", "fasteners", peers),
        FLOCK,
    ]


def peers_site_packages() -> Path:
    """The directory with filelock, portalocker and fasteners; complete or not there at all."""
    key = hashlib.sha256(f"{PINNED} {sys.version}".encode()).hexdigest()[:12]
    target = cache_directory() / key
    with target.with_name(key + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
                pinned, site = Path(temporary, "pinned.txt"), Path(temporary, "site")
                pinned.write_text("".join(f"{name}=={it}\n" for name, it in PINNED.items()))
                pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site)]
                only = ["--no-deps", "--only-binary", ":all:", "--require-hashes"]
                subprocess.run([*pip, *only, "-r", str(pinned)], check=True, timeout=PIP_S)
                shutil.move(site, target)
    return target


def compile_floor(directory: Path) -> Path:
    """The C program, see lock_floor.c."""
    source, program = Path(__file__).with_name("lock_floor.c"), directory / "lock_floor"
    compiler = os.environ.get("CC", "cc").split()
    subprocess.run(
        [*compiler, "-std=c11", "-O2", str(source), "-o", str(program)], check=True, timeout=60
    )
    return program
