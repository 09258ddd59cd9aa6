"""What clear, migrate, prune and rekey have in common."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .. import _references as references
from .._damage import parse_leniently
from .._references import Reference
from ..errors import CacheDamaged
from ..lock import FileLease, FileLock
from . import beside, paths, words
from .places import Kind, Place
from .report import Report, Severity

#: Asks a person a question, and returns whether the answer was yes.
Confirm = Callable[[str], bool]


class Refusal(Exception):
    """The command does not do it.  What becomes of it is a finding."""

    def __init__(
        self,
        reference: Reference,
        happened: str,
        remedy: str = "",
        severity: Severity = Severity.PROBLEM,
    ) -> None:
        super().__init__(happened)
        self.entry, self.happened, self.remedy = reference, happened, remedy
        self.severity = severity


class Telling:
    """Where an exception belongs: see telling()."""

    def __init__(self, about: str) -> None:
        self.about = about  # the name of a place
        self.remedy = ""  # "": that of the exception's reference


@contextlib.contextmanager
def telling(report: Report, about: str) -> Iterator[Telling]:
    """Makes a finding of an exception in the body, and ends it there."""
    it = Telling(about)
    try:
        yield it
    except Refusal as refusal:
        remedy = it.remedy or refusal.remedy
        report.add(refusal.severity, refusal.entry, refusal.happened, remedy, it.about)
    except Exception as error:
        reference, happened, remedy = words.of(error)
        report.add(Severity.PROBLEM, reference, happened, it.remedy or remedy, it.about)


def is_there(place: Place) -> bool:
    """Whether something may be stored.  Where nobody can tell, a load will say why."""
    if place.kind is Kind.KEYRING:  # its item may have lost its signal file
        return paths.is_there(os.path.dirname(place.location))
    return paths.is_there(place.location)


def nothing_in(place: Place, more: str = "") -> Refusal:
    """A warning, and not silence: the path may have a slip of the pen."""
    said = f"Nothing is stored in {described(place)}.{more}"
    remedy = "If you expected tokens there, check the name and the path."
    return Refusal(references.NOT_STORED, said, remedy, Severity.WARNING)


def ask(confirm: Confirm, question: str) -> None:
    """:raises Refusal: when the answer is not yes."""
    if not confirm(question):
        words = "Nobody has confirmed it, so nothing was changed."
        raise Refusal(references.NOT_CONFIRMED, words)


def described(place: Place) -> str:
    """A place as a question and a sentence name it."""
    name, location = (words.clean(text, 1000) for text in (place.name, place.location))
    return name if name.endswith(location) else f"{name} ({location})"


def files_of(place: Place) -> list[str]:
    """The files that may hold the tokens of a place, or signal a change of them."""
    sealed = [place.sealed()] if place.kind is Kind.KEYRING else []
    return [place.location, *sealed]


def copies_of(place: Place) -> list[str]:
    """The copies with tokens that lie beside the files of a place."""
    return [path for location in files_of(place) for path in beside.copies_of(location)]


@contextlib.contextmanager
def locked(paths: Iterable[str], timeout: float) -> Iterator[dict[str, FileLease]]:
    """Holds some lock files.  All processes take them in one order, so that none waits for another
    one that waits for it.

    :param timeout: Seconds, for each of them.
    :raises LockError: when the time is up.
    """
    with contextlib.ExitStack() as stack:
        leases = {}
        for path in sorted(set(paths), key=os.path.realpath):
            leases[path] = FileLock(path).acquire(timeout)
            stack.callback(leases[path].release)
        yield leases


def parsed(secret: str, place: Place) -> Any:
    """The content of a place.  Any JSON: Azure CLI's service principals are a list.

    :raises CacheDamaged: when it is none.
    """
    try:
        return parse_leniently(secret)
    except CacheDamaged as error:
        why = str(error.strerror)
    except (ValueError, RecursionError):
        why = "No program can read it: a number in it is too long, or it is nested too deeply"
    raise CacheDamaged(None, why, place.location)


def count(parsed: Any) -> str:
    """How much a content has, in words: "2 accounts, 7 tokens"."""
    if isinstance(parsed, list):  # the service principals of Azure CLI
        return words.number(len(parsed), "entry")
    if not isinstance(parsed, dict):
        return "the content"
    tokens = sum(_size(parsed, kind) for kind in ("AccessToken", "RefreshToken", "IdToken"))
    accounts = _size(parsed, "Account")
    return f"{words.number(accounts, 'account')}, {words.number(tokens, 'token')}"


def _size(parsed: dict[str, Any], kind: str) -> int:
    entries = parsed.get(kind)
    return len(entries) if isinstance(entries, dict) else 0
