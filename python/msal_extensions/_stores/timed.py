"""A store that knows nothing of its content but the time of the last change.

Two saves within one tick of the clock have the same time, so a transaction always reads.  Such a
store cannot check the lease and save in one step, so it checks the lease before and after.
"""

from __future__ import annotations

import math

from .._store import ABSENT, Content, Lease, Stamp, require_held
from ..errors import PersistenceNotFound
from .file import LocalStore


class TimedStore(LocalStore):
    """See ``Store``.  A subclass says how to ask for the time, how to load and how to save."""

    stamp_proves = False

    def time(self) -> float:
        """The time of the last change.

        :raises PersistenceNotFound: when nothing is stored.
        """
        raise NotImplementedError

    def load(self) -> bytes:
        """:raises PersistenceNotFound: when nothing is stored."""
        raise NotImplementedError

    def save(self, secret: bytes, expected: Stamp | None) -> None:
        """Stores the content, and sets the time afterwards.

        :param expected: See ``Store.replace``.
        """
        raise NotImplementedError

    def kept(self, secret: bytes) -> bytes:
        """What load() returns after this was saved."""
        return secret

    def stamp(self) -> Stamp | None:
        try:
            time = self.time()
        except PersistenceNotFound:
            return ABSENT
        # Infinity is always equal and "not a number" never: both show no change.
        return None if isinstance(time, float) and not math.isfinite(time) else time

    def read(self) -> Content:
        stamp = self.stamp()  # before the content, so that a change in between shows
        if stamp is ABSENT and self.believes_absence():
            return Content(b"", ABSENT)
        try:
            return Content(self.load(), None if stamp is ABSENT else stamp)
        except PersistenceNotFound:
            return Content(b"", ABSENT)

    def believes_absence(self) -> bool:
        """Whether there is no content where there is no time."""
        return True

    def replace(self, data: bytes, *, lease: Lease | None, expected: Stamp | None) -> Content:
        secret, data = data, b""
        require_held(lease)
        self.save(secret, expected)
        stamp = self.stamp()
        secret = self.kept(secret)
        require_held(lease)
        return Content(secret, stamp)
