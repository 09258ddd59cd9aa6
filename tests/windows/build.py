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
from tests.windows import toolchain
from tests.windows.toolchain import ROOT, TOOL_S

#: For Windows 10, the oldest that Python 3.10 supports in earnest; others do so by default.
MINGW = ["x86_64-w64-mingw32-gcc", "-D_WIN32_WINNT=0x0A00"]
WARNINGS = (*("-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror"),)
DEFINES = ("-DPy_LIMITED_API=0x030a0000",)
LIBRARIES = tuple(f"-l{name}" for name in ffi_build.PLATFORMS["win32"].libraries)


def sources() -> list[Path]:
    return [ROOT / name for name in ffi_build.sources("win32")]


def check_warnings(compiler: Sequence[str], directory: Path) -> None:
    """Compiles every C file for Windows; a warning is a failure."""
    for source in sources():
        flags = [*WARNINGS, *DEFINES, "-O2", "-I", str(ROOT / "csrc"), "-c", str(source)]
        toolchain.run([*compiler, *flags, "-o", directory / "warnings.o"], TOOL_S)


def extension(
    compiler: Sequence[str], directory: Path, library: Sequence[str], *flags: str
) -> Path:
    """Builds _msalex.pyd with the compiler; `library` is what brings python3.dll's names."""
    generated, made = directory / "_msalex.c", directory / "_msalex.pyd"
    ffi_build.builder("win32").emit_c_code(str(generated))
    includes = ["-I", str(ROOT / "csrc"), "-I", str(toolchain.headers())]
    inputs = [str(generated), *map(str, sources()), *library, *LIBRARIES]
    command = [*compiler, "-shared", "-O2", *DEFINES, *includes, *flags, "-o", str(made), *inputs]
    toolchain.run(command, 2 * TOOL_S, cwd=directory)
    return made


def seam(directory: Path, *flags: str) -> Path:
    """Builds seam.c with the C files that it looks into, their calls of Windows faked."""
    objects: list[Path] = []
    common = [*MINGW, *WARNINGS, "-O1", "-I", str(ROOT / "csrc")]
    fake = ["-include", str(toolchain.HERE / "fake_api.h"), *flags]
    jobs: list[tuple[Path, list[str]]] = [(path, fake) for path in sources()]
    jobs.append((toolchain.HERE / "seam.c", ["-municode", *fake[:2]]))
    jobs.append((toolchain.HERE / "fake_api.c", []))
    for source, more in jobs:
        objects.append(directory / f"{source.stem}.o")
        toolchain.run([*common, *more, "-c", source, "-o", objects[-1]], TOOL_S, cwd=directory)
    made = directory / "seam.exe"
    link = [*MINGW, "-municode", "-static-libgcc", *flags, "-o", str(made)]
    toolchain.run([*link, *map(str, objects), *LIBRARIES], TOOL_S, cwd=directory)
    return made


def program(made: Path, *names: str, flags: Sequence[str] = ()) -> Path:
    """Builds a program from C files of this directory."""
    inputs = [toolchain.HERE / name for name in names]
    command = [*MINGW, *WARNINGS, "-municode", "-static-libgcc", *flags, "-o", str(made)]
    toolchain.run([*command, *map(str, inputs), *LIBRARIES], TOOL_S, cwd=made.parent)
    return made


def wheel(extension: Path, directory: Path, tag: str) -> Path:
    """Packs the extension and the Python files into a wheel with that tag."""
    here = importlib.metadata.distribution("msal-extensions")  # its metadata hold everywhere
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
        f"Wheel-Version: 1.0\nGenerator: tests.windows\nRoot-Is-Purelib: false\nTag: {tag}\n"
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
