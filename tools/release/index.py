"""A package index of plain files, for any web server, and constraints that pin our wheels by hash.

    write(files, Path("site"), "https://packages.example.com/native")

makes below `site`, which is what that address shows:

    msal_extensions-....whl             a copy of each file
    msal_extensions-....whl.metadata    what an installer needs of a wheel before it fetches it
    simple/index.html                   the projects
    simple/msal-extensions/index.html   the files of one project, each with its hash
    constraints.txt                     one line for each platform: our wheel there, with its hash

The pages are those of PEP 503 (names, hashes), PEP 629 (version) and PEP 658 with PEP 714
(metadata).  There is no JSON as in PEP 691: one address would have two contents, and plain files
cannot do that.  The links are relative, so a copy at another address works as well; the addresses
in constraints.txt are not.

The same files give the same bytes.  write() does not look whether the set of files is complete.
"""

from __future__ import annotations

import email
import hashlib
import html
import itertools
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from email.message import Message
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

#: Begins each page; 1.0 is the version of PEP 503's interface.
HEAD = '<!DOCTYPE html>\n<meta name="pypi:repository-version" content="1.0">\n'
#: Markers know platform.machine(), which has names of its own on Windows.
WINDOWS = {"win_amd64": "AMD64", "win_arm64": "ARM64", "win32": "x86"}
#: What stands at the top of constraints.txt.
PREFACE = """\
# {name} {version}: one wheel for each platform, with its hash.
#
#     pip install -c {url}/constraints.txt azure-identity
#
# Markers tell neither musl (Alpine) from glibc, nor a free-threaded Python from an ordinary one,
# nor a 32-bit Python from the 64-bit system below it.  Such a Python finds the line of its
# neighbor, and pip refuses that wheel.  There use the index, and one constraint in place of this
# file: {name}=={version}
#
#     --extra-index-url {url}/simple/
#
# The line without a marker holds everywhere.  Where no other line fits, pip finds no such version
# and fails.  Without it pip would take another version without a word.
"""


class CannotPin(ValueError):
    """There is no constraint for these wheels; the words say why."""


class _File(NamedTuple):
    path: Path
    project: str
    version: str
    tags: frozenset[Tag]  #: none: a source distribution

    @property
    def link(self) -> str:
        return quote(self.path.name)


def write(files: Sequence[Path], to: Path, url: str) -> None:
    """Makes the index and the constraints.

    :param files: Wheels and source distributions of one version of one project.  They may lie in
        ``to`` already.
    :param url: Where ``to`` will be published.
    """
    write_simple(files, to)
    (to / "constraints.txt").write_text(constraints(files, url), encoding="utf-8", newline="\n")


def write_simple(files: Sequence[Path], to: Path) -> None:
    """Makes the index alone, of any versions of any projects."""
    to.mkdir(parents=True, exist_ok=True)
    for path in files:
        if not (to / path.name).exists() or not os.path.samefile(path, to / path.name):
            shutil.copyfile(path, to / path.name)
    found = sorted(_file(to / path.name) for path in files)
    found.sort(key=lambda file: file.project)
    projects = {name: list(them) for name, them in itertools.groupby(found, lambda f: f.project)}
    names = "".join(f'<a href="{name}/">{name}</a><br>\n' for name in projects)
    _write(to / "simple" / "index.html", f"{HEAD}<title>Packages</title>\n{names}")
    for name, them in projects.items():
        links = "".join(map(_anchor, them))
        _write(to / "simple" / name / "index.html", f"{HEAD}<title>{name}</title>\n{links}")


def constraints(files: Sequence[Path], url: str) -> str:
    """The text of constraints.txt."""
    if not urlsplit(url).scheme:
        raise CannotPin(f"{url!r} is not the address of a site, such as https://example.com/native")
    wheels = [file for file in sorted(map(_file, files)) if file.tags]
    versions = {(file.project, file.version) for file in wheels}
    if len(versions) != 1:
        raise CannotPin(f"constraints pin one version of one project, and here are {versions}")
    [(name, version)] = versions
    lines: dict[str, str] = {}
    for file in wheels:
        for marker in sorted(set(_markers(file))):
            line = f"{name} @ {url.rstrip('/')}/{file.link}#sha256={_sha256(file.path)}"
            if marker in lines:
                raise CannotPin(f"two wheels are for the same platform: {marker}")
            lines[marker] = f"{line} ; {marker}\n"
    if not lines:
        raise CannotPin("none of these wheels can be told from others by markers")
    preface = PREFACE.format(name=name, version=version, url=url.rstrip("/"))
    return "".join([preface, f"{name}=={version}\n", *(lines[it] for it in sorted(lines))])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _file(path: Path) -> _File:
    if path.suffix == ".whl":
        project, version, _, tags = parse_wheel_filename(path.name)
        return _File(path, project, str(version), tags)
    project, version = parse_sdist_filename(path.name)
    return _File(path, project, str(version), frozenset())


# ---- the pages ---------------------------------------------------------------------------


def _anchor(file: _File) -> str:
    attributes = {"href": f"../../{file.link}#sha256={_sha256(file.path)}"}
    text = _metadata(file)
    if wanted := _parsed(text)["Requires-Python"]:
        attributes["data-requires-python"] = wanted
    if file.tags:
        metadata = file.path.with_name(f"{file.path.name}.metadata")
        metadata.write_bytes(text)
        for name in ("data-core-metadata", "data-dist-info-metadata"):  # the second for pip < 23.3
            attributes[name] = f"sha256={_sha256(metadata)}"
    words = "".join(f' {name}="{html.escape(value)}"' for name, value in attributes.items())
    return f"<a{words}>{html.escape(file.path.name)}</a><br>\n"


def _metadata(file: _File) -> bytes:
    if not file.tags:
        with tarfile.open(file.path) as sources:
            folder = file.path.name.removesuffix(".tar.gz")
            member = sources.extractfile(f"{folder}/PKG-INFO")
            assert member is not None
            return member.read()
    with zipfile.ZipFile(file.path) as archive:
        [name] = [
            it
            for it in archive.namelist()
            if it.endswith(".dist-info/METADATA")
            and it.count("/") == 1
            and canonicalize_name(it.partition("-")[0]) == file.project
        ]
        return archive.read(name)


def _parsed(metadata: bytes) -> Message:
    return email.message_from_string(metadata.decode("utf-8"))


# ---- the constraints ---------------------------------------------------------------------


def _markers(file: _File) -> Iterator[str]:
    """The platforms for which a wheel is the one that pip shall take."""
    if any(tag.abi.endswith("t") for tag in file.tags):
        return  # free-threaded: PREFACE says what becomes of it
    for tag in file.tags:
        if platform := _platform(tag.platform):
            yield f"{_python(tag)} and {platform}"


def _python(tag: Tag) -> str:
    if tag.interpreter.startswith("pp"):
        version = f"{tag.interpreter[2]}.{tag.interpreter[3:]}"
        return f"platform_python_implementation == 'PyPy' and python_version == '{version}'"
    if tag.abi == "abi3":  # of every CPython that the package allows
        return "platform_python_implementation == 'CPython'"
    raise CannotPin(f"no marker is known for the Pythons of {tag}")


def _platform(tag: str) -> str | None:
    """The marker of a platform tag; None: that of musl, which has the marker of glibc as well."""
    if tag in WINDOWS:
        return f"sys_platform == 'win32' and platform_machine == '{WINDOWS[tag]}'"
    system, _, rest = tag.partition("_")
    if system == "musllinux":
        return None
    if system.startswith("manylinux") or system == "linux":
        # manylinux_2_28_x86_64, manylinux2014_x86_64, linux_x86_64
        words = rest.split("_", 2)
        machine = words[2] if system == "manylinux" else rest
        return f"sys_platform == 'linux' and platform_machine == '{machine}'"
    if system == "macosx":
        machine = rest.split("_", 2)[2]
        if machine in ("x86_64", "arm64"):
            return f"sys_platform == 'darwin' and platform_machine == '{machine}'"
    raise CannotPin(f"no marker is known for the platform {tag}")
