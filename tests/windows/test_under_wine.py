"""The Windows files, built by a cross compiler and run by Wine: see tests/support/windows.

The project's own suite runs there, with Windows' Python 3.11, on the wheel that is built here; so
do the other files of this directory, which only Windows can run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import zipfile
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support import tally
from tests.support.capability import needs, requires

# Under Wine pytest collects this file too; there it skips.
pytestmark = [pytest.mark.slow, requires("fcntl")]
if importlib.util.find_spec("fcntl"):
    import pefile

    from tests.support.native import CSRC
    from tests.support.windows import build, coverage, toolchain

SUITE_S = 1500
SHARES = 2
#: Set to "all": the whole suite runs, as long as it takes.
ALL = os.environ.get("MSALEX_WINE") == "all"
#: These take minutes there and show nothing of Windows: what pytest does with skips, and what the
#: cache's Python does when Ctrl-C comes at each byte code, or a change at each line.  The tests of
#: Ctrl-C in the lock remain.
LEFT_OUT = (
    "tests/test_capability.py",
    "tests/test_lock_interrupts.py::test_a_cache_saves_again",
    "tests/test_lock_interrupts.py::test_the_program_may_save",
    "tests/test_nested_changes.py::test_a_change_at_each_line",
)
#: Short forms, because a process takes long to start there; the full numbers run on Linux.
REDUCED = {"MSALEX_EXAMPLES": "20", "MSALEX_FLIGHT_PROCESSES": "16"}
CLOSING = re.compile(r"^=* ?(?:(\d+) failed, )?(\d+) passed, (\d+) skipped.* in [\d.]+s", re.M)
# The libraries of the extension besides the C runtime: Windows' own, and Python's stable ABI.
LIBRARIES = {"python3.dll", "kernel32.dll", "advapi32.dll", "crypt32.dll"}


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    needs(toolchain.missing())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("windows")
    library = [str(toolchain.import_library("i386:x86-64"))]
    extension = build.extension(build.MINGW, directory, library, "-s", "-static-libgcc")
    return build.wheel(extension, directory, "cp310-abi3-win_amd64")


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The wheel as pip installs it: unpacked, with byte code."""
    directory = wheel.with_name("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)
    toolchain.Wine("3.11", directory).run(
        "-m", "compileall", "-q", toolchain.windows_path(directory)
    )
    return directory


def reference(portalocker: bool) -> Path:
    engine = ["portalocker"] if portalocker else []
    return toolchain.packages("3.11", "run", "reference", *engine)


def test_every_c_file_compiles_without_a_warning(tmp_path: Path) -> None:
    build.check_warnings(build.MINGW, tmp_path)
    for target in ("x86_64-windows-gnu", "aarch64-windows-gnu"):
        build.check_warnings([*toolchain.zig("cc", "-target", target)], tmp_path)


@pytest.mark.first
@pytest.mark.timeout(SHARES * SUITE_S + 300)
def test_the_suite_passes_under_wine(installed: Path, tmp_path: Path) -> None:
    """In shares, each in a Windows of its own: Wine's server does one thing at a time."""
    peer = build.program(tmp_path / "peer_lock.exe", "peer_lock.c")
    less = () if ALL else tuple(f"--deselect={name}" for name in LEFT_OUT)
    variables = {
        **({} if ALL else REDUCED),
        "MSALEX_PEER_LOCK": toolchain.windows_path(peer),
        "MSALEX_REFERENCE_PORTALOCKER": toolchain.windows_path(reference(portalocker=True)),
        "MSALEX_REFERENCE_BARE": toolchain.windows_path(reference(portalocker=False)),
    }

    def running(number: int) -> AbstractContextManager[subprocess.Popen[str]]:
        packages = toolchain.packages("3.11", "run", "test")
        wine = toolchain.Wine("3.11", installed, packages, number=number)
        base = toolchain.windows_path(tmp_path / f"temporary{number}")
        arguments = ("-m", "pytest", "-q", f"--basetemp={base}", *less, "tests")
        return wine.running(*arguments, MSALEX_SHARE=f"{number}/{SHARES}", **variables)

    with contextlib.ExitStack() as stack:
        shares = [stack.enter_context(running(number)) for number in range(SHARES)]
        outputs = [process.communicate(timeout=SUITE_S)[0] for process in shares]
        assert [process.returncode for process in shares] == [0] * SHARES, "\n".join(outputs)
    tried = lost = 0
    for output in outputs:
        # A crash under Wine can end with status 0: so the last line counts.
        closing = CLOSING.findall(output)
        assert len(closing) == 1, output[-5000:]
        failed, passed, _ = closing[0]
        tried, lost = tried + int(passed) + int(failed or 0), lost + int(failed or 0)
        assert not failed
        assert int(passed) >= 100
        print(output[output.rindex("short test summary info") :])
    tally.tried(tried)
    tally.lost(lost)


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13"])
def test_the_same_wheel_works_on_other_pythons(version: str, installed: Path) -> None:
    wine = toolchain.Wine(version, installed, toolchain.packages(version, "run"))
    output = wine.run("tests/support/smoke.py")
    assert re.search(rf"^1\.3\.1\+native1 works on {version}\.\d+ win32$", output, re.MULTILINE)
    print(output)


def exports_and_imports(extension: Path) -> tuple[list[str], set[str]]:
    with pefile.PE(str(extension)) as found:
        exports = [symbol.name.decode() for symbol in found.DIRECTORY_ENTRY_EXPORT.symbols]
        imports = {entry.dll.decode().lower() for entry in found.DIRECTORY_ENTRY_IMPORT}
        return exports, imports


def test_the_extension_exports_its_init_only_and_uses_the_system_only(installed: Path) -> None:
    exports, imports = exports_and_imports(installed / "msal_extensions" / "_msalex.pyd")
    assert exports == ["PyInit__msalex"]
    assert imports == LIBRARIES | {"msvcrt.dll"}


def test_the_extension_for_arm64_is_built_the_same(tmp_path: Path) -> None:
    compiler = toolchain.zig("cc", "-target", "aarch64-windows-gnu")
    library = [str(toolchain.import_library("arm64"))]
    extension = build.extension(compiler, tmp_path, library, "-s")
    exports, imports = exports_and_imports(extension)
    with pefile.PE(str(extension), fast_load=True) as found:
        assert found.FILE_HEADER.Machine == pefile.MACHINE_TYPE["IMAGE_FILE_MACHINE_ARM64"]
    assert exports == ["PyInit__msalex"]
    # Its C runtime is a part of Windows 10.
    runtime = {name for name in imports if name.startswith("api-ms-win-crt-")}
    assert imports - runtime == LIBRARIES
    made = build.wheel(extension, tmp_path, "cp310-abi3-win_arm64")
    assert "msal_extensions/_msalex.pyd" in zipfile.ZipFile(made).namelist()


def test_what_wine_does_not_show_is_shown_by_a_fake_and_nearly_every_line_runs(
    tmp_path: Path,
) -> None:
    built, work = tmp_path / "built", tmp_path / "work"
    built.mkdir()
    work.mkdir()
    seam = build.seam(built, *coverage.FLAGS)
    output = toolchain.run_program(seam, work)
    assert re.search(r"^\d+ properties, 0 checks failed$", output, re.M), output
    assert list(work.iterdir()) == []
    ran = coverage.lines([built])
    covered = {name: coverage.percentage(ran[name]) for name in sorted(ran)}
    windows = {name: share for name, share in covered.items() if name.endswith("_windows.c")}
    assert set(windows) == {path.name for path in CSRC.glob("*_windows.c")}
    for name, share in windows.items():
        print(f"{name}: {share:.1f} % of its lines; not {coverage.missed(ran[name])}")
    assert min(windows.values()) >= 90
