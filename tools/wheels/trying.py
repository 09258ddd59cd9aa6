"""Installs a wheel for an interpreter that can load it, and runs tests/support/smoke.py by that.

tries(target) names the interpreters: those of this machine, those of other Debians, and of those
for other processors by QEMU (tests/support/unpacked.py).  Windows' own Python runs by Wine.  Over
musl, for which no Python can be had, the C tests run.  A line of the output says which interpreter
and processor it was: a try that ran elsewhere than it should has failed.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from tests.support import native, unpacked
from tests.support.processes import finished
from tests.support.pythons import pythons
from tests.support.windows import toolchain, wines
from tools.wheels.building import ROOT, pip_install
from tools.wheels.compiling import caches, zig
from tools.wheels.targets import BASE, SID_314, SID_315, Inside, Processor, Target

SMOKE = ROOT / "tests" / "support" / "smoke.py"
#: QEMU and a busy machine take their time.
TRY_S = 900
#: Says where it runs, and runs tests/support/smoke.py.
REPORT_AND_SMOKE = (
    "import platform, runpy, sys;"
    "print(platform.python_implementation(), platform.python_version(), platform.machine());"
    "runpy.run_path(sys.argv[1], run_name='__main__')"
)
#: What the package needs: these are for every processor, and PyPI has them.
PURE = ("msal", "requests", "PyJWT", "idna", "urllib3", "certifi", "charset-normalizer")
#: The others as packages of Debian, which has them for every processor.
COMPILED = ("python3-minimal", "python3", "python3-cffi-backend", "python3-cryptography")
#: The oldest glibc first, as pip wants all names that fit.
GLIBC = ("manylinux_2_17", "manylinux2014", "manylinux_2_28", "manylinux_2_34")
PYTHON_OF = {"bookworm": "3.11", "trixie": "3.13"}


class CannotTry(Exception):
    """Why it cannot be tried here, in one sentence."""


class Try(NamedTuple):
    """One interpreter, or one program."""

    name: str  #: for the table
    run: Callable[[Path, Path], str]  #: the wheel, an empty directory -> all that was printed
    first: str  #: a regular expression: where it ran
    last: str = r"\d\S+ works on .*"  #: that it did


def tries(target: Target) -> list[Try]:
    """All that can be asked of a wheel on this machine."""
    if target.platform_tag == "win_amd64":
        return [Try("3.11, Wine", by_wine, r"CPython 3\.11\.\d+ AMD64")]
    if target.processor is None or target.abi_tag == "cp314t":
        return []
    if target.musl:
        return [by_musl(target)]
    if target.inside is not None:
        return [in_debian(target.inside)]
    if target.name != BASE:
        return [for_another_processor(target)]
    return [*map(here_by, pythons()), in_debian(SID_314), in_debian(SID_315)]


def why_not(target: Target) -> str:
    """What is not tried of a target, and where it is; empty when all is."""
    if target.musl:
        return "the wheel is not run: no Python on musl can be had here; wheels.yml runs it"
    if target.abi_tag == "cp314t":
        return "built, not run: no free-threaded Python can be had here; wheels.yml runs it"
    if target.abi_tag == "abi3.abi3t":
        return "no free-threaded Python can be had here; wheels.yml runs it by one"
    if target.platform_tag.startswith("macosx"):
        return "built, not run: there is no Mac here; wheels.yml runs it"
    if target.platform_tag == "win_arm64":
        return "built, not run: there is no Windows for ARM64 here"
    if target.platform_tag == "win32":
        return "built, not run: no Python of 32 bits for Windows here; wheels.yml runs it"
    return ""


def attempt(one: Try, wheel: Path, directory: Path) -> None:
    """
    :raises CannotTry: A part is missing here.
    :raises AssertionError: It does not work, or another interpreter ran.
    """
    directory.mkdir(parents=True)
    try:
        said = one.run(wheel, directory)
    except unpacked.CannotUnpack as error:
        raise CannotTry(str(error)) from error
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    assert any(re.fullmatch(one.first, line) for line in lines), f"it ran elsewhere: {said}"
    assert re.fullmatch(one.last, lines[-1]), said


def here_by(python: str) -> Try:
    """A CPython of this machine, in a virtual environment."""
    ask = "import platform; print(platform.python_version(), platform.machine())"
    version, machine = finished([python, "-c", ask]).split()

    def run(wheel: Path, directory: Path) -> str:
        finished([python, "-m", "venv", "--without-pip", directory / "venv"])
        there = directory / "venv" / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--python", there, "install", "--quiet"]
        finished([*pip, wheel])
        return finished([there, "-c", REPORT_AND_SMOKE, SMOKE], directory, seconds=TRY_S)

    return Try(version, run, re.escape(f"CPython {version} {machine}"))


def in_debian(where: Inside) -> Try:
    """A Python of another Debian, for x86_64; packages are from PyPI."""
    is_pypy = where.command.startswith("pypy")
    version = "3.11" if is_pypy else where.command.removeprefix("python")

    def run(wheel: Path, directory: Path) -> str:
        site, debian = directory / "site", unpacked.unpacked(where.release, "amd64", where.packages)
        options = [word for name in GLIBC for word in ("--platform", f"{name}_x86_64")]
        options += ["--only-binary", ":all:", "--python-version", version]
        what = [str(wheel)]
        if is_pypy:
            # cffi is a part of it, but pip would ask the Python that runs pip for markers.
            options += ["--implementation", "pp", "--abi", "pypy311_pp73", "--no-deps"]
            what += [*PURE, "cryptography"]
        pip_install(site, *options, *what)
        return smoke_in(debian, where.command, site)

    implementation = "PyPy" if is_pypy else "CPython"
    first = rf"{implementation} {re.escape(version)}\.\w+ x86_64"
    return Try(f"{'PyPy ' if is_pypy else ''}{version}", run, first)


def debian_of(processor: Processor) -> unpacked.Unpacked:
    """Debian's Python for a processor, and the packages in C that ours needs: PyPI lacks some."""
    first = () if processor.release == "bookworm" else ("base-files",)
    return unpacked.unpacked(processor.release, processor.debian, (*first, *COMPILED))


def for_another_processor(target: Target) -> Try:
    assert target.processor is not None
    processor = target.processor
    version = PYTHON_OF[processor.release]

    def run(wheel: Path, directory: Path) -> str:
        options = ["--platform", target.platform_tag, "--python-version", version]
        site = directory / "site"
        pip_install(site, *options, "--only-binary", ":all:", "--no-deps", str(wheel), *PURE)
        return smoke_in(debian_of(processor), f"python{version}", site)

    first = rf"CPython {re.escape(version)}\.\w+ {processor.name}"
    return Try(f"{version}{by_qemu(processor)}", run, first)


def by_qemu(processor: Processor) -> str:
    return ", QEMU" if unpacked.is_emulated(processor.debian) else ""


def smoke_in(debian: unpacked.Unpacked, command: str, site: Path) -> str:
    shutil.copyfile(SMOKE, site / "smoke.py")
    program = [f"/usr/bin/{command}", "-c", REPORT_AND_SMOKE, "/srv/site/smoke.py"]
    env = unpacked.environment(PYTHONPATH="/srv/site", PYTHONDONTWRITEBYTECODE="1")
    return finished(debian.command(program, {site: "site"}), site.parent, env, TRY_S)


def by_wine(wheel: Path, directory: Path) -> str:
    """Windows' own Python 3.11, in a Windows of tests/support/windows/wines.py."""
    if reason := toolchain.missing() or wines.HERE.missing():
        raise CannotTry(reason)
    site = directory / "site"
    options = ["--platform", "win_amd64", "--python-version", "3.11", "--only-binary", ":all:"]
    pip_install(site, *options, "--no-deps", str(wheel))
    windows = toolchain.Windows("3.11", site, toolchain.packages("3.11", "run"))
    return windows.run("-c", REPORT_AND_SMOKE, toolchain.windows_path(SMOKE))


# ---- musl's C ----------------------------------------------------------------------------


def by_musl(target: Target) -> Try:
    """The library without Python: what tests/native/linux/exercise*.c say of it, over the musl that
    comes with the compiler.  It runs by itself, or by QEMU."""
    assert target.processor is not None
    processor = target.processor

    def run(_: Path, directory: Path) -> str:
        program, work = directory / "program", directory / "work"
        work.mkdir()
        files = [*native.HARNESS, *sorted(native.LINUX.glob("exercise*.c")), *native.library()]
        command = [zig(), "cc", "-target", target.zig, "-std=c11", "-O2", "-static"]
        everything = [*command, *native.INCLUDES, "-o", program, *files]
        finished(everything, directory, native.environment(**caches(directory)))
        env = native.environment(DBUS_SESSION_BUS_ADDRESS="disabled:", TMPDIR=str(work))
        # Not in a namespace: one of the tests becomes another user, and a namespace has only one.
        said = finished([*unpacked.emulator(processor.debian), program], work, env, TRY_S)
        return f"{machine(program)}\n{said}"

    last = r"\d+ properties, 0 checks failed"
    first = f"{processor.number}, {processor.bits} bits"
    return Try(f"C on musl{by_qemu(processor)}", run, first, last)


def machine(program: Path) -> str:
    """The processor that a program is for, as its first bytes say: nothing else can run it."""
    header = program.read_bytes()[:20]
    order: Literal["little", "big"] = "little" if header[5] == 1 else "big"
    return f"{int.from_bytes(header[18:20], order)}, {32 * header[4]} bits"
