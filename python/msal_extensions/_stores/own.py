"""A persistence of the program's own as a store.  Only its methods of 1.3.1 are known.

Such a persistence is of the program's own class, or it is a mock, or the program overrides a
method of ours.  This store calls its methods at every use, so a program may replace them at any
time.
"""

from __future__ import annotations

from typing import Any

from .._references import ARGUMENT
from .._store import Lease, Stamp, Store
from .._text import Verbatim
from .timed import TimedStore


class OwnStore(TimedStore):
    """See ``Store``.

    :param base: If the class is derived from ours: the store that it would have without the
        program's methods.
    :param keeps_time: Whether the stamps of ``base`` are still right.
    """

    def __init__(
        self,
        persistence: Any,
        lock_location: str,
        base: Store | None = None,
        keeps_time: bool = False,
    ) -> None:
        super().__init__(lock_location)
        self._persistence = persistence
        self._base = base
        self._keeps_time = keeps_time

    @property
    def location(self) -> str:  # type: ignore[override]
        """For messages.  get_location() may be missing: with a lock_location 1.3.1 never called
        it."""
        ask = getattr(self._persistence, "get_location", None)
        return str(ask()) if ask is not None else type(self._persistence).__name__

    def stamp(self) -> Stamp | None:
        if self._base is not None and self._keeps_time:
            return self._base.stamp()
        return super().stamp()

    def time(self) -> float:
        time: float = self._persistence.time_last_modified()
        return time

    def load(self) -> bytes:
        secret = self._persistence.load()
        if isinstance(secret, (bytes, bytearray)):
            return Verbatim(secret)
        if secret is None:  # MSAL's deserialize() takes None for "nothing"
            return b""
        if not isinstance(secret, str):
            words = f"load() returned {type(secret).__name__}, not str"
            raise TypeError(ARGUMENT.after(words))
        # A lone surrogate becomes \udxxx, which JSON reads as that surrogate.
        return secret.encode("utf-8", "backslashreplace")

    def save(self, secret: bytes, expected: Stamp | None) -> None:
        verbatim = isinstance(secret, Verbatim)
        self._persistence.save(bytes(secret) if verbatim else secret.decode())

    def kept(self, secret: bytes) -> bytes:
        """What the persistence returns after the save.

        A program's save() may leave access tokens out, write later, or not write at all; a mock
        may always give the same answer.  That is no change by somebody else.  As in 1.3.1 memory
        keeps everything.
        """
        try:
            return self.load()
        except Exception:  # the save has succeeded, whatever load() raises now
            return secret

    def delete(self, *, lease: Lease | None) -> None:
        self._persistence.delete()

    def copy_aside(self, suffix: str) -> str:
        if self._base is None:
            words = f"{type(self._persistence).__name__} cannot keep a copy"
            raise NotImplementedError(ARGUMENT.after(words))
        return self._base.copy_aside(suffix)
