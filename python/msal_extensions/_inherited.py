"""MSAL's own methods, which the cache uses as long as no program has replaced them.

Programs, and the mocks of their tests, replace methods of MSAL's classes, of our classes, and of
single objects.  The cache calls a replacement in the way in which 1.3.1 called it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msal

# As they are before anybody replaces them.
SEARCH = msal.TokenCache.search
SERIALIZE = msal.SerializableTokenCache.serialize
DESERIALIZE = msal.SerializableTokenCache.deserialize


def is_method(bound: Any, function: Any) -> bool:
    """Whether calling ``bound`` calls this function."""
    return getattr(bound, "__func__", None) is function


class Snapshot:
    """The cache in the form in which ``SEARCH`` sees it.

    MSAL's search holds the lock while the program iterates.  With this object it iterates over a
    copy.  A direct hit costs no copy.  MSAL replaces entries and never changes them, so it is
    enough to copy the dictionaries.

    :param purge: Called with the expired access tokens at the end of a search, if there are any.
    """

    CredentialType = msal.TokenCache.CredentialType

    def __init__(self, cache: Any, purge: Callable[[list[dict[str, Any]]], None]) -> None:
        self._original = cache
        self._purge = purge
        # Each search asks for these.  They may be a program's own.
        self._get_access_token = cache._get_access_token
        self._is_matching = getattr(cache, "_is_matching", None)  # MSAL 1.29 has none

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    @property
    def _lock(self) -> Snapshot:
        """MSAL's search enters ``with self._lock:`` for everything but a direct hit."""
        return self

    @property
    def _cache(self) -> Any:
        with self._original._lock:
            cache = self._original._cache
            if not isinstance(cache, dict):  # damaged: let MSAL stumble over it
                return cache
            return {
                kind: dict(entries) if isinstance(entries, dict) else entries
                for kind, entries in tuple(cache.items())  # a handler may add a kind
            }

    def remove_at(self, at_item: dict[str, Any]) -> None:
        self._expired.append(at_item)

    def __enter__(self) -> None:
        self._expired: list[dict[str, Any]] = []

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._expired:
            self._purge(self._expired)
