"""MSAL's search over a copy, because MSAL's own holds its lock while the program iterates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msal

#: MSAL 1.29 has no such method.
_HAS_IS_MATCHING = hasattr(msal.TokenCache, "_is_matching")


class Snapshot(msal.TokenCache):  # type: ignore[misc]
    """What ``msal.TokenCache.search`` runs on: a direct hit costs no copy, and no lock is held.

    MSAL replaces entries and never changes them, so copying the dictionaries is enough.

    :param purge: Is given the expired access tokens at the end of a search, if there are any.
    """

    def __init__(
        self, original: msal.TokenCache, purge: Callable[[list[dict[str, Any]]], None]
    ) -> None:
        self._original = original
        self._purge = purge
        self._lock = self  # MSAL: "with self._lock:" around the search for all but a direct hit
        self._get = original._get
        if _HAS_IS_MATCHING:  # perhaps the program's own
            self._is_matching = original._is_matching
        self.key_makers = original.key_makers

    @property
    def _cache(self) -> Any:
        with self._original._lock:
            cache = self._original._cache
            if not isinstance(cache, dict):  # damaged: let MSAL stumble over it
                return cache
            return {
                kind: dict(entries) if isinstance(entries, dict) else entries
                for kind, entries in cache.items()
            }

    def remove_at(self, at_item: dict[str, Any]) -> None:
        self._expired.append(at_item)

    def __enter__(self) -> None:
        self._expired: list[dict[str, Any]] = []

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._expired:
            self._purge(self._expired)
