"""The wheels of a release: for which Python and platform each is, and what tries it.

The names are the build identifiers of cibuildwheel. tests/test_wheels_configuration.py shows that
pyproject.toml selects exactly these and that wheels.yml tries each as it is written here. The
release is made only of exactly these (checks.py).
"""

from __future__ import annotations

from typing import NamedTuple

#: cp310 is the abi3 wheel of every CPython from 3.10 on; cp315t is that of every free-threaded one
#: from 3.15 on (abi3t).
ABIS = {
    "cp310": ("cp310", "abi3"),
    "cp314t": ("cp314", "cp314t"),
    "cp315t": ("cp315", "abi3t"),
    "pp311": ("pp311", "pypy311_pp73"),
}
CPYTHONS = ("cp310", "cp314t", "cp315t")
#: Where cryptography or cffi has no wheel for free-threaded Pythons, and often none at all. Only
#: the wheel of most users is made there.
RARE = {
    "i686": ("many", "musl"),
    "ppc64le": ("musl",),
    "s390x": ("many", "musl"),
    "armv7l": ("many", "musl"),
    "riscv64": ("many", "musl"),
}


def _linux(machine: str) -> set[str]:
    found = set()
    for libc in ("many", "musl"):
        pythons = ("cp310",) if libc in RARE.get(machine, ()) else CPYTHONS
        found |= {f"{python}-{libc}linux_{machine}" for python in pythons}
    return found if machine in RARE else {*found, f"pp311-manylinux_{machine}"}


#: By system and cibuildwheel's name of the processor.
SELECTED: dict[tuple[str, str], set[str]] = {
    **{("linux", machine): _linux(machine) for machine in ("x86_64", "aarch64", *RARE)},
    # No cp315t where cryptography has no wheel for it: on an Intel Mac and on 32-bit Windows.
    ("macos", "x86_64"): {f"{p}-macosx_x86_64" for p in ("cp310", "cp314t", "pp311")},
    ("macos", "arm64"): {f"{p}-macosx_arm64" for p in (*CPYTHONS, "pp311")},
    ("windows", "AMD64"): {f"{p}-win_amd64" for p in (*CPYTHONS, "pp311")},
    ("windows", "x86"): {f"{p}-win32" for p in ("cp310", "cp314t")},
    ("windows", "ARM64"): {f"{p}-win_arm64" for p in CPYTHONS},
}
ALL = frozenset[str]().union(*SELECTED.values())

#: Wheels that nobody tries before they are published: no pool of Azure has such a Windows.
UNTRIED = frozenset(SELECTED["windows", "ARM64"])
#: Tried in the images of Debian and Alpine by try_in_a_distribution.sh, because a Python of
#: cibuildwheel cannot install both cffi and cryptography there.
IN_A_DISTRIBUTION = frozenset(
    f"cp310-{libc}linux_{machine}" for machine, libcs in RARE.items() for libc in libcs
)
#: The name that Docker has for these processors, and those that QEMU stands in for. The 32-bit
#: programs of i686 run on the processor of the machine itself.
DOCKER = {
    "i686": "linux/386",
    "ppc64le": "linux/ppc64le",
    "s390x": "linux/s390x",
    "armv7l": "linux/arm/v7",
    "riscv64": "linux/riscv64",
}
BY_QEMU = frozenset({"aarch64", "ppc64le", "s390x", "armv7l", "riscv64"})


class Wanted(NamedTuple):
    """What the tags of a wheel say."""

    interpreter: str
    abi: str
    system: str  #: the beginning of the platform's tag
    machine: str  #: its end


def wanted(identifier: str) -> Wanted:
    python, _, platform = identifier.partition("-")
    system, _, machine = platform.partition("_")
    return Wanted(*ABIS[python], system, machine)


def identifier_of(tags: frozenset[tuple[str, str, str]]) -> str | None:
    """The wheel that has these tags (interpreter, ABI, platform); None: none of ours."""
    for identifier in ALL:
        interpreter, abi, system, machine = wanted(identifier)
        pythons = {tag[:2] for tag in tags}
        platforms = {tag[2] for tag in tags}
        fits = all(
            name.startswith(system) and name.endswith(f"_{machine}" if machine else system)
            for name in platforms
        )
        # abi3.abi3t is the wheel for both; no other has more than one pair.
        if fits and (interpreter, abi) in pythons and {p for p, _ in pythons} == {interpreter}:
            return identifier
    return None
