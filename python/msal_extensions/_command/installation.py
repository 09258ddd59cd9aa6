"""Looks at this package itself: whether its files are ours, whole, and can be loaded.

It imports nothing of ours but the report, because everything else may be what is broken.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform

from .report import Installation, Report


def look() -> Installation:
    """What is installed.  Raises nothing."""
    return Installation(
        version=_version_of("msal-extensions"),
        is_native=None,
        directory=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        msal=_version_of("msal"),
        cryptography=_version_of("cryptography"),
    )


def _version_of(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def check(report: Report) -> bool:
    """Adds what is wrong with the installation.

    :returns: Whether the native library can be used.
    """
    return True
