"""The Windows files compile for each processor, without a finding of clang, to the right modules.

The wheels that are published are built by MSVC (wheels.yml).  What MSVC would warn of, clang warns
of here, over the headers of mingw; clang-tidy brings the analyzer.
"""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.capability import needs, requires

# Under Wine pytest collects this file too; there it skips.
pytestmark = [pytest.mark.slow, requires("fcntl")]
if importlib.util.find_spec("fcntl"):
    import pefile

    from tests.support.windows import build, toolchain

# The libraries of the extension besides the C runtime: Windows' own, and Python's stable ABI.
LIBRARIES = {"python3.dll", "kernel32.dll", "advapi32.dll", "crypt32.dll"}


class Processor(NamedTuple):
    """Names of one processor that Windows runs on."""

    tag: str  #: of wheels
    gnu: str  #: of gcc and clang
    dlltool: str
    machine: str  #: in the file


PROCESSORS = (
    Processor("win_amd64", "x86_64-w64-windows-gnu", "i386:x86-64", "AMD64"),
    Processor("win32", "i686-w64-windows-gnu", "i386", "I386"),
    Processor("win_arm64", "aarch64-w64-windows-gnu", "arm64", "ARM64"),
)
EACH = pytest.mark.parametrize("processor", PROCESSORS, ids=lambda processor: processor.tag)


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    needs(toolchain.missing())


def clang(processor: Processor) -> list[str]:
    name = processor.gnu.partition("-")[0].replace("i686", "x86")
    return toolchain.zig("cc", "-target", f"{name}-windows-gnu")


@pytest.mark.parametrize("compiler", ["MINGW", "MINGW_32"])
def test_every_c_file_compiles_by_gcc_without_a_warning(compiler: str, tmp_path: Path) -> None:
    build.check_warnings(getattr(build, compiler), tmp_path)


@EACH
def test_every_c_file_compiles_by_clang_without_a_warning(
    processor: Processor, tmp_path: Path
) -> None:
    build.check_warnings([*clang(processor), *build.CLANG_WARNINGS], tmp_path)


def test_the_static_analyzer_finds_nothing() -> None:
    tidy = Path(sys.executable).with_name("clang-tidy")
    needs(None if tidy.exists() else "clang-tidy is not installed")
    build.check_analysis(str(tidy), PROCESSORS[0].gnu)


def test_what_cffi_generates_uses_nothing_that_is_deprecated(tmp_path: Path) -> None:
    """MSVC's /sdl, with which wheels are built, takes deprecated functions for errors."""
    library = [str(toolchain.import_library("i386:x86-64"))]
    build.extension(build.MINGW, tmp_path, library, "-Werror=deprecated-declarations")


@EACH
def test_the_extension_exports_its_init_only_and_uses_the_system_only(
    processor: Processor, tmp_path: Path
) -> None:
    library = [str(toolchain.import_library(processor.dlltool))]
    extension = build.extension(clang(processor), tmp_path, library, "-s")
    with pefile.PE(str(extension)) as found:
        exports = [symbol.name.decode() for symbol in found.DIRECTORY_ENTRY_EXPORT.symbols]
        imports = {entry.dll.decode().lower() for entry in found.DIRECTORY_ENTRY_IMPORT}
        machine = found.FILE_HEADER.Machine
    assert machine == pefile.MACHINE_TYPE[f"IMAGE_FILE_MACHINE_{processor.machine}"]
    assert exports == ["PyInit__msalex"]
    # Its C runtime is a part of Windows 10.
    runtime = {name for name in imports if name.startswith("api-ms-win-crt-")}
    assert imports - runtime == LIBRARIES
    made = build.wheel(extension, tmp_path, f"cp310-abi3-{processor.tag}")
    assert "msal_extensions/_msalex.pyd" in zipfile.ZipFile(made).namelist()
