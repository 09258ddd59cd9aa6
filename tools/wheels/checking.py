"""What must be true of a wheel before anybody tries it.

Each check is a function that gets the wheel and its target, and raises Wrong with a sentence.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from email.parser import Parser
from pathlib import Path

from packaging.utils import parse_wheel_filename

from tools.wheels.targets import Target

TOOL_S = 600
#: The first bytes of an extension, and where its processor stands -> the number of the processor.
MACH_O = {"arm64": 0x0100000C, "x86_64": 0x01000007}
WINDOWS = {"win_amd64": 0x8664, "win32": 0x014C, "win_arm64": 0xAA64}


class Wrong(Exception):
    """What is not as it must be."""


def tool(module: str, *arguments: str | Path) -> str:
    """Run a tool of this environment; what it says is the reason when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TOOL_S,
    )
    if done.returncode != 0:
        raise Wrong(f"{module}: {done.stdout.strip()[-2000:]}")
    return done.stdout


def tag(wheel: Path, target: Target) -> None:
    """The name and the WHEEL file agree, and say what the target does."""
    _, _, _, named = parse_wheel_filename(wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [name for name in archive.namelist() if name.endswith(".dist-info/WHEEL")]
        told = Parser().parsestr(archive.read(path).decode()).get_all("Tag", [])
    if {str(one) for one in named} != set(told):
        raise Wrong(f"the name says {sorted(map(str, named))}, WHEEL says {sorted(told)}")
    abis = {f"{target.python_tag}-{abi}" for abi in target.abi_tag.split(".")}
    platforms = {one.split("-")[2] for one in told}
    known = any(is_for(platform, target) for platform in platforms)
    if not known or {one.rpartition("-")[0] for one in told} != abis:
        raise Wrong(f"the tag is not {target.tag}: {sorted(told)}")


def is_for(platform: str, target: Target) -> bool:
    """The platform of the target, or the same one with an older C library."""
    pattern = r"(many|musl)linux_(\d+)_(\d+)_(\w+)"
    found, wanted = (re.fullmatch(pattern, one) for one in (platform, target.platform_tag))
    if found is None or wanted is None:
        return platform == target.platform_tag
    have, allowed = (tuple(map(int, one.group(2, 3))) for one in (found, wanted))
    return found.group(1, 4) == wanted.group(1, 4) and have <= allowed


def record(wheel: Path, _: Target) -> None:
    """RECORD names each file of the wheel once, with its hash and size."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        (own,) = [name for name in names if name.endswith(".dist-info/RECORD")]
        rows = list(csv.reader(io.StringIO(archive.read(own).decode())))
        told = [row[0] for row in rows]
        if sorted(told) != sorted(names):
            raise Wrong(f"RECORD and the wheel differ in {sorted(set(told) ^ set(names))}")
        for name, digest, size in rows:
            if name == own:
                continue
            data = archive.read(name)
            found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            if (digest, size) != (f"sha256={found}", str(len(data))):
                raise Wrong(f"{name} is not what RECORD says")


def processor(wheel: Path, target: Target) -> None:
    """The extension is for the processor that the tag names."""
    with zipfile.ZipFile(wheel) as archive:
        found = [n for n in archive.namelist() if n.partition("/")[2].startswith("_msalex.")]
        if len(found) != 1:
            raise Wrong(f"there is not one extension: {found}")
        data = archive.read(found[0])
    if target.processor is not None:
        order = ">" if data[5] == 2 else "<"
        number, bits = struct.unpack_from(f"{order}H", data, 18)[0], 32 * data[4]
        expected, fits = target.processor, data.startswith(b"\x7fELF")
        fits = fits and (number, bits) == (expected.number, expected.bits)
    elif target.platform_tag in WINDOWS:
        (at,) = struct.unpack_from("<I", data, 0x3C)
        fits = data[at : at + 4] == b"PE\0\0"
        (number,) = struct.unpack_from("<H", data, at + 4)
        fits = fits and number == WINDOWS[target.platform_tag]
    else:
        begin, number = struct.unpack_from("<2I", data)
        name = target.platform_tag.removeprefix("macosx_11_0_")
        fits = begin == 0xFEEDFACF and number == MACH_O[name]
    if not fits:
        raise Wrong(f"{found[0]} is not for {target.platform_tag}")


def needed(wheel: Path, target: Target) -> None:
    """auditwheel: it needs nothing that a system with that tag lacks.  It says the same of a name
    that is only a claim, so what it finds counts."""
    if target.processor is None:
        return
    said = tool("auditwheel", "show", wheel)
    found = re.search(r'platform\s+tag:\s+"(\w+)"', said)
    if found is None or not is_for(found.group(1), target):
        what = found.group(1) if found else said.strip()
        raise Wrong(f"it needs {what}, which is newer than {target.platform_tag}")


def stable_abi(wheel: Path, target: Target) -> None:
    """abi3audit: it uses the stable ABI only."""
    if target.is_abi3:
        tool("abi3audit", "--strict", wheel)


def metadata(wheel: Path, _: Target) -> None:
    """twine: the index would accept and show its description."""
    tool("twine", "check", "--strict", wheel)


CHECKS: Mapping[str, Callable[[Path, Target], None]] = {
    "tag": tag,
    "RECORD": record,
    "processor": processor,
    "auditwheel": needed,
    "abi3audit": stable_abi,
    "twine": metadata,
}


def apply(wheel: Path, target: Target, passed: list[str]) -> None:
    """All that are about this target; `passed` gets their names.

    :raises Wrong: With the name of the check that did not pass.
    """
    for name, check in CHECKS.items():
        if name == "abi3audit" and not target.is_abi3:
            continue
        if name == "auditwheel" and target.processor is None:
            continue
        try:
            check(wheel, target)
        except Wrong as wrong:
            raise Wrong(f"{name}: {wrong}") from wrong
        passed.append(name)
