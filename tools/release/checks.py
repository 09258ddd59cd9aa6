"""Are these files a release? All wheels that selection.py wants, of one source, each as it says.

check() raises the first of these that is so, with all faults of that kind:

    Incomplete      a wheel is missing, is there twice, or is none that we publish
    Inconsistent    the files are not of one version, or hold different Python files
    Broken          a file is not what its name or its RECORD says, or twine or abi3audit objects
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from email.parser import BytesParser
from pathlib import Path
from typing import NamedTuple

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from tools.release.selection import ALL, identifier_of, wanted

NAME = "msal_extensions"
TOOL_S = 600


class Refused(Exception):
    """These files are not published; `faults` has a sentence for each reason."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)


class Incomplete(Refused):
    """It is not one file for each wheel that we publish, and one source distribution."""


class Inconsistent(Refused):
    """The files are not made from one source."""


class Broken(Refused):
    """A file is not what it says, or not what an index or a Python accepts."""


def files_below(directory: Path) -> list[Path]:
    """All wheels and source distributions in a directory and in those below it."""
    found = [path for ending in ("*.whl", "*.tar.gz") for path in directory.rglob(ending)]
    return sorted(found, key=lambda path: (path.name, path))


def check(files: Sequence[Path], version: str, tag: str | None = None) -> None:
    """Raises Refused if this is no release of that version; the tag is the one in git, if any."""
    wheels = [path for path in files if path.suffix == ".whl"]
    _refuse(Incomplete, faults_of_set(files))
    _refuse(Inconsistent, [*faults_of_version(files, version, tag), *differences(files)])
    _refuse(Broken, [fault for wheel in wheels for fault in faults_of_wheel(wheel)])
    _refuse(Broken, objections(files))


def _refuse(kind: type[Refused], faults: Sequence[str]) -> None:
    if faults:
        raise kind(faults)


# ---- the set -----------------------------------------------------------------------------


def tags_of(wheel: str) -> frozenset[tuple[str, str, str]]:
    """The tags in a file's name."""
    return frozenset((t.interpreter, t.abi, t.platform) for t in parse_wheel_filename(wheel)[3])


def faults_of_set(files: Sequence[Path]) -> list[str]:
    """What is missing, and what is too much."""
    faults, found = [], dict[str, list[str]]()
    for wheel in (path.name for path in files if path.suffix == ".whl"):
        try:
            identifier = identifier_of(tags_of(wheel))
        except InvalidWheelFilename as error:
            identifier = None
            faults.append(str(error))
        if identifier is None:
            faults.append(f"{wheel} is none of the wheels in selection.py")
        else:
            found.setdefault(identifier, []).append(wheel)
    faults += [f"there is no wheel for {name}" for name in sorted(ALL - found.keys())]
    faults += [
        f"there are {len(names)} wheels for {identifier}: {', '.join(names)}"
        for identifier, names in sorted(found.items())
        if len(names) > 1
    ]
    sources = [path.name for path in files if path.suffix != ".whl"]
    if len(sources) != 1:
        faults.append(f"there is not one source distribution: {', '.join(sources) or 'none'}")
    return faults


# ---- one version, one source -------------------------------------------------------------


class Content(NamedTuple):
    """What wheels and source distribution have in common."""

    metadata: bytes
    python: dict[str, bytes]  #: by name below the import directory


def content_of(path: Path) -> Content:
    """Reads a wheel or a source distribution; a damaged one is Broken."""
    try:
        if path.suffix == ".whl":
            return _content_of_wheel(path)
        return _content_of_sources(path)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, KeyError, OSError) as error:
        raise Broken([f"{path.name} cannot be read: {error}"]) from error


def _content_of_wheel(path: Path) -> Content:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        metadata = archive.read(f"{dist_info(path)}/METADATA")
        python = {name: archive.read(name) for name in names if name.endswith((".py", ".typed"))}
    return Content(metadata, python)


def _content_of_sources(path: Path) -> Content:
    top = path.name.removesuffix(".tar.gz")
    below = f"{top}/python/"
    read: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                read[member.name] = file.read()
    python = {
        name.removeprefix(below): data
        for name, data in read.items()
        if name.startswith(f"{below}{NAME}/") and name.endswith((".py", ".typed"))
    }
    return Content(read[f"{top}/PKG-INFO"], python)


def dist_info(wheel: Path) -> str:
    """The name of the directory with the wheel's metadata."""
    name, version, *_ = wheel.name.split("-")
    return f"{name}-{version}.dist-info"


def faults_of_version(files: Sequence[Path], version: str, tag: str | None) -> list[str]:
    faults = []
    if tag is not None and tag != f"v{version}":
        faults.append(f"the tag is {tag}, and pyproject.toml has the version {version}")
    for path in files:
        if not path.name.startswith((f"{NAME}-{version}-", f"{NAME}-{version}.tar")):
            faults.append(f"{path.name} is not named for {NAME} {version}")
            continue
        told = BytesParser().parsebytes(content_of(path).metadata)
        if (told["Name"], told["Version"]) != (NAME.replace("_", "-"), version):
            faults.append(f"{path.name} holds {told['Name']} {told['Version']}")
    return faults


def differences(files: Sequence[Path]) -> list[str]:
    """Where a wheel's metadata or Python files are not those of the source distribution."""
    faults = []
    by_name = {path: content_of(path) for path in files}
    [source] = [content for path, content in by_name.items() if path.suffix != ".whl"]
    for path, content in by_name.items():
        names = source.python.keys() | content.python.keys()
        differ = sorted(n for n in names if content.python.get(n) != source.python.get(n))
        if differ:
            faults.append(f"{path.name} has not the Python files of the source: {differ[0]}")
        if content.metadata != source.metadata:
            faults.append(f"{path.name} has not the metadata of the source distribution")
    return faults


# ---- one wheel ---------------------------------------------------------------------------

#: Machine numbers of ELF (and in which byte order), of PE and of Mach-O, by the end of a tag.
ELF = {
    "x86_64": (62, "little"),
    "aarch64": (183, "little"),
    "i686": (3, "little"),
    "ppc64le": (21, "little"),
    "s390x": (22, "big"),
    "armv7l": (40, "little"),
    "riscv64": (243, "little"),
}
PE = {"amd64": 0x8664, "arm64": 0xAA64, "": 0x14C}
MACH_O = {"x86_64": 0x01000007, "arm64": 0x0100000C}
MACH_O_64 = bytes.fromhex("cffaedfe")


def is_for(library: bytes, system: str, machine: str) -> bool:
    """Is this library for that processor, and for no other?"""
    if system.endswith("linux"):
        number, order = ELF[machine]
        word = number.to_bytes(2, "big" if order == "big" else "little")
        return library[:4] == b"\x7fELF" and library[18:20] == word
    if system == "macosx":
        number = MACH_O[machine]
        return library[:4] == MACH_O_64 and library[4:8] == number.to_bytes(4, "little")
    start = int.from_bytes(library[0x3C:0x40], "little")
    word = PE[machine].to_bytes(2, "little")
    return library[:2] == b"MZ" and library[start : start + 6] == b"PE\0\0" + word


def faults_of_wheel(wheel: Path) -> Iterator[str]:
    """What in a wheel is not as its name and its RECORD say."""
    tags = tags_of(wheel.name)
    identifier = identifier_of(tags)
    assert identifier is not None, "faults_of_set() has found those"
    target = wanted(identifier)
    with zipfile.ZipFile(wheel) as archive:
        read = {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}
    told = BytesParser().parsebytes(read.get(f"{dist_info(wheel)}/WHEEL", b""))
    said = frozenset(tuple(tag.split("-")) for tag in told.get_all("Tag", []))
    if said != tags:
        yield f"{wheel.name}: its WHEEL file has other tags"
    libraries = [name for name in read if name.endswith((".so", ".pyd", ".dylib", ".dll"))]
    if len(libraries) != 1:
        yield f"{wheel.name} holds {len(libraries)} libraries in place of one"
    for name in libraries:
        if not is_for(read[name], target.system, target.machine):
            yield f"{wheel.name}: {name} is not a library for {identifier}"
    yield from faults_of_record(wheel.name, f"{dist_info(wheel)}/RECORD", read)


def faults_of_record(wheel: str, record: str, read: dict[str, bytes]) -> Iterator[str]:
    if record not in read:
        yield f"{wheel} has no RECORD"
        return
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(read[record].decode())) if row}
    for name in sorted((rows.keys() | read.keys()) - {record}):
        if name not in read:
            yield f"{wheel}: RECORD names {name}, which is not there"
        elif name not in rows:
            yield f"{wheel}: RECORD does not name {name}"
        else:
            digest = base64.urlsafe_b64encode(hashlib.sha256(read[name]).digest()).rstrip(b"=")
            if rows[name] != [f"sha256={digest.decode()}", str(len(read[name]))]:
                yield f"{wheel}: {name} is not the file that RECORD describes"


def objections(files: Sequence[Path]) -> list[str]:
    """What twine and abi3audit find."""
    stable = [path for path in files if "-abi3" in path.name]
    faults = []
    for tool, paths in (
        (("twine", "check", "--strict"), files),
        (("abi3audit", "--strict", "--verbose"), stable),
    ):
        command = [sys.executable, "-m", *tool, *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_S)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip().splitlines()[-20:]
            faults.append(f"{' '.join(tool)}: status {done.returncode}\n" + "\n".join(said))
    return faults
