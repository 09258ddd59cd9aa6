"""What a stored text must be to serve as a token cache.

MSAL takes any JSON, and stumbles later.  With ``on_unreadable="raise"`` that stays so: the
errors, and what still works beside the damaged part, are those of 1.3.1.
"""

from __future__ import annotations

import json
from typing import Any

import msal

from .errors import CacheDamaged

_REMEDY = (
    "The token cache is damaged. Remove it and sign in again; or let"
    ' PersistedTokenCache(..., on_unreadable="quarantine") put it aside.'
)
_KINDS = frozenset(msal.TokenCache().key_makers)


def parse_leniently(text: str, location: str) -> Any:
    """Any JSON.

    :raises CacheDamaged: (a json.JSONDecodeError) when it is none.
    """
    if not text:  # "not saved yet", as everywhere in MSAL
        return {}
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        cause = error
    raise CacheDamaged(None, f"{cause}. {_REMEDY}", location, cause)


def parse_strictly(text: str, location: str) -> Any:
    """JSON on which MSAL's search() and modify() work.

    What kinds of credentials other libraries add is none of our business.
    """
    try:
        parsed = parse_leniently(text, location)
    except RecursionError:
        parsed = None
    problem = _problem(parsed)
    if problem:
        raise CacheDamaged(None, f"{problem}. {_REMEDY}", location)
    return parsed


def _problem(parsed: Any) -> str:
    if not isinstance(parsed, dict):
        return "It is no JSON object"
    for kind in _KINDS & parsed.keys():
        entries = parsed[kind]
        if not isinstance(entries, dict):
            return f"Its {kind} is no JSON object"
        if not all(isinstance(entry, dict) for entry in entries.values()):
            return f"An entry of its {kind} is no JSON object"
    try:
        for entry in parsed.get(msal.TokenCache.CredentialType.ACCESS_TOKEN, {}).values():
            int(entry["expires_on"])  # search() does
    except (KeyError, TypeError, ValueError):
        return "An access token does not tell when it expires"
    return ""
