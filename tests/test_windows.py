"""The Windows half, built by a cross compiler and run by Wine: see tests/windows/toolchain.py.

The project's own suite runs there, with Windows' Python 3.11, on the wheel that is built here; so
does tests/windows/, which only Windows can run.  `tests/windows/run` runs this file alone.
"""

from __future__ import annotations

import importlib.util
import re
import zipfile
from pathlib import Path

import pytest

from tests.support.capability import needs, requires

# Under Wine this file is itself collected, and there it has nothing to do.
pytestmark = requires("fcntl")
if importlib.util.find_spec("fcntl"):
    from tests.windows import build, toolchain

SUITE_S = 900
CLOSING = re.compile(r"^=* ?(?:(\d+) failed, )?(\d+) passed, (\d+) skipped.* in [\d.]+s", re.M)
# What the extension may call: the C runtime, the API, and the stable ABI of Python.
LIBRARIES = {"python3.dll", "kernel32.dll", "advapi32.dll", "crypt32.dll", "msvcrt.dll"}


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    needs(toolchain.missing())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("windows")
    library = [str(toolchain.import_library())]
    extension = build.extension(build.MINGW, directory, library, "-s", "-static-libgcc")
    return build.wheel(extension, directory, "cp310-abi3-win_amd64")


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The wheel as pip would unpack it."""
    directory = wheel.with_name("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)
    return directory


def reference(portalocker: bool) -> Path:
    engine = ["portalocker"] if portalocker else []
    return toolchain.packages("3.11", "run", "reference", *engine)


def test_every_c_file_compiles_without_a_warning(tmp_path: Path) -> None:
    build.check_warnings(build.MINGW, tmp_path)
    for target in ("x86_64-windows-gnu", "aarch64-windows-gnu"):
        build.check_warnings([*toolchain.zig(), "cc", "-target", target], tmp_path)


def test_the_suite_passes_under_wine(installed: Path, tmp_path: Path) -> None:
    wine = toolchain.Wine("3.11", installed, toolchain.packages("3.11", "run", "test"))
    output = wine.run(
        *("-m", "pytest", "-q", "tests", "tests/windows"),
        f"--basetemp={toolchain.windows_path(tmp_path / 'temporary')}",
        seconds=SUITE_S,
        MSALEX_REFERENCE_PORTALOCKER=toolchain.windows_path(reference(portalocker=True)),
        MSALEX_REFERENCE_BARE=toolchain.windows_path(reference(portalocker=False)),
    )
    # A crash under Wine can end with status 0: what counts is the last line.
    closing = CLOSING.findall(output)
    assert len(closing) == 1, output[-5000:]
    failed, passed, _ = closing[0]
    assert not failed
    assert int(passed) >= 100
    print(output[output.rindex("short test summary info") :])


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13"])
def test_the_same_wheel_works_on_other_pythons(version: str, installed: Path) -> None:
    wine = toolchain.Wine(version, installed, toolchain.packages(version, "run"))
    output = wine.run("tests/support/smoke.py")
    assert re.search(rf"^1\.3\.1\+native1 works on {version}\.\d+ win32$", output, re.MULTILINE)
    print(output)


def exports_and_imports(extension: Path) -> tuple[set[str], set[str]]:
    dump = toolchain.run(["x86_64-w64-mingw32-objdump", "-p", extension], toolchain.TOOL_S)
    _, _, table = dump.partition("[Ordinal/Name Pointer] Table")
    exports = set(re.findall(r"^\s*\[ *\d+\] (\w+)$", table, re.M))
    return exports, {name.lower() for name in re.findall(r"DLL Name: (\S+)", dump)}


def test_the_extension_exports_its_init_only_and_uses_the_system_only(installed: Path) -> None:
    exports, imports = exports_and_imports(installed / "msal_extensions" / "_msalex.pyd")
    assert exports == {"PyInit__msalex"}
    assert imports <= LIBRARIES, imports
    assert "python3.dll" in imports
