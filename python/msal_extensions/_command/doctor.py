"""Looks at what the caches of this machine depend on: keyrings, keys, disks, settings."""

from __future__ import annotations

from collections.abc import Sequence

from .places import Options, Place
from .report import Report


def check(report: Report, places: Sequence[Place], options: Options) -> None:
    """Adds what was looked at, and what is wrong.  Raises nothing."""
