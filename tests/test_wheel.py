"""The wheel has the right files and symbols, and works on every CPython of this machine."""

from __future__ import annotations

import importlib.util
import platform
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.built import built
from tests.support.capability import needs, requires
from tests.support.pythons import pythons

if importlib.util.find_spec("elftools"):
    from tests.support.binaries import Elf

pytestmark = [pytest.mark.slow, requires("venv", "fcntl")]
ROOT = Path(__file__).resolve().parents[1]
SMOKE = ROOT / "tests" / "support" / "smoke.py"
WHEEL = r"msal_extensions-1\.3\.1\+native1-cp310-abi3-linux_\w+\.whl"
EXTENSION = r"_msalex\.abi3(-[\w-]+)?\.so"  # Python 3.15 names the platform


def run(*command: str | Path, seconds: float = 600) -> str:
    """Run to a successful end; return the output."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory).wheel


@pytest.fixture(scope="module")
def extension(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension module of the wheel, unpacked."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".so")]
        return Path(archive.extract(name, tmp_path_factory.mktemp("extension")))


def test_wheel_is_for_every_cpython_from_310_on(wheel: Path, extension: Path) -> None:
    assert re.fullmatch(WHEEL, wheel.name)
    assert re.fullmatch(EXTENSION, extension.name)


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    python = ROOT / "python"
    sources = {p.relative_to(python).as_posix() for p in python.rglob("*.py")}
    packaged = {name for name in names if ".dist-info/" not in name}
    (extension,) = {name for name in packaged if name.endswith(".so")}
    assert packaged == {*sources, "msal_extensions/py.typed", extension}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


@pytest.fixture(scope="module")
def facts(extension: Path) -> Elf:
    needs(None if sys.platform == "linux" else "there is no ELF here")
    return Elf.read(extension)


def test_extension_exports_only_its_init_function(facts: Elf) -> None:
    assert facts.exported == {"PyInit__msalex"}


def test_extension_links_nothing_but_the_c_library(facts: Elf) -> None:
    assert {name.partition(".")[0] for name in facts.needed} <= {"libc", "libpthread", "libdl"}


def test_extension_looks_for_no_library_in_directories_of_its_builder(facts: Elf) -> None:
    assert facts.run_paths == ()


def test_extension_holds_no_debug_information_and_no_path_of_its_builder(facts: Elf) -> None:
    assert not facts.unneeded
    assert facts.paths == ()


def test_extension_checks_its_stack_and_the_sizes_of_its_buffers(facts: Elf) -> None:
    assert "__stack_chk_fail" in facts.imported
    needs(None if platform.libc_ver()[0] == "glibc" else "this C library checks no sizes")
    assert facts.fortified >= {"__memcpy_chk", "__snprintf_chk"}


def test_extension_cannot_be_changed_or_executed_where_it_should_not(facts: Elf) -> None:
    """The table of its functions is read-only from the start, its stack holds data only."""
    assert facts.binds_at_load
    assert facts.has_read_only_relocations
    assert not facts.has_executable_stack


def test_extension_says_where_jumps_may_lead(facts: Elf) -> None:
    needs(None if platform.machine() in ("x86_64", "aarch64") else "this processor checks no jumps")
    assert facts.marks > 100


def test_extension_uses_the_stable_abi_only(wheel: Path) -> None:
    needs(None if importlib.util.find_spec("abi3audit") else "abi3audit is not installed")
    run(sys.executable, "-m", "abi3audit", "--strict", "--verbose", wheel)


def test_wheel_fits_a_manylinux_tag(wheel: Path) -> None:
    needs(None if importlib.util.find_spec("auditwheel") else "auditwheel is not installed")
    assert "manylinux_" in run(sys.executable, "-m", "auditwheel", "show", wheel)


# ---- every CPython of this machine -------------------------------------------------------


def install_and_smoke(python: str, wheel: Path, directory: Path) -> str:
    run(python, "-m", "venv", "--without-pip", directory)
    target = directory / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", target, "install", "--quiet", wheel)
    return run(target, SMOKE)


def test_wheel_installs_and_works_on_every_cpython_here(wheel: Path, tmp_path: Path) -> None:
    assert pythons()
    with ThreadPoolExecutor(max_workers=2) as pool:
        tasks = [
            pool.submit(install_and_smoke, python, wheel, tmp_path / str(number))
            for number, python in enumerate(pythons())
        ]
        said = [task.result(timeout=900) for task in tasks]
    print(*said)
    assert all(line.startswith("1.3.1+native1 works on 3.") for line in said), said
