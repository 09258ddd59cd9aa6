"""The wheels that we publish, and how each of them is built on this machine.

TARGETS is the table.  A target is a name, the tag of its wheel, and one of the ways in Way.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Way(enum.Enum):
    """How a wheel is built here."""

    ZIG = "setuptools, by the Python of this machine; zig compiles for the target"
    INSIDE = "setuptools, by a Python of another Debian; zig compiles"
    PACKED = "the extension is compiled like those of the tests, and put into the wheel of ZIG"


class Processor(NamedTuple):
    """Names of one processor."""

    name: str  #: in tags of Linux, and as sysconfig names it
    zig: str
    zig_abi: str  #: behind "gnu" and "musl"
    debian: str
    release: str  #: the oldest Debian since 12 that runs on it
    glibc: str  #: the oldest that manylinux has for it
    number: int  #: in an ELF file
    bits: int


class Inside(NamedTuple):
    """A Python of another Debian."""

    release: str
    packages: tuple[str, ...]
    command: str


class Target(NamedTuple):
    """One wheel."""

    name: str  #: as the command line knows it
    way: Way
    python_tag: str
    abi_tag: str
    platform_tag: str  #: the first one, if there are more
    processor: Processor | None = None  #: of Linux
    zig: str = ""  #: zig's name of the target
    musl: bool = False
    inside: Inside | None = None
    free_threaded: bool = False

    @property
    def tag(self) -> str:
        return f"{self.python_tag}-{self.abi_tag}-{self.platform_tag}"

    @property
    def is_abi3(self) -> bool:
        return self.abi_tag.startswith("abi3")

    @property
    def needs(self) -> str | None:
        """The target whose wheel this one is packed from."""
        return BASE if self.way is Way.PACKED else None


#: The wheel of which others take all but the extension.
BASE = "manylinux-x86_64"
PROCESSORS = (
    Processor("x86_64", "x86_64", "", "amd64", "bookworm", "2.17", 62, 64),
    Processor("aarch64", "aarch64", "", "arm64", "bookworm", "2.17", 183, 64),
    Processor("i686", "x86", "", "i386", "bookworm", "2.17", 3, 32),
    Processor("ppc64le", "powerpc64le", "", "ppc64el", "bookworm", "2.17", 21, 64),
    Processor("s390x", "s390x", "", "s390x", "bookworm", "2.17", 22, 64),
    Processor("armv7l", "arm", "eabihf", "armhf", "bookworm", "2.17", 40, 32),
    Processor("riscv64", "riscv64", "", "riscv64", "trixie", "2.31", 243, 64),
)
#: zig has no older glibc for these processors.
ZIG_GLIBC = {"powerpc64le": "2.19"}
SID_314 = Inside("sid", ("base-files", "python3.14", "libpython3.14-dev"), "python3.14")
SID_315 = Inside("sid", ("base-files", "python3.15", "libpython3.15-dev"), "python3.15")
PYPY = Inside("trixie", ("base-files", "pypy3", "pypy3-dev"), "pypy3")


def manylinux(processor: Processor) -> Target:
    tag = f"manylinux_{processor.glibc.replace('.', '_')}_{processor.name}"
    glibc = ZIG_GLIBC.get(processor.zig, processor.glibc)
    zig = f"{processor.zig}-linux-gnu{processor.zig_abi}.{glibc}"
    name = f"manylinux-{processor.name}"
    return Target(name, Way.ZIG, "cp310", "abi3", tag, processor, zig)


def musllinux(processor: Processor) -> Target:
    zig = f"{processor.zig}-linux-musl{processor.zig_abi}"
    name, tag = f"musllinux-{processor.name}", f"musllinux_1_2_{processor.name}"
    return Target(name, Way.ZIG, "cp310", "abi3", tag, processor, zig, musl=True)


def inside(name: str, python: str, abi: str, where: Inside, free_threaded: bool) -> Target:
    """For x86_64: other processors differ in nothing that this could show."""
    like = manylinux(PROCESSORS[0])
    return like._replace(
        name=name,
        way=Way.INSIDE,
        python_tag=python,
        abi_tag=abi,
        inside=where,
        free_threaded=free_threaded,
    )


TARGETS = (
    *map(manylinux, PROCESSORS),
    *map(musllinux, PROCESSORS),
    inside("cp314t", "cp314", "cp314t", SID_314, True),
    inside("abi3t", "cp315", "abi3.abi3t", SID_315, True),
    inside("pypy311", "pp311", "pypy311_pp73", PYPY, False),
    Target("macos-arm64", Way.PACKED, "cp310", "abi3", "macosx_11_0_arm64", zig="aarch64"),
    Target("macos-x86_64", Way.PACKED, "cp310", "abi3", "macosx_11_0_x86_64", zig="x86_64"),
    Target("windows-amd64", Way.PACKED, "cp310", "abi3", "win_amd64", zig="x86_64"),
    Target("windows-win32", Way.PACKED, "cp310", "abi3", "win32", zig="x86"),
    Target("windows-arm64", Way.PACKED, "cp310", "abi3", "win_arm64", zig="aarch64"),
)
#: What is published besides.
NOT_HERE = (
    "cp314t, abi3t and pp311 for other processors and systems are built by wheels.yml only: here"
    " those for x86_64 stand for them",
)
