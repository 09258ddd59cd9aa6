"""Looks at one place: what is stored there, how it is protected, and who holds its lock."""

from __future__ import annotations

from .places import Place
from .report import Cache, Report


def examine(report: Report, place: Place) -> Cache:
    """Adds the cache of a place, and what is wrong with it.  It raises and changes nothing."""
    cache = Cache(place.name, place.location, place.kind.value)
    report.caches.append(cache)
    return cache
