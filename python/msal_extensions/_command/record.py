"""What pip has written down of this package: its version, its files, and what it needs.

The format is that of https://packaging.python.org/specifications/recording-installed-packages/
"""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import importlib.metadata
import operator
import os
import re
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution
from pathlib import PurePosixPath
from typing import Any, NamedTuple

NAME = "msal-extensions"
PACKAGE = __name__.partition(".")[0]
#: The directory of the package, and that in which it is, such as site-packages.
DIRECTORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_SITE = os.path.dirname(DIRECTORY)

_REQUIREMENT = re.compile(r"([\w.-]+)\s*(?:\[.*?\])?\s*\(?([^;()]*)\)?\s*(?:;.*)?")
_CLAUSE = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*([\d.]+)\s*")
_RELEASE = re.compile(r"\d+(?:\.\d+)*")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


class Recorded(NamedTuple):
    """A file that pip has installed."""

    path: PurePosixPath  # from the directory of the package's directory
    hash: str  # such as "sha256=...", in Base64; "": not written down
    size: str  # "": not written down


def files_of(distribution: Distribution) -> Iterator[Recorded]:
    """All files of the record.  ``Distribution.files`` leaves out those that are missing, since
    Python 3.12."""
    for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        if row:
            path, digest, size = (*row, "", "")[:3]
            yield Recorded(PurePosixPath(path), digest, size)


def ours() -> Distribution | None:
    """The distribution that installed this very file, else the first one of our name."""
    found = list(importlib.metadata.distributions(name=NAME))
    mine = [each for each in found if installed_here(each)]
    return next(iter(mine + found), None)


def installed_here(distribution: Distribution) -> bool:
    """Whether this file is one of its files.  It is not in a source tree or an editable install."""
    mine = os.path.realpath(__file__)
    return any(
        os.path.realpath(str(distribution.locate_file(str(file.path)))) == mine
        for file in files_of(distribution)
        if file.path.name == os.path.basename(mine)
    )


def others(distribution: Distribution | None) -> list[str]:
    """The names and versions of other distributions that have put the same package here."""
    line = re.compile(rf"^{PACKAGE}/__init__\.py,", re.MULTILINE)
    mine = "" if distribution is None else _title(distribution)
    found = {
        _title(each)
        for each in importlib.metadata.distributions(path=[_SITE])
        if line.search(each.read_text("RECORD") or "")
    }
    return sorted(found - {mine})


def _title(distribution: Distribution) -> str:
    return f"{distribution.metadata['Name']} {distribution.version}"


def altered(distribution: Distribution) -> Iterator[str]:
    """The files of the package that are missing, or are not those that were installed."""
    for file in files_of(distribution):
        parts = file.path.parts
        is_made_later = "__pycache__" in parts
        if parts[0] == PACKAGE and not is_made_later and not _is_as_installed(file, distribution):
            yield "/".join(parts[1:])


def _is_as_installed(file: Recorded, distribution: Distribution) -> bool:
    try:
        with open(str(distribution.locate_file(str(file.path))), "rb") as opened:
            content = opened.read()
    except OSError:
        return False
    kind, _, value = file.hash.partition("=")
    if not kind:  # some tools write no hashes
        return not file.size or int(file.size) == len(content)
    try:
        digest = hashlib.new(kind, content).digest()
    except ValueError:  # of a kind that this Python does not know
        return True
    return base64.urlsafe_b64encode(digest).decode().rstrip("=") == value.rstrip("=")


def needed(distribution: Distribution | None, name: str) -> str:
    """Which versions of another package ours needs, such as ">=1.29,<2"; "": any."""
    for text in (distribution.requires if distribution else None) or ():
        found = _REQUIREMENT.fullmatch(text)
        if found and found[1] == name:
            return ",".join(sorted(found[2].replace(" ", "").split(","), reverse=True))
    return ""


def fits(version: str, clauses: str) -> bool:
    """Whether a version is one of those that a text such as ">=1.29,<2" allows.

    It compares the numbers and leaves out what may follow them, so 2.0rc1 counts as 2.0.
    """
    have = _numbers(version)
    for clause in clauses.split(","):
        found = _CLAUSE.fullmatch(clause)
        if not have or not found:
            continue  # a form that we do not use: no reason to complain
        want = _numbers(found[2])
        length = max(len(have), len(want))
        pair = ((*each, *[0] * (length - len(each))) for each in (have, want))
        if not _COMPARE[found[1]](*pair):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    found = _RELEASE.match(version)
    return tuple(map(int, found[0].split("."))) if found else ()


def version_of(name: str) -> str:
    """The installed version of a distribution; "" when there is none."""
    with contextlib.suppress(Exception):  # damaged metadata raises all kinds of errors
        return importlib.metadata.version(name) or ""
    return ""
