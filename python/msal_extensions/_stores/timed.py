"""A store whose content is somewhere, and has a time that tells when it changed.

Two saves within one tick of a clock have the same time, so a transaction reads always.  There is
no way to look at the lock and to save in one step: the lease is looked at before and after.
"""

from __future__ import annotations

import math

from .._store import ABSENT, Content, Lease, Stamp, require_held
from ..errors import PersistenceNotFound
from .file import LocalStore


class TimedStore(LocalStore):
    """See ``Store``.  A kind of it says how to look at the time, how to load and how to save."""

    stamp_proves = False

    def time(self) -> float:
        """When it changed last.

        :raises PersistenceNotFound: when nothing is stored.
        """
        raise NotImplementedError

    def load(self) -> bytes:
        """:raises PersistenceNotFound: when nothing is stored."""
        raise NotImplementedError

    def save(self, secret: bytes) -> None:
        """Stores it, and lets the time tell."""
        raise NotImplementedError

    def kept(self, secret: bytes) -> bytes:
        """What load() returns of what was saved just now."""
        return secret

    def stamp(self) -> Stamp | None:
        try:
            time = self.time()
        except PersistenceNotFound:
            return ABSENT
        # Infinity and "not a number" tell nothing from anything else.
        return None if isinstance(time, float) and not math.isfinite(time) else time

    def read(self) -> Content:
        stamp = self.stamp()  # before the content: a change in between shows
        if stamp is ABSENT:
            return Content(b"", ABSENT)
        try:
            return Content(self.load(), stamp)
        except PersistenceNotFound:
            return Content(b"", ABSENT)

    def replace(self, data: bytes, *, lease: Lease | None, expected: Stamp | None) -> Content:
        secret, data = data, b""
        require_held(lease)
        self.save(secret)
        stamp = self.stamp()
        secret = self.kept(secret)
        require_held(lease)
        return Content(secret, stamp)
