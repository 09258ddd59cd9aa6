"""The build is hardened and the same everywhere, on every processor, and says what it lacks."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from csrc import ffi_build
from tests.support.built import (
    ROOT,
    Built,
    archives,
    build,
    built,
    copy_of_the_tree,
    environment,
    unpack,
)
from tests.support.capability import needs, requires
from tests.support.processes import finished

if importlib.util.find_spec("elftools"):
    from tests.support.binaries import Elf

COMPILES = requires("venv", "fcntl", "os.fork")
LINUX = ffi_build.PLATFORMS["linux"]
#: Platforms as sysconfig names them -> how zig names them, with the oldest C library.
TARGETS = {
    "linux-x86_64": ("x86_64-linux-gnu.2.17", "x86_64-linux-musl"),
    "linux-aarch64": ("aarch64-linux-gnu.2.17", "aarch64-linux-musl"),
    "linux-i686": ("x86-linux-gnu.2.17", "x86-linux-musl"),
    "linux-armv7l": ("arm-linux-gnueabihf.2.17", "arm-linux-musleabihf"),
    "linux-ppc64le": ("powerpc64le-linux-gnu.2.19", "powerpc64le-linux-musl"),
    "linux-s390x": ("s390x-linux-gnu.2.17", "s390x-linux-musl"),
    "linux-riscv64": ("riscv64-linux-gnu.2.31", "riscv64-linux-musl"),
}
#: A function that each kind of protection has something to do in.
VULNERABLE = """
#include <string.h>
#include <unistd.h>
int fill(char *, const char *, size_t);
__attribute__((visibility("default"))) int read_into(const char *from, size_t size) {
    char here[64], there[size + 1];
    memcpy(here, from, size);
    return fill(here, there, size) + (int)read(0, here, size);
}
"""


# ---- tags ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "free_threaded", "oldest"),
    [
        ((3, 10), 0, "cp310"),
        ((3, 15), 0, "cp310"),
        ((3, 14), 1, None),  # its headers refuse the limited API
        ((3, 15), 1, "cp315"),
        ((3, 16), 1, "cp315"),
    ],
)
def test_a_wheel_is_for_all_later_pythons_where_they_have_one_limited_api(
    version: tuple[int, int],
    free_threaded: int,
    oldest: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": free_threaded}.get)
    fake = SimpleNamespace(version_info=version, maxsize=sys.maxsize)
    monkeypatch.setattr(ffi_build, "sys", fake)
    assert ffi_build.stable_abi() == oldest
    _, _, _, settings = ffi_build.builder("linux")._assigned_source  # type: ignore[attr-defined]
    assert settings["py_limited_api"] is (oldest is not None)


# ---- what each target's compiler and linker get ----------------------------------------------


@pytest.mark.parametrize(
    ("python", "visual_studio", "options"),
    [
        ("win-amd64", None, ["/guard:cf", "/Brepro", "/CETCOMPAT"]),
        ("win-amd64", "x64", ["/guard:cf", "/Brepro", "/CETCOMPAT"]),
        ("win32", None, ["/guard:cf", "/Brepro", "/CETCOMPAT"]),
        ("win-amd64", "x86", ["/guard:cf", "/Brepro", "/CETCOMPAT"]),
        ("win-arm64", None, ["/guard:cf", "/Brepro"]),
        ("win-amd64", "arm64", ["/guard:cf", "/Brepro"]),  # as cibuildwheel builds for ARM64
    ],
)
def test_the_linker_of_windows_gets_what_it_takes_for_that_processor(
    python: str, visual_studio: str | None, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_platform", lambda: python)
    monkeypatch.delenv("VSCMD_ARG_TGT_ARCH", raising=False)
    if visual_studio:
        monkeypatch.setenv("VSCMD_ARG_TGT_ARCH", visual_studio)
    _, _, _, settings = ffi_build.builder("win32")._assigned_source  # type: ignore[attr-defined]
    assert settings["extra_link_args"] == options


@pytest.mark.parametrize(
    ("python", "largest", "has_it"),
    [
        ("linux-x86_64", 2**63 - 1, False),
        ("linux-i686", 2**63 - 1, True),  # for another processor than that of the Python
        ("linux-armv7l", 2**31 - 1, True),
        ("linux-x86_64", 2**31 - 1, True),  # a Python of 32 bits on a kernel of 64
        ("linux-aarch64", 2**31 - 1, True),
    ],
)
def test_a_library_of_32_bits_reaches_the_locks_far_behind_a_file(
    python: str, largest: int, has_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VSCMD_ARG_TGT_ARCH", raising=False)
    monkeypatch.setattr(sysconfig, "get_platform", lambda: python)
    fake = SimpleNamespace(version_info=sys.version_info, maxsize=largest)
    monkeypatch.setattr(ffi_build, "sys", fake)
    _, _, _, settings = ffi_build.builder("linux")._assigned_source  # type: ignore[attr-defined]
    assert ("-D_FILE_OFFSET_BITS=64" in settings["extra_compile_args"]) is has_it


def zig(*arguments: object) -> str:
    from dev import cache_directory

    needs(None if importlib.util.find_spec("ziglang") else "ziglang is not installed")
    cache = str(cache_directory() / "zig")
    variables = {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
    command = [sys.executable, "-m", "ziglang", "cc", *arguments]
    return finished(command, environment={**os.environ, **variables})


@pytest.mark.slow
@COMPILES
@pytest.mark.parametrize("libc", [0, 1], ids=["glibc", "musl"])
@pytest.mark.parametrize("target", TARGETS)
def test_each_processor_gets_the_protection_that_its_compiler_has(
    target: str, libc: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_platform", lambda: target)
    _, _, _, settings = ffi_build.builder("linux")._assigned_source  # type: ignore[attr-defined]
    source, made, linked = tmp_path / "source.c", tmp_path / "made.o", tmp_path / "linked.so"
    source.write_text(VULNERABLE)
    common = ["-target", TARGETS[target][libc], "-O2", "-fPIC", *settings["extra_compile_args"]]
    zig(*common, "-c", source, "-o", made)
    zig(*common, "-shared", made, *settings["extra_link_args"], "-o", linked)
    compiled, library = Elf.read(made), Elf.read(linked)
    assert "__stack_chk_fail" in compiled.imported
    if not libc:  # musl has no such functions
        assert compiled.fortified >= {"__read_chk", "__memcpy_chk"}
    if target.endswith(("64", "i686")) and target != "linux-riscv64":
        assert compiled.marks == 1
    assert library.binds_at_load
    assert library.has_read_only_relocations
    assert not library.has_executable_stack
    assert not library.unneeded


@pytest.mark.slow
@COMPILES
@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_macos_gets_the_protection_too(architecture: str, tmp_path: Path) -> None:
    from tests.support import macos

    sources = [ROOT / name for name in ffi_build.sources("darwin")]
    library = macos.link(architecture, sources, tmp_path, hidden=False)
    assert "___stack_chk_fail" in library.imported
    assert {name for name in library.imported if name.endswith("_chk")}


# ---- one source gives one archive ------------------------------------------------------------


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(tmp_path_factory)


@pytest.mark.slow
@COMPILES
def test_one_source_gives_the_same_bytes_at_another_place_time_and_umask(
    ours: Built, builder: Path, tmp_path: Path
) -> None:
    """The other place is the source distribution, unpacked: it makes itself again."""
    source = unpack(ours.sdist, tmp_path / "deeper" / "unpacked")
    for path in source.rglob("*"):
        os.utime(path, (981173106, 981173106))
        path.chmod(path.stat().st_mode & 0o700)
    build(builder, source, tmp_path / "dist", umask=0o077, SOURCE_DATE_EPOCH=None)
    again = archives(tmp_path / "dist")
    assert again.wheel.name == ours.wheel.name
    assert again.wheel.read_bytes() == ours.wheel.read_bytes()
    assert again.sdist.read_bytes() == ours.sdist.read_bytes()


@pytest.mark.slow
@COMPILES
def test_files_get_the_time_that_the_builder_says(builder: Path, tmp_path: Path) -> None:
    source = copy_of_the_tree(tmp_path / "source")
    build(builder, source, tmp_path / "dist", "--sdist", SOURCE_DATE_EPOCH="1700000000")
    (made,) = (tmp_path / "dist").iterdir()
    with tarfile.open(made) as archive:
        assert {entry.mtime for entry in archive} == {1700000000}


# ---- builders differ -------------------------------------------------------------------------


def extension_of(wheel: Path, directory: Path) -> Elf:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".so")]
        return Elf.read(Path(archive.extract(name, directory)))


@pytest.mark.slow
@COMPILES
def test_a_distribution_gets_the_debug_information_and_the_run_path_that_it_asks_for(
    builder: Path, tmp_path: Path
) -> None:
    needs(None if sys.platform == "linux" else "there is no ELF here")
    source = copy_of_the_tree(tmp_path / "source")
    run_path = "-Wl,-rpath,/asked/for"
    build(builder, source, tmp_path / "dist", "--wheel", CFLAGS="-g -O1", LDFLAGS=run_path)
    (wheel,) = (tmp_path / "dist").iterdir()
    extension = extension_of(wheel, tmp_path)
    assert extension.unneeded >= {".debug_info", ".symtab"}
    assert extension.run_paths == ("/asked/for",)


def compiler(directory: Path, script: str) -> str:
    """A compiler of this machine's, behind a script for sh."""
    found = shutil.which("gcc")
    needs(None if found else "gcc is not installed")
    path = directory / "some-cc"
    path.write_text(f'#!/bin/sh\ngcc="{found}"\n{script}\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.slow
@COMPILES
def test_an_old_compiler_builds_without_the_options_that_it_lacks(
    builder: Path, tmp_path: Path
) -> None:
    old = compiler(
        tmp_path,
        'for option; do case "$option" in -fcf-*|-fstack-clash-*|-mbranch-*)\n'
        'echo "unrecognized command line option $option" >&2; exit 1;; esac; done\n'
        'exec "$gcc" "$@"',
    )
    source = copy_of_the_tree(tmp_path / "source")
    build(builder, source, tmp_path / "dist", "--wheel", CC=old)
    (wheel,) = (tmp_path / "dist").iterdir()
    extension = extension_of(wheel, tmp_path)
    assert "__stack_chk_fail" in extension.imported
    assert extension.marks < 3


# ---- what is missing -------------------------------------------------------------------------

#: What hides from the compiler, and what the build says then.
HIDDEN = {
    "no-compiler": ("exit 127", "there is no C compiler that works"),
    "no-c-library": ('exec "$gcc" -nostdinc "$@"', "the headers of the C library are missing"),
    "no-python": (
        'for one; do shift; case "$one" in -I*python3*) ;; *) set -- "$@" "$one";; esac; done\n'
        'exec "$gcc" "$@"',
        f"the headers of Python 3.{sys.version_info.minor} are missing",
    ),
}


def pip_install(builder: Path, source: Path, directory: Path, **variables: str) -> str:
    """What pip says when it fails to install."""
    options = ["--no-deps", "--no-build-isolation", "--no-cache-dir", "--target", str(directory)]
    done = subprocess.run(
        [str(builder), "-m", "pip", "install", *options, str(source)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **variables},
        timeout=600,
    )
    assert done.returncode != 0, done.stdout
    return done.stdout


@pytest.mark.slow
@COMPILES
@pytest.mark.parametrize("hidden", HIDDEN)
def test_pip_says_in_its_last_lines_what_to_install_when_something_is_missing(
    hidden: str, ours: Built, builder: Path, tmp_path: Path
) -> None:
    script, message = HIDDEN[hidden]
    said = pip_install(builder, ours.sdist, tmp_path / "to", CC=compiler(tmp_path, script))
    end = "\n".join(said.splitlines()[-20:])
    assert f"error: msal-extensions cannot be built: {message}" in end
    for package in ("apt install gcc", "dnf install gcc", "apk add gcc", "xcode-select", "Visual"):
        assert package in end


@pytest.mark.slow
@COMPILES
def test_pip_says_so_too_when_there_is_no_program_at_all(
    ours: Built, builder: Path, tmp_path: Path
) -> None:
    said = pip_install(builder, ours.sdist, tmp_path / "to", PATH=str(tmp_path))
    assert "error: msal-extensions cannot be built: there is no C compiler" in said[-1500:]


@pytest.mark.slow
@COMPILES
def test_an_error_in_our_own_c_is_not_called_a_missing_compiler(
    builder: Path, tmp_path: Path
) -> None:
    source = copy_of_the_tree(tmp_path / "source")
    (source / "csrc" / "error.c").write_text("#error ours\n")
    said = pip_install(builder, source, tmp_path / "to")
    assert "#error ours" in said
    assert "cannot be built" not in said
