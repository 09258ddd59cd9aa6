"""Access to private parts of a cache, for the few tests that need it."""

from __future__ import annotations

from typing import Any

from msal_extensions import PersistedTokenCache
from msal_extensions._freshness import Freshness
from msal_extensions._reloading import Reloading


def reloading_of(cache: PersistedTokenCache) -> Reloading:
    found: Reloading = vars(cache)["_PersistedTokenCache__reloading"]
    return found


def freshness_of(cache: PersistedTokenCache) -> Freshness:
    return reloading_of(cache).freshness


def own_transaction(cache: PersistedTokenCache) -> Any:
    """The transaction that this thread is inside, or None."""
    return vars(cache)["_PersistedTokenCache__transactions"].own()
