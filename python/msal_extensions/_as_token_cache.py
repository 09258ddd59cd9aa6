"""Lets a program pass a persistence to MSAL: ``ClientApplication(..., token_cache=persistence)``.

This module names the methods that MSAL calls on its token cache.  A PersistedTokenCache, made at
the first call, answers them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msal

#: Makes the cache of a persistence.  The package sets it, because ``token_cache.py`` imports the
#: persistences, which import this module, and imports go one way only.
_make: list[Callable[[Any], Any]] = []


def make_caches_by(make: Callable[[Any], Any]) -> None:
    """Sets the function that makes the cache of a persistence."""
    _make[:] = [make]


class _Kept:
    """The cache of one persistence, kept in the persistence's dictionary.

    A cache has locks, which cannot be copied, and it belongs to one object.  So a copied or
    unpickled persistence begins without one.
    """

    def __init__(self, owner: object = None, cache: Any = None) -> None:
        self.owner = owner
        self.cache = cache

    def __reduce__(self) -> tuple[type[_Kept], tuple[()]]:
        return _Kept, ()


class AsTokenCache:
    """The methods that MSAL calls on its ``token_cache``; ``msal.TokenCache`` documents each.

    The last four are those of a PersistedTokenCache, for the program that gave the persistence
    to MSAL.
    """

    CredentialType = msal.TokenCache.CredentialType
    AuthorityType = msal.TokenCache.AuthorityType

    def __cache(self) -> Any:
        kept = self.__dict__.get("_AsTokenCache__kept")
        if kept is None or kept.owner is not self:  # after copy.copy() two objects share it
            kept = self.__kept = _Kept(self, _make[0](self))
        return kept.cache

    def find(self, *arguments: Any, **options: Any) -> Any:
        return self.__cache().find(*arguments, **options)

    def search(self, *arguments: Any, **options: Any) -> Iterator[dict[str, Any]]:
        found: Iterator[dict[str, Any]] = self.__cache().search(*arguments, **options)
        return found

    def add(self, *arguments: Any, **options: Any) -> None:
        self.__cache().add(*arguments, **options)

    def modify(self, *arguments: Any, **options: Any) -> None:
        self.__cache().modify(*arguments, **options)

    def remove_rt(self, *arguments: Any, **options: Any) -> Any:
        return self.__cache().remove_rt(*arguments, **options)

    def update_rt(self, *arguments: Any, **options: Any) -> Any:
        return self.__cache().update_rt(*arguments, **options)

    def remove_at(self, *arguments: Any, **options: Any) -> Any:
        return self.__cache().remove_at(*arguments, **options)

    def remove_idt(self, *arguments: Any, **options: Any) -> Any:
        return self.__cache().remove_idt(*arguments, **options)

    def remove_account(self, *arguments: Any, **options: Any) -> Any:
        return self.__cache().remove_account(*arguments, **options)

    def _get_app_metadata(self, *arguments: Any, **options: Any) -> Any:
        # MSAL's applications call this on their token cache, although its name is private.
        return self.__cache()._get_app_metadata(*arguments, **options)

    def single_flight(self, *arguments: Any, **options: Any) -> Any:
        return self.__cache().single_flight(*arguments, **options)

    def transaction(self, *arguments: Any, **options: Any) -> Any:
        return self.__cache().transaction(*arguments, **options)

    def prune(self, *arguments: Any, **options: Any) -> dict[str, list[dict[str, Any]]]:
        removed: dict[str, list[dict[str, Any]]] = self.__cache().prune(*arguments, **options)
        return removed

    def changes(self) -> Any:
        return self.__cache().changes()
