"""The macOS half on a Linux machine: compiled for macOS, and compiled for Linux over fakes.

For macOS zig brings the compiler, the linker and Darwin's C library.  It has no frameworks: include
and frameworks in tests/native/macos declare what we use of the two that we need.  For Linux the
same files are compiled unchanged over fake_*.c in that directory, whose subdirectory darwin holds
headers that Linux lacks.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import shutil
import struct
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from csrc.ffi_build import PLATFORMS, builder, sources
from dev import C_WARNINGS, cache_directory
from tests.support import native
from tests.support.capability import needs
from tests.support.native import HARNESS, INCLUDES, MACOS, ROOT
from tests.support.processes import finished

DARWIN = PLATFORMS["darwin"]
FAKES = (
    *("fake_kernel.c", "fake_flock.c", "fake_clocks.c", "fake_files.c", "fake_attributes.c"),
    *("fake_libc.c", "fake_corefoundation.c"),
    *("fake_keychain.c", "fake_keychain_person.c", "fake_keychain_store.c"),
)
#: Makes Darwin's names known to Linux's compiler.
OVER_FAKES = (
    *("-D_GNU_SOURCE=", "-include", str(MACOS / "darwin" / "darwin.h")),
    *("-I", str(MACOS / "darwin"), "-I", str(MACOS / "include")),
    *("-I", str(MACOS), *INCLUDES),
)
#: The functions that wrapped.c can let fail.
WRAPPED = (
    *("calloc", "malloc", "nanosleep", "fstat", "fstatat", "readlinkat", "unlinkat", "renameat"),
    *("linkat", "fchmod", "fchown", "ftruncate", "fsync", "futimens", "read", "pread", "pwrite"),
    "pthread_create",
)
LINKER_SYMBOLS = ("__mh_dylib_header", "___dso_handle")


def run(command: Sequence[object], directory: Path, **environment: str) -> str:
    """Run to a successful end: all that it printed."""
    return finished(command, directory, native.environment(**environment))


def write_module(directory: Path) -> Path:
    """The C file of the extension module, as cffi makes it."""
    module = directory / "_msalex.c"
    with contextlib.redirect_stdout(io.StringIO()):  # cffi prints each step
        builder("darwin").emit_c_code(str(module))
    return module


# ---- for macOS ---------------------------------------------------------------------------


def python_headers(python: str, directory: Path) -> Path:
    """The headers of that Python, which may be another one than ours.

    Debian's pyconfig.h includes another one, chosen by Linux' macros. A compiler for macOS defines
    none of them, so the other one takes its place here: every other header is the same.
    """
    where = (
        "import sysconfig;"
        "print(sysconfig.get_path('include'), sysconfig.get_config_var('MULTIARCH'))"
    )
    found, multiarch = run([python, "-c", where], directory).split()
    include = Path(found)
    needs(None if (include / "Python.h").exists() else f"{python} has no headers (python3-dev)")
    headers = directory / "headers"
    headers.mkdir()
    for header in include.iterdir():
        (headers / header.name).symlink_to(header)
    real = include.parent / multiarch / include.name / "pyconfig.h"
    if real.exists():
        (headers / "pyconfig.h").unlink()
        (headers / "pyconfig.h").symlink_to(real)
    return headers


def zig(arguments: Sequence[str | Path], architecture: str, directory: Path) -> str:
    """Compile or link for macOS, as the build table says."""
    needs(None if importlib.util.find_spec("ziglang") else "ziglang is not installed")
    cache = str(cache_directory() / "zig")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", f"{architecture}-macos.11.0"]
    command += ["-I", str(MACOS / "include"), *INCLUDES]
    command += ["-F", str(MACOS / "frameworks"), *map(str, arguments)]
    return run(command, directory, ZIG_GLOBAL_CACHE_DIR=cache, ZIG_LOCAL_CACHE_DIR=cache)


def link(
    architecture: str,
    files: Sequence[str | Path],
    directory: Path,
    options: Sequence[str] = (),
    hidden: bool = True,
) -> MachO:
    """Compile these C files with all warnings, and link them to a library."""
    # zig's linker crashes when a library exports nothing.
    chosen = [one for one in DARWIN.compile_args if hidden or "visibility" not in one]
    output = directory / f"{architecture}.dylib"
    arguments: list[str | Path] = [
        *C_WARNINGS,
        *chosen,
        *DARWIN.link_args,
        *options,
        "-shared",
        "-o",
        output,
    ]
    zig([*arguments, *files], architecture, directory)
    return MachO.read(output)


class MachO(NamedTuple):
    """The facts that a library for macOS holds about itself (mach-o/loader.h, nlist.h)."""

    cpu: int
    libraries: frozenset[str]
    minimum_os: str
    exported: frozenset[str]
    imported: frozenset[str]

    @classmethod
    def read(cls, path: Path) -> MachO:
        data = path.read_bytes()
        magic, cpu, _, _, commands = struct.unpack_from("<5I", data)
        assert magic == 0xFEEDFACF, "no 64-bit Mach-O file"
        at, libraries, minimum, exported, imported = 32, set[str](), "", set[str](), set[str]()
        for _ in range(commands):
            command, size = struct.unpack_from("<2I", data, at)
            if command == 0xC:  # LC_LOAD_DYLIB
                (name,) = struct.unpack_from("<I", data, at + 8)
                libraries.add(data[at + name : at + size].split(b"\0")[0].decode())
            elif command == 0x32:  # LC_BUILD_VERSION
                (version,) = struct.unpack_from("<I", data, at + 12)
                minimum = f"{version >> 16}.{version >> 8 & 0xFF}"
            elif command == 0x2:  # LC_SYMTAB
                symbols, count, strings, _ = struct.unpack_from("<4I", data, at + 8)
                for number in range(count):
                    name, kind = struct.unpack_from("<IB", data, symbols + 16 * number)
                    text = data[strings + name :].split(b"\0", 1)[0].decode()
                    # External: neither private, nor for debuggers, nor of the linker.
                    if kind & 0xF1 == 0x01 and text not in LINKER_SYMBOLS:
                        (exported if kind & 0x0E else imported).add(text)
            at += size
        return cls(cpu, frozenset(libraries), minimum, frozenset(exported), frozenset(imported))


# ---- for Linux, over the fakes -----------------------------------------------------------


def compile_over_fakes(directory: Path, flags: Sequence[str], more: Sequence[Path] = ()) -> None:
    """Object files of the macOS sources and the fakes."""
    needs(None if shutil.which("gcc") else "gcc is not installed")
    directory.mkdir(exist_ok=True)
    files = [ROOT / name for name in sources("darwin")] + [MACOS / name for name in FAKES]
    command = ["gcc", *C_WARNINGS, *flags, *OVER_FAKES, "-c"]
    run([*command, *files], directory)
    if more:  # made by cffi, with warnings of its own
        run(["gcc", *flags, *OVER_FAKES, "-c", *more], directory)


def build_test(
    name: str, directory: Path, flags: Sequence[str], without: Sequence[str] = ()
) -> Path:
    """A program of tests/native/macos over the fakes."""
    objects = directory / "objects"
    compile_over_fakes(objects, flags)
    return link_test(name, directory, flags, without)


def link_test(name: str, directory: Path, flags: Sequence[str], without: Sequence[str]) -> Path:
    """The same, when the objects are made."""
    programs = [MACOS / f"{name}.c", MACOS / "wrapped.c", *HARNESS]
    if name.startswith("lock_"):
        programs.append(MACOS / "lock_script.c")
    return link_over_fakes(name, programs, directory, flags, without, WRAPPED)


def link_over_fakes(
    name: str,
    programs: Sequence[Path],
    directory: Path,
    flags: Sequence[str],
    without: Sequence[str] = (),
    wrapped: Sequence[str] = (),
) -> Path:
    """A program of these files and of the objects that compile_over_fakes made."""
    program = directory / name
    objects = [o for o in sorted((directory / "objects").glob("*.o")) if o.stem not in without]
    includes = (*INCLUDES, "-I", MACOS, "-I", MACOS / "include")
    command = ["gcc", *C_WARNINGS, *flags, *includes, "-o", program]
    run(
        [*command, *programs, *objects, *(f"-Wl,--wrap={one}" for one in wrapped), "-lpthread"],
        directory,
    )
    return program


def make_site(directory: Path) -> Path:
    """A directory for PYTHONPATH: the package as it is on macOS, over the fakes."""
    package = directory / "msal_extensions"
    shutil.copytree(ROOT / "python" / "msal_extensions", package)
    objects = directory / "objects"
    headers = sysconfig.get_path("include")
    flags = ("-g", "-O1", "-fPIC", "-fvisibility=hidden", "-I", headers)
    compile_over_fakes(objects, flags, [write_module(directory)])
    output = package / "_msalex.abi3.so"
    run(["gcc", "-shared", "-o", output, *objects.glob("*.o"), "-lpthread"], directory)
    return directory
