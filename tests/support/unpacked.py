"""Programs of another Debian, or of one for another processor, whose packages are only unpacked.

    here = unpacked("bookworm", "arm64", ("python3", "python3-requests"))
    subprocess.run(here.command(["python3.11", "-V"], {host_directory: "work"}))    # is /srv/work

Nothing is installed: apt downloads the packages and what they depend on, and dpkg unpacks them.  So
it takes seconds where debootstrap (tests/support/debian.py) takes minutes, and needs no root.  But
no script of a package runs there: it is enough for a Python, and for little else.

A program runs in user and mount namespaces of its own.  For another processor QEMU runs it and all
programs that it starts.  The kernel learns that by binfmt_misc of the namespace, so this machine
itself never hears of QEMU; Linux has such a binfmt_misc since 6.7.
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support import debian
from tests.support.cached import cached
from tests.support.processes import finished

#: Where the packages of QEMU come from: one static program for each processor.
QEMU_RELEASE, QEMU_PACKAGE = "bookworm", "qemu-user-static"


class Processor(NamedTuple):
    """Names of a processor, and how its programs begin."""

    qemu: str  #: none means that a processor of this machine runs it, too
    elf_class: int  #: 1: 32 bits, 2: 64 bits
    byte_order: int  #: 1: the lowest byte first, 2: the highest
    number: int  #: in an ELF file


#: By Debian's words.
PROCESSORS = {
    "amd64": Processor("x86_64", 2, 1, 62),
    "i386": Processor("i386", 1, 1, 3),
    "arm64": Processor("aarch64", 2, 1, 183),
    "armhf": Processor("arm", 1, 1, 40),
    "ppc64el": Processor("ppc64le", 2, 1, 21),
    "s390x": Processor("s390x", 2, 2, 22),
    "riscv64": Processor("riscv64", 2, 1, 243),
}
#: What the processor of this machine runs without QEMU -> the word for setarch(8).
NATIVE = {
    "x86_64": {"amd64": "", "i386": "i686"},
    "aarch64": {"arm64": ""},
}

#: Arguments: the directory, what to tell binfmt_misc or nothing, pairs of a directory of this
#: machine and its name below /srv, "--", and the program.
ENTER = """
set -e
root=$1
if [ -n "$2" ]; then
    mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    printf '%s' "$2" > /proc/sys/fs/binfmt_misc/register
fi
shift 2
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/srv"
while [ "$1" != -- ]; do
    mkdir "$root/srv/$2"
    mount --rbind "$1" "$root/srv/$2"
    shift 2
done
shift
exec chroot "$root" "$@"
"""


class CannotUnpack(Exception):
    """Why there is no such Debian here, or nothing runs in it, in one sentence."""


def missing() -> str | None:
    """What this machine lacks, as a sentence, or None."""
    for program in ("apt-get", "dpkg", "unshare", "chroot"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if not debian.KEYRING.exists():
        return f"there is no {debian.KEYRING} (Debian: debian-archive-keyring)"
    return _no_namespaces()


@functools.cache
def _no_namespaces() -> str | None:
    return _refused("true", "user namespaces with mounts are refused here")


@functools.cache
def _no_binfmt() -> str | None:
    mount = "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc"
    return _refused(mount, f"Linux {platform.release()} has no binfmt_misc for a namespace")


def _refused(script: str, sentence: str) -> str | None:
    command = ["unshare", "-Urm", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return None if done.returncode == 0 else f"{sentence}: {done.stderr.strip()}"


def magic(processor: Processor, interpreter: Path) -> str:
    """What binfmt_misc is told: how programs for a processor begin, and who runs them.  F: the
    kernel opens that program now, because it is not there after chroot."""
    order = "little" if processor.byte_order == 1 else "big"
    kind, number = (n.to_bytes(2, order) for n in (2, processor.number))  # type: ignore[arg-type]
    begin = b"\x7fELF" + bytes([processor.elf_class, processor.byte_order, 1]) + bytes(9)
    # Any system, and an ordinary program or one that may be anywhere in memory (3).
    fixed = b"\xff" * 7 + b"\0" + b"\xff" * 8
    either = b"\xfe\xff" if order == "little" else b"\xff\xfe"

    def hexadecimal(data: bytes) -> str:
        return "".join(f"\\x{byte:02x}" for byte in data)

    what = hexadecimal(begin + kind + number)
    mask = hexadecimal(fixed + either + b"\xff\xff")
    return f":msalex:M::{what}:{mask}:{interpreter}:F"


class Unpacked(NamedTuple):
    """A directory with the files of some packages, for one processor."""

    root: Path
    architecture: str  #: Debian's word

    def command(self, program: Sequence[str], mounts: Mapping[Path, str]) -> list[str]:
        """The command that runs a program there; each directory of `mounts` is in /srv."""
        told, personality = "", NATIVE.get(platform.machine(), {}).get(self.architecture, "")
        if is_emulated(self.architecture):
            if reason := _no_binfmt():
                raise CannotUnpack(reason)
            processor = PROCESSORS[self.architecture]
            told = magic(processor, Path(*emulator(self.architecture)))
        pairs = [word for host, name in mounts.items() for word in (str(host), name)]
        before = ["setarch", personality] if personality else []
        enter = ["unshare", "-Urm", "sh", "-c", ENTER, "sh", str(self.root), told, *pairs, "--"]
        return [*before, *enter, *program]


def is_emulated(architecture: str) -> bool:
    """Does QEMU run its programs here?"""
    return architecture not in NATIVE.get(platform.machine(), {})


def environment(**variables: str) -> dict[str, str]:
    """The environment of programs there: nothing of ours."""
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/tmp",
        "LC_ALL": "C",
        **variables,
    }


@functools.cache
def unpacked(release: str, architecture: str, packages: tuple[str, ...]) -> Unpacked:
    """These packages and what they depend on; kept in MSALEX_CACHE."""
    if reason := missing():
        raise CannotUnpack(reason)
    return Unpacked(_files(release, architecture, packages), architecture)


def emulator(architecture: str) -> list[str]:
    """What a command begins with that runs one static program for a processor, and no others."""
    if not is_emulated(architecture):
        return []
    if reason := missing():
        raise CannotUnpack(reason)
    return [str(_qemu() / "usr" / "bin" / f"qemu-{PROCESSORS[architecture].qemu}-static")]


@functools.cache
def _qemu() -> Path:
    here = "arm64" if platform.machine() == "aarch64" else "amd64"
    return _files(QEMU_RELEASE, here, (QEMU_PACKAGE,))


def _files(release: str, architecture: str, packages: tuple[str, ...]) -> Path:
    def make(directory: Path) -> None:
        try:
            _download(release, architecture, packages, directory / "apt")
            _unpack(directory / "apt" / "archives", directory / "root")
        except (AssertionError, subprocess.SubprocessError) as error:
            words = " ".join(packages)
            raise CannotUnpack(f"{words} of {release} could not be had: {error}") from error
        shutil.rmtree(directory / "apt")

    facts = " ".join(packages)
    return cached("debian", f"{release}-{architecture}", facts, make) / "root"


def _download(release: str, architecture: str, packages: Sequence[str], to: Path) -> None:
    """By an apt of its own that thinks nothing is installed: so it brings all of it."""
    for name in ("lists/partial", "archives/partial", "etc/preferences.d", "etc/apt.conf.d"):
        (to / name).mkdir(parents=True)
    (to / "status").touch()
    mirror = debian.sources(release)[0][0]
    source = f"deb [signed-by={debian.KEYRING}] {mirror} {release} main\n"
    (to / "etc" / "sources.list").write_text(source)
    settings = {
        "Dir::State": to,
        "Dir::State::lists": to / "lists",
        "Dir::State::status": to / "status",
        "Dir::Cache": to,
        "Dir::Cache::archives": to / "archives",
        "Dir::Etc": to / "etc",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "",  # apt's own user may not write here
        "Acquire::Languages": "none",
        "Acquire::Retries": debian.DOWNLOADS,
    }
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    apt = ["apt-get", "-qq", *options]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    finished([*apt, "update"], None, env)
    without = ["--no-install-recommends", "--download-only"]
    finished([*apt, "install", "-y", *without, *packages], None, env)


def _unpack(archives: Path, root: Path) -> None:
    for name in ("proc", "dev", "tmp", "srv"):
        (root / name).mkdir(parents=True)
    # Newer releases have all in /usr, and this package the links to it.
    found = sorted(archives.glob("*.deb"), key=lambda path: not path.name.startswith("base-files_"))
    for package in found:
        finished(["dpkg", "-x", package, root])
