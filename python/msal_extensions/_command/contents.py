"""What a stored text says about accounts and tokens: names, numbers and times, never a secret.

The fields are those of MSAL's unified cache schema.  MSAL is not needed: a report is most useful
where something is missing.  Any JSON is accepted, and an entry with strange fields counts all the
same.  Local variables that hold stored content are named ``secret``; see ``_text.py``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .report import Account, Entry, Tokens
from .words import clean

#: Longer lists are cut.  Numbers count all.
LISTED = 1000
#: The last second of the year 9999, after which Python has no dates.
_LAST_SECOND = 253_402_300_799
_KINDS = {
    "AccessToken": "access",
    "RefreshToken": "refresh",
    "IdToken": "id",
    "Account": "",
    "AppMetadata": "",
}


@dataclass
class Contents:
    """See the fields of the same names in ``Cache``."""

    state: str  # "nothing", "stored", "damaged" or "other"
    accounts: list[Account] = field(default_factory=list)
    tokens: Tokens = field(default_factory=Tokens)
    entries: list[Entry] = field(default_factory=list)
    is_principals: bool = False  # see are_principals()


def are_principals(secret: Any) -> bool:
    """Whether it is a list of service principals with their secrets, as Azure CLI keeps it."""
    return isinstance(secret, list) and all(
        isinstance(entry, dict) and {"client_id", "tenant"} <= entry.keys() for entry in secret
    )


def parse(secret: str, now: float) -> Contents:
    """Reads a stored text.  Raises nothing.

    :param now: Seconds since 1970.
    """
    if not secret:
        return Contents("nothing")  # as everywhere in MSAL
    return _of_json(secret, now)


def _of_json(secret: Any, now: float) -> Contents:
    is_of_a_cache = any(f'"{kind}"' in secret for kind in _KINDS)
    try:
        secret = json.loads(secret)
    except (ValueError, RecursionError):  # its frames have the text; so nothing keeps it
        return Contents("damaged" if is_of_a_cache else "other")
    if not isinstance(secret, dict) or (secret and not _KINDS.keys() & secret.keys()):
        size = len(secret) if isinstance(secret, list | dict) else 0
        is_principals = are_principals(secret)
        return Contents("other", tokens=Tokens(other=size), is_principals=is_principals)
    return _of_cache(secret, now)


def _of_cache(secret: dict[str, Any], now: float) -> Contents:
    found = Contents("stored")
    for kind, section in secret.items():
        if not isinstance(section, dict):
            if kind in _KINDS:
                found.state = "damaged"
            continue
        for entry in section.values():
            if isinstance(entry, dict):
                _count(found, kind, entry, now)
            elif kind in _KINDS:
                found.state = "damaged"
    return found


def _count(found: Contents, kind: str, secret: dict[str, Any], now: float) -> None:
    tokens, expires_at = found.tokens, _time(secret.get("expires_on"))
    if kind == "AccessToken":
        tokens.access += 1
        if expires_at is not None and expires_at <= now:
            tokens.expired += 1
        elif expires_at is not None:
            tokens.next_expiry = min(expires_at, tokens.next_expiry or expires_at)
    elif kind == "RefreshToken":
        tokens.refresh += 1
    elif kind == "IdToken":
        tokens.id += 1
    elif kind == "Account":
        if len(found.accounts) < LISTED:
            found.accounts.append(Account(*_words(secret, "username", "realm", "environment")))
        return
    elif kind != "AppMetadata":
        tokens.other += 1
    if _KINDS.get(kind) and len(found.entries) < LISTED:
        client, *others = _words(secret, "client_id", "realm", "environment", "target")
        tenant, environment, scopes = others
        kind = _KINDS[kind]
        found.entries.append(Entry(kind, client, tenant, environment, scopes, expires_at))


def _words(secret: dict[str, Any], *names: str) -> Iterator[str]:
    """These fields, as far as they are text.  No other field ever leaves this module."""
    for name in names:
        yield clean(secret[name]) if isinstance(secret.get(name), str) else ""


def _time(value: object) -> float | None:
    """Seconds since 1970; None: it is no time."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, str) and len(value) > 20:
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and 0 <= seconds <= _LAST_SECOND else None
