"""Looks at what the caches of this machine depend on: keyrings, keys, disks, settings."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .. import _references as references
from . import checks_machine as machine
from . import checks_places
from .places import Options, Place
from .report import Cache, Report, Severity

_ALL = (machine.home, machine.settings, machine.cryptography, machine.keys)
_LINUX = (machine.keyring,)


def check(report: Report, places: Sequence[Place], options: Options) -> None:
    """Adds what was looked at, and what is wrong.  Raises nothing.

    :param report: It has the caches of these places already.
    """
    for look in (*_LINUX, *_ALL) if sys.platform.startswith("linux") else _ALL:
        try:
            look(report, places, options)
        except Exception as error:
            _add_unexpected(report, look.__name__, error)
    for place in places:
        locations = (place.location, place.sealed())
        for cache in report.caches:
            if cache.name == place.name and cache.location in locations:
                _check_place(report, place, cache, options)
                break  # the first one is that which its programs use


def _check_place(report: Report, place: Place, cache: Cache, options: Options) -> None:
    try:
        checks_places.clock(report, cache)
        has_home = not place.location.startswith("~")  # otherwise home() has told it
        if has_home and checks_places.directory(report, place, options):
            checks_places.saving(report, place, cache, options)
    except Exception as error:
        _add_unexpected(report, "directory", error, place.name)


def _add_unexpected(report: Report, what: str, error: Exception, about: str = "") -> None:
    """The text of the error is left out: it could have parts of what is stored."""
    if isinstance(error, ImportError) and _is_told(report, references.NO_CRYPTOGRAPHY):
        return
    words = f"The check of {what} failed: {type(error).__name__}."
    report.add(Severity.PROBLEM, references.UNEXPECTED, words, "", about)


def _is_told(report: Report, reference: references.Reference) -> bool:
    return any(finding.reference is reference for finding in report.findings)
