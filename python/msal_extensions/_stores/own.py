"""A persistence of the program's own as a store: only its methods of 1.3.1 are known.

That is a class of the program's own, a mock, or one of ours with a method that the program
overrides.  Its methods are called anew each time, so it does not matter when that happens.
"""

from __future__ import annotations

from typing import Any

from .._store import Lease, Stamp, Store
from .._text import Verbatim
from .timed import TimedStore


class OwnStore(TimedStore):
    """See ``Store``.

    :param base: The store of this persistence if it was not overridden, when it is one of ours.
    :param keeps_time: Whether the stamps of that one are still right.
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
        """For messages.  1.3.1 did not ask for it, where the cache was given a lock_location."""
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
        if secret is None:  # MSAL's deserialize() takes it as "nothing"
            return b""
        if not isinstance(secret, str):
            raise TypeError(f"load() returned {type(secret).__name__}, not str")
        # A lone surrogate becomes \udxxx, which JSON reads as that surrogate.
        return secret.encode("utf-8", "backslashreplace")

    def save(self, secret: bytes) -> None:
        verbatim = isinstance(secret, Verbatim)
        self._persistence.save(bytes(secret) if verbatim else secret.decode())

    def kept(self, secret: bytes) -> bytes:
        """A program may leave access tokens out, write later, or not at all; a mock may answer the
        same always.  As in 1.3.1 that is no change by somebody else: memory keeps all."""
        try:
            return self.load()
        except Exception:  # whatever it raises: the save has succeeded
            return secret

    def delete(self, *, lease: Lease | None) -> None:
        self._persistence.delete()

    def copy_aside(self, suffix: str) -> str:
        if self._base is None:
            raise NotImplementedError(f"{type(self._persistence).__name__} cannot keep a copy")
        return self._base.copy_aside(suffix)
