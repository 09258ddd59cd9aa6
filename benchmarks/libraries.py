"""The libraries that are measured, and the environment in which each of them is imported."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

from tests.support.reference import VERSION, reference_site_packages

FLOOR, OURS, PORTALOCKER, BARE = "floor", "ours", "1.3.1-portalocker", "1.3.1-bare"


class Library(NamedTuple):
    """One row of the tables."""

    key: str
    label: str
    site: Path | None = None  # for PYTHONPATH, when it is installed apart
    stalls: bool = False  # waits seconds where the others wait milliseconds: try it less often

    @property
    def environment(self) -> dict[str, str]:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        return environment if self.site is None else {**environment, "PYTHONPATH": str(self.site)}


THIS = Library(OURS, "this package")


def references() -> list[Library]:
    """1.3.1 with either of its locks; installs what is not there yet."""
    return [
        Library(PORTALOCKER, "1.3.1 with portalocker", reference_site_packages(True), stalls=True),
        Library(BARE, "1.3.1 without it", reference_site_packages(False), stalls=True),
    ]


@functools.cache
def imported() -> str:
    """The key of the msal_extensions that this process imports.

    1.3.1 has the import name of this package, so it always needs a process of its own.
    """
    if importlib.metadata.version("msal-extensions") != VERSION:
        return OURS
    return PORTALOCKER if importlib.util.find_spec("portalocker") else BARE
