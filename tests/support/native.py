"""Builds and runs the C programs of tests/native.

tests/native/check is the harness of these programs; tests/native/linux, macos and windows hold the
programs and the fakes of each system.  macos.py and windows beside this file build for the other
two systems, by the functions here.

This module can be imported on Windows as well, where dev.py cannot.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from csrc.ffi_build import sources
from tests.support.capability import needs
from tests.support.processes import finished

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
CHECK, LINUX, MACOS, WINDOWS = (
    ROOT / "tests" / "native" / name for name in ("check", "linux", "macos", "windows")
)
#: The harness for programs that run on Linux or macOS.
HARNESS = (CHECK / "check.c", CHECK / "check_posix.c")
#: For the headers of the harness and of the library.
INCLUDES = ("-I", str(CSRC), "-I", str(CHECK))
PLAIN = ("-g", "-O1")
ADDRESS = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
THREAD = ("-g", "-O1", "-fsanitize=thread")


def library() -> list[Path]:
    """The library's files for Linux."""
    return [ROOT / name for name in sources("linux")]


def build(output: Path, files: Sequence[Path], *options: str, by: str = "") -> Path:
    """Compile and link files for this machine, with all warnings, each of which is a failure.

    :param by: Another compiler than that of dev.py.
    """
    needs(None if importlib.util.find_spec("fcntl") else "dev.py needs fcntl, which is not here")
    from dev import C_WARNINGS, compiler

    found = by or compiler()
    needs(None if found else "there is no C compiler (cc)")
    finished([found, *C_WARNINGS, *INCLUDES, "-o", output, *files, *options, "-lpthread", "-ldl"])
    return output


def preloaded(output: Path, name: str) -> Path:
    """The library for LD_PRELOAD of that C file, which replaces functions of the C library."""
    # dlsym returns functions as void *, which ISO C does not convert.
    return build(output, [LINUX / name], "-shared", "-fPIC", "-Wno-pedantic")


def valgrind(*suppressions: Path) -> list[str]:
    """The start of a command, by which a leak or another error is a failure."""
    needs(None if shutil.which("valgrind") else "valgrind is not installed")
    kinds = "--errors-for-leak-kinds=definite,possible"
    command = ["valgrind", "--quiet", "--leak-check=full", kinds, "--error-exitcode=99"]
    return [*command, *(f"--suppressions={file}" for file in suppressions)]


def with_sanitizer(flags: Sequence[str], *command: object) -> list[object]:
    """The command for a program that was built with these flags."""
    if flags == THREAD and shutil.which("setarch"):
        # Older ThreadSanitizers cannot start where addresses are randomized by many bits.
        return ["setarch", "--addr-no-randomize", *command]
    return [*command]


def environment(**variables: str) -> dict[str, str]:
    """The environment of this process, with these variables."""
    return {**os.environ, **variables}
