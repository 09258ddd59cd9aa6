"""Builds the extension and the wheel for Windows, on a Linux machine.

The wheels that are published are built on Windows (wheels.yml); these are for the tests.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from csrc import ffi_build
from dev import C_WARNINGS
from tests.support.native import CHECK, CSRC, INCLUDES, ROOT, WINDOWS
from tests.support.processes import finished
from tests.support.windows import toolchain

#: For Windows 10, the oldest version that we support.  Other compilers do so by default.
WINDOWS_10 = "-D_WIN32_WINNT=0x0A00"
MINGW = ["x86_64-w64-mingw32-gcc", WINDOWS_10]
MINGW_32 = ["i686-w64-mingw32-gcc", WINDOWS_10]
DEFINES = ("-DPy_LIMITED_API=0x030a0000",)
#: Every warning of clang, but those about C++, C before C11, structures that are padded or copied,
#: and commas.
#: Some are MSVC's by /W4 and /sdl, such as conditional-uninitialized (C4701, C4703).
CLANG_WARNINGS = (
    "-Weverything",
    *("-Wno-c++-keyword", "-Wno-implicit-void-ptr-cast", "-Wno-unsafe-buffer-usage"),
    *("-Wno-declaration-after-statement", "-Wno-pre-c11-compat", "-Wno-padded"),
    *("-Wno-comma", "-Wno-nrvo"),
)
#: The static analyzer of clang, and what clang-tidy knows of bugs; but no matters of style, and no
#: functions that only the C library of Windows has.
ANALYSIS = (
    *("-*", "clang-analyzer-*", "-clang-analyzer-security.insecureAPI.*", "bugprone-*"),
    *("-bugprone-assignment-in-if-condition", "-bugprone-easily-swappable-parameters"),
    *("-bugprone-not-null-terminated-result", "-bugprone-reserved-identifier"),
    "-bugprone-signed-bitwise",
)
LIBRARIES = tuple(f"-l{name}" for name in ffi_build.PLATFORMS["win32"].libraries)


def sources() -> list[Path]:
    return [ROOT / name for name in ffi_build.sources("win32")]


def check_warnings(compiler: Sequence[str], directory: Path) -> None:
    """Compiles every C file for Windows; a warning is a failure."""
    for source in sources():
        flags = [*C_WARNINGS, *DEFINES, "-I", CSRC, "-c", source]
        finished([*compiler, *flags, "-o", directory / "warnings.o"])


def check_analysis(tidy: str, target: str) -> None:
    """Runs the static analyzer over every C file for Windows; a finding is a failure."""
    command = [tidy, "--quiet", f"--checks={','.join(ANALYSIS)}", "--warnings-as-errors=*"]
    headers = ["-I", CSRC, "-isystem", toolchain.system_headers()]
    flags = [f"--target={target}", "-std=c11", WINDOWS_10, *headers]
    finished([*command, *sources(), "--", *flags])


def extension(
    compiler: Sequence[str], directory: Path, library: Sequence[str], *flags: str
) -> Path:
    """Builds _msalex.pyd with the compiler; `library` has the names of python3.dll."""
    generated, made = directory / "_msalex.c", directory / "_msalex.pyd"
    ffi_build.builder("win32").emit_c_code(str(generated))
    includes = ["-I", CSRC, "-I", toolchain.headers()]
    inputs = [generated, *sources(), *library, *LIBRARIES]
    command = [*compiler, "-shared", "-O2", *DEFINES, *includes, *flags, "-o", made, *inputs]
    finished(command, directory)
    return made


def seam(directory: Path, compiler: Sequence[str] = MINGW, *flags: str) -> Path:
    """Builds seam*.c with the C files that they test, over the fake of some calls of Windows."""
    objects: list[Path] = []
    faked = ["-include", str(WINDOWS / "fake_api.h")]
    jobs = [(path, [*faked, *flags]) for path in sources()]
    jobs += [(path, faked) for path in sorted(WINDOWS.glob("seam*.c"))]
    jobs += [(path, []) for path in sorted(WINDOWS.glob("fake_*.c"))]
    jobs += [(CHECK / name, []) for name in ("check.c", "check_windows.c")]
    for source, more in jobs:
        objects.append(directory / f"{source.stem}.o")
        options = [*C_WARNINGS, "-O1", *INCLUDES, *more]
        finished([*compiler, *options, "-c", source, "-o", objects[-1]], directory)
    made = directory / "seam.exe"
    finished([*compiler, "-static-libgcc", *flags, "-o", made, *objects, *LIBRARIES], directory)
    return made


def program(made: Path, pattern: str) -> Path:
    """Builds a program from C files of tests/native/windows."""
    command = [*MINGW, *C_WARNINGS, "-municode", "-static-libgcc", "-o", made]
    finished([*command, *sorted(WINDOWS.glob(pattern)), *LIBRARIES], made.parent)
    return made


def wheel(extension: Path, directory: Path, tag: str) -> Path:
    """Packs the extension and the Python files into a wheel with that tag."""
    here = importlib.metadata.distribution("msal-extensions")  # same metadata everywhere
    name = f"msal_extensions-{here.version}"
    files = {
        path.relative_to(ROOT / "python").as_posix(): path.read_bytes()
        for path in (ROOT / "python" / "msal_extensions").rglob("*")
        if path.suffix in (".py", ".typed")
    }
    files["msal_extensions/_msalex.pyd"] = extension.read_bytes()
    files[f"{name}.dist-info/METADATA"] = (here.read_text("METADATA") or "").encode()
    files[f"{name}.dist-info/licenses/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    files[f"{name}.dist-info/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: {tag}\n"
    ).encode()
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow([path, f"sha256={digest}", len(content)])
    rows.writerow([f"{name}.dist-info/RECORD", "", ""])
    made = directory / f"{name}-{tag}.whl"
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        archive.writestr(f"{name}.dist-info/RECORD", record.getvalue())
    return made
