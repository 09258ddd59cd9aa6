"""How setuptools builds here: a hardened extension, archives that depend on the source only, and
plain words where something to build with is missing.

setup.py passes COMMANDS to setuptools.  What the compiler and the linker are told stands in
ffi_build.py.
"""

from __future__ import annotations

import gzip
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import BaseError, CompileError, LinkError, OptionError, PlatformError

from csrc.ffi_build import DEBUG_OPTIONS, HARDENING

INSTALL = f"""
  Debian, Ubuntu    apt install gcc libc6-dev python3-dev  (or python3.{sys.version_info.minor}-dev)
  Fedora, RHEL      dnf install gcc python3-devel  (or python3.{sys.version_info.minor}-devel)
  Alpine            apk add gcc musl-dev python3-dev
  macOS             xcode-select --install
  Windows           the Build Tools for Visual Studio: Desktop development with C++"""
#: Options of a linker that begin with one of these say where a library is looked for at run time.
RUN_PATHS = ("-Wl,-rpath", "-Wl,--rpath", "-Wl,-R", "-R")


def without_run_paths(linker: Iterable[str], asked: Sequence[str]) -> list[str]:
    """The linker's command without run paths, but for those that the builder asks for.

    pyenv builds Pythons that way, and whatever they build looks for libraries in the directory of
    that Python.  On another machine it may belong to anybody.
    """
    kept: list[str] = []
    words = iter(linker)
    for word in words:
        if word in asked or not word.startswith(RUN_PATHS):
            kept.append(word)
        elif word in RUN_PATHS:
            next(words, None)  # its directory is the next word
    return kept


def asked_for(variable: str) -> list[str]:
    """The options that the builder has put into the environment."""
    return os.environ.get(variable, "").split()


class BuildExt(build_ext):
    """Hardened as far as the compiler can, without traces of the machine that builds."""

    def build_extensions(self) -> None:
        if hasattr(self.compiler, "linker_so"):  # MSVC has none
            self.compiler.linker_so = without_run_paths(
                self.compiler.linker_so, asked_for("LDFLAGS") + asked_for("LDSHARED")
            )
            refused = self._refused()
            for extension in self.extensions:
                for arguments in (extension.extra_compile_args, extension.extra_link_args):
                    arguments[:] = [one for one in arguments if one not in refused]
        try:
            super().build_extensions()
        except (CompileError, LinkError, PlatformError, OSError) as error:
            missing = self._missing()
            if missing is None:
                raise
            raise BaseError(f"msal-extensions cannot be built: {missing}.{INSTALL}") from error

    def _refused(self) -> set[str]:
        """The options of the table that are left out.

        Distributions compile with -g, and take the debug information out by themselves.
        """
        refused: set[str] = set()
        if any(one.startswith("-g") and one != "-g0" for one in asked_for("CFLAGS")):
            refused.update(DEBUG_OPTIONS)
        # An older compiler, or one for another processor than the kernel's, lacks some.  One that
        # compiles nothing at all refuses none of them: the build then tells what is wrong.
        wanted = [o for e in self.extensions for o in e.extra_compile_args if o in HARDENING]
        if not self._compiles("", wanted) and self._compiles(""):
            unknown = [option for option in wanted if not self._compiles("", [option])]
            print(f"msal-extensions: the compiler does not know {' '.join(unknown)}")
            refused.update(unknown)
        return refused

    def _compiles(self, text: str, options: Sequence[str] = ()) -> bool:
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory, "probe.c")
            source.write_text(f"{text}\nint probe;\n", encoding="ascii")
            try:
                self.compiler.compile(
                    [str(source)],
                    output_dir=directory,
                    include_dirs=self.include_dirs,
                    extra_postargs=list(options),
                )
            except (CompileError, PlatformError, OSError):
                return False
            return True

    def _missing(self) -> str | None:
        """What is needed to build and is not here; None when all of it is."""
        if not self._compiles(""):
            return f"there is no C compiler that works{self._compiler_name()}"
        if not self._compiles("#include <stdio.h>"):
            return "the headers of the C library are missing"
        if not self._compiles("#include <Python.h>"):
            version = f"3.{sys.version_info.minor}"
            return f"the headers of Python {version} are missing, or for another processor"
        return None

    def _compiler_name(self) -> str:
        command = getattr(self.compiler, "compiler_so", None)
        return f" ({command[0]} was tried)" if command else ""


# ---- archives that depend on the source only ---------------------------------------------


def mode(of: int) -> int:
    """The mode that a file gets in an archive: the builder's umask is not the readers' matter."""
    return 0o755 if of & 0o100 else 0o644


class Sdist(sdist):
    """Times, owners, modes and order are the same whenever and wherever it is made.

    Equal sources then give equal bytes, by the same zlib and on systems whose files have modes.
    """

    def make_archive(  # type: ignore[override]
        self, base_name: str, format: str, *others: Any, **named: Any
    ) -> str:
        if format != "gztar":
            raise OptionError(f"the source distribution is a .tar.gz, never a {format}")
        made = f"{base_name}.tar.gz"
        time = int(os.environ["SOURCE_DATE_EPOCH"])
        tree = Path(named["base_dir"])
        with (
            open(made, "wb") as file,
            gzip.GzipFile("", "wb", compresslevel=9, fileobj=file, mtime=time) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in sorted(path for path in tree.rglob("*") if path.is_file()):
                entry = tarfile.TarInfo(path.as_posix())
                entry.size, entry.mtime = path.stat().st_size, time
                entry.mode = mode(path.stat().st_mode)
                with path.open("rb") as content:
                    archive.addfile(entry, content)
        return made


class BdistWheel(bdist_wheel):
    """The same for the wheel; setuptools itself sorts its files and gives them one time."""

    def write_wheelfile(self, wheelfile_base: str, *others: Any, **named: Any) -> None:
        super().write_wheelfile(wheelfile_base, *others, **named)
        # It is the last file; what comes next packs all of them.
        for path in Path(str(self.bdist_dir)).rglob("*"):
            if path.is_file():
                path.chmod(mode(path.stat().st_mode))


COMMANDS: dict[str, Any] = {
    "bdist_wheel": BdistWheel,
    "build_ext": BuildExt,
    "sdist": Sdist,
}
