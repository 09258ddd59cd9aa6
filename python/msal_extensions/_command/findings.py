"""What doctor's checks have in common: they end in time, and say the same thing once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from .._references import Reference
from ..errors import PersistenceTimeout
from . import words
from .report import Report, Severity

T = TypeVar("T")


def within(seconds: float, work: Callable[[], T], location: str) -> T:
    """The result of work that has no limit of its own, such as a call of a file system.

    It goes on in its thread when the time is over.  The thread ends with the process.

    :raises PersistenceTimeout: when the time is over.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        happened = f"The file system did not answer within {seconds:g} seconds."
        raise PersistenceTimeout(None, happened, location)
    return results[0]


def add_error(
    report: Report,
    error: BaseException,
    subject: str,
    about: str = "",
    severity: Severity = Severity.PROBLEM,
) -> None:
    """Adds an error, unless a finding about the same has its reference already.

    :param subject: What the words are about: the beginning of a sentence.
    """
    reference, happened, remedy = words.of(error)
    add_once(report, severity, reference, f"{subject}: {happened}", remedy, about)


def add_once(
    report: Report,
    severity: Severity,
    reference: Reference,
    happened: str,
    remedy: str = "",
    about: str = "",
) -> None:
    """Adds a finding, unless there is one of the same reference about the same place.

    One cause has one finding.  So nothing is added about the machine that a cache has told.
    """
    for each in report.findings:
        if each.reference is reference and about in ("", each.about):
            return
    report.add(severity, reference, happened, remedy, about)
