"""Finds the entries that nobody has used for long; see ``PersistedTokenCache.prune``.

The fields are those of MSAL's unified cache schema.  An entry without a usable time stays.  So
does an entry under a key that MSAL would not make for it: MSAL could not remove it.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msal

from ._references import ARGUMENT
from ._timeouts import seconds_of

_Entry = dict[str, Any]

#: A refresh token of Entra ID ends after at most 90 days without use.
#: https://learn.microsoft.com/entra/identity-platform/refresh-tokens#token-lifetime
LONGEST_UNUSED = datetime.timedelta(days=90)

#: Seconds after which tokens of the on-behalf-of flow go: their assertion lives for hours only.
_ON_BEHALF_OF_S = 2 * 24 * 3600.0

#: azure-identity gives such tokens a client_id like "<client>:obo:<hash>:<authority>:...".
_ON_BEHALF_OF = ":obo:"

#: The fields from which MSAL makes the keys of entries.
_NAMES = ("home_account_id", "environment", "client_id", "realm", "target", "family_id")

_KIND = msal.TokenCache.CredentialType


def prunable(
    cache: Any, oldest: float, now: float, key_makers: Mapping[str, Callable[..., str]]
) -> list[tuple[str, str, _Entry]]:
    """The entries that can be removed, as (kind, key, entry).

    :param cache: The cache as MSAL has it: {kind: {key: entry}}.
    :param oldest: The age in seconds up to which refresh tokens stay.
    :param now: Seconds since 1970.
    :param key_makers: MSAL's ``TokenCache.key_makers``.
    """

    def removable(kind: str) -> Iterator[tuple[str, str, _Entry]]:
        for key, entry in _entries(cache, kind):
            if key == key_makers[kind](**entry):
                yield kind, key, entry

    found = [
        (kind, key, entry)
        for kind, key, entry in removable(_KIND.REFRESH_TOKEN)
        if _age(entry, now) > _most(entry, oldest)
    ]
    needed = _Needed(cache, now, {key for _, key, _ in found})
    for kind, is_needed in (
        (_KIND.ID_TOKEN, needed.has_id_token),
        (_KIND.ACCOUNT, needed.has_account),
        (_KIND.APP_METADATA, needed.has_app),
    ):
        found += [one for one in removable(kind) if not is_needed(one[2])]
    return found


def seconds_unused(older_than: datetime.timedelta | float) -> float:
    """The argument of prune() in seconds.

    :raises TypeError: when it is neither a timedelta nor a number.
    :raises ValueError: when it is negative or nan.
    """
    if isinstance(older_than, datetime.timedelta):
        older_than = older_than.total_seconds()
    words = f"older_than is a timedelta or a number of seconds, not {older_than!r}"
    try:
        seconds = seconds_of(older_than)
    except TypeError:
        raise TypeError(ARGUMENT.after(words)) from None
    except ValueError:
        raise ValueError(ARGUMENT.after(words)) from None
    if seconds < 0:
        words = f"older_than tells how long ago, so it is not negative: {older_than!r}"
        raise ValueError(ARGUMENT.after(words))
    return seconds


class _Needed:
    """Tells which other entries the tokens of a cache still need.

    It does not compare environments, because one authority has several names.

    :param gone: The keys of the refresh tokens that will be removed.
    """

    def __init__(self, cache: Any, now: float, gone: set[str]) -> None:
        tokens = [entry for key, entry in _entries(cache, _KIND.REFRESH_TOKEN) if key not in gone]
        # Each application of a family may use the refresh tokens of all its members.
        self._families = {_of(entry, "family_id") for entry in tokens if entry.get("family_id")}
        self._family_of = {
            entry.get("client_id"): entry["family_id"]
            for _, entry in _entries(cache, _KIND.APP_METADATA)
            if entry.get("family_id")
        }
        tokens += [
            entry
            for _, entry in _entries(cache, _KIND.ACCESS_TOKEN)
            if not (_number(entry.get("expires_on")) <= now)  # nan counts as "not expired"
        ]
        self._clients = {_of(entry, "client_id") for entry in tokens}

    def has_id_token(self, entry: _Entry) -> bool:
        family = self._family_of.get(entry.get("client_id"))
        in_family = (entry.get("home_account_id"), family) in self._families
        return in_family or _of(entry, "client_id") in self._clients

    def has_account(self, entry: _Entry) -> bool:
        return any(account == entry.get("home_account_id") for account, _ in self._clients)

    def has_app(self, entry: _Entry) -> bool:
        return any(client == entry.get("client_id") for _, client in self._clients) or any(
            family == entry.get("family_id") for _, family in self._families
        )


def _of(entry: _Entry, name: str) -> tuple[Any, Any]:
    return entry.get("home_account_id"), entry.get(name)


def _entries(cache: Any, kind: str) -> Iterator[tuple[str, _Entry]]:
    entries = cache.get(kind) if isinstance(cache, dict) else None
    if isinstance(entries, dict):
        for key, entry in tuple(entries.items()):
            if _is_of_msal(entry):
                yield key, entry


def _is_of_msal(entry: Any) -> bool:
    """Whether MSAL could find the entry.  Damaged entries stay as they are."""
    return isinstance(entry, dict) and all(
        isinstance(entry.get(name), (str, type(None))) for name in _NAMES
    )


def _most(entry: _Entry, oldest: float) -> float:
    is_on_behalf_of = _ON_BEHALF_OF in str(entry.get("client_id"))
    return min(oldest, _ON_BEHALF_OF_S) if is_on_behalf_of else oldest


def _age(entry: _Entry, now: float) -> float:
    """The age in seconds; nan, which is never "older", for an entry without a usable time."""
    return now - _number(entry.get("last_modification_time"))


def _number(value: Any) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
