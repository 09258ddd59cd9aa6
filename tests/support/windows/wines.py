"""The Wines of the tests, and the Windows that each of them plays.

    with TRIXIE.windows() as env:
        finished(TRIXIE.command("wine", "program.exe"), directory, env, piped=True)

HERE is the Wine of this machine's own packages: 8 in Debian 12.  TRIXIE is the Wine 10 of Debian
13, which only root can install; see support/debian.py.  It is kept in MSALEX_CACHE/windows and
needs 1.2 GB.  Its programs see the /usr and /etc of that Debian, and everything else of this
machine at the usual paths.

A Windows ("prefix" is Wine's word) is a directory of 700 MB, which is kept, too.  windows() lends
one that nobody else uses meanwhile, makes another if there is none, and at the end ends all that
runs in it.  So nothing of a test outlives it, and nothing of another run is ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dev import is_debian_since
from tests.support import debian
from tests.support.cached import cached
from tests.support.native import ROOT
from tests.support.processes import finished

WINE_S = 600
END_S = 60
#: What is installed into another Debian.
PACKAGES = ("wine", "wine64")
ENVIRONMENT = {
    "WINEARCH": "win64",
    "WINEDEBUG": "-all",
    # Nothing to install, no menus, no display, and no debugger: with it a crash may end with 0.
    "WINEDLLOVERRIDES": "mscoree=;mshtml=;winemenubuilder.exe=;winedbg.exe=;winewayland.drv=",
    "PYTHONDONTWRITEBYTECODE": "1",
}
#: What programs there get of our own environment.
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "MSALEX_CACHE", "MSALEX_BUSY_S")


class Wine(NamedTuple):
    """One version of Wine, with as many Windows as are in use at the same time."""

    name: str  #: in the cache, and of tests
    debian: str = ""  #: the release of Debian that it is a part of; none means this machine's
    architectures: tuple[str, ...] = ()  #: Debian's words for those that it needs besides

    def missing(self) -> str | None:
        """What this machine lacks for it, as a sentence, or None."""
        if not self.debian:
            return None if shutil.which("wine") else "wine is not installed"
        hidden = [path for path in (ROOT, Path.home()) if path.is_relative_to("/usr")]
        if hidden:
            return f"{hidden[0]} would be hidden by the /usr of another Debian"
        return debian.missing()

    def command(self, *program: object) -> list[str]:
        """The command that runs a program of this Wine."""
        words = [str(word) for word in program]
        return debian.laid_over(_installed(self), words) if self.debian else words

    def version(self) -> str:
        return _version(self)

    @contextlib.contextmanager
    def windows(self) -> Iterator[dict[str, str]]:
        """The environment of a Windows that is ours until the end of the block."""
        for number in itertools.count():
            prefix = _prefix(self, number)
            with prefix.with_name(f"{prefix.name}.used").open("w") as mark:
                try:
                    fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # another run has it
                self._end(prefix)  # what a run that was killed left
                try:
                    yield _environment(prefix)
                finally:
                    self._end(prefix)
                return

    def _end(self, prefix: Path) -> None:
        """Ends all programs of that Windows; the status is 1 if there are none."""
        command, env = self.command("wineserver", "-k"), _environment(prefix)
        devnull = subprocess.DEVNULL
        subprocess.run(command, env=env, stdin=devnull, stderr=devnull, timeout=END_S)


HERE = Wine("wine")
TRIXIE = Wine("wine-trixie", "trixie")
#: Debian 12's once more, for programs of 32 bits, too.
BITS_32 = Wine("wine-32", "bookworm", ("i386",))
#: In Debian 13 they are the same.
ALL = (HERE,) if is_debian_since(13) else (HERE, TRIXIE)


@functools.cache
def _version(wine: Wine) -> str:
    said = finished(wine.command("wine", "--version"), piped=True)  # maybe with an advice before
    return said.strip().splitlines()[-1]


@functools.cache
def _installed(wine: Wine) -> Path:
    """The directory of a Debian with that Wine."""
    if reason := debian.missing():
        raise debian.CannotMake(reason)
    packages = [*PACKAGES, *(f"wine32:{name}" for name in wine.architectures)]
    apt = ["apt-get", "-q", "-o", "Acquire::Retries=3"]
    steps = [
        *(["dpkg", "--add-architecture", name] for name in wine.architectures),
        [*apt, "update"],
        [*apt, "install", "-y", "--no-install-recommends", *packages],
        [*apt, "clean"],
    ]

    def make(directory: Path) -> None:
        debian.make(wine.debian, directory / "root")
        more = {"DEBIAN_FRONTEND": "noninteractive"}
        for step in steps:
            with debian.running(directory / "root", step, more=more) as process:
                # What cannot be updated may do as it is.
                if process.wait() != 0 and "update" not in step:
                    raise debian.CannotMake(f"this failed in {wine.debian}: {shlex.join(step)}")

    return cached("windows", f"{wine.debian}-for-{wine.name}", str(steps), make) / "root"


def _prefix(wine: Wine, number: int) -> Path:
    """Wine's directory of a Windows 10; each number is another one."""

    def make(directory: Path) -> None:
        env = _environment(directory)
        for command in (("wineboot", "-i"), ("winecfg", "-v", "win10")):
            finished(wine.command("wine", *command), None, env, WINE_S, piped=True)
            finished(wine.command("wineserver", "-w"), None, env, WINE_S, piped=True)

    facts = wine.version() + str(ENVIRONMENT)
    return cached("windows", f"{wine.name}-{number}", facts, make)


def _environment(prefix: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**kept, **ENVIRONMENT, "WINEPREFIX": str(prefix)}
