"""Directories that take long to make.  They are made once and kept in MSALEX_CACHE."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def cached(folder: str, name: str, facts: str | bytes, make: Callable[[Path], None]) -> Path:
    """The directory with that name and those facts; made now if it is not there yet.

    It appears complete or not at all.  When two test runs ask at once, it is made only once.
    """
    cache = Path(os.environ.get("MSALEX_CACHE") or tempfile.gettempdir() + "/msalex-cache")
    key = hashlib.sha256(facts.encode() if isinstance(facts, str) else facts).hexdigest()[:12]
    target = cache.expanduser() / folder / f"{name}-{key}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(target.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
                made = Path(temporary, "made")
                made.mkdir()
                make(made)
                made.rename(target)
    return target
