"""What in a token cache nobody has used for long; see ``PersistedTokenCache.prune``.

The fields are those of MSAL's unified cache schema.  An entry that does not tell its age stays.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from typing import Any

import msal

from .lock import seconds_of

_Entry = dict[str, Any]

#: Entra ID lets a refresh token end after 90 days at most without use.
#: https://learn.microsoft.com/entra/identity-platform/refresh-tokens#token-lifetime
LONGEST_UNUSED = datetime.timedelta(days=90)

#: Seconds.  Of the on-behalf-of flow, whose assertion lives for hours.
_ON_BEHALF_OF_S = 2 * 24 * 3600.0

#: In the client_id that azure-identity gives to such tokens: "<client>:obo:<hash>:<authority>:...".
_ON_BEHALF_OF = ":obo:"

#: Of which MSAL makes the keys of entries.
_NAMES = ("home_account_id", "environment", "client_id", "realm", "target", "family_id")

_KIND = msal.TokenCache.CredentialType


def prunable(
    cache: Any, older_than: datetime.timedelta | float, now: float
) -> list[tuple[str, _Entry]]:
    """The entries that can go, each with its kind.

    :param cache: MSAL's: {kind: {key: entry}}.
    :param older_than: A timedelta or seconds, not negative.
    :param now: Seconds since 1970.
    """
    if isinstance(older_than, datetime.timedelta):
        older_than = older_than.total_seconds()
    oldest = seconds_of(older_than)
    if oldest < 0:
        raise ValueError(f"older_than is how long ago, so not negative: {older_than!r}")
    refresh_tokens = list(_entries(cache, _KIND.REFRESH_TOKEN))
    unused = [entry for entry in refresh_tokens if _age(entry, now) > _most(entry, oldest)]
    # What other tokens need; by their identity, as equal entries may lie under two keys.
    gone = {id(entry) for entry in unused}
    tokens = [entry for entry in refresh_tokens if id(entry) not in gone]
    families = {entry.get("family_id") for entry in tokens} - {None, ""}
    tokens += [
        entry
        for entry in _entries(cache, _KIND.ACCESS_TOKEN)
        if not (_number(entry.get("expires_on")) <= now)  # nan: perhaps it has not expired
    ]
    # Not by environment: an authority has several names.
    accounts = {entry.get("home_account_id") for entry in tokens}
    clients = {entry.get("client_id") for entry in tokens}
    found = [(_KIND.REFRESH_TOKEN, entry) for entry in unused]
    for kind in (_KIND.ID_TOKEN, _KIND.ACCOUNT):
        found += [
            (kind, entry)
            for entry in _entries(cache, kind)
            if entry.get("home_account_id") not in accounts
        ]
    found += [
        (_KIND.APP_METADATA, entry)
        for entry in _entries(cache, _KIND.APP_METADATA)
        if entry.get("client_id") not in clients and entry.get("family_id") not in families
    ]
    return found


def _entries(cache: Any, kind: str) -> Iterator[_Entry]:
    entries = cache.get(kind) if isinstance(cache, dict) else None
    if isinstance(entries, dict):
        yield from (entry for entry in tuple(entries.values()) if _is_of_msal(entry))


def _is_of_msal(entry: Any) -> bool:
    """Could MSAL find it?  What is damaged stays as it is."""
    return isinstance(entry, dict) and all(
        isinstance(entry.get(name), (str, type(None))) for name in _NAMES
    )


def _most(entry: _Entry, oldest: float) -> float:
    is_on_behalf_of = _ON_BEHALF_OF in str(entry.get("client_id"))
    return min(oldest, _ON_BEHALF_OF_S) if is_on_behalf_of else oldest


def _age(entry: _Entry, now: float) -> float:
    """In seconds; nan, which is older than nothing, where the entry does not tell."""
    return now - _number(entry.get("last_modification_time"))


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
